"""A study with its design, and the figure that its data set describes."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dfa.sweeps.designs import Design
from dfa.sweeps.protocol import Study
from dfa.sweeps.sweeping import sweep
from photonics.component import choose

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["PreparedStudy", "View", "has_score", "paired_difference", "score_name", "view_of"]

SCORES = ("accuracy", "bits")
KINDS = {
    "curve": "score along `x`, a line for each value of the other parameters",
    "map": "score over `x` and `y`",
    "budget": "a bar for each point of `OneAtATime`",
    "scatter": "score of every point along `x`",
}


@dataclass(frozen=True, kw_only=True)
class View:
    """The figure of a data set. The data set's attribute ``view`` contains it, so that no other input is needed."""

    kind: str
    """"curve", "map", "budget" or "scatter", see `KINDS`."""
    title: str
    x: str = ""
    """Parameter of the x axis."""
    y: str = ""
    """Parameter of the y axis of a map."""
    label: str = ""
    """Label of the x axis; the parameter's name and unit if empty."""
    y_label: str = ""
    """Label of the y axis of a map; the parameter's name and unit if empty."""
    log: bool = False
    """Whether the axes are logarithmic."""
    without: dict[str, int] = field(default_factory=dict)
    """Position along each dimension of the point without the flaw; empty if nothing is compared."""
    names: dict[str, str] = field(default_factory=dict)
    """Budget: title of each parameter."""
    bench: dict[str, Any] = field(default_factory=dict)
    """Budget: each parameter's value at the base."""

    def __post_init__(self) -> None:
        choose(KINDS, self.kind, "figure")


@dataclass(frozen=True, kw_only=True)
class PreparedStudy:
    """A study with its design and its figure."""

    study: Study
    design: Design
    view: View
    references: tuple[str, ...] = ("bp", "last-layer")
    """Methods that are trained with the same plan, for comparison."""

    def __repr__(self) -> str:
        points = len(self.design.settings)
        return f"PreparedStudy({self.view.title!r}: {points} points, references {self.references}, {self.study!r})"

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
            Also has ``reference``, the score of the methods in `references` over (reference_method, seed) unless all
            of them failed, and the attribute ``view`` for `dfa.robustness.figures`.
        """
        seeds = list(seeds)
        found = sweep(self.study, self.design, seeds, store, workers, progress, retry_failed)
        if self.references:
            methods = {"training.method": list(self.references)}
            others = sweep(self.study, methods, seeds, store, workers, progress, retry_failed)
            if has_score(others):
                score = others[score_name(others)].rename({"training.method": "reference_method"})
                found["reference"] = score.rename("reference")
        found.attrs["view"] = json.dumps(asdict(self.view))
        return found


def view_of(found: "Dataset") -> View:
    """Return the figure that a data set describes.

    Raises
    ------
    ValueError
        If it does not describe a figure.
    """
    try:
        return View(**json.loads(found.attrs["view"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "found must be the data set of a prepared study, got a data set without a view (its title and axes); "
            "draw that of another study by found.NAME.mean('seed').plot.line(x=PARAMETER)"
        ) from None


def has_score(found: "Dataset") -> bool:
    """Whether at least one point did not fail."""
    return any(name in found for name in SCORES)


def score_name(found: "Dataset") -> str:
    """Return the name of the metric that is shown: accuracy, or bits per character.

    Raises
    ------
    ValueError
        If all points failed; the message quotes the first error.
    """
    for name in SCORES:
        if name in found:
            return name
    first = next((error for error in found["error"].values.ravel() if error), "")
    raise ValueError(f"found must have at least one point that did not fail, got none; first error: {first}")


def paired_difference(found: "Dataset") -> "tuple[DataArray, DataArray, DataArray]":
    """Return the difference of the score from the point without the flaw, for the same seed.

    Parameters
    ----------
    found : xarray.Dataset
        Of a prepared study whose view has the point without the flaw.

    Returns
    -------
    mean, error, count : xarray.DataArray
        Mean of the differences over the seeds, its standard error (NaN for one seed), and the number of seeds. A seed
        that failed at either point is left out.
    """
    values = found[score_name(found)]
    difference = values - values.isel(view_of(found).without)
    count = difference.notnull().sum("seed")
    known = difference.where(count > 1)  # one difference has no spread
    error = known.std("seed", ddof=1) / np.sqrt(count) if len(found.seed) > 1 else difference.mean("seed") * np.nan
    return difference.mean("seed"), error, count
