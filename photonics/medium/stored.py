"""Media whose transmission matrix is held in memory."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.backend import Backend
from photonics.kernels import product
from photonics.medium.tiled import TiledMedium, matmul

__all__ = ["StoredMedium"]


class StoredMedium(TiledMedium):
    """A medium that keeps its matrix, transposed: a row of memory for each input."""

    @property
    @abstractmethod
    def _columns(self) -> NDArray[np.complex64]:
        """T transposed, (n_in, n_out), C-contiguous."""

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        return self._columns[cols, rows].T.copy()

    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: NDArray[np.float32]) -> None:
        product.copy_tile(self._columns.view(np.float32), first_input, inputs, 2 * first_output, 2 * outputs, tile)

    def _add(self, x: NDArray[np.float32], first_output: int, sums: NDArray[np.float32]) -> None:
        product.gather(x, np.flatnonzero(x), self._columns.view(np.float32), 2 * first_output, sums)

    def _on(self, backend: Backend, field: Any, adjoint: bool) -> Any:
        columns, xp = self._copy(backend), backend.xp
        if not adjoint:
            return matmul(field, columns, xp)
        return xp.matmul(xp.astype(field, xp.complex64, copy=False), xp.conj(xp.matrix_transpose(columns)))

    def _copy(self, backend: Backend) -> Any:
        """Matrix on another backend, uploaded once."""
        if backend not in self._copies:
            self._copies[backend] = backend.asarray(self._columns)
        return self._copies[backend]

    @cached_property
    def _copies(self) -> dict[Backend, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copies"}
