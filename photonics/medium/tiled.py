"""Products of a medium from tiles of its transmission matrix."""

from abc import abstractmethod
from types import ModuleType

import numpy as np
from array_api_compat import is_cupy_array, is_numpy_array

from photonics.arrays import Array, ComplexArray, FloatArray
from photonics.backend import Backend, backend_of
from photonics.kernels import product
from photonics.kernels.product import FRAMES, INPUTS, OUTPUTS, PARTS, WIDTH
from photonics.kernels.threads import for_blocks
from photonics.medium.base import ScatteringMedium, check_field

__all__ = ["TiledMedium"]

MIN_FRAMES = 4
"""Smallest batch that is summed together; fewer frames are summed one by one, over their nonzero inputs."""
MACS_PER_S = 6e10
"""Multiplications per second, to recognise small products: the order of magnitude of a core with AVX2."""


class TiledMedium(ScatteringMedium):
    """A medium whose entries are available, from memory or from the generator.

    On the host, products are computed tile by tile by `photonics.kernels.product`, whose order of summation is fixed.
    On other devices the library's product is used.
    """

    @abstractmethod
    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: FloatArray) -> None:
        """``tile[k, 2i], tile[k, 2i + 1] = `` real and imaginary part of ``T[first_output + i, first_input + k]``.

        `first_output` is a multiple of 64; a tile may be written beyond `outputs` up to the next such multiple.
        """

    @abstractmethod
    def _add(self, x: FloatArray, first_output: int, sums: FloatArray) -> None:
        """``sums += T x`` for one frame and the outputs from `first_output` on; real and imaginary parts alternate."""

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
            for frame, sums in zip(x, out, strict=True):
                self._add(frame, start, sums[2 * start : 2 * stop])

        def sum_together(start: int, stop: int) -> None:
            tile, sums = np.zeros((INPUTS, WIDTH), np.float32), np.zeros((len(rows), WIDTH), np.float32)
            for k in range(0, n_in, INPUTS):
                count = min(INPUTS, n_in - k)
                self._fill(k, count, start, stop - start, tile)
                product.accumulate(rows, k, count, tile, sums)
            out[:, 2 * start : 2 * stop] = sums[: len(x), : 2 * (stop - start)]

        work = sum_one_by_one if len(x) < self._min_frames else sum_together
        for_blocks(work, n_out, OUTPUTS, len(rows) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    def _adjoint_product(self, y: FloatArray) -> FloatArray:
        """Sum over the parts of each column: real (frames, 2 n_out) -> (frames, n_in)."""
        n_out, n_in = self.shape
        out, rows = np.empty((len(y), n_in), np.float32), pad_frames(y)

        def work(start: int, stop: int) -> None:
            raw = np.zeros((PARTS, INPUTS + 16), np.float32)
            tile, sums = np.zeros((INPUTS, WIDTH), np.float32), np.zeros((len(rows), WIDTH), np.float32)
            for i in range(0, n_out, INPUTS // 2):
                count = min(INPUTS // 2, n_out - i)
                self._fill(start, stop - start, i, count, raw)
                product.transpose_tile(raw[: stop - start, : 2 * count], tile)
                product.accumulate(rows, 2 * i, 2 * count, tile, sums)
            out[:, start:stop] = sums[: len(y), : stop - start]

        for_blocks(work, n_in, PARTS, len(rows) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    @property
    def _min_frames(self) -> int:
        """Smallest batch that is summed together."""
        return MIN_FRAMES


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
        return xp.matmul(field, columns)
    field = xp.astype(field, xp.float32, copy=False)
    if is_numpy_array(columns) or is_cupy_array(columns):
        return xp.matmul(field, columns.view(xp.float32)).view(xp.complex64)
    return xp.matmul(xp.astype(field, xp.complex64), columns)
