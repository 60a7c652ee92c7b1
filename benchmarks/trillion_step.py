"""One step of optical feedback through 1e12 entries: 1e6 inputs, 1e6 outputs; ``python -m benchmarks.trillion_step``.

The device is `lab_bench` with a mirror for each input and a uniform beam. A step shows the ternary code of a batch of
errors, by the anchor method (the complement), and reads the signals of a block with a unit for each valid pixel.
"""

import argparse
from pathlib import Path
from typing import TypedDict

import torch

from benchmarks.child import call_in_new_process
from benchmarks.report import save
from benchmarks.timing import timed
from benchmarks.wide_feedback import peak_gb
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


class Step(TypedDict):
    """What a case measured; times are (wall, processor) seconds."""

    calibration: tuple[float, float]
    calibration_frames: int
    step: tuple[float, float]
    step_frames: int
    outputs: int
    snr_db: float
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


def measure(kind: str, width: int = WIDTH, rows: int = ROWS) -> Step:
    """Calibrate, and take one step; call it in a fresh process."""
    torch.set_num_threads(1)
    OpticalFeedback(measure_projection(build(kind, 64)), Ternary(sign=True))(torch.ones(4, 64), [16])  # compiles
    before = peak_gb()
    opu = build(kind, width)
    opu = opu if WORLD[kind] == 1 else opu.part(0, WORLD[kind])
    _, exposing = timed(opu.autoexpose)
    projection, measuring = timed(lambda: measure_projection(opu))
    frames = opu.clock.frames
    outputs = int(projection.valid.sum())
    feedback = OpticalFeedback(projection, Ternary(deviations=0.5), refresh=False, watch=True)
    error = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)) / width
    _, step = timed(lambda: feedback(error, [outputs]))
    return {
        "calibration": (exposing[0] + measuring[0], exposing[1] + measuring[1]),
        "calibration_frames": frames,
        "step": step,
        "step_frames": opu.clock.frames - frames,
        "outputs": outputs,
        "snr_db": feedback.statistics()["snr_db"],
        "memory_gb": peak_gb() - before,
    }


def line(kind: str, found: Step) -> str:
    """Row of the table."""
    (wall, cpu), (_, before), world = found["step"], found["calibration"], WORLD[kind]
    return (
        f"| {NAMES[kind]} | {before:.0f} s ({found['calibration_frames']}) | {found['step_frames']} | {wall:.1f} s | "
        f"{cpu:.1f} s | {found['memory_gb']:.2f} GB | {found['snr_db']:.0f} dB | {cpu * world:,.0f} s |"
    )


def main(argv: list[str] | None = None) -> None:
    """Print the table, and write a file if wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trillion_step", description="A step with 1e12 entries.")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given = parser.parse_args(argv)
    print(
        f"| device, 1e6 inputs, 1e6 outputs, {ROWS} errors | calibration: processor time (frames) | frames of a step | "
        "wall time | processor time | memory | signal over noise | all pixels, processor time |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    found: dict[str, Step] = {}
    for kind in NAMES:
        found[kind] = call_in_new_process(measure, kind)
        print(line(kind, found[kind]), flush=True)
    save(given.out, "python -m benchmarks.trillion_step", steps=found)


if __name__ == "__main__":
    from benchmarks import trillion_step  # whose functions other processes find by the name of their module

    trillion_step.main()
