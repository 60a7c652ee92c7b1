"""Vectors as weighted sums of the binary patterns that mirrors can show."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from calibration.arrays import count
from photonics import kernels
from photonics.arrays import Array
from photonics.backend import HOST, Backend, backend_of, to_host
from photonics.patterns.encoding import as_rows
from photonics.patterns.planes import BitPlanes

__all__ = ["Terms", "split"]


class Terms(NamedTuple):
    """Binary patterns to show, one per term; the positive ones of a batch come first.

    A binary vector is one term. A ternary vector has up to two terms: its +1 entries and its -1 entries. Any other real
    vector is a sum of ternary vectors, one for each bit. Empty patterns are left out. Arrays are where the vectors are.
    """

    batch: int
    """Number of vectors."""
    planes: Array
    """Ternary vectors, int8, (n_planes, n_inputs)."""
    plane: Array
    """Index of the plane to which a term belongs, (n_terms,)."""
    sign: Array
    """1 if the term shows where the plane is 1, -1 if it shows where the plane is -1."""
    owner: Array
    """Index of the vector to which the term belongs."""
    weight: Array
    """Weight of the term in its vector, its sign included."""
    digit: Array
    """Bit position of the plane in its vector; a vector has at most one term of each digit and sign."""
    rounding: Array
    """Squared length of each vector's rounding error, (batch,)."""

    @property
    def terms(self) -> int:
        """Number of terms."""
        return self.plane.shape[0]

    def parts(self, size: int) -> Iterator[slice]:
        """Slices of the terms, in order, of `size` terms each."""
        for start in range(0, self.terms, size):
            yield slice(start, min(start + size, self.terms))

    def halves(self, part: slice) -> Array:
        """Patterns of some terms: (n, n_inputs)."""
        return self._shown(self.plane[part]) == self.sign[part][:, None]

    def _shown(self, plane: Array) -> Array:
        return backend_of(plane).xp.take(self.planes, plane, axis=0)

    def add(self, sums: Array, part: slice, values: Array, power: int = 1) -> None:
        """Add values of some terms, times a power of their weights, to the sums of their vectors, in place.

        The order in which a vector's terms are added does not depend on the other vectors of the batch.
        """
        xp, weight = backend_of(sums).xp, self.weight[part] ** power
        for term, has in self._slots(part):
            if holds_floats(values) and holds_floats(sums) and values.dtype == sums.dtype:
                kernels.cpu.add_rows(values.view(np.float32), term, has, weight, sums.view(np.float32))
                continue
            more = xp.take(weight, term)[:, None] * xp.take(values, term, axis=0)
            sums += xp.where(has[:, None], more, xp.zeros_like(more))

    def flag(self, marked: Array, part: slice, values: Array) -> None:
        """Mark, in place, the vectors that have a marked term."""
        xp = backend_of(marked).xp
        for term, has in self._slots(part):
            marked |= xp.take(values, term, axis=0) & has[:, None]

    def _slots(self, part: slice) -> Iterator[tuple[Array, Array]]:
        """First, second, ... term of each vector in a part, by digit and sign, and which vectors have one: (batch,)."""
        backend = backend_of(self.owner)
        xp, owner = backend.xp, self.owner[part]
        if not (size := owner.shape[0]):
            return
        groups = 2 * (int(xp.max(self.digit[part])) + 1)
        group = 2 * self.digit[part] + xp.astype(self.sign[part] < 0, xp.int64)
        order = xp.argsort(groups * owner + group)
        vector = xp.arange(self.batch, device=backend.device)
        ordered = xp.take(owner, order)
        first = xp.searchsorted(ordered, vector)
        terms = xp.searchsorted(ordered, vector, side="right") - first
        for k in range(int(xp.max(terms))):
            yield xp.take(order, xp.minimum(first + k, size - 1)), terms > k

    def by_vector(self) -> "Terms":
        """The same terms, those of a vector one after the other: what changes slowly cancels in their differences."""
        xp = backend_of(self.owner).xp
        order = xp.argsort(self.owner, stable=True)
        names = ("plane", "sign", "owner", "weight", "digit")
        return self._replace(**{name: xp.take(getattr(self, name), order) for name in names})

    def one_by_one(self) -> "Terms":
        """The same vectors by terms with a single ON input, those of a vector one after the other."""
        backend = backend_of(self.owner)
        xp, inputs = backend.xp, self.planes.shape[1]
        term, entry = xp.nonzero(self.halves(slice(None)))
        order = xp.argsort(xp.take(self.owner, term), stable=True)
        term, entry = xp.take(term, order), xp.take(entry, order)
        sign, on = xp.take(self.sign, term), entry[:, None] == xp.arange(inputs, device=backend.device)
        return self._replace(
            planes=sign[:, None] * xp.astype(on, xp.int8),
            plane=xp.arange(term.shape[0], device=backend.device),
            sign=sign,
            owner=xp.take(self.owner, term),
            weight=xp.take(self.weight, term),
            digit=xp.take(self.digit, term) * inputs + entry,
        )

    @property
    def balance(self) -> Array:
        """Sum of a vector's weights, (batch,): multiplicity of an offset common to all frames."""
        return self._per_vector(self.weight)

    @property
    def squares(self) -> Array:
        """Sum of the squares of a vector's weights, (batch,): that of the variance of a frame."""
        return self._per_vector(self.weight**2)

    @property
    def totals(self) -> Array:
        """Sum of a vector's entries, (batch,)."""
        xp = backend_of(self.weight).xp
        return self._per_vector(self.weight * xp.astype(count(self.halves(slice(None)), 1), xp.float64))

    def _per_vector(self, values: Array) -> Array:
        """Sum of values of the terms, (n_terms,), over each vector: float32, (batch,)."""
        if isinstance(values, np.ndarray):
            return np.bincount(self.owner, values, self.batch).astype(np.float32)
        backend = backend_of(values)
        sums = backend.zeros((self.batch, 1), "float64")
        self.add(sums, slice(0, self.terms), backend.xp.astype(values, backend.xp.float64)[:, None], power=0)
        return backend.xp.astype(sums[:, 0], backend.xp.float32)


