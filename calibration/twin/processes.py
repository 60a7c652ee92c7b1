"""White noise and an Ornstein-Uhlenbeck drift in a series of any spacing: a posterior on a grid, by a Kalman filter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.parameter import CannotTell
from photonics.arrays import Shapes

__all__ = ["Series", "fit_process"]

GRID = 22
"""Points of the grid along each of the three axes."""
EDGE = 0.03
"""Largest density at an end of the range, relative to its maximum, at which a parameter is known."""
MAX_LOG_ERROR = 0.5
"""Largest standard error of a logarithm with which a parameter is known."""
WIDE = 6.0
"""Drop of the log-likelihood inside which the finer grid lies."""

Axis = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Series(Shapes):
    """Values at some times, with what is known of their noise."""

    times_s: Axis
    """Times, rising, seconds: (n,)."""
    values: Axis
    """Values: (n,)."""
    variance: Axis
    """Known variance of each value: (n,)."""
    known_rms: float = 0.0
    """Rms of a second drift that is known."""
    known_time_s: float = 1.0
    """Correlation time of the known drift, seconds."""


@dataclass(frozen=True, eq=False, repr=False)
class Process(Shapes):
    """Posterior of white rms, rate and time of the drift on a grid, in logarithms; the rate is rms^2 over time."""

    white: Axis
    rate: Axis
    time: Axis
    weight: NDArray[np.float64]
    """Posterior, (GRID, GRID, GRID), with the largest value 1."""

    def estimate(self, kind: str) -> Estimate:
        """Value and error of "white", "drift", "time" or "rate" (drift rms squared over its time).

        Raises
        ------
        CannotTell
            If the series does not bound it on both sides.
        """
        w, r, t = np.meshgrid(self.white, self.rate, self.time, indexing="ij")
        values = {"white": w, "drift": (r + t) / 2.0, "time": t, "rate": r}[kind]
        total = self.weight.sum()
        centre = float((values * self.weight).sum() / total)
        spread = float(np.sqrt(((values - centre) ** 2 * self.weight).sum() / total))
        for axis in {"white": (0,), "rate": (1,), "time": (1, 2), "drift": (1, 2)}[kind]:
            density = self.weight.sum(axis=tuple({0, 1, 2} - {axis}))
            if density[0] > EDGE * density.max():
                most = float(np.exp(centre + 2.0 * spread))
                raise CannotTell(f"the frames only bound it from above: at most {most:.2g}", most=most)
            if density[-1] > EDGE * density.max():
                least = float(np.exp(centre - 2.0 * spread))
                raise CannotTell(f"the record is too short: at least {least:.2g}", least=least)
        if spread > MAX_LOG_ERROR:
            raise CannotTell(f"the frames leave it open by a factor of {np.exp(spread):.2g}")
        return Estimate(float(np.exp(centre)), float(np.exp(centre) * spread))


def fit_process(series: Series) -> Process:
    """Posterior with a flat prior in the logarithms; a second grid covers the part where the first one is not empty.

    Raises
    ------
    CannotTell
        If there are fewer than 32 values.
    """
    if len(series.values) < 32:
        raise CannotTell(f"there are {len(series.values)} values of the series, 32 are needed")
    sd = max(float(np.std(series.values)), 1e-9)
    step, span = float(np.diff(series.times_s).min()), float(np.ptp(series.times_s))
    axes = [
        np.linspace(np.log(sd) - 7.0, np.log(sd) + 1.0, GRID),
        np.linspace(np.log(sd**2 / span) - 7.0, np.log(sd**2 / step) + 2.0, GRID),
        np.linspace(np.log(10.0 * step), np.log(30.0 * span), GRID),
    ]
    first = likelihood(series, axes)
    finer = [narrow(first, axis, number) for number, axis in enumerate(axes)]
    found = likelihood(series, finer)
    return Process(*finer, weight=np.exp(found - found.max()))


def narrow(log_likelihood: NDArray[np.float64], axis: Axis, number: int) -> Axis:
    """Part of an axis where the profile is within `WIDE` of its maximum, one step wider on both sides."""
    profile = log_likelihood.max(axis=tuple({0, 1, 2} - {number}))
    inside = np.flatnonzero(profile > profile.max() - WIDE)
    low, high = max(inside[0] - 1, 0), min(inside[-1] + 1, GRID - 1)
    return np.linspace(axis[low], axis[high], GRID)


def likelihood(series: Series, axes: list[Axis]) -> NDArray[np.float64]:
    """Log-likelihood on a grid of log white rms, log rate, log drift time, with an unknown mean: (GRID,) * 3.

    A Kalman filter of two states, the drift and the known drift, runs for all points at once. It filters the values and
    a series of ones together; their innovations give the mean by generalised least squares.
    """
    w, rate, t = (np.exp(a).reshape(-1) for a in np.meshgrid(*axes, indexing="ij"))
    white, drift = w**2, rate * t
    known = series.known_rms**2
    state = np.zeros((4, len(w)))  # drift and known drift, of the values and of the ones
    p, q, r = drift.copy(), np.zeros(len(w)), np.full(len(w), known)  # their covariance [[p, q], [q, r]]
    sums = np.zeros((4, len(w)))  # of v^2 / f, u v / f, u^2 / f, ln f
    gaps = np.diff(series.times_s, prepend=series.times_s[0])
    for gap, value, variance in zip(gaps, series.values, series.variance, strict=True):
        if gap > 0.0:
            keep, keep_known = np.exp(-gap / t), np.exp(-gap / series.known_time_s)
            state[0::2] *= keep
            state[1::2] *= keep_known
            p, q = keep**2 * p - np.expm1(-2.0 * gap / t) * drift, keep * keep_known * q
            r = keep_known**2 * r - np.expm1(-2.0 * gap / series.known_time_s) * known
        first, second = p + q, q + r
        f = first + second + white + variance
        v, u = value - state[0] - state[1], 1.0 - state[2] - state[3]
        first_gain, second_gain = first / f, second / f
        state += np.stack([first_gain * v, second_gain * v, first_gain * u, second_gain * u])
        p, q, r = p - first_gain * first, q - first_gain * second, r - second_gain * second
        sums += np.stack([v * v / f, u * v / f, u * u / f, np.log(f)])
    quadratic = sums[0] - sums[1] ** 2 / sums[2]
    return (-0.5 * (quadratic + sums[3] + np.log(sums[2]))).reshape((GRID,) * 3)
