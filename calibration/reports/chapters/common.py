"""Result of a chapter, and the noise of the camera."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from calibration.camera.noise import NoiseModel, dark_level
from calibration.camera.photon_transfer import MIN_DARK_NOISE_DN
from calibration.device import Device
from calibration.fields.bad_pixels import is_hot
from calibration.fields.readings import binned_imaging, frame_shape
from calibration.reports.findings import Line
from photonics.arrays import Array, BoolArray
from photonics.backend import HOST, backend_of, to_host
from photonics.parts.camera import QUANTISATION

__all__ = [
    "Chapter",
    "independent_pixels",
    "is_noise_hidden",
    "measure_dark",
    "refusal",
    "signal_of",
    "student_factor",
]

DARK_FRAMES = 8
"""Dark frames for the noise model."""


class Chapter(NamedTuple):
    """Lines and curves of a chapter."""

    lines: list[Line]
    """One line per quantity."""
    curves: dict[str, Any]
    """Numbers behind the figures, by name, in plain types."""


def refusal(group: str, name: str, reason: str, advice: str) -> Line:
    """Line of a chapter that cannot be measured or trusted: verdict "failed", with the reason."""
    return Line(group, name, "", "", float("nan"), float("nan"), None, float("nan"), advice, reason)


def measure_dark(opu: Device, gain: float) -> tuple[NoiseModel, BoolArray]:
    """Noise of the camera: level and floor from dark frames, shot noise from its gain (DN/e-); hot pixels, (n_out,)."""
    dark = to_host(opu.dark(DARK_FRAMES)).astype(np.float64)
    level, variance = dark_level(dark, opu.camera.saturation_dn)
    return NoiseModel(max(variance, QUANTISATION), gain, level), is_hot(dark, opu.camera.saturation_dn)


def signal_of(frames: Array, noise: NoiseModel) -> Array:
    """Frames above the dark level, DN, float64."""
    xp = backend_of(frames).xp
    return xp.astype(frames, xp.float64) - noise.dark_dn


def independent_pixels(opu: Device, chosen: BoolArray) -> float:
    """Number of independent pixels among the chosen ones, ``M^2 / sum_ij |mu_ij|^2``.

    mu is the correlation of the field at two pixels due to the pupil, with periodic edges of the sensor. The variance
    of a mean over the M pixels is that over so many independent ones; for the whole sensor it is the number of
    frequencies that the pupil passes. Without a pupil it is M.
    """
    imaging, count = binned_imaging(opu), float(chosen.sum())
    if imaging.numerical_aperture is None or not count:
        return count
    (height, width), k = frame_shape(opu), imaging.samples_per_pixel
    more = 1 if imaging.region is None else 2  # the sensor extends beyond a region
    passed = imaging.filter((k * more * height, k * more * width), opu.laser.wavelength_m, HOST).astype(np.float64)
    match = np.abs(np.fft.ifft2(passed**2)[::k, ::k]) ** 2
    known = np.zeros(match.shape)
    known[:height, :width] = chosen.reshape(height, width)
    pairs = np.fft.ifft2(np.abs(np.fft.fft2(known)) ** 2).real
    return count**2 * float(match[0, 0] / np.sum(pairs * match))


def is_noise_hidden(noise: NoiseModel, level_dn: float) -> bool:
    """Whether the noise at a level above dark is under half a code, so that rounding decides what frames scatter."""
    return noise.floor_dn2 - QUANTISATION + noise.slope_dn * level_dn < MIN_DARK_NOISE_DN**2


def student_factor(free: float) -> float:
    """Factor on a standard error that was taken from the scatter of `free` independent values, at least 2.

    Three such errors are exceeded as rarely as three errors that are known (0.27 %).
    """
    return float(stdtrit(free - 1.0, 0.99865)) / 3.0
