"""The product of frames with a tile of a transmission matrix, summed in an order of its own.

Each value is one chain of fused multiply-adds over the inputs, in ascending order: ``s = fma(x_k, t_k, s)``. So
a frame's result depends neither on the frames beside it nor on tiles and threads, and an input that is zero may be
skipped without a trace. A BLAS promises neither. On a processor without fused multiply-add the chain rounds twice;
the order holds.

A tile is float32 of shape (`INPUTS`, `WIDTH`): one row for each input, with the real and imaginary parts of
`OUTPUTS` outputs side by side. That length is literal, which lets the compiler unroll, and the padding keeps
the rows off the same cache sets.
"""

import numba

__all__ = ["INPUTS", "OUTPUTS", "PARTS", "WIDTH", "accumulate", "add_column", "copy_tile", "gather", "transpose_tile"]

INPUTS = 256
"""Inputs of a tile."""
OUTPUTS = 256
"""Outputs of a tile."""
PARTS = 2 * OUTPUTS
WIDTH = PARTS + 16

# "contract" allows a multiply and an add to become one instruction; it does not allow sums to be reordered.
jit = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@jit
def four_frames(x0, x1, x2, x3, first, count, tile, s0, s1, s2, s3):
    """Add `count` inputs (a multiple of 4) of a tile to the sums of four frames."""
    for k in range(0, count, 4):
        t0, t1, t2, t3 = tile[k], tile[k + 1], tile[k + 2], tile[k + 3]
        i = first + k
        a0, a1, a2, a3 = x0[i], x0[i + 1], x0[i + 2], x0[i + 3]
        b0, b1, b2, b3 = x1[i], x1[i + 1], x1[i + 2], x1[i + 3]
        c0, c1, c2, c3 = x2[i], x2[i + 1], x2[i + 2], x2[i + 3]
        d0, d1, d2, d3 = x3[i], x3[i + 1], x3[i + 2], x3[i + 3]
        for j in range(PARTS):
            u0, u1, u2, u3 = t0[j], t1[j], t2[j], t3[j]
            s0[j] = (((s0[j] + a0 * u0) + a1 * u1) + a2 * u2) + a3 * u3
            s1[j] = (((s1[j] + b0 * u0) + b1 * u1) + b2 * u2) + b3 * u3
            s2[j] = (((s2[j] + c0 * u0) + c1 * u1) + c2 * u2) + c3 * u3
            s3[j] = (((s3[j] + d0 * u0) + d1 * u1) + d2 * u2) + d3 * u3


@jit
def accumulate(x, first, count, tile, sums):
    """``sums += x[:, first : first + count] @ tile``, frames by fours.

    `x` (frames, inputs) and `sums` (frames, `WIDTH`) are C-contiguous; frames and `count` are multiples of 4.
    """
    for f in range(0, x.shape[0], 4):
        four_frames(
            x[f], x[f + 1], x[f + 2], x[f + 3], first, count, tile, sums[f], sums[f + 1], sums[f + 2], sums[f + 3]
        )


@jit
def gather(x, where, columns, first, sums):
    """``sums += x[where] @ columns[where, first : first + sums.size]``: one frame, the inputs that are not zero."""
    for i in where:
        weight, column = x[i], columns[i, first : first + sums.size]
        for j in range(sums.size):
            sums[j] = sums[j] + weight * column[j]


@jit
def add_column(weight, column, sums):
    """``sums += weight * column``, all of one length."""
    for j in range(sums.size):
        sums[j] = sums[j] + weight * column[j]


@jit
def copy_tile(columns, first_input, inputs, first_part, parts, tile):
    """``tile[:inputs, :parts] = columns[first_input :, first_part :]``."""
    for k in range(inputs):
        row, source = tile[k, :parts], columns[first_input + k, first_part : first_part + parts]
        for j in range(parts):
            row[j] = source[j]


@jit
def transpose_tile(tile, out):
    """``out[m, k] = tile[k, m]``; the tile of the adjoint."""
    for k in range(tile.shape[0]):
        for m in range(tile.shape[1]):
            out[m, k] = tile[k, m]
