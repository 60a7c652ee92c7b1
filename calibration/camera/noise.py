"""Mean frames of fixed patterns, at two exposures against saturation, and the camera's noise from their scatter."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from calibration.arrays import count, mean, total
from calibration.camera.decay import STILL, Speed, speed_of_repeats
from calibration.camera.pixels import is_bad_in_dark, is_restless
from calibration.device import Device, show
from photonics.arrays import Array, BoolArray, FloatArray, HostArray
from photonics.backend import backend_of, to_host
from photonics.chain import SHORTEST_EXPOSURE_S
from photonics.parts.camera import QUANTISATION

__all__ = ["Background", "NoiseModel", "Unsteady", "dark_level", "measure_background", "measure_many", "over_repeats"]

MAX_SCATTER = 50.0
"""Largest variance of repeated frames, relative to shot noise, at which a calibration is still useful. Laser noise
keeps it below 2; a medium that loses 1 % of its speckle correlation during the frames gives about 10."""
MAX_ZEROS = 0.01
"""Fraction of zeros among dark readings above which the noise is treated as clipped at 0. The dark level is then less
than 2.3 standard deviations."""
EXPOSURE_RATIO = 8.0
"""Ratio of the two exposures at which fixed patterns are measured."""
MAX_PIXELS = 2**27
"""Largest number of pixels of frames in memory at a time."""
MIN_BEND = 0.02
"""Smallest relative difference of readings at the two exposures that is not due to the laser."""
MAX_ROUNDING = 0.06
"""Largest relative difference by rounding, if readings at the shorter exposure scatter by 1 DN over the pixels; with
more light there is more noise, and it falls with the square of their scatter."""


class Unsteady(ValueError):
    """Repeated frames of a pattern differ by far more than noise: the device moves while it is calibrated."""


@dataclass(frozen=True)
class NoiseModel:
    """Temporal variance of a pixel, ``floor + slope (y - dark)``."""

    floor_dn2: float
    """Variance of dark noise and quantisation, DN^2."""
    slope_dn: float
    """Shot noise, DN^2 per DN: the overall system gain K of EMVA 1288."""
    dark_dn: float
    """Dark level, DN."""

    def variance(self, frames: Array) -> Array:
        """Variance of each pixel of these frames, DN^2."""
        xp = backend_of(frames).xp
        signal = xp.maximum(xp.astype(frames, xp.float32) - float(self.dark_dn), 0.0)
        return float(self.floor_dn2) + float(self.slope_dn) * signal


class Repeated(NamedTuple):
    """Statistics of repeated frames of some patterns, (n_patterns, n_out), and the frames; all where the device is."""

    mean: Array
    variance: Array
    peak: Array
    values: Array
    """The frames, float32: (repeats, n_patterns, n_out)."""


class Background(NamedTuple):
    """Mean frames of fixed patterns minus the mean frame with all mirrors OFF.

    Arrays have the shape (n_patterns, n_out), and are where the device computes.
    """

    intensity: Array
    """Mean ``I(pattern) - I(0)`` at the device's exposure, DN."""
    variance: Array
    """Variance of `intensity`, DN^2."""
    saturated: Array
    """Whether a pixel is saturated even in the shorter exposure, or blinks in the dark."""
    clipped: Array
    """Whether a pixel is saturated at the device's exposure, or blinks in the dark."""
    off: Array
    """Mean frame with all mirrors OFF at the longer exposure, DN: (n_out,)."""
    off_variance: Array
    """Variance of `off`, DN^2: (n_out,)."""
    noise: NoiseModel
    frame: int = 0
    """Number of the device's frame in the middle of those at the longer exposure."""
    speed: Speed = STILL
    """How fast the medium moves, by the repeated frames of the patterns."""
    bend: float = 0.0
    """Readings at the shorter exposure over those at the longer one, relative to the exposures, minus 1; 0 if noise and
    rounding explain it (`bend_of_exposures`)."""


