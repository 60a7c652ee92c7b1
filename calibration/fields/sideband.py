"""Off-axis holography: the sideband that a tilted reference beam writes into the spectrum of a frame."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from calibration.device import Device
from calibration.fields.readings import frame_shape
from photonics.arrays import BoolArray, ComplexArray, FloatArray, HostArray

__all__ = [
    "Sideband",
    "annuli",
    "bad_pixels",
    "check_optics",
    "disc",
    "find_sideband",
    "max_disc_radius",
    "pixel_transfer",
    "place_sideband",
    "wrapped_distance",
]

MIN_SENSOR = 1.0
"""Smallest side of a sensor times the band: at 0.96 (12 pixels), stated errors are 3 to 20 times too small."""
MAX_PASSES = 60
"""Largest number of iterations of the fit. It ends at `MAX_GRADIENT` after some ten, or after fifty if a saturated
grain has lost tens of adjacent pixels; after 12 the error was then up to 16 % of the field on a sensor of 7 grains."""
MIN_RESPONSE = 0.01
"""Smallest response to the reference beam, relative to the mean pixel, of a pixel that is not bad."""
MAX_GRADIENT = 1e-10
"""Squared gradient, over the squared image, at which the fit ends."""
MAX_BAND = 0.5 / (1.0 + 3.0 / math.sqrt(2.0))
"""Largest radius B of the field's band that fits into the spectrum, cycles per pixel. The carrier is then on the
diagonal, ``a`` along each axis, 3 radii from the centre, ``a sqrt(2) = 3 B``, and its disc ends at the sampling limit,
``a + B = 1/2``."""
fft: Any = scipy.fft
"""Typed as Any because scipy's stubs do not declare arrays as the results."""
Frequency = tuple[float, float]
"""Cycles per pixel along a row (x) and along a column (y)."""


