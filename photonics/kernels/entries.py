"""Entries of random transmission matrices, column by column, from the generator.

Every entry is a function of ``(seed, row, column)``. No fused multiply-add is allowed here, so that a seed gives the
same matrix on every processor. `photonics.kernels.product` does allow it: the two modules have different compiler
options.
"""

import numpy as np

from photonics.arrays import FloatArray, IntArray
from photonics.kernels.compiled import compiled, widen_vectors
from photonics.kernels.laws import F32, U32, inline, normal_pair, philox
from photonics.kernels.product import add_four, end_chain, take_four
from photonics.kernels.tile import BLOCK, CHAIN

__all__ = ["add_columns", "fill_columns", "work_arrays"]

jit = compiled(error_model="numpy")


@inline
def gaussian(column, pair, stream, k0, k1):
    """Four standard normals: real and imaginary parts of the rows ``2 pair`` and ``2 pair + 1``."""
    w0, w1, w2, w3 = philox(U32(column), U32(pair), U32(0), U32(stream), U32(k0), U32(k1))
    a, b = normal_pair(w0, w1)
    c, d = normal_pair(w2, w3)
    return a, b, c, d


@inline
def three_bit(word, place):
    """+-3 (3/8 each) or +-13 (1/8 each), from the four bits of a word at `place`, one of which is not used."""
    bits = U32(word >> U32(U32(4) * U32(place)))
    size = F32(13.0) if (bits & U32(3)) == U32(3) else F32(3.0)
    return size if (bits & U32(4)) != U32(0) else -size


@jit
def gaussian_column(column, first_pair, pairs, stream, k0, k1, scale, out):
    """Parts of `pairs` pairs of rows of one column, side by side."""
    widen_vectors()
    for p in range(pairs):
        a, b, c, d = gaussian(column, first_pair + p, stream, k0, k1)
        out[4 * p] = a * scale
        out[4 * p + 1] = b * scale
        out[4 * p + 2] = c * scale
        out[4 * p + 3] = d * scale


@jit
def three_bit_column(column, first_group, groups, stream, k0, k1, scale, out):
    """Parts of `groups` groups of 64 rows of one column: part ``16 place + i`` of a group is in its word i."""
    widen_vectors()
    words = np.empty(16 * groups, np.uint32)
    for call in range(4 * groups):
        w0, w1, w2, w3 = philox(U32(column), U32(4 * first_group + call), U32(0), U32(stream), U32(k0), U32(k1))
        words[4 * call] = w0
        words[4 * call + 1] = w1
        words[4 * call + 2] = w2
        words[4 * call + 3] = w3
    for g in range(groups):
        source, row = words[16 * g : 16 * g + 16], out[128 * g : 128 * g + 128]
        for i in range(16):  # unrolled by hand: a loop over the places takes five times as long
            word = source[i]
            row[i] = three_bit(word, 0) * scale
            row[16 + i] = three_bit(word, 1) * scale
            row[32 + i] = three_bit(word, 2) * scale
            row[48 + i] = three_bit(word, 3) * scale
            row[64 + i] = three_bit(word, 4) * scale
            row[80 + i] = three_bit(word, 5) * scale
            row[96 + i] = three_bit(word, 6) * scale
            row[112 + i] = three_bit(word, 7) * scale


@inline
def draw_column(three, column, first, draws, stream, k0, k1, scale, out):
    """Parts of one column from draw number `first` on: by the three-bit law if `three`, else by the Gaussian one."""
    if three:
        three_bit_column(column, first, draws, stream, k0, k1, scale, out)
    else:
        gaussian_column(column, first, draws, stream, k0, k1, scale, out)


@jit
def fill_columns(three, first_column, columns, first, draws, stream, k0, k1, scale, tile):
    """``tile[k] = `` parts of column ``first_column + k``; a draw makes 2 rows, or `GROUP` by the three-bit law."""
    widen_vectors()
    for k in range(columns):
        draw_column(three, first_column + k, first, draws, stream, k0, k1, scale, tile[k])


def work_arrays(parts: int) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Arrays in which `add_columns` keeps a group of inputs and the sums of as many parts."""
    real, imaginary = np.zeros((2, parts), np.float32)
    return np.zeros(4, np.int64), np.zeros(4, np.float32), real, imaginary


@jit
def add_columns(three, x, where, binary, first, draws, stream, k0, k1, scale, tile, rows, weights, part, sums, total):
    """``total += T x`` for one frame; draws only the columns `where` its entries are not zero, and stores none.

    `binary` is whether its values are all 0 or 1, which decides the order of summation. `tile` is a buffer of five
    columns, the last one of zeros, and the four arrays after it are `work_arrays`, since code that allocates takes long
    to compile.
    """
    widen_vectors()
    at = np.int64(0)  # as a plain 0 it would have a type of its own, and `take_four` be compiled twice
    while at < where.size:
        last = take_four(x, where, at, binary, rows, weights)
        for i in range(at, last):
            draw_column(three, where[i], first, draws, stream, k0, k1, scale, tile[i - at])
        add_four(binary, rows, weights, tile, part)
        before, at = where[last - 1], last
        after = where[at] if at < where.size else before + BLOCK
        if before ^ after >= CHAIN:  # a call for each four would take 2 % of the time
            end_chain(binary, before, after, part, sums, total)
