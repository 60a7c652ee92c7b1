"""The laws that the entries of a Gaussian medium follow, and the record from which they are drawn."""

from typing import NamedTuple

import numpy as np

from photonics import draws
from photonics.kernels.tile import GROUP
from photonics.random import Stream

__all__ = ["INPUTS", "LAWS", "OUTPUTS", "Law", "Slab", "key"]

INPUTS, OUTPUTS = 4096, 8192
"""Inputs and outputs of a tile on a GPU: 256 MB, large enough for the library's product to run at its full speed."""


class Law(NamedTuple):
    """Distribution of the entries."""

    three: bool
    """Whether a part has one of four values, drawn from three bits; otherwise it is normal."""
    stream: Stream
    """Stream of the generator."""
    rows: int
    """Number of rows that are drawn together."""
    divisor: float
    """Rms of the real or imaginary part of an entry before scaling."""


LAWS = {"gaussian": Law(False, Stream.MATRIX, 2, 1.0), "3bit": Law(True, Stream.THREE_BIT, GROUP, 7.0)}
"""Laws by the names of `photonics.GaussianMedium.entries`."""


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
