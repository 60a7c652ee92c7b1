"""Results of trainings on a device that moves: rows of a JSON file, and the tables of the documentation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.moving_cases import FOLLOWED, LAST_LAYER, MOST, MOTIONS, TASKS, TIMES, UNFOLLOWED, WAYS
from benchmarks.pages import table

__all__ = ["RESULTS", "load_rows", "save_rows", "tables"]

RESULTS = Path(__file__).parent.parent / "docs" / "moving.json"
"""Results beside the documentation."""
ABOUT = "python -m benchmarks.moving --seeds N --task NAME; scores, frames and calibrations by seed, from seed 0 on"
Key: TypeAlias = tuple[str, str, str]
"""Task, way and motion."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Trainings of a task in one way on a device with one motion; lists are by seed, from seed 0 on."""

    task: str
    way: str
    motion: str
    model: str = ""
    """Hash of the code."""
    error: str = ""
    """Why a training was refused; empty if none was."""
    score: list[float]
    frames: list[float] = field(default_factory=list)
    step_frames: list[float] = field(default_factory=list)
    calibrations: list[float] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """What tells a row from others."""
        return self.task, self.way, self.motion


def load_rows(path: Path = RESULTS) -> list[Row]:
    """Rows of a file; none if there is no file."""
    return [Row(**one) for one in json.loads(path.read_text("utf-8"))["rows"]] if path.exists() else []


def save_rows(new: Iterable[Row], path: Path = RESULTS) -> None:
    """Put rows in place of those of the same task, way and motion, and keep the others."""
    rows = {row.key: row for row in (*load_rows(path), *new)}
    lines = ",\n".join(json.dumps(asdict(rows[key])) for key in sorted(rows))
    path.write_text(f'{{"about": {json.dumps(ABOUT)},\n"rows": [\n{lines}\n]}}\n', "utf-8")


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Tables in Markdown by name, a line for each task and way: scores, and what following costs and gains."""
    tasks = [name for name in TASKS if name not in ("transformer", "motions")]
    rivals = [way for way in WAYS if WAYS[way].get("matrix")]
    followed = [way for way in WAYS if way not in (LAST_LAYER, UNFOLLOWED, *rivals)]
    known = {row.key: row for row in rows}
    lines, text = list(product(tasks, followed)), list(product(["transformer"], FOLLOWED))
    return {
        "followed": score_table(known, lines, MOST),
        "followed: transformer": score_table(known, text, TASKS["transformer"].motions),
        "followed: costs": cost_table(known, [*lines, *text, *product(["mlp-1"], rivals)], list(TIMES)),
        "rivals": score_table(known, list(product(["mlp-1"], rivals)), MOST),
        "motions": score_table(known, list(product(["motions"], (UNFOLLOWED, *FOLLOWED))), list(MOTIONS)[len(TIMES) :]),
    }


def last_of(known: Mapping[Key, Row], task: str) -> Row | None:
    """Row of the last layer alone, which no motion touches."""
    return known.get((task, LAST_LAYER, TASKS[task].motions[0]))


def score_table(known: Mapping[Key, Row], lines: Sequence[tuple[str, str]], motions: Sequence[str]) -> str:
    """Score for each motion, mean and standard error. A line without any run is left out."""
    rows = []
    for task, way in lines:
        cells = [known.get((task, way, motion)) for motion in motions]
        if any(cells):
            rows.append([task, way, *map(score, (*cells, last_of(known, task)))])
    return table(["task", "way", *motions, "last layer only"], rows)


def cost_table(known: Mapping[Key, Row], lines: Sequence[tuple[str, str]], motions: Sequence[str]) -> str:
    """Seeds, frames of a step at the first motion, and `worst` of each line that has a run."""
    rows = []
    for task, way in lines:
        there = [row for row in (known.get((task, way, motion)) for motion in motions) if row is not None and row.score]
        if there:
            counts = [len(row.score) for row in there]
            seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
            rows.append([task, way, seeds, f"{np.mean(there[0].step_frames):.0f}", worst(there, last_of(known, task))])
    return table(["task", "way", "seeds", "frames of a step", "at worst"], rows)


def worst(rows: Sequence[Row], last: Row | None) -> str:
    """Least gain over the last layer alone, paired by seed, and its motion."""
    if last is None:
        return "not run"
    row = min(rows, key=lambda row: gain(row, last)[0])
    mean, error = gain(row, last)
    digits = 1 + digits_of(row)
    spread = f" ± {error:.{digits}f}" if np.isfinite(error) else ""
    return f"{mean:+.{digits}f}{spread} at {row.motion}"


def gain(row: Row, other: Row) -> tuple[float, float]:
    """Mean difference of scores by seed, positive where the row is better, and its standard error."""
    sign = 1.0 if TASKS[row.task].plan.metric.higher_is_better else -1.0
    return mean_and_error([sign * (a - b) for a, b in zip(row.score, other.score, strict=False)])


def mean_and_error(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard error, NaN for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def digits_of(row: Row) -> int:
    """Decimals of a mean score: 1 for percent, 3 for bits."""
    return 1 if TASKS[row.task].plan.metric.higher_is_better else 3


def score(row: Row | None) -> str:
    """Score of a row: mean and standard error, or why there is none."""
    if row is None:
        return "not run"
    if not row.score:
        return "refused"
    mean, error = mean_and_error(row.score)
    digits = digits_of(row)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if np.isfinite(error) else "")
