"""Media whose transmission matrix is held in memory, and weighted sums of them."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from photonics import kernels
from photonics.arrays import Array, ComplexArray, FloatArray
from photonics.backend import Backend
from photonics.kernels.panels import Panels, Piece
from photonics.kernels.tile import BLOCK, CHAIN, PANEL, SLICE
from photonics.medium.base import Rows, ScatteringMedium
from photonics.medium.tiled import Sums, TiledMedium, matmul, sum_parts

__all__ = ["Mixture", "StoredMedium", "StoredRows"]


class StoredMedium(TiledMedium):
    """A medium that holds its matrix in memory, as `photonics.kernels.panels.Panels`."""

    @property
    @abstractmethod
    def _panels(self) -> Panels:
        """The matrix."""

    @property
    def holds_matrix(self) -> bool:  # noqa: D102 (inherited)
        return True

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        return self._panels.read(cols, rows).T.copy()

    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: FloatArray) -> None:
        kernels.product.take_tile(*self._panels.piece(first_input, first_output), inputs, 2 * outputs, tile)

    def _add(self, x: FloatArray, binary: bool, first_output: int, total: Sums) -> None:
        piece, sums = self._panels.piece(0, first_output), np.zeros(PANEL, np.float32)
        if binary:
            groups, rows = kernels.tables.find_groups(x, self._panels.zero_row)
            ends = kernels.product.find_ends(groups, CHAIN // 4)
            kernels.tables.gather_groups(groups, rows, ends, *piece, sums, total)
        else:
            where = np.flatnonzero(x)
            ends = kernels.product.find_ends(where, SLICE)
            kernels.product.gather(where, x[where], ends, *piece, sums, total)

    def _pieces(self, first_output: int, outputs: int) -> tuple[Callable[[int, int], Piece], int]:
        return lambda first_input, inputs: self._panels.piece(first_input, first_output), BLOCK

    def _on(self, backend: Backend, field: Array, adjoint: bool) -> Array:
        columns, xp = self._copy(backend), backend.xp
        if not adjoint:
            return matmul(field, columns, xp)
        field = xp.conj(xp.astype(field, xp.complex64, copy=False))
        return xp.conj(sum_parts(field, xp.matrix_transpose(columns), xp))

    def _copy(self, backend: Backend) -> Array:
        """Matrix on another backend, uploaded once."""
        if backend not in self._copies:
            self._copies[backend] = backend.asarray(self._panels.read(slice(None), slice(None)))
        return self._copies[backend]

    @cached_property
    def _copies(self) -> dict[Backend, Array]:
        return {}


@dataclass(frozen=True, eq=False)
class StoredRows(StoredMedium, Rows):
    """Some outputs of a medium whose whole matrix is in memory; they are copied once."""

    medium: StoredMedium  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def _panels(self) -> Panels:
        return self._share

    @cached_property
    def _share(self) -> Panels:
        return self.medium._panels.share(self.start, self.stop)


class Mixture(StoredMedium):
    """``T = sum_k w_k T_k`` over media that hold their matrices; only the sum is kept.

    Parameters
    ----------
    shape : tuple of int
        (n_out, n_in).
    terms : callable
        Returns an iterator over weights and media, the same ones in every call. One medium at a time is in memory.
    """

    def __init__(self, shape: tuple[int, int], terms: Callable[[], Iterator[tuple[np.float32, StoredMedium]]]) -> None:
        self._shape, self._terms = shape, terms

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self._shape

    @property
    def _panels(self) -> Panels:
        return self._sum

    @cached_property
    def _sum(self) -> Panels:
        total = Panels(*self.shape[::-1])
        for weight, medium in self._terms():
            total.array += weight * medium._panels.array
        return total

    def _copy(self, backend: Backend) -> Array:
        if backend not in self._copies:
            total = backend.zeros(self.shape[::-1], "complex64")
            for weight, medium in self._terms():  # each is drawn on or uploaded to the device, and then dropped
                total += medium._copy(backend) * float(weight)
            self._copies[backend] = total
        return self._copies[backend]

    @property
    def identity(self) -> int:
        """Not supported: a sum of media has no identity."""
        raise NotImplementedError

    def fresh(self, seed: int) -> ScatteringMedium:
        """Not supported: the statistics of a sum of media are unknown."""
        raise NotImplementedError
