"""The laws that the entries of a Gaussian medium follow, and the record from which they are drawn."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np

from photonics import draws, kernels
from photonics.random import Stream

__all__ = ["INPUTS", "OUTPUTS", "Law", "Slab", "find_law", "key"]

INPUTS, OUTPUTS = 4096, 8192
"""Inputs and outputs of a tile on a GPU: 256 MB, large enough for the library's product to run at its full speed."""


class Law(NamedTuple):
    """Distribution of the entries, and the kernels that draw them."""

    name: str
    """Name of the law, "gaussian" or "3bit"."""
    stream: Stream
    """Stream of the generator."""
    rows: int
    """Number of rows that are drawn together."""
    fill: Callable[..., None]
    """Kernel that fills a tile."""
    add: Callable[..., None]
    """Kernel that adds the product with one frame."""
    divisor: float
    """Rms of the real or imaginary part of an entry before scaling."""


@cache
def find_law(name: str) -> Law:
    """Law of the entries by its name."""
    entries = kernels.entries
    if name == "gaussian":
        return Law(name, Stream.MATRIX, 2, entries.fill_gaussian, entries.add_gaussian, 1.0)
    return Law(name, Stream.THREE_BIT, entries.GROUP, entries.fill_three_bit, entries.add_three_bit, 7.0)


class Slab(NamedTuple):
    """A random transmission matrix defined by the generator; no entry is stored."""

    shape: tuple[int, int]
    """(n_out, n_in)."""
    seed: int
    """Seed of the generator."""
    law: Law
    """Distribution of the entries."""
    first: int = 0
    """Row of the generator that is row 0, a multiple of the rows that are drawn together."""

    @property
    def scale(self) -> np.float32:
        """Factor of the drawn parts: each part carries half of ``E|t_ij|^2 = 1/n_in``."""
        return np.float32((2.0 * self.shape[1]) ** -0.5 / self.law.divisor)

    @property
    def key(self) -> tuple[int, int, int]:
        """Stream and Philox key of the entries."""
        return key(self.seed, self.law.stream)


def key(seed: int, stream: Stream) -> tuple[int, int, int]:
    """Return stream and Philox key."""
    return (int(stream), *draws.key(seed))
