"""Where a loss crosses a limit: the probability of each place, from a few noisy losses.

The loss grows along a line from the best place, 0, to the worst, 1 (for most parameters the logarithm of the value).
The model is a monotone curve through the limit at the unknown place g,

    m(x) = top s(a (x - g) + log(limit / (top - limit))),   s(z) = 1 / (1 + exp(-z)),

with steepness a (from a slope over the whole line to a cliff) and top both unknown. A loss is m(x) plus noise by
Student's t with 4 degrees of freedom (now and then a training collapses) and scale s0 (1 + m / (2 limit)). Losses of a
seed are differences from one reference, the training of that seed without the change, so they share its noise: an
offset with the standard deviation s0, averaged over for each seed. Of a loss above `CAP` limits only this is used:
what lies beyond a cliff does not tell where its edge is. Prior: all g alike, also beyond both ends; all logarithms of
a, top and s0 alike within the values below.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Array = NDArray[np.float64]

__all__ = ["CAP", "Posterior", "posterior"]

CAP = 2.5
"""Largest loss that counts, in limits."""
PLACES = np.linspace(-0.3, 1.3, 161)
STEEPNESS = np.geomspace(2.0, 160.0, 9)
TOPS = np.array([2.0, 5.0, 20.0])
"""Loss far beyond the limit, in limits."""
NOISE = np.geomspace(0.2, 1.6, 4)
"""Scale of the noise, in limits. A few trainings may agree by chance, so less than the first value is not believed."""
OFFSETS, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
"""Offsets of a seed's reference, in standard deviations, and the weight of each."""


@dataclass(frozen=True)
class Posterior:
    """Probability of each of `PLACES`, sum 1."""

    probability: Array = field(repr=False)

    def quantile(self, share: float) -> float:
        """Return the place below which the limit is crossed with this probability."""
        return float(np.interp(share, np.cumsum(self.probability), PLACES))

    def interval(self, level: float) -> tuple[float, float]:
        """Return the central interval of this probability."""
        return self.quantile((1.0 - level) / 2.0), self.quantile((1.0 + level) / 2.0)


def posterior(places: ArrayLike, losses: ArrayLike, seeds: ArrayLike) -> Posterior:
    """Return where the mean loss crosses 1.

    Parameters
    ----------
    places : array_like, shape (n,)
        Places of the trainings, 0 (best) to 1 (worst).
    losses : array_like, shape (n,)
        Losses in limits.
    seeds : array_like, shape (n,)
        Seed of each training, whose losses share a reference.
    """
    order = np.argsort(seeds, kind="stable")
    x, y = np.asarray(places, float)[order], np.minimum(np.asarray(losses, float), CAP)[order]
    starts = np.unique(np.asarray(seeds)[order], return_index=True)[1]
    total = np.full(PLACES.shape, -np.inf)
    for top in TOPS:
        z = STEEPNESS[:, None, None] * (x - PLACES[:, None]) - np.log(top - 1.0)
        mean = top * expit(z)  # steepness, place, training
        for noise in NOISE:
            scale = noise * (1.0 + 0.5 * np.minimum(mean, CAP))
            shared = np.full((*mean.shape[:2], starts.size), -np.inf)
            for offset, weight in zip(OFFSETS * noise, WEIGHTS / WEIGHTS.sum(), strict=True):
                logs = log_probability((y - mean - offset) / scale, scale, y >= CAP)
                shared = np.logaddexp(shared, np.add.reduceat(logs, starts, axis=-1) + np.log(weight))
            total = np.logaddexp(total, np.logaddexp.reduce(shared.sum(-1), axis=0))
    probability = np.exp(total - total.max())
    return Posterior(probability / probability.sum())


def log_probability(t: Array, scale: Array, beyond: NDArray[np.bool_]) -> Array:
    """Return the logarithm of Student's density with 4 degrees of freedom, or of the probability beyond `t`."""
    square = 1.0 + 0.25 * t * t
    root = t / np.sqrt(square)
    above = 0.5 - 0.375 * root * (1.0 - root * root / 12.0)
    return np.where(beyond, np.log(np.maximum(above, 1e-12)), np.log(0.375 / scale) - 2.5 * np.log(square))
