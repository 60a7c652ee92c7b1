"""Light that changes from pattern to pattern, from levels that all pixels have in common."""

import warnings

import numpy as np

from calibration.device import Device
from calibration.fields.misfit import Misfit
from calibration.fields.readings import binned_imaging
from photonics.arrays import HostArray

__all__ = ["common_level", "common_scale", "grains_per_pixel", "warn_of_level", "warn_of_scale"]

PARTS = 8
"""Number of parts of the sensor whose levels are compared."""
MIN_PATTERNS = 16
"""Number of patterns from which on changes of the level are looked for."""
MIN_PIXELS = 8
"""Smallest number of pixels of a part in which a slope is fitted."""
MIN_GRAINS = 100.0
"""Smallest number of grains of a part if grains are wider than pixels. With fewer, too many lie across two parts."""
MIN_PULL = 4.0
"""Standard errors above which a common change of the level is told."""
WIDE_GRAINS, WIDE_PULL, WIDE_SCALE = 20.0, 8.0, 0.01
"""Smallest number of grains on the sensor, standard errors and change of the light if grains are wider than pixels. On
sound sensors of 32 grains and more the light seems to change by up to 0.8 %, 3.9 standard errors."""


def common_level(changes: HostArray, n_inputs: int, opu: Device) -> float:
    """Variance from pattern to pattern of a level that all pixels have in common; 0 if it is not significant.

    The levels of separate parts of the sensor differ by speckle and noise, which are independent. Their covariance over
    the patterns is that of stray light and of changes of the laser. No model of speckle or noise is needed.

    Parameters
    ----------
    changes : ndarray, shape (batch, n_pixels)
        Light of each pattern whose mean over the speckle is the same for all patterns.
    n_inputs : int
        Inputs of a pattern.
    opu : Device
        Its optics give the size of a grain of speckle.
    """
    pixels, grains = changes.shape[1], grains_per_pixel(opu)
    if pixels < PARTS or (grains < 1.0 and pixels * grains < PARTS * MIN_GRAINS):
        return 0.0
    parts = np.stack([part.mean(axis=1, dtype=np.float64) for part in parts_of(changes)], axis=1)
    return common_variance(parts - parts.mean(axis=0), n_inputs)


def common_scale(excess: HostArray, lever: HostArray, n_inputs: int, opu: Device) -> float:
    """Variance from pattern to pattern of the relative light; 0 if it is not significant.

    Light of power ``1 + e`` makes the mean of a frame with a beam R exceed ``|R|^2 + |y|^2``, y from the fringes, by
    ``e (|R|^2 - |y|^2)``: e is the slope over the pixels. Stray light has no slope.

    Parameters
    ----------
    excess, lever : ndarray, shape (batch, n_pixels)
        The excess of each pixel, 0 where it saturated, and ``|R|^2 - |y|^2``, both in DN.
    n_inputs : int
        Inputs of a pattern.
    opu : Device
        Its optics give the size of a grain of speckle.
    """
    pixels, grains = excess.shape[1], grains_per_pixel(opu)
    if pixels < PARTS * MIN_PIXELS or pixels * grains < WIDE_GRAINS:
        return 0.0
    slopes = []
    for seen, by in zip(parts_of(excess), parts_of(lever), strict=True):
        known = seen != 0
        count = np.maximum(known.sum(axis=1), 1)[:, None]
        centred = np.where(known, by - np.sum(by, axis=1, where=known, keepdims=True) / count, np.float32(0.0))
        slopes.append((seen * centred).sum(axis=1) / np.maximum((centred**2).sum(axis=1), 1e-12))
    parts = np.stack(slopes, axis=1)
    found = common_variance(parts - parts.mean(axis=0), n_inputs, MIN_PULL if grains == 1.0 else WIDE_PULL)
    return found if grains == 1.0 or found > WIDE_SCALE**2 else 0.0


def grains_per_pixel(opu: Device) -> float:
    """Number of independent speckle grains on a pixel, at most 1: the area of the field's band in cycles per pixel."""
    imaging = binned_imaging(opu)
    if imaging.numerical_aperture is None:
        return 1.0
    return min(np.pi * (imaging.numerical_aperture * imaging.pixel_m / opu.laser.wavelength_m) ** 2, 1.0)


def parts_of(values: HostArray) -> list[HostArray]:
    """Parts of the sensor, (batch, n_pixels of the part) each."""
    return np.array_split(values, PARTS, axis=1)


def common_variance(parts: HostArray, n_inputs: int, min_pull: float = MIN_PULL) -> float:
    """Mean covariance of quantities of separate parts, of mean 0, (batch, parts); 0 if it is not significant.

    Speckle is the same in all patterns, so no more than `n_inputs` of them are independent.
    """
    count = len(parts)
    if count < MIN_PATTERNS:
        return 0.0
    covariance = parts.T @ parts / (count - 1)
    others = ~np.eye(PARTS, dtype=bool)
    found = float(covariance[others].mean())
    own = np.maximum(np.diag(covariance) - max(found, 0.0), 0.0)
    pairs = np.count_nonzero(others) / 2.0
    error = np.sqrt(np.outer(own, own)[others].mean() / pairs * (1.0 / (count - 1) + 1.0 / n_inputs))
    return found if found > min_pull * error else 0.0


def warn_of_level(variance: float, stacklevel: int = 2) -> None:
    """Warn of a common level that changes with this variance, DN^2, if it does."""
    if variance > 0.0:
        warnings.warn(
            f"frames do not fit the model: their level changes by {np.sqrt(variance):.2g} DN rms from pattern to "
            "pattern on all pixels together; stated errors include it. Keep stray light out, let the laser settle, or "
            "take frames faster",
            Misfit,
            stacklevel=stacklevel + 1,
        )


def warn_of_scale(change: float, stacklevel: int = 2) -> None:
    """Warn of light that changes by this relative rms."""
    warnings.warn(
        f"frames do not fit the model: light changes by {change:.1%} rms from pattern to pattern; stated errors "
        "include it. Let the laser settle, or take frames faster",
        Misfit,
        stacklevel=stacklevel + 1,
    )
