"""Errors by rounding readings to codes that do not average out: those of dim speckle and of frames without noise."""

import math

import numpy as np

from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.parts.camera import QUANTISATION

__all__ = ["SPECKLE_ROUNDING_DN", "rounding_of_speckle", "rounding_rms"]

SPECKLE_ROUNDING_DN = 0.12
"""Largest error of the mean of rounded readings of speckle, DN: that of a mean of 0.2 DN (`rounding_of_speckle`)."""


def rounding_rms(frame_variance: Array) -> Array:
    """Error of a reading that is a function of its light, DN rms, for readings of this variance, rounding included.

    Rounding makes a sawtooth of the light. Its first harmonic has the rms ``1 / (sqrt(2) pi)``, and noise of the
    variance v before rounding multiplies it by ``exp(-2 pi^2 v)``; the other harmonics fade faster.

    References
    ----------
    B. Widrow and I. Kollar, Quantization Noise, Cambridge University Press, 2008.
    """
    xp = backend_of(frame_variance).xp
    dither = xp.maximum(frame_variance - float(np.float32(QUANTISATION)), 0.0)
    return float(np.float32(1.0 / (math.sqrt(2.0) * math.pi))) * xp.exp(-2.0 * math.pi**2 * dither)


def rounding_of_speckle(mean_dn: float) -> float:
    """Relative error of the mean of rounded readings of speckle with this mean, without noise: ``1 - x / sinh x``.

    The intensity of speckle is exponential, so that the sum over the codes is a geometric one; ``x = 1 / (2 mean)``.
    """
    x = min(0.5 / max(mean_dn, 1e-3), 500.0)
    return 1.0 - x / math.sinh(x)
