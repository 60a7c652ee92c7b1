"""The two laws of a drift: which media a frame is made of, and how much of each."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import IntArray

__all__ = ["LAWS", "LEVEL", "STEPS", "Names", "Weights", "unit"]

Names: TypeAlias = IntArray
Weights: TypeAlias = NDArray[np.floating[Any]]

LEVEL = 2**52
"""Names of the parts are integers, ``level * LEVEL + position``; part 0 is the wrapped medium itself."""
ROOTS = 8.0
"""Correlation times between independent matrices, exponential law: their correlation is 0 instead of exp(-8)."""
STEPS = {"exponential": 256, "gaussian": 16}
"""Knots in a correlation time."""
REACH = 4
"""Knots of noise on each side of a frame that the Gaussian law averages, half a correlation time apart."""
NEGLIGIBLE = 2.0**-40
"""Weights under this are rounding errors."""


def unit(weights: Weights) -> Weights:
    """Scale each row so that its squares sum to 1; rounding errors of zeros become 0."""
    weights = np.where(np.abs(weights) < NEGLIGIBLE, 0.0, weights)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def exponential(knot: Names, tau: float, step: float) -> tuple[Names, Weights, Weights]:
    """Ornstein-Uhlenbeck bridge: names and weights at each knot and at the next, (n, terms).

    A middle has correlation ``a = exp(-h / tau)`` with both ends, at distance h, which have q with each other: its law
    given them is ``(left + right) a / (1 + q)`` with variance ``1 - 2 a^2 / (1 + q)``. The process is Markov, so the
    correlation between all knots is exact, except that independent roots have q = 0 instead of exp(-8).
    """
    levels = max(math.ceil(math.log2(ROOTS * tau / step)), 0)
    names = np.empty((knot.size, levels + 2), np.int64)
    left, right = np.zeros(names.shape), np.zeros(names.shape)
    left[:, 0] = right[:, 1] = 1.0
    names[:, 0], names[:, 1] = knot >> levels, (knot >> levels) + 1
    start, q = knot >> levels << levels, 0.0
    for level in range(1, levels + 1):
        half = 1 << (levels - level)
        a, middle_at = math.exp(-half * step / tau), start + half
        middle = (left + right) * (a / (1.0 + q))
        middle[:, 1 + level] = math.sqrt(1.0 - 2.0 * a * a / (1.0 + q))
        names[:, 1 + level] = level * LEVEL + middle_at
        after = knot >= middle_at
        left, right = np.where(after[:, None], middle, left), np.where(after[:, None], right, middle)
        start, q = np.where(after, middle_at, start), a
    return names, left, right


def gaussian(knot: Names, tau: float, step: float) -> tuple[Names, Weights, Weights]:
    """Moving average of noise at multiples of tau / 2: names and weights at each knot and at the next, (n, terms).

    The window ``exp(-2 (t / tau)^2)`` has the autocorrelation ``exp(-(t / tau)^2)``. Sampled at tau / 2, its sum
    differs from the integral by 1e-4; lowered so that it ends at 2 tau (and no term appears suddenly), by 4e-4. The
    noise knots around frame 0 are turned by the reflection that maps the weights of frame 0 to a single weight.
    """
    spacing = max(tau, 0.25) / 2.0  # below a quarter of a frame, all frames are independent (exp(-16))
    near = np.arange(1 - REACH, REACH)  # noise knots of frame 0
    mirror = window(near.astype(np.float64))
    mirror /= np.linalg.norm(mirror)
    mirror[near == 0] -= 1.0
    noise = np.floor(knot * (step / spacing)).astype(np.int64)[:, None] + np.arange(1 - REACH, REACH + 2)
    turned = np.abs(noise) < REACH

    def weights(times: Weights) -> Weights:
        raw = window(noise - times[:, None] / spacing)
        fixed = np.where(noise[:, :, None] == near, raw[:, :, None], 0.0).sum(axis=1)
        fixed -= np.outer(fixed @ mirror, 2.0 * mirror / (mirror @ mirror))
        # One frame may be farther than the window is wide. Such a next knot is never used, and its weights may be 0.
        every = np.concatenate([np.where(turned, 0.0, raw), fixed], axis=1)
        return every / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), NEGLIGIBLE)

    names = np.concatenate([noise, np.broadcast_to(near, (knot.size, near.size))], axis=1)
    names = np.where(names < 0, LEVEL - names, names)
    return names, weights(knot * step), weights((knot + 1) * step)


def window(knots: Weights) -> Weights:
    """Gaussian of width tau at distances in units of tau / 2, lowered so that it reaches zero at `REACH`."""
    return np.maximum(np.exp(-0.5 * knots**2) - math.exp(-0.5 * REACH**2), 0.0)


LAWS: dict[str, Callable[[Names, float, float], tuple[Names, Weights, Weights]]] = {
    "exponential": exponential,
    "gaussian": gaussian,
}
