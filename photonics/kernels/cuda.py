"""GPU kernels: the laws of `photonics.kernels.laws`, one thread for each draw, in place on cupy arrays.

numba and cupy share memory through the CUDA array interface. Under ``NUMBA_ENABLE_CUDASIM=1`` the same code runs on
numpy arrays; the tests use this on machines without a GPU. Fused multiply-adds are allowed here, so normals agree with
the CPU to a few units in the last place, not bit for bit.
"""

# pyright: reportCallIssue=false
# (numba's stubs declare cuda.grid as a class)
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.extending import intrinsic, overload

from photonics.arrays import Array
from photonics.kernels.entries import gaussian, three_bit
from photonics.kernels.laws import (
    F32,
    SHIFT,
    SWITCH,
    U32,
    inline,
    larger,
    normal_pair,
    philox,
    poisson_large,
    poisson_small,
    round_even,
    smaller,
)
from photonics.kernels.tile import GROUP

__all__ = [
    "COARSE",
    "COLUMNS",
    "MAX_FUSED",
    "THREADS",
    "expose",
    "fill_entries",
    "fill_halves",
    "launch",
    "project",
    "view_for_numba",
]

Key: TypeAlias = tuple[int, int, int]
"""Stream and Philox key."""
Kernel: TypeAlias = Any
"""A function compiled by `numba.cuda`, which has no types for them."""

THREADS = 128
"""Number of threads in a block."""
MIN_BLOCKS = 128
"""Smallest number of blocks in a launch: numba warns if there are fewer, and blocks without work end at once."""
MAX_BLOCKS = 2**15
"""Approximate largest number of blocks in a launch: enough for any GPU, with several rows per thread to share setup."""
MAX_FUSED = 8
"""Largest number of frames that `project` sums in registers at a time."""
COLUMNS = 256
"""Columns of the matrix that one thread of `project` visits, and sums in float32."""
COARSE = 256.0
"""Steps of `fill_halves` per unit. A normal has at most 1732 steps, and half floats represent every integer up to
2048."""


def view_for_numba(argument: Any) -> Any:
    """Return numba's view of a cupy array, without synchronisation; any other argument is returned unchanged."""
    foreign = hasattr(argument, "__cuda_array_interface__") and not hasattr(argument, "__cuda_ndarray__")
    return cuda.as_cuda_array(argument, sync=False) if foreign else argument