def measure_background(opu: Device, patterns: BoolArray, repeats: int) -> Background:
    """Measure fixed patterns and all mirrors OFF, each `repeats` times, at two exposures.

    The longer exposure is the device's. The shorter one is 1/8 of it, for pixels that saturate in the longer one. At
    each exposure the frame with all mirrors OFF is subtracted; this removes the dark level and the leaked light.

    Raises
    ------
    Unsteady
        If repeated frames scatter too much for a calibration.
    """
    exposures = (opu.exposure_s, max(opu.exposure_s / EXPOSURE_RATIO, SHORTEST_EXPOSURE_S))
    dark = to_host(opu.dark(repeats)).astype(np.float32)
    middle = opu.clock.frames + repeats * (1 + len(patterns)) // 2
    shots = [measure_repeatedly(opu, patterns, repeats, exposure) for exposure in exposures]
    (mean, variance, peak, values), (short_mean, _, short_peak, _) = shots
    backend, top, ratio = backend_of(values), opu.camera.saturation_dn, float(np.float32(exposures[0] / exposures[1]))
    xp, square = backend.xp, float(np.float32(ratio) ** 2)
    noise = fit_noise(mean, variance, peak < top, dark, top)

    check_steady(noise, float(xp.mean(mean[1:, :])), opu.camera.gain)
    full, restless = peak[1:, :] >= top, backend.asarray(is_restless(dark))
    long = mean[1:, :] - mean[:1, :]
    short = (short_mean[1:, :] - short_mean[:1, :]) * ratio
    spread = (noise.variance(mean[1:, :]) + noise.variance(mean[:1, :])) / float(repeats)
    short_spread = (noise.variance(short_mean[1:, :]) + noise.variance(short_mean[:1, :])) * square / float(repeats)
    clipped = full | restless
    return Background(
        intensity=xp.where(full, short, long),
        # If the noise is below half a code, every frame has the same rounding error, which averaging does not reduce.
        variance=xp.maximum(xp.where(full, short_spread, spread), QUANTISATION),
        saturated=(full & (short_peak[1:, :] >= top)) | restless,
        clipped=clipped,
        off=mean[0, :],
        off_variance=xp.maximum(noise.variance(mean[0, :]) / float(repeats), QUANTISATION),
        noise=noise,
        frame=middle,
        speed=speed_of_repeats(
            xp.reshape(values[:, 1:, :] - noise.dark_dn, (repeats, -1)),
            mean.shape[0],
            xp.reshape(peak[1:, :] < top, (-1,)),
        ),
        bend=bend_of_exposures(xp.where(clipped, np.nan, long), spread, short, short_spread, ratio),
    )


def check_steady(noise: NoiseModel, level_dn: float, gain: float) -> None:
    """Raise `Unsteady` if frames of patterns of this mean level scatter by far more than by the camera's gain."""
    scatter = noise.slope_dn / gain
    if scatter > MAX_SCATTER and noise.slope_dn * (level_dn - noise.dark_dn) > 1.0:
        raise Unsteady(
            "repeated frames of a pattern must agree within the camera's noise, got a variance "
            f"{scatter:.0f} times that of shot noise: check for drift of the medium or the laser, and for lost frames"
        )


