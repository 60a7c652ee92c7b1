"""The laws of `photonics.random` as scalar functions in numba's subset, for CPU and GPU.

They are registered for any numba target; `photonics.kernels.cpu` and `photonics.kernels.cuda` hold the loops. Words
and uniforms equal the specification bit for bit. Normals agree to 2e-6, or to 3e-8 divided by their radius where the
radius is under 0.015 (one draw in 10 000), because logarithm, sine and cosine are float32 polynomials here: a call into
a maths library would stop the loops from vectorising. No fused multiply-add is used on the CPU, so a given seed gives
the same bits on every instruction set.

numba widens any operation on two uint32 to 64 bits, hence the casts.
"""

import math

import numba
import numpy as np
from numba.extending import intrinsic, overload, register_jitable

from photonics.random import MULTIPLIERS, POISSON_SWITCH, POISSON_TERMS, WEYL

U32, F32 = np.uint32, np.float32
M0, M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
W0, W1 = U32(WEYL[0]), U32(WEYL[1])
SHIFT = np.uint64(32)
SWITCH = F32(POISSON_SWITCH)

# Chebyshev fits. log(1 + x) = x - x^2/2 + x^3 P(x) on [sqrt(1/2) - 1, sqrt(2) - 1], error 3e-8 of P;
# sin(y) = y S(y^2) and cos(y) = C(y^2) on [-pi/4, pi/4], errors 3e-9 and 5e-11.
LOG = tuple(
    F32(c)
    for c in (
        0.3333333,
        -0.2499999,
        0.20000708,
        -0.1666848,
        0.14249937,
        -0.124110505,
        0.11661511,
        -0.11571201,
        0.07149754,
    )
)
SIN = tuple(F32(c) for c in (1.0, -0.16666651, 0.008332036, -0.00019503963))
COS = tuple(F32(c) for c in (1.0, -0.5, 0.041666616, -0.0013886619, 2.437988e-05))
L0, L1, L2, L3, L4, L5, L6, L7, L8 = LOG
S0, S1, S2, S3 = SIN
C0, C1, C2, C3, C4 = COS
LN2, HALF, ONE, TWO = F32(math.log(2.0)), F32(0.5), F32(1.0), F32(2.0)
INVERSE_LN2, LN2_HIGH, LN2_LOW = F32(1.0 / math.log(2.0)), F32(0.693359375), F32(math.log(2.0) - 0.693359375)
E0, E1, E2, E3, E4, E5, E6, E7, E8 = (F32((-1.0) ** k / math.factorial(k)) for k in range(9))
RECIPROCAL = 1.0 / np.maximum(np.arange(POISSON_TERMS), 1.0)  # because a division takes three times as long
WHOLE = F32(2.0**23)
TURN, TINY = F32(2.0 * math.pi * 2.0**-32), F32(2.0**-32)

# LLVM does not inline functions of this size, and a loop with a call does not vectorise (13x slower).
inline = register_jitable(forceinline=True, no_cfunc_wrapper=True)


@inline
def philox(c0, c1, c2, c3, k0, k1):
    """Ten rounds of Philox4x32 on uint32 scalars."""
    for _ in range(10):
        p0, p1 = M0 * np.uint64(c0), M1 * np.uint64(c2)
        c0 = U32(U32(U32(p1 >> SHIFT) ^ c1) ^ k0)
        c2 = U32(U32(U32(p0 >> SHIFT) ^ c3) ^ k1)
        c1, c3 = U32(p1), U32(p0)
        k0, k1 = U32(k0 + W0), U32(k1 + W1)
    return c0, c1, c2, c3


@inline
def larger(a, b):
    """``max(a, b)``, since numba's CUDA target does not compile ``max`` for two floats."""
    return a if a > b else b


@inline
def smaller(a, b):
    """``min(a, b)``, as `larger`."""
    return a if a < b else b


@inline
def uniform(word):
    """Uniform in the open interval (0, 1), float64."""
    return (np.float64(word) + 0.5) * 2.0**-32


@intrinsic
def reinterpret(typingctx, value):
    """Bits of a float32 as an int32, or the other way round, on any target."""
    result = numba.types.int32 if value == numba.types.float32 else numba.types.float32

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(value), codegen


