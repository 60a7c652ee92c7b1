"""The product of frames with a tile of a transmission matrix, summed in a fixed order.

A long sum in float32 drifts: a chain of a million equal terms is 1 % off. So the inputs are summed in slices of `SLICE`
and the slices in blocks of `BLOCK` inputs, by the number of the input. Within a slice a value is one chain of fused
multiply-adds in float32, in ascending order: ``s = fma(x_k, t_k, s)``. The slices of a block are added in float32, and
the blocks in float64, in ascending order. So a frame's result depends neither on the other frames nor on tiles and
threads, and an input that is zero can be left out. A BLAS guarantees neither. On a processor without fused multiply-add
each step rounds twice, in the same order.

A tile is float32 of shape (`INPUTS`, `WIDTH`), see `photonics.kernels.tile`: one row for each input, with the real and
imaginary parts of `OUTPUTS` outputs side by side. The padding keeps the rows in different cache sets.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from photonics.kernels.compiled import compiled
from photonics.kernels.tile import BLOCK, FRAMES, PARTS, SLICE

__all__ = [
    "accumulate",
    "add_column",
    "copy_tile",
    "end_slice",
    "gather",
    "move_sum",
    "transpose_tile",
]

# "contract" allows a multiply and an add to become one instruction; it does not allow sums to be reordered.
jit = compiled(error_model="numpy", fastmath={"contract"})


def registers() -> tuple[int, int]:
    """Lanes of a vector, and vectors of outputs: as many as hold four frames' sums in registers."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 4
    return (8, 2) if features.get("avx2") else (4, 4)


LANES, VECTORS = registers()


@intrinsic
def add_block(typingctx, x, frame, first, count, tile, row, part, sums):
    """``sums[frame : frame + 4, part : part + LANES * VECTORS] += x[..., first : first + count] @ tile[row :, ...]``.

    The product stays in vector registers from the first input to the last, and is then added to the sums. This is 1.7
    times as fast as the loop over memory that the compiler generates from plain code. All arrays are C-contiguous
    float32 matrices.
    """
    vector = ir.VectorType(ir.FloatType(), LANES)
    signature = types.void(x, types.intp, types.intp, types.intp, tile, types.intp, types.intp, sums)

    def codegen(context, builder, signature, arguments):
        kinds = signature.args
        x, frame, first, count, tile, row, part, sums = arguments
        nothing, zero = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f32"
        )

        def place(kind, array, i, j):
            """Pointer to ``array[i, j]``."""
            parts = context.make_array(kind)(context, builder, array)
            width = cgutils.unpack_tuple(builder, parts.shape)[1]
            return builder.gep(parts.data, [builder.add(builder.mul(i, width), j)])

        def whole(value):
            return context.get_constant(types.intp, value)

        def vectors(start):
            return [
                builder.bitcast(builder.gep(start, [whole(v * LANES)]), vector.as_pointer()) for v in range(VECTORS)
            ]

        frames = [builder.add(frame, whole(f)) for f in range(FRAMES)]
        targets = [vectors(place(kinds[7], sums, f, part)) for f in frames]
        held = [[cgutils.alloca_once(builder, vector) for _ in range(VECTORS)] for _ in frames]
        for f in range(FRAMES):
            for v in range(VECTORS):
                builder.store(ir.Constant(vector, [0.0] * LANES), held[f][v])
        with cgutils.for_range(builder, count) as loop:
            column = vectors(place(kinds[4], tile, builder.add(row, loop.index), part))
            column = [builder.load(pointer, align=4) for pointer in column]
            for f in range(FRAMES):
                weight = builder.load(place(kinds[0], x, frames[f], builder.add(first, loop.index)))
                weight = builder.shuffle_vector(builder.insert_element(nothing, weight, zero), nothing, everywhere)
                for v in range(VECTORS):
                    builder.store(builder.call(fma, [weight, column[v], builder.load(held[f][v])]), held[f][v])
        for f in range(FRAMES):
            for v in range(VECTORS):
                total = builder.fadd(builder.load(targets[f][v], align=4), builder.load(held[f][v]))
                builder.store(total, targets[f][v], align=4)
        return context.get_dummy_value()

    return signature, codegen


@jit
def accumulate(x, first, count, tile, sums):
    """``sums += x[:, first : first + count] @ tile``.

    `x` (frames, inputs) and `sums` (frames, `WIDTH`) are C-contiguous; frames are a multiple of 4.
    """
    for k in range(0, count, SLICE):
        inputs = min(SLICE, count - k)
        for part in range(0, PARTS, LANES * VECTORS):
            for frame in range(0, x.shape[0], FRAMES):
                add_block(x, frame, first + k, inputs, tile, k, part, sums)  # pyright: ignore[reportCallIssue]


@jit
def gather(x, where, columns, first, total):
    """``total += x[where] @ columns[where, first : first + total.size]``: one frame, the inputs that are not zero."""
    part, sums, end = np.zeros(total.size, np.float32), np.zeros(total.size, np.float32), SLICE
    for i in where:
        if i >= end:
            end = end_slice(end, i, part, sums, total)
        add_column(x[i], columns[i, first : first + total.size], part)
    move_sum(part, sums)
    move_sum(sums, total)


@jit
def add_column(weight, column, part):
    """``part += weight * column``, all of one length."""
    for j in range(part.size):
        part[j] = part[j] + weight * column[j]


@jit
def end_slice(end, i, part, sums, total):
    """Move the sum of the slice that ends before input `end` on, and return the end of the slice that holds input `i`.

    If `i` is in another block, the sum of the block moves on as well.
    """
    move_sum(part, sums)
    if i // BLOCK != (end - 1) // BLOCK:
        move_sum(sums, total)
    return (i // SLICE + 1) * SLICE


@jit
def move_sum(part, total):
    """``total += part``; `part` starts again from zero."""
    for j in range(part.size):
        total[j] += part[j]
        part[j] = 0.0


@jit
def copy_tile(columns, first_input, inputs, first_part, parts, tile):
    """``tile[:inputs, :parts] = columns[first_input :, first_part :]``."""
    for k in range(inputs):
        row, source = tile[k, :parts], columns[first_input + k, first_part : first_part + parts]
        for j in range(parts):
            row[j] = source[j]


@jit
def transpose_tile(tile, out):
    """``out[m, k] = tile[k, m]``: the tile of the adjoint."""
    for k in range(tile.shape[0]):
        for m in range(tile.shape[1]):
            out[m, k] = tile[k, m]
