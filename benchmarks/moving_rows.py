"""Results of trainings on a device that moves: rows of a JSON file, and the tables of the documentation."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.moving_cases import LAST_LAYER, TASKS, UNFOLLOWED

__all__ = ["RESULTS", "load_rows", "save_rows", "tables"]

RESULTS = Path(__file__).parent.parent / "docs" / "moving.json"
"""Results beside the documentation."""
ABOUT = "python -m benchmarks.moving --seeds N --task NAME; scores, frames and calibrations by seed, from seed 0 on"
Row = dict[str, Any]
"""Task, way, motion, model (hash of the code), and ``score``, ``frames``, ``step_frames``, ``calibrations`` by seed."""


def load_rows(path: Path = RESULTS) -> list[Row]:
    """Rows of a file; none if there is no file."""
    return json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []


def save_rows(new: Iterable[Row], path: Path = RESULTS) -> None:
    """Put rows in place of those of the same task, way and motion, and keep the others."""
    rows = {key(row): row for row in (*load_rows(path), *new)}
    lines = ",\n".join(json.dumps(rows[one]) for one in sorted(rows))
    path.write_text(f'{{"about": {json.dumps(ABOUT)},\n"rows": [\n{lines}\n]}}\n', "utf-8")


def key(row: Row) -> tuple[str, str, str]:
    """What tells a row from others."""
    return row["task"], row["way"], row["motion"]


def tables(rows: Sequence[Row]) -> str:
    """Tables in Markdown, a task each: score (mean, standard error, seeds) and all frames; "not run" where none is."""
    known = {key(row): row for row in rows}
    parts = []
    for name, task in TASKS.items():
        ways = [way for way in task.ways if way != LAST_LAYER]
        last = known.get((name, LAST_LAYER, task.motions[0]))
        parts += [f"{name}: {task.title}. Last layer only: {score(last)}\n"]
        parts += [f"| motion | {' | '.join(ways)} |", "|---|" + "---|" * len(ways)]
        for motion in task.motions:
            found = [known.get((name, way, motion)) for way in ways]
            parts.append(f"| {motion} | {' | '.join(cell(row) for row in found)} |")
        for way in ways:
            of_way = [known[name, way, motion] for motion in task.motions if (name, way, motion) in known]
            parts += summary(way, of_way, last, known.get((name, UNFOLLOWED, task.motions[0])))
        parts.append("")
    return "\n".join(parts)


def summary(way: str, rows: list[Row], last: Row | None, unfollowed: Row | None) -> list[str]:
    """Least difference from the last layer alone over all motions, and that from no following on a still device."""
    lines = []
    if last and rows and way != UNFOLLOWED:
        worst = min(rows, key=lambda row: gain(row, last)[0])
        lines.append(f"{way}: at worst {told(*gain(worst, last))} from the last layer alone, at {worst['motion']}")
    if unfollowed and rows and way == "anchor" and rows[0]["motion"] == unfollowed["motion"]:
        lines.append(f"{way}: {told(*paired(rows[0], unfollowed))} from no following, at {unfollowed['motion']}")
    return lines


def paired(row: Row, other: Row) -> tuple[float, float]:
    """Mean difference of scores by seed, and its standard error."""
    return mean_and_error([a - b for a, b in zip(row["score"], other["score"], strict=False)])


def gain(row: Row, other: Row) -> tuple[float, float]:
    """The same, positive where the row is better."""
    sign = 1.0 if TASKS[row["task"]].plan.metric.higher_is_better else -1.0
    mean, error = paired(row, other)
    return sign * mean, error


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error, NaN for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def told(mean: float, error: float) -> str:
    """A difference in words."""
    return f"{mean:+.2f} ± {error:.2f}" if np.isfinite(error) else f"{mean:+.2f} (1 seed)"


def score(row: Row | None) -> str:
    """Score of a row: mean, standard error, and number of seeds."""
    if row is None:
        return "not run"
    if not row["score"]:
        return f"refused: {row['error']}"
    mean, error = mean_and_error(row["score"])
    digits = 1 if TASKS[row["task"]].plan.metric.higher_is_better else 3
    spread = f" ± {error:.{digits + 1}f}" if np.isfinite(error) else ""
    return f"{mean:.{digits}f}{spread}, {len(row['score'])} seed{'s' * (len(row['score']) > 1)}"


def cell(row: Row | None) -> str:
    """Score, frames in all, and if there were any, calibrations."""
    if row is None or not row["frames"]:
        return score(row)
    frames = f"{np.mean(row['frames']):,.0f} frames, {np.mean(row['step_frames']):.0f} a step"
    again = np.mean(row["calibrations"])
    return f"{score(row)} ({frames}{f', calibrated again {again:.1f} times' if again else ''})"
