"""Training on a device that moves: ``python -m benchmarks.moving``.

Each training is a point of a sweep, and the finished ones are kept in a file (``--store``), so that a run which was
interrupted continues. The results of the tasks that are named go to docs/moving.json, and the tables are printed from
it: ``--seeds 0`` prints them only. With more seeds the same command takes those that are missing.
"""

import argparse
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.moving_cases import LAST_LAYER, MOTIONS, TASKS, WAYS, MovingStudy
from benchmarks.moving_rows import RESULTS, Row, load_rows, save_rows, tables
from benchmarks.pages import put
from calibration import measure_projection
from dfa import sweep
from dfa.experiments.runs import format_mean
from dfa.feedback.encoding import Ternary
from dfa.feedback.optical import OpticalFeedback
from dfa.sweeps.designs import Paired
from photonics import presets
from photonics.medium import Drifting

__all__ = ["alarms", "run_task"]

PUT = ("followed", "followed: transformer", "followed: costs", "rivals")
"""Tables of docs/robustness.md."""
METRICS = ("score", "frames", "step_frames", "calibrations")


def run_task(
    name: str, ways: Sequence[str], motions: Sequence[str], seeds: int, store: Path | None, workers: int
) -> list[Row]:
    """Train a task in some ways on devices with some motions, as far as the task has these; return the rows."""
    task = TASKS[name]
    cases = [case for case in product(task.ways, task.motions) if case[0] in ways and case[1] in motions]
    cases = [(way, motion) for way, motion in cases if way != LAST_LAYER or motion == task.motions[0]]
    if not cases:
        return []
    points = [WAYS[way] | MOTIONS[motion] for way, motion in cases]
    study = MovingStudy(task.plan, two_digits=task.two_digits)
    found = sweep(study, Paired(points), range(seeds), store=store, workers=workers)
    rows = []
    for number, (way, motion) in enumerate(cases):
        values = {metric: found[metric].values[number] for metric in METRICS if metric in found}
        row = {"score": []} | {metric: some[np.isfinite(some)].tolist() for metric, some in values.items()}
        error = next(filter(None, found.error.values[number]), "")
        rows.append(Row(task=name, way=way, motion=motion, model=found.model, error=error, **row))
    return rows


def alarms(tau: float, method: str, seed: int) -> tuple[int, float]:
    """Calibrations after the first one, and measured over true correlation time, for random errors of 64 samples."""
    opu = presets.lab_bench(20, 200, seed=seed)
    opu = opu.replace(medium=Drifting(opu.medium, correlation_frames=tau))
    opu.autoexpose()
    code = Ternary(stochastic=1.0, pairs=True)
    feedback = OpticalFeedback(measure_projection(opu, method, n_inputs=10), code)
    for step in range(100):
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


def main() -> None:
    """Run what is asked for, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving", description="Training on a moving device.")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of every training, from 0 on; 0 prints the tables")
    parser.add_argument("--task", action="append", choices=TASKS, help="may be repeated; by default all")
    parser.add_argument("--way", action="append", choices=WAYS, help="one way to read the device; may be repeated")
    parser.add_argument("--motion", action="append", choices=MOTIONS, help="may be repeated")
    parser.add_argument("--store", type=Path, default=Path("runs/moving.db"), help="finished trainings")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file of the results")
    parser.add_argument("--page", type=Path, help="put the tables into this page, docs/robustness.md")
    parser.add_argument("--alarms", action="store_true", help="count alarms in runs without a training instead")
    given = parser.parse_args()
    if given.alarms:
        print_alarms(given.seeds)
        return
    given.store.parent.mkdir(parents=True, exist_ok=True)
    for name in (given.task or TASKS) if given.seeds else ():
        ways, motions = given.way or list(WAYS), given.motion or list(MOTIONS)
        save_rows(run_task(name, ways, motions, given.seeds, given.store, given.workers), given.out)
    for name, table in tables(load_rows(given.out)).items():
        put(table, name, given.page if name in PUT else None)


if __name__ == "__main__":
    main()
