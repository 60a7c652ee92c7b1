"""Speed of the whole camera, relative to numpy's Poisson generator."""

from collections.abc import Iterator

import numpy as np

from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import Camera


def rows(quick: bool) -> Iterator[Row]:
    """Time of ``Generator.poisson`` over that of the camera, on fully developed speckle of several brightnesses."""
    frames = 16 if quick else 256
    rng, camera, ticks = np.random.default_rng(0), Camera(), np.arange(frames)
    for mean, target in ((30.0, ">= 5"), (300.0, ">= 6.5"), (3000.0, ">= 6.5")):
        photons = rng.exponential(mean, (frames, 4096)).astype(np.float32)
        calls = (lambda p=photons: camera.expose(p, 1e-3, ticks), lambda p=photons: rng.poisson(p))
        took, other = cpu_seconds(*calls)
        yield Row(
            name=f"camera, {frames} x 4096 pixels, mean {mean:.0f} photons: times faster than Generator.poisson",
            unit="Mpixel/s",
            values={"camera": photons.size / took / 1e6, "Generator.poisson": photons.size / other / 1e6},
            ratio=other / took,
            target=target,
        )
