"""The reference beam: light that bypasses the medium and reveals the phase of the speckle by interference."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from photonics import draws
from photonics.arrays import Array, IntArray, unread_text
from photonics.backend import Backend, require
from photonics.component import Field, Seed, component
from photonics.parts.vibration import ARM, vibration
from photonics.random import Stream

__all__ = ["Reference", "as_phases", "check_beam"]


@component
class Reference:
    """Plane wave that joins the speckle on the sensor, behind all other optics.

    Field in frame t at the point (x, y) of the sensor, measured from its centre: ``R = sqrt(intensity rate) s(x, y)
    exp(i (2 pi (x sin a_x + y sin a_y) / lambda + phase_t + drift_t + vibration_t + jitter_t))`` where ``rate`` is the
    mean photon rate of the speckle with all inputs ON and ``s`` the fixed error of the beam, of mean square 1. The
    drift is a stationary Ornstein-Uhlenbeck process, the vibration a sine, the jitter white. With the speckle y, four
    frames at phases 0, pi/2, pi, 3 pi/2 give ``conj(R) y = [(I0 - I2) + i (I1 - I3)] / 4`` (Yamaguchi and Zhang, Opt.
    Lett. 22, 1268 (1997)); a tilted beam makes fringes of ``sin(angle) pixel / lambda`` cycles per pixel (Leith and
    Upatnieks, J. Opt. Soc. Am. 52, 1123 (1962)).
    """

    intensity: float = Field(default=1.0, ge=0, le=1e6)
    """Intensity of the beam relative to the mean speckle with all inputs ON, for a medium with ``E|t_ij|^2 = 1/n_in``
    (1, which gives the highest fringe contrast)."""

    angle_x_rad: float = Field(default=0.0, ge=-math.pi / 2, le=math.pi / 2)
    """Angle to the normal of the sensor along a row of pixels, radians; 0 for phase stepping."""

    angle_y_rad: float = Field(default=0.0, ge=-math.pi / 2, le=math.pi / 2)
    """Angle along a column of pixels, downwards, radians."""

    phase_jitter_rad: float = Field(default=0.0, ge=0, le=10)
    """Rms of the white phase noise from frame to frame, radians (air, fans; 0 is a steady bench)."""

    phase_drift_rad: float = Field(default=0.0, ge=0, le=100)
    """Rms of the slow drift of the phase, radians (0 is a steady bench; an open interferometer drifts by radians)."""

    phase_drift_time_s: float = Field(default=60.0, gt=0)
    """Correlation time of the drift, seconds: autocorrelation ``exp(-t / phase_drift_time_s)`` (1 min, the order of
    magnitude for an interferometer on an open table)."""

    phase_vibration_rad: float = Field(default=0.0, ge=0, le=100)
    """Rms of a vibration of the phase, radians (0 is a steady bench; 0.1 is 8 nm of path at 532 nm): a sine of the
    frame's time (`photonics.parts.vibration`), as from the fan of the mirrors' electronics (Popoff et al., J. Phys.
    Photonics 6, 043001 (2024), section 5)."""

    phase_vibration_hz: float = Field(default=50.0, gt=0, le=1e6)
    """Frequency of the vibration, Hz (50, a motor on the mains). Above half the frame rate it appears at its alias."""

    noise: float = Field(default=0.0, ge=0, le=1)
    """Rms of the fixed complex error of the beam over its mean amplitude: dust, stray fringes (0 is a clean beam)."""

    noise_grain_px: float = Field(default=8.0, gt=0, le=1e4)
    """Correlation length of the fixed error, pixels: correlation ``exp(-(r / noise_grain_px)^2)`` (8, the order of
    magnitude for dust on a lens)."""

    seed: Seed = 0
    """Identity of the beam: seed of its fixed error."""

    def steady(self) -> "Reference":
        """The same beam without jitter, drift and vibration of its phase."""
        return replace(self, phase_jitter_rad=0.0, phase_drift_rad=0.0, phase_vibration_rad=0.0)

    def field(
        self,
        layout: tuple[int, int],
        phase_rad: Array,
        ticks: IntArray,
        *,
        unit_rate: Array,
        wavelength_m: float,
        pixel_m: float,
        samples: int,
        frame_period_s: float,
        seed: int,
        backend: Backend,
        seen: slice | None = None,
    ) -> Array:
        """Field of the beam at each field sample, sqrt(photons/s), in the unit of the output of the medium.

        Parameters
        ----------
        layout : tuple of int
            Rows and columns of field samples (`Imaging.layout`).
        phase_rad : array_like, shape () or (batch,)
            Phase that the piezo sets, radians.
        ticks : ndarray of int64, shape (batch,)
            Frame numbers.
        unit_rate : array_like, shape () or (batch,)
            Mean photon rate of the output of the medium with all inputs ON, before the throughput; one per frame if
            the power of the laser, which both arms share, fluctuates.
        wavelength_m, pixel_m : float
            Metres.
        samples : int
            Field samples along the side of a pixel.
        frame_period_s : float
            Seconds from one frame to the next.
        seed : int
            Seed of the run, for jitter and drift.
        backend : Backend
            Library and device of the result.
        seen : slice, optional
            The field samples that are wanted, row by row; all by default.

        Returns
        -------
        array of complex64, shape (batch, rows * columns)
            Row by row.

        Raises
        ------
        ValueError
            If a phase is not finite, the number of phases is wrong, or the samples do not resolve the fringes.
        """
        self.check_angles(wavelength_m, pixel_m, samples)
        phase = self.phases(phase_rad, ticks, frame_period_s=frame_period_s, seed=seed)
        rate = np.broadcast_to(np.asarray(unit_rate, np.float64), phase.shape)
        phasor = np.sqrt(self.intensity * rate) * np.exp(1j * phase)
        static = profile(self, layout, wavelength_m, pixel_m, samples, backend)
        return backend.asarray(phasor.astype(np.complex64))[:, None] * (static if seen is None else static[seen])

    def phases(self, phase_rad: Array, ticks: IntArray, *, frame_period_s: float, seed: int) -> NDArray[np.float64]:
        """Phase of the beam in each frame, set phase plus drift, vibration and jitter, radians: (batch,)."""
        phase = as_phases(phase_rad, len(ticks)).copy()
        if self.phase_drift_rad:
            step = frame_period_s / self.phase_drift_time_s
            phase += self.phase_drift_rad * draws.ornstein_uhlenbeck(seed, Stream.REFERENCE_DRIFT, ticks, step)
        if self.phase_vibration_rad:
            sine = vibration(ticks, self.phase_vibration_hz, frame_period_s, seed, ARM)
            phase += self.phase_vibration_rad * sine
        if self.phase_jitter_rad:
            phase += self.phase_jitter_rad * draws.normals(seed, Stream.REFERENCE_PHASE, np.zeros_like(ticks), ticks)
        return phase

    @property
    def phase_variance(self) -> float:
        """Variance of the phase, radians squared; it multiplies the mean fringes by ``exp(-variance / 2)``."""
        return self.phase_jitter_rad**2 + self.phase_drift_rad**2 + self.phase_vibration_rad**2

    def carrier(self, wavelength_m: float, pixel_m: float) -> tuple[float, float]:
        """Frequency of the fringes, cycles per pixel, along a row (x) and along a column (y)."""
        scale = pixel_m / wavelength_m
        return scale * math.sin(self.angle_x_rad), scale * math.sin(self.angle_y_rad)

    def check_angles(self, wavelength_m: float, pixel_m: float, samples: int) -> None:
        """Raise a ``ValueError`` if the fringes are finer than two field samples (Nyquist)."""
        angles = {"x": self.angle_x_rad, "y": self.angle_y_rad}
        for (name, angle), cycles in zip(angles.items(), self.carrier(wavelength_m, pixel_m), strict=True):
            if abs(cycles) > 0.5 * samples:
                limit = math.asin(min(0.5 * samples * wavelength_m / pixel_m, 1.0))
                raise ValueError(
                    f"reference.angle_{name}_rad must be -{limit:.4g} to {limit:.4g}, two samples per fringe "
                    f"({samples} per pixel of {pixel_m:g} m), got {angle}"
                )


def as_phases(phase_rad: Array, batch: int) -> NDArray[np.float64]:
    """Return one phase for all frames, or one for each, as a float64 array of shape (batch,).

    Raises
    ------
    ValueError
        If they are not finite real numbers, or their number is neither 1 nor that of the frames.

    Examples
    --------
    >>> as_phases(0.5, 2)
    array([0.5, 0.5])
    """
    try:
        phase = np.asarray(phase_rad)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"reference_phase must be numbers on the host, got {type(phase_rad).__name__}") from None
    if phase.dtype.kind not in "iuf":
        got = f"dtype {phase.dtype}" if phase.dtype.kind != "O" else unread_text(phase_rad)
        raise ValueError(f"reference_phase must be a real number or one per pattern, got {got}")
    if phase.shape not in ((), (batch,)):
        raise ValueError(f"reference_phase must have shape () or ({batch},), one per pattern, got {phase.shape}")
    if not np.isfinite(phase).all():
        raise ValueError("reference_phase must be finite, got NaN or infinity")
    return np.broadcast_to(phase.astype(np.float64), (batch,))


@lru_cache(maxsize=8)
def profile(
    reference: Reference, layout: tuple[int, int], wavelength_m: float, pixel_m: float, samples: int, backend: Backend
) -> Array:
    """Fixed part of the beam, tilt and error, of mean square 1: (rows * columns,) complex64."""
    rows, columns = layout
    cycles_x, cycles_y = (cycles / samples for cycles in reference.carrier(wavelength_m, pixel_m))
    across = np.exp(2j * np.pi * cycles_x * (np.arange(columns) - (columns - 1) / 2.0))
    down = np.exp(2j * np.pi * cycles_y * (np.arange(rows) - (rows - 1) / 2.0))
    beam = down[:, None] * across[None, :]
    if reference.noise:
        error = 1.0 + reference.noise * smooth_noise(reference.seed, layout, reference.noise_grain_px * samples)
        beam *= error / np.sqrt(np.mean(np.abs(error) ** 2))
    return backend.asarray(beam.astype(np.complex64).reshape(-1))


def smooth_noise(seed: int, layout: tuple[int, int], grain: float) -> NDArray[np.complex128]:
    """Gaussian random field, circular, unit variance on average, correlation ``exp(-(r / grain)^2)``: (rows, columns).

    White noise filtered to the spectrum ``exp(-(pi f grain)^2)``, periodic at the edges; `grain` in samples.
    """
    rows, columns = layout
    places = np.arange(rows * columns)
    white = draws.normals(seed, Stream.REFERENCE_NOISE, places, 0) + 1j * draws.normals(
        seed, Stream.REFERENCE_NOISE, places, 1
    )
    square = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.fftfreq(columns)[None, :] ** 2
    power = np.exp(-square * (np.pi * grain) ** 2)
    filter_ = np.sqrt(power / (2.0 * power.mean()))
    return np.fft.ifft2(np.fft.fft2(white.reshape(layout)) * filter_)


def check_beam(beam: Array, backend: Backend, batch: int, n: int) -> None:
    """Raise a ``ValueError`` if a beam's field is of another library, or has not the shape (batch, n) or (1, n)."""
    require(backend, beam, "reference")
    if tuple(beam.shape) not in ((batch, n), (1, n)):
        raise ValueError(f"reference must have shape ({batch}, {n}) or (1, {n}), got {tuple(beam.shape)}")
