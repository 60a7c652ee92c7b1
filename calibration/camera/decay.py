"""How fast the medium moves, from repeated frames or fields of one pattern."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns, total
from photonics.arrays import Array
from photonics.backend import backend_of, to_host

__all__ = [
    "STALE",
    "STALE_PATTERN",
    "STILL",
    "Change",
    "Speed",
    "change_of_light",
    "decay_between",
    "speed_of_repeats",
    "warn_of_movement",
]

SIGNIFICANT = 10.0
"""Standard errors by which a rate must differ from 0 before a device counts as moving."""
MIN_REPEATS = 6
"""Frames from which on a rate is stated: their lags must show a slope and the scatter about it."""
MIN_LIKENESS = 0.15
"""Correlation of two frames below which it is not used: its logarithm would be that of noise."""
BLOCKS = 16
"""Blocks of neighbouring pixels whose scatter gives an error; grains of the speckle are smaller."""
SAMPLED = 0.15
"""Share of that error which counts. Most of it is the number of grains, in proportion to the rate; a still device has
none of it."""
STALE = 1.4
"""Squared relative error of a row over the correlation times that its probes took, against the matrix of the last frame
(or of the first one), for a field that decays exponentially: ``2 sum_m |sum_(k <= m) g_k x_k|^2 / N``, with the probes
x and the weights g of their fields in an entry. 1.23 to 1.53 for 30 inputs or more, 1.7 for 8."""
STALE_PATTERN = 1.1
"""The same for the field of a half-ON pattern: 0.95 to 1.45."""
CHANGED = 3.0
"""Standard errors from which on a change is not noise."""
UNKNOWN_NOISE = 0.05
"""Relative error of the variance by the noise model."""
ROUNDING = 1e-6
"""Smallest loss of correlation that is not rounding."""


class Speed(NamedTuple):
    """Rate at which the field of the medium decays, ``exp(-rate lag)``."""

    rate: float
    """1 over the correlation time, 1/frames; 0 if none is seen."""
    error: float
    """Standard error of the rate, as far as a still device has one."""

    @property
    def moving(self) -> bool:
        """Whether the rate is clearly above 0."""
        return bool(self.rate > SIGNIFICANT * self.error)


class Change(NamedTuple):
    """What has become of the light of a pattern."""

    scale: float
    """Mean light over that of before. On a medium that has moved it has the error of a mean over the grains."""
    correlation: float
    """Correlation of the intensities over the pixels, without noise."""
    correlation_frames: float
    """Correlation time of the medium's field, frames; infinite if noise explains the change."""


STILL = Speed(0.0, np.inf)
"""What is known of a device before its frames are seen."""


def change_of_light(now: Array, before: Array, variance: tuple[Array, Array], age: int) -> Change:
    """Compare the light of a pattern on the usable pixels with that of `age` frames before, given the noise of each.

    The intensity forgets twice as fast as the field, ``exp(-2 age / correlation_frames)``.
    """
    xp, pixels = backend_of(now).xp, now.shape[0]
    now, before = xp.astype(now, xp.float64), xp.astype(before, xp.float64)  # float32 resolves a correlation to 1e-7
    size = [max(float(xp.var(x) - xp.mean(v)), 1e-12) for x, v in zip((now, before), variance, strict=True)]
    covariance = float(xp.mean((now - xp.mean(now)) * (before - xp.mean(before))))
    least = 2.0 / np.sqrt(pixels)
    correlation = min(max(covariance / np.sqrt(size[0] * size[1]), 0.0), 1.0)
    noise = sum(float(xp.mean(v)) / s for v, s in zip(variance, size, strict=True))
    still = 1.0 - correlation < noise * (0.1 + 3.0 / np.sqrt(pixels))
    time = np.inf if still else -2.0 * age / np.log(min(max(correlation, least), 1.0 - 1e-9))
    return Change(float(xp.mean(now) / xp.mean(before)), float(correlation), float(time))


