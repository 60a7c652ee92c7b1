"""The results of a sweep with their names, units and origin: an ``xarray.Dataset``."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfa.sweeps.designs import Design, Values
from dfa.sweeps.keys import plain
from dfa.sweeps.store import Row

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["check_labels", "dataset"]


def dataset(
    design: Design, seeds: Sequence[int], rows: Sequence[Row], units: Mapping[str, str], about: Mapping[str, str]
) -> "Dataset":
    """Put rows, point by point and for each point seed by seed, into a labelled array for each metric.

    Everything in the data set is a function of the study, the design, the seeds and the code. What is not (dates,
    times, versions of libraries) is in the attribute ``measured`` alone.
    """
    from xarray import Dataset

    dims = {**design.dims, "seed": len(seeds)}
    shape = tuple(dims.values())
    coordinates: dict[str, Any] = {
        name: (dim, labels(values), {"long_name": name, "units": units.get(name, "")})
        for name, (dim, values) in design.coordinates.items()
    }
    coordinates["seed"] = ("seed", np.array(seeds, np.int64), {"long_name": "seed", "units": ""})
    variables: dict[str, Any] = {}
    for name in sorted({name for row in rows for name in row.metrics}):
        values = np.array([row.metrics.get(name, np.nan) for row in rows], np.float64)
        attributes = {"long_name": name.replace("_", " "), "units": units.get(name, "")}
        variables[name] = (tuple(dims), values.reshape(shape), attributes)
    errors = np.array([row.error for row in rows], object).reshape(shape)
    variables["error"] = (tuple(dims), errors, {"long_name": "what went wrong, empty if nothing", "units": ""})
    attributes = {"version": version("opu-sim"), **about, "measured": json.dumps(measured(rows))}
    return Dataset(variables, coordinates, attributes)


def measured(rows: Sequence[Row]) -> dict[str, Any]:
    """When, for how long and with what the points were first computed."""
    dates = sorted(row.date for row in rows)
    return {
        "first": dates[0],
        "last": dates[-1],
        "seconds": round(sum(row.seconds for row in rows), 3),
        "made_with": sorted({row.made_with for row in rows if row.made_with}),
    }


def labels(values: Values) -> NDArray[Any]:
    """Coordinate along a dimension: numbers as numbers, anything else as text, as a TOML file would have it."""
    values = [plain(value, "values") for value in values]
    kinds = {type(value) for value in values}
    if kinds <= {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return np.array([value if isinstance(value, str) else text(value) for value in values], object)


def text(value: Any) -> str:
    """``none``, ``true``, ``[1, 2]``."""
    return "none" if value is None else json.dumps(value)


def check_labels(design: Design) -> None:
    """Raise a ``ValueError`` if two values along a dimension of a grid have the same label."""
    for name, (dim, values) in design.coordinates.items():
        if name == dim and len(set(labels(values).tolist())) < len(values):
            raise ValueError(f"{name} must have different values, got {list(values)!r}")