def bits(x):
    """Bits of a float32 as an int32 (numba's ``x.view`` does not compile for the CUDA target)."""
    return x.view(np.int32)


def from_bits(i):
    """Float32 of the given bits."""
    return i.view(np.float32)


@overload(bits, jit_options={"forceinline": True})
def compile_bits(x):
    """Implementation of `bits` for numba."""
    return lambda x: reinterpret(F32(x))  # pyright: ignore[reportCallIssue]


@overload(from_bits, jit_options={"forceinline": True})
def compile_from_bits(i):
    """Implementation of `from_bits` for numba."""
    return lambda i: reinterpret(np.int32(i))  # pyright: ignore[reportCallIssue]


@inline
def radius(word):
    """Box-Muller radius ``sqrt(-2 log u)``, ``u = (word + 1/2) / 2**32``, float32."""
    u = (F32(word) + HALF) * TINY
    whole = bits(F32(u))
    # Split u = m 2**e with m in [sqrt(1/2), sqrt(2)), through the bits of the float.
    exponent = (whole - np.int32(0x3F3504F3)) >> np.int32(23)
    x = from_bits(np.int32(whole - (exponent << np.int32(23)))) - ONE
    p = L5 + x * (L6 + x * (L7 + x * L8))
    p = L0 + x * (L1 + x * (L2 + x * (L3 + x * (L4 + x * p))))
    log = x - x * x * HALF + x * x * x * p + F32(exponent) * LN2
    return F32(math.sqrt(larger(F32(-2.0) * log, F32(0.0))))


@inline
def phasor(word):
    """``exp(2 pi i word / 2**32)`` as (real, imaginary), float32; error 1e-7, modulus 1 within 2e-7."""
    quadrant = U32(U32(word + U32(0x20000000)) >> U32(30))
    y = F32(np.int32(U32(word - U32(quadrant << U32(30))))) * TURN
    z = y * y
    s = y * (S0 + z * (S1 + z * (S2 + z * S3)))
    c = C0 + z * (C1 + z * (C2 + z * (C3 + z * C4)))
    odd = (quadrant & U32(1)) != 0
    cosine, sine = (s, c) if odd else (c, s)
    cosine = -cosine if quadrant == U32(1) or quadrant == U32(2) else cosine
    sine = -sine if quadrant >= U32(2) else sine
    return cosine, sine


@inline
def normal_pair(word0, word1):
    """Two standard normals (float32) from two words."""
    r = radius(word0)
    cosine, sine = phasor(word1)
    return r * cosine, r * sine


@inline
def round_even(x):
    """Nearest integer, halves to even, float32: ``np.rint``, which some targets of numba lack.

    A float32 of 2**23 or more is an integer. For smaller values, the sum with 2**23 has no fractional bits.
    """
    big = WHOLE if x >= F32(0.0) else -WHOLE
    return (x + big) - big if abs(x) < WHOLE else x


@inline
def poisson_large(mean, normal):
    """Cornish-Fisher Poisson count for means of 10 or more, float32."""
    root = F32(math.sqrt(larger(mean, SWITCH)))
    square = normal * normal
    count = mean + root * normal + (square - ONE) * F32(1.0 / 6.0)
    count = count - normal * (TWO + square) / (F32(72.0) * root)
    return larger(round_even(count), F32(0.0))


@inline
def exp_minus(x):
    """``exp(-x)`` from 0 to 10, float32; relative error 4e-7."""
    whole = np.int32(x * INVERSE_LN2)
    y = x - F32(whole) * LN2_HIGH - F32(whole) * LN2_LOW
    p = E4 + y * (E5 + y * (E6 + y * (E7 + y * E8)))
    p = E0 + y * (E1 + y * (E2 + y * (E3 + y * p)))
    return from_bits(np.int32(bits(F32(p)) - (whole << np.int32(23))))


@inline
def poisson_small(mean, word):
    """Poisson count by inversion for means below 10, float32."""
    u = uniform(word)
    m = np.float64(mean)
    term = math.exp(-m)
    cumulative, count = term, 0
    while u > cumulative and count < POISSON_TERMS - 1:
        count += 1
        term = term * m * RECIPROCAL[count]
        cumulative += term
    return F32(count)
