"""Share of rows whose anchors are too dark or too similar, in fully developed speckle."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammainc, gammaincc

from calibration.device import Device
from calibration.fields.readings import binned_imaging

__all__ = ["MAX_SINGLE_GRAIN_SHAPE", "dark_anchor_share", "flat_anchor_share", "speckle_shape"]

MAX_SINGLE_GRAIN_SHAPE = 1.06
"""Largest shape parameter of the gamma law at which a pixel counts as one speckle grain (contrast 0.97 or more)."""


def speckle_shape(opu: Device) -> float:
    """Shape of the gamma law of a pixel's intensity: 1 for one grain per pixel, 2 for two polarisations."""
    return 1.0 / binned_imaging(opu).contrast(wavelength_m=opu.laser.wavelength_m) ** 2


def dark_anchor_share(anchors: int, limit: float, shape: float) -> float:
    """Probability that all anchors are dimmer than `limit` times their mean on a pixel.

    The intensity of an anchor follows a gamma law of this shape, ``1 / contrast^2``. For one grain per pixel (shape 1)
    it is exponential, and the result ``(1 - exp(-limit))^anchors``.
    """
    return float(gammainc(shape, shape * limit)) ** anchors


def flat_anchor_share(anchors: int, limit: float) -> float:
    """Probability that S random fields of unit mean intensity have a spread below ``limit S / 2`` across some line.

    Twice the spreads along and across the line, a > b, are the eigenvalues of a real Wishart matrix of two rows and S
    degrees of freedom, of density ``(a b)^((S - 3) / 2) exp(-(a + b) / 2) (a - b)``. The integral over a is a gamma
    function.
    """
    power, upper = (anchors - 3) / 2.0, limit * anchors

    def density(b: NDArray[np.float64]) -> NDArray[np.float64]:
        more, same = (2.0 ** (power + k) * gamma(power + k) * gammaincc(power + k, b / 2.0) for k in (2, 1))
        return b**power * np.exp(-b / 2.0) * (more - b * same)

    def integral(top: float) -> float:
        b = np.linspace(0.0, math.sqrt(top), 4001)[1:]  # the root of the eigenvalue: the integrand is smooth at 0
        return float(np.sum(density(b**2) * 2.0 * b) * (b[1] - b[0]))

    return integral(upper) / integral(20.0 * (anchors + 5.0))
