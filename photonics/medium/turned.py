"""Many media from one matrix, by multiplication of its rows and columns by random factors of modulus 1."""

from typing import NamedTuple

import numpy as np

from photonics import draws, kernels, random
from photonics.arrays import Array, ComplexArray, FloatArray, IntArray
from photonics.backend import HOST, Backend, backend_of
from photonics.medium.base import ScatteringMedium
from photonics.medium.drift_laws import Names, Weights
from photonics.random import Stream

__all__ = ["Turned"]

ROWS = 2**31
"""Index of the first draw for the rows; draws for the columns have lower indices."""
POWERS = np.asarray([1, 1j, -1, -1j], np.complex64)
"""Powers of i."""
MAX_VALUES = 2**18
"""Largest number of field values that are multiplied together on the host, so that they stay in its cache, unless a
single frame has more; on another device 16 times as many."""


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
        backend = backend_of(field)
        width, n_from = self.medium.shape[1 if adjoint else 0], field.shape[1]
        out = backend.empty((field.shape[0], width), "complex64")
        most = MAX_VALUES if backend.on_host else 16 * MAX_VALUES
        together = max(most // (names.shape[1] * (n_from + width)), 1)
        for start in range(0, field.shape[0], together):
            part = slice(start, min(start + together, field.shape[0]))
            out[part, :] = self.few(field[part, :], ticks[part], names[part], weights[part], adjoint)
        return out

    def few(self, field: Array, ticks: IntArray, names: Names, weights: Weights, adjoint: bool) -> Array:
        """Do what `apply` does for a few frames at once."""
        backend, (batch, terms) = backend_of(field), names.shape
        distinct, place = np.unique(names, return_inverse=True)
        place = place.reshape(names.shape)
        columns, rows = self.turns(distinct, backend)
        before, after = (-rows & 3, columns) if adjoint else (columns, rows)
        product = self.medium.adjoint if adjoint else self.medium.propagate
        result = product(turned(field, before, place, halves=not adjoint), np.repeat(ticks, terms))
        total = backend.zeros((batch, result.shape[1]), "complex64")
        add_turned(total, result, after, place, weights)
        return total

    def block(self, rows: slice, cols: slice, tick: int, names: Names, weights: Weights) -> ComplexArray:
        """Dense copy of the sum in one frame: (terms,) names and weights."""
        block = self.medium.block(rows, cols, tick)
        total = np.zeros_like(block)
        for column, row, weight in zip(*self.turns(names, HOST), weights, strict=True):
            total += weigh(block * POWERS[column[cols]] * POWERS[row[rows, None]], np.full(len(block), weight), HOST)
        return total

    def turns(self, names: Names, backend: Backend) -> tuple[Array, Array]:
        """Quarter turns, 0 to 3, of the columns, (terms, n_in), which are 0 or 2, and of the rows, (terms, n_out)."""
        (n_out, n_in), first = self.medium.shape, self.medium.first_row
        bits = self.bits(names, ROWS, 2 * (first + n_out), backend)[:, 2 * first :]
        return 2 * self.bits(names, 0, n_in, backend), bits[:, 0::2] + 2 * bits[:, 1::2]

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


def turned(field: Array, turns: Array, place: IntArray, halves: bool) -> Array:
    """Turn field f by the turns number ``place[f, t]``: (batch * terms, n). Half turns leave real fields real."""
    backend = backend_of(field)
    xp, shape = backend.xp, (place.size, field.shape[1])
    if not backend.on_host:
        return xp.reshape(field[:, None, :] * powers(turns, place, halves, backend), shape)
    real = halves and field.dtype == np.float32
    out = np.empty(shape, np.float32 if real else np.complex64)
    loop = kernels.turns.flip if real else kernels.turns.turn
    loop(floats(field.astype(out.dtype, copy=False)), turns, place, floats(out).reshape(*place.shape, -1))
    return out


def add_turned(total: Array, values: Array, turns: Array, place: IntArray, weights: Weights) -> None:
    """Add ``sum_t weights[f, t] * values[f, t]``, turned by the turns number ``place[f, t]``, to row f of `total`."""
    backend = backend_of(total)
    if backend.on_host:
        parts = floats(values).reshape(*place.shape, -1)
        kernels.turns.add_turned(parts, turns, place, np.ascontiguousarray(weights), total.view(np.float32))
        return
    result = backend.xp.reshape(values, (*place.shape, -1)) * powers(turns, place, False, backend)
    for term in range(place.shape[1]):
        add_weighed(total, result[:, term, :], weights[:, term])


def add_weighed(total: Array, values: Array, weight: Weights) -> None:
    """Add each row of `values`, times its weight, to `total`."""
    backend = backend_of(total)
    if backend.on_host:
        kernels.turns.add_weighed(floats(values), np.ascontiguousarray(weight), total.view(np.float32))
    else:
        total += weigh(values, weight, backend)


def powers(turns: Array, place: IntArray, halves: bool, backend: Backend) -> Array:
    """``i**turns`` of each frame and term, (batch, terms, n); real ones if all are half turns."""
    xp = backend.xp
    if halves:
        factors = 1.0 - xp.astype(turns, xp.float32)
    else:
        flat = xp.reshape(xp.astype(turns, xp.int64), (-1,))
        factors = xp.reshape(xp.take(backend.asarray(POWERS), flat), turns.shape)
    return xp.reshape(xp.take(factors, backend.asarray(place.ravel()), axis=0), (*place.shape, -1))


def floats(values: Array) -> FloatArray:
    """View an array of the host as floats; real and imaginary parts alternate."""
    return np.ascontiguousarray(values).view(np.float32)


def weigh(values: Array, weight: Weights, backend: Backend) -> Array:
    """Multiply each row by its weight, in double precision: weights change by less than 6e-8 between frames."""
    xp = backend.xp
    return xp.astype(values * backend.asarray(weight[:, None]), xp.complex64, copy=False)
