"""The nonlinear projection ``|x R|^2``: this package against the simulated device of lightonml 1.4.3."""

import importlib.util
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Literal

import numpy as np

from benchmarks.child import call_in_new_process
from benchmarks.memory import peak_mb
from benchmarks.row import Row
from photonics.arrays import BoolArray, HostArray

INSTALL = "needs lightonml: pip install --no-deps lightonml==1.4.3"
Projection = Callable[[BoolArray], HostArray]


def rows(quick: bool) -> Iterator[Row]:
    """Time and memory relative to lightonml, or time relative to its formula if it is not installed."""
    n, batch = (1000, 64) if quick else (10_000, 1000)
    there = importlib.util.find_spec("lightonml") is not None
    peer = f"lightonml {metadata.version('lightonml')}" if there else "complex product + modulus squared (no lightonml)"
    theirs = call_in_new_process(run, "lightonml" if there else "formula", n, batch)
    ours, device = call_in_new_process(run, "ours", n, batch), call_in_new_process(run, "device", n, batch)
    size = f"nonlinear projection {n} x {n}, batch {batch}"
    yield speed_row(f"{size}, matrix ready: times faster than {peer}", "project_s", ours, theirs, ">= 3")
    yield speed_row(
        f"{size}, with camera noise (lab_bench): times faster than {peer}", "project_s", device, theirs, ">= 1"
    )
    drawn = call_in_new_process(run, "streamed", n, batch)
    for kind, found, bound in ("from the seed", ours, "<= 0.6"), ("from the seed, streamed", drawn, "<= 0.5"):
        whole, memory = f"{size}, {kind}: times faster than lightonml", f"{size}, {kind}: memory over lightonml's"
        if not there:
            yield from (Row(name=name, note=INSTALL) for name in (whole, memory))
            continue
        yield speed_row(whole, "total_s", found, theirs, ">= 3")
        yield Row(
            name=memory,
            unit="MB",
            values={"ours": found["peak_mb"], "theirs": theirs["peak_mb"]},
            ratio=found["peak_mb"] / theirs["peak_mb"],
            target=bound,
            note="VmHWM of fresh processes above imports and inputs, generation of the matrix included",
        )


def speed_row(name: str, key: str, ours: dict[str, float], theirs: dict[str, float], target: str) -> Row:
    """Return the row with the time of the other package over that of this one."""
    values = {"ours": ours[key], "theirs": theirs[key]}
    return Row(name=name, unit="s", values=values, ratio=theirs[key] / ours[key], target=target)


def run(which: str, n: int, batch: int) -> dict[str, float]:
    """Draw a matrix, project three times, and measure time and peak memory; call it in a fresh process."""
    make = {"ours": ours, "streamed": streamed, "device": device, "lightonml": lightonml, "formula": formula}[which]
    x = np.random.default_rng(0).random((batch, n), np.float32) < 0.5
    make(32)(x[:8, :32])  # compiles the kernels
    times = [time.process_time()]

    def call() -> None:
        project = make(n)
        times.append(time.process_time())
        for _ in range(3):
            project(x)
            times.append(time.process_time())

    peak = peak_mb(call)
    made, first, *others = np.diff(times).tolist()
    return {"project_s": min(first, *others), "total_s": made + first, "peak_mb": peak}


def ours(n: int, storage: Literal["stored", "streamed"] = "stored") -> Projection:
    """Intensities behind a Gaussian medium of this package."""
    from photonics import GaussianMedium, Imaging

    medium, imaging = GaussianMedium(n, n, storage=storage), Imaging(throughput=1.0)
    return lambda x: imaging.intensity(medium.propagate(x), n_in=n)


def streamed(n: int) -> Projection:
    """Intensities of the same medium, which draws its entries for each product."""
    return ours(n, "streamed")


def device(n: int) -> Projection:
    """Frames of the whole bench."""
    from photonics import presets

    return presets.lab_bench(n, n).measure


def lightonml(n: int) -> Projection:
    """The simulated device of lightonml, which needs only numpy."""
    if "lightonml" not in sys.modules:  # the package's __init__ imports requests, numexpr and pkg_resources
        spec = importlib.util.find_spec("lightonml")
        bare = types.ModuleType("lightonml")
        bare.__path__ = list(spec.submodule_search_locations or ()) if spec else []
        sys.modules["lightonml"] = bare
    simulated = importlib.import_module("lightonml.internal.simulated_device").SimulatedOpuDevice()
    simulated.build_random_matrix(n, n, seed=0)
    return simulated.transform1


def formula(n: int) -> Projection:
    """A complex product, then the modulus squared."""
    matrix = np.random.default_rng(0).standard_normal((n, 2 * n), np.float32).view(np.complex64)
    return lambda x: np.abs(x @ matrix) ** 2
