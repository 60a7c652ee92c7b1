"""A matrix that is the sum of others, added up where it is used."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.backend import Backend
from photonics.medium.base import ScatteringMedium
from photonics.medium.stored import StoredMedium

__all__ = ["Mixture"]

Parts = Callable[[], Iterator[tuple[np.float32, StoredMedium]]]


class Mixture(StoredMedium):
    """``T = sum_k w_k T_k`` over media that hold their matrices, of which it keeps the sum alone.

    Parameters
    ----------
    shape : tuple of int
        (n_out, n_in).
    parts : callable
        Gives an iterator over the weights and the media, always the same.
    """

    def __init__(self, shape: tuple[int, int], parts: Parts) -> None:
        self._shape, self._parts = shape, parts
        self._copies: dict[Backend, Any] = {}

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self._shape

    @cached_property
    def _columns(self) -> NDArray[np.complex64]:
        total = np.zeros(self.shape[::-1], np.complex64)
        for weight, part in self._parts():
            total += weight * part._columns
        return total

    def _copy(self, backend: Backend) -> Any:
        if backend not in self._copies:
            total = backend.zeros(self.shape[::-1], "complex64")
            for weight, part in self._parts():  # each drawn or uploaded there, and forgotten
                total += part._copy(backend) * float(weight)
            self._copies[backend] = total
        return self._copies[backend]

    @property
    def identity(self) -> int:
        """Not to be had: what a sum stands for, its parts do not know."""
        raise NotImplementedError

    def fresh(self, seed: int) -> ScatteringMedium:
        """Not to be had: what a sum stands for, its parts do not know."""
        raise NotImplementedError
