"""Tiles of a Gaussian medium on a device, drawn where they are used and thrown away."""

from typing import TYPE_CHECKING, Any

import numpy as np

from photonics import draws, random
from photonics.backend import Backend
from photonics.kernels.entries import GROUP
from photonics.medium.tiled import matmul

if TYPE_CHECKING:
    from photonics.medium.gaussian import GaussianMedium

__all__ = ["adjoint", "propagate", "tile"]

INPUTS, OUTPUTS = 4096, 8192
"""Entries of a tile: 256 MB, large enough for the library's product to run at its full speed."""


def tile(medium: "GaussianMedium", backend: Backend, left: int, right: int, top: int, bottom: int) -> Any:
    """``T[top:bottom, left:right]`` transposed, complex64 on the backend: (inputs, outputs); `top` begins a draw."""
    rows = 2 if medium.entries == "gaussian" else GROUP
    groups = -(-(bottom - top) // rows)
    if backend.name == "cupy":
        from photonics.kernels import cuda

        out = backend.empty((right - left, rows * groups), "complex64")
        cuda.fill_entries(medium.entries, left, top // rows, key(medium), medium._scale, out)
    else:
        out = specified(medium, backend, left, right, top // rows, groups)
    return out[:, : bottom - top]


def key(medium: "GaussianMedium") -> tuple[int, np.uint32, np.uint32]:
    """Stream and Philox key of a medium's entries."""
    return (int(medium._law.stream), *draws.key(medium.seed))


def specified(medium: "GaussianMedium", backend: Backend, left: int, right: int, first: int, groups: int) -> Any:
    """Return the tile by the specification of the generator, in the array API: for any library, and as an oracle."""
    xp, stream = backend.xp, int(medium._law.stream)
    calls = 1 if medium.entries == "gaussian" else 4
    column = backend.asarray(np.arange(left, right)[:, None])
    call = backend.asarray(np.arange(calls * first, calls * (first + groups))[None, :])
    words = random.words(medium.seed, stream, column, call)
    if medium.entries == "gaussian":
        parts = xp.stack([*random.normal_pair(*words[:2]), *random.normal_pair(*words[2:])], axis=-1)
    else:
        parts = random.three_bit(xp.reshape(xp.stack(words, axis=-1), (right - left, groups, 1, 16)))
    parts = xp.reshape(parts, (right - left, -1, 2)) * float(medium._scale)
    return parts[..., 0] + xp.astype(parts[..., 1], xp.complex64) * 1j


def propagate(medium: "GaussianMedium", backend: Backend, field: Any) -> Any:
    """``field @ T.T`` on a device, tile by tile."""
    xp, (n_out, n_in) = backend.xp, medium.shape
    if backend.name == "cupy" and medium.entries == "gaussian":
        from photonics.medium import pipeline

        return pipeline.propagate(medium, field)
    bands = []
    for top in range(0, n_out, OUTPUTS):
        bottom, band = min(top + OUTPUTS, n_out), None
        for left in range(0, n_in, INPUTS):
            right = min(left + INPUTS, n_in)
            part = matmul(field[:, left:right], tile(medium, backend, left, right, top, bottom), xp)
            band = part if band is None else band + part
        bands.append(band)
    return xp.concat(bands, axis=1)


def adjoint(medium: "GaussianMedium", backend: Backend, field: Any) -> Any:
    """``field @ conj(T)`` on a device, tile by tile."""
    xp, (n_out, n_in) = backend.xp, medium.shape
    field = xp.astype(field, xp.complex64, copy=False)
    bands = []
    for left in range(0, n_in, INPUTS):
        right, band = min(left + INPUTS, n_in), None
        for top in range(0, n_out, OUTPUTS):
            bottom = min(top + OUTPUTS, n_out)
            block = tile(medium, backend, left, right, top, bottom)
            part = xp.matmul(field[:, top:bottom], xp.conj(xp.matrix_transpose(block)))
            band = part if band is None else band + part
        bands.append(band)
    return xp.concat(bands, axis=1)
