"""Recovery of a large matrix by phase retrieval, seconds and error: ``python -m benchmarks.recovery``.

The frames are simulated and stay where the device computes: ``--device cuda`` recovers the matrix on a GPU.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.timing import timed
from calibration import expose, recover_transmission_matrix
from calibration.metrics import matrix_row_errors
from calibration.recovery.methods import build_method
from calibration.recovery.transmission import TransmissionEstimate
from photonics import OPU, presets
from photonics.backend import to_host

FRAMES_PER_INPUT = 8.0
PART = 1000
"""Rows that are compared with the truth at a time."""


def error_of(estimate: TransmissionEstimate, opu: OPU) -> float:
    """Median relative error of the rows; a refused row counts as 1."""
    found, truth = to_host(estimate.matrix), opu.to("cpu").effective_matrix()
    errors = [
        matrix_row_errors(found[first : first + PART], truth[first : first + PART], estimate.gauge)
        for first in range(0, len(found), PART)
    ]
    return float(np.median(np.where(estimate.valid, np.concatenate(errors), 1.0)))


def main() -> None:
    """Take the frames, recover the matrix, and print a row."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    options: dict[str, Any] = {"frames_per_input": FRAMES_PER_INPUT}
    opu = presets.lab_bench(given.inputs, given.rows, seed=1).to(given.device)
    expose(opu, "phase-retrieval", **options)
    frames = build_method(opu, "phase-retrieval", **options).frames
    patterns = opu.backend.asarray(np.random.default_rng(0).random((256, given.inputs)) < 0.5)
    batches = -(-frames // 256)
    _, (wall, start) = timed(lambda: [float(opu.measure(patterns)[0, 0]) for _ in range(batches)])  # waits for frames
    estimate, (both, cpu) = timed(
        lambda: recover_transmission_matrix(opu, "phase-retrieval", exposure="keep", **options)
    )
    about = machine()
    print(
        f"{given.rows} x {given.inputs}, {frames} frames, {given.device} ({about['processor']}, "
        f"load {about['load']:.0f}): "
        f"solution {cpu - start:.1f} processor s, {both - wall:.1f} s; {batches} batches of frames {start:.1f} "
        f"processor s, {wall:.1f} s; error {error_of(estimate, opu):.4f}, {np.mean(~estimate.valid):.2%} refused"
    )


if __name__ == "__main__":
    main()
