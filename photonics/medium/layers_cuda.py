"""Scattering layers on a GPU: screens that read what goes in and write what comes out, transforms in place.

Only called with cupy's arrays, whose transforms are imported where they are needed.
"""

from typing import TYPE_CHECKING, Any

from photonics import draws
from photonics.backend import backend_of
from photonics.kernels.screens_cuda import screen_into

if TYPE_CHECKING:
    from photonics.medium.layers import ScatteringLayers

__all__ = ["through"]


def through(medium: "ScatteringLayers", field: Any, backward: bool, out: Any) -> None:
    """Fill `out` (frames, width) with ``T`` or ``T^H`` for each row of `field` (frames, n), real or complex."""
    from cupyx.scipy import fft  # pyright: ignore[reportMissingImports]

    frames, key = len(field), draws.key(medium.seed)
    dft, norm = (fft.ifftn, "forward") if backward else (fft.fftn, "backward")  # neither has a factor
    grid = backend_of(field).empty((frames, medium.n_modes), "complex64")
    first, *later = range(medium.layers, -1, -1) if backward else range(medium.layers + 1)
    screen_into(field, grid, first, key, backward, medium._amplitude(first))
    for layer in later:
        planes = grid.reshape(frames, *medium.grid)
        grid = dft(planes, axes=(1, 2), norm=norm, overwrite_x=True).reshape(frames, medium.n_modes)
        screen_into(grid, out if layer == later[-1] else grid, layer, key, backward, medium._amplitude(layer))
