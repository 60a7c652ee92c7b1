"""Sound devices drawn wide, and devices with a planted fault, for `benchmarks.verdicts`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from calibration.camera.photon_transfer import uniform_light
from calibration.device import Device, Wrapper
from photonics import OPU, Drifting, ScatteringLayers, presets
from photonics.arrays import Array, HostArray
from photonics.parts.camera import Camera
from photonics.parts.reference import Reference
from tests.calibration.faults import FAULTS

__all__ = ["FAULTY", "Case", "faulty", "sound"]

PROJECTIONS = ("anchor", "phase-stepping", "off-axis", "multilateration")
MATRICES = ("phase-stepping", "numerical-interferometry", "phase-retrieval", "popoff", "off-axis")
PRESETS = ("lab_bench", "lighton_aurora", "ideal")
SIDE = 24
"""Rows and columns of the sensor behind a pupil, pixels."""


class Case(NamedTuple):
    """A device and how it is characterised."""

    device: Device
    method: str
    matrix: str


@dataclass
class Faulty(Wrapper):
    """The frames of one device, with a fault, and the data sheets of another."""

    device: OPU
    """The device whose data sheets are known."""
    real: OPU
    """The device that takes the frames."""
    frames: Callable[[HostArray, int], HostArray] | None = None
    """Change of frames (batch, n_out), given the number of the first one."""
    dark_too: bool = False
    """Whether `frames` changes dark frames and uniform light, too."""
    patterns: Callable[[HostArray], HostArray] | None = None
    """Change of patterns on their way to the mirrors."""
    phases: Callable[[HostArray], HostArray] | None = None
    """Change of the phases on their way to the reference's mirror."""

    def __post_init__(self) -> None:
        self.light, self.taken = uniform_light(self.real.camera), 0

    @property
    def clock(self) -> Any:
        """Counts the frames of the real device."""
        return self.real.clock

    @property
    def exposure_s(self) -> float:
        """Exposure, seconds."""
        return self.device.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self.device.exposure_s = self.real.exposure_s = value

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> HostArray:
        """Frames of patterns."""
        shown = np.asarray(patterns) if self.patterns is None else self.patterns(np.asarray(patterns))
        if reference_phase is not None and self.phases is not None:
            reference_phase = self.phases(np.asarray(reference_phase, np.float64))
        return self._change(np.asarray(self.real.measure(shown, exposure_s, reference_phase=reference_phase)))

    def dark(self, count: int, exposure_s: float | None = None) -> HostArray:
        """Dark frames."""
        frames = np.asarray(self.real.dark(count, exposure_s))
        return self._change(frames) if self.dark_too else frames

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> HostArray:
        """Frames of uniform light."""
        frames = self.light.uniform(photons, exposure_s, count, pixels)
        return self._change(frames) if self.dark_too else frames

    def _change(self, frames: HostArray) -> HostArray:
        start, self.taken = self.taken, self.taken + len(frames)
        if self.frames is None:
            return frames
        return np.asarray(self.frames(frames, start)).astype(frames.dtype)


def sound(seed: int, method: str = "") -> Case:
    """A device without faults: preset, sizes, camera, laser, medium and, unless given, methods follow from the seed."""
    draw = np.random.default_rng(seed)
    matrix = MATRICES[seed % (len(MATRICES) - bool(method))]  # the last one, off-axis, has a bench of its own
    method = method or PROJECTIONS[seed % len(PROJECTIONS)]
    if "off-axis" in (method, matrix):
        method = matrix = "off-axis"
    preset = PRESETS[int(draw.integers(3))]
    least = 80 if method == "multilateration" or matrix == "popoff" else 24  # they leave some inputs out
    n_in = int(draw.integers(least, 129))
    n_out = 4 * SIDE * SIDE if method == "off-axis" else int(draw.integers(300, 1001))
    opu = getattr(presets, preset)(n_in, n_out, seed=seed)
    if preset != "ideal":
        opu = vary(opu, draw)
    if method == "off-axis":
        opu = tilt(opu, band=draw.uniform(0.05, 0.1))
    elif draw.random() < 0.3:
        opu = opu.replace(medium=ScatteringLayers(n_in, n_out, seed=seed, layers=4))
    opu.autoexpose()
    return Case(opu, method, matrix)


