"""Scattering layers on a GPU: the first screen reads the field, the last one writes the result, transforms in place.

Only called with cupy arrays. Import it where it is needed: it loads `numba.cuda`.
"""

from photonics import draws
from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.kernels.screens_cuda import screen_into
from photonics.medium.screens import Screens

__all__ = ["fill_output"]


def fill_output(screens: Screens, field: Array, backward: bool, out: Array) -> None:
    """Fill `out` (frames, width) with ``T`` or ``T^H`` for each row of `field` (frames, n), real or complex."""
    from cupyx.scipy import fft  # pyright: ignore[reportMissingImports]

    frames, key = len(field), draws.key(screens.seed)
    dft, norm = (fft.ifftn, "forward") if backward else (fft.fftn, "backward")  # neither has a factor
    grid = backend_of(field).empty((frames, screens.n_modes), "complex64")
    first, *later = screens.order(backward)
    screen_into(field, grid, first, key, backward, screens.amplitude(first))
    for layer in later:
        planes = grid.reshape(frames, *screens.grid)
        grid = dft(planes, axes=(1, 2), norm=norm, overwrite_x=True).reshape(frames, screens.n_modes)
        screen_into(grid, out if layer == later[-1] else grid, layer, key, backward, screens.amplitude(layer))
