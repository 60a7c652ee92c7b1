"""The kernels for a GPU: the laws of `photonics.kernels.laws`, one thread for each draw, on cupy arrays in place.

numba and cupy share memory through the CUDA array interface. Under ``NUMBA_ENABLE_CUDASIM=1`` the same code runs on
numpy arrays, which is how it is tested where there is no GPU. Fused multiply-adds are allowed here, so normals agree
with the processor's to a few units in the last place rather than bit for bit.
"""

# pyright: reportCallIssue=false
# (its stubs know cuda.grid as a class)
from typing import Any

import numpy as np
from numba import cuda

from photonics.kernels.entries import GROUP, gaussian, three_bit
from photonics.kernels.laws import (
    F32,
    SHIFT,
    SWITCH,
    U32,
    larger,
    normal_pair,
    philox,
    poisson_large,
    poisson_small,
    round_even,
    smaller,
)

__all__ = ["COLUMNS", "MOST_FUSED", "THREADS", "expose", "fill_entries", "launch", "project"]

THREADS = 128
LEAST_BLOCKS = 128
"""Blocks of a launch, at least: numba warns of fewer, and those with nothing to do end at once."""
MOST_FUSED = 8
"""Frames that `project` sums in registers at a time."""
COLUMNS = 4096
"""Columns of the matrix that one thread of `project` visits."""


def launch(kernel: Any, count: int, *arguments: Any, stream: Any = None) -> None:
    """Run `kernel` with a thread for each of `count` items, on `stream` or in order with cupy's own work.

    Arrays are taken as they are, without waiting for them.
    """
    if not count:
        return
    shared = [cuda.as_cuda_array(a, sync=False) if hasattr(a, "__cuda_array_interface__") else a for a in arguments]
    if stream is None and any(hasattr(a, "__cuda_array_interface__") for a in arguments):
        import cupy  # pyright: ignore[reportMissingImports]

        stream = cuda.external_stream(cupy.cuda.get_current_stream().ptr)
    kernel[max(-(-count // THREADS), LEAST_BLOCKS), THREADS, stream or 0](*shared)


@cuda.jit
def gaussian_kernel(first_column, first_pair, stream, k0, k1, scale, tile):
    """``tile`` (columns, 4 * pairs) float32: as `photonics.kernels.entries.fill_gaussian`."""
    i, pairs = cuda.grid(1), tile.shape[1] // 4
    if i < tile.shape[0] * pairs:
        column, p = i // pairs, i % pairs
        a, b, c, d = gaussian(first_column + column, first_pair + p, stream, k0, k1)
        tile[column, 4 * p] = a * scale
        tile[column, 4 * p + 1] = b * scale
        tile[column, 4 * p + 2] = c * scale
        tile[column, 4 * p + 3] = d * scale


@cuda.jit
def three_bit_kernel(first_column, first_group, stream, k0, k1, scale, tile):
    """``tile`` (columns, 128 * groups) float32: as `photonics.kernels.entries.fill_three_bit`, a call per thread."""
    i, calls = cuda.grid(1), tile.shape[1] // 32
    if i < tile.shape[0] * calls:
        column, call = i // calls, i % calls
        w0, w1, w2, w3 = philox(U32(first_column + column), U32(4 * first_group + call), U32(0), U32(stream), k0, k1)
        group, first = call // 4, 4 * (call % 4)
        for place in range(8):
            at = 128 * group + 16 * place + first
            tile[column, at] = three_bit(w0, place) * scale
            tile[column, at + 1] = three_bit(w1, place) * scale
            tile[column, at + 2] = three_bit(w2, place) * scale
            tile[column, at + 3] = three_bit(w3, place) * scale


def fill_entries(
    entries: str,
    first_column: int,
    first_group: int,
    key: tuple[Any, Any, Any],
    scale: Any,
    out: Any,
    stream: Any = None,
) -> None:
    """Draw a tile of a transmission matrix, transposed: `out` (columns, rows) complex64, rows in whole draws."""
    parts = out.view(np.float32)
    kernel, width = (gaussian_kernel, 4) if entries == "gaussian" else (three_bit_kernel, 2 * GROUP // 4)
    count = parts.shape[0] * parts.shape[1] // width
    launch(kernel, count, first_column, first_group, *key, scale, parts, stream=stream)


@cuda.jit
def project_kernel(x, first_pair, stream, k0, k1, scale, out):
    """Product with a Gaussian matrix that is never written: ``out[s, f] += x[f, columns of s] @ T.T``, in registers.

    `x` (frames, n_in) float32, at most `MOST_FUSED` frames; `out` (slices, frames, 4 * pairs). A thread takes one
    pair of rows and one slice of the columns, and skips a column that is zero in every frame.
    """
    i, pairs = cuda.grid(1), out.shape[2] // 4
    part, p = i // pairs, i % pairs
    if part < out.shape[0]:
        sums = cuda.local.array((MOST_FUSED, 4), np.float32)
        for f in range(MOST_FUSED):
            for q in range(4):
                sums[f, q] = F32(0.0)
        for column in range(part * COLUMNS, smaller((part + 1) * COLUMNS, x.shape[1])):
            lit = False
            for f in range(x.shape[0]):
                lit = lit or x[f, column] != F32(0.0)
            if lit:
                a, b, c, d = gaussian(column, first_pair + p, stream, k0, k1)
                for f in range(MOST_FUSED):
                    weight = x[f, column] if f < x.shape[0] else F32(0.0)
                    sums[f, 0] += weight * a
                    sums[f, 1] += weight * b
                    sums[f, 2] += weight * c
                    sums[f, 3] += weight * d
        for f in range(MOST_FUSED):  # a loop of another length would need addresses: memory, not registers
            if f < x.shape[0]:
                for q in range(4):
                    out[part, f, 4 * p + q] = sums[f, q] * scale


def project(x: Any, first_pair: int, key: tuple[Any, Any, Any], scale: Any, out: Any) -> None:
    """Fill `out` (slices, frames, 4 * pairs) with the partial products of each slice of `COLUMNS` columns.

    `x` (frames, n_in) float32, C-contiguous, at most `MOST_FUSED` frames.
    """
    launch(project_kernel, out.shape[0] * out.shape[2] // 4, x, first_pair, *key, scale, out)


@cuda.jit
def expose_kernel(photons, ticks, stream, k0, k1, response, offset_e, dark_e, read_e, well_e, gain, offset, top, out):
    """The camera: as `photonics.kernels.cpu.expose_rows`, a pixel per thread."""
    i, pixels = cuda.grid(1), photons.shape[1]
    if i < photons.shape[0] * pixels:
        f, p = i // pixels, i % pixels
        t = np.uint64(ticks[f])
        mean = photons[f, p] * response[p] + dark_e
        w0, w1, w2, _ = philox(U32(p), U32(t), U32(t >> SHIFT), U32(stream), k0, k1)
        shot, read = normal_pair(w0, w1)
        count = poisson_small(mean, w2) if mean < SWITCH else poisson_large(mean, shot)
        e = smaller(count + read * read_e + offset_e[p], well_e)
        dn = round_even(e * gain + offset)
        out[f, p] = larger(smaller(dn, top), F32(0.0))


def expose(photons: Any, ticks: Any, *arguments: Any) -> None:
    """Expose frames; arguments as of `expose_kernel`."""
    launch(expose_kernel, photons.shape[0] * photons.shape[1], photons, ticks, *arguments)
