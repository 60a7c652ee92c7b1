"""Loops over complex numbers that quarter turns multiply, for sums over many media.

A quarter turn is its number c, 0 to 3, which stands for ``i**c``. Products with it are exact, so they are exchanges of
real and imaginary part and changes of sign. Complex numbers are pairs of floats.
"""

import numpy as np

from photonics.arrays import FloatArray, HostArray, IntArray
from photonics.kernels.compiled import compiled, widen_vectors

__all__ = ["add_turned", "add_weighed", "flip", "turn"]

F32, F64 = np.float32, np.float64
jit = compiled(error_model="numpy")


@jit
def flip(values: FloatArray, codes: HostArray, place: IntArray, out: FloatArray) -> None:
    """``out[f, t] = values[f] * i**codes[place[f, t]]`` of real values, by half turns: codes are 0 or 2."""
    widen_vectors()
    for f in range(place.shape[0]):
        for t in range(place.shape[1]):
            name = place[f, t]
            for j in range(codes.shape[1]):
                value = values[f, j]
                out[f, t, j] = -value if codes[name, j] != 0 else value


@jit
def turn(values: FloatArray, codes: HostArray, place: IntArray, out: FloatArray) -> None:
    """``out[f, t] = values[f] * i**codes[place[f, t]]`` of complex values."""
    widen_vectors()
    for f in range(place.shape[0]):
        for t in range(place.shape[1]):
            name = place[f, t]
            for j in range(codes.shape[1]):
                code = codes[name, j]
                a, b = values[f, 2 * j], values[f, 2 * j + 1]
                u, v = (b, a) if code & 1 else (a, b)
                out[f, t, 2 * j] = -u if (code + 1) & 2 else u
                out[f, t, 2 * j + 1] = -v if code & 2 else v


@jit
def add_turned(values: FloatArray, codes: HostArray, place: IntArray, weights: HostArray, total: FloatArray) -> None:
    """``total[f] += sum_t weights[f, t] * values[f, t] * i**codes[place[f, t]]``, weighted in double precision."""
    widen_vectors()
    for f in range(place.shape[0]):
        for t in range(place.shape[1]):
            name, weight = place[f, t], weights[f, t]
            for j in range(codes.shape[1]):
                code = codes[name, j]
                a, b = values[f, t, 2 * j], values[f, t, 2 * j + 1]
                u, v = (b, a) if code & 1 else (a, b)
                u = -u if (code + 1) & 2 else u
                v = -v if code & 2 else v
                total[f, 2 * j] += F32(F64(u) * weight)
                total[f, 2 * j + 1] += F32(F64(v) * weight)


@jit
def add_weighed(values: FloatArray, weights: HostArray, total: FloatArray) -> None:
    """``total[f] += weights[f] * values[f]``, weighted in double precision."""
    widen_vectors()
    for f in range(values.shape[0]):
        weight = weights[f]
        for j in range(values.shape[1]):
            total[f, j] += F32(F64(values[f, j]) * weight)
