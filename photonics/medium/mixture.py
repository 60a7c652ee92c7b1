"""A transmission matrix that is a weighted sum of others."""

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from photonics.arrays import Array, ComplexArray
from photonics.backend import Backend
from photonics.medium.base import ScatteringMedium
from photonics.medium.stored import StoredMedium

__all__ = ["Mixture"]


class Mixture(StoredMedium):
    """``T = sum_k w_k T_k`` over media that hold their matrices; only the sum is kept.

    Parameters
    ----------
    shape : tuple of int
        (n_out, n_in).
    terms : callable
        Returns an iterator over weights and media, always the same ones. One medium at a time is in memory.
    """

    def __init__(self, shape: tuple[int, int], terms: Callable[[], Iterator[tuple[np.float32, StoredMedium]]]) -> None:
        self._shape, self._terms = shape, terms

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self._shape

    @property
    def _columns(self) -> ComplexArray:
        return self._sum

    @cached_property
    def _sum(self) -> ComplexArray:
        total = np.zeros(self.shape[::-1], np.complex64)
        for weight, medium in self._terms():
            total += weight * medium._columns
        return total

    def _copy(self, backend: Backend) -> Array:
        if backend not in self._copies:
            total = backend.zeros(self.shape[::-1], "complex64")
            for weight, medium in self._terms():  # each is drawn or uploaded there, and then dropped
                total += medium._copy(backend) * float(weight)
            self._copies[backend] = total
        return self._copies[backend]

    @property
    def identity(self) -> int:
        """Not supported: a sum of media has no identity."""
        raise NotImplementedError

    def fresh(self, seed: int) -> ScatteringMedium:
        """Not supported: a sum of media has no statistics of its own."""
        raise NotImplementedError
