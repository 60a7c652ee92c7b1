"""How time and memory of a product grow with its sizes: ``python -m benchmarks.exponents --out docs/performance.md``.

Exponents are slopes of straight lines through the logarithms, over three decades of one size. The theory's exponent is
that of the same line through the theory's values at the same sizes.
"""

import argparse
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.machine import machine, versions
from benchmarks.pages import made_by, put, table
from benchmarks.timing import cpu_seconds
from photonics import GaussianMedium, ScatteringLayers
from photonics.arrays import BoolArray
from photonics.medium.base import ScatteringMedium

NAME = "benchmarks.exponents"
POINTS, DECADES = 7, 3
FRAMES_PER_DRAW = 160.0
"""Frames whose sums by tables take as long as drawing an entry."""
COLUMNS_BYTES, TILE_BYTES = 2e4, 5e5
"""Buffers of a streamed product: a few columns for one or two frames, and a tile of the matrix for more."""
HEADINGS = "medium, and what grows", "time", "first, last decade", "theory", "memory", "theory"
Size = tuple[int, int, int]
"""n_in, n_out, batch."""
Make = Callable[[int, int], ScatteringMedium]
Law = Callable[[float, float, float], float]


@dataclass(frozen=True)
class Sweep:
    """Products of one kind of medium, of which one size grows."""

    name: str
    make: Make
    time: Law
    """Theory of the time, in any unit."""
    bytes: Law
    """Theory of the memory, bytes."""
    sizes: Callable[[int], Size]
    first: int
    """Smallest size."""
    label: str
    """Name of the size."""
    others: str
    """The other sizes."""


def gaussian(storage: Literal["stored", "streamed"], n_in: int, n_out: int) -> ScatteringMedium:
    """Return a Gaussian medium."""
    return GaussianMedium(n_in, n_out, seed=1, storage=storage)


def layers(n_in: int, n_out: int) -> ScatteringMedium:
    """Return three scattering layers."""
    return ScatteringLayers(n_in, n_out, seed=1)


def fields(n_in: float, n_out: float, batch: float) -> float:
    """Bytes of patterns, their values and the result."""
    return batch * (5.0 * n_in + 8.0 * n_out)


STORED = partial(gaussian, "stored"), lambda i, o, b: i * o * b, lambda i, o, b: 8.0 * i * o + fields(i, o, b)
STREAMED = (
    partial(gaussian, "streamed"),
    lambda i, o, b: i * o * (1.0 + b / FRAMES_PER_DRAW),
    lambda i, o, b: fields(i, o, b) + (COLUMNS_BYTES if b < 3 else TILE_BYTES),
)
SCREENS = (
    layers,
    lambda i, o, b: b * max(i, o) * float(np.log(max(i, o))),
    lambda i, o, b: 8.0 * max(i, o) + fields(i, o, b),
)
SWEEPS = [
    Sweep("stored", *STORED, lambda n: (n, 1024, 512), 64, "n_in", "n_out 1024, batch 512"),
    Sweep("stored", *STORED, lambda n: (1024, n, 512), 64, "n_out", "n_in 1024, batch 512"),
    Sweep("stored", *STORED, lambda n: (2048, 2048, n), 4, "batch", "2048 x 2048"),
    Sweep("streamed", *STREAMED, lambda n: (n, 2048, 1), 256, "n_in", "n_out 2048, batch 1"),
    Sweep("streamed", *STREAMED, lambda n: (2048, n, 1), 256, "n_out", "n_in 2048, batch 1"),
    Sweep("streamed", *STREAMED, lambda n: (2048, 2048, n), 1, "batch", "2048 x 2048"),
    Sweep("layers", *SCREENS, lambda n: (n, n, 1), 1000, "n_in = n_out", "batch 1"),
    Sweep("layers", *SCREENS, lambda n: (4096, 4096, n), 1, "batch", "4096 x 4096"),
]
"""All rows of the table."""


def half_on(n_in: int, batch: int) -> BoolArray:
    """Random half-ON patterns."""
    return np.random.default_rng(0).integers(0, 2, (batch, n_in), np.uint8) > 0


def product_seconds(make: Make, size: Size) -> float:
    """Processor time of a product."""
    n_in, n_out, batch = size
    medium, shown = make(n_in, n_out), half_on(n_in, batch)
    once = cpu_seconds(lambda: medium.propagate(shown), repeats=1)[0]
    repeats = int(np.clip(0.3 / max(once, 1e-6), 1, 200))
    return cpu_seconds(lambda: medium.propagate(shown), repeats=repeats)[0]


def peak_bytes(make: Make, size: Size) -> int:
    """Bytes that numpy holds at most during a product: the medium, patterns and result included."""
    n_in, n_out, batch = size
    tracemalloc.start()
    make(n_in, n_out).propagate(half_on(n_in, batch))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def slope(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Exponent and its standard error, from the scatter about the line."""
    x, y = np.log(sizes), np.log(values)
    (a, b), n = np.polyfit(x, y, 1), len(x)
    left = float(np.sum((y - a * x - b) ** 2)) / max(n - 2, 1)
    return float(a), float(np.sqrt(left / np.sum((x - x.mean()) ** 2)))


def row(sweep: Sweep) -> list[str]:
    """Cells of a row of the table."""
    spaced = np.geomspace(sweep.first, sweep.first * 10.0**DECADES, POINTS)
    steps = sorted({round(float(n)) for n in spaced})
    sizes = [sweep.sizes(n) for n in steps]
    seconds = [product_seconds(sweep.make, size) for size in sizes]
    peak = [float(peak_bytes(sweep.make, size)) for size in sizes]
    time, memory = slope(steps, seconds), slope(steps, peak)
    expected = [slope(steps, [law(*size) for size in sizes])[0] for law in (sweep.time, sweep.bytes)]
    ends = [slope(steps[part], seconds[part])[0] for part in (slice(0, 3), slice(-3, None))]
    what = f"{sweep.name}: {sweep.label} from {steps[0]} to {steps[-1]}, {sweep.others} ({1e3 * seconds[-1]:.3g} ms)"
    cells = [what, f"{time[0]:.2f} ± {time[1]:.2f}", ", ".join(f"{end:.2f}" for end in ends), f"{expected[0]:.2f}"]
    return [*cells, f"{memory[0]:.2f} ± {memory[1]:.2f}", f"{expected[1]:.2f}"]


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    about, packages = machine(), versions()
    made = (
        f"{made_by(f'python -m {NAME} --out docs/performance.md')}, one of {about['cores']} cores of an "
        f"{about['processor']}, load {about['load']:.0f}; numpy {packages['numpy']}, numba {packages['numba']}."
    )
    rows = [row(sweep) for sweep in SWEEPS]
    put(f"{made}\n\n{table(HEADINGS, rows)}", NAME, given.out)


if __name__ == "__main__":
    main()
