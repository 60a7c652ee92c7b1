"""Benchmarks on a GPU: ``python -m benchmarks.gpu_rows [--rehearse] SECONDS STEP...``, started by `benchmarks.gpu`.

Prints a line ``row {...}`` for each row and ``end STEP`` after each step. Ends after the first step that fails, since
the card may then refuse all further work; `benchmarks.gpu` starts it again for the others.
"""

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np
import torch

from benchmarks.gpu import STEPS
from benchmarks.gpu_card import Card, find_card
from benchmarks.gpu_training import training, transfers
from benchmarks.recovery import FRAMES_PER_INPUT, error_of
from benchmarks.row import Row
from calibration import expose, recover_transmission_matrix
from photonics import Camera, GaussianMedium, ScatteringLayers, presets
from photonics.backend import to_host

HARDWARE_HZ = 1900.0
"""Projections per second of the hardware that is simulated."""
MAX_GB = 2.0
PUBLIC_S = 42.0
"""Seconds of public GPU code for 8685 x 1024 (RAF 2-1)."""


def device(card: Card) -> Iterator[Row]:
    """Frames and projections per second through 1e6 x 2e6 layers, whose matrix would have 2e12 entries."""
    n = card.size(1_000_000, 1000)
    opu = presets.lab_bench(n, 2 * n).replace(medium=ScatteringLayers(n, 2 * n, layers=3)).to(card.place)
    for name, act in (("whole device, measure", opu.measure), ("medium alone, propagate", opu.medium.propagate)):
        rates = {}
        for batch in (1, 4, 16, 64):
            x = card.patterns(batch, n)
            rates[batch] = batch / card.seconds(lambda x=x, act=act: act(x))[0]
        best = max(rates.values())
        yield Row(
            name=f"GPU: {n:.0e} x {2 * n:.0e} layers, {name}: rate over {HARDWARE_HZ:.0f}",
            unit="1/s",
            values={"simulated": best, "hardware": HARDWARE_HZ} | {f"batch {b}": rate for b, rate in rates.items()},
            ratio=best / HARDWARE_HZ,
            target=None if "measure" in name else ">= 1",
        )


