"""Time of scattering layers, relative to their Fourier transforms."""

import math
from collections.abc import Iterator

import numpy as np
from scipy import fft

from benchmarks.child import call_in_new_process
from benchmarks.memory import peak_mb
from benchmarks.row import Row
from benchmarks.timing import cpu_seconds
from photonics import DMD, OPU, Imaging, ScatteringLayers
from photonics.arrays import BoolArray

LAYERS = 3
MAX_MB = 200.0


def rows(quick: bool) -> Iterator[Row]:
    """Time over three bare transforms of the same grid, and memory."""
    n_in, n_out = (10_000, 20_000) if quick else (1_000_000, 2_000_000)
    medium, rng = ScatteringLayers(n_in, n_out, layers=LAYERS), np.random.default_rng(0)
    x = rng.random((1, n_in)) < 0.5
    grid = rng.standard_normal((*medium.grid, 2), np.float32).view(np.complex64)[..., 0]

    def bare() -> None:
        for _ in range(LAYERS):  # in place is fastest; without normalisation the numbers would overflow
            fft.fft2(grid, norm="ortho", overwrite_x=True, workers=1)

    took, transforms = cpu_seconds(lambda: medium.propagate(x), bare)
    size = f"scattering layers, {n_in:.0e} x {n_out:.0e}".replace("e+0", "e")
    yield Row(
        name=f"{size}, {LAYERS} layers: time over {LAYERS} bare fft2 (scipy)",
        unit="ms",
        values={"layers": took * 1e3, "fft2": transforms * 1e3},
        ratio=took / transforms,
        target="<= 1.5",
    )
    yield whole_device(medium, x, size)
    peak, bound = call_in_new_process(memory, n_in, n_out)["peak_mb"], 5 * 8e-6 * medium.n_modes
    for limit, name in ((bound, "5 x 8 x n_modes bytes"), (MAX_MB, f"{MAX_MB:.0f} MB")):
        yield Row(
            name=f"{size}: memory over {name}",
            unit="MB",
            values={"peak above imports": peak, "bound": limit},
            ratio=peak / limit,
            target="<= 1",
            note="VmHWM of a fresh process, input included",
        )


def whole_device(medium: ScatteringLayers, x: BoolArray, size: str) -> Row:
    """Time of a frame with laser, mirrors, camera and noise, relative to the projection."""
    n_in = medium.shape[1]
    dmd = DMD(columns=1024, rows=1024, macropixel=1024 // math.isqrt(n_in))
    opu = OPU(medium=medium, dmd=dmd, imaging=Imaging(throughput=6.4e-7 / n_in))
    opu.autoexpose()
    frame, projection = cpu_seconds(lambda: opu.measure(x), lambda: medium.propagate(x))
    return Row(
        name=f"{size}: time of a frame of a whole device over its projection",
        unit="ms",
        values={"measure": frame * 1e3, "propagate": projection * 1e3},
        ratio=frame / projection,
        note="mirrors, light path and camera of lab_bench, on a chip of 1024 x 1024 mirrors",
    )


def memory(n_in: int, n_out: int) -> dict[str, float]:
    """Peak memory of a projection with its input, without imports; call it in a fresh process."""
    ScatteringLayers(8, 8, layers=LAYERS).propagate(np.ones((1, 8), bool))  # compiles the kernels

    def call() -> object:
        x = np.random.default_rng(0).random((1, n_in), np.float32) < 0.5
        return ScatteringLayers(n_in, n_out, layers=LAYERS).propagate(x)

    return {"peak_mb": peak_mb(call)}
