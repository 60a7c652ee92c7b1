"""Fields of which a single reading is below saturation: somewhere on a ring, and bright in all other steps."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from calibration.camera.noise import NoiseModel

__all__ = ["Prior", "on_rings"]

ANGLES = 512
"""Points of a ring that are weighed: an eighth of a grain's typical field apart, or less."""


class Prior(NamedTuple):
    """What speckle is before it is measured: circular Gaussian, in roots of DN and DN; (n,) each."""

    mean: NDArray[np.complex64]
    spread: NDArray[np.float32]
    """``E|y - mean|^2``."""


def on_rings(
    readings: NDArray[np.float32], beams: NDArray[np.complex64], prior: Prior, noise: NoiseModel, top: float
) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Posterior mean and variance ``E|error|^2`` of fields with one reading under `top`, (n,) each.

    ``|y + beam_q|^2 = I_q`` is a ring around ``-beam_q``. Where on it y lies only the saturated readings tell, each by
    the chance that it is that bright or brighter, and the prior: their product is averaged over the ring. Both ends of
    an arc are often as likely, so that no single point on it would be within its error.

    Parameters
    ----------
    readings : ndarray, shape (P, n)
        DN; one of each column is under `top`.
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
    points = np.sqrt(light)[:, None] * turns - beams[step, at, None]  # (n, ANGLES)
    weight = -(np.abs(points - prior.mean[:, None]) ** 2) / np.maximum(prior.spread, np.float32(1e-3))[:, None]
    sigma = np.sqrt(noise.variance(np.array([top])))
    for seen, beam in zip(readings, beams, strict=True):
        model = np.abs(points + beam[:, None]) ** 2 + np.float32(noise.dark_dn)
        weight += np.where((seen >= top)[:, None], log_ndtr((model - top) / sigma), 0.0)
    weight = np.exp(weight - weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    mean = (weight * points).sum(axis=1)
    across = noise.variance(readings[step, at]) / (4.0 * light)
    variance = (weight * np.abs(points - mean[:, None]) ** 2).sum(axis=1) + across
    return mean.astype(np.complex64), variance.astype(np.float32)
