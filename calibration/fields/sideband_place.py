"""Where the sideband is in the spectrum of a frame: optics that have room for it, its place, and bad pixels."""

import math

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import fft, ifft, mean
from calibration.device import Device
from calibration.fields.readings import binned_imaging, frame_shape
from calibration.fields.sideband import Frequency, disc, distance, wrapped_distance
from photonics.arrays import Array
from photonics.backend import backend_of, to_host

__all__ = [
    "MIN_RING_SHARE",
    "annuli",
    "bad_pixels",
    "check_optics",
    "disc_radius",
    "find_sideband",
    "max_disc_radius",
    "mean_power",
    "place_sideband",
]

MIN_SENSOR = 1.0
"""Smallest side of a sensor times the band: at 0.96 (12 pixels), stated errors are 3 to 20 times too small."""
MIN_REGION = 2.0
"""The same for a region of interest: at 1.44, errors at its edges are 10 times the stated ones without noise."""
MIN_RESPONSE = 0.01
"""Smallest response to the reference beam, relative to the mean pixel, of a pixel that is not bad."""
MIN_RING_SHARE = 1e-5
"""Smallest share of the light at which a ring of the spectrum is part of the disc that is cut out."""
MAX_BAND = 0.5 / (1.0 + 3.0 / math.sqrt(2.0))
"""Largest radius B of the field's band that fits into the spectrum, cycles per pixel. The carrier is then on the
diagonal, ``a`` along each axis, 3 radii from the centre, ``a sqrt(2) = 3 B``, and its disc ends at the sampling limit,
``a + B = 1/2``."""


def find_sideband(power: NDArray[np.float64], radius: float, expected: Frequency) -> Frequency:
    """Find the disc with the most power in a mean power spectrum: its centre, cycles per pixel.

    A real image has two such discs, which are mirror images. The one nearer to the `expected` frequency is taken, and
    of its aliases the nearest one.
    """
    shape = (power.shape[0], power.shape[1])
    template = fft(disc(shape, (0.0, 0.0), radius).astype(np.float64))
    score = ifft(fft(power) * np.conj(template)).real
    row, column = (int(i) for i in np.unravel_index(int(score.argmax()), shape))
    found = column / shape[1], row / shape[0]
    sides = [(s * found[0] - expected[0], s * found[1] - expected[1]) for s in (1, -1)]
    step = min(sides, key=wrapped_distance)
    return expected[0] + step[0] - round(step[0]), expected[1] + step[1] - round(step[1])


def max_disc_radius(carrier: Frequency, band: float) -> float:
    """Largest radius of a disc around a carrier that overlaps neither the field's own intensity nor the twin disc."""
    twin = 2.0 * carrier[0], 2.0 * carrier[1]
    return min(wrapped_distance(carrier) - 2.0 * band, wrapped_distance(twin) / 2.0)


def check_optics(opu: Device) -> tuple[tuple[int, int], float, Frequency]:
    """Shape of a frame, radius of the field's band and carrier (cycles per pixel) of an off-axis bench.

    Raises
    ------
    ValueError
        If the sidebands do not fit into the spectrum of a frame.
    """
    imaging, wavelength = binned_imaging(opu), opu.laser.wavelength_m
    scale = imaging.pixel_m / wavelength
    largest = MAX_BAND / scale
    if imaging.numerical_aperture is None or imaging.numerical_aperture > largest:
        raise ValueError(
            f"imaging.numerical_aperture must be {largest:.3g} or less for off-axis holography on pixels of "
            f"{imaging.pixel_m:g} m (the sidebands of wider fields overlap the centre), "
            f"got {imaging.numerical_aperture or 'no pupil'}"
        )
    band = imaging.numerical_aperture * scale
    carrier = imaging.reference.carrier(wavelength, imaging.pixel_m)
    room = max_disc_radius(carrier, band)
    if room < band:
        good = math.asin((3.0 * band / math.sqrt(2.0) + 0.5 - band) / 2.0 / scale)
        raise ValueError(
            f"imaging.reference.angle_x_rad and angle_y_rad must put the sideband away from the centre and its twin, "
            f"such as {good:.3g} each for numerical_aperture {imaging.numerical_aperture:g}, got "
            f"{imaging.reference.angle_x_rad:.3g} and {imaging.reference.angle_y_rad:.3g} "
            f"(carrier {math.hypot(*carrier):.3g} cycles per pixel, {3.0 * band:.3g} needed)"
        )
    shape = frame_shape(opu)
    name, least = ("sensor", MIN_SENSOR) if imaging.region is None else ("region", MIN_REGION)
    if min(shape) * band < least:
        raise ValueError(
            f"imaging.{name} must have {math.ceil(least / band)} rows and columns or more for off-axis holography "
            f"with numerical_aperture {imaging.numerical_aperture:g}, got {shape[0]} x {shape[1]}"
        )
    return shape, band, carrier


