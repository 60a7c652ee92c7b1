"""The results of a sweep with names, units and record: an ``xarray.Dataset``."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from dfa.sweeps.designs import Design, Values
from dfa.sweeps.keys import Plain, to_plain
from dfa.sweeps.store import Row
from photonics.arrays import HostArray

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["check_labels", "dataset", "labels"]

Variable = tuple[str | tuple[str, ...], HostArray, dict[str, str]]
"""Dimensions, values and attributes."""


def dataset(
    design: Design, seeds: Sequence[int], rows: Sequence[Row], units: Mapping[str, str], about: Mapping[str, str]
) -> "Dataset":
    """Put rows, point by point and for each point seed by seed, into a labelled array for each metric.

    The data set depends on the study, the design, the seeds and the code only. Dates, times and versions of libraries
    are in the attribute ``measured``.
    """
    from xarray import Dataset

    dims = {**design.dims, "seed": len(seeds)}
    shape = tuple(dims.values())
    coordinates: dict[str, Variable] = {
        name: (dim, labels(values), {"long_name": name, "units": units.get(name, "")})
        for name, (dim, values) in design.coordinates.items()
    }
    coordinates["seed"] = ("seed", np.array(seeds, np.int64), {"long_name": "seed", "units": ""})
    variables: dict[str, Variable] = {}
    for name in sorted({name for row in rows for name in row.metrics}):
        values = np.array([row.metrics.get(name, np.nan) for row in rows], np.float64)
        attributes = {"long_name": name.replace("_", " "), "units": units.get(name, "")}
        variables[name] = (tuple(dims), values.reshape(shape), attributes)
    errors = np.array([row.error for row in rows], object).reshape(shape)
    variables["error"] = (tuple(dims), errors, {"long_name": "error, empty if the point did not fail", "units": ""})
    attributes = {"version": version("opu-sim"), **about, "measured": json.dumps(computation_record(rows))}
    return Dataset(variables, coordinates, attributes)


def computation_record(rows: Sequence[Row]) -> dict[str, str | float | list[str]]:
    """Return dates, seconds and library versions of the points."""
    dates = sorted(row.date for row in rows)
    return {
        "first": dates[0],
        "last": dates[-1],
        "seconds": round(sum(row.seconds for row in rows), 3),
        "made_with": sorted({row.made_with for row in rows if row.made_with}),
    }


def labels(values: Values) -> HostArray:
    """Return the coordinate along a dimension: numbers as numbers, other values as text as in a TOML file."""
    given = [to_plain(value, "values") for value in values]
    kinds = {type(value) for value in given}
    if kinds <= {int} and all(-(2**63) <= value < 2**63 for value in given if isinstance(value, int)):
        return np.array(given, np.int64)
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.array([np.nan if value is None else value for value in given], np.float64)
    return np.array([value if isinstance(value, str) else to_text(value) for value in given], object)


def to_text(value: Plain) -> str:
    """Return a value as in a TOML file, ``none`` for None: ``true``, ``[1, 2]``."""
    return "none" if value is None else json.dumps(value)


def check_labels(design: Design) -> None:
    """Raise a ``ValueError`` if two values along a dimension of a grid have the same label."""
    for name, (dim, values) in design.coordinates.items():
        if name == dim and len(set(labels(values).tolist())) < len(values):
            raise ValueError(f"{name} must have different values, got {list(values)!r}")
