"""Products of a streamed Gaussian medium on a device: each tile is drawn, used once and dropped."""

import numpy as np

from photonics import random
from photonics.arrays import Array
from photonics.backend import Backend
from photonics.medium.laws import INPUTS, OUTPUTS, Slab
from photonics.medium.tiled import matmul, sum_parts

__all__ = ["adjoint", "draw_tile", "propagate"]


def draw_tile(slab: Slab, backend: Backend, left: int, right: int, top: int, bottom: int) -> Array:
    """``T[top:bottom, left:right]`` transposed, complex64 on the backend: (inputs, outputs); a draw begins at `top`."""
    rows = slab.law.rows
    groups, first = -(-(bottom - top) // rows), (slab.first + top) // rows
    if backend.name == "cupy":
        from photonics.kernels import cuda

        out = backend.empty((right - left, rows * groups), "complex64")
        cuda.fill_entries(slab.law.three, left, first, slab.key, slab.scale, out)
    else:
        out = draw_by_specification(slab, backend, left, right, first, groups)
    return out[:, : bottom - top]


def draw_by_specification(slab: Slab, backend: Backend, left: int, right: int, first: int, groups: int) -> Array:
    """Draw a tile with `photonics.random`, by the array API alone: works with any library."""
    xp, calls = backend.xp, 4 if slab.law.three else 1
    column = backend.asarray(np.arange(left, right)[:, None])
    call = backend.asarray(np.arange(calls * first, calls * (first + groups))[None, :])
    words = random.words(slab.seed, int(slab.law.stream), column, call)
    if slab.law.three:
        parts = random.three_bit(xp.reshape(xp.stack(words, axis=-1), (right - left, groups, 1, 16)))
    else:
        parts = xp.stack([*random.normal_pair(*words[:2]), *random.normal_pair(*words[2:])], axis=-1)
    parts = xp.reshape(parts, (right - left, -1, 2)) * float(slab.scale)
    return parts[..., 0] + xp.astype(parts[..., 1], xp.complex64) * 1j


def propagate(slab: Slab, backend: Backend, field: Array) -> Array:
    """``field @ T.T`` on a device, tile by tile."""
    xp, (n_out, n_in) = backend.xp, slab.shape
    if backend.name == "cupy" and not slab.law.three:
        from photonics.medium import pipeline

        return pipeline.propagate(slab, field)
    bands = []
    for top in range(0, n_out, OUTPUTS):
        bottom, band = min(top + OUTPUTS, n_out), None
        for left in range(0, n_in, INPUTS):
            right = min(left + INPUTS, n_in)
            part = matmul(field[:, left:right], draw_tile(slab, backend, left, right, top, bottom), xp)
            band = part if band is None else band + part
        bands.append(band)
    return xp.concat(bands, axis=1)


def adjoint(slab: Slab, backend: Backend, field: Array) -> Array:
    """``field @ conj(T)`` on a device, tile by tile."""
    xp, (n_out, n_in) = backend.xp, slab.shape
    field = xp.conj(xp.astype(field, xp.complex64, copy=False))
    bands = []
    for left in range(0, n_in, INPUTS):
        right, band = min(left + INPUTS, n_in), None
        for top in range(0, n_out, OUTPUTS):
            bottom = min(top + OUTPUTS, n_out)
            tile = draw_tile(slab, backend, left, right, top, bottom)
            part = sum_parts(field[:, top:bottom], xp.matrix_transpose(tile), xp)
            band = part if band is None else band + part
        bands.append(xp.conj(band))
    return xp.concat(bands, axis=1)
