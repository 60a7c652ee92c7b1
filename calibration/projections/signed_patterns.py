"""Vectors as weighted sums of the binary patterns that mirrors can show."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photonics.arrays import BoolArray, FloatArray, HostArray
from photonics.patterns.encoding import as_rows
from photonics.patterns.planes import BitPlanes

__all__ = ["Terms", "split"]


class Terms(NamedTuple):
    """Binary patterns to show, one per term; the positive ones of a batch come first.

    A binary vector is one term. A ternary vector has up to two terms: its +1 entries and its -1 entries. Any other real
    vector is a sum of ternary vectors, one for each bit. Empty patterns are left out.
    """

    batch: int
    """Number of vectors."""
    planes: NDArray[np.int8]
    """Ternary vectors, (n_planes, n_inputs)."""
    plane: NDArray[np.intp]
    """Index of the plane to which a term belongs, (n_terms,)."""
    sign: NDArray[np.int8]
    """1 if the term shows where the plane is 1, -1 if it shows where the plane is -1."""
    owner: NDArray[np.intp]
    """Index of the vector to which the term belongs."""
    weight: FloatArray
    """Weight of the term in its vector, its sign included."""
    digit: NDArray[np.intp]
    """Bit position of the plane in its vector; a vector has at most one term of each digit and sign."""
    rounding: FloatArray
    """Squared length of each vector's rounding error, (batch,)."""

    def parts(self, size: int) -> Iterator[slice]:
        """Slices of the terms, in order, of `size` terms each."""
        for start in range(0, len(self.plane), size):
            yield slice(start, start + size)

    def halves(self, part: slice) -> BoolArray:
        """Patterns of some terms: (n, n_inputs)."""
        return self.planes[self.plane[part]] == self.sign[part, None]

    def add(self, total: HostArray, part: slice, values: HostArray, power: int = 1) -> None:
        """Add values of some terms, times a power of their weights, to the totals of their vectors, in place.

        The order in which a vector's terms are added does not depend on the other vectors of the batch.
        """
        owner, weight = self.owner[part], self.weight[part] ** power
        for chosen in self._groups(part):
            total[owner[chosen]] += weight[chosen, None] * values[chosen]

    def flag(self, total: BoolArray, part: slice, values: BoolArray) -> None:
        """Mark, in place, the vectors that have a marked term."""
        owner = self.owner[part]
        for chosen in self._groups(part):
            total[owner[chosen]] |= values[chosen]

    def _groups(self, part: slice) -> Iterator[BoolArray]:
        """Masks of the terms of one digit and sign, which all belong to different vectors."""
        group = 2 * self.digit[part] + (self.sign[part] < 0)
        return (group == one for one in np.unique(group))

    def by_vector(self) -> "Terms":
        """The same terms, those of a vector one after the other: what changes slowly cancels in their differences."""
        order = np.argsort(self.owner, kind="stable")
        names = ("plane", "sign", "owner", "weight", "digit")
        return self._replace(**{name: getattr(self, name)[order] for name in names})

    def one_by_one(self) -> "Terms":
        """The same vectors by terms with a single ON input, those of a vector one after the other."""
        term, entry = np.nonzero(self.planes[self.plane] == self.sign[:, None])
        order = np.argsort(self.owner[term], kind="stable")
        term, entry = term[order], entry[order]
        sign, inputs = self.sign[term], self.planes.shape[1]
        return self._replace(
            planes=sign[:, None] * (entry[:, None] == np.arange(inputs)).astype(np.int8),
            plane=np.arange(len(term)),
            sign=sign,
            owner=self.owner[term],
            weight=self.weight[term],
            digit=self.digit[term] * inputs + entry,
        )

    @property
    def balance(self) -> FloatArray:
        """Sum of a vector's weights, (batch,): multiplicity of an offset common to all frames."""
        return np.bincount(self.owner, self.weight, self.batch).astype(np.float32)

    @property
    def totals(self) -> FloatArray:
        """Sum of a vector's entries, (batch,)."""
        shown = np.count_nonzero(self.planes[self.plane] == self.sign[:, None], axis=1)
        return np.bincount(self.owner, self.weight * shown, self.batch).astype(np.float32)


def split(x: ArrayLike, n_inputs: int, bits: int) -> Terms:
    """Split vectors into terms.

    Parameters
    ----------
    x : array_like, shape (batch, n_inputs)
        Bool, or real from -1 to 1. Vectors of -1, 0 and 1 are shown exactly, the others by bit planes.
    n_inputs : int
        Length of the vectors.
    bits : int
        Number of bit planes.

    Raises
    ------
    ValueError
        If the shape is wrong, or an entry is NaN or out of range.
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
