"""Benchmarks on a GPU. They need cupy."""

from collections.abc import Callable, Iterator

import cupy
import numpy as np

from benchmarks.row import Row
from photonics import GaussianMedium, ScatteringLayers, presets
from photonics.arrays import Array

HARDWARE_HZ = 1900.0
"""Projections per second of the hardware that is simulated."""
MAX_GB = 2.0
N = 1_000_000


def device() -> str:
    """Name of the GPU."""
    return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()


def rows() -> Iterator[Row]:
    """Speed, memory, and agreement with the CPU."""
    yield layers()
    yield from gaussian()
    yield from frames()
    yield from agreement()


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Smallest time of a call between two events on the current stream. Its kernels must be compiled before."""
    best = float("inf")
    for _ in range(repeats):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        best = min(best, cupy.cuda.get_elapsed_time(start, stop) * 1e-3)
    return best


def patterns(batch: int, n: int) -> Array:
    """Random patterns, half of the inputs ON, on the GPU."""
    return cupy.random.default_rng(0).random((batch, n), dtype=cupy.float32) < 0.5


def layers() -> Row:
    """Projections per second through 2e12 entries, at the best batch size."""
    medium, rates = ScatteringLayers(N, 2 * N, layers=3), {}
    for batch in (1, 4, 16, 64):
        x = patterns(batch, N)
        medium.propagate(x)
        rates[batch] = batch / seconds(lambda x=x: medium.propagate(x))
    best = max(rates, key=rates.__getitem__)
    return Row(
        name=f"GPU: scattering layers, 1e6 x 2e6, 3 layers: projections per second over {HARDWARE_HZ:.0f}",
        unit="1/s",
        values={"projections": rates[best], "hardware": HARDWARE_HZ},
        ratio=rates[best] / HARDWARE_HZ,
        target=">= 1",
        note="by batch: " + ", ".join(f"{batch}: {rate:.0f}/s" for batch, rate in rates.items()),
    )


def gaussian() -> Iterator[Row]:
    """Time and memory of an exact product with 1e12 entries that are drawn during the product."""
    medium, pool = GaussianMedium(N, N, storage="streamed"), cupy.get_default_memory_pool()
    for batch, bound in ((1, 6.0), (128, 14.0)):
        GaussianMedium(20_000, 20_000, storage="streamed").propagate(patterns(batch, 20_000))  # compiles the kernels
        x = patterns(batch, N)
        cupy.cuda.Device().synchronize()
        pool.free_all_blocks()
        before = pool.total_bytes()
        took = seconds(lambda x=x: medium.propagate(x), 1)
        pool_gb = (pool.total_bytes() - before) / 1e9  # the pool keeps its memory, so this is the peak
        name = f"GPU: streamed Gaussian 1e6 x 1e6, batch {batch}"
        yield Row(
            name=f"{name}: time over {bound:.0f} s",
            unit="s",
            values={"product": took, "bound": bound},
            ratio=took / bound,
            target="<= 1",
        )
        yield Row(
            name=f"{name}: memory over {MAX_GB:.0f} GB",
            unit="GB",
            values={"peak above the input": pool_gb, "bound": MAX_GB},
            ratio=pool_gb / MAX_GB,
            target="<= 1",
            note="growth of cupy's memory pool",
        )


def frames() -> Iterator[Row]:
    """Frames per second of the whole simulated device, over those of the real bench."""
    n, batch = 10_000, 1000
    for name, medium in (("Gaussian", GaussianMedium(n, n)), ("layers", ScatteringLayers(n, n))):
        opu, x = presets.lab_bench(n, n).replace(medium=medium).to("cuda"), patterns(batch, n)
        opu.measure(x)
        rate, real = batch / seconds(lambda opu=opu, x=x: opu.measure(x)), 1.0 / opu.frame_period_s
        yield Row(
            name=f"GPU: whole device (lab_bench) {n} x {n}, {name}, batch {batch}: frames per second over the bench's",
            unit="1/s",
            values={"simulated": rate, "bench": real},
            ratio=rate / real,
        )


def agreement() -> Iterator[Row]:
    """Differences between results of CPU and GPU, for the same seed and frame numbers."""
    x = np.random.default_rng(0).random((64, 1000)) < 0.5
    here, there = presets.lab_bench(1000, 10_000), presets.lab_bench(1000, 10_000).to("cuda")
    field, other = here.medium.propagate(x), there.medium.propagate(cupy.asarray(x)).get()
    error = float(np.abs(field - other).max() / np.sqrt(np.mean(np.abs(field) ** 2)))
    yield Row(
        name="GPU: largest difference of a field from the processor's, over the rms field",
        values={"difference": error},
        ratio=error,
        target="<= 1e-5",
    )
    apart = np.abs(here.measure(x).astype(int) - there.measure(cupy.asarray(x)).get())
    yield Row(
        name="GPU: largest difference of a pixel from the processor's, DN",
        unit="DN",
        values={"largest": float(apart.max()), "share of pixels that differ": float((apart > 0).mean())},
        ratio=float(apart.max()),
        target="<= 1",
    )
