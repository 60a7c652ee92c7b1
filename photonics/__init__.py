"""The optics chain of the photonic co-processor: laser, mirrors, scattering medium, camera."""

from photonics import presets
from photonics.camera import Camera
from photonics.dmd import DMD
from photonics.imaging import Imaging
from photonics.laser import Laser
from photonics.medium import (
    Ballistic,
    Dispersive,
    Drifting,
    GaussianMedium,
    Lossy,
    MatrixMedium,
    Modes,
    ScatteringLayers,
)
from photonics.opu import OPU

__all__ = [
    "DMD",
    "OPU",
    "Ballistic",
    "Camera",
    "Dispersive",
    "Drifting",
    "GaussianMedium",
    "Imaging",
    "Laser",
    "Lossy",
    "MatrixMedium",
    "Modes",
    "ScatteringLayers",
    "presets",
]
