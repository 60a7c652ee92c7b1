"""The optics of a device: the light on the mirrors and at the camera, in any frame. Nothing here has a state."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.backend import HOST, Backend
from photonics.medium import Modes, ScatteringMedium
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.random import check_seed

__all__ = ["Chain"]

MOST_MODES = 64
"""Spectral modes above which a device is refused: each costs a product, and a matrix where it is stored."""


class Chain:
    """Laser, mirrors, medium, imaging and camera, and the light between them; see `photonics.OPU`."""

    def __init__(
        self, medium: ScatteringMedium, laser: Laser, dmd: DMD, imaging: Imaging, camera: Camera, seed: int
    ) -> None:
        kinds = {"medium": ScatteringMedium, "laser": Laser, "dmd": DMD, "imaging": Imaging, "camera": Camera}
        for (name, kind), part in zip(kinds.items(), (medium, laser, dmd, imaging, camera), strict=True):
            if not isinstance(part, kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {type(part).__name__}")
        self._medium, self._laser, self._dmd, self._imaging, self._camera = medium, laser, dmd, imaging, camera
        self.seed = check_seed(seed)
        self.backend: Backend = HOST
        self.cells = dmd.cells(self.n_in)
        self._lit, self._shares = lit(medium, laser, imaging)
        self._n_out = imaging.pixels(self._lit.shape[0], self._lit.modes)
        imaging.check_samples(laser.wavelength_m)
        self._unit_rate = laser.photon_rate * float(laser.power_share(self.cells).mean())

    # Parts are read-only: a device with another part is another device, made by `replace`.
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
        return self._n_out

    @property
    def entries(self) -> int:
        """Entries of the matrix that light passes in a frame: of all fields that the sensor sees."""
        return self._lit.shape[0] * self._lit.shape[1]

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of pixels in a frame."""
        return self.imaging.frame(self._lit.shape[0], self._lit.modes)

    @property
    def frame_period_s(self) -> float:
        """Seconds from one frame to the next: the slower of mirrors and camera leads."""
        return 1.0 / min(self.dmd.frame_rate_hz, self.camera.frame_rate_hz)

    @property
    def longest_exposure_s(self) -> float:
        """Frame period less the time in which the mirrors settle; the next pattern is loaded during the exposure."""
        return self.frame_period_s - self.dmd.settle_s

    def light(self, ticks: NDArray[np.int64], exposure_s: float) -> Any:
        """Field on the mirrors in the given frames, sqrt(photons / s): (batch, n_in)."""
        return self.laser.field(
            self.cells,
            ticks,
            exposure_s=exposure_s,
            frame_period_s=self.frame_period_s,
            seed=self.seed,
            backend=self.backend,
        )

    def mean_photons(
        self, patterns: Any, ticks: NDArray[np.int64], exposure_s: float, light: Any, phases: Any = None
    ) -> Any:
        """Mean photons on each pixel, (batch, n_out), for patterns lit by `light`, with the reference at `phases`."""
        period, wavelength = self.frame_period_s, self.laser.wavelength_m
        field = self.dmd.modulate(patterns, light, ticks, period, self.seed)
        speckle = self._lit.propagate(field, ticks)
        reference = None
        if phases is not None:
            power = self.laser.relative_power(ticks, exposure_s, period, self.seed)
            reference = self.imaging.reference.field(
                self.imaging.layout(self._lit.shape[0], self._lit.modes),
                phases,
                ticks,
                unit_rate=self._unit_rate * power,
                wavelength_m=wavelength,
                pixel_m=self.imaging.pixel_m,
                samples=self.imaging.samples_per_pixel,
                frame_period_s=period,
                seed=self.seed,
                backend=self.backend,
            )
        rate = self.imaging.intensity(
            speckle, modes=self._lit.modes, wavelength_m=wavelength, reference=reference, shares=self._shares
        )
        rate *= exposure_s * self.dmd.efficiency(wavelength)
        return rate

    def effective_matrix(self, tick: int = 0) -> NDArray[np.complex64]:
        """Ground truth: field per unit of mirror, (n_out, n_in), in the unit in which ``E|t_ij|^2 = 1/n_in``.

        The medium's matrix in frame `tick` times illumination and mirror levels (ON minus OFF) of each input, the
        surface of the mirrors as it is then. For metrics and tests; a bench cannot know it, and `calibration` does not
        look.

        Raises
        ------
        ValueError
            If no such matrix exists, because a pixel sees several fields: a pupil, modes or a region of interest.
        """
        if self._lit.modes > 1 or self.imaging.numerical_aperture is not None or self.imaging.region is not None:
            raise ValueError("effective_matrix must have one field for each pixel: no pupil, no region, a single mode")
        off, on = self.dmd.levels(self.n_in)
        weight = np.sqrt(self.laser.power_share(self.cells)) * (on - off)
        weight = weight / np.sqrt(np.mean(np.abs(weight) ** 2))
        if self.dmd.aberration_drift_waves:
            now = self.dmd.phase(self.n_in, np.asarray([tick]), self.frame_period_s, self.seed)[0]
            weight = weight * np.exp(1j * (now - self.dmd.phase(self.n_in)))
        return self.medium.block(slice(None), slice(None), tick) * weight.astype(np.complex64)


def lit(medium: ScatteringMedium, laser: Laser, imaging: Imaging) -> tuple[ScatteringMedium, tuple[float, ...]]:
    """Return the medium as this light and this sensor see it, and the reference's amplitude in each of its modes.

    There is one field for each polarisation and spectral mode; spectral modes that hold 1 % of the power together are
    left out, which changes the contrast by 1 % at most. The reference has one polarisation and the laser's spectrum: at
    zero delay its share of spectral mode n is the mode's own weight w_n (the eigenfunctions of
    `photonics.parts.laser.mode_weights` all have unit modulus at the first arrival), so that the share of the speckle
    that it interferes with is ``sum w_n^2 = 1 / (1 + 2 pi tau linewidth)``.

    Raises
    ------
    ValueError
        If there are more than `MOST_MODES` modes.
    """
    spectral = laser.spectral_weights(medium.path_time_s, tolerance=0.01)
    if len(spectral) > MOST_MODES:
        raise ValueError(
            f"path_time_s of the medium must be shorter for a line of {laser.linewidth_hz:g} Hz, so that it makes at "
            f"most {MOST_MODES} spectral modes, got {medium.path_time_s:g}, {len(spectral)} modes"
        )
    weights = np.outer(np.full(imaging.polarisations, 1.0 / imaging.polarisations), spectral).ravel()
    seen = medium if len(weights) == 1 else Modes(medium, weights)
    shares = np.zeros((imaging.polarisations, len(spectral), medium.modes))
    shares[0, :, 0] = np.sqrt(spectral)
    return seen, tuple(float(share) for share in shares.ravel())
