"""The counter-based generator: Philox4x32-10 and the distributions drawn from its words.

It is the only source of randomness in the package and has no state: a draw is a function of ``(seed, stream, index,
tick)``, so a device has the same transmission matrix and the same noise in any batch split, on any number of threads.
``index`` is a place (a pixel, a column) and ``tick`` a time (a frame number, or a pair of rows of a matrix).

The functions of this module use the array API only and are the readable reference. `photonics.kernels` has the same
distributions as scalar functions for numba; tests compare the two.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
"""

import math
import operator
from enum import IntEnum
from types import ModuleType
from typing import SupportsIndex

from array_api_compat import array_namespace, device, is_torch_namespace

from photonics.arrays import Array

__all__ = [
    "PatternSet",
    "Stream",
    "check_seed",
    "normal_pair",
    "philox",
    "poisson",
    "three_bit",
    "uniform",
    "word_type",
    "words",
]

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
POISSON_SWITCH = 10.0
"""Mean from which Poisson draws use the Cornish-Fisher form instead of inversion."""
POISSON_TERMS = 64
"""Number of terms of the inversion; below the switch the probability of larger counts is less than 1e-28."""


class Stream(IntEnum):
    """Purpose of a draw: the last word of the counter."""

    MATRIX = 1
    PRNU = 2
    DSNU = 3
    STUCK_MIRROR = 4
    SENSOR = 5
    RIN = 6
    LASER_DRIFT = 7
    PROBES = 8
    FEEDBACK = 9
    MATRIX_PHASE = 10
    DRIFT_MEDIUM = 11
    SCREEN = 12
    POINTING_X = 13
    POINTING_Y = 14
    ABERRATION_DRIFT = 16
    REFERENCE_DRIFT = 17
    REFERENCE_PHASE = 18
    REFERENCE_NOISE = 19
    BERNOULLI = 20
    THREE_BIT = 21
    DEAD_PIXEL = 22
    NOISE_SEED = 23
    DRIFT_TURN = 24
    SPAWN = 25
    VIBRATION = 26
    HOT_PIXEL = 40
    HOT_CURRENT = 41
    ROW_NOISE = 42
    COLUMN_NOISE = 43
    ROW_DSNU = 44
    COLUMN_DSNU = 45


class PatternSet(IntEnum):
    """First tick of each set of random patterns in `Stream.PROBES`, so that no two sets share a draw.

    Sets of `photonics.patterns.encoding.half_on` take one tick per pattern and lie 1 000 000 ticks apart.
    """

    EXPOSURE = 0
    """Patterns for setting the exposure; also the default set."""
    PROJECTION_VECTORS = 1_000_000
    """Vectors on which a report measures a projection."""
    DISJOINT_PARTS = 2_000_000
    """Masks that split those vectors into two disjoint parts, to test additivity."""
    SPECKLE = 3_000_000
    """Patterns whose frames give the speckle statistics of a report."""
    HELD_OUT = 4_000_000
    """Patterns that test a recovered matrix and that no recovery uses."""
    FOCUSING = 5_000_000
    """Patterns whose mean intensity is the reference for the enhancement of a focus."""
    STABILITY = 6_000_000
    """The pattern that a report repeats to measure the drift of the device."""
    REPORT_EXPOSURE = 7_000_000
    """Patterns from which a report sets the exposure."""
    SIDEBAND = 8_000_000
    """Patterns that locate the sideband of an off-axis reference."""
    CHECKS = 9_000_000
    """Patterns of check frames, which a recovery takes but does not fit."""
    TWIN = 10_000_000
    """Patterns from whose frames a twin is fitted."""
    HADAMARD_ORDER = 2**40
    """Order and inverted inputs of Hadamard probes: two ticks for each set of probes."""
    START_VECTOR = 2**41
    """Start vectors of the power iteration: one tick per row of the matrix, 2**32 ticks per start."""


def check_seed(seed: SupportsIndex) -> int:
    """Return `seed` if it can be a Philox key, or raise a ``ValueError``."""
    try:
        whole = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        whole = -1
    if not 0 <= whole < 2**64:
        raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")
    return whole


