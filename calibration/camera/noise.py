"""Fixed patterns measured well: repeated, bracketed against saturation, and the camera's noise on the way."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from photonics.chain import SHORTEST_EXPOSURE_S
from photonics.parts.camera import QUANTISATION

__all__ = ["Background", "NoiseModel", "dark_level", "measure_background"]

MOST_SCATTER = 50.0
"""Variance of repeated frames over shot noise from which on nothing is calibrated: a laser stays under 2, a medium that
keeps 0.99 of its speckle over the frames at about 10."""
CUT_OFF = 0.01
"""Share of dark readings of 0 from which on the converter is said to cut off noise: 2.3 deviations under the level."""
BRACKET = 8.0
"""Ratio of the exposures of a bracketed measurement."""


@dataclass(frozen=True)
class NoiseModel:
    """Temporal variance of a pixel, ``floor + slope (y - dark)``: dark noise and quantisation, and shot noise."""

    floor_dn2: float
    slope_dn: float
    """DN^2 per DN: the overall system gain K of EMVA 1288."""
    dark_dn: float

    def variance(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        """Variance of each pixel of these frames, DN^2."""
        signal = np.maximum(frames.astype(np.float32) - np.float32(self.dark_dn), 0.0)
        return np.float32(self.floor_dn2) + np.float32(self.slope_dn) * signal


class Background(NamedTuple):
    """Fixed patterns above all mirrors OFF, at the device's exposure; arrays of shape (n_patterns, n_out)."""

    intensity: NDArray[np.float32]
    """Mean ``I(pattern) - I(0)``, DN."""
    variance: NDArray[np.float32]
    """Variance of `intensity`, DN^2."""
    saturated: NDArray[np.bool_]
    """Pixels saturated even in the shorter exposure."""
    clipped: NDArray[np.bool_]
    """Pixels saturated at the device's exposure."""
    off: NDArray[np.float32]
    """Mean frame of all mirrors OFF at the longer exposure, DN: (n_out,)."""
    off_variance: NDArray[np.float32]
    """Variance of `off`, DN^2."""
    noise: NoiseModel


def measure_background(opu: Device, patterns: NDArray[np.bool_], repeats: int) -> Background:
    """Measure fixed patterns and all mirrors OFF, each `repeats` times, at two exposures.

    The shorter exposure, 1/8 of the device's, serves the pixels that saturate in the longer; dark level and
    leakage are subtracted at each exposure by the frames with all mirrors OFF.
    """
    exposures = (opu.exposure_s, max(opu.exposure_s / BRACKET, SHORTEST_EXPOSURE_S))
    dark = opu.dark(repeats).astype(np.float32)
    shots = [repeat(opu, patterns, repeats, exposure) for exposure in exposures]
    (mean, variance, peak), (short_mean, _, short_peak) = shots
    noise = fit_noise(mean, variance, peak < opu.camera.saturation_dn, dark)

    scatter = noise.slope_dn / opu.camera.gain
    if scatter > MOST_SCATTER and noise.slope_dn * float(mean[1:].mean() - noise.dark_dn) > 1.0:
        raise ValueError(
            f"frames of one pattern must agree to the camera's noise; their variance is {scatter:.0f} times that of "
            "shot noise: the medium or the laser drifts, or frames are lost"
        )
    ratio = np.float32(exposures[0] / exposures[1])
    clipped = peak[1:] >= opu.camera.saturation_dn
    long = mean[1:] - mean[0]
    short = (short_mean[1:] - short_mean[0]) * ratio
    spread = noise.variance(mean[1:]) + noise.variance(mean[:1])
    short_spread = (noise.variance(short_mean[1:]) + noise.variance(short_mean[:1])) * ratio**2
    return Background(
        intensity=np.where(clipped, short, long),
        # Where noise is under half a code rounding repeats itself: it does not average away.
        variance=np.maximum(np.where(clipped, short_spread, spread) / np.float32(repeats), np.float32(QUANTISATION)),
        saturated=clipped & (short_peak[1:] >= opu.camera.saturation_dn),
        clipped=clipped,
        off=mean[0],
        off_variance=np.maximum(noise.variance(mean[0]) / np.float32(repeats), np.float32(QUANTISATION)),
        noise=noise,
    )


def repeat(
    opu: Device, patterns: NDArray[np.bool_], repeats: int, exposure_s: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]:
    """Mean, variance and maximum over repeated frames of all OFF and of each pattern: (1 + n_patterns, n_out) each."""
    shown = np.concatenate([np.zeros_like(patterns[:1]), patterns])
    frames = opu.measure(np.tile(shown, (repeats, 1)), exposure_s).reshape(repeats, len(shown), -1)
    values = frames.astype(np.float32)
    return values.mean(axis=0), values.var(axis=0, ddof=1), frames.max(axis=0)


def fit_noise(
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    dark: NDArray[np.float32],
) -> NoiseModel:
    """Noise of the camera from the scatter of repeated frames, pooled over pixels, and of dark ones (repeats, n_out).

    The floor is that of dark frames, at least the quantiser's 1/12 (a noise under half a code does not show). The
    slope is total excess variance over total signal of the pixels brighter than the mean: in dim ones the noise is
    under half a code, and rounding hides part of it.
    """
    dark_dn, dark_dn2 = dark_level(dark)
    floor = max(dark_dn2, QUANTISATION)
    bright = usable & (mean > mean.mean())
    signal = float((mean[bright] - dark_dn).sum())
    excess = float((variance[bright] - floor).sum())
    return NoiseModel(floor, max(excess / signal, 0.0) if signal > 0 else 0.0, dark_dn)


def dark_level(dark: NDArray[Any]) -> tuple[float, float]:
    """Level and temporal variance of dark frames (repeats, n_out).

    Where the camera's offset is less than its noise, the converter cuts the noise off at 0: then the level is the
    median, and the variance that of the half above it.
    """
    if (dark <= 0).mean() < CUT_OFF:
        return float(dark.mean()), float(dark.var(axis=0, ddof=1).mean())
    middle = float(np.median(dark))
    return middle, 2.0 * float((np.maximum(dark - middle, 0.0) ** 2).mean())
