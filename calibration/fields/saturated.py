"""Fields of pixels that saturate in all but one or two phase steps.

An unsaturated reading puts the field y on a circle, ``|y + beam_p|^2 = I_p``. Two readings leave two points, a single
reading leaves the whole circle. The saturated readings and the statistics of speckle select among these.
"""

import math
from typing import NamedTuple

import numpy as np

from calibration.arrays import entries, log_normal_cdf
from calibration.camera.noise import NoiseModel
from photonics.arrays import Array
from photonics.backend import backend_of

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

    mean: Array
    """Roots of DN."""
    spread: Array
    """``E|y - mean|^2``, DN."""


def intersect_circles(readings: Array, beams: Array, noise: NoiseModel, top: float) -> Array:
    """Intersections of the two circles ``|y + beam_p|^2 = I_p`` that two readings define: (2, n), roots of DN.

    They are mirror images in the line through the two centres ``-beam_p``. If noise separates the circles, both are the
    point on that line between them. `readings` and `beams` are as for `weigh_points`.
    """
    xp, last = backend_of(readings).xp, readings.shape[0] - 1
    left = xp.astype(readings < top, xp.int8)
    first, final = xp.argmax(left, axis=0), last - xp.argmax(xp.flip(left, axis=0), axis=0)
    near, far = (xp.maximum(entries(readings, step) - noise.dark_dn, 0.0) for step in (first, final))
    along = entries(beams, first) - entries(beams, final)
    apart = xp.maximum(xp.abs(along), 1e-6)
    way = (near - far + apart**2) / (2.0 * apart)
    aside = 1j * xp.sqrt(xp.maximum(near - way**2, 0.0))
    return xp.astype(along / apart * xp.stack([way + aside, way - aside]) - entries(beams, first), xp.complex64)


def weigh_points(
    values: Array,
    variance: Array,
    readings: Array,
    beams: Array,
    prior: Prior,
    noise: NoiseModel,
    top: float,
) -> tuple[Array, Array, Array]:
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
    xp = backend_of(values).xp
    log_chance = -(xp.abs(values - prior.mean) ** 2) / xp.maximum(prior.spread, 1e-3)
    for step in range(readings.shape[0]):
        seen, beam = readings[step, :], beams[step, :]
        model = xp.abs(values + beam) ** 2 + noise.dark_dn
        sigma = xp.sqrt(noise.variance(model))
        from_noise = -0.5 * ((seen - model) / sigma) ** 2 - xp.log(sigma)
        log_chance += xp.where(seen >= top, log_normal_cdf((model - top) / sigma), from_noise)
    chance = xp.exp(log_chance - xp.max(log_chance, axis=0))
    chance /= xp.sum(chance, axis=0)
    distance, nearest = xp.abs(values[1, :] - values[0, :]), xp.min(variance, axis=0)
    middle = xp.sum(chance * values, axis=0)
    spread = xp.sum(chance * variance, axis=0) + xp.prod(chance, axis=0) * distance**2
    ambiguous = (xp.min(chance, axis=0) > MIN_CHANCE) & (distance**2 > MIN_DISTANCE**2 * nearest)
    return xp.astype(middle, xp.complex64), xp.astype(spread, xp.float32), ambiguous


def estimate_on_circle(
    readings: Array, beams: Array, prior: Prior, noise: NoiseModel, top: float
) -> tuple[Array, Array]:
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
    backend = backend_of(readings)
    xp, step = backend.xp, backend.xp.argmin(readings, axis=0)
    light = xp.maximum(entries(readings, step) - noise.dark_dn, 1.0)
    turns = backend.asarray(np.exp(2j * np.pi * np.arange(ANGLES) / ANGLES).astype(np.complex64))
    unknown, beam = xp.min(readings, axis=0) >= top, entries(beams, step)
    radius = xp.sqrt(light) + xp.where(unknown, xp.abs(beam), 0.0)
    points = radius[:, None] * turns - xp.where(unknown, 0.0, beam)[:, None]  # (n, ANGLES)
    weight = -(xp.abs(points - prior.mean[:, None]) ** 2) / xp.maximum(prior.spread, 1e-3)[:, None]
    sigma = math.sqrt(float(noise.variance(np.array([top]))[0]))
    for k in range(readings.shape[0]):
        model = xp.abs(points + beams[k, :][:, None]) ** 2 + noise.dark_dn
        weight += xp.where((readings[k, :] >= top)[:, None], log_normal_cdf((model - top) / sigma), 0.0)
    weight = xp.exp(weight - xp.max(weight, axis=1, keepdims=True))
    weight /= xp.sum(weight, axis=1, keepdims=True)
    middle = xp.sum(weight * points, axis=1)
    across = noise.variance(entries(readings, step)) / (4.0 * light) + xp.where(unknown, prior.spread, 0.0)
    variance = xp.sum(weight * xp.abs(points - middle[:, None]) ** 2, axis=1) + across
    return xp.astype(middle, xp.complex64), xp.astype(variance, xp.float32)
