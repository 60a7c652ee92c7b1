"""Scattering media, all with one interface: ``shape``, ``propagate``, ``adjoint``, ``block``."""

from collections.abc import Mapping
from typing import Any

from photonics.medium.base import ScatteringMedium
from photonics.medium.gaussian import GaussianMedium
from photonics.medium.matrix import MatrixMedium

__all__ = ["GaussianMedium", "MatrixMedium", "ScatteringMedium", "from_dict"]

MAKERS = {"GaussianMedium": GaussianMedium, "MatrixMedium": MatrixMedium.load}


def from_dict(description: Mapping[str, Any]) -> ScatteringMedium:
    """Make a medium from the description that its ``to_dict`` gave.

    Raises
    ------
    ValueError
        If the type is unknown or a parameter is missing, unknown or out of range.
    """
    kind = description.get("type")
    if not isinstance(kind, str) or kind not in MAKERS:
        raise ValueError(f"medium.type must be one of {sorted(MAKERS)}, got {kind!r}")
    if kind == "MatrixMedium" and "path" not in description:
        raise ValueError("medium was an array in memory: save it and use MatrixMedium.load(path) to describe a device")
    parameters = {name: value for name, value in description.items() if name != "type"}
    try:
        return MAKERS[kind](**parameters)
    except TypeError as error:
        raise ValueError(f"medium: {error}") from None
