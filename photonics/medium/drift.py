"""A medium that changes in time: a stationary process of transmission matrices, known at any frame number."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from itertools import pairwise
from typing import Literal

import numpy as np

from photonics.arrays import Array, ComplexArray, FloatArray, IntArray
from photonics.backend import backend_of
from photonics.component import Field, Integer, component
from photonics.draws import MAX_TICK
from photonics.medium.base import ScatteringMedium, check_field
from photonics.medium.drift_laws import LAWS, LEVEL, STEPS, Names, Weights, unit
from photonics.medium.effects import COPY, Effect, derived_seed, related_seed
from photonics.medium.stored import Mixture

__all__ = ["Drifting"]

MAX_KNOTS, MAX_PARTS = 4, 16
"""Largest number of media that are kept: those with a matrix, those without."""
MIN_STEP = 4.0
"""Smallest distance of the knots, frames, for which the matrix at a knot is computed."""


@component(kw_only=False)
class Drifting(Effect):
    """A medium whose transmission matrix drifts: the speckle decorrelates while its statistics stay the same.

    ``T(t) = sum_k c_k(t) T_k``, where T_0 is the medium itself and the other T_k are fresh media. The coefficients are
    real and fixed, with ``sum c_k^2 = 1`` (so ``E|t_ij|^2`` is constant) and ``c(t) . c(t') = rho(t - t')``. The
    correlation of the field is ``rho``, that of its intensity ``rho^2``. T(0) is the medium itself. Frames can be
    computed in any order.

    Unscattered light does not drift, so `Ballistic` goes outside.

    Notes
    -----
    The medium does not change within an exposure, so tau should be many frames. Speckle that changes during an exposure
    would lose contrast, which is not modelled.

    The coefficients are known at knots tau / 256 (Gaussian law: tau / 16) apart, or at every frame if that is less.
    They are interpolated linearly in between and divided by the norm. Exponential law: an Ornstein-Uhlenbeck bridge,
    each middle from its exact conditional law, between independent matrices 8 tau apart. Gaussian law: a moving average
    of noise at knots tau / 2 apart, under a Gaussian window that ends at 2 tau, turned by a Householder reflection so
    that T(0) is a single matrix. Largest error of the correlation, over all pairs of frames up to 2**40 (a year at
    35 kHz; beyond, times lose digits): 0.002 (exponential), 0.001 (Gaussian).

    A frame costs up to 13 products of the medium inside (Gaussian: 9, and 14 within 4 tau of frame 0). If that medium
    holds its matrix and knots are 4 frames apart or more, T is computed at the knots and a frame costs 2 products (both
    ways agree to rounding). Up to 4 matrices are kept, or 16 parts without a matrix.

    References
    ----------
    D. J. Pine et al., Phys. Rev. Lett. 60, 1134 (1988): field correlation of multiply scattered light. G. E. Uhlenbeck
    and L. S. Ornstein, Phys. Rev. 36, 823 (1930).
    """

    correlation_frames: float = Field(gt=0)
    """tau, the time constant of the *field* in frames: ``correlation_time_s / frame_period_s``, since a medium does not
    know the clock. It belongs to a sample and its mount: milliseconds for living tissue, hours for dry paint."""

    law: Literal["exponential", "gaussian"] = "exponential"
    """``rho(t) = exp(-t / tau)``, scatterers that diffuse (diffusing-wave spectroscopy), or ``exp(-(t / tau)^2)``,
    smooth in time, as in creep and thermal expansion. The intensity's time constants are tau / 2 and tau / sqrt(2)."""

    seed: Integer = Field(default=0, ge=0, lt=2**64)
    """Which drift it is."""

    def __post_init__(self) -> None:
        if self.medium.holds_ballistic:
            raise ValueError("medium must not hold a ballistic share (put Drifting inside Ballistic), got one")

    @cached_property
    def _step(self) -> float:
        """Distance of the knots, frames."""
        return max(self.correlation_frames / STEPS[self.law], 1.0)

    @cached_property
    def _kept(self) -> OrderedDict[int, ScatteringMedium]:
        """Media in use, the one longest unused first."""
        return OrderedDict()

    def correlation(self, lag: Array) -> Weights:
        """Correlation of the field over a lag in frames, rho; the intensity's is its square."""
        ratio = np.abs(np.asarray(lag, np.float64)) / self.correlation_frames
        return np.exp(-ratio if self.law == "exponential" else -(ratio**2))

    def coefficients(self, ticks: IntArray) -> tuple[Names, Weights]:
        """Media that T is made of in each frame, and their weights.

        Parameters
        ----------
        ticks : ndarray of int64, shape (batch,)
            Frame numbers.

        Returns
        -------
        names, weights : ndarrays, shape (batch, terms)
            A name stands for the same medium in all frames; 0 is the wrapped one. Squares of a row sum to 1.
        """
        names, left, right, place = self._cell(ticks)
        return names, unit((1.0 - place) * left + place * right)

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._apply(field, ticks, adjoint=False)

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._apply(field, ticks, adjoint=True)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        blocks = (
            weight[0] * medium.block(rows, cols, tick) for medium, _, weight in self._terms(check_ticks([tick], 1))
        )
        return sum(blocks, np.zeros((), np.complex64))

    def fresh(self, seed: int) -> "Drifting":  # noqa: D102 (inherited)
        # The drift takes other words than the medium, otherwise a drift of drifts would share its media.
        inner = self.medium.fresh(derived_seed(seed, COPY))
        return Drifting(inner, self.correlation_frames, self.law, derived_seed(seed, COPY, 1))

    def _apply(self, field: Array, ticks: Array, adjoint: bool) -> Array:
        """Product of each row with T or its conjugate transpose in its frame."""
        n_to, n_from = self.shape[::-1] if adjoint else self.shape
        field = check_field(field, n_from)
        backend = backend_of(field)
        ticks = check_ticks(ticks, field.shape[0])
        order = np.argsort(ticks, kind="stable")
        ordered = bool(np.all(order[1:] > order[:-1]))
        if not ordered:  # in order of time, the frames that share a medium are neighbours
            ticks, field = ticks[order], backend.xp.take(field, backend.asarray(order), axis=0)
        out = backend.zeros((field.shape[0], n_to), "complex64")
        for medium, frames, weight in self._terms(ticks):
            product = medium.adjoint if adjoint else medium.propagate
            out[frames, :] += product(field[frames, :], ticks[frames]) * backend.asarray(weight[:, None])
        return out if ordered else backend.xp.take(out, backend.asarray(np.argsort(order)), axis=0)

    def _terms(self, ticks: IntArray) -> Iterator[tuple[ScatteringMedium, slice, FloatArray]]:
        """Media to add up, each with the frames that use it and its weight there, always in the same order."""
        if self.medium.holds_matrix and self._step >= MIN_STEP:
            names, weights, find = *self._knots(ticks), self._knot
        else:
            names, weights, find = *self.coefficients(ticks), self._part
        for name, frames, weight in runs(names, weights):
            yield find(name), frames, weight

    def _cell(self, ticks: IntArray) -> tuple[Names, Weights, Weights, Weights]:
        """Names, weights at the knots before and after each frame, and its place between them, 0 to 1: (batch, 1)."""
        knot = np.floor(ticks / self._step).astype(np.int64)
        place = ticks / self._step - knot
        return *LAWS[self.law](knot, self.correlation_frames, self._step), place[:, None]

    def _knots(self, ticks: IntArray) -> tuple[Names, Weights]:
        """Knots around each frame and their weights, (batch, 2)."""
        _, left, right, place = self._cell(ticks)
        norm = np.linalg.norm((1.0 - place) * left + place * right, axis=1, keepdims=True)
        knot = np.floor(ticks / self._step).astype(np.int64)
        return knot[:, None] + np.arange(2), np.concatenate([1.0 - place, place], axis=1) / norm

    def _knot(self, knot: int) -> ScatteringMedium:
        """Medium at a knot, its matrix summed once."""
        if knot == 0:
            return self.medium
        names, weights, _ = LAWS[self.law](np.asarray([knot]), self.correlation_frames, self._step)
        terms = [(weight[0], name) for name, _, weight in runs(names, unit(weights))]
        return self._keep(knot, lambda: Mixture(self.shape, partial(make_parts, self.medium, self.seed, terms)))

    def _part(self, name: int) -> ScatteringMedium:
        """Medium of that name."""
        return self._keep(name, lambda: make_part(self.medium, self.seed, name))

    def _keep(self, name: int, make: Callable[[], ScatteringMedium]) -> ScatteringMedium:
        """Return the medium of that name from those kept, or make it and drop the one longest unused."""
        found = self._kept.pop(name, None) or make()
        self._kept[name] = found
        if len(self._kept) > (MAX_KNOTS if self.medium.holds_matrix else MAX_PARTS):
            self._kept.popitem(last=False)
        return found


