from . import presets
from .features import OPUFeatures
from .medium import (
    Ballistic,
    Dispersive,
    Disturbed,
    Drifting,
    GaussianMedium,
    Lossy,
    MatrixMedium,
    Modes,
    ScatteringLayers,
)
from .opu import OPU
from .parts.camera import Camera
from .parts.dmd import DMD
from .parts.imaging import Imaging
from .parts.laser import Laser
from .parts.reference import Reference
from .patterns.holograms import LeeHologram, Superpixel

__all__ = [
    "DMD",
    "OPU",
    "Ballistic",
    "Camera",
    "Dispersive",
    "Disturbed",
    "Drifting",
    "GaussianMedium",
    "Imaging",
    "Laser",
    "LeeHologram",
    "Lossy",
    "MatrixMedium",
    "Modes",
    "OPUFeatures",
    "Reference",
    "ScatteringLayers",
    "Superpixel",
    "presets",
]
