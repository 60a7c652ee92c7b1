"""The frames of a measurement, and what is known of the bench that took them."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from calibration.camera.noise import NoiseModel
from calibration.device import Device
from photonics.arrays import Array
from photonics.parts.imaging import Imaging

__all__ = [
    "DARK_SHARE",
    "MAX_SATURATED",
    "Bench",
    "RawFrames",
    "binned_imaging",
    "data_sheet_error",
    "frame_shape",
    "switched_unit_dn",
]

DARK_SHARE = 0.05
"""Share of the mean intensity below which an anchor or a reference counts as dark."""
MAX_SATURATED = 0.02
"""Largest share of saturated readings: above it a recovery raises an error and a projection warns."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Known facts besides the frames: sizes, figures from the data sheets, and the measured noise of the camera."""

    n_in: int
    """Logical inputs of the device."""
    n_out: int
    """Pixels."""
    unit_dn: float
    """DN above dark that unit intensity ``|T x|^2`` gives, from photometry. T is the field that a mirror adds when it
    turns ON, so this is the device's `unit_dn` (of mirrors ON) times ``|1 - leakage|^2``."""
    saturation_dn: int
    """DN of a saturated pixel."""
    leakage: complex
    """Field of an OFF mirror over that of an ON mirror, by the data sheet."""
    carrier: tuple[float, float]
    """Spatial frequency of the reference's fringes along x and y, cycles per pixel, by the data sheet."""
    frame_shape: tuple[int, int]
    """Rows and columns of pixels in a frame."""
    cropped: bool = False
    """Whether a region of interest is read out, at whose edges the light does not continue at the opposite edge."""
    field_band: float | None = None
    """Radius of the field's band, cycles per pixel, ``NA pixel / lambda``; None without a pupil, where the speckle is
    independent from pixel to pixel."""
    samples_per_pixel: int = 1
    """Points of the simulated field along a pixel's side, over which the pixel averages."""
    coherent: bool = False
    """Whether all light on a pixel interferes with the reference, by the data sheet of the optics."""
    visibility: float = 1.0
    """Contrast of the fringes on point-like pixels, `photonics.Imaging.visibility`."""
    scale_error: float = 0.0
    """Relative standard error of a row's scale by the data sheets: half of PRNU and of the laser's drift."""
    laser_drift: float = 0.0
    """Relative rms drift of the laser's power, by its data sheet."""
    noise: NoiseModel
    """Dark level and floor from dark frames of this run; slope from the camera's data sheet."""


class RawFrames(Protocol):
    """The frames of a run where the device computes, in the order in which they were taken, without the dark frames."""

    @property
    def count(self) -> int:
        """Number of frames."""
        ...

    def rows(self, rows: slice) -> Array:
        """All frames of some pixels: (count, n_rows), the camera's integers."""
        ...

    def frames(self, start: int, stop: int) -> Array:
        """All pixels of some frames: (stop - start, n_out), the camera's integers."""
        ...


def binned_imaging(opu: Device) -> Imaging:
    """Imaging with the pixels of a frame: a binned pixel is a larger one with more samples.

    Without a pupil each pixel of the chip has one grain, as with a square pupil that passes the whole band.
    """
    imaging, side = opu.imaging, opu.camera.binning
    if side == 1:
        return imaging
    grain = opu.laser.wavelength_m / (2.0 * imaging.pixel_m)
    free = imaging.numerical_aperture is None
    return replace(
        imaging,
        numerical_aperture=grain if free else imaging.numerical_aperture,
        pupil="square" if free else imaging.pupil,
        pixel_m=imaging.pixel_m * side,
        samples=imaging.samples_per_pixel * side,
        sensor=None if imaging.sensor is None else tuple(count // side for count in imaging.sensor),
        region=None if imaging.region is None else tuple(place // side for place in imaging.region),
    )


def frame_shape(opu: Device) -> tuple[int, int]:
    """Rows and columns of pixels in a frame, by the data sheet of the imaging."""
    region, side = opu.imaging.region, opu.camera.binning
    if region is not None:
        return region[1] // side, region[3] // side
    rows, columns = opu.imaging.sensor_of(opu.n_out * side**2 * opu.imaging.samples_per_pixel**2)
    return rows // side, columns // side


def switched_unit_dn(opu: Device, unit_dn: float) -> float:
    """DN of unit intensity for the field that inputs add when they turn ON.

    T is the field of ON minus that of OFF, while photometry (`unit_dn`) refers to inputs that are ON. The factor
    between them is ``|1 - leakage|^2``, by the mirrors' data sheet.
    """
    return abs(1.0 - opu.dmd.leakage) ** 2 * unit_dn


def data_sheet_error(opu: Device) -> float:
    """Relative standard error of a row's scale due to pixel response and laser power, which frames cannot show.

    Amplitudes have half the relative error of intensities (PRNU, and drift and warm-up of the laser, by their data
    sheets).
    """
    return float(np.hypot(np.hypot(opu.camera.response_spread, opu.laser.drift_rms), opu.laser.warm_up)) / 2.0
