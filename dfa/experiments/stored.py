"""Plan and runs, read back from the ``results.json`` that `compare_methods` wrote."""

import json
import math
from pathlib import Path
from typing import Any

from dfa.experiments.plans import Plan
from dfa.experiments.runs import Run
from dfa.feedback.encoding import Ternary
from dfa.training.epoch import Epoch

__all__ = ["read_results"]


def read_results(path: str | Path) -> tuple[Plan, list[Run]]:
    """Read plan and runs from a file that `compare_methods` or ``opu train`` wrote.

    Raises
    ------
    ValueError
        If the file cannot be read, or does not hold results of this version.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        plan = document["plan"]
        plan |= {"hidden": tuple(plan["hidden"]), "encoder": Ternary(**plan["encoder"])}
        return Plan(**plan), [read_run(run) for run in document["runs"]]
    except OSError as error:
        raise ValueError(f"path must be a readable file, got {path} ({error.strerror})") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path must hold the results of opu train, got {path} ({error})") from None


def read_run(values: dict[str, Any]) -> Run:
    """Build a run from its JSON values."""
    values = restore_nan(values, "nonzero", "saturated", "snr_db")
    values["history"] = tuple(Epoch(**restore_nan(record, "validation", "test")) for record in values["history"])
    return Run(**values)


def restore_nan(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a copy with NaN under these names where the JSON file has null."""
    return values | {name: math.nan for name in names if values[name] is None}
