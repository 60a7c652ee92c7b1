"""The products of a medium that can tell any tile of its transmission matrix."""

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.backend import Backend, backend_of
from photonics.kernels import product
from photonics.kernels.product import FRAMES, INPUTS, OUTPUTS, PARTS, WIDTH
from photonics.kernels.threads import for_blocks
from photonics.medium.base import ScatteringMedium, check_field

__all__ = ["TiledMedium"]

FEW = 4
"""Frames under which each is summed alone, over its inputs that are not zero."""
MACS_PER_S = 6e10
"""Multiplications of a product in a second, to tell small ones: the right order for a core with AVX2."""


class TiledMedium(ScatteringMedium):
    """A medium whose entries are known, in memory or by their law.

    On the host a product goes tile by tile through `photonics.kernels.product`, whose order of summation is fixed;
    elsewhere it is the library's own.
    """

    @abstractmethod
    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: NDArray[np.float32]) -> None:
        """``tile[k, 2i], tile[k, 2i + 1] = `` real and imaginary part of ``T[first_output + i, first_input + k]``.

        `first_output` is a multiple of 64; a tile may be written beyond `outputs` up to the next such multiple.
        """

    @abstractmethod
    def _add(self, x: NDArray[np.float32], first_output: int, sums: NDArray[np.float32]) -> None:
        """``sums += T x`` for one frame and the outputs from there on, their parts side by side in `sums`."""

    @abstractmethod
    def _on(self, backend: Backend, field: Any, adjoint: bool) -> Any:
        """Product of a checked field with T or its conjugate transpose on another backend."""

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[1], binary=True)
        backend = backend_of(field)
        if not backend.on_host:
            return self._on(backend, field, adjoint=False)
        if field.dtype.kind != "c":
            return self._product(field).view(np.complex64)
        parts = self._product(np.concatenate([field.real, field.imag])).view(np.complex64)
        return parts[: len(field)] + 1j * parts[len(field) :]

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[0])
        backend = backend_of(field)
        if not backend.on_host:
            return self._on(backend, field, adjoint=True)
        # Real and imaginary part of conj(t) y are inner products of the parts of t with those of y and of -i y.
        field = np.ascontiguousarray(field.astype(np.complex64, copy=False))
        turned = (-1j * field).astype(np.complex64, copy=False)
        parts = self._adjoint_product(np.concatenate([field.view(np.float32), turned.view(np.float32)]))
        return parts[: len(field)] + 1j * parts[len(field) :]

    def _product(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Real and imaginary parts of ``x @ T.T`` side by side: real (frames, n_in) -> (frames, 2 n_out)."""
        n_out, n_in = self.shape
        out = np.zeros((len(x), 2 * n_out), np.float32)
        rows = padded(x)

        def alone(start: int, stop: int) -> None:
            for frame, sums in zip(x, out, strict=True):
                self._add(frame, start, sums[2 * start : 2 * stop])

        def together(start: int, stop: int) -> None:
            tile, sums = np.zeros((INPUTS, WIDTH), np.float32), np.zeros((len(rows), WIDTH), np.float32)
            for k in range(0, n_in, INPUTS):
                count = min(INPUTS, n_in - k)
                self._fill(k, count, start, stop - start, tile)
                product.accumulate(rows, k, count, tile, sums)
            out[:, 2 * start : 2 * stop] = sums[: len(x), : 2 * (stop - start)]

        work = alone if len(x) < self._few else together
        for_blocks(work, n_out, OUTPUTS, len(rows) * n_in * 2.0 * n_out / MACS_PER_S)
        return out

    def _adjoint_product(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum over the parts of each column: real (frames, 2 n_out) -> (frames, n_in)."""
        n_out, n_in = self.shape
        out, rows = np.empty((len(y), n_in), np.float32), padded(y)

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
    def _few(self) -> int:
        """Frames under which each is summed alone."""
        return FEW


def padded(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """`x` with frames of zeros up to a multiple of 4; itself if it has as many and lies in order."""
    spare = -len(x) % FRAMES
    return np.concatenate([x, np.zeros((spare, x.shape[1]), np.float32)]) if spare else np.ascontiguousarray(x)


def matmul(field: Any, columns: Any, xp: Any) -> Any:
    """``field @ columns`` with complex columns; a real field takes half the work where views allow it."""
    if field.dtype == xp.complex64:
        return xp.matmul(field, columns)
    field = xp.astype(field, xp.float32, copy=False)
    if hasattr(columns, "view"):
        return xp.matmul(field, columns.view(xp.float32)).view(xp.complex64)
    return xp.matmul(xp.astype(field, xp.complex64), columns)
