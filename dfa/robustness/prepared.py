"""A study that is ready to run, and how its data set says what is to be seen in it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Design
from dfa.sweeps.sweeping import sweep

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["Ready", "View", "paired", "view_of"]

SCORES = ("accuracy", "bits")
KINDS = ("curve", "map", "budget", "scatter")


@dataclass(frozen=True, kw_only=True)
class View:
    """How a data set is looked at; kept in its attribute ``view``, so that a figure needs the data set alone."""

    kind: str
    """"curve" (along `x`, a line for each value of others), "map" (`x` and `y`), "budget" (a bar for each point of
    `OneAtATime`) or "scatter" (every point along `x`)."""
    title: str
    x: str = ""
    """Parameter of the axis."""
    y: str = ""
    """Parameter of the other axis of a map."""
    label: str = ""
    """Of the axis; the parameter's name and unit if empty."""
    y_label: str = ""
    log: bool = False
    """Logarithmic axes."""
    without: dict[str, int] = field(default_factory=dict)
    """Where the flaw is not there: position along each dimension. Empty: nothing is compared."""
    names: dict[str, str] = field(default_factory=dict)
    """Budget: what each parameter is called."""
    bench: dict[str, Any] = field(default_factory=dict)
    """Budget: each parameter's value at the base."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"figure must be one of {', '.join(KINDS)}, got {self.kind!r}")


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A study with its design; `run` is all that is left to do."""

    study: TrainingStudy
    design: Design
    view: View
    references: tuple[str, ...] = ("bp",)
    """Methods that are trained with the same plan, for comparison."""

    def run(
        self,
        seeds: Iterable[int] = range(3),
        store: str | Path | None = None,
        workers: int | None = None,
        progress: bool = True,
        retry_failed: bool = False,
    ) -> "Dataset":
        """Sweep; arguments and result are those of `dfa.sweep`.

        Returns
        -------
        xarray.Dataset
            With ``reference``, the score of the methods in `references` over (reference_method, seed) unless all of
            them failed, and the attribute ``view`` for `dfa.robustness.figures`.
        """
        seeds = list(seeds)
        more: Any = {"store": store, "workers": workers, "progress": progress, "retry_failed": retry_failed}
        found = sweep(self.study, self.design, seeds, **more)
        if self.references:
            others = sweep(self.study, {"training.method": list(self.references)}, seeds, **more)
            if has_score(others):
                score = others[score_name(others)].rename({"training.method": "reference_method"})
                found["reference"] = score.rename("reference")
        found.attrs["view"] = json.dumps(asdict(self.view))
        return found


def view_of(found: "Dataset") -> View:
    """Return how a data set is looked at.

    Raises
    ------
    ValueError
        If it does not say so.
    """
    try:
        return View(**json.loads(found.attrs["view"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError("found must be the result of a ready study, got a data set without a view") from None


def has_score(found: "Dataset") -> bool:
    """Whether a point did not fail."""
    return any(name in found for name in SCORES)


def score_name(found: "Dataset") -> str:
    """Name of the metric that studies are judged by.

    Raises
    ------
    ValueError
        If no point has one, because all of them failed; it quotes the first error.
    """
    for name in SCORES:
        if name in found:
            return name
    first = next((error for error in found["error"].values.ravel() if error), "")
    raise ValueError(f"found must have one point or more that did not fail, got none; the first said: {first}")


def paired(found: "Dataset", metric: str = "") -> "tuple[DataArray, DataArray, DataArray]":
    """Difference of a metric to where the flaw is not there, seed by seed.

    Parameters
    ----------
    found : xarray.Dataset
        Of a ready study whose view says where that is.
    metric : str
        The score if not given.

    Returns
    -------
    mean, error, count : xarray.DataArray
        Mean of the differences over the seeds, its standard error (NaN for one seed), and how many seeds it is made of:
        those that failed at either end are left out.
    """
    values = found[metric or score_name(found)]
    difference = values - values.isel(view_of(found).without)
    count = difference.notnull().sum("seed")
    known = difference.where(count > 1)  # one difference says nothing of its spread
    error = known.std("seed", ddof=1) / np.sqrt(count) if len(found.seed) > 1 else difference.mean("seed") * np.nan
    return difference.mean("seed"), error, count
