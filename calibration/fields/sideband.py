"""Off-axis holography: the sideband that a tilted reference beam writes into the spectrum of a frame."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import count, fft, host_fft, ifft, irfft2, rfft2, squares_of_each
from photonics.arrays import Array, BoolArray, HostArray, Shapes
from photonics.backend import backend_of
from photonics.patterns.encoding import half_on

__all__ = ["Frequency", "Sideband", "disc", "distance", "pixel_transfer", "wrapped_distance"]

MAX_PASSES = 60
"""Largest number of iterations of the fit. It ends at `MAX_GRADIENT` after some ten, or after fifty if a saturated
grain has lost tens of adjacent pixels; after 12 the error was then up to 16 % of the field on a sensor of 7 grains."""
MAX_GRADIENT = 1e-10
"""Squared gradient, over the squared image, at which the fit ends."""
MARGIN_GRAINS = 3.2
"""Margin of a cropped sensor on the grid of the fit, times the band: 32 pixels for a band of 0.1. Without noise, fields
are then right to 0.5 % inside and 1.5 % at the valid edges (without a margin: 15 % and 25 %)."""
EDGE = 2
"""Rows and columns at each edge of a cropped sensor that are not valid: errors there are 2 to 4 times those inside."""
CROPPED_ERROR = 0.008, 0.04
"""Relative error of a field without noise, 10 pixels or more inside a cropped sensor: the larger of the first number
and the second over the number of grains along the sensor's side. At the edges it is twice as large."""
NOISE_IMAGES = 16
"""Number of images from which the noise of a cropped sensor is found."""
MAX_MARKED = 0.3
"""Share of an output's weight above which saturated pixels make it wrong."""
Frequency = tuple[float, float]
"""Cycles per pixel along a row (x) and along a column (y)."""


