"""Vectors as weighted sums of binary patterns, which is all that mirrors can show."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import BoolArray, FloatArray, HostArray
from photonics.patterns.encoding import as_rows
from photonics.patterns.planes import BitPlanes

__all__ = ["Terms", "split"]


class Terms(NamedTuple):
    """Binary patterns to show, one per term, all the positive ones of a batch first.

    A binary vector is one term, a ternary one two at most (where it is 1; where it is -1), any other real one a
    ternary vector for each bit. Empty patterns are left out.
    """

    batch: int
    planes: NDArray[np.int8]
    """Ternary vectors, (n_planes, n_inputs)."""
    plane: NDArray[np.intp]
    """Which plane a term shows, (n_terms,)."""
    sign: NDArray[np.int8]
    """Whether it shows where the plane is 1, or where it is -1."""
    owner: NDArray[np.intp]
    """Which vector it belongs to."""
    weight: FloatArray
    """By how much it counts there, its sign included."""
    digit: NDArray[np.intp]
    """Place of the plane in its vector; a vector has one term at most of each digit and sign."""
    rounding: FloatArray
    """Squared length of what rounding to bits took off each vector, (batch,)."""

    def parts(self, size: int) -> Iterator[slice]:
        """The terms in order, `size` at a time."""
        for start in range(0, len(self.plane), size):
            yield slice(start, start + size)

    def halves(self, part: slice) -> BoolArray:
        """The patterns of some terms, (n, n_inputs)."""
        return self.planes[self.plane[part]] == self.sign[part, None]

    def add(self, total: HostArray, part: slice, values: HostArray, power: int = 1) -> None:
        """Add the values of some terms, times their weight to a power, to the vectors they belong to, in place.

        A vector's terms are added in the same order whatever else is in the batch.
        """
        owner, weight = self.owner[part], self.weight[part] ** power
        for chosen in self._groups(part):
            total[owner[chosen]] += weight[chosen, None] * values[chosen]

    def flag(self, total: BoolArray, part: slice, values: BoolArray) -> None:
        """Mark the vectors whose terms are marked, in place."""
        owner = self.owner[part]
        for chosen in self._groups(part):
            total[owner[chosen]] |= values[chosen]

    def _groups(self, part: slice) -> Iterator[BoolArray]:
        """Terms of one digit and one sign, which all belong to different vectors."""
        group = 2 * self.digit[part] + (self.sign[part] < 0)
        return (group == one for one in np.unique(group))

    @property
    def balance(self) -> FloatArray:
        """Sum of a vector's weights, (batch,): how often it holds what every frame holds alike."""
        return np.bincount(self.owner, self.weight, self.batch).astype(np.float32)


def split(x: Any, n_inputs: int, bits: int) -> Terms:
    """Write vectors as terms.

    Parameters
    ----------
    x : array_like, shape (batch, n_inputs)
        Bool, or real from -1 to 1. Vectors of -1, 0 and 1 are shown as they are; the others by `bits` bit planes.
    n_inputs, bits : int
        Length of the vectors; bits of the magnitude.

    Raises
    ------
    ValueError
        If the shape is wrong, or an entry is another number (NaN included).
    """
    array = as_rows(x, n_inputs, "x")
    if array.dtype != np.bool_:
        inside = (array >= -1) & (array <= 1)
        if not inside.all():
            place = tuple(int(i) for i in np.argwhere(~inside)[0])
            raise ValueError(f"x must be binary, ternary or real from -1 to 1, got {array[place]} at {place}")
    batch = len(array)
    ternary = ((array == 0) | (array == 1) | (array == -1)).all(axis=1)
    rounding = np.zeros(batch, np.float32)
    counts = np.where(ternary, 1, bits)
    owner = np.repeat(np.arange(batch), counts)
    digit = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    if ternary.all():
        planes, weight = array.astype(np.int8), np.ones(batch, np.float32)
    else:
        grey = array[~ternary].astype(np.float64)
        encoding = BitPlanes(bits=bits, signed=True)
        cut = encoding.encode(grey)
        rounding[~ternary] = ((grey - encoding.decode(cut)) ** 2).sum(axis=1)
        of_grey = ~ternary[owner]
        planes = np.empty((len(owner), n_inputs), np.int8)
        planes[~of_grey], planes[of_grey] = array[ternary], cut.reshape(-1, n_inputs)
        weight = np.where(of_grey, 2.0 ** (bits - 1 - digit) / (2**bits - 1), 1.0).astype(np.float32)
    shown = [np.flatnonzero((planes == sign).any(axis=1)) for sign in (1, -1)]
    plane = np.concatenate(shown)
    sign = np.repeat(np.array([1, -1], np.int8), [len(s) for s in shown])
    return Terms(batch, planes, plane, sign, owner[plane], sign * weight[plane], digit[plane], rounding)