def place_sideband(power: NDArray[np.float64], band: float, expected: Frequency) -> tuple[Frequency, float]:
    """Centre of the sideband in a mean power spectrum, and the largest radius that a disc around it may have.

    Frames determine the centre to within a bin. If the data sheet agrees to within a bin, its value is used.

    Raises
    ------
    ValueError
        If the field's own band does not fit into the spectrum.
    """
    center = find_sideband(power, band, expected)
    near = (center[0] - expected[0]) * power.shape[1], (center[1] - expected[1]) * power.shape[0]
    center = expected if max(abs(near[0]), abs(near[1])) <= 1.0 else center
    room = max_disc_radius(center, band)
    if room < band:
        raise ValueError(
            "imaging.reference.angle_x_rad and angle_y_rad must put the sideband away from the centre, got a sideband "
            f"at {center[0]:.3g}, {center[1]:.3g} cycles per pixel: set them to the beam's true angle"
        )
    return center, room


def bad_pixels(reference_dn: Array, saturated: Array) -> Array:
    """Pixels that the fit must leave out: no response to the reference beam alone, or saturated by it, (n_out,)."""
    return saturated | (reference_dn <= MIN_RESPONSE * float(mean(reference_dn)))


def annuli(power: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Rings around frequency 0, half a bin wide: outer radii (cycles per pixel), numbers of bins, mean powers."""
    shape = (power.shape[0], power.shape[1])
    width = 0.5 / min(shape)
    ring = np.ceil(distance(shape, (0.0, 0.0)) / width - 1e-9).astype(np.intp).ravel()
    count = np.bincount(ring)
    return width * np.arange(len(count)), count, np.bincount(ring, power.ravel()) / np.maximum(count, 1)


def disc_radius(
    radii: NDArray[np.float64], dim: NDArray[np.bool_], band: float, room: float, margin: float = 1.0
) -> float:
    """Radius before the first dim ring of `annuli` beyond the band, times a margin; from the band to the room."""
    fading = np.flatnonzero(dim & (radii > band))
    radius = float(radii[fading[0]] - radii[1]) if fading.size else room
    return min(max(radius if radius <= band else margin * radius, band), room)


def mean_power(images: Array, shape: tuple[int, int], cropped: bool) -> NDArray[np.float64]:
    """Mean power spectrum of images, (count, n_out): (rows, columns), on the host.

    Edges of a cropped sensor are faded out, as they would spread light over the spectrum. White noise keeps its power.
    """
    backend = backend_of(images)
    images = backend.xp.reshape(images, (-1, *shape))
    if cropped:
        fade = np.outer(*(np.hanning(n + 2)[1:-1] for n in shape))
        images = images * backend.asarray((fade / np.sqrt(np.mean(fade**2))).astype(np.float32))
    return to_host(mean(backend.xp.abs(fft(images)) ** 2, 0, "float64"))
