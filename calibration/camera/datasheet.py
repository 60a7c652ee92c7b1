"""Figures of an EMVA 1288 data sheet that follow from others: sensitivity threshold, dynamic range, SNR."""

import math

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import HostArray
from photonics.parts.camera import QUANTISATION, Camera

__all__ = ["decibel", "saturation_e", "sensitivity_threshold", "sheet_noise_dn2", "snr"]

MIN_DARK_VARIANCE_DN2 = 0.24
"""Smallest temporal dark variance that the standard uses: below it the quantiser hides the noise, DN^2."""


def sensitivity_threshold(dark_variance_dn2: float, gain: float, efficiency: float) -> float:
    """Photons at which the signal equals the noise: the absolute sensitivity threshold of EMVA 1288.

    ``mu_p.min = (sigma_y.dark / K + 1/2) / eta``, with a dark variance of 0.24 DN^2 or more.

    Parameters
    ----------
    dark_variance_dn2 : float
        Temporal variance of dark frames, with that of rounding, DN^2.
    gain, efficiency : float
        K, DN per electron, and electrons per photon.
    """
    return (math.sqrt(max(dark_variance_dn2, MIN_DARK_VARIANCE_DN2)) / gain + 0.5) / efficiency


def sheet_noise_dn2(camera: Camera, exposure_s: float) -> float:
    """Temporal variance of dark frames by the camera's data sheet, with that of rounding, DN^2."""
    electrons = camera.reading_noise_e**2 + camera.dark_electrons(exposure_s)
    return camera.gain**2 * electrons + QUANTISATION


def saturation_e(camera: Camera) -> float:
    """Electrons at which the well or the converter saturates, by the data sheet."""
    return (camera.saturation_dn - camera.offset) / camera.gain


def snr(photons: HostArray, dark_variance_dn2: float, gain: float, efficiency: float) -> NDArray[np.float64]:
    """Signal-to-noise ratio of a linear camera, ``eta mu_p / sqrt(sigma_y.dark^2 / K^2 + eta mu_p)``."""
    electrons = efficiency * np.asarray(photons, np.float64)
    return electrons / np.sqrt(dark_variance_dn2 / gain**2 + electrons)


def decibel(ratio: float) -> float:
    """A ratio of amplitudes in decibels; NaN unless it is positive.

    >>> decibel(100.0)
    40.0
    """
    return 20.0 * math.log10(ratio) if ratio > 0.0 else math.nan
