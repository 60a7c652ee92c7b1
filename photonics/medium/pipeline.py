"""Products of a streamed Gaussian medium on a GPU: a few frames in registers, many frames with the matrix units.

Only called with cupy arrays. Import it where it is needed: it loads `numba.cuda`.

The matrix units take numbers of 11 bits and sum in 24 bits; further bits are truncated. So the field and the normals
are each split in two halves (16-bit floats): a whole number of steps, small enough that the sums over a tile are exact,
and a remainder, whose products weigh 2**-9 as much. The error is about that of a float32 product.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import cuda as numba_cuda

from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.kernels import cuda
from photonics.medium.laws import INPUTS, OUTPUTS, Slab

__all__ = ["propagate"]

PARTIAL_BYTES = 2**28
"""Largest memory for the partial sums of a fused product."""
ONE = np.ones(1, np.float32)
STEPS = 512
"""Steps in a frame's largest value. A normal has 256 per standard deviation, so that 4096 products sum to 2**23 rms."""


def propagate(slab: Slab, field: Array) -> Array:
    """``field @ T.T`` for Gaussian entries: (batch, n_in) -> (batch, n_out) complex64, cupy arrays."""
    backend = backend_of(field)
    xp, frames = backend.xp, len(field)
    if field.dtype.kind == "c":
        parts = propagate(slab, xp.concat([field.real, field.imag]))
        return parts[:frames] + 1j * parts[frames:]
    if not frames:
        return backend.empty((0, slab.shape[0]), "complex64")
    if frames <= cuda.MAX_FUSED:
        return propagate_few(slab, xp.ascontiguousarray(xp.astype(field, xp.float32, copy=False)))
    return propagate_many(slab, field)