def streamed(card: Card) -> Iterator[Row]:
    """Time and memory of an exact product with 1e12 entries that are drawn during the product."""
    n = card.size(1_000_000, 2000)
    medium, small = GaussianMedium(n, n, storage="streamed"), GaussianMedium(n // 50, n // 50, storage="streamed")
    for batch, bound in ((1, 6.0), (128, 14.0)):
        small.propagate(card.patterns(batch, n // 50))  # compiles the kernels
        x, before = card.patterns(batch, n), pool_bytes(card, empty=True)
        start = time.perf_counter()
        medium.propagate(x)
        card.wait()
        took = time.perf_counter() - start
        grown = (pool_bytes(card) - before) / 1e9  # the pool keeps its memory, so this is the peak
        name = f"GPU: streamed Gaussian {n:.0e} x {n:.0e}, batch {batch}"
        values = {"product": took, "bound": bound}
        yield Row(name=f"{name}: time over {bound:.0f} s", unit="s", values=values, ratio=took / bound, target="<= 1")
        yield Row(
            name=f"{name}: memory over {MAX_GB:.0f} GB",
            unit="GB",
            values={"peak above the input": grown, "bound": MAX_GB},
            ratio=grown / MAX_GB,
            target="<= 1",
            note="growth of cupy's memory pool",
        )


def pool_bytes(card: Card, empty: bool = False) -> int:
    """Bytes of cupy's memory pool, after it is emptied if so asked; 0 on the processor."""
    if card.rehearsal:
        return 0
    import cupy  # pyright: ignore[reportMissingImports]

    card.wait()
    pool = cupy.get_default_memory_pool()
    if empty:
        pool.free_all_blocks()
    return pool.total_bytes()


def frames(card: Card) -> Iterator[Row]:
    """Frames per second of the whole simulated device, over those of the real bench."""
    n, batch = card.size(10_000, 500), card.size(1000, 20)
    for name, medium in (("Gaussian", GaussianMedium(n, n)), ("layers", ScatteringLayers(n, n))):
        opu, x = presets.lab_bench(n, n).replace(medium=medium).to(card.place), card.patterns(batch, n)
        rate, real = batch / card.seconds(lambda opu=opu, x=x: opu.measure(x))[0], 1.0 / opu.frame_period_s
        yield Row(
            name=f"GPU: whole device (lab_bench) {n} x {n}, {name}, batch {batch}: frames per second over the bench's",
            unit="1/s",
            values={"simulated": rate, "bench": real},
            ratio=rate / real,
        )


def camera(card: Card) -> Iterator[Row]:
    """Speed of the whole camera over that of torch's Poisson generator on the same card."""
    count, parts, ticks = card.size(4096, 16), Camera(), None
    for mean in (30.0, 300.0, 3000.0):
        photons = np.random.default_rng(0).exponential(mean, (count, 4096)).astype(np.float32)
        there, ticks = card.backend.asarray(photons), np.arange(count)
        other = torch.from_numpy(photons).to(card.torch_device)
        took, peer = card.seconds(lambda p=there, t=ticks: parts.expose(p, 1e-3, t), lambda p=other: torch.poisson(p))
        yield Row(
            name=f"GPU: camera, {count} x 4096 pixels, mean {mean:.0f} photons: times faster than torch.poisson",
            unit="Mpixel/s",
            values={"camera": photons.size / took / 1e6, "torch.poisson": photons.size / peer / 1e6},
            ratio=peer / took,
        )


def recovery(card: Card) -> Iterator[Row]:
    """Seconds and error of a matrix recovered by phase retrieval at 8 frames per input, its frames included."""
    inputs = card.size(1000, 32)
    for rows in (card.size(1000, 50), card.size(10_000, 100)):
        opu = presets.lab_bench(inputs, rows, seed=1).to(card.place)
        expose(opu, "phase-retrieval", frames_per_input=FRAMES_PER_INPUT)
        start = time.perf_counter()
        estimate = recover_transmission_matrix(
            opu, "phase-retrieval", exposure="keep", frames_per_input=FRAMES_PER_INPUT
        )
        card.wait()
        took = time.perf_counter() - start
        yield Row(
            name=f"GPU: {rows} x {inputs} by phase retrieval, {FRAMES_PER_INPUT:g} frames per input: "
            f"time over {PUBLIC_S:.0f} s of public code",
            unit="s",
            values={"recovery": took, "public": PUBLIC_S, "error": error_of(estimate, opu),
                    "share refused": float(np.mean(~estimate.valid))},
            ratio=took / PUBLIC_S,
        )  # fmt: skip


def agreement(card: Card) -> Iterator[Row]:
    """Differences between results of processor and card, for the same seed and frame numbers."""
    x = np.random.default_rng(0).random((64, 1000)) < 0.5
    here, there = presets.lab_bench(1000, 10_000), presets.lab_bench(1000, 10_000).to(card.place)
    field, other = here.medium.propagate(x), to_host(there.medium.propagate(card.backend.asarray(x)))
    error = float(np.abs(field - other).max() / np.sqrt(np.mean(np.abs(field) ** 2)))
    yield Row(
        name="GPU: largest difference of a field from the processor's, over the rms field",
        values={"difference": error},
        ratio=error,
        target="<= 1e-5",
    )
    apart = np.abs(here.measure(x).astype(int) - to_host(there.measure(card.backend.asarray(x))))
    yield Row(
        name="GPU: largest difference of a pixel from the processor's, DN",
        unit="DN",
        values={"largest": float(apart.max()), "share of pixels that differ": float((apart > 0).mean())},
        ratio=float(apart.max()),
        target="<= 1",
    )


ROWS: dict[str, Callable[[Card], Iterator[Row]]] = {
    rows.__name__: rows for rows in (agreement, device, training, transfers, camera, frames, streamed, recovery)
}


def main(argv: list[str]) -> int:
    """Run steps; exit code 1 after one that failed."""
    rehearse = argv[:1] == ["--rehearse"]
    seconds, *names = argv[rehearse:]
    end, card = time.monotonic() + float(seconds), find_card(rehearse)
    for name in names:
        failed, left = False, end - time.monotonic()
        try:
            if not rehearse and left < STEPS[name]:
                send(Row(name=f"GPU: {name}", note=f"not measured: {left:.0f} s left, {STEPS[name]:.0f} s needed"))
            else:
                for row in ROWS[name](card):
                    send(row if row.note else replace(row, note=card.name))
        except Exception as error:
            failed = True
            traceback.print_exc()
            send(Row(name=f"GPU: {name}", note=f"failed: {' '.join(f'{type(error).__name__}: {error}'.split())[:200]}"))
        print(f"end {name}", flush=True)
        if failed:
            return 1
        pool_bytes(card, empty=True)
        torch.cuda.empty_cache()
    return 0


def send(row: Row) -> None:
    """Print a row for `benchmarks.gpu`."""
    print(f"row {json.dumps(asdict(row))}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
