"""Runs of docs/results.md: ``python -m benchmarks.results FOLDER...`` puts those of ``opu train --out`` into its JSON.

A run replaces that of the same plan, method and seed. ``python docs/pictures.py results`` then draws them.
"""

import json
import math
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from dfa.experiments import Plan, Run, read_results
from photonics.component import changed

STORE = Path(__file__).parents[1] / "docs/results.json"
MOST_POINTS = 60
"""Points of a stored curve; a longer one is thinned, and its last point is kept."""
SCALARS = (bool, int, float, str)
ALWAYS = ("data", "network", "epochs", "steps", "learning_rate", "hidden_rate", "spread", "device")
"""Settings that a row always has; others only where they are not the default."""
PANELS: dict[str, dict[str, Any]] = {
    "MNIST, fully connected": {"data": "mnist", "network": "mlp"},
    "MNIST, convolutional": {"data": "mnist", "network": "cnn"},
    "CIFAR-10, convolutional": {"data": "cifar10"},
    "Cora, graph convolutional": {"data": "cora"},
    "Cora, three layers": {"data": "cora", "hidden": [16, 16]},
    "Tiny Shakespeare, transformer": {"data": "tiny-shakespeare", "steps": 600},
}
"""Settings of the runs of a panel. Settings that change a run and are not named have their defaults."""
DEFAULTS = {"device": "lab_bench", "hidden": None, "through": None, "encoder": None}


def known(value: float, digits: int) -> float | None:
    """Return a rounded number, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else round(value, digits)


def settings(plan: Plan) -> dict[str, Any]:
    """What describes a plan: a few settings always, the others where they are not the default."""
    usual = Plan(data=plan.data, network=plan.network).__dict__
    found = {}
    for name, value in plan.__dict__.items():
        if value is not None and (name in ALWAYS or value != usual[name]):
            code = changed(value) if is_dataclass(value) else repr(value)
            found[name] = list(value) if isinstance(value, tuple) else value if isinstance(value, SCALARS) else code
    return found


def row(plan: Plan, run: Run) -> dict[str, Any]:
    """Return the line of a run."""
    last, every = len(run.history) - 1, -(-len(run.history) // MOST_POINTS)
    curve = [[point.step, round(point.test, 5)] for i, point in enumerate(run.history) if i % every == 0 or i == last]
    return {
        "plan": settings(plan),
        "method": run.method,
        "seed": run.seed,
        "score": round(run.score, 5),
        "validation": round(run.history[run.best].validation, 5),
        "angle": known(run.angle, 1),
        "nonzero": known(run.nonzero, 4),
        "snr_db": known(run.snr_db, 1),
        "frames": run.frames,
        "curve": curve,
    }


def key(one: dict[str, Any]) -> str:
    """What tells a run from others."""
    return json.dumps([one["plan"], one["method"], one["seed"]], sort_keys=True)


def load() -> dict[str, Any]:
    """Return the JSON."""
    return json.loads(STORE.read_text("utf-8"))


def add(folders: list[str]) -> None:
    """Put the runs of folders into the JSON."""
    stored = load()
    rows = {key(one): one for one in stored["rows"]}
    for folder in folders:
        plan, runs = read_results(max(Path(folder).glob("results*.json"), key=lambda path: path.stat().st_mtime))
        rows |= {key(new): new for new in (row(plan, run) for run in runs)}
    STORE.write_text(json.dumps(stored | {"rows": list(rows.values())}, ensure_ascii=False), encoding="utf-8")


def panel(rows: list[dict[str, Any]], title: str) -> list[dict[str, Any]]:
    """Return the rows of a panel."""
    wanted = {**DEFAULTS, **PANELS[title]}
    return [r for r in rows if all(r["plan"].get(name) == value for name, value in wanted.items())]


if __name__ == "__main__":
    add(sys.argv[1:])
