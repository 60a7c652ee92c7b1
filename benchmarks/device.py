"""Time of the whole device, relative to the product in it."""

from collections.abc import Iterator

import numpy as np

from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import presets


def rows(quick: bool) -> Iterator[Row]:
    """Time of frames over time of the medium only."""
    n_in, n_out, batch = (256, 1024, 32) if quick else (1024, 4096, 256)
    opu = presets.lab_bench(n_in, n_out)
    x = np.random.default_rng(0).random((batch, n_in)) < 0.5
    took, product = cpu_seconds(lambda: opu.measure(x), lambda: opu.medium.propagate(x))
    yield Row(
        name=f"whole device (lab_bench) {n_in} x {n_out}, batch {batch}: time over its product",
        unit="ms",
        values={"frames": took * 1e3, "product": product * 1e3},
        ratio=took / product,
    )
