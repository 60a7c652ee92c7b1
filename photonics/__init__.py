"""The optics chain of the photonic co-processor: laser, mirrors, scattering medium, camera.

`OPUFeatures` is imported on first use: scikit-learn takes longer to load than all of this package.
"""

from typing import TYPE_CHECKING, Any

from photonics import presets
from photonics.camera import Camera
from photonics.dmd import DMD
from photonics.holograms import LeeHologram, Superpixel
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
from photonics.reference import Reference

if TYPE_CHECKING:
    from photonics.features import OPUFeatures

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


def __getattr__(name: str) -> Any:
    if name != "OPUFeatures":
        raise AttributeError(f"module 'photonics' has no attribute {name!r}")
    from photonics.features import OPUFeatures

    return OPUFeatures
