"""The two laws of a drift: the media that compose a frame, and their weights."""

import math
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import IntArray, RealArray

__all__ = ["LAWS", "LEVEL", "Exponential", "Gaussian", "Law", "Names", "Weights"]

Names: TypeAlias = IntArray
Weights: TypeAlias = NDArray[np.float64]

LEVEL = 2**52
"""Names of the parts are integers, ``level * LEVEL + position``; part 0 is the wrapped medium itself."""
ROOTS = 3
"""Exponential law: independent matrices are 2**3 correlation times apart; their correlation is 0, not exp(-8)."""
MAX_LEVELS = 48
"""Largest number of levels between two roots; frame numbers are below 2**48."""
COARSE = 11
"""Levels from the roots to the knots, which are then tau / 256 to tau / 128 apart."""
STEPS = 16
"""Gaussian law: number of knots per correlation time."""
REACH = 4
"""Knots of noise on each side of a frame that the Gaussian law averages, half a correlation time apart."""
NEGLIGIBLE = 2.0**-40
"""Weights below this are rounding errors."""


class Law(Protocol):
    """A stationary process of unit vectors ``c(t)``, with ``c(t) . c(t')`` a function of the lag."""

    def __init__(self, tau: float) -> None: ...

    @property
    def spacing(self) -> float:
        """Distance of the knots, frames."""
        ...

    @property
    def fine(self) -> int:
        """Smallest name of the parts between two knots."""
        ...

    def coefficients(self, ticks: IntArray) -> tuple[Names, Weights]:
        """Names of the parts of each frame and their weights, (batch, terms)."""
        ...

    def at_knot(self, knot: int) -> tuple[Names, Weights]:
        """Names and weights of the parts at a knot, (1, terms)."""
        ...

    def between_knots(self, ticks: IntArray) -> tuple[Names, Weights, Names, Weights]:
        """Numbers of the two knots around each frame, their weights, and names and weights of the fine parts."""
        ...


class Exponential(NamedTuple):
    """Ornstein-Uhlenbeck bridge, ``exp(-t / tau)`` at every lag of whole frames.

    A tree halves the distance between independent matrices, the roots, down to single frames. A middle has correlation
    ``a = exp(-h / tau)`` with both ends, at distance h, which have q with each other. Given these ends it is ``(left +
    right) a / (1 + q)`` plus an independent part of variance ``1 - 2 a^2 / (1 + q)``. The process is Markov, so all
    correlations are exact, except that roots have q = 0 instead of exp(-8).
    """

    tau: float

    @property
    def levels(self) -> int:
        """Levels between two roots, which are ``2**levels`` frames apart."""
        return min(max(math.ceil(math.log2(self.tau)) + ROOTS, 0), MAX_LEVELS)

    @property
    def below(self) -> int:
        """Levels between two knots."""
        return max(self.levels - COARSE, 0)

    @property
    def spacing(self) -> float:  # noqa: D102 (inherited)
        return float(2**self.below)

    @property
    def fine(self) -> int:  # noqa: D102 (inherited)
        return (self.levels - self.below + 1) * LEVEL

    def coefficients(self, ticks: IntArray) -> tuple[Names, Weights]:  # noqa: D102 (inherited)
        # With the largest number of levels, all frames lie between the first two roots.
        q = math.exp(-(2.0**self.levels) / self.tau) if self.levels == MAX_LEVELS else 0.0
        names, weights = self.bridge(ticks, self.levels, q)
        weights[:, 0] += q * weights[:, 1]
        weights[:, 1] *= math.sqrt(1.0 - q * q)
        return names, unit(weights)

    def at_knot(self, knot: int) -> tuple[Names, Weights]:  # noqa: D102 (inherited)
        return self.coefficients(np.asarray([knot << self.below]))

    def between_knots(self, ticks: IntArray) -> tuple[Names, Weights, Names, Weights]:  # noqa: D102 (inherited)
        names, weights = self.bridge(ticks, self.below, math.exp(-self.spacing / self.tau))
        return names[:, :2], weights[:, :2], names[:, 2:], weights[:, 2:]

    def bridge(self, ticks: IntArray, levels: int, q: float) -> tuple[Names, Weights]:
        """Ends of the interval of ``2**levels`` frames around each frame, parts of the levels inside, and all weights.

        The ends are numbered by their interval and have correlation `q`.
        """
        names, first = np.empty((ticks.size, levels + 2), np.int64), self.levels - levels
        left, right = np.zeros(names.shape), np.zeros(names.shape)
        left[:, 0] = right[:, 1] = 1.0
        names[:, 0], names[:, 1] = ticks >> levels, (ticks >> levels) + 1
        start = ticks >> levels << levels
        for level in range(1, levels + 1):
            half = 1 << (levels - level)
            middle_at, a2 = start + half, math.exp(-2.0 * half / self.tau)
            middle = (left + right) * (math.sqrt(a2) / (1.0 + q))
            # 1 + q - 2 a^2 without the cancellation: q is a^2, except between roots.
            middle[:, 1 + level] = math.sqrt((-math.expm1(-2.0 * half / self.tau) + (q - a2)) / (1.0 + q))
            names[:, 1 + level] = (first + level) * LEVEL + middle_at
            after = ticks >= middle_at
            left, right = np.where(after[:, None], middle, left), np.where(after[:, None], right, middle)
            start, q = np.where(after, middle_at, start), math.exp(-half / self.tau)
        return names, left


