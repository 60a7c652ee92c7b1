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
from photonics.kernels.threads import for_blocks
from photonics.kernels.tile import BLOCK, FRAMES, INPUTS, OUTPUTS, PARTS, WIDTH
from photonics.medium.base import ScatteringMedium, check_field

__all__ = ["Sums", "TiledMedium", "matmul", "sum_parts"]

Sums: TypeAlias = NDArray[np.float64]
"""Sums over many inputs, in double precision."""

MIN_FRAMES = 4
"""Smallest batch that is summed together; fewer frames are summed one by one, over their nonzero inputs."""
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
    def _add(self, x: FloatArray, first_output: int, total: Sums) -> None:
        """``total += T x`` for one frame and the outputs from `first_output` on; real and imaginary parts alternate."""

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
        n_out, n_in = self.shape
        out = np.zeros((len(x), 2 * n_out), np.float32)
        rows = pad_frames(x)

        def sum_one_by_one(start: int, stop: int) -> None:
            for frame, target in zip(x, out, strict=True):
                total = np.zeros(2 * (stop - start))
                self._add(frame, start, total)
                target[2 * start : 2 * stop] = total

        def sum_together(start: int, stop: int) -> None:
            tile = np.zeros((INPUTS, WIDTH), np.float32)

            def fill(k: int, count: int) -> FloatArray:
                self._fill(k, count, start, stop - start, tile)
                return tile

            out[:, 2 * start : 2 * stop] = sum_tiles(rows, n_in, fill)[: len(x), : 2 * (stop - start)]

        work = sum_one_by_one if len(x) < self._min_frames else sum_together
        for_blocks(work, n_out, OUTPUTS, len(rows) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    def _adjoint_product(self, y: FloatArray) -> FloatArray:
        """Sum over the parts of each column: real (frames, 2 n_out) -> (frames, n_in)."""
        n_out, n_in = self.shape
        out, rows = np.empty((len(y), n_in), np.float32), pad_frames(y)

        def work(start: int, stop: int) -> None:
            raw, tile = np.zeros((PARTS, INPUTS + 16), np.float32), np.zeros((INPUTS, WIDTH), np.float32)

            def fill(k: int, count: int) -> FloatArray:
                self._fill(start, stop - start, k // 2, count // 2, raw)
                kernels.product.transpose_tile(raw[: stop - start, :count], tile)
                return tile

            out[:, start:stop] = sum_tiles(rows, 2 * n_out, fill)[: len(y), : stop - start]

        for_blocks(work, n_in, PARTS, len(rows) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    @property
    def _min_frames(self) -> int:
        """Smallest batch that is summed together."""
        return MIN_FRAMES


def sum_tiles(rows: FloatArray, count: int, fill: Callable[[int, int], FloatArray]) -> Sums:
    """Product of frames with the tiles of `count` inputs; ``fill(k, inputs)`` returns the tile of the inputs from k."""
    sums, total = np.zeros((len(rows), WIDTH), np.float32), np.zeros((len(rows), WIDTH))
    for k in range(0, count, INPUTS):
        inputs = min(INPUTS, count - k)
        kernels.product.accumulate(rows, k, inputs, fill(k, inputs), sums)
        if (k + INPUTS) % BLOCK == 0:
            total += sums
            sums[:] = 0.0
    return total + sums


def as_complex(parts: FloatArray) -> ComplexArray:
    """View alternating real and imaginary parts as complex numbers."""
    return parts.view(np.complex64)


def pad_frames(x: FloatArray) -> FloatArray:
    """Return `x` in C order with frames of zeros up to a multiple of 4."""
    spare = -len(x) % FRAMES
    return np.concatenate([x, np.zeros((spare, x.shape[1]), np.float32)]) if spare else np.ascontiguousarray(x)


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
