"""Checks of the arrays and attributes of a recording."""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from calibration.storage.journal import StoredArray
from photonics.arrays import HostArray

__all__ = ["KINDS", "check_kind", "check_values", "read_positive", "read_text"]

KINDS = {
    "frames": "u", "patterns": "u", "exposure_s": "f", "reference_phase": "f", "laser_on": "b", "frame_number": "i",
    "uniform/frames": "u", "uniform/photons": "f", "uniform/exposure_s": "f",
}  # fmt: skip
"""Arrays of a recording and the kind of their numbers, as numpy abbreviates it."""

MINIMUM = {
    "exposure_s": 1e-9, "reference_phase": -np.inf, "uniform/photons": 0.0, "uniform/exposure_s": 0.0,
}  # fmt: skip
"""Smallest allowed value of each array of real numbers."""


def check_kind(name: str, values: StoredArray | h5py.Dataset | HostArray) -> None:
    """Check that an array of a file has numbers of the right kind on the right number of axes."""
    axes = 2 if name.endswith(("frames", "patterns")) else 1
    if values.dtype.kind != KINDS[name] or values.ndim != axes:
        raise ValueError(
            f"data set {name} must have numbers of kind {KINDS[name]!r} on {axes} axes, got {values.dtype} on "
            f"{values.ndim} axes"
        )


def check_values(name: str, values: HostArray) -> None:
    """Check that real numbers are finite and not below `MINIMUM`; a reference phase may be NaN."""
    if name not in MINIMUM:
        return
    good = np.isfinite(values) & ~(values < MINIMUM[name])
    if name == "reference_phase":
        good |= np.isnan(values)
    if not good.all():
        first = int(np.argmin(good))
        allowed = "finite" if np.isinf(MINIMUM[name]) else f"finite and {MINIMUM[name]:g} or more"
        raise ValueError(f"{name} must be {allowed}, got {values[first]:g} in frame {first}")


def read_positive(value: Any, name: str) -> float:
    """Return a value as float; raise a ``ValueError`` unless it is positive and finite."""
    if not 0.0 < float(value) < np.inf:
        raise ValueError(f"attribute {name} must be positive, got {value!r}")
    return float(value)


def read_text(attributes: Mapping[str, object], name: str) -> str:
    """Return an attribute that must be text."""
    value = attributes.get(name)
    if not isinstance(value, str):
        raise ValueError(f"attribute {name} must be text, got {type(value).__name__}")
    return value
