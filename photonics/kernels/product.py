"""The product of frames with a piece of a transmission matrix, summed in a fixed order.

A long sum in float32 drifts: a chain of a million equal terms is 1 % off. So the inputs are summed in slices of `SLICE`
and the slices in blocks of `BLOCK` inputs, by the number of the input. Within a slice a value is one chain of fused
multiply-adds in float32, in ascending order: ``s = fma(x_k, t_k, s)``. The slices of a block are added in float32, and
the blocks in float64, in ascending order. So a frame's result depends neither on the other frames nor on tiles and
threads, and an input that is zero can be left out. A BLAS guarantees neither. On a processor without fused multiply-add
each step rounds twice, in the same order. Frames of 0 and 1 have another order, see `photonics.kernels.tables`.

Sums are float32, flat, in the order panel, frame, part (`PANEL` of them).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from photonics.arrays import IntArray
from photonics.kernels.compiled import compiled, widen_vectors
from photonics.kernels.panels import TOGETHER
from photonics.kernels.tile import BLOCK, CHAIN, PANEL, SLICE
from photonics.kernels.vectors import (
    LANES,
    STRIP,
    VECTORS,
    WIDE,
    add_to_sums,
    constant,
    load,
    multiply_add,
    offset,
    place,
    prefetch,
    repeat,
    vector,
)

__all__ = [
    "add_four",
    "add_frames",
    "end_chain",
    "find_ends",
    "gather",
    "lay_out_frames",
    "move_sum",
    "pad_frames",
    "take_four",
    "take_tile",
    "transpose_tile",
    "write_sums",
]

# "contract" allows a multiply and an add to become one instruction; it does not allow sums to be reordered.
jit = compiled(error_model="numpy", fastmath={"contract"})

UNIT = 4 if WIDE else 2
SMALL, LARGE = 2 * UNIT, 3 * UNIT
"""Frames whose sums are held in registers at a time. Any multiple of `UNIT` but `UNIT` itself is made of these two."""
TURN = 10 * LARGE
"""Frames that are multiplied with a piece of the matrix before the next: their values stay in the cache. The last ones
are up to half as many more: a turn of its own for few frames would read the whole matrix again."""
NEIGHBOURS = 4
"""Panels that are multiplied with the same values in turn."""
FLOATS_OF_LINE = 16


def multiply(frames: int) -> Callable[..., Any]:
    """Return the loop for a number of frames that fits in registers."""

    @intrinsic
    def multiply_block(typingctx, x, first, floats, begin, row, count, ahead, sums, target):
        """``sums[target + f PANEL :] += sum_k x[first + k frames + f] floats[begin + k row :]``, `STRIP` parts.

        It asks for one cache line from `ahead` on per input. All arrays are flat; `count` is a multiple of `TOGETHER`.
        """
        signature = types.void(x, types.intp, floats, *[types.intp] * 4, sums, types.intp)

        def codegen(context, builder, signature, arguments):
            kinds = signature.args
            x, first, floats, begin, row, count, ahead, sums, target = arguments
            weights = place(context, builder, kinds[0], x, first)
            columns, later = (place(context, builder, kinds[2], floats, i) for i in (begin, ahead))

            def body(k, held):
                column = builder.gep(columns, [builder.mul(k, row)])
                parts = [load(builder, offset(builder, column, v * LANES)) for v in range(VECTORS)]
                prefetch(builder, builder.gep(later, [builder.mul(k, constant(FLOATS_OF_LINE))]))
                weight = builder.gep(weights, [builder.mul(k, constant(frames))])
                weight = [builder.load(offset(builder, weight, f)) for f in range(frames)]
                terms = [(w, part) for w in weight for part in parts]
                return [multiply_add(builder, *term, total) for term, total in zip(terms, held, strict=True)]

            zeros = [ir.Constant(vector, [0.0] * LANES)] * (frames * VECTORS)
            held = repeat(builder, count, TOGETHER, zeros, body)
            add_to_sums(builder, place(context, builder, kinds[7], sums, target), held, PANEL)
            return context.get_dummy_value()

        return signature, codegen

    return multiply_block


multiply_small, multiply_large = multiply(SMALL), multiply(LARGE)


def pad_frames(count: int) -> tuple[int, int]:
    """Frames with their padding, and how many of them go in large blocks; the rest, at most two blocks, is small."""
    units = max(-(-count // UNIT), 2)
    return units * UNIT, (units - 2 * (-units % 3)) // 3 * LARGE


@jit
def lay_out_frames(x, frames, large, out):
    """Copy frames in the order in which `add_frames` reads them: slice, block of frames, input, frame."""
    for first in range(0, x.shape[1], SLICE):
        count = min(SLICE, x.shape[1] - first)
        padded = -(-count // TOGETHER) * TOGETHER
        for f in range(x.shape[0]):
            together = LARGE if f < large else SMALL
            inside = (f if f < large else f - large) % together
            start, row = first * frames + (f - inside) * padded + inside, x[f, first : first + count]
            for k in range(count):
                out[start + k * together] = row[k]


@jit
def add_frames(x, start, frames, large, floats, begin, row, panel, inputs, panels, sums):
    """Add the product of frames with a `photonics.kernels.panels.Piece` to sums.

    `x` is what `lay_out_frames` made of all inputs; the piece has `inputs` inputs from number `start` on, a multiple
    of `SLICE`, and `panels` panels.
    """
    f0 = 0
    while f0 < frames:
        f1 = f0 + TURN if frames - f0 >= TURN + TURN // 2 else frames
        for p0 in range(0, panels, NEIGHBOURS):
            p1 = min(p0 + NEIGHBOURS, panels)
            for first in range(0, inputs, SLICE):
                count = -(-min(SLICE, inputs - first) // TOGETHER) * TOGETHER
                for p in range(p0, p1):
                    here = begin + first * row + p * panel
                    if p + 1 < p1:
                        following = here + panel
                    elif first + SLICE < inputs:
                        following = begin + (first + SLICE) * row + p0 * panel
                    else:
                        following = begin + p1 * panel
                    for part in range(0, PANEL, STRIP):
                        f = f0
                        while f < f1:
                            source, target = (start + first) * frames + f * count, (p * frames + f) * PANEL + part
                            # two blocks of frames together ask for the whole of the next slice
                            ahead = following + FLOATS_OF_LINE * SLICE * ((f - f0) // SMALL % 2)
                            if f < large:
                                multiply_large(x, source, floats, here + part, row, count, ahead, sums, target)  # pyright: ignore[reportCallIssue]
                                f += LARGE
                            else:
                                multiply_small(x, source, floats, here + part, row, count, ahead, sums, target)  # pyright: ignore[reportCallIssue]
                                f += SMALL
        f0 = f1


@jit
def write_sums(sums, frames, rows, first_part, out):
    """``out[rows[f], first_part + part] = sums[panel, f, part]``, as many parts as `out` has."""
    widen_vectors()
    parts = min(sums.size // frames, out.shape[1] - first_part)
    for f in range(rows.size):
        row = out[rows[f], first_part : first_part + parts]
        for first in range(0, parts // PANEL * PANEL, PANEL):
            start = first * frames + f * PANEL
            for j in range(PANEL):  # a fixed number, so that it is a few vectors
                row[first + j] = sums[start + j]
        for part in range(parts // PANEL * PANEL, parts):
            row[part] = sums[part // PANEL * PANEL * frames + f * PANEL + part % PANEL]


@intrinsic
def gather_chain(typingctx, rows, weights, first, last, floats, begin, row, sums, part):
    """``sums[part :] += sum_q weights[q] floats[begin + rows[q] row :]``, `STRIP` parts, q from `first` to `last`."""
    signature = types.void(rows, weights, types.intp, types.intp, floats, types.intp, types.intp, sums, types.intp)

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        rows, weights, first, last, floats, begin, row, sums, part = arguments
        rows, weights = (place(context, builder, kinds[i], (rows, weights)[i], first) for i in range(2))
        columns = place(context, builder, kinds[4], floats, begin)

        def body(q, held):
            number, weight = (builder.load(builder.gep(each, [q])) for each in (rows, weights))
            column = builder.gep(columns, [builder.mul(number, row)])
            parts = [load(builder, offset(builder, column, v * LANES)) for v in range(VECTORS)]
            return [multiply_add(builder, weight, *both) for both in zip(parts, held, strict=True)]

        zeros = [ir.Constant(vector, [0.0] * LANES)] * VECTORS
        held = repeat(builder, builder.sub(last, first), 1, zeros, body)
        add_to_sums(builder, place(context, builder, kinds[7], sums, part), held, PANEL)
        return context.get_dummy_value()

    return signature, codegen


def find_ends(numbers: IntArray, length: int) -> IntArray:
    """Places in ascending numbers after which ``number // length`` changes, and their end."""
    changes = np.flatnonzero(np.diff(numbers // length)) + 1
    return np.append(changes, numbers.size) if numbers.size else changes


@jit
def gather(where, weights, ends, floats, begin, row, panel, sums, total):
    """``total += T x`` for one frame, over its inputs that are not zero; no other row is read.

    These are `where` and have `weights`; `ends` are those of their slices. `sums` is a buffer of `PANEL` zeros.
    """
    for first in range(0, total.size, PANEL):
        whole, before = total[first : first + PANEL], 0
        for last in ends:
            if before and where[before] // BLOCK != where[before - 1] // BLOCK:
                move_sum(sums, whole)
            for part in range(0, PANEL, STRIP):
                gather_chain(where, weights, before, last, floats, begin + part, row, sums, part)  # pyright: ignore[reportCallIssue]
            before = last
        move_sum(sums, whole)
        begin += panel


@jit
def take_four(x, where, first, binary, rows, weights):
    """Find up to four inputs of `where`, from place `first` on, that are summed together; return the place after them.

    In a frame of 0 and 1 they are those of a group of four, else the next ones of a slice. `rows` says which of them
    has each of four places, 4 if none has, and `weights` their values.
    """
    for i in range(4):
        rows[i], weights[i] = 4, 0.0
    length, last = 4 if binary else SLICE, first
    while last < min(first + 4, where.size) and where[last] ^ where[first] < length:
        place = where[last] % 4 if binary else last - first
        rows[place], weights[place] = last - first, x[where[last]]
        last += 1
    return last


@jit
def add_four(binary, rows, weights, tile, part):
    """Add four rows of a tile to their chain; row 4 is zero."""
    a, b, c, d = tile[rows[0]], tile[rows[1]], tile[rows[2]], tile[rows[3]]
    if binary:
        for j in range(part.size):
            part[j] += (a[j] + b[j]) + (c[j] + d[j])
    else:
        w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
        for j in range(part.size):
            part[j] = (((part[j] + w0 * a[j]) + w1 * b[j]) + w2 * c[j]) + w3 * d[j]


@jit
def end_chain(binary, before, i, part, sums, total):
    """Move the sums on that end between two inputs of different chains or blocks."""
    length = CHAIN if binary else SLICE
    if i ^ before >= length:  # lengths are powers of 2
        move_sum(part, sums)
    if i ^ before >= BLOCK:
        move_sum(sums, total)


@jit
def move_sum(part, total):
    """``total += part``; `part` starts again from zero."""
    for j in range(total.size):
        total[j] += part[j]
        part[j] = 0.0


@jit
def take_tile(floats, begin, row, panel, inputs, parts, tile):
    """``tile[:inputs, :parts] = `` a piece of a matrix."""
    for k in range(inputs):
        for first in range(0, parts, PANEL):
            start, target = begin + k * row + first // PANEL * panel, tile[k, first : min(first + PANEL, parts)]
            for j in range(target.size):
                target[j] = floats[start + j]


@jit
def transpose_tile(tile, out):
    """``out[m, k] = tile[k, m]``: the tile of the adjoint."""
    for k in range(tile.shape[0]):
        for m in range(tile.shape[1]):
            out[m, k] = tile[k, m]
