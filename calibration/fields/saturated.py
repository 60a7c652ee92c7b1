"""Fields of pixels that saturate in all but one or two phase steps.

An unsaturated reading puts the field y on a circle, ``|y + beam_p|^2 = I_p``. Two readings leave two points, a single
reading leaves the whole circle. The saturated readings and the statistics of speckle select among these.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr

from calibration.camera.noise import NoiseModel
from photonics.arrays import BoolArray, ComplexArray, FloatArray

__all__ = ["Prior", "estimate_on_circle", "intersect_circles", "weigh_points"]

MIN_CHANCE = 1e-3
"""Probability below which the less likely of two points is ignored."""
MIN_DISTANCE = 3.0
"""Distance of two points, in standard errors, up to which they count as one."""
ANGLES = 512
"""Number of points on a circle that are weighted; their spacing is at most an eighth of the field of a typical
grain."""


class Prior(NamedTuple):
    """Distribution of the speckle field before the measurement: circular Gaussian; arrays of shape (n,)."""

    mean: ComplexArray
    """Roots of DN."""
    spread: FloatArray
    """``E|y - mean|^2``, DN."""


def intersect_circles(readings: FloatArray, beams: ComplexArray, noise: NoiseModel, top: float) -> ComplexArray:
    """Intersections of the two circles ``|y + beam_p|^2 = I_p`` that two readings define: (2, n), roots of DN.

    They are mirror images in the line through the two centres ``-beam_p``. If noise separates the circles, both are the
    point on that line between them. `readings` and `beams` are as for `weigh_points`.
    """
    left, at = readings < top, np.arange(readings.shape[1])
    first, last = np.argmax(left, axis=0), len(left) - 1 - np.argmax(left[::-1], axis=0)
    near, far = (np.maximum(readings[step, at] - np.float32(noise.dark_dn), 0.0) for step in (first, last))
    along = beams[first, at] - beams[last, at]
    apart = np.maximum(np.abs(along), np.float32(1e-6))
    way = (near - far + apart**2) / (2.0 * apart)
    aside = 1j * np.sqrt(np.maximum(near - way**2, 0.0))
    return (along / apart * np.stack([way + aside, way - aside]) - beams[first, at]).astype(np.complex64)


def weigh_points(
    values: ComplexArray,
    variance: FloatArray,
    readings: FloatArray,
    beams: ComplexArray,
    prior: Prior,
    noise: NoiseModel,
    top: float,
) -> tuple[ComplexArray, FloatArray, BoolArray]:
    """Posterior mean and variance of fields that are at one of two points.

    The weight of a point is its probability given the prior and all readings. The probability of a saturated reading is
    that of light at or above saturation.

    Parameters
    ----------
    values, variance : ndarray, shape (2, n)
        The two points, roots of DN, and the variance ``E|error|^2`` about each, DN.
    readings : ndarray, shape (P, n)
        DN; two of each column are under `top`.
    beams : ndarray, shape (P, n)
        The reference's field in each step, roots of DN.
    prior : Prior
    noise : NoiseModel
    top : float
        DN of a saturated reading.

    Returns
    -------
    mean : ndarray, shape (n,)
        Roots of DN.
    variance : ndarray, shape (n,)
        ``E|error|^2``, DN.
    ambiguous : ndarray of bool, shape (n,)
        Whether both points remain possible.
    """
    log_chance = -(np.abs(values - prior.mean) ** 2) / np.maximum(prior.spread, np.float32(1e-3))
    for seen, beam in zip(readings, beams, strict=True):
        model = np.abs(values + beam) ** 2 + np.float32(noise.dark_dn)
        sigma = np.sqrt(noise.variance(model))
        from_noise = -0.5 * ((seen - model) / sigma) ** 2 - np.log(sigma)
        log_chance += np.where(seen >= top, log_ndtr((model - top) / sigma), from_noise)
    chance = np.exp(log_chance - log_chance.max(axis=0))
    chance /= chance.sum(axis=0)
    distance = np.abs(values[1] - values[0])
    mean = (chance * values).sum(axis=0)
    spread = (chance * variance).sum(axis=0) + chance.prod(axis=0) * distance**2
    ambiguous = (chance.min(axis=0) > MIN_CHANCE) & (distance**2 > MIN_DISTANCE**2 * variance.min(axis=0))
    return mean.astype(np.complex64), spread.astype(np.float32), np.asarray(ambiguous)


def estimate_on_circle(
    readings: FloatArray, beams: ComplexArray, prior: Prior, noise: NoiseModel, top: float
) -> tuple[ComplexArray, FloatArray]:
    """Posterior mean and variance ``E|error|^2`` of fields with one reading under `top`, or none: (n,) each.

    The reading puts y on the circle ``|y + beam_q|^2 = I_q``. The mean over the circle is weighted by the prior and by
    the probabilities of the saturated readings. Often both ends of an arc are equally likely, so that no single point
    of the circle would be within its error.

    Without a reading, the circle is that of the dimmest field that saturates all frames, about 0; the prior gives its
    direction, and the variance of the prior is added for the light beyond.

    Parameters
    ----------
    readings : ndarray, shape (P, n)
        DN; one of each column is under `top`, or none.
    beams : ndarray, shape (P, n)
        The reference's field in each step, roots of DN.
    prior : Prior
    noise : NoiseModel
    top : float
        DN of a saturated reading.
    """
    step = np.argmin(readings, axis=0)
    at = np.arange(len(step))
    light = np.maximum(readings[step, at] - np.float32(noise.dark_dn), np.float32(1.0))
    turns = np.exp(2j * np.pi * np.arange(ANGLES) / ANGLES).astype(np.complex64)
    unknown, beam = readings.min(axis=0) >= top, beams[step, at]
    radius = np.sqrt(light) + np.where(unknown, np.abs(beam), np.float32(0.0))
    points = radius[:, None] * turns - np.where(unknown, np.complex64(0.0), beam)[:, None]  # (n, ANGLES)
    weight = -(np.abs(points - prior.mean[:, None]) ** 2) / np.maximum(prior.spread, np.float32(1e-3))[:, None]
    sigma = np.sqrt(noise.variance(np.array([top])))
    for seen, beam in zip(readings, beams, strict=True):
        model = np.abs(points + beam[:, None]) ** 2 + np.float32(noise.dark_dn)
        weight += np.where((seen >= top)[:, None], log_ndtr((model - top) / sigma), 0.0)
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight * points).sum(axis=1)
    across = noise.variance(readings[step, at]) / (4.0 * light) + np.where(unknown, prior.spread, np.float32(0.0))
    variance = (weight * np.abs(points - mean[:, None]) ** 2).sum(axis=1) + across
    return mean.astype(np.complex64), variance.astype(np.float32)
