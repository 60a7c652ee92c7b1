"""Statistics of the speckle and the transmission matrix of a thick random medium."""

import math

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import Array, real_numbers
from photonics.chain import Chain, expand_modes
from photonics.component import number
from photonics.medium import Effect, Lossy, MatrixMedium, Modes

__all__ = [
    "contrast",
    "expected_speckle",
    "exponential_distance",
    "marchenko_pastur_density",
    "marchenko_pastur_edges",
    "optical_kernel",
]


def contrast(intensity: Array) -> float:
    """Speckle contrast, standard deviation over mean; 1 in fully developed speckle (Goodman 2020, 3.2)."""
    intensity = real_numbers(intensity, "intensity")
    return float(intensity.std() / intensity.mean())


def exponential_distance(intensity: Array) -> float:
    """Kolmogorov-Smirnov distance to the exponential distribution of the same mean, times sqrt(N).

    For that distribution it is below 1.63 with a probability of 99 %, or slightly more, since the mean is that of the
    data.
    """
    from scipy.stats import kstest  # takes longer to load than all of this package

    intensity = np.ravel(real_numbers(intensity, "intensity"))
    result = kstest(intensity / intensity.mean(), "expon")
    return float(result.statistic * math.sqrt(intensity.size))


def expected_speckle(chain: Chain) -> tuple[float, float]:
    """Share of the light that the medium leaves, and contrast of a frame, from the parameters of a device.

    The contrast is less than 1 with several polarisations, modes or wavelengths, or grains smaller than a pixel. It is
    NaN if some light is not scattered. A matrix of the user leaves its own mean share, and counts as fully developed.
    """
    medium, _ = expand_modes(chain.medium, chain.laser, chain.imaging)
    transmission, square = 1.0, chain.imaging.contrast(1, chain.laser.wavelength_m) ** 2
    while isinstance(medium, Effect):
        if isinstance(medium, Lossy):
            transmission *= medium.transmission
        if isinstance(medium, Modes):
            square *= sum(amplitude**4 for amplitude in medium.amplitudes)
        medium = medium.medium
    if isinstance(medium, MatrixMedium):
        transmission *= medium.transmission
    return transmission, math.nan if chain.medium.holds_ballistic else math.sqrt(square)


def marchenko_pastur_edges(n_out: float, n_in: float) -> tuple[float, float]:
    """Smallest and largest singular value of an i.i.d. (n_out, n_in) matrix with ``E|t|^2 = 1/n_in``.

    ``|1 -+ sqrt(n_out / n_in)|``, in the limit of large matrices.
    """
    root = math.sqrt(n_out / n_in)
    return abs(1.0 - root), 1.0 + root


def marchenko_pastur_density(s: Array, n_out: float, n_in: float) -> NDArray[np.float64]:
    """Density of the non-zero singular values `s` of such a matrix (Marchenko and Pastur 1967)."""
    low, high = marchenko_pastur_edges(n_out, n_in)
    s = real_numbers(s, "s")
    inside = np.maximum((high**2 - s**2) * (s**2 - low**2), 0.0)
    share = min(1.0, n_out / n_in)
    return np.sqrt(inside) / (math.pi * share * np.where(s > 0, s, np.inf))


def optical_kernel(x: Array, y: Array, variance: float, contrast: float = 1.0) -> NDArray[np.float64]:
    """Mean of ``I(x) I(y)`` over the rows of T, ``v^2 (|x|^2 |y|^2 + C^2 |<x, y>|^2)``, ``v = E|t|^2``.

    Parameters
    ----------
    x, y : array_like, shapes (n, n_in) and (m, n_in)
        Fields before the medium, real or complex.
    variance : float
        ``E|t_ij|^2``.
    contrast : float
        Contrast C of the speckle, 0 to 1; under 1 where a pixel sums several fields, ``sum_m w_m |t_m x|^2``.

    Returns
    -------
    ndarray, shape (n, m)

    References
    ----------
    A. Saade et al., ICASSP 2016; R. Ohana et al., ICASSP 2020.
    """
    if not 0 <= number(contrast) <= 1:
        raise ValueError(f"contrast must be 0 to 1, got {contrast!r}")
    x, y = np.asarray(x) * 1.0, np.asarray(y) * 1.0  # bool and int8 would multiply in their own type
    norms = np.outer(np.sum(np.abs(x) ** 2, axis=1), np.sum(np.abs(y) ** 2, axis=1))
    return variance**2 * (norms + contrast**2 * np.abs(x.conj() @ y.T) ** 2)
