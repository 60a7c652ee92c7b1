"""Gain from bursts of one pattern: a line through the variance of the pixels against their mean."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import BoolArray, FloatArray, IntArray, Shapes

__all__ = ["Burst", "burst_of", "fit_line", "has_grains"]

MIN_BIN_VARIANCE_DN2 = 0.25
"""Smallest variance of a bin of levels that is used: rounding hides less, even if pixels are pooled, DN^2."""
FITS = 4
"""Number of fits of the variance against the mean, each with bins and weights by the one before."""
MIN_SIGNAL_DN = 1.5
"""Smallest signal of a pixel whose variance is used, DN."""
LAGS = (1, 2, 3, 5, 8)
"""Distances of the frames whose differences give the variance; extrapolated to 0, they leave out a slow drift."""
MIN_NEIGHBOUR = 0.08
"""Smallest correlation of the signals of neighbouring pixels at which pixels are smaller than a grain."""
BINS = 8
"""Number of bins of levels in a burst."""
TOO_DARK = "exposure_s must be longer, or the light stronger: rounding hides the noise of the camera"


@dataclass(frozen=True, eq=False, repr=False)
class Burst(Shapes):
    """Moments of the pixels in a burst: arrays of shape (n_out,), (LAGS, n_out)."""

    signal: FloatArray
    variance: FloatArray
    """Half the mean square difference of frames at each of `LAGS`."""
    usable: BoolArray
    mean_dn: float
    """Mean signal over pixels."""
    pointing: float
    """Variance by the pointing of the laser, over the products of signal and mean signal."""


def burst_of(frames: FloatArray, level: NDArray[np.float64], live: BoolArray, ceiling: float, pointing: float) -> Burst:
    """Moments of a burst without the fluctuation that all pixels share.

    Each frame is divided by its share of the total light, which removes the noise of the laser. A pixel with the share
    p of the light loses the share p of its shot noise by that, which is put back. `pointing` is the variance of one
    field by the pointing of the laser; that of several fields is less, as is the square of their contrast.
    """
    signal = frames - level
    usable = live & (frames.max(axis=0) < ceiling) & (signal.mean(axis=0) > MIN_SIGNAL_DN)
    total = signal[:, usable].sum(axis=1)
    power = total / total.mean() if usable.any() else np.ones(len(frames))
    mean = signal.mean(axis=0)
    share = np.where(usable, mean, 0.0) / max(float(mean[usable].sum()), 1e-9)
    even = (signal - (power - 1.0)[:, None] * mean) / np.sqrt(np.maximum(1.0 - share, 0.5))
    variance = np.stack([((even[lag:] - even[:-lag]) ** 2).mean(axis=0) / 2.0 for lag in LAGS])
    light = mean[live]
    contrast2 = min(float(light.var() / max(float(light.mean()), 1e-9) ** 2), 1.0)
    return Burst(mean, variance, usable, float(light.mean()), pointing * contrast2)


def has_grains(bursts: list[Burst]) -> bool:
    """Whether grains are larger than pixels: neighbouring pixels, numbered one after the other, are correlated."""
    return float(np.mean([np.corrcoef(one.signal[1:], one.signal[:-1])[0, 1] for one in bursts])) > MIN_NEIGHBOUR


def fit_line(bursts: list[Burst], pixels: IntArray, grains: bool, pointing: float = 1.0) -> NDArray[np.float64]:
    """Slope and floor of the variance against the mean, over bins of levels of all bursts.

    ``variance = floor + K s + (a lag + b) s <s> + c lag <s>^2``: speckle that decorrelates adds a term in proportion to
    the lag. With `grains`, a pixel adds fields of unequal strength, and dim pixels change by more than in proportion to
    their light: c is fitted, too. The share `pointing` of the expected b is subtracted.
    """
    rows, found, weights = [], [], []
    for burst in bursts:
        kept = pixels[burst.usable[pixels]]
        if len(kept) < 2 * BINS:
            continue
        signal = burst.signal[kept]
        edges = np.quantile(signal, np.linspace(0.0, 1.0, BINS + 1)[1:-1])
        which = np.searchsorted(edges, signal)
        count = np.bincount(which, minlength=BINS)
        mean = np.bincount(which, signal, BINS) / np.maximum(count, 1)
        for lag, variance in zip(LAGS, burst.variance, strict=True):
            value = np.bincount(which, variance[kept], BINS) / np.maximum(count, 1)
            good = count > 3
            moving = lag * burst.mean_dn * np.stack([mean, np.full(BINS, burst.mean_dn)])[: 1 + grains]
            rows.append(np.stack([mean, np.ones(BINS), *moving], axis=1)[good])
            found.append((value - pointing * burst.pointing * mean * burst.mean_dn)[good])
            weights.append(np.sqrt(count[good]))
    if not found:
        raise ValueError(TOO_DARK)
    matrix, value, weight = np.concatenate(rows), np.concatenate(found), np.concatenate(weights)
    model, fit = value, np.zeros(2)
    for _ in range(FITS):  # bins and weights by the fitted variance: the found one favours bins that came out so
        good = model > MIN_BIN_VARIANCE_DN2
        if good.sum() < 6:
            raise ValueError(TOO_DARK)
        scale = weight[good] / model[good]
        fit = np.linalg.lstsq(matrix[good] * scale[:, None], value[good] * scale, rcond=None)[0]
        model = matrix @ fit
    return np.asarray(fit[:2], np.float64)