def launch(kernel: Kernel, width: int, rows: int, *arguments: Any, stream: Any = None) -> None:
    """Run `kernel` with a thread for each of `width` items of a row, on `stream` or on cupy's current stream.

    A thread steps through the rows by ``cuda.gridDim.y``, because dividing its index by the width would take longer
    than four normals. For arrays that are reused, calling `view_for_numba` once saves time.
    """
    if not width or not rows:
        return
    if stream is None and any(hasattr(a, "__cuda_array_interface__") for a in arguments):
        import cupy  # pyright: ignore[reportMissingImports]

        current = cupy.cuda.get_current_stream().ptr
        stream = cuda.external_stream(current) if current else 0  # numba prepares its own default stream once
    across = -(-width // THREADS)
    down = max(min(rows, MAX_BLOCKS // across), 1)
    across = max(across, -(-MIN_BLOCKS // down))
    kernel[(across, down), THREADS, stream or 0](*map(view_for_numba, arguments))


def key_on_gpu(key: Key) -> tuple[int, np.uint32, np.uint32]:
    """Stream and Philox key in the types of the GPU's kernels, which compute in 32 bits."""
    stream, low, high = key
    return stream, np.uint32(low), np.uint32(high)


@cuda.jit
def gaussian_kernel(first_column, first_pair, stream, k0, k1, scale, tile):
    """``tile`` (columns, 4 * pairs) float32: as `photonics.kernels.entries.fill_columns`."""
    p, column = cuda.grid(2)
    while p < tile.shape[1] // 4 and column < tile.shape[0]:
        a, b, c, d = gaussian(first_column + column, first_pair + p, stream, k0, k1)
        tile[column, 4 * p] = a * scale
        tile[column, 4 * p + 1] = b * scale
        tile[column, 4 * p + 2] = c * scale
        tile[column, 4 * p + 3] = d * scale
        column += cuda.gridDim.y


@cuda.jit
def three_bit_kernel(first_column, first_group, stream, k0, k1, scale, tile):
    """``tile`` (columns, 128 * groups) float32: the same by the three-bit law, a call per thread."""
    call, column = cuda.grid(2)
    first = 128 * (call // 4) + 4 * (call % 4)
    while call < tile.shape[1] // 32 and column < tile.shape[0]:
        w0, w1, w2, w3 = philox(U32(first_column + column), U32(4 * first_group + call), U32(0), U32(stream), k0, k1)
        for place in range(8):
            at = first + 16 * place
            tile[column, at] = three_bit(w0, place) * scale
            tile[column, at + 1] = three_bit(w1, place) * scale
            tile[column, at + 2] = three_bit(w2, place) * scale
            tile[column, at + 3] = three_bit(w3, place) * scale
        column += cuda.gridDim.y


def fill_entries(three: bool, first_column: int, first_group: int, key: Key, scale: np.float32, out: Array) -> None:
    """Draw a tile of a transmission matrix, transposed: `out` (columns, rows) complex64, a whole number of draws."""
    parts = out.view(np.float32)
    kernel, width = (three_bit_kernel, 2 * GROUP // 4) if three else (gaussian_kernel, 4)
    columns, count = parts.shape
    launch(kernel, count // width, columns, first_column, first_group, *key_on_gpu(key), scale, parts)


@intrinsic
def half_bits(typingctx, value):
    """Compile `half`: LLVM rounds to a half."""

    def codegen(context, builder, signature, arguments):
        rounded = builder.fptrunc(arguments[0], ir.HalfType())
        return builder.zext(builder.bitcast(rounded, ir.IntType(16)), ir.IntType(64))

    return types.int64(types.float32), codegen


def half(x):
    """Bits of a float32 rounded to a half, int64."""
    return np.int64(np.float16(x).view(np.uint16))


@overload(half, jit_options={"forceinline": True})
def compile_half(x):
    """Compile `half` through `half_bits`."""
    return lambda x: half_bits(F32(x))


@inline
def four_halves(a, b, c, d):
    """Pack four float32 as halves into an int64: one store instead of four."""
    return half(a) | (half(b) << 16) | (half(c) << 32) | (half(d) << 48)


@cuda.jit
def halves_kernel(first_column, first_pair, stream, k0, k1, coarse, fine):
    """Normals in steps of ``1 / COARSE``: whole steps and remainders, (columns, pairs) int64 of four halves each."""
    p, column = cuda.grid(2)
    while p < coarse.shape[1] and column < coarse.shape[0]:
        a, b, c, d = gaussian(first_column + column, first_pair + p, stream, k0, k1)
        a, b, c, d = a * F32(COARSE), b * F32(COARSE), c * F32(COARSE), d * F32(COARSE)
        wa, wb, wc, wd = round_even(a), round_even(b), round_even(c), round_even(d)
        coarse[column, p] = four_halves(wa, wb, wc, wd)
        fine[column, p] = four_halves(a - wa, b - wb, c - wc, d - wd)
        column += cuda.gridDim.y


def fill_halves(first_column: int, first_pair: int, key: Key, coarse: Array, fine: Array, stream: Any = None) -> None:
    """Draw a tile of standard normals as two arrays of halves whose sum is `COARSE` times them.

    Both are int64 arrays, (columns, pairs); each entry holds the four halves of a pair of rows. `coarse` has whole
    numbers, whose products with whole numbers a matrix unit sums exactly. `fine` has the remainders, between -1/2 and
    1/2, to 2**-13: the error of a normal is at most 5e-7, 2e-7 rms.
    """
    columns, pairs = coarse.shape
    launch(halves_kernel, pairs, columns, first_column, first_pair, *key_on_gpu(key), coarse, fine, stream=stream)


@cache
def project_kernel(frames: int) -> Kernel:
    """Kernel for a number of frames: ``out[s, f] = x[f, columns of s] @ T.T``, summed in registers.

    `x` (frames, n_in) float32; `out` (slices, frames, 4 * pairs). A thread takes one pair of rows and one slice of the
    columns, and skips a column that is zero in every frame.
    """

    @cuda.jit
    def project_kernel(x, first_pair, stream, k0, k1, scale, out):
        p, part = cuda.grid(2)
        while p < out.shape[2] // 4 and part < out.shape[0]:
            sums = cuda.local.array((frames, 4), np.float32)
            for f in range(frames):
                for q in range(4):
                    sums[f, q] = F32(0.0)
            for column in range(part * COLUMNS, smaller((part + 1) * COLUMNS, x.shape[1])):
                lit = False
                for f in range(frames):
                    lit = lit or x[f, column] != F32(0.0)
                if lit:
                    a, b, c, d = gaussian(column, first_pair + p, stream, k0, k1)
                    for f in range(frames):
                        weight = x[f, column]
                        sums[f, 0] += weight * a
                        sums[f, 1] += weight * b
                        sums[f, 2] += weight * c
                        sums[f, 3] += weight * d
            for f in range(frames):
                for q in range(4):
                    out[part, f, 4 * p + q] = sums[f, q] * scale
            part += cuda.gridDim.y

    return project_kernel


def project(x: Array, first_pair: int, key: Key, scale: np.float32, out: Array) -> None:
    """Fill `out` (slices, frames, 4 * pairs) with the partial products of each slice of `COLUMNS` columns.

    `x` (frames, n_in) float32, C-contiguous, at most `MAX_FUSED` frames.
    """
    slices, frames, parts = out.shape
    launch(project_kernel(frames), parts // 4, slices, x, first_pair, *key_on_gpu(key), scale, out)


@cuda.jit
def expose_kernel(
    photons, ticks, stream, k0, k1, places, response, offset_e, dark_e, read_e, well_e, gain, offset, top, out
):
    """The camera: as `photonics.kernels.cpu.expose_rows`, a pixel per thread."""
    p, f = cuda.grid(2)
    while p < photons.shape[1] and f < photons.shape[0]:
        t = np.uint64(ticks[f])
        mean = photons[f, p] * response[p] + dark_e
        w0, w1, w2, _ = philox(places[p], U32(t), U32(t >> SHIFT), U32(stream), k0, k1)
        shot, read = normal_pair(w0, w1)
        count = poisson_small(mean, w2) if mean < SWITCH else poisson_large(mean, shot)
        e = smaller(count + read * read_e + offset_e[p], well_e)
        dn = round_even(e * gain + offset)
        out[f, p] = larger(smaller(dn, top), F32(0.0))
        f += cuda.gridDim.y


def expose(photons: Array, ticks: Array, key: Key, *arguments: Any) -> None:
    """Expose frames; the other arguments are those of `expose_kernel` behind the key."""
    launch(expose_kernel, photons.shape[1], photons.shape[0], photons, ticks, *key_on_gpu(key), *arguments)