def speed_of_repeats(frames: Array, spacing: int, usable: Array) -> Speed:
    """Rate at which repeated frames of one pattern forget each other.

    The frames, each over its mean, correlate by ``h exp(-2 rate lag)``. Noise makes h smaller and has no part in the
    decay; the same holds for light that changes. The fit is that of a line to the logarithm.

    Parameters
    ----------
    frames : ndarray, shape (repeats, n_out)
        Signal above dark, DN.
    spacing : int
        Frames of the device from one of these to the next.
    usable : ndarray of bool, shape (n_out,)
        Pixels that do not saturate.

    Returns
    -------
    Speed
        `STILL` if there are too few frames or too little light.
    """
    xp = backend_of(frames).xp
    signal = xp.astype(columns(frames, usable), xp.float64)
    repeats, pixels = signal.shape
    if repeats < MIN_REPEATS or pixels < 2 * BLOCKS or not bool(xp.all(xp.mean(signal, axis=1) > 0)):
        return STILL
    change = signal / xp.mean(signal, axis=1, keepdims=True) - 1.0
    ends = np.cumsum([len(block) for block in np.array_split(np.arange(pixels), BLOCKS)]).tolist()
    blocks = [change[:, first:stop] for first, stop in zip([0, *ends], ends, strict=False)]
    parts = to_host(xp.stack([block @ block.T for block in blocks]))
    whole = parts.sum(axis=0)
    rate, scatter = fit_rate(whole, spacing)
    others = np.array([fit_rate(whole - part, spacing)[0] for part in parts])
    spread = float(np.sqrt((BLOCKS - 1) / BLOCKS * ((others - others.mean()) ** 2).sum()))
    if not np.isfinite(rate + scatter + spread):
        return STILL
    return Speed(max(rate, 0.0), max(scatter, SAMPLED * spread))


def fit_rate(overlaps: NDArray[np.float64], spacing: int) -> tuple[float, float]:
    """Rate by the mean correlation at each lag, and its error by the scatter about the line; NaN if frames differ."""
    size = np.sqrt(np.diag(overlaps))
    alike = overlaps / np.outer(size, size)
    lag = np.arange(1, len(alike))
    mean = np.array([np.diagonal(alike, int(k)).mean() for k in lag])
    used = mean > MIN_LIKENESS
    if used.sum() < 3:
        return np.nan, np.nan
    lag, mean = lag[used], mean[used]
    weight = (len(alike) - lag) * mean**2
    away, level = lag - np.average(lag, weights=weight), np.log(mean)
    normal = (weight * away**2).sum()
    slope = (weight * away * level).sum() / normal
    rest = level - np.average(level, weights=weight) - slope * away
    variance = (weight * rest**2).sum() / (len(lag) - 2) / normal
    return float(-slope / (2 * spacing)), float(np.sqrt(variance) / (2 * spacing))


def decay_between(fields: Array, variance: Array) -> float:
    """Lag over the correlation time of the medium's field; 0 if noise explains the change.

    The correlation over the pixels is free of a phase and a scale that the pixels have in common, so the drift of a
    reference or of the light has no part in it.

    Parameters
    ----------
    fields : ndarray, shape (2, n_pixels)
        Fields of the pattern, first and later.
    variance : ndarray, shape (n_pixels,)
        ``E|error|^2`` of each field.
    """
    xp, added = backend_of(fields).xp, float(total(variance, None, "float64"))
    power = [max(float(xp.sum(xp.abs(xp.astype(fields[k, :], xp.complex128)) ** 2)) - added, 1e-12) for k in range(2)]
    alike = abs(complex(xp.vecdot(fields[0, :], fields[1, :]))) ** 2 / (power[0] * power[1])
    noise = 2.0 * added / (power[0] + power[1])
    error = 2.0 * noise * (UNKNOWN_NOISE + 1.0 / np.sqrt(fields.shape[1]))
    return 0.0 if 1.0 - alike < CHANGED * error + ROUNDING else -0.5 * float(np.log(max(alike, 1e-12)))


def warn_of_movement(moved: float, frames: int, noise: float) -> None:
    """Warn if a medium that moved by so many correlation times in its frames adds more to an error than noise.

    `noise` is the squared relative error of a row without it.
    """
    if STALE * moved > noise:
        warnings.warn(
            f"the medium moves: its field has a correlation time of {frames / moved:.2g} frames, and the probes took "
            f"{frames}; stated errors are those against the matrix of the last frame: take frames faster, or follow "
            "the medium by estimate.update",
            stacklevel=7,
        )
