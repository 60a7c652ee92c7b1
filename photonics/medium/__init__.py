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
    if kind not in MAKERS:
        raise ValueError(f"medium.type must be one of {sorted(MAKERS)}, got {kind!r}")
    parameters = {name: value for name, value in description.items() if name != "type"}
    try:
        return MAKERS[kind](**parameters)
    except TypeError as error:
        raise ValueError(f"medium: {error}") from None
