"""One step of optical feedback through 1e12 entries: 1e6 inputs, 1e6 outputs; ``python -m benchmarks.trillion_step``.

The device is `lab_bench` with a mirror for each input and a uniform beam. A step shows the ternary code of a batch of
errors, by the anchor method (the complement), and reads the signals of a block with a unit for each valid pixel.
"""

import argparse
from pathlib import Path
from typing import TypedDict

import torch

from benchmarks.child import call_in_new_process
from benchmarks.memory import peak_mb
from benchmarks.pages import table_head, table_row
from benchmarks.report import save
from benchmarks.timing import timed
from calibration import measure_projection
from dfa import OpticalFeedback, Ternary
from photonics import DMD, OPU, Camera, GaussianMedium, Imaging, Laser, ScatteringLayers
from photonics.medium import ScatteringMedium

WIDTH, ROWS = 1_000_000, 8
WORLD = {"layers": 1, "streamed": 1000}
"""Parts of the device; the first one is measured."""
NAMES = {
    "layers": "four scattering layers, whole sensor",
    "streamed": "streamed Gaussian, part 0 of 1000 (`opu.part`): 1000 pixels",
}


HEADINGS = [f"device, 1e6 inputs, 1e6 outputs, {ROWS} errors", "calibration: processor time (frames)"]
HEADINGS += ["frames of a step", "wall time", "processor time", "memory", "signal over noise"]
HEADINGS += ["all pixels, processor time"]


class Times(TypedDict):
    """What a case measured; times are (wall, processor) seconds."""

    calibration: tuple[float, float]
    calibration_frames: int
    step: tuple[float, float]
    step_frames: int
    outputs: int
    snr_db: float


class Step(Times):
    """The same with its memory."""

    memory_gb: float
    """Peak memory above that of the imports."""


def build(kind: str, width: int = WIDTH) -> OPU:
    """Device of a case."""
    medium: ScatteringMedium = GaussianMedium(width, width, storage="streamed")
    if kind == "layers":
        medium = ScatteringLayers(width, width, layers=4)
    return OPU(
        medium=medium,
        laser=Laser(beam_radius_m=None),
        dmd=DMD(columns=1280, rows=800, macropixel=1),
        imaging=Imaging(throughput=6.4e-7 / width),
        camera=Camera(),
    )


def measure(kind: str) -> Step:
    """Calibrate, take one step, and measure the peak memory; call it in a fresh process."""
    torch.set_num_threads(1)
    OpticalFeedback(measure_projection(build(kind, 64)), Ternary(sign=True))(torch.ones(4, 64), [16])  # compiles
    found: list[Times] = []
    peak = peak_mb(lambda: found.append(take_step(kind)))
    return {**found[0], "memory_gb": peak / 1e3}


def take_step(kind: str) -> Times:
    """Calibrate, and take one step."""
    opu = build(kind)
    opu = opu if WORLD[kind] == 1 else opu.part(0, WORLD[kind])
    _, exposing = timed(opu.autoexpose)
    projection, measuring = timed(lambda: measure_projection(opu))
    frames = opu.clock.frames
    outputs = int(projection.valid.sum())
    feedback = OpticalFeedback(projection, Ternary(deviations=0.5), refresh=False, watch=True)
    error = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0)) / WIDTH
    _, step = timed(lambda: feedback(error, [outputs]))
    return {
        "calibration": (exposing[0] + measuring[0], exposing[1] + measuring[1]),
        "calibration_frames": frames,
        "step": step,
        "step_frames": opu.clock.frames - frames,
        "outputs": outputs,
        "snr_db": feedback.statistics()["snr_db"],
    }


def cells(kind: str, found: Step) -> list[str]:
    """Cells of a row of the table."""
    (wall, cpu), (_, before), world = found["step"], found["calibration"], WORLD[kind]
    row = [NAMES[kind], f"{before:.0f} s ({found['calibration_frames']})", str(found["step_frames"]), f"{wall:.1f} s"]
    return [
        *row, f"{cpu:.1f} s", f"{found['memory_gb']:.2f} GB", f"{found['snr_db']:.0f} dB", f"{cpu * world:,.0f} s"
    ]  # fmt: skip


def main() -> None:
    """Print the table, and write a file if wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trillion_step", description="A step with 1e12 entries.")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = parser.parse_args()
    print(table_head(HEADINGS), flush=True)
    found: dict[str, Step] = {}
    for kind in NAMES:
        found[kind] = call_in_new_process(measure, kind)
        print(table_row(cells(kind, found[kind])), flush=True)
    save(given.out, "python -m benchmarks.trillion_step", steps=found)


if __name__ == "__main__":
    main()