def measure_many(opu: Device, patterns: BoolArray, repeats: int) -> Background:
    """Call `measure_background` for many patterns in chunks that fit in memory."""
    size = max(MAX_PIXELS // (repeats * opu.n_out), 1)
    parts = [measure_background(opu, patterns[i : i + size], repeats) for i in range(0, len(patterns), size)]
    xp = backend_of(parts[0].off).xp
    joined = {name: xp.concat([getattr(part, name) for part in parts]) for name in Background._fields[:4]}
    bend = max((part.bend for part in parts), key=abs)
    return parts[0]._replace(**joined, off=xp.mean(xp.stack([part.off for part in parts]), axis=0), bend=bend)


def bend_of_exposures(long: Array, variance: Array, short: Array, short_variance: Array, ratio: float) -> float:
    """Relative difference of readings at two exposures that a linear camera does not make; 0 if it is not significant.

    The scatter of the readings over the pixels is compared, which the dark level does not change. If the medium has
    moved between the exposures, the scatter is that of other speckle in part, which counts as noise.

    Parameters
    ----------
    long, short : array, shape (n_patterns, n_pixels)
        Readings above those of all mirrors OFF; the shorter ones times the ratio of the exposures. NaN is left out.
    variance, short_variance : array, shape (n_patterns, n_pixels)
        Variance of the readings by noise.
    ratio : float
        The longer exposure over the shorter one.
    """
    xp = backend_of(long).xp
    known = xp.isfinite(long)
    pixels = int(count(known))
    if pixels < 2 * long.shape[0] + 2:
        return 0.0
    spreads, errors, both = [], [], xp.ones_like(long)
    for values, noise in ((long, variance), (short, short_variance)):
        centred = values - mean(values, 1, where=known)[:, None]
        both = both * centred
        spreads.append(float(mean(centred**2, where=known) - mean(noise, where=known)))
        errors.append(float(total(centred**2 * noise, where=known)) / pixels**2)
    if min(spreads) <= 0:
        return 0.0
    bend = float(np.sqrt(spreads[1] / spreads[0])) - 1.0
    same = float(mean(both, where=known)) ** 2 / (spreads[0] * spreads[1])
    other = 2.0 * max(1.0 - same, 0.0) / pixels
    error = float(np.sqrt(sum(errors) / min(spreads) ** 2 + other))
    rounding = MAX_ROUNDING * ratio**2 / spreads[0]
    return bend if abs(bend) > max(MIN_BEND, 5.0 * error, rounding) else 0.0


def measure_repeatedly(opu: Device, patterns: BoolArray, repeats: int, exposure_s: float) -> Repeated:
    """Repeated frames of all mirrors OFF and of each pattern."""
    shown = np.concatenate([np.zeros_like(patterns[:1]), patterns])
    return over_repeats(show(opu, np.tile(shown, (repeats, 1)), exposure_s), repeats)


def over_repeats(frames: Array, repeats: int) -> Repeated:
    """Statistics of frames of patterns that are shown in turn, `repeats` times: (repeats * n_patterns, n_out)."""
    xp = backend_of(frames).xp
    frames = xp.reshape(frames, (repeats, -1, frames.shape[-1]))
    values = xp.astype(frames, xp.float32)
    return Repeated(xp.mean(values, axis=0), xp.var(values, axis=0, correction=1), xp.max(frames, axis=0), values)


def fit_noise(mean: Array, variance: Array, usable: Array, dark: FloatArray, saturation_dn: int) -> NoiseModel:
    """Fit the camera's noise to repeated frames, pooled over pixels, and to dark frames (repeats, n_out).

    The floor is the variance of dark frames, but at least the quantisation variance 1/12, because rounding hides noise
    below half a code. The slope is the total excess variance divided by the total signal of the pixels brighter than
    the mean. Dimmer pixels are left out, because rounding hides part of their noise.
    """
    backend, (dark_dn, dark_dn2) = backend_of(mean), dark_level(dark, saturation_dn)
    xp, floor = backend.xp, max(dark_dn2, QUANTISATION)
    bright = usable & (mean > xp.mean(mean)) & backend.asarray(~is_bad_in_dark(dark, saturation_dn))
    signal = float(xp.sum(mean[bright] - dark_dn))
    excess = float(xp.sum(variance[bright] - floor))
    return NoiseModel(floor, max(excess / signal, 0.0) if signal > 0 else 0.0, dark_dn)


def dark_level(dark: HostArray, saturation_dn: int) -> tuple[float, float]:
    """Level and temporal variance of dark frames (repeats, n_out), DN and DN^2, without pixels that are bad in them.

    If the camera's offset is smaller than its noise, the converter clips the noise at 0. The level is then the median,
    and the variance is computed from the readings above the median.
    """
    dark = dark[:, ~is_bad_in_dark(dark, saturation_dn)]
    if (dark <= 0).mean() < MAX_ZEROS:
        return float(dark.mean()), float(dark.var(axis=0, ddof=1).mean())
    middle = float(np.median(dark))
    return middle, 2.0 * float((np.maximum(dark - middle, 0.0) ** 2).mean())
