"""Dark current from the mean of dark frames, whose levels are corrected for rounding to codes."""

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import HIDDEN, Estimate
from photonics.parts.camera import QUANTISATION

__all__ = ["dark_current", "level_before_rounding"]

MIN_CODE_NOISE_DN = 0.28
"""Smallest noise, temporal and over pixels, from which the level of readings is known better than to a code, DN."""


def dark_current(series: list[tuple[float, NDArray[np.float64]]], gain: Estimate) -> Estimate:
    """Fit the dark current to the mean of dark frames against exposure.

    Exposures with a noise under `MIN_CODE_NOISE_DN` are left out; the current is hidden if fewer than three are left.
    """
    times = np.array([time for time, _ in series])
    means = np.array([level_before_rounding(float(f.mean()), float(f.var())) for _, f in series])
    errors = np.array([np.sqrt((f[0] - f[1]).var() / 4.0 + QUANTISATION) / np.sqrt(f.shape[1]) for _, f in series])
    known = np.isfinite(means)
    if known.sum() < 3:
        return HIDDEN
    line, covariance = np.polyfit(times[known], means[known], 1, w=1.0 / errors[known], cov="unscaled")
    value, error = line[0] / gain.value, np.sqrt(covariance[0, 0]) / gain.value
    return Estimate(float(value), float(np.hypot(error, value * gain.error / gain.value)))


def level_before_rounding(mean: float, variance: float) -> float:
    """Mean level of normal readings before they were rounded to whole codes, DN.

    Rounding moves the mean of readings with the noise s by ``-sin(2 pi x) exp(-2 pi^2 s^2) / pi``, x the level: by up
    to 0.05 DN at a noise of 0.3 DN. It adds to their variance
    ``1/12 - cos(2 pi x) exp(-2 pi^2 s^2) (1/pi^2 + 4 s^2)``, less the square of the shift.

    Parameters
    ----------
    mean, variance : float
        Mean and variance of the codes, over frames and pixels: the readings of all pixels together are nearly normal.

    Returns
    -------
    float
        NaN if the noise is under `MIN_CODE_NOISE_DN`: many levels then give the same codes.
    """
    level, noise = mean, variance - QUANTISATION
    for _ in range(100):
        size = np.exp(-2.0 * np.pi**2 * max(noise, 0.0))
        shift = -np.sin(2.0 * np.pi * level) * size / np.pi
        more = -np.cos(2.0 * np.pi * level) * size * (1.0 / np.pi**2 + 4.0 * max(noise, 0.0))
        level += 0.5 * (mean - shift - level)
        noise += 0.5 * (variance - QUANTISATION - more + shift**2 - noise)
    return level if noise >= MIN_CODE_NOISE_DN**2 else np.nan
