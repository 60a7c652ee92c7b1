"""Scattering media, all with one interface: ``shape``, ``propagate``, ``adjoint``, ``block``."""

from photonics.medium.base import ScatteringMedium
from photonics.medium.description import MEDIA, effects, from_dict, parameters
from photonics.medium.drift import Disturbed, Drifting
from photonics.medium.effects import Ballistic, Dispersive, Effect, Lossy, Modes
from photonics.medium.gaussian import GaussianMedium
from photonics.medium.layers import ScatteringLayers
from photonics.medium.matrix import MatrixMedium

__all__ = [
    "MEDIA",
    "Ballistic",
    "Dispersive",
    "Disturbed",
    "Drifting",
    "Effect",
    "GaussianMedium",
    "Lossy",
    "MatrixMedium",
    "Modes",
    "ScatteringLayers",
    "ScatteringMedium",
    "effects",
    "from_dict",
    "parameters",
]
