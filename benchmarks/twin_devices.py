"""Hidden devices with parameters drawn wide, and what a bench shows of them: frames, and a data sheet."""

from dataclasses import replace

import numpy as np

from calibration.device import Wrapper
from calibration.twin.light import LEAKAGE, RATE
from calibration.twin.reference.interference import fringe_contrast
from calibration.twin.reference.tilt import CONTRAST, TILT
from calibration.twin.speckle import half_on_covariance
from photonics import DMD, OPU, Camera, GaussianMedium, Imaging, Laser, Reference
from photonics.arrays import IntArray
from photonics.medium import Ballistic, Drifting
from photonics.parts.camera import nonuniformity

__all__ = ["Bench", "hidden", "tilted", "truth"]


def hidden(seed: int, n_in: int | None = None, pixels: int | None = None, flawed: bool = True) -> OPU:
    """Draw a device; its exposure suits half-ON patterns. `flawed` is whether its camera may have further flaws."""
    random = np.random.default_rng(1000 + seed)
    uniform = random.uniform

    def log(low: float, high: float) -> float:
        return float(10 ** random.uniform(low, high))

    inputs, outputs = int(random.choice([64, 128, 256])), int(random.choice([400, 1024, 2025]))
    n_in, pixels = n_in or inputs, pixels or outputs
    bits, well = int(random.choice([8, 8, 8, 10, 12])), log(3.7, 4.5)
    offset = float(uniform(0.015, 0.04)) * 2**bits
    camera = Camera(
        bit_depth=bits,
        full_well_e=well,
        offset_dn=offset,
        gain_dn_per_e=float(uniform(0.7, 1.5)) * (2**bits - 1 - offset) / well,
        read_noise_e=log(0.2, 1.3),
        dark_current_e_per_s=log(1, 3.5),
        prnu=log(-2.3, -1.3),
        dsnu_e=log(-0.3, 1),
        dead_pixels=log(-3, -2),
        quantum_efficiency=float(uniform(0.3, 0.9)),
        seed=seed + 7,
    )
    laser = Laser(
        rin_db_per_hz=float(uniform(-120, -75)),
        drift_rms=log(-2.3, -1.3),
        drift_time_s=log(0, 4),
        beam_radius_m=float(uniform(1.5e-3, 8e-3)),
    )
    stuck = 10 ** uniform(-3.5, -2)
    dmd = DMD(contrast=log(1.7, 3.3), stuck_fraction=float(random.choice([0.0, stuck])), seed=seed + 3)
    wide, grain = bool(random.random() < 0.4), float(uniform(1.0, 2.5))
    medium = Drifting(GaussianMedium(n_in, pixels * (4 if wide else 1), seed=seed), log(4.3, 8.5), seed=seed)
    ratio = float(uniform(0.01, 0.2)) if random.random() < 0.5 else 0.0
    beam = Reference(
        intensity=log(-0.5, 0.5),
        phase_jitter_rad=log(-2, -0.5),
        phase_drift_rad=float(uniform(0.1, 2)),
        phase_drift_time_s=log(-0.5, 2.5),
    )
    imaging = Imaging(
        throughput=6.4e-7 / n_in * log(-0.3, 0.4),
        numerical_aperture=laser.wavelength_m / (2 * 5.5e-6 * grain) if wide else None,
        sensor=(int(pixels**0.5), int(pixels**0.5)),
        polarisations=1 if random.random() < 0.5 else 2,
        reference=beam,
    )
    camera = with_flaws(camera, random) if flawed else camera
    whole = Ballistic(medium, ratio) if ratio and not wide else medium
    opu = OPU(medium=whole, laser=laser, dmd=dmd, imaging=imaging, camera=camera, seed=seed + 11)
    opu.autoexpose(0.5)
    return opu


def tilted(opu: OPU, seed: int) -> OPU:
    """Return a device with a random tilt of the reference: up to 0.4 cycles of the fringes per pixel on each axis."""
    carrier = np.random.default_rng(77000 + seed).uniform(-0.4, 0.4, 2)
    angles = np.arcsin(carrier * opu.laser.wavelength_m / opu.imaging.pixel_m)
    return opu.replace(**{name: float(angle) for name, angle in zip(TILT, angles, strict=True)})


def with_flaws(camera: Camera, random: np.random.Generator) -> Camera:
    """A third of the cameras has noise of rows and columns, a third hot pixels, and a third a curved response."""
    flawed, (row, column), (share, current), bend = (
        random.random(3) < 1.0 / 3.0,
        camera.read_noise_e * random.uniform(0.2, 1.0, 2),
        10.0 ** random.uniform((-2.3, 3.5), (-1.5, 5.0)),
        random.uniform(-0.15, 0.15),
    )
    if flawed[0]:
        camera = replace(camera, row_noise_e=float(row), column_noise_e=float(column))
    if flawed[1]:
        camera = replace(camera, hot_pixels=float(share), hot_current_e_per_s=float(current))
    return replace(camera, nonlinearity=float(bend)) if flawed[2] else camera