def make_part(medium: ScatteringMedium, seed: int, name: int) -> ScatteringMedium:
    """Return the medium of that name among those that a drifting medium is made of."""
    return medium.fresh(related_seed(medium, seed, *divmod(name, LEVEL))) if name else medium


def make_parts(
    medium: ScatteringMedium, seed: int, terms: list[tuple[np.float32, int]]
) -> Iterator[tuple[np.float32, Array]]:
    """Weights and media of a sum, one at a time, so that their matrices are not all in memory at once."""
    for weight, name in terms:
        yield weight, make_part(medium, seed, name)


def check_ticks(ticks: Array, batch: int) -> IntArray:
    """Return frame numbers as int64 of shape (batch,), 0 by default.

    Raises
    ------
    ValueError
        If they are not integers, of another shape or out of range.
    """
    if ticks is None:
        return np.zeros(batch, np.int64)
    array = np.asarray(ticks)
    if array.shape != (batch,) or (batch and array.dtype.kind not in "iu"):
        raise ValueError(f"ticks must be integers of shape ({batch},), got {array.dtype} of shape {array.shape}")
    if batch and not (array.min() >= 0 and array.max() < MAX_TICK):
        raise ValueError(f"ticks must be from 0 to 2**48 - 1, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def runs(names: Names, weights: Weights) -> Iterator[tuple[int, slice, FloatArray]]:
    """Each name in ascending order, the frames from its first to its last use, and its weight in them."""
    frame, term = np.nonzero(weights)
    name, weight = names[frame, term], weights[frame, term]
    order = np.argsort(name, kind="stable")
    name, frame, weight = name[order], frame[order], weight[order]
    first = np.flatnonzero(np.diff(name, prepend=-1))
    for start, stop in pairwise([*first, len(name)]):
        frames = slice(int(frame[start]), int(frame[stop - 1]) + 1)
        dense = np.zeros(frames.stop - frames.start, np.float32)
        dense[frame[start:stop] - frames.start] = weight[start:stop]
        yield int(name[start]), frames, dense