def vary(opu: OPU, draw: np.random.Generator) -> OPU:
    """The device with another camera, and as much light as fills its well."""
    camera = Camera(
        bit_depth=int(draw.choice([8, 10, 12])),
        full_well_e=float(np.exp(draw.uniform(np.log(5e3), np.log(3e4)))),
        read_noise_e=draw.uniform(1.0, 6.0),
        dark_current_e_per_s=draw.uniform(5.0, 60.0),
        quantum_efficiency=draw.uniform(0.4, 0.8),
        prnu=draw.uniform(0.003, 0.02),
        dsnu_e=draw.uniform(0.5, 2.0),
        frame_rate_hz=opu.camera.frame_rate_hz,
        seed=opu.camera.seed,
    )
    light = camera.full_well_e / camera.quantum_efficiency / (opu.camera.full_well_e / opu.camera.quantum_efficiency)
    laser = replace(opu.laser, drift_rms=draw.uniform(0.001, 0.005))
    return opu.replace(
        camera=camera, laser=laser, imaging=replace(opu.imaging, throughput=opu.imaging.throughput * light)
    )


def tilt(opu: OPU, band: float, tilted: float = 1.0) -> OPU:
    """The device behind a pupil of this band, in cycles per pixel, with the reference tilted along both axes."""
    cycles = opu.laser.wavelength_m / opu.imaging.pixel_m
    angle = math.asin(round(0.34 * SIDE) / SIDE * cycles) * tilted
    return opu.replace(
        imaging=replace(
            opu.imaging,
            numerical_aperture=band * cycles,
            samples=2,
            sensor=(SIDE, SIDE),
            reference=Reference(angle_x_rad=angle, angle_y_rad=angle),
        )
    )


def bench(seed: int, pixels: int = 400) -> OPU:
    """The sound device of the faults: `lab_bench` with 48 inputs."""
    opu = presets.lab_bench(48, pixels, seed=seed)
    opu.autoexpose()
    return opu


def twins(seed: int, **changes: Any) -> Faulty:
    """A bench by its data sheet, and the same bench with some parameters changed."""
    sheet = bench(seed)
    real = sheet.replace(exposure_s=sheet.exposure_s, **changes)
    return Faulty(sheet, real)


def changed(seed: int, frames: Callable[[HostArray, int], HostArray], dark_too: bool) -> Faulty:
    """A bench whose frames are changed."""
    return Faulty(bench(seed), bench(seed), frames=frames, dark_too=dark_too)


def off_axis(seed: int, real: Callable[[OPU], OPU]) -> Faulty:
    """A tilted bench whose real optics differ from its data sheet."""
    plain = bench(seed, 4 * SIDE * SIDE)
    sheet, other = tilt(plain, 0.08), real(plain)
    sheet.autoexpose()
    return Faulty(sheet, other.replace(exposure_s=sheet.exposure_s))


def hot(step: int, level: int) -> Callable[[HostArray, int], HostArray]:
    """Raise one in `step` pixels to a code at least."""

    def change(frames: HostArray, _: int) -> HostArray:
        frames = np.array(frames)
        frames[:, ::step] = np.maximum(frames[:, ::step], level)
        return frames

    return change


def drifting(seed: int) -> Faulty:
    """A medium whose correlation time is 1000 frames."""
    sheet = bench(seed)
    medium = Drifting(sheet.medium, correlation_frames=1000, seed=seed)
    return Faulty(sheet, sheet.replace(medium=medium, exposure_s=sheet.exposure_s))


