"""Scattering media, all with one interface: ``shape``, ``propagate``, ``adjoint``, ``block``."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from photonics.medium.base import ScatteringMedium
from photonics.medium.drift import Drifting
from photonics.medium.effects import Ballistic, Dispersive, Effect, Lossy, Modes
from photonics.medium.gaussian import GaussianMedium
from photonics.medium.layers import ScatteringLayers
from photonics.medium.matrix import MatrixMedium

__all__ = [
    "Ballistic",
    "Dispersive",
    "Drifting",
    "Effect",
    "GaussianMedium",
    "Lossy",
    "MatrixMedium",
    "Modes",
    "ScatteringLayers",
    "ScatteringMedium",
    "from_dict",
]

MAKERS = {"GaussianMedium": GaussianMedium, "MatrixMedium": MatrixMedium.load, "ScatteringLayers": ScatteringLayers}
EFFECTS = {effect.__name__: effect for effect in (Ballistic, Dispersive, Drifting, Lossy, Modes)}
"""Media around another one, which is described in their entry ``medium``."""
MAKERS |= EFFECTS


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
    if kind in EFFECTS and "medium" in parameters:
        if not isinstance(parameters["medium"], Mapping):
            raise ValueError(f"medium.medium must be a table of parameters, got {parameters['medium']!r}")
        parameters["medium"] = from_dict(parameters["medium"])
    known = {name: p.default is p.empty for name, p in signature(MAKERS[kind]).parameters.items()}
    missing = [name for name, needed in known.items() if needed and name not in parameters]
    if missing:
        raise ValueError(f"medium of type {kind} must have {', '.join(missing)}, got {sorted(parameters)}")
    if not parameters.keys() <= known.keys():
        raise ValueError(f"medium of type {kind} may have {', '.join(known)}, got {sorted(parameters)}")
    return MAKERS[kind](**parameters)
