"""Media that change in time, computable at any frame number: a stationary process of matrices, and a single step."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Literal

import numpy as np

from photonics.arrays import Array, ComplexArray, IntArray, real_numbers
from photonics.backend import HOST, backend_of
from photonics.component import Field, Integer, Seed, component
from photonics.draws import MAX_TICK
from photonics.medium.base import ScatteringMedium, check_field, check_ticks
from photonics.medium.drift_laws import LAWS, LEVEL, MAX_LEVELS, Law, Names, Weights
from photonics.medium.effects import COPY, DISTURBED, Effect, derived_seed, related_seed
from photonics.medium.stored import Mixture
from photonics.medium.turned import Turned, add_weighed, weigh

__all__ = ["Disturbed", "Drifting"]

MAX_KNOTS, MAX_PARTS = 4, 16
"""Largest number of media that are kept: those with a matrix, those without."""
MIN_STEP = 4.0
"""Smallest distance of the knots, frames, for which the matrix at a knot is computed."""
AGES = 128
"""Steps of a warming medium's age in a frame of the warm one: its changes are right within 1/128 of such a frame."""
FINE = (MAX_LEVELS + 1) * LEVEL
"""Name of the medium from which all fine parts are derived."""


@component(kw_only=False)
class Drifting(Effect):
    """A medium whose transmission matrix drifts: the speckle decorrelates while its statistics stay the same.

    ``T(t) = sum_k c_k(t) T_k``, where T_0 is the medium itself and the other T_k are fresh media. The coefficients are
    real and deterministic, with ``sum c_k^2 = 1`` (so ``E|t_ij|^2`` is constant) and ``c(t) . c(t') = rho(t - t')``.
    The correlation of the field is ``rho``, that of its intensity ``rho^2``. T(0) is the medium itself. Frames can be
    computed in any order.

    Unscattered light does not drift, so put `Ballistic` outside.

    Notes
    -----
    The age of a warming medium is rounded to 1/128 of a frame, which costs 7 more products a frame.

    The medium does not change within an exposure, so tau should be many frames. Speckle that changes during an exposure
    would lose contrast, which is not modelled.

    Exponential law: an Ornstein-Uhlenbeck bridge, each middle from its exact conditional law, from independent matrices
    over 8 tau apart down to single frames. Gaussian law: a moving average of noise at knots tau / 2 apart, under a
    Gaussian window that ends at 2 tau, turned by a Householder reflection so that T(0) is a single matrix; between
    knots tau / 16 apart it is interpolated linearly. ``1 - rho`` is right within 1 % at every lag of whole frames, and
    rho within 0.001. Fields are complex64, so a change under 6e-8 of the field is lost.

    Parts of the exponential law with more than 11 halvings (which move T between knots tau / 256 to tau / 128 apart)
    are derived from one medium whose rows and columns get random phase factors, different for each part. They carry at
    most 0.4 % of the power. They are uncorrelated, but not independent: within a knot's distance, all of them change an
    entry by the same modulus.

    A frame costs up to 13 products of the medium inside and one with a field for each level below the knots, which is
    log2(tau) - 7 (Gaussian: 9 products, and 14 within 4 tau of frame 0). If that medium holds its matrix and knots are
    4 frames apart or more, T is computed at the knots and a frame costs 2 products and the one of several fields (both
    ways agree to rounding). Up to 4 matrices are kept, or 16 parts without a matrix.

    References
    ----------
    D. J. Pine et al., Phys. Rev. Lett. 60, 1134 (1988): field correlation of multiply scattered light. G. E. Uhlenbeck
    and L. S. Ornstein, Phys. Rev. 36, 823 (1930).
    """

    correlation_frames: float = Field(gt=0)
    """tau, the time constant of the *field* in frames: ``correlation_time_s / frame_period_s``, since a medium has no
    access to the clock. It depends on the sample and its mount: milliseconds for living tissue, hours for dry paint."""

    law: Literal["exponential", "gaussian"] = "exponential"
    """``rho(t) = exp(-t / tau)``, scatterers that diffuse (diffusing-wave spectroscopy), or ``exp(-(t / tau)^2)``,
    smooth in time, as in creep and thermal expansion. The intensity's time constants are tau / 2 and tau / sqrt(2)."""

    seed: Seed = 0
    """Seed of the drift."""

    warm_up: float = Field(default=0.0, ge=0, le=1e4)
    """Rate of the drift at frame 0 over that of the warm device, less 1 (0: warm). The rate falls as ``1 + warm_up
    exp(-t / warm_up_frames)``, so the medium is as old as ``t + warm_up warm_up_frames (1 - exp(-t /
    warm_up_frames))`` frames of a warm one. On benches speckle decorrelates until mirrors and mounts are warm, about an
    hour (Popoff et al., J. Phys. Photonics 6, 043001 (2024), section 5.2)."""

    warm_up_frames: float = Field(default=1.2e6, gt=0, le=1e12)
    """Time constant of the warm-up, frames (20 minutes at 1000 frames per second: 5 % is left after an hour)."""

    def __post_init__(self) -> None:
        if self.medium.holds_ballistic:
            raise ValueError("medium must not hold a ballistic share (put Drifting inside Ballistic), got one")

    @cached_property
    def _inside(self) -> ScatteringMedium:
        """The medium inside, with a storage that does not depend on the machine."""
        return self.medium.with_fixed_storage()

    @cached_property
    def _law(self) -> Law:
        return LAWS[self.law](self.correlation_frames * (AGES if self.warm_up else 1))

    @property
    def _sums_matrices(self) -> bool:
        """Whether matrices are computed at the knots."""
        fastest = AGES * (1.0 + self.warm_up) if self.warm_up else 1.0
        return self._inside.holds_matrix and self._law.spacing >= MIN_STEP * fastest

    @cached_property
    def _kept(self) -> OrderedDict[int, ScatteringMedium]:
        """Cached media, least recently used first."""
        return OrderedDict()

    @property
    def _fine(self) -> Turned:
        """Media of the fine parts."""
        return Turned(self._part(FINE), related_seed(self._inside, self.seed, *divmod(FINE, LEVEL)))

    def correlation(self, lag: Array) -> Weights:
        """Correlation of the field over a lag in frames of the warm medium, rho; the intensity's is its square."""
        ratio = np.abs(real_numbers(lag, "lag")) / self.correlation_frames
        return np.exp(-ratio if self.law == "exponential" else -(ratio**2))

    def coefficients(self, ticks: IntArray) -> tuple[Names, Weights]:
        """Media whose weighted sum is T in each frame, and their weights.

        Parameters
        ----------
        ticks : ndarray of int64, shape (batch,)
            Frame numbers.

        Returns
        -------
        names, weights : ndarrays, shape (batch, terms)
            A name denotes the same medium in all frames; 0 is the wrapped one. The squares of a row sum to 1.
        """
        return self._law.coefficients(self._ages(ticks))

    def _ages(self, ticks: IntArray) -> IntArray:
        """Time of the law in each frame: the frame's number, or the age of a warming medium in steps of 1 / `AGES`."""
        if not self.warm_up:
            return ticks
        excess = -np.expm1(-ticks / self.warm_up_frames) * (self.warm_up * self.warm_up_frames)
        ages = AGES * ticks + np.rint(AGES * excess).astype(np.int64)
        if ages.size and ages.max() >= MAX_TICK:
            raise ValueError(
                f"ticks must be below 2**48 / {AGES}, less the warm-up, while it warms up, got {ticks.max()}"
            )
        return ages

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._apply(field, ticks, adjoint=False)

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._apply(field, ticks, adjoint=True)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        coarse, names, weights = self._terms(check_ticks([tick], 1))
        total = np.zeros((len(range(self.shape[0])[rows]), len(range(self.shape[1])[cols])), np.complex64)
        for medium, _, weight in coarse:
            total += weigh(medium.block(rows, cols, tick), np.repeat(weight, len(total)), HOST)
        if weights.any():
            total += self._fine.block(rows, cols, tick, names[0], weights[0])
        return total

    def rows(self, start: int, stop: int) -> ScatteringMedium:  # noqa: D102 (inherited)
        if self.modes > 1:  # the rows of the fine parts are numbered over all modes
            return super().rows(start, stop)
        return replace(self, medium=self._inside.rows(start, stop))

    def fresh(self, seed: int) -> "Drifting":  # noqa: D102 (inherited)
        # The drift takes different random words than the medium; otherwise a drift of drifts would share its media.
        inner = self.medium.fresh(derived_seed(seed, COPY))
        return replace(self, medium=inner, seed=derived_seed(seed, COPY, 1))

    def _apply(self, field: Array, ticks: Array, adjoint: bool) -> Array:
        """Product of each row with T or its conjugate transpose in its frame."""
        n_to, n_from = self.shape[::-1] if adjoint else self.shape
        field = check_field(field, n_from)
        backend = backend_of(field)
        ticks = check_ticks(ticks, field.shape[0])
        order = np.argsort(ticks, kind="stable")
        ordered = bool(np.all(order[1:] > order[:-1]))
        if not ordered:  # in order of time, frames that share a medium are neighbours
            ticks, field = ticks[order], backend.xp.take(field, backend.asarray(order), axis=0)
        out = backend.zeros((field.shape[0], n_to), "complex64")
        coarse, names, weights = self._terms(ticks)
        for medium, frames, weight in coarse:
            product = medium.adjoint if adjoint else medium.propagate
            add_weighed(out[frames, :], product(field[frames, :], ticks[frames]), weight)
        if weights.any():
            out += self._fine.apply(field, ticks, names, weights, adjoint)
        return out if ordered else backend.xp.take(out, backend.asarray(np.argsort(order)), axis=0)

    def _terms(self, ticks: IntArray) -> tuple[Iterator[tuple[ScatteringMedium, slice, Weights]], Names, Weights]:
        """What to add up, always in the same order.

        Returns
        -------
        coarse : iterator of tuples
            Each medium, with the frames that use it and its weight there.
        names, weights : ndarrays, shape (batch, terms)
            The fine parts of each frame.
        """
        if self._sums_matrices:
            names, weights, fine, amounts = self._law.between_knots(self._ages(ticks))
            find = self._knot
        else:
            names, weights = self.coefficients(ticks)
            is_fine, find = (names >= self._law.fine).any(axis=0), self._part
            fine, amounts = names[:, is_fine], weights[:, is_fine]
            names, weights = names[:, ~is_fine], weights[:, ~is_fine]
        return ((find(name), frames, weight) for name, frames, weight in runs(names, weights)), fine, amounts

    def _knot(self, knot: int) -> ScatteringMedium:
        """Medium at a knot, its matrix summed once."""
        if knot == 0:
            return self._inside
        terms = [(np.float32(weight[0]), name) for name, _, weight in runs(*self._law.at_knot(knot))]
        return self._keep(knot, lambda: Mixture(self.shape, partial(make_parts, self._inside, self.seed, terms)))

    def _part(self, name: int) -> ScatteringMedium:
        """Medium of that name."""
        return self._keep(name, lambda: make_part(self._inside, self.seed, name))

    def _keep(self, name: int, make: Callable[[], ScatteringMedium]) -> ScatteringMedium:
        """Return the medium of that name from those kept, or make it and drop the one longest unused."""
        found = self._kept.pop(name, None) or make()
        self._kept[name] = found
        if len(self._kept) > (MAX_KNOTS if self._inside.holds_matrix else MAX_PARTS):
            self._kept.popitem(last=False)
        return found


