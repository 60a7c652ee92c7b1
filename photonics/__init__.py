"""The optics chain of the photonic co-processor: laser, mirrors, scattering medium, camera."""

from photonics import presets
from photonics.camera import Camera
from photonics.dmd import DMD
from photonics.imaging import Imaging
from photonics.laser import Laser
from photonics.medium import GaussianMedium, MatrixMedium
from photonics.opu import OPU

__all__ = ["DMD", "OPU", "Camera", "GaussianMedium", "Imaging", "Laser", "MatrixMedium", "presets"]