@dataclass(frozen=True, eq=False, repr=False)
class Sideband(Shapes):
    """The disc of a frame's spectrum that holds ``conj(R) y``, and its transform to the field on each pixel.

    A frame less that of the reference alone is ``A + 2 Re(ramp G)``. A is the field's own intensity, of twice the
    field's band around frequency 0; G is the pixel's average of ``conj(R) y``, shifted to frequency 0.

    The spectrum is that of a periodic image. The simulator's whole sensor is periodic. A real sensor and a region of
    interest are not: the light at opposite edges is not the same. A cropped frame is therefore part of a larger grid,
    whose other pixels are lost.
    """

    frame: tuple[int, int]
    """Rows and columns of a frame."""
    shape: tuple[int, int]
    """Rows and columns of the grid, which begins with the frame; equal to `frame` if the sensor is periodic."""
    center: Frequency
    """Centre of the disc, cycles per pixel."""
    radius: float
    """Radius of the disc, cycles per pixel."""
    passes: int
    """Iterations of the fit. 1 if whole numbers of fringes fit on the sensor, so that A and G are separate in the
    spectrum; otherwise they leak into each other at the sensor's edges, and are fitted together."""
    ramp: Array
    """``exp(2 pi i center . p)`` on each pixel p, (rows, columns)."""
    band: Array
    """1 in the disc shifted to frequency 0, 0 elsewhere."""
    own: Array
    """1 where A is, 0 elsewhere; half of the spectrum, as `scipy.fft.rfft2` returns it."""
    widening: Array
    """Factor that restores the fringe contrast lost to the pixel's width; 0 outside of the shifted disc."""
    spread: Array
    """Spectrum of the squared response to a single pixel, which turns variances of frames into those of fields."""
    gain: Array | None = None
    """Variance of the noise of a cropped sensor over that of a periodic one: (n_out,)."""

    @classmethod
    def at(
        cls,
        shape: tuple[int, int],
        center: Frequency,
        radius: float,
        field_band: float,
        samples: int,
        visibility: float = 1.0,
        cropped: bool = False,
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
        cropped : bool
            Whether the frame is part of a larger image.
        """
        frame = shape
        if cropped:
            margin = math.ceil(MARGIN_GRAINS / field_band)
            shape = (host_fft.next_fast_len(shape[0] + margin, True), host_fft.next_fast_len(shape[1] + margin, True))
        rows, columns = shape
        fits = all(abs(f * n - round(f * n)) < 1e-3 for f, n in zip(center, (columns, rows), strict=True))
        x, y = (f + center[i] for i, f in enumerate(frequencies(shape)))
        band = disc(shape, (0.0, 0.0), radius)
        widening = band / (pixel_transfer(x, samples) * pixel_transfer(y, samples) * visibility)
        response = ifft(widening)
        spread = rfft2((np.abs(response) ** 2).astype(np.float32))
        # Bins on the pupil's edge pass as a whole, so the band is wider by a bin and a half, if that fits.
        widest = min(2.0 * field_band + 1.5 / min(shape), wrapped_distance(center) - radius)
        own = disc(shape, (0.0, 0.0), widest)[:, : columns // 2 + 1]
        phase = center[0] * np.arange(columns)[None, :] + center[1] * np.arange(rows)[:, None]
        found = cls(
            frame=frame,
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
        return replace(found, gain=found._noise_gain()) if cropped else found

    def _noise_gain(self) -> Array:
        """Gain of the noise at each distance from the edge, from images of random signs: (n_out,)."""
        noise = 2.0 * half_on(NOISE_IMAGES, math.prod(self.frame), 0).astype(np.float32) - np.float32(1.0)
        power = (np.abs(self.demodulate(noise)) ** 2).mean(axis=0)
        power /= 2.0 * self.variance(np.ones((1, power.size), np.float32))[0]
        ring = np.minimum(self.depth, math.ceil(1.0 / self.radius))
        return (np.bincount(ring, power) / np.maximum(np.bincount(ring), 1))[ring].astype(np.float32)

    @property
    def depth(self) -> NDArray[np.intp]:
        """Distance of each pixel from the nearest edge of the frame, pixels: (n_out,)."""
        rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in self.frame)
        return np.minimum(rows[:, None], columns[None, :]).ravel()

    @property
    def cropped(self) -> bool:
        """Whether the frame is part of a larger image."""
        return self.frame != self.shape

    @property
    def edge(self) -> BoolArray:
        """Pixels at the edges of a cropped frame, which are not valid: (n_out,)."""
        return (self.depth < EDGE) & self.cropped

    @property
    def model_error(self) -> Array:
        """Relative error of a field without noise, 0 on a periodic sensor: (n_out,)."""
        inside = max(CROPPED_ERROR[0], CROPPED_ERROR[1] / (min(self.frame) * self.radius)) if self.cropped else 0.0
        found = (inside * (1.0 + 3.0 / (1.0 + self.depth))).astype(np.float32)
        return backend_of(self.ramp).asarray(found)

    def _embed(self, images: Array, outside: float | bool) -> Array:
        """Put frames on the grid: (batch, n_out) -> (batch, rows, columns)."""
        xp = backend_of(images).xp
        images = xp.reshape(images, (-1, *self.frame))
        if not self.cropped:
            return images
        grid = xp.full((images.shape[0], *self.shape), outside, dtype=images.dtype, device=backend_of(images).device)
        grid[:, : self.frame[0], : self.frame[1]] = images
        return grid

    def _extract(self, grid: Array) -> Array:
        """Take frames from the grid: (batch, rows, columns) -> (batch, n_out)."""
        return backend_of(grid).xp.reshape(grid[:, : self.frame[0], : self.frame[1]], (grid.shape[0], -1))

    def demodulate(self, images: Array, lost: Array | None = None) -> Array:
        """Cut out the disc, shift it to frequency 0 and transform it back: ``conj(R) y`` on each pixel, (batch, n_out).

        The result is linear in the images. If whole fringes do not fit on the sensor, or an image has lost (saturated)
        pixels, A and G are fitted together, without the lost pixels.
        """
        backend = backend_of(images)
        left_out: Array = backend.zeros(images.shape, "bool") if lost is None else lost
        gaps = backend.xp.any(left_out, axis=1) | self.cropped
        fields = backend.empty(images.shape, "complex64")
        for some, passes in ((~gaps, self.passes), (gaps, MAX_PASSES)):
            if bool(backend.xp.any(some)):
                spectrum = self._fit(images[some], left_out[some], passes)[0] * self.widening
                fields[some] = self._extract(ifft(spectrum))
        return fields

    def _fit(self, images: Array, lost: Array, passes: int) -> tuple[Array, Array]:
        """Spectrum of G by least squares over the pixels that are not lost, and the residual, 0 on lost pixels.

        A single pass just cuts out the disc, and the residual is the image.

        Conjugate gradients for A and G together; each image has its own step lengths.
        """
        backend, rest, kept = backend_of(images), self._embed(images, 0.0), ~self._embed(lost, True)
        if passes == 1:
            return self._cut(rest), rest
        xp = backend.xp
        rest = xp.where(kept, rest, 0.0)
        spectrum = backend.zeros(rest.shape, "complex64")
        along = backend.zeros(rest.shape, "complex64"), backend.zeros(rest.shape, "float32")
        before, done = math.inf, MAX_GRADIENT * squares_of_each(rest)
        for _ in range(passes):
            side, own = self._cut(rest), irfft2(rfft2(rest) * self.own, self.shape)
            power = 2.0 * squares_of_each(side) / math.prod(self.shape) + squares_of_each(own)
            if bool(xp.all(power <= done)):
                break
            keep = xp.astype(power / before, xp.float32)[:, None, None]
            along = side + keep * along[0], own + keep * along[1]
            step = xp.where(kept, along[1] + self._fringes(along[0]), 0.0)
            length = xp.where(power > done, power / xp.maximum(squares_of_each(step), 1e-30), 0.0)
            length = xp.astype(length, xp.float32)[:, None, None]
            spectrum += length * along[0]
            rest -= length * step
            before = xp.maximum(power, 1e-30)
        return spectrum, rest

    def _cut(self, images: Array) -> Array:
        """Spectrum of the disc, shifted to frequency 0: (batch, rows, columns)."""
        return fft(images * backend_of(images).xp.conj(self.ramp)) * self.band

    def _fringes(self, spectrum: Array) -> Array:
        """Fringes ``2 Re(ramp G)``: (batch, rows, columns)."""
        return 2.0 * backend_of(spectrum).xp.real(ifft(spectrum) * self.ramp)

    def subtract_fringes(self, images: Array, lost: Array) -> Array:
        """Subtract the fringes from images, fitted without their lost (bad) pixels: (batch, n_out)."""
        gaps = self.cropped or bool(backend_of(lost).xp.any(lost))
        spectrum, _ = self._fit(images, lost, MAX_PASSES if gaps else self.passes)
        return images - self._extract(self._fringes(spectrum))

    def residual(self, images: Array, lost: Array) -> Array:
        """What neither A nor the fringes explain, 0 on lost pixels: (batch, n_out)."""
        return self._extract(self._fit(images, lost, MAX_PASSES)[1])

    def second_harmonic(self, fields: Array) -> Array:
        """Twice the frequency of the fringes in their square, ``2 Re((ramp G)^2)``: (batch, n_out)."""
        xp = backend_of(fields).xp
        ramp = xp.reshape(self.ramp[: self.frame[0], : self.frame[1]], (1, -1))
        return 2.0 * xp.real((ramp * fields / self.widening[0, 0]) ** 2)

    @property
    def independent(self) -> float:
        """Number of independent fields on the sensor: bins of the disc."""
        return float(int(count(self.band != 0))) * math.prod(self.frame) / math.prod(self.shape)

    def variance(self, variance: Array) -> Array:
        """Variance of the real and of the imaginary part of fields, from that of independent pixels: (batch, n_out)."""
        spread = self._spread(variance) / 2.0
        return spread if self.gain is None else spread * self.gain

    def _spread(self, weight: Array) -> Array:
        """Sum of weights of pixels, times their squared shares of each output, on a periodic sensor: (batch, n_out)."""
        spectrum = rfft2(self._embed(weight, 0.0))
        spectrum *= self.spread
        return backend_of(weight).xp.maximum(self._extract(irfft2(spectrum, self.shape)), 0.0)

    def outputs_affected(self, marked: Array, share: float = MAX_MARKED) -> Array:
        """Whether marked pixels have more than this share of an output's weight: (batch, n_out)."""
        xp = backend_of(marked).xp
        return self._spread(xp.astype(marked, xp.float32)) > share * float(xp.real(self.spread[0, 0]))


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