def swap_steps(phases: HostArray) -> HostArray:
    """The second and the third of four steps exchanged."""
    quarter = np.round(phases / (0.5 * np.pi)) % 4
    return np.where(quarter == 1, 1.0, np.where(quarter == 2, 0.5, quarter * 0.5)) * np.pi


def swap_inputs(patterns: HostArray) -> HostArray:
    """The first two inputs exchanged."""
    return patterns[:, [1, 0, *range(2, patterns.shape[1])]]


def of(build: Callable[[int], Faulty], method: str = "phase-stepping") -> Callable[[int], Case]:
    """The case of a fault, by a method that is used for projections and for the matrix."""
    return lambda seed: Case(build(seed), method, method)


FAULTY: dict[str, Callable[[int], Case]] = {
    "dead pixels, 2 %": of(lambda s: twins(s, **{"camera.dead_pixels": 0.02})),
    "hot pixels, 1 %, 255 DN": of(lambda s: changed(s, hot(100, 255), True)),
    "hot pixels, 0.3 %, 240 DN": of(lambda s: changed(s, hot(333, 240), True)),
    "hot pixels, 0.3 %, 5000 e-/s": of(lambda s: twins(s, **{"camera.hot_pixels": 0.003})),
    "pixels stuck at 240 DN in light only, 0.5 %": of(lambda s: changed(s, hot(200, 240), False)),
    "gain 10 % above the data sheet": of(lambda s: twins(s, **{"camera.gain_dn_per_e": 1.1 * bench(s).camera.gain})),
    "PRNU of 5 %, 1 % by the data sheet": of(lambda s: twins(s, **{"camera.prnu": 0.05})),
    "camera that is not linear, 10 % at the top": of(lambda s: changed(s, FAULTS["a camera that is not linear"], True)),
    "camera that clips at 240 of 255 DN": of(lambda s: changed(s, FAULTS["a camera that clips at 240 DN"], True)),
    "laser drift of 5 % in 0.2 s": of(lambda s: twins(s, **{"laser.drift_rms": 0.05, "laser.drift_time_s": 0.2})),
    "laser drift of 5 % in 5 s": of(lambda s: twins(s, **{"laser.drift_rms": 0.05, "laser.drift_time_s": 5.0})),
    "laser drift of 5 % in an hour": of(lambda s: twins(s, **{"laser.drift_rms": 0.05})),
    "medium that decorrelates in 1000 frames": of(drifting),
    "reference phase jitter of 0.3 rad": of(lambda s: twins(s, **{"imaging.reference.phase_jitter_rad": 0.3})),
    "two of four phase steps swapped": of(lambda s: Faulty(bench(s), bench(s), phases=swap_steps)),
    "phase steps 5 % short": of(lambda s: Faulty(bench(s), bench(s), phases=lambda phases: 0.95 * phases)),
    "frames one pattern late": of(lambda s: Faulty(bench(s), bench(s), patterns=lambda x: np.roll(x, 1, axis=0))),
    "stray light that changes, 0 to 10 DN": of(lambda s: changed(s, FAULTS["stray light that changes"], False)),
    "stuck mirrors, 5 %": of(lambda s: twins(s, **{"dmd.stuck_fraction": 0.05})),
    "mirror contrast of 20, 1000 by the data sheet": of(lambda s: twins(s, **{"dmd.contrast": 20.0})),
    "off-axis: tilt 5 % above the data sheet": of(
        lambda s: off_axis(s, lambda plain: tilt(plain, 0.08, tilted=1.05)), "off-axis"
    ),
    "off-axis: aperture 30 % above the data sheet": of(
        lambda s: off_axis(s, lambda plain: tilt(plain, 0.104)), "off-axis"
    ),
    "two inputs swapped": of(lambda s: Faulty(bench(s), bench(s), patterns=swap_inputs)),
}
"""Devices with a fault, by its name."""


def faulty(name: str, seed: int) -> Case:
    """A device with the fault of this name."""
    return FAULTY[name](seed)
