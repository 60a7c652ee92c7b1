"""The phase screens of `ScatteringLayers`: grid, scale and law of the screens, and the transform between two."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import scipy

from photonics import draws
from photonics.arrays import Array, ComplexArray
from photonics.backend import Backend, backend_of
from photonics.random import Stream, word_type, words

__all__ = ["Screens", "fill_on_gpu", "grid_shape", "phasors", "transform"]


class Screens(NamedTuple):
    """Random phase screens with a Fourier transform between neighbours; no phase is stored."""

    grid: tuple[int, int]
    """Rows and columns of the modes."""
    layers: int
    """Number of transforms; one more screen follows the last transform."""
    n_in: int
    """Number of inputs, which sets the scale of the transmission matrix."""
    seed: int
    """Seed of the generator."""

    @property
    def n_modes(self) -> int:
        """Modes of the grid."""
        return self.grid[0] * self.grid[1]

    def amplitude(self, layer: int) -> float:
        """Factor of a screen: that of the orthonormal transform before it, and in screen 0 the scale of T."""
        return 1.0 if layer == self.layers else (self.n_modes if layer else self.n_in) ** -0.5

    def rows(self, width: int) -> int:
        """Number of rows of the grid that contain the first `width` modes."""
        return -(-width // self.grid[1])

    def order(self, backward: bool) -> range:
        """Screens in the order of propagation, or in the reverse order for the adjoint."""
        return range(self.layers, -1, -1) if backward else range(self.layers + 1)


@lru_cache
def grid_shape(n: int) -> tuple[int, int]:
    """Rows and columns of the smallest grid of at least `n` modes with no prime factor over 5, as square as possible.

    >>> grid_shape(1024), grid_shape(37), grid_shape(2_000_003)
    ((32, 32), (5, 8), (1350, 1500))
    """
    size = cast(int, scipy.fft.next_fast_len(n, real=True))
    rows = max(r for r in range(1, math.isqrt(size) + 1) if size % r == 0)
    return rows, size // rows


def phasors(backend: Backend, seed: int, layer: int, n_modes: int) -> Array:
    """``exp(i phase)`` of a screen by the array API alone: (n_modes,) complex64.

    `photonics.kernels.screens` holds the same law, compiled.
    """
    xp = backend.xp
    call = xp.arange(-(-n_modes // 4), dtype=word_type(xp), device=backend.device)
    four = words(seed, Stream.SCREEN, call, xp.full_like(call, layer))
    word = xp.reshape(xp.stack(four, axis=1), (-1,))
    angle = xp.astype(word[:n_modes], xp.float64) * (2.0 * math.pi * 2.0**-32)
    return xp.astype(xp.cos(angle), xp.complex64) + xp.astype(xp.sin(angle), xp.complex64) * 1j


def transform(planes: ComplexArray, lit: int, seen: int, inverse: bool) -> None:
    """Two-dimensional Fourier transform without a factor, in place: (frames, rows, columns).

    Only the first `lit` rows contain light and only the first `seen` rows are used afterwards: the transform along rows
    skips the others.
    """
    rows = planes.shape[1]
    if lit < rows:
        parts = [(planes[:, :lit], (2,)), (planes, (1,))]
    elif seen < rows:
        parts = [(planes, (1,)), (planes[:, :seen], (2,))]
    else:
        parts = [(planes, (1, 2))]
    dft = cast(Callable[..., ComplexArray], scipy.fft.ifftn if inverse else scipy.fft.fftn)
    for part, axes in parts:
        result = dft(part, axes=axes, norm="forward" if inverse else "backward", overwrite_x=True, workers=1)
        if not np.may_share_memory(result, part):  # scipy may overwrite its input, but does not have to
            part[...] = result


def fill_on_gpu(screens: Screens, field: Array, backward: bool, out: Array) -> None:
    """Fill `out` (frames, width) with ``T`` or ``T^H`` for each row of `field` (frames, n), cupy arrays.

    The first screen reads the field, the last one writes the result, and transforms are in place.
    """
    from cupyx.scipy import fft  # pyright: ignore[reportMissingImports]

    from photonics.kernels.screens_cuda import screen_into  # loads numba.cuda

    frames, key = len(field), draws.key(screens.seed)
    dft, norm = (fft.ifftn, "forward") if backward else (fft.fftn, "backward")  # neither has a factor
    grid = backend_of(field).empty((frames, screens.n_modes), "complex64")
    first, *later = screens.order(backward)
    screen_into(field, grid, first, key, backward, screens.amplitude(first))
    for layer in later:
        planes = grid.reshape(frames, *screens.grid)
        grid = dft(planes, axes=(1, 2), norm=norm, overwrite_x=True).reshape(frames, screens.n_modes)
        screen_into(grid, out if layer == later[-1] else grid, layer, key, backward, screens.amplitude(layer))