def holds_floats(values: Array) -> bool:
    """Whether an array lies in the host's memory, row after row, as float32 or complex64."""
    in_memory = isinstance(values, np.ndarray) and values.flags.c_contiguous
    return in_memory and values.dtype in (np.float32, np.complex64)


def split(x: Array, n_inputs: int, bits: int, backend: Backend = HOST) -> Terms:
    """Split vectors into terms.

    Parameters
    ----------
    x : array_like, shape (batch, n_inputs)
        Bool, or real from -1 to 1. Vectors of -1, 0 and 1 are shown exactly, the others by bit planes.
    n_inputs : int
        Length of the vectors.
    bits : int
        Number of bit planes.
    backend : Backend
        Where the vectors are, and where the terms will be.

    Raises
    ------
    ValueError
        If the shape is wrong, or an entry is NaN or out of range.
    """
    array = as_rows(x, n_inputs, "x", backend)
    xp, batch = backend.xp, array.shape[0]
    if xp.isdtype(array.dtype, "bool"):
        array = xp.astype(array, xp.int8)
    else:
        check_range(array)
    ternary = xp.all((array == 0) | (array == 1) | (array == -1), axis=1)
    rounding = backend.zeros((batch,), "float32")
    if bool(xp.all(ternary)):
        owner = xp.arange(batch, device=backend.device)
        planes, digit, weight = xp.astype(array, xp.int8), xp.zeros_like(owner), xp.ones_like(rounding)
    else:
        encoding = BitPlanes(bits=bits, signed=True)
        grey = xp.astype(array[~ternary], xp.float64)
        cut = encoding.encode(grey)
        rounding[~ternary] = xp.astype(xp.sum((grey - encoding.decode(cut)) ** 2, axis=1), xp.float32)
        planes, owner, digit, weight = join(xp.astype(array[ternary], xp.int8), cut, ternary)
    signs = backend.asarray(np.array([1, -1], np.int8))
    term, plane = xp.nonzero(xp.any(planes[None, :, :] == signs[:, None, None], axis=2))
    sign, weight = xp.take(signs, term), xp.take(weight, plane)
    owner, digit = xp.take(owner, plane), xp.take(digit, plane)
    return Terms(batch, planes, plane, sign, owner, xp.astype(sign, xp.float32) * weight, digit, rounding)


def join(exact: Array, cut: Array, ternary: Array) -> tuple[Array, Array, Array, Array]:
    """Planes of all vectors in order, with their vectors, digits and weights.

    Parameters
    ----------
    exact : array of int8, shape (n_exact, n_inputs)
        Vectors that are one plane.
    cut : array of int8, shape (n_grey, bits, n_inputs)
        Planes of the others.
    ternary : array of bool, shape (batch,)
        Which vectors are one plane.
    """
    backend, (grey, bits, inputs) = backend_of(cut), cut.shape
    xp, place = backend.xp, np.arange(bits)
    place, scale = (
        backend.asarray(np.tile(one, grey)) for one in (place, (2.0 ** (bits - 1 - place) / (2**bits - 1)).astype("f4"))
    )
    vector = xp.arange(ternary.shape[0], device=backend.device)
    single = vector[ternary]
    owner = xp.concat([single, xp.repeat(vector[~ternary], bits)])
    parts = (
        (xp.concat([exact, xp.reshape(cut, (-1, inputs))])),
        owner,
        xp.concat([xp.zeros_like(single), place]),
        xp.concat([xp.ones_like(single, dtype=xp.float32), scale]),
    )
    order = xp.argsort(owner, stable=True)
    planes, owner, digit, weight = (xp.take(part, order, axis=0) for part in parts)
    return planes, owner, digit, weight


def check_range(array: Array) -> None:
    """Raise a ``ValueError`` that names the first entry that is not from -1 to 1."""
    inside = (array >= -1) & (array <= 1)
    if not bool(backend_of(array).xp.all(inside)):
        place = tuple(int(i) for i in np.argwhere(~to_host(inside))[0])
        raise ValueError(f"x must be binary, ternary or real from -1 to 1, got {array[place]} at {place}")