def word_type(xp: ModuleType) -> object:
    """Type of words in an array library: uint64, or int64 in torch, which cannot shift uint64 on the host.

    A product of two words that overflows int64 has the same bits, and `philox` drops those that the sign adds.
    """
    return xp.int64 if is_torch_namespace(xp) else xp.uint64


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Encrypt a 128-bit counter with ten Philox rounds.

    Parameters
    ----------
    counter : tuple of 4 arrays
        Arrays of `word_type` that broadcast, each holding 32-bit words, least significant word first.
    key : tuple of 2 int
        The two 32-bit words of the key.

    Returns
    -------
    tuple of 4 arrays
        Arrays of `word_type` holding 32-bit words, uniform and independent.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> 32) & MASK ^ c1 ^ k0,
            product1 & MASK,
            (product0 >> 32) & MASK ^ c3 ^ k1,
            product0 & MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def words(seed: int, stream: int, index: Array, tick: Array) -> tuple[Array, Array, Array, Array]:
    """Four words for each ``(index, tick)``; the counter is ``(index, tick low, tick high, stream)``.

    Parameters
    ----------
    seed : int
        0 to 2**64 - 1; the Philox key.
    stream : int
        A member of `Stream`.
    index, tick : arrays of integers
        They broadcast; `index` below 2**32, `tick` below 2**63.
    """
    xp = array_namespace(index, tick)
    seed = check_seed(seed)
    index, tick = xp.astype(index, word_type(xp)), xp.astype(tick, word_type(xp))
    index, tick = xp.broadcast_arrays(index, tick)
    counter = (index, tick & MASK, tick >> 32, xp.full_like(index, int(stream)))
    return philox(counter, (seed & MASK, seed >> 32))


def uniform(word: Array) -> Array:
    """Float64 uniform in the open interval (0, 1): the exact centres of 2**32 equal cells.

    >>> import numpy as np
    >>> uniform(np.asarray([0, 2**31, 2**32 - 1], dtype=np.uint64))
    array([1.16415322e-10, 5.00000000e-01, 1.00000000e+00])
    """
    xp = array_namespace(word)
    return (xp.astype(word, xp.float64) + 0.5) * 2.0**-32


def normal_pair(word0: Array, word1: Array) -> tuple[Array, Array]:
    """Two independent standard normals (float32) from two words, by Box and Muller.

    The radius uses all 32 bits, so the tails reach 6.7 standard deviations.
    """
    xp = array_namespace(word0, word1)
    radius = xp.sqrt(-2.0 * xp.log(uniform(word0)))
    angle = xp.astype(word1, xp.float64) * (2.0 * math.pi * 2.0**-32)
    return xp.astype(radius * xp.cos(angle), xp.float32), xp.astype(radius * xp.sin(angle), xp.float32)


def three_bit(word: Array) -> Array:
    """Draw +-3 with probability 3/8 each and +-13 with 1/8 each (float32): (..., 1, n) words -> (..., 8, n).

    Divided by 7 they have the moments of a standard normal up to the fifth (the fourth to 0.03 %). A word gives eight
    draws of four bits: the lowest two choose the magnitude, the third the sign.
    """
    xp = array_namespace(word)
    place = xp.reshape(xp.arange(8, dtype=word_type(xp), device=device(word)), (8, 1))
    bits = xp.bitwise_right_shift(word, 4 * place)
    size = 3.0 + 10.0 * xp.astype((bits & 3) == 3, xp.float32)
    return xp.where((bits & 4) != 0, size, -size)


def poisson(mean: Array, normal: Array, word: Array) -> Array:
    """Poisson counts (float32) with the given mean.

    Parameters
    ----------
    mean : array of float32
        Mean counts, at least 0.
    normal : array of float32
        A standard normal for each mean, used at and above `POISSON_SWITCH`.
    word : array of `word_type`
        A 32-bit word for each mean, used below `POISSON_SWITCH`; independent of `normal`.

    Notes
    -----
    Below a mean of 10 the draw inverts the distribution function, exactly to the 2**-32 of the word. Above,
    it is the Cornish-Fisher form with the terms of skewness and kurtosis and Sheppard's correction for the rounding,
    ``rint(m + sqrt(m) z + (z**2 - 1)/6 - (2 z + z**3)/(72 sqrt(m)))``. Its total-variation error, integrated
    numerically, is 5.5e-4 at mean 10 and 4.5e-5 at 50, and decreases up to a mean of about 100; the rounding of float32
    adds 4e-8 times the mean (5e-4 at 1e4). The third cumulant is 1.8 % low at mean 10.
    """
    xp = array_namespace(mean, normal, word)
    root = xp.sqrt(xp.where(mean < POISSON_SWITCH, POISSON_SWITCH, mean))
    large = mean + root * normal + (normal * normal - 1.0) / 6.0
    large = xp.round(large - normal * (2.0 + normal * normal) / (72.0 * root))
    large = xp.where(large < 0.0, 0.0, large)

    m = xp.astype(xp.where(mean < POISSON_SWITCH, mean, 0.0), xp.float64)
    u = uniform(word)
    term = xp.exp(-m)
    cumulative, count = term, xp.zeros_like(m)
    for k in range(1, POISSON_TERMS):
        count = count + xp.astype(u > cumulative, xp.float64)
        term = term * m / float(k)
        cumulative = cumulative + term
    return xp.where(mean < POISSON_SWITCH, xp.astype(count, xp.float32), large)
