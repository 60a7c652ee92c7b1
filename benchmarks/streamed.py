"""Products with matrices that are drawn on demand, relative to generator and product alone."""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.child import call_in_new_process
from benchmarks.memory import peak_mb
from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import GaussianMedium, draws
from photonics.kernels.entries import fill_columns
from photonics.kernels.frames import prepare, sum_pieces
from photonics.kernels.panels import Piece
from photonics.kernels.tile import INPUTS, OUTPUTS, PANEL, PARTS, WIDTH
from photonics.random import Stream

MAX_MB = 150.0


def rows(quick: bool) -> Iterator[Row]:
    """Time, rate and memory of streamed products."""
    n = 1024 if quick else 4096
    yield from batch_rows(n)
    yield from single_frame_rows(2 * n)
    yield normals(n)
    n_in = 2**17 if quick else 2**20
    for batch in (1, 16):
        peak = call_in_new_process(memory, n_in, 512, batch)["peak_mb"]
        yield Row(
            name=f"streamed Gaussian 512 x {n_in}, batch {batch}: memory over {MAX_MB:.0f} MB",
            unit="MB",
            values={"peak above imports and inputs": peak},
            ratio=peak / MAX_MB,
            target="<= 1",
            note="VmHWM of a fresh process",
        )


def peak_draws() -> Callable[[], None]:
    """Return a function that draws a million entries into a tile that stays in the cache."""
    tile = np.empty((INPUTS, WIDTH), np.float32)
    key = (int(Stream.MATRIX), *draws.key(0))

    def call() -> None:
        for first in range(0, 16 * INPUTS, INPUTS):
            fill_columns(False, first, INPUTS, 0, OUTPUTS // 2, *key, np.float32(1.0), tile)

    return call


def peak_product(batch: int) -> Callable[[], None]:
    """Return a function that multiplies `batch` patterns with a million entries, of a tile that stays in the cache."""
    rng = np.random.default_rng(0)
    frames = prepare((rng.random((batch, INPUTS)) < 0.5).astype(np.float32))
    tile = rng.standard_normal((INPUTS, WIDTH), np.float32)
    piece = Piece(tile.reshape(-1), 0, WIDTH, PANEL)

    def call() -> None:
        for _ in range(16):
            sum_pieces(frames, lambda k, inputs: piece, INPUTS, INPUTS, PARTS)

    return call


def batch_rows(n: int) -> Iterator[Row]:
    """Time over that of its two parts, with tiles in the cache: drawing every entry once, and the product."""
    streamed = GaussianMedium(n, n, storage="streamed")
    for batch, target in ((16, "<= 1.4"), (128, "<= 1.3")):
        x = np.random.default_rng(0).random((batch, n)) < 0.5
        took, *halves = cpu_seconds(lambda x=x: streamed.propagate(x), peak_draws(), peak_product(batch))
        drawn, product = (seconds * n * n / 2**20 for seconds in halves)
        yield Row(
            name=f"streamed Gaussian {n} x {n}, batch {batch}: time over generation + product in the cache",
            unit="ms",
            values={"streamed": took * 1e3, "generation": drawn * 1e3, "product": product * 1e3},
            ratio=took / (drawn + product),
            target=target,
        )


def single_frame_rows(n: int) -> Iterator[Row]:
    """One frame: entries per second over the generator's peak, and the speed of three-bit entries."""
    gaussian = GaussianMedium(n, n, storage="streamed")
    three_bit = GaussianMedium(n, n, storage="streamed", entries="3bit")
    x = {"half of the inputs": np.random.default_rng(0).random((1, n)) < 0.5, "all inputs": np.ones((1, n), bool)}
    calls = [lambda x=x: gaussian.propagate(x) for x in x.values()]
    *took, other, drawn = cpu_seconds(*calls, lambda: three_bit.propagate(x["all inputs"]), peak_draws())
    peak = 2**20 / drawn
    for (name, pattern), seconds in zip(x.items(), took, strict=True):
        rate = n * pattern.sum() / seconds
        yield Row(
            name=f"streamed Gaussian {n} x {n}, batch 1, {name} ON: entries visited over the generator's peak",
            unit="M entries/s",
            values={"visited": rate / 1e6, "peak": peak / 1e6},
            ratio=rate / peak,
            target=">= 0.9",
        )
    yield Row(
        name=f"streamed 3-bit {n} x {n}, batch 1: times faster than Gaussian entries",
        unit="ms",
        values={"3bit": other * 1e3, "gaussian": took[-1] * 1e3},
        ratio=took[-1] / other,
    )


def normals(n: int) -> Row:
    """Rate of normal draws, two for each entry, over that of numpy's fastest generator."""
    rng = np.random.Generator(np.random.SFC64(0))
    drawn, other = cpu_seconds(peak_draws(), lambda: rng.standard_normal((n, n), np.float32), repeats=3)
    rate, numpy_rate = 2**21 / drawn, n * n / other
    return Row(
        name="Philox normals: rate over numpy's SFC64",
        unit="M/s",
        values={"here": rate / 1e6, "SFC64": numpy_rate / 1e6},
        ratio=rate / numpy_rate,
    )


def memory(n_in: int, n_out: int, batch: int) -> dict[str, float]:
    """Peak memory of a product, without imports and inputs; call it in a fresh process."""
    x = np.random.default_rng(0).random((batch, n_in), np.float32) < 0.5
    GaussianMedium(8, 8, storage="streamed").propagate(x[:, :8])  # compiles the kernels
    return {"peak_mb": peak_mb(lambda: GaussianMedium(n_in, n_out, storage="streamed").propagate(x))}