def make_part(medium: ScatteringMedium, seed: int, name: int) -> ScatteringMedium:
    """Return a component of a drifting medium by name."""
    return medium.fresh(related_seed(medium, seed, *divmod(name, LEVEL))) if name else medium


def make_parts(
    medium: ScatteringMedium, seed: int, terms: list[tuple[np.float32, int]]
) -> Iterator[tuple[np.float32, Array]]:
    """Weights and media of a sum, one at a time, so that their matrices are not all in memory at once."""
    for weight, name in terms:
        yield weight, make_part(medium, seed, name)


def runs(names: Names, weights: Weights) -> Iterator[tuple[int, slice, Weights]]:
    """Each name in ascending order, the frames from its first to its last use, and its weight in them."""
    frame, term = np.nonzero(weights)
    name, weight = names[frame, term], weights[frame, term]
    order = np.argsort(name, kind="stable")
    name, frame, weight = name[order], frame[order], weight[order]
    first = np.flatnonzero(np.diff(name, prepend=-1))
    for start, stop in pairwise([*first, len(name)]):
        frames = slice(int(frame[start]), int(frame[stop - 1]) + 1)
        dense = np.zeros(frames.stop - frames.start)
        dense[frame[start:stop] - frames.start] = weight[start:stop]
        yield int(name[start]), frames, dense