@dataclass(frozen=True, eq=False)
class Sideband:
    """The disc of a frame's spectrum that holds ``conj(R) y``, and its transform to the field on each pixel.

    A frame less that of the reference alone is ``A + 2 Re(ramp G)``. A is the field's own intensity, of twice the
    field's band around frequency 0; G is the pixel's average of ``conj(R) y``, shifted to frequency 0.
    """

    shape: tuple[int, int]
    """Rows and columns of a frame."""
    center: Frequency
    """Centre of the disc, cycles per pixel."""
    radius: float
    """Radius of the disc, cycles per pixel."""
    passes: int
    """Iterations of the fit. 1 if whole numbers of fringes fit on the sensor, so that A and G are separate in the
    spectrum; otherwise they leak into each other at the sensor's edges, and are fitted together."""
    ramp: ComplexArray
    """``exp(2 pi i center . p)`` on each pixel p, (rows, columns)."""
    band: FloatArray
    """1 in the disc shifted to frequency 0, 0 elsewhere."""
    own: FloatArray
    """1 where A is, 0 elsewhere; half of the spectrum, as `scipy.fft.rfft2` returns it."""
    widening: FloatArray
    """Factor that restores the fringe contrast lost to the pixel's width; 0 outside of the shifted disc."""
    spread: ComplexArray
    """Spectrum of the squared response to a single pixel, which turns variances of frames into those of fields."""

    @classmethod
    def at(
        cls,
        shape: tuple[int, int],
        center: Frequency,
        radius: float,
        field_band: float,
        samples: int,
        visibility: float = 1.0,
    ) -> "Sideband":
        """Build the disc around a frequency.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns of a frame.
        center : tuple of float
            Centre of the disc, cycles per pixel along x and y.
        radius, field_band : float
            Radius of the disc and of the field's band, cycles per pixel.
        samples : int
            Points of the field along a pixel's side.
        visibility : float
            Contrast of the fringes on point-like pixels, `photonics.Imaging.visibility`.
        """
        rows, columns = shape
        fits = all(abs(f * n - round(f * n)) < 1e-3 for f, n in zip(center, (columns, rows), strict=True))
        x, y = (f + center[i] for i, f in enumerate(frequencies(shape)))
        band = disc(shape, (0.0, 0.0), radius)
        widening = band / (pixel_transfer(x, samples) * pixel_transfer(y, samples) * visibility)
        response = fft.ifft2(widening)
        spread = fft.rfft2((np.abs(response) ** 2).astype(np.float32))
        # Bins on the pupil's edge pass as a whole, so the band is wider by a bin and a half, if that fits.
        widest = min(2.0 * field_band + 1.5 / min(shape), wrapped_distance(center) - radius)
        own = disc(shape, (0.0, 0.0), widest)[:, : columns // 2 + 1]
        phase = center[0] * np.arange(columns)[None, :] + center[1] * np.arange(rows)[:, None]
        return cls(
            shape=shape,
            center=center,
            radius=radius,
            passes=1 if fits else MAX_PASSES,
            ramp=np.exp(2j * np.pi * phase).astype(np.complex64),
            band=band.astype(np.float32),
            own=own.astype(np.float32),
            widening=widening.astype(np.float32),
            spread=spread,
        )

    def demodulate(self, images: FloatArray, lost: BoolArray | None = None) -> ComplexArray:
        """Cut out the disc, shift it to frequency 0 and transform it back: ``conj(R) y`` on each pixel, (batch, n_out).

        The result is linear in the images. If whole fringes do not fit on the sensor, or an image has lost (saturated)
        pixels, A and G are fitted together, without the lost pixels.
        """
        lost = np.zeros(images.shape, np.bool_) if lost is None else lost
        gaps = lost.any(axis=1)
        fields = np.empty(images.shape, np.complex64)
        for some, passes in ((~gaps, self.passes), (gaps, MAX_PASSES)):
            if some.any():
                spectrum = self._fit(images[some], lost[some], passes) * self.widening
                fields[some] = fft.ifft2(spectrum, overwrite_x=True).reshape(-1, images.shape[1])
        return fields

    def _fit(self, images: FloatArray, lost: BoolArray, passes: int) -> ComplexArray:
        """Spectrum of G by least squares over the pixels that are not lost; a single pass just cuts out the disc.

        Conjugate gradients for A and G together; each image has its own step lengths.
        """
        rest, kept = images.reshape(-1, *self.shape), ~lost.reshape(-1, *self.shape)
        if passes == 1:
            return self._cut(rest)
        rest = rest * kept
        spectrum = np.zeros(rest.shape, np.complex64)
        along = np.zeros(rest.shape, np.complex64), np.zeros(rest.shape, np.float32)
        before, done = np.full(len(rest), np.inf), MAX_GRADIENT * sum_squares(rest)
        for _ in range(passes):
            side, own = self._cut(rest), fft.irfft2(fft.rfft2(rest) * self.own, self.shape)
            power = 2.0 * sum_squares(side) / own[0].size + sum_squares(own)
            if (power <= done).all():
                break
            keep = (power / before).astype(np.float32)[:, None, None]
            along = side + keep * along[0], own + keep * along[1]
            step = (along[1] + self._fringes(along[0])) * kept
            length = np.where(power > done, power / np.maximum(sum_squares(step), 1e-30), 0.0)[:, None, None]
            spectrum += length.astype(np.float32) * along[0]
            rest -= length.astype(np.float32) * step
            before = np.maximum(power, 1e-30)
        return spectrum

    def _cut(self, images: FloatArray) -> ComplexArray:
        """Spectrum of the disc, shifted to frequency 0: (batch, rows, columns)."""
        return fft.fft2(images * np.conj(self.ramp)) * self.band

    def _fringes(self, spectrum: ComplexArray) -> FloatArray:
        """Fringes ``2 Re(ramp G)``: (batch, rows, columns)."""
        return np.float32(2.0) * (fft.ifft2(spectrum) * self.ramp).real

    def subtract_fringes(self, images: FloatArray, lost: BoolArray) -> FloatArray:
        """Subtract the fringes from images, fitted without their lost (bad) pixels: (batch, n_out)."""
        spectrum = self._fit(images, lost, MAX_PASSES if lost.any() else self.passes)
        return images - self._fringes(spectrum).reshape(images.shape)

    @property
    def independent(self) -> float:
        """Number of independent fields on the sensor: bins of the disc."""
        return float(np.count_nonzero(self.band))

    def variance(self, variance: FloatArray) -> FloatArray:
        """Variance of the real and of the imaginary part of fields, from that of independent pixels: (batch, n_out)."""
        spectrum = fft.rfft2(variance.reshape(-1, *self.shape))
        spectrum *= self.spread
        spread = fft.irfft2(spectrum, self.shape).reshape(variance.shape)
        return np.maximum(spread, np.float32(0.0)) / np.float32(2.0)

    def outputs_affected(self, marked: BoolArray, share: float = 0.3) -> BoolArray:
        """Whether marked pixels have more than a share of an output's weight: (batch, n_out)."""
        own = float(self.spread[0, 0].real)
        return 2.0 * self.variance(marked.astype(np.float32)) > share * own


def frequencies(shape: tuple[int, int]) -> tuple[HostArray, HostArray]:
    """Frequencies x (1, columns) and y (rows, 1) of an FFT, cycles per pixel."""
    return np.fft.fftfreq(shape[1])[None, :], np.fft.fftfreq(shape[0])[:, None]


def wrapped_distance(frequency: Frequency) -> float:
    """Distance of a frequency from the nearest alias of frequency 0, cycles per pixel.

    >>> round(wrapped_distance((0.9, 0.0)), 3)
    0.1
    """
    return math.hypot(*(f - round(f) for f in frequency))


def distance(shape: tuple[int, int], center: Frequency) -> NDArray[np.float64]:
    """Distance of each bin from the nearest alias of a frequency, cycles per pixel: (rows, columns)."""
    x, y = frequencies(shape)
    x, y = x - center[0], y - center[1]
    return np.hypot(x - np.rint(x), y - np.rint(y))


def disc(shape: tuple[int, int], center: Frequency, radius: float) -> BoolArray:
    """Bins within a radius of a frequency."""
    return distance(shape, center) <= radius


def pixel_transfer(frequency: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    """Contrast of fringes of frequency f on a pixel that averages k samples: ``sin(pi f) / (k sin(pi f / k))``.

    For many samples it tends to ``sinc f``, that of a pixel with fill factor 1.
    """
    return np.sinc(frequency) / np.sinc(frequency / samples)


def find_sideband(power: NDArray[np.float64], radius: float, expected: Frequency) -> Frequency:
    """Find the disc with the most power in a mean power spectrum: its centre, cycles per pixel.

    A real image has two such discs, which are mirror images. The one nearer to the `expected` frequency is taken, and
    of its aliases the nearest one.
    """
    shape = (power.shape[0], power.shape[1])
    template = fft.fft2(disc(shape, (0.0, 0.0), radius).astype(np.float64))
    score = fft.ifft2(fft.fft2(power) * np.conj(template)).real
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
    imaging, wavelength = opu.imaging, opu.laser.wavelength_m
    scale = imaging.pixel_m / wavelength
    largest = MAX_BAND / scale
    if imaging.numerical_aperture is None or imaging.numerical_aperture > largest:
        raise ValueError(
            f"imaging.numerical_aperture must be {largest:.3g} or less for off-axis holography on pixels of "
            f"{imaging.pixel_m:g} m (the sidebands of wider fields overlap the centre), "
            f"got {imaging.numerical_aperture}"
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
    if min(shape) * band < MIN_SENSOR:
        raise ValueError(
            f"imaging.sensor must have {math.ceil(MIN_SENSOR / band)} rows and columns or more for off-axis holography "
            f"with numerical_aperture {imaging.numerical_aperture:g}, got {shape[0]} x {shape[1]}"
        )
    if imaging.region is not None:
        warnings.warn(
            "off-axis fields wrap around the edges of a region of interest: their errors are 4 to 20 times the stated "
            "ones near its edges, and up to 5 times inside; use the whole sensor",
            stacklevel=4,
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


def bad_pixels(reference_dn: FloatArray, saturated: BoolArray) -> BoolArray:
    """Pixels that the fit must leave out: no response to the reference beam alone, or saturated by it, (n_out,)."""
    return saturated | (reference_dn <= MIN_RESPONSE * float(reference_dn.mean()))


def annuli(power: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Rings around frequency 0, half a bin wide: outer radii (cycles per pixel), numbers of bins, mean powers."""
    shape = (power.shape[0], power.shape[1])
    width = 0.5 / min(shape)
    ring = np.ceil(distance(shape, (0.0, 0.0)) / width - 1e-9).astype(np.intp).ravel()
    count = np.bincount(ring)
    return width * np.arange(len(count)), count, np.bincount(ring, power.ravel()) / np.maximum(count, 1)


def sum_squares(images: HostArray) -> NDArray[np.float64]:
    """Sum of squares of each image: (batch, rows, columns) -> (batch,)."""
    parts = images.view(np.float32) if np.iscomplexobj(images) else images
    return np.einsum("bxy,bxy->b", parts, parts, dtype=np.float64)
