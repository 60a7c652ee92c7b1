"""Surface of the mirror array: astigmatism and defocus, and their slow drift.

A chip is not flat and adds a smooth phase to the wavefront. Two Zernike polynomials, in Noll's normalisation, carry
most of it:

    defocus (Z4)      sqrt(3) (2 r^2 - 1)
    astigmatism (Z6)  sqrt(6) (x^2 - y^2)

with x, y in units of the radius of the circle around the chip, over which each has an rms of 1 and they are orthogonal.
Both are sums of a function of x and a function of y, so that on a grid of mirrors ``exp(i phase)`` is an outer product.

References
----------
R. J. Noll, "Zernike polynomials and atmospheric turbulence", J. Opt. Soc. Am. 66, 207 (1976).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photonics import draws
from photonics.arrays import IntArray
from photonics.random import Stream

__all__ = ["coefficient_drift", "phase_parts"]

KEYS = 2**31
"""First index of the words that seed the drift of the coefficients; the process itself uses indices below 64."""


def phase_parts(
    astigmatism_waves: ArrayLike, defocus_waves: ArrayLike, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Phase in radians as ``of_x[..., None, :] + of_y[..., :, None]``.

    Parameters
    ----------
    astigmatism_waves, defocus_waves : array_like, shape (...,)
        Coefficients, waves rms over the unit circle.
    x, y : ndarray, shapes (columns,) and (rows,)
        Positions in units of the radius of the circle.

    Returns
    -------
    tuple of 2 ndarrays, shapes (..., columns) and (..., rows)
    """
    astigmatism = 2.0 * math.pi * math.sqrt(6.0) * np.asarray(astigmatism_waves)[..., None]
    defocus = 2.0 * math.pi * math.sqrt(3.0) * np.asarray(defocus_waves)[..., None]
    of_x = (2.0 * defocus + astigmatism) * x**2 - defocus / 2.0
    of_y = (2.0 * defocus - astigmatism) * y**2 - defocus / 2.0
    return of_x, of_y


def coefficient_drift(ticks: IntArray, step: float, seed: int) -> NDArray[np.float64]:
    """Drift of the coefficients of astigmatism and of defocus, in units of their rms: (2, batch).

    Two independent Ornstein-Uhlenbeck processes with correlation ``exp(-step |i - j|)``, functions of the frame number.
    """
    keys = draws.words(seed, Stream.ABERRATION_DRIFT, [KEYS, KEYS + 1])[:, :2].tolist()
    return np.stack(
        [
            draws.ornstein_uhlenbeck(low | high << 32, Stream.ABERRATION_DRIFT, np.asarray(ticks, np.int64), step)
            for low, high in keys
        ]
    )
