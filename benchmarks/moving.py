"""Training on a device that moves: ``python -m benchmarks.moving``.

Digits of MNIST as in docs/robustness.md, through `lab_bench` with a medium that drifts. Prints a row for each
correlation time: test accuracy of each way to read the device, and the frames that it takes, calibration included.
"measured whole" is a rival: each class is shown alone in every step, and the errors are projected by the matrix of that
step, without a code.
"""

import argparse
import math
import statistics
import sys
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calibration import measure_projection
from calibration.projections.responses import Projected
from dfa.data import Dataset, load
from dfa.experiments.plans import Plan
from dfa.experiments.runs import format_mean, run_one
from dfa.experiments.tasks import Data
from dfa.experiments.teachers import build_feedback
from dfa.feedback.encoding import Ternary
from dfa.feedback.optical import OpticalFeedback
from photonics import presets
from photonics.arrays import Array, HostArray
from photonics.medium import Drifting

__all__ = ["WAYS", "Whole", "plan_of", "score"]

PAIRS = Ternary(stochastic=1.0, pairs=True)
WAYS: dict[str, dict[str, Any]] = {
    "anchor, not followed": {"refresh": False},
    "anchor, recalibrated every 20 steps": {"refresh": False, "recalibrate_every": 20},
    "anchor, followed": {},
    "anchor, followed, pairs": {"encoder": PAIRS},
    "reference pairs, followed": {"encoder": PAIRS, "calibration": {"method": "reference-pairs"}},
    "reference, followed": {"calibration": {"method": "reference-pairs"}},
    "anchor, measured whole": {},
    "reference, measured whole": {"calibration": {"method": "reference-pairs"}},
}
"""Settings of a plan for each way to read the device, by name."""
TIMES = (1e12, 1e6, 1e5, 1e4, 3e3, 1e3, 3e2, 1e2)


def identity(error: Tensor) -> Tensor:
    """The error itself, as its own code."""
    return error


class Whole(OpticalFeedback):
    """Shows each class alone in every step, and projects the errors by the matrix that these frames give."""

    def _read(self, array: Array, watch: bool) -> tuple[HostArray, Projected | None]:
        matrix, _ = super()._read(np.eye(self.projection.n_inputs, dtype=np.bool_), False)
        return np.asarray(array, np.float32) @ matrix, None


def plan_of(tau: float, changes: dict[str, Any], hidden: tuple[int, ...] = (256,), samples: int = 5000) -> Plan:
    """The plan of docs/robustness.md with a medium of that correlation time, in frames, and changes of its settings."""
    medium = {"medium": {"type": "Drifting", "correlation_frames": tau}}
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 32, "samples": samples, "device_changes": medium}
    return Plan(data="mnist", hidden=hidden, **settings | changes)


def score(plan: Plan, data: Data, seed: int, method: str = "optical", whole: bool = False) -> tuple[float, int]:
    """Test accuracy in %, and the number of frames."""
    feedback = build_feedback(method, plan, data, seed)
    if whole and isinstance(feedback, OpticalFeedback):
        feedback = Whole(feedback.projection, identity, refresh=plan.refresh)
    found = run_one(method, seed, plan, data, feedback=feedback)
    return 100.0 * found.score, found.frames


def alarms(tau: float, method: str, seed: int, steps: int = 100) -> tuple[int, float]:
    """Calibrations after the first one, and measured over true correlation time, for random errors of 64 samples."""
    opu = presets.lab_bench(20, 200, seed=seed)
    opu = opu.replace(medium=Drifting(opu.medium, correlation_frames=tau))
    opu.autoexpose()
    feedback = OpticalFeedback(measure_projection(opu, method, n_inputs=10), PAIRS)
    for step in range(steps):
        draw = torch.Generator().manual_seed(1000 * seed + step)
        wrong = torch.eye(10)[torch.randint(10, (64,), generator=draw)]
        feedback(torch.softmax(torch.randn(64, 10, generator=draw), 1) - wrong, [150])
    return feedback.calibrations, feedback.statistics().get("correlation_frames", math.inf) / tau


def print_alarms(seeds: int) -> None:
    """Print for each method how many runs raise an alarm, a new calibration, and the measured correlation times."""
    for method, tau in product(("anchor", "reference-pairs"), (1e30, 1e5, 1e4, 3e3)):
        found = [alarms(tau, method, seed) for seed in range(seeds)]
        times = [ratio for _, ratio in found if 0.0 < ratio < math.inf]
        measured = format_mean(times, 2) if times else "still"
        count = sum(number > 0 for number, _ in found)
        print(
            f"{method}, {tau:.0e} frames: alarm in {count} of {seeds} runs; time over true one: {measured}", flush=True
        )


def main(argv: list[str]) -> None:
    """Print a row of the table for each correlation time as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving", description="Training on a moving device.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden", type=int, nargs="+", default=[256])
    parser.add_argument("--tau", type=float, nargs="+", default=TIMES)
    parser.add_argument("--only", action="append", choices=WAYS, help="one way to read the device; may be repeated")
    parser.add_argument("--alarms", action="store_true", help="count alarms in runs without a training instead")
    given = parser.parse_args(argv)
    if given.alarms:
        print_alarms(given.seeds)
        return
    torch.set_num_threads(1)
    data, hidden = load("mnist"), tuple(given.hidden)
    assert isinstance(data, Dataset)
    ways = {name: WAYS[name] for name in given.only or WAYS}
    print("| correlation time, frames |", " | ".join(ways), "|")
    print("|---|" + "---|" * len(ways))
    for tau in given.tau:
        cells = []
        for name, changes in ways.items():
            try:
                whole = name.endswith("measured whole")
                runs = [score(plan_of(tau, changes, hidden), data, seed, whole=whole) for seed in range(given.seeds)]
            except ValueError as error:
                cells.append(f"refused: {str(error)[:60]}")
                continue
            frames = statistics.fmean(frames for _, frames in runs)
            cells.append(f"{format_mean([value for value, _ in runs], 1)} ({frames:,.0f} frames)")
        print(f"| {tau:.0e} |", " | ".join(cells), "|", flush=True)
    still = [score(plan_of(1e12, {}, hidden), data, seed, "last-layer")[0] for seed in range(given.seeds)]
    print(f"last layer only: {format_mean(still, 1)}")


if __name__ == "__main__":
    main(sys.argv[1:])
