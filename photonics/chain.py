"""The optics of a device: light on the mirrors and at the camera in any frame, and the frames themselves."""

from threading import Lock

import numpy as np

from photonics.arrays import Array, ComplexArray, IntArray
from photonics.backend import HOST, Backend
from photonics.component import integer, number
from photonics.medium import Modes, ScatteringMedium
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.parts.reference import as_phases
from photonics.parts.seen import seen_by
from photonics.parts.sensor import full_window
from photonics.patterns.encoding import as_patterns
from photonics.random import check_seed

__all__ = ["SHORTEST_EXPOSURE_S", "Chain", "Clock"]

SHORTEST_EXPOSURE_S = 1e-6
"""Shortest exposure of a camera, seconds."""
EXPOSURE_S = 4.4e-4
"""Exposure of a device if none is given and its frames are long enough, seconds."""
MAX_MODES = 64
"""Largest number of spectral modes of a device: each costs a product, and a matrix if it is stored."""
CHUNK = 2**25
"""Pixels computed at a time, so that memory stays bounded (about 21 bytes each)."""


class Clock:
    """Counts the frames that the device has taken; several threads may take frames."""

    def __init__(self, frames: int = 0) -> None:
        self.frames = frames
        self._lock = Lock()

    def advance(self, count: int) -> IntArray:
        """Frame numbers of the next `count` frames, shape (count,); no two calls get the same."""
        with self._lock:
            first = self.frames
            self.frames = first + count
        return np.arange(first, first + count, dtype=np.int64)

    def __repr__(self) -> str:
        return f"Clock(frames={self.frames})"

    def __reduce__(self) -> tuple[type["Clock"], tuple[int]]:
        """Copies and pickles have a lock of their own."""
        return Clock, (self.frames,)


