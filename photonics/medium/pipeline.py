"""Products of a streamed Gaussian medium on a GPU: drawn and summed in registers, or drawn and multiplied side by side.

Only called with cupy's arrays, whose namespace comes with them.

Many frames are multiplied by the matrix units, which take numbers of 11 bits and sum in 24, with the rest cut off. So
both sides are split in two halves (of 16 bits): whole numbers of steps, small enough that their sums over a tile are
exact, and what is over, whose products weigh 2**-9 of theirs. What is lost is about that of a product of float32.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda as numba_cuda

from photonics.backend import backend_of
from photonics.kernels import cuda
from photonics.medium.streaming import INPUTS, OUTPUTS, key

if TYPE_CHECKING:
    from photonics.medium.gaussian import GaussianMedium

__all__ = ["propagate"]

PARTIAL_BYTES = 2**28
"""Memory that the partial sums of a fused product may take."""
ONE = np.ones(1, np.float32)
STEPS = 512
"""Steps of a field in its frame's largest value: with 256 in a normal's deviation, 4096 products sum to 2**23, rms."""


def propagate(medium: "GaussianMedium", field: Any) -> Any:
    """``field @ T.T`` for Gaussian entries: (batch, n_in) -> (batch, n_out) complex64, cupy arrays."""
    backend = backend_of(field)
    xp, frames = backend.xp, len(field)
    if field.dtype.kind == "c":
        parts = propagate(medium, xp.concat([field.real, field.imag]))
        return parts[:frames] + 1j * parts[frames:]
    if not frames:
        return backend.empty((0, medium.shape[0]), "complex64")
    if frames <= cuda.MOST_FUSED:
        return fused(medium, xp.ascontiguousarray(xp.astype(field, xp.float32, copy=False)))
    return two_streams(medium, field)


def fused(medium: "GaussianMedium", x: Any) -> Any:
    """Return the product for a few real frames; no tile is ever written."""
    backend, (n_out, n_in) = backend_of(x), medium.shape
    slices = -(-n_in // cuda.COLUMNS)
    band = max(PARTIAL_BYTES // (8 * slices * len(x)) // 2 * 2, 2)
    out = backend.empty((len(x), n_out), "complex64")
    for top in range(0, n_out, band):
        bottom = min(top + band, n_out)
        partial = backend.empty((slices, len(x), 4 * (-(-(bottom - top) // 2))), "float32")
        cuda.project(x, top // 2, key(medium), medium._scale, partial)
        out[:, top:bottom] = partial.sum(axis=0).view(out.dtype)[:, : bottom - top]
    return out


def two_streams(medium: "GaussianMedium", field: Any) -> Any:
    """Multiply one tile while the next is drawn on a stream of its own, in two buffers.

    A tile takes the GPU 0.25 ms, which is little for the host: what it needs for each is made once.
    """
    import cupy  # pyright: ignore[reportMissingImports]

    (n_out, n_in), frames, which = medium.shape, len(field), key(medium)
    x, unit = split(field)
    unit = unit * (medium._scale / cuda.COARSE)
    out = cupy.empty((frames, n_out), cupy.complex64)
    shape = 2, 2, min(INPUTS, n_in), -(-min(OUTPUTS, n_out) // 2)
    buffers = cupy.empty(shape, cupy.int64)  # of which each holds the four halves of a pair of rows
    products = cupy.cuda.get_current_stream()
    drawing = cupy.cuda.Stream(non_blocking=True)
    stream = numba_cuda.external_stream(drawing.ptr)
    drawn, free = ([cupy.cuda.Event(disable_timing=True) for _ in range(2)] for _ in range(2))
    for event in free:
        products.record(event)

    @cache
    def tile(turn: int, inputs: int, pairs: int) -> tuple[Any, ...]:
        """A buffer's coarse and fine halves, to draw, and the same to multiply."""
        coarse, fine = buffers[turn, :, :inputs, :pairs]
        return *map(cuda.shared, (coarse, fine)), coarse.view(cupy.float16), fine.view(cupy.float16)

    turn = 0
    for top in range(0, n_out, OUTPUTS):
        bottom = min(top + OUTPUTS, n_out)
        pairs = -(-(bottom - top) // 2)
        sums = cupy.zeros((len(x), 4 * pairs), cupy.float32)
        for left in range(0, n_in, INPUTS):
            right = min(left + INPUTS, n_in)
            coarse, fine, *factors = tile(turn, right - left, pairs)
            drawing.wait_event(free[turn])
            cuda.fill_halves(left, top // 2, which, coarse, fine, stream)
            drawing.record(drawn[turn])
            products.wait_event(drawn[turn])
            part = x[:, left:right]
            for factor in factors:
                add_product(part, factor, sums)
            products.record(free[turn])
            turn = 1 - turn
        total = sums if len(x) == frames else sums[:frames] + sums[frames:]
        out[:, top:bottom] = (total * unit).view(cupy.complex64)[:, : bottom - top]
    return out


def split(field: Any) -> tuple[Any, Any]:
    """Halves that add up to a real field, each frame in a unit of its own, and the units: (frames, 1).

    Bools are halves as they are, (frames, n). A float32 becomes two: steps of 1/512 of the frame's largest value, and
    below them, for all frames, what is over: (2 * frames, n).
    """
    import cupy  # pyright: ignore[reportMissingImports]

    (frames, n), width = field.shape, -(-field.shape[1] // 8) * 8  # rows begin where the matrix units want them
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


def add_product(x: Any, tile: Any, sums: Any) -> None:
    """``sums += x @ tile``: halves by halves, summed in float32, which no function of cupy does."""
    from cupy.cuda import cublas, device, runtime  # pyright: ignore[reportMissingImports]

    (frames, inputs), outputs = x.shape, tile.shape[1]
    handle, plain, one = device.get_cublas_handle(), cublas.CUBLAS_OP_N, ONE.ctypes.data
    sizes = outputs, frames, inputs  # cuBLAS goes by columns: it is told of the transposed product
    right = tile.data.ptr, runtime.CUDA_R_16F, tile.strides[0] // 2
    left = x.data.ptr, runtime.CUDA_R_16F, x.strides[0] // 2
    out = sums.data.ptr, runtime.CUDA_R_32F, sums.strides[0] // 4
    how = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT
    cublas.gemmEx(handle, plain, plain, *sizes, one, *right, *left, one, *out, *how)