def propagate_few(slab: Slab, x: Array) -> Array:
    """Return the product for a few real frames; each entry is drawn, multiplied and summed in registers."""
    backend, (n_out, n_in) = backend_of(x), slab.shape
    slices = -(-n_in // cuda.COLUMNS)
    band = max(PARTIAL_BYTES // (8 * slices * len(x)) // 2 * 2, 2)
    out = backend.empty((len(x), n_out), "complex64")
    for top in range(0, n_out, band):
        bottom = min(top + band, n_out)
        partial = backend.empty((slices, len(x), 4 * (-(-(bottom - top) // 2))), "float32")
        cuda.project(x, (slab.first + top) // 2, slab.key, slab.scale, partial)
        total = partial.sum(axis=0, dtype="float64").astype("float32")
        out[:, top:bottom] = total.view(out.dtype)[:, : bottom - top]
    return out


class Buffers:
    """Two tiles: one is multiplied while the next is drawn on a separate stream.

    A tile takes 0.25 ms on the GPU, too short for much work on the host, so buffers and views are prepared once.
    """

    def __init__(self, slab: Slab) -> None:
        import cupy  # pyright: ignore[reportMissingImports]

        n_out, n_in = slab.shape
        self.key, self.half = slab.key, cupy.float16
        shape = 2, 2, min(INPUTS, n_in), -(-min(OUTPUTS, n_out) // 2)
        self.halves = cupy.empty(shape, cupy.int64)  # each entry is the four halves of a pair of rows
        self.products = cupy.cuda.get_current_stream()
        self.drawing = cupy.cuda.Stream(non_blocking=True)
        self.stream = numba_cuda.external_stream(self.drawing.ptr)
        self.drawn, self.free = ([cupy.cuda.Event(disable_timing=True) for _ in range(2)] for _ in range(2))
        for event in self.free:
            self.products.record(event)
        self.tile = cache(self.view)

    def view(self, turn: int, inputs: int, pairs: int) -> tuple[Any, ...]:
        """Coarse and fine halves of a buffer, as views for drawing and for multiplication."""
        coarse, fine = self.halves[turn, :, :inputs, :pairs]
        return *map(cuda.view_for_numba, (coarse, fine)), coarse.view(self.half), fine.view(self.half)

    def multiply(self, turn: int, x: Array, left: int, right: int, first_pair: int, pairs: int, sums: Array) -> None:
        """Draw a tile and add its product with the inputs from `left` to `right` to `sums`."""
        coarse, fine, *factors = self.tile(turn, right - left, pairs)
        self.drawing.wait_event(self.free[turn])
        cuda.fill_halves(left, first_pair, self.key, coarse, fine, self.stream)
        self.drawing.record(self.drawn[turn])
        self.products.wait_event(self.drawn[turn])
        for factor in factors:
            add_product(x[:, left:right], factor, sums)
        self.products.record(self.free[turn])


def propagate_many(slab: Slab, field: Array) -> Array:
    """Return the product for many real frames, tile by tile with the matrix units."""
    import cupy  # pyright: ignore[reportMissingImports]

    (n_out, n_in), frames = slab.shape, len(field)
    x, unit = split(field)
    unit = unit * (slab.scale / cuda.COARSE)
    out, buffers, turn = cupy.empty((frames, n_out), cupy.complex64), Buffers(slab), 0
    for top in range(0, n_out, OUTPUTS):
        bottom = min(top + OUTPUTS, n_out)
        pairs = -(-(bottom - top) // 2)
        sums = cupy.zeros((len(x), 4 * pairs), cupy.float32)
        for left in range(0, n_in, INPUTS):
            buffers.multiply(turn, x, left, min(left + INPUTS, n_in), (slab.first + top) // 2, pairs, sums)
            turn = 1 - turn
        total = sums if len(x) == frames else sums[:frames] + sums[frames:]
        out[:, top:bottom] = (total * unit).view(cupy.complex64)[:, : bottom - top]
    return out


def split(field: Array) -> tuple[Array, Array]:
    """Return halves whose sum is a real field, with a separate unit per frame, and the units: (frames, 1).

    Bools fit in one half each: (frames, n). A float32 becomes two halves: steps of 1/512 of the frame's largest value,
    and the remainders, which follow as further frames: (2 * frames, n).
    """
    import cupy  # pyright: ignore[reportMissingImports]

    (frames, n), width = field.shape, -(-field.shape[1] // 8) * 8  # aligned rows, which the matrix units need
    if field.dtype == cupy.bool_:
        halves = cupy.empty((frames, width), cupy.float16)[:, :n]
        halves[...] = field
        return halves, cupy.ones((frames, 1), cupy.float32)
    halves = cupy.empty((2 * frames, width), cupy.float16)[:, :n]
    unit = cupy.maximum(abs(field).max(axis=1, keepdims=True) / STEPS, cupy.finfo(cupy.float32).tiny)
    for left in range(0, n, INPUTS):
        part = slice(left, left + INPUTS)
        steps = field[:, part] / unit
        whole = cupy.rint(steps)
        halves[:frames, part], halves[frames:, part] = whole, steps - whole
    return halves, unit


def add_product(x: Array, tile: Array, sums: Array) -> None:
    """``sums += x @ tile`` of 16-bit floats, summed in float32; cupy has no function for this."""
    from cupy.cuda import cublas, device, runtime  # pyright: ignore[reportMissingImports]

    (frames, inputs), outputs = x.shape, tile.shape[1]
    handle, plain, one = device.get_cublas_handle(), cublas.CUBLAS_OP_N, ONE.ctypes.data
    sizes = outputs, frames, inputs  # cuBLAS is column-major, so it computes the transposed product
    right = tile.data.ptr, runtime.CUDA_R_16F, tile.strides[0] // 2
    left = x.data.ptr, runtime.CUDA_R_16F, x.strides[0] // 2
    out = sums.data.ptr, runtime.CUDA_R_32F, sums.strides[0] // 4
    how = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT
    cublas.gemmEx(handle, plain, plain, *sizes, one, *right, *left, one, *out, *how)
