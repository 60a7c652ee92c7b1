"""Tolerances of `lab_bench` for four tasks: ``python -m benchmarks.tolerances --task mlp-1`` from the root.

The result of each task goes to docs/tolerances.json. ``--page docs/howto/tolerance.md`` puts the table of all tasks in
the file between two marks of the page. With ``--repeats 10`` searches with seeds of their own are compared with the
value of a fine grid instead. Finished trainings are kept in a file (``--store``), so an interrupted run continues.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.optimize import isotonic_regression

from benchmarks.pages import put, table
from dfa import Plan, sweep, tolerance
from dfa.robustness.studies import MNIST, SMALL
from dfa.robustness.tolerances import LINES, Tolerances
from dfa.robustness.tolerances.posterior import CAP
from dfa.robustness.tolerances.results import cells
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Paired

__all__ = ["TASKS", "load_tasks"]

NAME = "benchmarks.tolerances"
RESULTS = Path(__file__).parents[1] / "docs" / "tolerances.json"
TEXT = Plan(
    data="tiny-shakespeare",
    hidden=(64, 64),
    steps=300,
    context=32,
    batch_size=8,
    hidden_rate=1.0,
    through="norm",
)
"""A short run of a transformer whose hidden blocks help: 0.25 bits per character less than the last layer alone."""
COMMON = (
    "shot_noise",
    "read_noise",
    "bit_depth",
    "short_exposure",
    "long_exposure",
    "contrast",
    "stuck_mirrors",
    "reference_phase",
    "medium_drift",
    "stale_medium",
    "everything",
)
"""Lines that a builder of a device decides about."""


class Task(NamedTuple):
    """A training, and the loss at which its tolerance is."""

    title: str
    plan: Plan
    loss: float = 1.0


TASKS = {
    "mlp-1": Task("MNIST, 784-256-10", MNIST),
    "mlp-3": Task("MNIST, 784-256-256-256-10", replace(MNIST, hidden=(256, 256, 256))),
    "cora": Task("Cora, graph network 1433-16-7", Plan(data="cora"), 5.0),
    "transformer": Task("Shakespeare, transformer", TEXT, 0.05),
}
"""Tasks by name. The loss is in points, or bits per character. On Cora any change moves a seed by up to 3 points."""
GRID, GRID_SEEDS = np.linspace(0.3, 0.95, 14), range(1000, 1008)
"""Places and seeds of the fine grid."""
REPEATED, LIMIT, SEEDS, MOST = replace(SMALL, epochs=3), 2.0, 6, 24
"""Of the searches that are compared with it: plan, loss in points, number of seeds, trainings without references."""


def search(task: Task, lines: Sequence[str], seeds: range, most: int, store: Path) -> dict[str, Any]:
    """Tolerances of a task, and the scores of the last layer alone."""
    found = tolerance(task.plan, lines, task.loss, seeds=seeds, most=most, store=store)
    print(found, flush=True)
    last = sweep(TrainingStudy(task.plan), Paired([{"training.method": "last-layer"}]), seeds, store, 0, progress=False)
    score = "accuracy" if "accuracy" in last else "bits"
    return {"title": task.title, "commit": commit(), "last_layer": last[score].values[0].tolist(), **found.to_dict()}


def commit() -> str:
    """Return the short name of the commit that is checked out."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