class Chain:
    """Laser, mirrors, medium, imaging and camera, the exposure, and the clock; see `photonics.OPU`."""

    def __init__(
        self,
        *,
        medium: ScatteringMedium,
        laser: Laser,
        dmd: DMD,
        imaging: Imaging,
        camera: Camera,
        seed: int,
        exposure_s: float | None,
    ) -> None:
        kinds = {"medium": ScatteringMedium, "laser": Laser, "dmd": DMD, "imaging": Imaging, "camera": Camera}
        for (name, kind), part in zip(kinds.items(), (medium, laser, dmd, imaging, camera), strict=True):
            if not isinstance(part, kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {type(part).__name__}")
        self._medium, self._laser, self._dmd, self._imaging, self._camera = medium, laser, dmd, imaging, camera
        self.seed = check_seed(seed)
        self.backend: Backend = HOST
        self.cells = dmd.cells(self.n_in)
        lit, self._shares = expand_modes(medium, laser, imaging)
        self._field = lit.shape[0], lit.modes
        self._pixels, self.window = imaging.pixels(*self._field), imaging.window(*self._field)
        if camera.is_detailed:
            self.window = self.window or full_window(imaging.sensor_of(*self._field))
            camera.check_window(self.window, imaging.sensor_of(*self._field))
        self._seen, self._optics = seen_by(imaging, *self._field)
        self._lit = lit if self._seen is None else lit.rows(self._seen.start, self._seen.stop)
        imaging.check_samples(laser.wavelength_m)
        self._unit_rate = laser.photon_rate * float(laser.power_share(self.cells).mean())
        self._efficiency = dmd.efficiency(laser.wavelength_m)
        self.clock = Clock()
        self.exposure_s = min(EXPOSURE_S, self.longest_exposure_s) if exposure_s is None else exposure_s

    # Parts are read-only: `OPU.replace` makes a new device with another part.
    @property
    def laser(self) -> Laser:
        """The laser."""
        return self._laser

    @property
    def dmd(self) -> DMD:
        """The mirrors."""
        return self._dmd

    @property
    def medium(self) -> ScatteringMedium:
        """The scattering medium."""
        return self._medium

    @property
    def imaging(self) -> Imaging:
        """The path from medium to sensor."""
        return self._imaging

    @property
    def camera(self) -> Camera:
        """The camera."""
        return self._camera

    @property
    def n_in(self) -> int:
        """Number of logical inputs."""
        return self.medium.shape[1]

    @property
    def n_out(self) -> int:
        """Number of pixels in a frame."""
        return self._pixels // self.camera.binning**2

    @property
    def entries(self) -> int:
        """Entries of the matrix that multiplies the light of a frame, over all fields that the sensor sees."""
        return self._field[0] * self.n_in

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of pixels in a frame."""
        rows, columns = self.imaging.frame(*self._field)
        return rows // self.camera.binning, columns // self.camera.binning

    @property
    def frame_period_s(self) -> float:
        """Seconds from one frame to the next, set by the slower of mirrors and camera."""
        return 1.0 / min(self.dmd.frame_rate_hz, self.camera.frame_rate_hz)

    @property
    def longest_exposure_s(self) -> float:
        """Frame period minus the settling time of the mirrors; the next pattern is loaded during the exposure."""
        return self.frame_period_s - self.dmd.settle_s

    @property
    def exposure_s(self) -> float:
        """Exposure of the camera, seconds."""
        return self._exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self._exposure_s = self.check_exposure(value)

    def check_exposure(self, value: object) -> float:
        """Return an exposure as a float; raise a ``ValueError`` if it is out of range."""
        longest = self.longest_exposure_s
        if not SHORTEST_EXPOSURE_S <= number(value) <= longest:
            raise ValueError(
                f"exposure_s must be {SHORTEST_EXPOSURE_S:g} to {longest:g} (a frame at {1.0 / self.frame_period_s:g} "
                f"Hz less {self.dmd.settle_s:g} s in which the mirrors settle), got {value!r}"
            )
        return number(value)

    @property
    def unit_dn(self) -> float:
        """DN above dark that unit intensity gives at the set exposure, from power meter and data sheets.

        ``K QE n_in throughput (photons / s on the mean input) t``, where the factor n_in is the unit of T. With
        ``E|t_ij|^2 = 1/n_in`` it is the expected mean with all inputs ON. It does not depend on the medium.
        """
        rate = self._unit_rate * self._efficiency
        share = self.n_in * self.imaging.throughput * self.camera.binning**2
        return self.camera.gain * self.camera.quantum_efficiency * share * rate * self.exposure_s

    def measure(
        self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array | None = None
    ) -> Array:
        """Show patterns one after the other and take a frame of each.

        Parameters
        ----------
        patterns : array_like of bool or 0/1, shape (batch, n_in)
            Which inputs are ON. A device that computes on a GPU (`OPU.to`) takes bool arrays of that GPU only.
        exposure_s : float, optional
            Exposure of these frames only; the device's own if not given.
        reference_phase : float or array_like, shape (batch,), optional
            Opens the shutter of the reference arm, its piezo at this phase (one for all or one each), radians.

        Returns
        -------
        array of uint8 or uint16, shape (batch, n_out)
            Digital numbers. The same seed and frame numbers give the same bits in any batch split.

        Raises
        ------
        ValueError
            If the shape is wrong, a pattern is not binary, or the exposure or a phase is out of range.
        """
        patterns = as_patterns(patterns, self.n_in, backend=self.backend)
        exposure_s = self.exposure_s if exposure_s is None else self.check_exposure(exposure_s)
        batch = patterns.shape[0]
        phases = None if reference_phase is None else as_phases(reference_phase, batch)
        chunk = max(CHUNK // max(self._lit.shape[0], self.n_in), 1)
        frames = []
        for start in range(0, max(batch, 1), chunk):
            part = slice(start, min(start + chunk, batch))
            ticks = self.clock.advance(part.stop - start)
            reference = None if phases is None else self.reference_light(phases[part], ticks, exposure_s)
            light = self.light(ticks, exposure_s)
            photons = self.mean_photons(patterns[part, :], ticks, exposure_s, light, reference)
            frames.append(self.camera.expose(photons, exposure_s, ticks, self.seed, self.window))
        return frames[0] if len(frames) == 1 else self.backend.xp.concat(frames)

    def dark(self, count: int, exposure_s: float | None = None) -> Array:
        """Frames with the laser's shutter closed: (count, n_out) digital numbers."""
        exposure_s = self.exposure_s if exposure_s is None else self.check_exposure(exposure_s)
        photons = self.backend.zeros((integer(count, "count", 0), self._pixels), "float32")
        ticks = self.clock.advance(photons.shape[0])
        return self.camera.expose(photons, exposure_s, ticks, self.seed, self.window)

    @property
    def chip_shape(self) -> tuple[int, int]:
        """Rows and columns of the chip's pixels that are read out, before binning."""
        return self.imaging.frame(*self._field)

    def light(self, ticks: IntArray, exposure_s: float, *, steady: bool = False) -> Array:
        """Field on the mirrors in the given frames, sqrt(photons / s): (batch, n_in).

        A `steady` laser has its nominal power and direction in every frame.
        """
        return (self.laser.steady() if steady else self.laser).field(
            self.cells,
            ticks,
            exposure_s=exposure_s,
            frame_period_s=self.frame_period_s,
            seed=self.seed,
            backend=self.backend,
        )

    def reference_light(self, phases: Array, ticks: IntArray, exposure_s: float, *, steady: bool = False) -> Array:
        """Field of the reference beam at the sensor with its piezo at `phases`, one per frame: (batch, n_field).

        A `steady` beam has the laser's nominal power and exactly the phase set by the piezo.
        """
        laser, reference = self.laser, self.imaging.reference
        if steady:
            laser, reference = laser.steady(), reference.steady()
        power = laser.relative_power(ticks, exposure_s, self.frame_period_s, self.seed)
        return reference.field(
            self.imaging.layout(*self._field),
            phases,
            ticks,
            unit_rate=self._unit_rate * power,
            wavelength_m=laser.wavelength_m,
            pixel_m=self.imaging.pixel_m,
            samples=self.imaging.samples_per_pixel,
            frame_period_s=self.frame_period_s,
            seed=self.seed,
            backend=self.backend,
            seen=self._seen,
        )

    def mean_photons(
        self, patterns: Array, ticks: IntArray, exposure_s: float, light: Array, reference: Array | None = None
    ) -> Array:
        """Mean photons on each pixel of the chip that is read out, (batch, n_pixels), for patterns lit by `light`.

        Parameters
        ----------
        patterns : array of bool, shape (batch, n_in)
            Which inputs are ON.
        ticks : ndarray of int64, shape (batch,)
            Frame numbers.
        exposure_s : float
            Exposure, seconds.
        light : array, shape (batch, n_in)
            Field on the mirrors, as from `light`.
        reference : array, shape (batch, n_field), optional
            Field of the reference beam, as from `reference_light`; its shutter is closed if not given.
        """
        wavelength = self.laser.wavelength_m
        field = self.dmd.modulate(patterns, light, ticks, self.frame_period_s, self.seed)
        speckle = self._lit.propagate(field, ticks)
        return self._optics.intensity(
            speckle,
            n_in=self.n_in,
            modes=self._lit.modes,
            wavelength_m=wavelength,
            reference=reference,
            shares=self._shares,
            ticks=ticks,
            frame_period_s=self.frame_period_s,
            factor=exposure_s * self._efficiency,
        )

    def effective_matrix(self, tick: int = 0) -> ComplexArray:
        """Ground truth: field per unit of mirror, (n_out, n_in), in the unit in which ``E|t_ij|^2 = 1/n_in``.

        The medium's matrix in frame `tick` times the illumination and the mirror level (ON minus OFF) of each input,
        with the surface of the mirrors of that frame. For metrics and tests only; a real bench does not have it, and
        `calibration` does not use it.

        Raises
        ------
        ValueError
            If a pixel sees several fields (a pupil or modes), there is a region of interest, or the pattern creeps.
        """
        imaging = self.imaging
        if self._lit.modes > 1 or imaging.numerical_aperture is not None or imaging.region is not None:
            raise ValueError("effective_matrix must have one field for each pixel: no pupil, no region, a single mode")
        if imaging.creeps:
            raise ValueError("effective_matrix must have a pattern that stays on the sensor: imaging.creep_m_per_s = 0")
        off, on = self.dmd.levels(self.n_in)
        weight = np.sqrt(self.laser.power_share(self.cells)) * (on - off)
        weight = weight / np.sqrt(np.mean(np.abs(weight) ** 2))
        if self.dmd.surface_moves:
            now = self.dmd.phase(self.n_in, np.asarray([tick]), self.frame_period_s, self.seed)[0]
            weight = weight * np.exp(1j * (now - self.dmd.phase(self.n_in)))
        return self.medium.block(slice(None), slice(None), tick) * weight.astype(np.complex64)


def expand_modes(
    medium: ScatteringMedium, laser: Laser, imaging: Imaging
) -> tuple[ScatteringMedium, tuple[float, ...]]:
    """Return the medium with one field per polarisation and spectral mode, and the reference's amplitude in each field.

    The weakest spectral modes, which together have 1 % of the power, are left out; this changes the contrast by at most
    1 %. The reference has one polarisation and the laser's spectrum: at zero delay its share of spectral mode n is the
    mode's own weight w_n (the eigenfunctions of `photonics.parts.laser.mode_weights` all have unit modulus at the first
    arrival), so that it interferes with the share of the speckle ``sum w_n^2 = 1 / (1 + 2 pi tau linewidth)``.

    Raises
    ------
    ValueError
        If there are more than `MAX_MODES` spectral modes.
    """
    spectral = laser.spectral_weights(medium.path_time_spread_s, tolerance=0.01)
    if len(spectral) > MAX_MODES:
        raise ValueError(
            f"path_time_s of the medium must be shorter for a line of {laser.linewidth_hz:g} Hz, so that it makes at "
            f"most {MAX_MODES} spectral modes, got {medium.path_time_spread_s:g}, {len(spectral)} modes"
        )
    weights = np.outer(np.full(imaging.polarisations, 1.0 / imaging.polarisations), spectral).ravel()
    seen = medium if len(weights) == 1 else Modes(medium, weights.tolist())
    shares = np.zeros((imaging.polarisations, len(spectral), medium.modes))
    shares[0, :, 0] = np.sqrt(spectral)
    return seen, tuple(float(share) for share in shares.ravel())