@component(kw_only=False)
class Disturbed(Effect):
    """A medium that somebody touches: from one frame on it is partly another one.

    ``T(t) = T_0`` before the frame, and ``a T_0 + sqrt(1 - a^2) T_1`` from it on, with a fresh medium T_1: the field
    keeps the correlation a, its intensity a^2, and ``E|t_ij|^2`` stays. Several steps are several effects, one inside
    the other. Unscattered light does not change, so put `Ballistic` outside.

    References
    ----------
    J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, section 3.5 (partly correlated speckle).
    """

    frame: Integer = Field(ge=0, le=2**48 - 1)
    """Number of the first frame after the step (it has no default: it is an event, not a property)."""

    correlation: float = Field(ge=0, le=1)
    """a, correlation of the field before and after the step: 1 for a step that changes nothing, 0 for another medium
    (depends on the step)."""

    seed: Seed = 0
    """Seed of the change."""

    def __post_init__(self) -> None:
        if self.medium.holds_ballistic:
            raise ValueError("medium must not hold a ballistic share (put Disturbed inside Ballistic), got one")

    @cached_property
    def _other(self) -> ScatteringMedium:
        """T_1."""
        return self.medium.fresh(related_seed(self.medium, self.seed, DISTURBED))

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._apply(field, ticks, adjoint=False)

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._apply(field, ticks, adjoint=True)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        kept, added = self._amplitudes(check_ticks([tick], 1) >= self.frame)
        block = self.medium.block(rows, cols, tick)
        if not added[0]:
            return block
        return weigh(block, kept, HOST) + weigh(self._other.block(rows, cols, tick), added, HOST)

    def rows(self, start: int, stop: int) -> "Disturbed":  # noqa: D102 (inherited)
        return replace(self, medium=self.medium.rows(start, stop))

    def fresh(self, seed: int) -> "Disturbed":  # noqa: D102 (inherited)
        inner = self.medium.fresh(derived_seed(seed, COPY))
        return Disturbed(inner, self.frame, self.correlation, derived_seed(seed, COPY, 1))

    def _amplitudes(self, after: Array) -> tuple[Array, Array]:
        """Weights of T_0 and T_1 in each frame, float64."""
        added = math.sqrt(1.0 - self.correlation**2)
        return np.where(after, self.correlation, 1.0), np.where(after, added, 0.0)

    def _apply(self, field: Array, ticks: Array, adjoint: bool) -> Array:
        """Product of each row with T or its conjugate transpose in its frame."""
        field = check_field(field, self.shape[0 if adjoint else 1])
        backend, ticks = backend_of(field), check_ticks(ticks, field.shape[0])
        after = ticks >= self.frame
        kept, added = self._amplitudes(after)
        one, other = (m.adjoint if adjoint else m.propagate for m in (self.medium, self._other))
        out, rows = one(field, ticks), np.flatnonzero(added)
        if not rows.size:
            return out
        xp = backend.xp
        more = other(xp.take(field, backend.asarray(rows), axis=0), ticks[rows])
        place = np.maximum(np.cumsum(after) - 1, 0)  # frames before the step take any row, times 0
        more = xp.take(more, backend.asarray(place), axis=0)
        return weigh(out, kept, backend) + weigh(more, added, backend)