def repeat(name: str, repeats: int, store: Path) -> dict[str, Any]:
    """Compare the intervals of searches on digits with the value of a fine grid; no two share a seed."""
    line = LINES[name]
    points = [line.changes, *(line.settings(place) for place in GRID)]
    scores = sweep(TrainingStudy(REPEATED), Paired(points), GRID_SEEDS, store, 0, progress=False).accuracy.values
    losses = np.minimum(np.nan_to_num((scores[0] - scores[1:]) / LIMIT, nan=CAP), CAP)  # (places, seeds)
    truth = crossing(losses)
    rng = np.random.default_rng(0)
    spread = [crossing(losses[:, rng.integers(0, losses.shape[1], losses.shape[1])]) for _ in range(200)]
    rows = []
    for number in range(repeats):
        seeds = range(SEEDS * number, SEEDS * (number + 1))
        found = tolerance(REPEATED, [name], LIMIT, seeds=seeds, most=MOST, store=store, progress=False)
        row = found.rows[0]
        ((parameter, better),) = row.better.items()
        ends = [line.place(parameter, value) for value in (better, row.worse[parameter])]
        rows.append({"seeds": [seeds[0], seeds[-1]], "interval": ends, "trainings": found.trainings})
        print(name, f"{truth:.3f}", rows[-1], flush=True)
    parameter = next(iter(line.ends))
    return {
        "commit": commit(),
        "value": line.value(parameter, truth),
        "place": truth,
        "error": float(np.std(spread)),
        "trainings": scores.size,
        "searches": rows,
    }


def crossing(losses: NDArray[np.float64]) -> float:
    """Return the place of `GRID` at which a rising curve through the mean of (places, seeds) losses reaches 1."""
    curve = isotonic_regression(losses.mean(1)).x + 1e-9 * np.arange(len(GRID))
    return float(np.interp(1.0, curve, GRID))


def load() -> dict[str, Any]:
    """Return the results so far."""
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"tasks": {}, "grid": {}}


def load_tasks() -> dict[str, Tolerances]:
    """Return the tolerances of each task, in the order of `TASKS`."""
    stored = load()["tasks"]
    return {name: TypeAdapter(Tolerances).validate_python(stored[name]) for name in TASKS if name in stored}


def save(kind: str, name: str, one: dict[str, Any]) -> None:
    """Add one result to the file, a line each."""
    found = load()
    found["command"] = f"python -m {NAME} --task NAME, and --repeats 10 for the grid"
    found[kind][name] = one
    RESULTS.write_text(json.dumps(found, sort_keys=True) + "\n", "utf-8")


def tolerance_table() -> str:
    """Return the table in Markdown: the value at which each task loses its limit, a row for each line."""
    stored, tasks = load()["tasks"], load_tasks()
    columns = [
        "what becomes worse",
        "`lab_bench`",
        *(f"{TASKS[name].title}: {one.loss}" for name, one in tasks.items()),
    ]
    rows = [["score as it is (last layer only)", "", *(scores(one, stored[name]) for name, one in tasks.items())]]
    for line in COMMON:
        found = [{row.name: row for row in one}.get(line) for one in tasks.values()]
        known = [cells(row) for row in found if row]
        if known:
            rows.append([known[0][0], known[0][1], *(cell(cells(row)) if row else "" for row in found)])
    return table(columns, rows)


def scores(found: Tolerances, stored: dict[str, Any]) -> str:
    """Return the mean score of the device as it is, and that of the last layer alone."""
    own = np.mean([*found.references["everything"].values()])
    return f"{own:.3g} ({np.mean(stored['last_layer']):.3g})"


def cell(parts: Sequence[str]) -> str:
    """Return value, interval and margin of a row of `Tolerances.table`."""
    _, _, at, interval, margin, _ = parts
    return f"{at} ({interval}){', ' * bool(margin)}{margin}"


def main() -> None:
    """Search what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, action="append", default=[])
    parser.add_argument("--lines", nargs="*", default=[], help="by default those that a builder decides about")
    parser.add_argument("--seeds", type=int, default=6, help="number of seeds of a task")
    parser.add_argument("--most", type=int, default=20, help="trainings on a line")
    parser.add_argument("--repeats", type=int, default=0, help="compare this many searches with a fine grid instead")
    parser.add_argument("--store", type=Path, default=Path("runs/tolerances.db"))
    parser.add_argument("--page", type=Path)
    given = parser.parse_args()
    given.store.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if given.repeats:
        for name in given.lines:
            save("grid", name, repeat(name, given.repeats, given.store))
        return
    for name in given.task:
        task, seeds = TASKS[name], range(given.seeds)
        save("tasks", name, search(task, given.lines or COMMON, seeds, given.most, given.store))
    put(tolerance_table(), NAME, given.page)


if __name__ == "__main__":
    main()
