"""Products of a streamed Gaussian medium on a GPU: drawn and summed in registers, or drawn and multiplied side by side.

Only called with cupy's arrays, whose namespace comes with them.
"""

from typing import TYPE_CHECKING, Any

from numba import cuda as numba_cuda

from photonics.backend import backend_of
from photonics.kernels import cuda
from photonics.medium.streaming import INPUTS, OUTPUTS, key
from photonics.medium.tiled import matmul

if TYPE_CHECKING:
    from photonics.medium.gaussian import GaussianMedium

__all__ = ["propagate"]

PARTIAL_BYTES = 2**28
"""Memory that the partial sums of a fused product may take."""


def propagate(medium: "GaussianMedium", field: Any) -> Any:
    """``field @ T.T``: (batch, n_in) -> (batch, n_out) complex64, cupy arrays."""
    xp, complex_ = backend_of(field).xp, field.dtype.kind == "c"
    frames = len(field) * (2 if complex_ else 1)
    if medium.entries != "gaussian" or not 0 < frames <= cuda.MOST_FUSED:
        return two_streams(medium, field)
    if not complex_:
        return fused(medium, xp.ascontiguousarray(field))
    parts = fused(medium, xp.concat([field.real, field.imag]))
    return parts[: len(field)] + 1j * parts[len(field) :]


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
    """Multiply one tile while the next is drawn on a stream of its own, in two buffers."""
    import cupy  # pyright: ignore[reportMissingImports]

    n_out, n_in = medium.shape
    rows = medium._law.rows
    out = cupy.zeros((len(field), n_out), cupy.complex64)
    height = -(-min(OUTPUTS, n_out) // rows) * rows
    buffers = [cupy.empty((min(INPUTS, n_in), height), cupy.complex64) for _ in range(2)]
    products = cupy.cuda.get_current_stream()
    drawing = cupy.cuda.Stream(non_blocking=True)
    free = [products.record(), products.record()]
    tiles = ((top, left) for top in range(0, n_out, OUTPUTS) for left in range(0, n_in, INPUTS))
    for i, (top, left) in enumerate(tiles):
        bottom, right = min(top + OUTPUTS, n_out), min(left + INPUTS, n_in)
        tile = buffers[i % 2][: right - left, : -(-(bottom - top) // rows) * rows]
        drawing.wait_event(free[i % 2])
        stream = numba_cuda.external_stream(drawing.ptr)
        cuda.fill_entries(medium.entries, left, top // rows, key(medium), medium._scale, tile, stream)
        products.wait_event(drawing.record())
        out[:, top:bottom] += matmul(field[:, left:right], tile, cupy)[:, : bottom - top]
        free[i % 2] = products.record()
    return out
