"""Media whose transmission matrix is held in memory."""

from abc import abstractmethod
from functools import cached_property

import numpy as np

from photonics.arrays import Array, ComplexArray, FloatArray
from photonics.backend import Backend
from photonics.kernels import product
from photonics.medium.tiled import TiledMedium, matmul

__all__ = ["StoredMedium"]


class StoredMedium(TiledMedium):
    """A medium that keeps its matrix transposed, one row of memory for each input."""

    @property
    @abstractmethod
    def _columns(self) -> ComplexArray:
        """T transposed, (n_in, n_out), C-contiguous."""

    @property
    def holds_matrix(self) -> bool:  # noqa: D102 (inherited)
        return True

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        return self._columns[cols, rows].T.copy()

    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: FloatArray) -> None:
        product.copy_tile(self._columns.view(np.float32), first_input, inputs, 2 * first_output, 2 * outputs, tile)

    def _add(self, x: FloatArray, first_output: int, sums: FloatArray) -> None:
        product.gather(x, np.flatnonzero(x), self._columns.view(np.float32), 2 * first_output, sums)

    def _on(self, backend: Backend, field: Array, adjoint: bool) -> Array:
        columns, xp = self._copy(backend), backend.xp
        if not adjoint:
            return matmul(field, columns, xp)
        return xp.matmul(xp.astype(field, xp.complex64, copy=False), xp.conj(xp.matrix_transpose(columns)))

    def _copy(self, backend: Backend) -> Array:
        """Matrix on another backend, uploaded once."""
        if backend not in self._copies:
            self._copies[backend] = backend.asarray(self._columns)
        return self._copies[backend]

    @cached_property
    def _copies(self) -> dict[Backend, Array]:
        return {}
