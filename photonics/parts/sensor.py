"""The draw of a camera's frames on each kind of array: compiled for the host and the GPU, specified for the rest."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonics import draws, random
from photonics.backend import Backend
from photonics.kernels import cpu
from photonics.kernels.threads import for_blocks
from photonics.random import Stream

__all__ = ["Sensor", "expose"]

FRAMES = 32
"""Frames that one thread exposes at a time."""
PIXELS_PER_S = 2e8
"""Pixels that one thread exposes in a second, to tell small frames."""


class Sensor(NamedTuple):
    """What turns mean photons into digital numbers; the first two are arrays of (n_pixels,) where the photons are."""

    response: Any
    """Mean electrons per photon."""
    offset_e: Any
    """Electrons added to every frame."""
    dark_e: np.float32
    read_e: np.float32
    well_e: np.float32
    gain: np.float32
    offset: np.float32
    top: np.float32


def expose(backend: Backend, photons: Any, ticks: NDArray[np.int64], seed: int, sensor: Sensor, dtype: str) -> Any:
    """Frames of `dtype` for mean photons (batch, n_pixels) float32 at the given frame numbers."""
    if not (backend.on_host or backend.name == "cupy"):
        return specified(backend, photons, ticks, seed, sensor, dtype)
    frames = backend.empty(photons.shape, dtype)
    stream = (int(Stream.SENSOR), *draws.key(seed))
    if not backend.on_host:
        from photonics.kernels import cuda

        cuda.expose(photons, backend.asarray(ticks), *stream, *sensor, frames)
        return frames

    def work(start: int, stop: int) -> None:
        part = slice(start, stop)
        cpu.expose_rows(photons[part], ticks[part], *stream, *sensor, frames[part])

    for_blocks(work, len(photons), FRAMES, photons.size / PIXELS_PER_S)
    return frames


def specified(backend: Backend, photons: Any, ticks: NDArray[np.int64], seed: int, sensor: Sensor, dtype: str) -> Any:
    """Return the frames by the specification of the generator, in the array API."""
    xp = backend.xp
    response, offset_e, *numbers = sensor
    dark_e, read_e, well_e, gain, offset, top = (float(number) for number in numbers)
    pixel = backend.asarray(np.arange(photons.shape[1])[None, :])
    words = random.words(seed, Stream.SENSOR, pixel, backend.asarray(ticks[:, None]))
    shot, read = random.normal_pair(*words[:2])
    electrons = random.poisson(photons * response + dark_e, shot, words[2]) + read * read_e + offset_e
    dn = xp.round(xp.where(electrons > well_e, well_e, electrons) * gain + offset)
    dn = xp.where(dn > top, top, xp.where(dn < 0.0, 0.0, dn))
    return xp.astype(dn, getattr(xp, dtype))
