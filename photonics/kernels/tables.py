"""The product of frames of 0 and 1 with a piece of a transmission matrix, by tables of sums of four inputs.

Four inputs have 16 sums. They are computed once and a frame adds one of them, so that it needs a quarter of the
additions. A sum is ``(t_0 + t_1) + (t_2 + t_3)`` over those that are ON. The sums of `CHAIN` inputs are one chain in
ascending order; the chains are added as the slices of `photonics.kernels.product`. The tables are exact, so this order
holds for every frame whose values are all 0 or 1, however it is computed.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from photonics.arrays import BoolArray, FloatArray, IntArray
from photonics.kernels.compiled import compiled
from photonics.kernels.product import move_sum
from photonics.kernels.tile import BLOCK, CHAIN, PANEL
from photonics.kernels.vectors import (
    LANES,
    STRIP,
    VECTORS,
    add_to_sums,
    constant,
    load,
    offset,
    place,
    prefetch,
    repeat,
    store,
    vector,
)

__all__ = ["FRAMES", "TABLE", "add_frames", "encode", "find_binary", "find_groups", "gather_groups"]

jit = compiled(error_model="numpy")

FRAMES = 4
"""Frames whose sums are held in registers at a time."""
TURN = 512
"""Frames that add rows of a table before the next table is made: their sums stay in the second-level cache."""
GROUPS = CHAIN // 4
SUMS = 16 * STRIP
TABLE = GROUPS * SUMS
"""Floats of the tables of a chain."""
FLOATS_OF_LINE = 16
FEW = 32
"""Frames below which the rows of a later chain are asked for while a table is made, not while its rows are added."""
AHEAD = 4 * CHAIN
"""Inputs from a row to the one that is asked for meanwhile."""


@intrinsic
def fill_table(typingctx, floats, begin, row, groups, ahead, table):
    """``table[g, code] = `` sum over the bits i of `code` of row ``4 g + i`` of a piece, `STRIP` parts; 0 has none.

    It asks for as many rows from `ahead` on.
    """
    signature = types.void(floats, *[types.intp] * 4, table)

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        floats, begin, row, groups, ahead, table = arguments
        start, later = (place(context, builder, kinds[0], floats, i) for i in (begin, ahead))
        target = place(context, builder, kinds[5], table, constant(0))
        with cgutils.for_range(builder, groups) as loop:
            four = builder.mul(loop.index, constant(4))
            rows = [builder.gep(start, [builder.mul(builder.add(four, constant(i)), row)]) for i in range(4)]
            for i in range(4):
                following = builder.gep(later, [builder.mul(builder.add(four, constant(i)), row)])
                for line in range(0, STRIP, FLOATS_OF_LINE):
                    prefetch(builder, offset(builder, following, line))
            entries = builder.gep(target, [builder.mul(loop.index, constant(SUMS))])
            for part in range(0, STRIP, LANES):
                a, b, c, d = (load(builder, offset(builder, each, part)) for each in rows)
                low, high = [None, a, b, builder.fadd(a, b)], [None, c, d, builder.fadd(c, d)]
                for code in range(1, 16):
                    left, right = low[code % 4], high[code // 4]
                    both = left is not None and right is not None
                    value = builder.fadd(left, right) if both else right if left is None else left
                    store(builder, offset(builder, entries, code * STRIP + part), value)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_rows(typingctx, codes, first, table, sums, target):
    """Add the chains of `FRAMES` frames to sums; ``codes[first + f GROUPS + g]`` is a place in the table of group g."""
    signature = types.void(codes, types.intp, table, sums, types.intp)

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        codes, first, table, sums, target = arguments
        codes = place(context, builder, kinds[0], codes, first)
        table = place(context, builder, kinds[2], table, constant(0))
        held = []
        for g in range(GROUPS):
            rows = []
            for f in range(FRAMES):
                code = builder.zext(builder.load(offset(builder, codes, f * GROUPS + g)), constant(0).type)
                entry = builder.gep(offset(builder, table, g * SUMS), [code])
                rows += [load(builder, offset(builder, entry, v * LANES)) for v in range(VECTORS)]
            held = [builder.fadd(*both) for both in zip(held, rows, strict=True)] if held else rows
        add_to_sums(builder, place(context, builder, kinds[3], sums, target), held, PANEL)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def ask_for(typingctx, floats, begin, lines):
    """Prefetch cache lines from ``floats[begin]`` on."""
    signature = types.void(floats, types.intp, types.intp)

    def codegen(context, builder, signature, arguments):
        floats, begin, lines = arguments
        start = place(context, builder, signature.args[0], floats, begin)
        with cgutils.for_range(builder, lines) as loop:
            prefetch(builder, builder.gep(start, [builder.mul(loop.index, constant(FLOATS_OF_LINE))]))
        return context.get_dummy_value()

    return signature, codegen


@jit
def fill_codes(bits, frames, codes):
    """Places in the tables from packed bits: chain, frame, group; a byte has the bits of two groups."""
    half = GROUPS // 2
    for f in range(bits.shape[0]):
        for k in range(bits.shape[1]):
            code = (k // half * frames + f) * GROUPS + k % half * 2
            codes[code] = (bits[f, k] & 15) * STRIP
            codes[code + 1] = (bits[f, k] >> 4) * STRIP


def encode(x: FloatArray, frames: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Places in the tables for each frame, padded to `frames` frames."""
    codes = np.zeros(-(-x.shape[1] // CHAIN) * frames * GROUPS, np.uint16)
    fill_codes(np.packbits(x != 0, axis=1, bitorder="little"), frames, codes)
    return codes


@jit
def add_frames(codes, start, frames, floats, begin, row, panel, inputs, panels, table, sums):
    """As `photonics.kernels.product.add_frames`; `table` is a buffer of `TABLE` zeros that is used again."""
    for f0 in range(0, frames, TURN):
        f1 = min(f0 + TURN, frames)
        few = f1 - f0 < FEW
        lines = -(-CHAIN * PANEL * FRAMES // (FLOATS_OF_LINE * (f1 - f0)))
        for p in range(panels):
            for part in range(0, PANEL, STRIP):
                for first in range(0, inputs, CHAIN):
                    here, groups = begin + first * row + p * panel + part, -(-min(CHAIN, inputs - first) // 4)
                    ahead = here + AHEAD * row
                    fill_table(floats, here, row, groups, ahead if few else here, table)  # pyright: ignore[reportCallIssue]
                    for f in range(f0, f1, FRAMES):
                        if not few:
                            ask_for(floats, ahead + (f - f0) // FRAMES * lines * FLOATS_OF_LINE, lines)  # pyright: ignore[reportCallIssue]
                        source = ((start + first) // CHAIN * frames + f) * GROUPS
                        add_rows(codes, source, table, sums, (p * frames + f) * PANEL + part)  # pyright: ignore[reportCallIssue]


@intrinsic
def gather_chain(typingctx, rows, first, last, floats, begin, row, sums, part):
    """Add the sums of the groups from `first` to `last` to ``sums[part :]``; ``rows[4 q + i]`` are those of group q."""
    signature = types.void(rows, types.intp, types.intp, floats, types.intp, types.intp, sums, types.intp)

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        rows, first, last, floats, begin, row, sums, part = arguments
        rows = place(context, builder, kinds[0], rows, builder.mul(first, constant(4)))
        columns = place(context, builder, kinds[3], floats, begin)

        def body(q, held):
            numbers = builder.gep(rows, [builder.mul(q, constant(4))])
            numbers = [builder.load(offset(builder, numbers, i)) for i in range(4)]
            four = [builder.gep(columns, [builder.mul(number, row)]) for number in numbers]
            totals = []
            for v, total in enumerate(held):
                a, b, c, d = (load(builder, offset(builder, each, v * LANES)) for each in four)
                totals.append(builder.fadd(total, builder.fadd(builder.fadd(a, b), builder.fadd(c, d))))
            return totals

        zeros = [ir.Constant(vector, [0.0] * LANES)] * VECTORS
        held = repeat(builder, builder.sub(last, first), 1, zeros, body)
        add_to_sums(builder, place(context, builder, kinds[6], sums, part), held, PANEL)
        return context.get_dummy_value()

    return signature, codegen


def find_groups(x: FloatArray, zero: int) -> tuple[IntArray, IntArray]:
    """Numbers of the groups of four inputs with one that is ON, and the rows of these; `zero` stands for OFF."""
    on = np.pad(x != 0, (0, -x.size % 4)).reshape(-1, 4)
    groups = np.flatnonzero(on.any(axis=1))
    return groups, np.where(on[groups], 4 * groups[:, None] + np.arange(4), zero).ravel()


@jit
def gather_groups(groups, rows, ends, floats, begin, row, panel, sums, total):
    """As `photonics.kernels.product.gather`, by groups of four inputs and their rows."""
    for first in range(0, total.size, PANEL):
        whole, before = total[first : first + PANEL], 0
        for last in ends:
            if before and groups[before] // (BLOCK // 4) != groups[before - 1] // (BLOCK // 4):
                move_sum(sums, whole)
            for part in range(0, PANEL, STRIP):
                gather_chain(rows, before, last, floats, begin + part, row, sums, part)  # pyright: ignore[reportCallIssue]
            before = last
        move_sum(sums, whole)
        begin += panel


@jit
def mark_binary(x, out):
    """``out[f]`` is whether all values of a frame are 0 or 1."""
    for f in range(x.shape[0]):
        other = 0
        for k in range(x.shape[1]):
            other += 1 if (x[f, k] != 0.0) & (x[f, k] != 1.0) else 0
        out[f] = other == 0


def find_binary(x: FloatArray) -> BoolArray:
    """Frames of 0 and 1: (frames,)."""
    out = np.empty(len(x), np.bool_)
    mark_binary(x, out)
    return out