class Gaussian(NamedTuple):
    """Moving average of noise at multiples of tau / 2, ``exp(-(t / tau)^2)``.

    The window ``exp(-2 (t / tau)^2)`` has the autocorrelation ``exp(-(t / tau)^2)``. Sampled at tau / 2, its sum
    differs from the integral by 1e-4; lowered so that it ends at 2 tau (and no term appears suddenly), by 4e-4. The
    noise knots around frame 0 are turned by the reflection that maps the weights of frame 0 to a single weight. The
    process is smooth, so linear interpolation between knots tau / 16 apart, divided by the norm, is enough.
    """

    tau: float

    @property
    def spacing(self) -> float:  # noqa: D102 (inherited)
        return max(self.tau / STEPS, 1.0)

    @property
    def fine(self) -> int:  # noqa: D102 (inherited)
        return 2 * LEVEL  # there are none

    def coefficients(self, ticks: IntArray) -> tuple[Names, Weights]:  # noqa: D102 (inherited)
        names, left, right, place = self.cell(ticks)
        return names, unit((1.0 - place) * left + place * right)

    def at_knot(self, knot: int) -> tuple[Names, Weights]:  # noqa: D102 (inherited)
        names, weights, _ = self.around(np.asarray([knot]))
        return names, unit(weights)

    def between_knots(self, ticks: IntArray) -> tuple[Names, Weights, Names, Weights]:  # noqa: D102 (inherited)
        _, left, right, place = self.cell(ticks)
        norm = np.linalg.norm((1.0 - place) * left + place * right, axis=1, keepdims=True)
        knots = np.floor(ticks / self.spacing).astype(np.int64)[:, None] + np.arange(2)
        none = np.zeros((ticks.size, 0))
        return knots, np.concatenate([1.0 - place, place], axis=1) / norm, none.astype(np.int64), none

    def cell(self, ticks: IntArray) -> tuple[Names, Weights, Weights, Weights]:
        """Names, weights at the knots around each frame, and its position between these, 0 to 1: (batch, 1)."""
        knot = np.floor(ticks / self.spacing).astype(np.int64)
        return *self.around(knot), (ticks / self.spacing - knot)[:, None]

    def around(self, knot: IntArray) -> tuple[Names, Weights, Weights]:
        """Names and weights at each knot and at the next one, (n, terms)."""
        spacing = max(self.tau, 0.25) / 2.0  # below a quarter of a frame, all frames are independent (exp(-16))
        near = np.arange(1 - REACH, REACH)  # noise knots of frame 0
        mirror = window(near.astype(np.float64))
        mirror /= np.linalg.norm(mirror)
        mirror[near == 0] -= 1.0
        noise = np.floor(knot * (self.spacing / spacing)).astype(np.int64)[:, None] + np.arange(1 - REACH, REACH + 2)
        turned = np.abs(noise) < REACH

        def weights(times: RealArray) -> Weights:
            raw = window(noise - times[:, None] / spacing)
            fixed = np.where(noise[:, :, None] == near, raw[:, :, None], 0.0).sum(axis=1)
            fixed -= np.outer(fixed @ mirror, 2.0 * mirror / (mirror @ mirror))
            # A frame interval may exceed the window. The next knot is then never used, and its weights may be 0.
            every = np.concatenate([np.where(turned, 0.0, raw), fixed], axis=1)
            return every / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), NEGLIGIBLE)

        names = np.concatenate([noise, np.broadcast_to(near, (knot.size, near.size))], axis=1)
        names = np.where(names < 0, LEVEL - names, names)
        return names, weights(knot * self.spacing), weights((knot + 1) * self.spacing)


def window(knots: RealArray) -> RealArray:
    """Gaussian of width tau at distances in units of tau / 2, lowered so that it reaches zero at `REACH`."""
    return np.maximum(np.exp(-0.5 * knots**2) - math.exp(-0.5 * REACH**2), 0.0)


def unit(weights: RealArray) -> Weights:
    """Scale each row so that its squares sum to 1; rounding errors of zeros become 0."""
    weights = np.where(np.abs(weights) < NEGLIGIBLE, 0.0, weights)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


LAWS: dict[str, type[Law]] = {"exponential": Exponential, "gaussian": Gaussian}
