"""Products of a medium from tiles of its transmission matrix."""

from abc import abstractmethod
from collections.abc import Callable
from types import ModuleType
from typing import TypeAlias

import numpy as np
from array_api_compat import is_cupy_array, is_numpy_array
from numpy.typing import NDArray

from photonics import kernels
from photonics.arrays import Array, ComplexArray, FloatArray
from photonics.backend import Backend, backend_of
from photonics.kernels.panels import Piece
from photonics.kernels.tile import INPUTS, OUTPUTS, PANEL, PARTS, WIDTH
from photonics.medium.base import ScatteringMedium, check_field
from photonics.threads import for_blocks

__all__ = ["Sums", "TiledMedium", "matmul", "sum_parts"]

Sums: TypeAlias = NDArray[np.float64]
"""Sums over many inputs, in double precision."""

MIN_FRAMES = 3
"""Smallest batch that is summed together; fewer frames are summed one by one, over their nonzero inputs."""
MAX_FRAMES = 1024
"""Largest batch that is summed together where no tile has to be drawn again for the next; it bounds the memory."""
PART, MAX_PARTIAL = 1024, 2**26
"""Inputs that the library of another device sums in float32 at a time (equal terms are then right to 1e-5), and the
largest number of such sums in memory."""
MACS_PER_S = 6e10
"""Multiplications per second, to recognise small products: the order of magnitude of a core with AVX2."""


