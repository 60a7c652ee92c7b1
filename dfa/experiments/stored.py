"""The runs of a study, read back from its ``results.json``."""

import json
import math
from pathlib import Path
from typing import Any

from dfa.experiments.plans import Plan
from dfa.experiments.runs import Run
from dfa.experiments.tasks import Point
from dfa.feedback.encoding import Ternary
from dfa.training.diagnostics import Diagnostics

__all__ = ["read_study"]


def read_study(path: str | Path) -> tuple[Plan, list[Run]]:
    """Plan and runs of a study that was written by `dfa.experiments.runs.run_study` or ``opu train``.

    Raises
    ------
    ValueError
        If the file cannot be read, or is none of this version's results.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        plan = document["plan"]
        plan |= {"hidden": tuple(plan["hidden"]), "encoder": Ternary(**plan["encoder"])}
        return Plan(**plan), [read_run(run) for run in document["runs"]]
    except OSError as error:
        raise ValueError(f"path must be a readable file, got {path} ({error.strerror})") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path must hold the results of a study, got {path} ({error})") from None


def read_run(run: dict[str, Any]) -> Run:
    """A run from its plain values."""
    history = tuple(read_point(point) for point in run["history"])
    return Run(**numbers(run, "nonzero", "saturated", "snr_db") | {"history": history})


def read_point(point: dict[str, Any]) -> Point:
    """A point of its history."""
    record = point["diagnostics"]
    return Point(**numbers(point, "validation") | {"diagnostics": record and Diagnostics(**record)})


def numbers(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """JSON has no word for "not a number": put it back in these places."""
    return values | {name: math.nan for name in names if values[name] is None}