class Bench(Wrapper):
    """A device as a bench shows it: frames, and data sheets with the geometry and otherwise typical values."""

    def __init__(self, opu: OPU) -> None:
        super().__init__(opu)
        chip, camera = DMD(), Camera(bit_depth=opu.camera.bit_depth)
        self._dmd, self._camera, self._laser = chip, camera, Laser()
        self._imaging = Imaging(sensor=opu.imaging.sensor)

    @property
    def laser(self) -> Laser:
        """Data sheet of the laser."""
        return self._laser

    @property
    def dmd(self) -> DMD:
        """Data sheet of the mirrors."""
        return self._dmd

    @property
    def imaging(self) -> Imaging:
        """Data sheet of the optics."""
        return self._imaging

    @property
    def camera(self) -> Camera:
        """Data sheet of the camera."""
        return self._camera

    def to_dict(self) -> dict[str, object]:
        """The data sheets."""
        return OPU(
            medium=GaussianMedium(self.n_in, self.n_out),
            laser=self._laser,
            dmd=self._dmd,
            imaging=self._imaging,
            camera=self._camera,
        ).to_dict()

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        """Frames of patterns."""
        return self.device.measure(patterns, exposure_s, reference_phase=reference_phase)

    def dark(self, count, exposure_s=None):
        """Frames without light."""
        return self.device.dark(count, exposure_s)


def truth(opu: OPU, ticks: IntArray | None = None) -> dict[str, float]:
    """True value of each parameter of a twin, NaN where the device has none; the light is that of frames `ticks`."""
    camera, laser, dmd, imaging = opu.camera, opu.laser, opu.dmd, opu.imaging
    off, on = dmd.levels(opu.n_in)
    leak = float(np.mean(np.abs(off) ** 2) / np.mean(np.abs(on) ** 2))  # a stuck mirror is one of a few inputs
    medium, ratio = opu.medium, 0.0
    if isinstance(medium, Ballistic):
        medium, ratio = medium.medium, medium.ratio
    response, offsets = nonuniformity(camera, opu.n_out, None)
    live = response[response > 0]
    power = (
        laser.photon_rate * float(laser.power_share(dmd.cells(opu.n_in)).mean()) * dmd.efficiency(laser.wavelength_m)
    )
    if ticks is not None:
        slow = replace(laser, rin_db_per_hz=None)
        power *= float(slow.relative_power(ticks, opu.exposure_s, opu.frame_period_s, opu.seed).mean())
    rin = -400.0 if laser.rin_db_per_hz is None else laser.rin_db_per_hz
    beam = imaging.reference
    contrast = imaging.contrast(None, laser.wavelength_m)
    if ratio:  # without a pupil
        contrast = float(half_on_covariance(1.0, ratio, imaging.polarisations)) ** 0.5
    return {
        "camera.offset_dn": camera.offset,
        "camera.gain_dn_per_e": camera.gain,
        "camera.read_noise_e": camera.read_noise_e,
        "camera.dark_current_e_per_s": camera.dark_current_e_per_s,
        "camera.dsnu_e": float(offsets.std()),
        "camera.full_well_e": camera.full_well_e,
        "camera.dead_pixels": camera.dead_pixels,
        "camera.hot_pixels": camera.hot_pixels or np.nan,
        "camera.hot_current_e_per_s": camera.hot_current_e_per_s if camera.hot_pixels else np.nan,
        "camera.row_noise_e": camera.row_noise_e or np.nan,
        "camera.column_noise_e": camera.column_noise_e or np.nan,
        "camera.nonlinearity/full_well_e": camera.nonlinearity / camera.full_well_e or np.nan,
        "camera.prnu": float(live.std() / live.mean()),
        RATE: opu.n_in * power * imaging.throughput * camera.quantum_efficiency,
        LEAKAGE: leak,
        "laser.beam_radius_m": laser.beam_radius_m or np.inf,
        "laser.rin_db_per_hz": rin,
        "laser.drift_rms": laser.drift_rms,
        "laser.drift_time_s": laser.drift_time_s,
        "laser.drift_rms^2/drift_time_s": laser.drift_rms**2 / laser.drift_time_s,
        "speckle contrast": contrast,
        "medium.ratio": ratio,
        "medium.correlation_frames": medium.correlation_frames if isinstance(medium, Drifting) else np.inf,
        "imaging.numerical_aperture": imaging.numerical_aperture or np.nan,
        "imaging.polarisations": imaging.polarisations,
        CONTRAST: fringe_contrast(imaging, laser.wavelength_m, imaging.polarisations),
        TILT[0]: beam.angle_x_rad,
        TILT[1]: beam.angle_y_rad,
        "imaging.reference.intensity": beam.intensity,
        "imaging.reference.phase_jitter_rad": beam.phase_jitter_rad,
        "imaging.reference.phase_drift_rad": beam.phase_drift_rad,
        "imaging.reference.phase_drift_time_s": beam.phase_drift_time_s,
        "imaging.reference.phase_drift_rad^2/phase_drift_time_s": beam.phase_drift_rad**2 / beam.phase_drift_time_s,
    }