class TiledMedium(ScatteringMedium):
    """A medium whose entries are available, from memory or from the generator.

    On the host, products are computed tile by tile by `photonics.kernels.product`, whose order of summation is fixed.
    On other devices the library's product is used, in parts of the inputs.
    """

    @abstractmethod
    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: FloatArray) -> None:
        """``tile[k, 2i], tile[k, 2i + 1] = `` real and imaginary part of ``T[first_output + i, first_input + k]``.

        `first_output` is a multiple of 64; a tile may be written beyond `outputs` up to the next such multiple.
        """

    @abstractmethod
    def _add(self, x: FloatArray, binary: bool, first_output: int, total: Sums) -> None:
        """``total += T x`` for one frame and the outputs from `first_output` on; real and imaginary parts alternate.

        `binary` is whether its values are all 0 or 1.
        """

    @abstractmethod
    def _on(self, backend: Backend, field: Array, adjoint: bool) -> Array:
        """Product of a checked field with T or its conjugate transpose on another backend."""

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[1], binary=True)
        backend = backend_of(field)
        if not backend.on_host:
            return self._on(backend, field, adjoint=False)
        if field.dtype.kind != "c":
            return as_complex(self._product(field))
        parts = as_complex(self._product(np.concatenate([field.real, field.imag])))
        return parts[: len(field)] + 1j * parts[len(field) :]

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[0])
        backend = backend_of(field)
        if not backend.on_host:
            return self._on(backend, field, adjoint=True)
        # conj(t) y has the inner product of the parts of t and y as its real part, and that of t and -i y as its
        # imaginary part.
        field = np.ascontiguousarray(field.astype(np.complex64, copy=False))
        turned = (-1j * field).astype(np.complex64, copy=False)
        parts = self._adjoint_product(np.concatenate([field.view(np.float32), turned.view(np.float32)]))
        return parts[: len(field)] + 1j * parts[len(field) :]

    def _product(self, x: FloatArray) -> FloatArray:
        """Real and imaginary parts of ``x @ T.T`` side by side: real (frames, n_in) -> (frames, 2 n_out)."""
        (n_out, n_in), x = self.shape, np.ascontiguousarray(x)
        out = np.empty((len(x), 2 * n_out), np.float32)
        for first in range(0, len(x), self._max_frames or max(len(x), 1)):
            some = slice(first, first + (self._max_frames or len(x)))
            work = self._sum_one_by_one if len(x) < self._min_frames else self._sum_together
            for_blocks(work(x[some], out[some]), n_out, OUTPUTS, len(x) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    def _sum_one_by_one(self, x: FloatArray, out: FloatArray) -> Callable[[int, int], None]:
        """Return the work for a block of outputs of few frames."""
        binary = kernels.tables.find_binary(x)

        def work(start: int, stop: int) -> None:
            for frame, mask, target in zip(x, binary, out, strict=True):
                total = np.zeros(2 * (stop - start))
                self._add(frame, bool(mask), start, total)
                target[2 * start : 2 * stop] = total

        return work

    def _sum_together(self, x: FloatArray, out: FloatArray) -> Callable[[int, int], None]:
        """Return the work for a block of outputs of many frames."""
        kinds = kernels.frames.prepare(x)

        def work(start: int, stop: int) -> None:
            pieces, step = self._pieces(start, stop - start)
            sums = kernels.frames.sum_pieces(kinds, pieces, x.shape[1], step, 2 * (stop - start))
            for frames, each in zip(kinds, sums, strict=True):
                kernels.product.write_sums(each, frames.padded, frames.rows, 2 * start, out)

        return work

    def _pieces(self, first_output: int, outputs: int) -> tuple[Callable[[int, int], Piece], int]:
        """Return a function of the first input and their number, and the inputs of a piece."""
        tile = np.zeros((INPUTS, WIDTH), np.float32)

        def piece(first_input: int, inputs: int) -> Piece:
            self._fill(first_input, inputs, first_output, outputs, tile)
            return Piece(tile.reshape(-1), 0, WIDTH, PANEL)

        return piece, INPUTS

    def _adjoint_product(self, y: FloatArray) -> FloatArray:
        """Sum over the parts of each column: real (frames, 2 n_out) -> (frames, n_in)."""
        n_out, n_in = self.shape
        out, frames = np.empty((len(y), n_in), np.float32), kernels.frames.AnyFrames(y, np.arange(len(y)))

        def work(start: int, stop: int) -> None:
            raw, tile = np.zeros((PARTS, INPUTS + 16), np.float32), np.zeros((INPUTS, WIDTH), np.float32)

            def piece(k: int, count: int) -> Piece:
                self._fill(start, stop - start, k // 2, count // 2, raw)
                kernels.product.transpose_tile(raw[: stop - start, :count], tile)
                return Piece(tile.reshape(-1), 0, WIDTH, PANEL)

            (sums,) = kernels.frames.sum_pieces([frames], piece, 2 * n_out, INPUTS, stop - start)
            kernels.product.write_sums(sums, frames.padded, frames.rows, start, out)

        for_blocks(work, n_in, PARTS, len(y) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    @property
    def _min_frames(self) -> int:
        """Smallest batch that is summed together."""
        return MIN_FRAMES

    @property
    def _max_frames(self) -> int | None:
        """Largest batch that is summed together; None for any."""
        return MAX_FRAMES


def as_complex(parts: FloatArray) -> ComplexArray:
    """View alternating real and imaginary parts as complex numbers."""
    return parts.view(np.complex64)


def matmul(field: Array, columns: Array, xp: ModuleType) -> Array:
    """``field @ columns`` with complex columns; a real field takes half the work where arrays have views."""
    if field.dtype == xp.complex64:
        return sum_parts(field, columns, xp)
    field = xp.astype(field, xp.float32, copy=False)
    if is_numpy_array(columns) or is_cupy_array(columns):
        return sum_parts(field, columns.view(xp.float32), xp).view(xp.complex64)
    return sum_parts(xp.astype(field, xp.complex64), columns, xp)


def sum_parts(field: Array, columns: Array, xp: ModuleType) -> Array:
    """``field @ columns`` from products of `PART` inputs, added in double precision: long sums in float32 drift."""
    (frames, n), width = field.shape, columns.shape[1]
    count, double = n // PART, xp.complex128 if xp.isdtype(field.dtype, "complex floating") else xp.float64
    if n <= PART or not frames * width:
        return xp.matmul(field, columns)
    split = xp.reshape(columns[: count * PART, :], (count, PART, width))
    together, totals = max(MAX_PARTIAL // (count * width), 1), []
    for start in range(0, frames, together):
        some = field[start : min(start + together, frames), :]
        parts = xp.reshape(some[:, : count * PART], (some.shape[0], count, PART))
        total = xp.sum(xp.matmul(xp.permute_dims(parts, (1, 0, 2)), split), axis=0, dtype=double)
        rest = xp.matmul(some[:, count * PART :], columns[count * PART :, :])
        totals.append(xp.astype(total + rest, field.dtype))
    return totals[0] if len(totals) == 1 else xp.concat(totals, axis=0)
