"""Draws of camera frames: compiled for the host and the GPU, in the array API for other libraries."""

from typing import NamedTuple

import numpy as np

from photonics import draws, kernels, random
from photonics.arrays import Array, IntArray
from photonics.backend import Backend
from photonics.random import Stream
from photonics.threads import for_blocks

__all__ = ["Sensor", "Window", "expose", "full_window"]

FRAMES = 32
"""Number of frames that one thread exposes at a time."""
PIXELS_PER_S = 2e8
"""Pixels that one thread exposes per second, an estimate to keep small work on one thread."""


class Window(NamedTuple):
    """Rectangle of pixels that is read out of a chip."""

    width: int
    """Pixels in a row of the chip."""
    row: int
    """First row of the window."""
    rows: int
    column: int
    """First column of the window."""
    columns: int

    def places(self) -> IntArray:
        """Numbers of the window's pixels on the chip, row by row: (rows * columns,)."""
        rows = np.arange(self.row, self.row + self.rows, dtype=np.int64)
        return (rows[:, None] * self.width + np.arange(self.column, self.column + self.columns)).reshape(-1)


def full_window(chip: tuple[int, int]) -> Window:
    """Window of a whole chip of so many rows and columns."""
    return Window(chip[1], 0, chip[0], 0, chip[1])


class Sensor(NamedTuple):
    """Parameters that turn mean photons into digital numbers; arrays have shape (n_pixels,)."""

    places: Array
    """Numbers of the pixels on the chip, row by row, uint32."""
    response: Array
    """Mean electrons per photon."""
    offset_e: Array
    """Electrons added to every frame."""
    dark_e: np.float32
    read_e: np.float32
    well_e: np.float32
    gain: np.float32
    offset: np.float32
    top: np.float32


def expose(backend: Backend, photons: Array, ticks: IntArray, seed: int, sensor: Sensor, dtype: str) -> Array:
    """Frames of `dtype` for mean photons (batch, n_pixels) float32 at the given frame numbers."""
    if not (backend.on_host or backend.name == "cupy"):
        return expose_portably(backend, photons, ticks, seed, sensor, dtype)
    frames = backend.empty(photons.shape, dtype)
    key = (int(Stream.SENSOR), *draws.key(seed))
    if not backend.on_host:
        from photonics.kernels import cuda

        cuda.expose(photons, backend.asarray(ticks), key, *sensor, frames)
        return frames

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        buffers = kernels.cpu.camera_buffers(photons.shape[1])
        kernels.cpu.expose_rows(photons[part], ticks[part], *key, *sensor, buffers, frames[part])

    for_blocks(work, len(photons), FRAMES, photons.size / PIXELS_PER_S)
    return frames


def expose_portably(backend: Backend, photons: Array, ticks: IntArray, seed: int, sensor: Sensor, dtype: str) -> Array:
    """Return the frames by the reference functions of `photonics.random`, which run on any array library."""
    xp = backend.xp
    places, response, offset_e, *numbers = sensor
    dark_e, read_e, well_e, gain, offset, top = (float(number) for number in numbers)
    words = random.words(seed, Stream.SENSOR, places[None, :], backend.asarray(ticks[:, None]))
    shot, read = random.normal_pair(*words[:2])
    electrons = random.poisson(photons * response + dark_e, shot, words[2]) + read * read_e + offset_e
    dn = xp.round(xp.where(electrons > well_e, well_e, electrons) * gain + offset)
    dn = xp.where(dn > top, top, xp.where(dn < 0.0, 0.0, dn))
    return xp.astype(dn, getattr(xp, dtype))
