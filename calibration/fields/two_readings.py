"""Fields of which two readings are below saturation: one of two points, and bright in all other steps."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from calibration.camera.noise import NoiseModel
from calibration.fields.saturated import Prior

__all__ = ["crossings", "weighed"]

CERTAIN = 1e-3
"""Chance of the less likely point under which the other one is taken for the truth."""
APART = 3.0
"""Standard errors from one point to the other under which both are one."""

Complex = NDArray[np.complex64]
Real = NDArray[np.float32]


def crossings(readings: Real, beams: Complex, noise: NoiseModel, top: float) -> Complex:
    """The two points that two readings leave, mirror images in the line through the circles' centres: (2, n).

    ``|y + beam_p|^2 = I_p`` is a circle around ``-beam_p``; of circles that do not meet it is the line's point between
    them. `readings` and `beams` are as for `weighed`.
    """
    left, at = readings < top, np.arange(readings.shape[1])
    first, last = np.argmax(left, axis=0), len(left) - 1 - np.argmax(left[::-1], axis=0)
    near, far = (np.maximum(readings[step, at] - np.float32(noise.dark_dn), 0.0) for step in (first, last))
    along = beams[first, at] - beams[last, at]
    apart = np.maximum(np.abs(along), np.float32(1e-6))
    way = (near - far + apart**2) / (2.0 * apart)
    aside = 1j * np.sqrt(np.maximum(near - way**2, 0.0))
    return (along / apart * np.stack([way + aside, way - aside]) - beams[first, at]).astype(np.complex64)


def weighed(
    values: Complex, variance: Real, readings: Real, beams: Complex, prior: Prior, noise: NoiseModel, top: float
) -> tuple[Complex, Real, NDArray[np.bool_]]:
    """Posterior mean and variance ``E|error|^2`` of fields that are one of two points, and whether it is open which.

    The saturated readings tell, each by the chance that it is that bright or brighter, and the prior.

    Parameters
    ----------
    values, variance : ndarray, shape (2, n)
        The two points, roots of DN, and ``E|error|^2`` about each, DN.
    readings : ndarray, shape (P, n)
        DN; two of each column are under `top`.
    beams : ndarray, shape (P, n)
        The reference's field in each step, roots of DN.
    prior : Prior
    noise : NoiseModel
    top : float
        DN of a saturated reading.
    """
    likely = -(np.abs(values - prior.mean) ** 2) / np.maximum(prior.spread, np.float32(1e-3))
    for seen, beam in zip(readings, beams, strict=True):
        model = np.abs(values + beam) ** 2 + np.float32(noise.dark_dn)
        sigma = np.sqrt(noise.variance(model))
        from_noise = -0.5 * ((seen - model) / sigma) ** 2 - np.log(sigma)
        likely += np.where(seen >= top, log_ndtr((model - top) / sigma), from_noise)
    chance = np.exp(likely - likely.max(axis=0))
    chance /= chance.sum(axis=0)
    distance = np.abs(values[1] - values[0])
    mean = (chance * values).sum(axis=0)
    spread = (chance * variance).sum(axis=0) + chance.prod(axis=0) * distance**2
    twofold = (chance.min(axis=0) > CERTAIN) & (distance**2 > APART**2 * variance.min(axis=0))
    return mean.astype(np.complex64), spread.astype(np.float32), np.asarray(twofold)
