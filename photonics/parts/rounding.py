"""Mean and variance of codes: what rounding to whole numbers makes of shot noise and normal noise.

A code is ``y = rint(x)``, ``x = level + gain n + z``, n Poisson and z normal. The error of rounding is periodic in x::

    y - x       =        sum_k (-1)^k sin(2 pi k x) / (pi k)
    (y - x)^2   = 1/12 + sum_k (-1)^k cos(2 pi k x) / (pi k)^2

so its moments follow from the characteristic function of x at ``a = 2 pi k``, which is known exactly::

    E[exp(i a x)]              = phi = exp(mean (exp(i a gain) - 1) - a^2 normal / 2 + i a level)
    E[(x - E[x]) exp(i a x)]   = phi (gain mean (exp(i a gain) - 1) + i a normal)

From a noise of about 0.4 DN on the sums vanish: rounding then adds 1/12 to the variance and nothing to the mean
(Sheppard's correction). Under `QUIET` a code differs from its neighbour at most, and x is taken as normal.
"""

import math

import numpy as np

from photonics import kernels
from photonics.arrays import Array
from photonics.backend import Backend

__all__ = ["code_moments"]

QUIET = 0.02
"""Noise under which a code differs from its neighbour at most, DN."""
BLUR = 0.015
"""Least normal noise in the sums, DN, where `TERMS` terms resolve single electrons. It changes the result only where an
electron more or less falls on a boundary between codes and read noise is under half an electron."""
TERMS = 48
"""Terms of the sums; at a noise of `QUIET` the next one is under 1e-4."""
FINE_GAIN = 0.25 / TERMS
"""Gain under which the sums do not resolve single electrons, DN per electron."""


def code_moments(mean_e: Array, normal: Array, level: Array, gain: float, backend: Backend) -> tuple[Array, Array]:
    """Mean (DN) and variance (DN^2) of ``rint(level + gain n + z)``, of the shape of `mean_e`.

    Parameters
    ----------
    mean_e : array of float64
        Mean of the Poisson count n, electrons.
    normal : array of float64
        Variance of the normal noise z, DN^2, of the same shape.
    level : array of float64
        Offset, DN; it broadcasts.
    gain : float
        DN per electron.
    backend : Backend
        That of the arrays.
    """
    xp = backend.xp
    if gain > FINE_GAIN:
        normal = xp.where((gain**2 * mean_e + normal >= QUIET**2) & (normal < BLUR**2), BLUR**2, normal)
    if backend.on_host:
        waves = np.exp(2j * np.pi * gain * np.arange(1, TERMS + 1)) - 1.0
        mean, variance = np.empty(mean_e.shape), np.empty(mean_e.shape)
        count, noise, dn = (
            np.ascontiguousarray(np.broadcast_to(array, mean_e.shape)).reshape(-1) for array in (mean_e, normal, level)
        )
        real, imaginary = np.ascontiguousarray(waves.real), np.ascontiguousarray(waves.imag)
        kernels.cpu.code_moments(count, noise, dn, gain, real, imaginary, QUIET, mean.reshape(-1), variance.reshape(-1))
        return mean, variance
    quiet = gain**2 * mean_e + normal < QUIET**2
    codes, waves = (by(mean_e, normal, level, gain, xp) for by in (by_codes, by_waves))
    return xp.where(quiet, codes[0], waves[0]), xp.where(quiet, codes[1], waves[1])


def by_waves(mean_e: Array, normal: Array, level: Array, gain: float, xp: Array) -> tuple[Array, Array]:
    """`code_moments` by the sums over k."""
    bias, square, product = 0.0 * mean_e, 0.0 * mean_e + 1.0 / 12.0, 0.0 * mean_e
    for k in range(1, TERMS + 1):
        a, factor = 2.0 * math.pi * k, (-1.0) ** k / (math.pi * k)
        real, imaginary = math.cos(a * gain) - 1.0, math.sin(a * gain)
        size = factor * xp.exp(mean_e * real - normal * (a**2 / 2.0))
        angle = mean_e * imaginary + level * a
        sine, cosine = size * xp.sin(angle), size * xp.cos(angle)
        bias = bias + sine
        square = square + cosine / (math.pi * k)
        product = product + sine * mean_e * (gain * real) + cosine * (mean_e * (gain * imaginary) + normal * a)
    variance = gain**2 * mean_e + normal + square - bias**2 + 2.0 * product
    return level + gain * mean_e + bias, xp.where(variance < 0.0, 0.0, variance)


def by_codes(mean_e: Array, normal: Array, level: Array, gain: float, xp: Array) -> tuple[Array, Array]:
    """`code_moments` by the probabilities of the next code and the one before."""
    middle, noise = level + gain * mean_e, xp.sqrt(gain**2 * mean_e + normal)
    code, noisy = xp.round(middle), noise > 0.0
    scale = xp.where(noisy, noise, 1.0)
    up, down = (xp.where(noisy, upper_tail((0.5 + s * (code - middle)) / scale, xp), 0.0) for s in (1.0, -1.0))
    return code + up - down, up + down - (up - down) ** 2


def upper_tail(z: Array, xp: Array) -> Array:
    """Probability that a standard normal exceeds z, 0 or more, to 1e-7 (Abramowitz and Stegun 7.1.26)."""
    t = 1.0 / (1.0 + (0.3275911 / math.sqrt(2.0)) * z)
    powers = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return 0.5 * powers * xp.exp(-0.5 * z * z)
