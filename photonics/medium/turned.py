"""Many media from one matrix, by multiplication of its rows and columns by random factors of modulus 1."""

from typing import NamedTuple

import numpy as np

from photonics import draws, random
from photonics.arrays import Array, ComplexArray, IntArray
from photonics.backend import HOST, Backend, backend_of
from photonics.medium.base import ScatteringMedium
from photonics.medium.drift_laws import Names, Weights
from photonics.random import Stream

__all__ = ["Turned"]

ROWS = 2**31
"""Index of the first draw for the rows; draws for the columns have lower indices."""
MAX_VALUES = 2**22
"""Largest number of field values that are multiplied together, unless a single frame has more."""


class Turned(NamedTuple):
    """Media ``R_k T S_k``, one for each name k, with diagonal matrices R_k and S_k.

    The columns of T get random signs and the rows random quarter turns (1, i, -1, -i), functions of ``(seed, name,
    index)``. So the media are uncorrelated, ``E t_ij conj(t'_ij) = 0``, with the same statistics and magnitudes. The
    products of all media are computed by one product of T with several fields.
    """

    medium: ScatteringMedium
    """T."""
    seed: int
    """Key of the factors."""

    def apply(self, field: Array, ticks: IntArray, names: Names, weights: Weights, adjoint: bool) -> Array:
        """``sum_k w_k R_k T S_k x`` for each row of a checked field, or the same with conjugate transposes.

        Parameters
        ----------
        field : array, shape (batch, n)
            Fields of any library.
        ticks : ndarray of int64, shape (batch,)
            Frame numbers, for the medium.
        names, weights : ndarrays, shape (batch, terms)
            The media of each row.
        """
        width, n_from = self.medium.shape[1 if adjoint else 0], field.shape[1]
        out = backend_of(field).empty((field.shape[0], width), "complex64")
        together = max(MAX_VALUES // (names.shape[1] * (n_from + width)), 1)
        for start in range(0, field.shape[0], together):
            part = slice(start, min(start + together, field.shape[0]))
            out[part, :] = self.few(field[part, :], ticks[part], names[part], weights[part], adjoint)
        return out

    def few(self, field: Array, ticks: IntArray, names: Names, weights: Weights, adjoint: bool) -> Array:
        """Do what `apply` does for a few frames at once."""
        backend, (batch, terms) = backend_of(field), names.shape
        xp = backend.xp
        distinct, place = np.unique(names, return_inverse=True)
        signs, turns = (xp.take(f, backend.asarray(place.ravel()), axis=0) for f in self.factors(distinct, backend))
        before, after = (xp.conj(turns), signs) if adjoint else (signs, turns)
        stacked = xp.reshape(field[:, None, :] * xp.reshape(before, (batch, terms, -1)), (batch * terms, -1))
        product = self.medium.adjoint if adjoint else self.medium.propagate
        result = product(stacked, np.repeat(ticks, terms)) * after
        result = xp.reshape(result, (batch, terms, -1))
        total = backend.zeros((batch, result.shape[2]), "complex64")
        for term in range(terms):
            total += weigh(result[:, term, :], weights[:, term], backend)
        return total

    def block(self, rows: slice, cols: slice, tick: int, names: Names, weights: Weights) -> ComplexArray:
        """Dense copy of the sum in one frame: (terms,) names and weights."""
        block = self.medium.block(rows, cols, tick)
        total = np.zeros_like(block)
        signs, turns = self.factors(names, HOST)
        for sign, turn, weight in zip(signs, turns, weights, strict=True):
            total += weigh(block * sign[cols] * turn[rows, None], np.full(len(block), weight), HOST)
        return total

    def factors(self, names: Names, backend: Backend) -> tuple[Array, Array]:
        """Signs of the columns, (terms, n_in) float32, and turns of the rows, (terms, n_out) complex64."""
        xp, (n_out, n_in) = backend.xp, self.medium.shape
        signs = 1.0 - 2.0 * xp.astype(self.bits(names, 0, n_in, backend), xp.float32)
        first = self.medium.first_row
        bits = self.bits(names, ROWS, 2 * (first + n_out), backend)[:, 2 * first :]
        turns = backend.asarray(np.asarray([1, 1j, -1, -1j], np.complex64))
        code = xp.astype(bits[:, 0::2], xp.int64) + 2 * xp.astype(bits[:, 1::2], xp.int64)
        return signs, xp.reshape(xp.take(turns, xp.reshape(code, (-1,))), code.shape)

    def bits(self, names: Names, first: int, count: int, backend: Backend) -> Array:
        """Random bits, (terms, count): 128 from each call of the generator."""
        index, tick = first + np.arange(-(-count // 128))[None, :], names[:, None]
        if backend.on_host:
            words = draws.words(self.seed, Stream.DRIFT_TURN, index, tick).astype("<u4", copy=False)
            return np.unpackbits(words.view(np.uint8).reshape(len(names), -1), axis=1, count=count, bitorder="little")
        xp = backend.xp
        four = random.words(self.seed, Stream.DRIFT_TURN, backend.asarray(index), backend.asarray(tick))
        place = xp.arange(32, dtype=random.word_type(xp), device=backend.device)
        bits = xp.bitwise_right_shift(xp.stack(four, axis=-1)[..., None], place) & 1
        return xp.reshape(bits, (len(names), -1))[:, :count]


def weigh(values: Array, weight: Weights, backend: Backend) -> Array:
    """Multiply each row by its weight, in double precision: weights change by less than 6e-8 between frames."""
    xp = backend.xp
    return xp.astype(values * backend.asarray(weight[:, None]), xp.complex64, copy=False)
