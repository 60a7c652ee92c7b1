"""The path from the medium to the sensor."""

import math
from typing import Literal

import numpy as np
from pydantic import ValidationInfo, field_validator, model_validator

from photonics.arrays import Array, IntArray
from photonics.backend import Backend, backend_of
from photonics.component import Field, component, integer
from photonics.parts import pupil as optics
from photonics.parts.creep import Creep
from photonics.parts.power import pixel_sums, scale_in_place, square_modulus
from photonics.parts.pupil import Pupil
from photonics.parts.reference import Reference, check_beam
from photonics.parts.sensor import Window
from photonics.threads import for_blocks

__all__ = ["Imaging"]

BLOCK = {True: 2**18, False: 2**25}
"""Field samples imaged at a time, on the host (True: they fit into its caches) and on other devices (False)."""
REGION, REGION_LOW = "(first row, rows, first column, columns)", (0, 1, 0, 1)
"""Entries of `Imaging.region` and their smallest values."""
SAMPLE_S = 3e-8
"""Seconds per field sample and thread with a pupil, an estimate to keep small work on one thread."""


@component
class Imaging:
    """Optics between the medium and the camera: pupil, polarisation, reference beam, region of interest.

    The output of the medium is the field on a grid of independent samples in the plane of the sensor. A pupil passes
    the plane waves within its numerical aperture (on the side of the sensor, after any magnification)::

        E_sensor = F^-1 [P F [E]],    rate = n_in throughput sum_modes <|E_sensor + R|^2>_pixel

    E is ``T f`` for the field f that leaves the mirrors, sqrt(photons / s). The factor n_in is the unit of T, whose
    entries have ``E|t_ij|^2 = 1/n_in``: input j brings ``throughput |f_j|^2`` to a pixel on average, whatever the
    number of inputs and the state of the others.

    P is constant inside the pupil, ``|f| < NA / lambda`` (``|fx|, |fy|`` for a square one), and scaled so that the mean
    intensity of white light does not change. Speckle grains have the area ``(4/pi) (lambda / 2NA)^2``
    (circle) or ``(lambda / 2NA)^2`` (square). The grid is periodic, so grains at opposite edges of the sensor are
    correlated. The intensity of a pixel is the mean over its ``samples`` x ``samples`` points (fill factor 1;
    `photonics.parts.pupil.pixel_contrast` has the error). Without a pupil a pixel has one sample, which is one grain.

    The default is one speckle grain per pixel, behind a polariser.

    References
    ----------
    J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, chapters 4 and 5.
    """

    throughput: float = Field(default=2.5e-9, gt=0, le=1)
    """Share of the light of an input that reaches one pixel, on average over the speckle. It includes all losses behind
    the mirrors, and does not depend on how many inputs there are. The default is an estimate: a pixel of 5.5 um covers
    2.5e-9 of the hemisphere at 44 mm from the medium. With the default laser and mirrors, 256 inputs that are ON then
    fill the well in 2 ms."""

    numerical_aperture: float | None = Field(default=None, gt=0, le=1)
    """Numerical aperture of the pupil on the side of the sensor; None for one independent grain per pixel. It does not
    change the mean intensity, which `throughput` sets; on a bench that is proportional to the aperture squared."""

    pupil: Pupil = "circular"
    """Shape of the pupil: "circular" (a lens) or "square" (closed-form integrals)."""

    pixel_m: float = Field(default=5.5e-6, gt=0, le=1e-3)
    """Side of a pixel, metres (generic CMOS)."""

    samples: int = Field(default=2, ge=1, le=16)
    """Field samples along the side of a pixel if there is a pupil; the medium needs ``samples^2`` outputs per pixel. A
    sample must be no wider than a grain, ``lambda / 2NA``; with 2 samples per grain the contrast is right to 7 %."""

    sensor: tuple[int, int] | None = None
    """Rows and columns of the sensor in pixels; None for the most nearly square rectangle of the number of pixels (a
    line for a prime number). Pixels and samples are numbered row by row."""

    region: tuple[int, int, int, int] | None = None
    """Region of interest that is read out: first row, number of rows, first column, number of columns; None for all."""

    polarisations: Literal[1, 2] = 1
    """Polarisations that reach the sensor: 1 behind a polariser, 2 without one (two independent speckle fields). It
    does not change the mean intensity, which `throughput` sets; on a bench it doubles without the polariser."""

    creep_m_per_s: float = Field(default=0.0, ge=-1e-3, le=1e-3)
    """Steady creep of the speckle along a row of the sensor, metres per second from frame 0 on (0; 1e-9 is 0.65 pixels
    of 5.5 um an hour, the order of magnitude for posts and glue; an estimate). See `photonics.parts.creep`."""

    pupil_creep_per_s: float = Field(default=0.0, ge=-1, le=1)
    """Steady creep of the pupil along a row, radii of the pupil per second (0; depends on the mount); needs a pupil."""

    reference: Reference = Field(default=Reference())
    """The reference beam, which reaches the sensor only while its shutter is open."""

    @field_validator("sensor", "region", mode="before")
    @classmethod
    def _check_pixels(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        low, meaning = ((1, 1), "(rows, columns)") if name == "sensor" else (REGION_LOW, REGION)
        if value is None:
            return None
        text = f"{name} must be None or integers {meaning}, counts of 1 or more, got {value!r}"
        if not isinstance(value, (tuple, list)) or len(value) != len(low):
            raise ValueError(text)
        try:
            return tuple(integer(v, name, least) for v, least in zip(value, low, strict=True))
        except ValueError:
            raise ValueError(text) from None

    @model_validator(mode="after")
    def _check_pupil_creep(self) -> "Imaging":
        if self.pupil_creep_per_s and self.numerical_aperture is None:
            raise ValueError(f"pupil_creep_per_s must be 0 without a numerical_aperture, got {self.pupil_creep_per_s}")
        return self

    @property
    def creeps(self) -> bool:
        """Whether the pattern on the sensor moves from frame to frame."""
        return bool(self.creep_m_per_s or self.pupil_creep_per_s)

    @property
    def samples_per_pixel(self) -> int:
        """Field samples along a pixel's side: `samples`, or 1 without a pupil."""
        return 1 if self.numerical_aperture is None else self.samples

    def sensor_of(self, n_field: int, modes: int = 1) -> tuple[int, int]:
        """Rows and columns of pixels on the sensor, for `n_field` outputs of the medium (all modes together).

        Raises
        ------
        ValueError
            If the outputs are not a whole number of pixels, or do not fit `sensor`.
        """
        share = modes * self.samples_per_pixel**2
        count, rest = divmod(n_field, share)
        if rest or count < 1:
            raise ValueError(
                f"n_out of the medium must be a multiple of {share} "
                f"({modes} modes x {self.samples_per_pixel}^2 samples per pixel), got {n_field}"
            )
        if self.sensor is None:
            rows = next(rows for rows in range(math.isqrt(count), 0, -1) if count % rows == 0)
            if rows == 1 and count > 3 and self.numerical_aperture is not None:
                raise ValueError(
                    f"sensor must be given for {count} pixels behind a pupil: their only rectangle is a line"
                )
            return rows, count // rows
        rows, columns = self.sensor
        if rows * columns != count:
            raise ValueError(
                f"sensor of {rows} x {columns} pixels must have {count}, "
                f"one for each {share} of the medium's {n_field} outputs, got {rows * columns}"
            )
        return self.sensor

    def layout(self, n_field: int, modes: int = 1) -> tuple[int, int]:
        """Rows and columns of field samples on the sensor, for `n_field` outputs of the medium (all modes together)."""
        rows, columns = self.sensor_of(n_field, modes)
        return rows * self.samples_per_pixel, columns * self.samples_per_pixel

    def frame(self, n_field: int, modes: int = 1) -> tuple[int, int]:
        """Rows and columns of pixels in a frame, which is the region of interest.

        Raises
        ------
        ValueError
            If the outputs do not fit, or the region is not on the sensor.
        """
        sensor = self.sensor_of(n_field, modes)
        if self.region is None:
            return sensor
        row, rows, column, columns = self.region
        if row + rows > sensor[0] or column + columns > sensor[1]:
            raise ValueError(
                f"region must lie on the sensor of {sensor[0]} x {sensor[1]} pixels, got rows {row} to "
                f"{row + rows - 1}, columns {column} to {column + columns - 1}"
            )
        return rows, columns

    def window(self, n_field: int, modes: int = 1) -> Window | None:
        """Pixels of the sensor that are in a frame; None for all."""
        self.frame(n_field, modes)
        return None if self.region is None else Window(self.sensor_of(n_field, modes)[1], *self.region)

    def pixels(self, n_field: int, modes: int = 1) -> int:
        """Number of pixels in a frame, for `n_field` outputs of the medium (all modes together)."""
        rows, columns = self.frame(n_field, modes)
        return rows * columns

    def check_samples(self, wavelength_m: float) -> None:
        """Raise a ``ValueError`` if a grain, ``lambda / 2NA`` wide, is narrower than a field sample."""
        if self.numerical_aperture is None:
            return
        per_pixel = 2.0 * self.numerical_aperture * self.pixel_m / wavelength_m
        if per_pixel > self.samples * (1.0 + 1e-9):
            raise ValueError(
                f"samples must be {math.ceil(per_pixel)} or more, for grains of {wavelength_m:g} / (2 x "
                f"{self.numerical_aperture:g}) m on pixels of {self.pixel_m:g} m, got {self.samples}"
            )

    def grain_area_m2(self, wavelength_m: float = 532e-9) -> float:
        """Area of a speckle grain on the sensor, square metres; without a pupil, the area of a pixel."""
        if self.numerical_aperture is None:
            return self.pixel_m**2
        return optics.grain_area_m2(self.pupil, self.numerical_aperture, wavelength_m)

    def contrast(self, modes: int | None = None, wavelength_m: float = 532e-9) -> float:
        """Contrast of fully developed speckle in a frame: the standard deviation over the mean of its pixels.

        ``1 / sqrt(modes)`` times the factor by which the mean over a pixel reduces it. `modes` is the number of equal
        independent fields, by default the polarisations that reach the sensor. The periodic edges are neglected; they
        matter if a grain is as large as the sensor.
        """
        modes = self.polarisations if modes is None else modes
        na = self.numerical_aperture
        if na is None:
            return modes**-0.5
        return optics.pixel_contrast(self.pupil, na, wavelength_m, self.pixel_m, self.samples, modes)

    def intensity(
        self,
        speckle: Array,
        *,
        n_in: int,
        modes: int = 1,
        wavelength_m: float = 532e-9,
        reference: Array = None,
        shares: tuple[float, ...] | None = None,
        ticks: IntArray | None = None,
        frame_period_s: float | None = None,
        factor: float = 1.0,
    ) -> Array:
        """Photons per second on each pixel that is read out, times a factor.

        Parameters
        ----------
        speckle : array of complex64, shape (batch, modes * n)
            Output of the medium, mode after mode, of any library that `photonics.backend` knows.
        n_in : int
            Inputs of the medium, whose entries have the unit ``E|t_ij|^2 = 1/n_in``.
        modes : int
            Number of fields that do not interfere (polarisations, wavelengths); their intensities add.
        wavelength_m : float
            Wavelength, metres.
        reference : array of complex64, shape (batch, n) or (1, n), optional
            Field of the reference beam at the samples (`Reference.field`), of the same library and unit.
        shares : tuple of float, optional
            Amplitude of the reference in each mode, with a sum of squares of 1; all in the first mode if not given.
        ticks : ndarray of int64, shape (batch,), optional
            Frame numbers; required if the pattern creeps.
        frame_period_s : float, optional
            Seconds from one frame to the next; required if the pattern creeps.
        factor : float, optional
            Factor of the result, such as the exposure.

        Returns
        -------
        array of float32, shape (batch, n_pixels)
            On the host, a frame has the same bits in any batch and on any number of threads.

        Raises
        ------
        ValueError
            If the speckle does not fit the sensor, the samples are too coarse for the pupil, the reference has
            another shape, or the pattern creeps and the frame numbers or the frame period are missing.
        """
        backend = backend_of(speckle)
        plain = self.numerical_aperture is None and modes == 1 and self.region is None and reference is None
        if plain and not self.creeps:
            return square_modulus(speckle, backend, n_in * self.throughput, factor)
        batch, n_field = speckle.shape
        self.check_samples(wavelength_m)
        grid, pixels = self.layout(n_field, modes), self.pixels(n_field, modes)
        if reference is not None:
            check_beam(reference, backend, batch, n_field // modes)
        filter_, visibility = self.filter(grid, wavelength_m, backend), self.visibility(wavelength_m)
        speeds = self.creep_speeds(wavelength_m)
        motion = Creep.of(grid[1], *speeds, ticks, frame_period_s, batch) if self.creeps else None
        rate = backend.empty((batch, pixels), "float32")
        unit = n_in * self.throughput / self.samples_per_pixel**2

        def work(start: int, stop: int) -> None:
            beam = reference if reference is None or reference.shape[0] == 1 else reference[start:stop, :]
            field = backend.xp.reshape(speckle[start:stop, :], (stop - start, modes, *grid))
            if motion is not None:
                field = motion.part(start, stop).apply(field, filter_, backend)
            elif filter_ is not None:
                field = optics.low_pass(field, filter_, backend)
            power = self._power(field, beam, shares or (1.0,), visibility, backend)
            rate[start:stop, :] = scale_in_place(scale_in_place(power, unit), factor)

        frames = max(BLOCK[backend.on_host] // n_field, 1)
        for_blocks(work, batch, frames, batch * n_field * SAMPLE_S if backend.on_host else 0.0)
        return rate

    def filter(self, grid: tuple[int, int], wavelength_m: float, backend: Backend) -> Array:
        """Transmission of the pupil at each frequency of a grid of samples, float32; None without a pupil."""
        if self.numerical_aperture is None:
            return None
        cycles = self.numerical_aperture / wavelength_m * self.pixel_m / self.samples
        return optics.transfer(self.pupil, grid, (grid[0] * cycles, grid[1] * cycles), backend)

    def creep_speeds(self, wavelength_m: float) -> tuple[float, float, float]:
        """Speed of the speckle, samples per second, and of the pupil, cycles per sample in a second; its radius."""
        sample_m = self.pixel_m / self.samples_per_pixel
        radius = (self.numerical_aperture or 0.0) / wavelength_m * sample_m
        return self.creep_m_per_s / sample_m, self.pupil_creep_per_s * radius, radius

    def visibility(self, wavelength_m: float) -> float:
        """Factor by which a pixel of one sample averages out the fringes of a tilted reference, ``sinc(fx) sinc(fy)``.

        f is the frequency of the fringes in cycles per pixel. It is 1 for pixels of several samples, which resolve the
        fringes: their mean reduces them by the same factor over ``sinc(f / samples)``.
        """
        if self.samples_per_pixel > 1:
            return 1.0
        return float(np.prod(np.sinc(self.reference.carrier(wavelength_m, self.pixel_m))))

    def _power(
        self, field: Array, reference: Array, shares: tuple[float, ...], visibility: float, backend: Backend
    ) -> Array:
        """Sum of ``|E + R|^2`` over modes and the samples of each pixel: (batch, n_pixels) float32."""
        xp, (batch, modes, rows, columns) = backend.xp, field.shape
        beam = None if reference is None else self._crop(xp.reshape(reference, (-1, rows, columns)))
        field = self._crop(field)
        power = backend.zeros((batch, *field.shape[2:]), "float32")
        if beam is not None and visibility < 1.0:  # light of the reference that makes no visible fringes
            power += square_modulus(beam, backend) * (1.0 - visibility**2)
        for mode in range(modes):
            share = shares[mode] * visibility if mode < len(shares) else 0.0
            part = field[:, mode, ...] if beam is None or not share else field[:, mode, ...] + beam * share
            power += square_modulus(part, backend)
        return xp.reshape(pixel_sums(power, self.samples_per_pixel), (batch, -1))

    def _crop(self, field: Array) -> Array:
        if self.region is None:
            return field
        k = self.samples_per_pixel
        row, rows, column, columns = (k * place for place in self.region)
        return field[..., row : row + rows, column : column + columns]
