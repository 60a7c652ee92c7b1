"""The beam: intensity and phase noise, and the response of the pixels to its uniform light (PRNU)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.beam import MIN_OFF, NEAR
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at, light_of_inputs
from calibration.twin.parameter import CannotTell, Parameter, gather, jackknife, pixel_blocks
from calibration.twin.processes import Series, fit_process
from calibration.twin.reference.fringes import MIN_FRAMES, follow_fringes, watch_fringes
from calibration.twin.sensor import Sensor, spread_of
from photonics.arrays import FloatArray, IntArray
from photonics.parts.camera import QUANTISATION

__all__ = ["PRNU", "REFERENCE", "reference_parameters"]

PRNU = "camera.prnu"
REFERENCE = "imaging.reference.intensity"
NOISE = {
    "imaging.reference.phase_jitter_rad": ("rad", "white"),
    "imaging.reference.phase_drift_rad": ("rad", "drift"),
    "imaging.reference.phase_drift_time_s": ("s", "time"),
    "imaging.reference.phase_drift_rad^2/phase_drift_time_s": ("rad^2/s", "rate"),
}
"""Parameters of the phase, their units and names in a `Process`."""
MAX_STEP_RAD = 0.7
"""Largest rms of the steps of the phase between looks that are followed: a step of half a turn is then 4.5 of it."""


def reference_parameters(
    seen: Evidence, sensor: Sensor, rate: Estimate, medium_frames: float, laser_rms: float
) -> list[Parameter]:
    """Parameters of the reference arm, and PRNU.

    Parameters
    ----------
    seen, sensor
        The frames and the camera.
    rate : Estimate
        Electrons per second of all inputs ON.
    medium_frames : float
        Correlation time of the medium's field, frames; infinite if it is not known.
    laser_rms : float
        Rms of the laser's slow drift: an error if the speckle was not taken beside the reference.
    """

    def beam() -> list[Parameter]:
        return beam_parameters(seen, sensor, rate, laser_rms)

    def phase() -> list[Parameter]:
        return phase_parameters(seen, sensor, medium_frames)

    units = {name: unit for name, (unit, _) in NOISE.items()}
    return [*gather({PRNU: "", REFERENCE: ""}, beam), *gather(units, phase)]


def beam_parameters(seen: Evidence, sensor: Sensor, rate: Estimate, laser_rms: float) -> list[Parameter]:
    """Intensity of the beam alone, and the spread of the pixels in its light."""
    beam = read_beam(seen, sensor)
    how = "spread of the pixels in the reference's light, with stains of the beam"
    found = [Parameter.find(PRNU, "", how, prnu, beam)]
    if not np.isfinite(rate.value):
        return [*found, Parameter.unknown(REFERENCE, "", CannotTell("the light of the inputs is not known"))]
    value = intensity(seen, sensor, beam, laser_rms)
    return [*found, Parameter(REFERENCE, "", value, "reference alone against half-ON patterns beside it")]


class Beam(NamedTuple):
    """Light of the reference alone."""

    image: FloatArray
    """Mean over the phases, less the level without it, DN: (n_out,)."""
    noise: float
    """Variance of a pixel of the image by the noise of the frames, DN^2."""
    unresolved: float
    """Variance of a pixel that rounding of the dark level may have made, DN^2."""
    frames: IntArray
    """Numbers of the frames."""
    pixels: IntArray
    """Live pixels that are never saturated."""
    exposure_s: float
    """Exposure of the frames, seconds."""


def read_beam(seen: Evidence, sensor: Sensor) -> Beam:
    """Read the image of the reference.

    Raises
    ------
    CannotTell
        If there are too few frames of it with all inputs OFF, or they saturate the camera.
    """
    beam = seen.laser_on & ~np.isnan(seen.phase) & (seen.on == 0)
    times, counts = np.unique(seen.exposure_s[beam], return_counts=True)
    if not len(counts) or counts.max() < MIN_FRAMES:
        raise CannotTell(f"there are fewer than {MIN_FRAMES} frames of the reference with all inputs OFF")
    time = float(times[np.argmax(counts)])
    index = np.flatnonzero(beam & seen.at(time))
    frames = seen.of(index)
    pixels = sensor.unsaturated(frames)
    if len(pixels) < 0.9 * len(sensor.pixels):
        raise CannotTell("the reference saturates the camera")
    steady, noise = without_fringes(frames, seen.phase[index], pixels)
    off = off_level(seen, sensor, time, float(seen.number[index].mean()))
    unresolved, spread = 0.0, float(off[pixels].var())
    if not sensor.dithered:  # rounding errors of the dark level look like PRNU
        unresolved = min(spread, QUANTISATION)
        off = off if spread > QUANTISATION else np.full_like(off, off[pixels].mean())
    return Beam(steady - off, noise, unresolved, index, pixels, time)


def without_fringes(frames: FloatArray, phase: FloatArray, pixels: IntArray) -> tuple[FloatArray, float]:
    """Mean frame without the fringes of leaked light, (n_out,), and the variance of a pixel of it, DN^2.

    Each pixel is fitted by ``a + b cos(phase) + c sin(phase)``. The variance is that of successive frames of equal
    phase, without fluctuations that all pixels share: a slow drift of the phase moves fringes, which the mean over the
    phases removes all the same.
    """
    design = np.stack([np.ones(len(frames)), np.cos(phase), np.sin(phase)], axis=1)
    design = design[:, : 3 if np.linalg.matrix_rank(design) == 3 else 1]
    parts = np.linalg.lstsq(design, frames, rcond=None)[0]
    left = (frames - design @ parts)[:, pixels]
    left -= left.mean(axis=1, keepdims=True)
    order = np.argsort(np.round(np.angle(np.exp(1j * phase)), 6), kind="stable")
    same = np.abs(np.diff(np.exp(1j * phase[order]))) < 1e-5
    steps = np.diff(left[order], axis=0)[same] if same.sum() >= MIN_FRAMES // 2 else left * np.sqrt(2.0)
    variance = float((steps**2).mean()) / 2.0
    return parts[0].astype(np.float32), variance * float(np.linalg.inv(design.T @ design)[0, 0])


def off_level(seen: Evidence, sensor: Sensor, time: float, number: float) -> FloatArray:
    """Level without the reference at its exposure: frames of all inputs OFF near frame `number`, or the dark level.

    The leaked light is speckle, which changes with the medium.
    """
    off = np.flatnonzero(seen.plain & (seen.on == 0) & seen.at(time) & (np.abs(seen.number - number) < NEAR))
    return seen.of(off).mean(axis=0) if len(off) >= MIN_OFF else dark_at(seen, sensor, time)


def prnu(beam: Beam) -> Estimate:
    """Relative spread of the pixels, without temporal noise."""
    image = beam.image[beam.pixels]
    variance = float(image.var(ddof=1))
    error = float(np.hypot(variance * (2.0 / image.size) ** 0.5, beam.unresolved))
    value, relative = spread_of(variance - beam.noise, error, float(image.mean()))
    return Estimate(value, value * relative)


def intensity(seen: Evidence, sensor: Sensor, beam: Beam, laser_rms: float) -> Estimate:
    """Intensity of the beam over that of all inputs ON, from pairs near the frames of the beam."""
    pairs, time = seen.pairs(), beam.exposure_s
    distance = np.abs(seen.number[pairs] - seen.number[beam.frames].mean())
    near = pairs[distance < NEAR]
    chosen = near if len(near) >= 16 else pairs
    light, noise, usable = light_of_inputs(seen, sensor, chosen)

    def ratio(pixels: IntArray) -> NDArray[np.float64]:
        return np.array([beam.image[pixels].mean() / time * seen.main_s / light[pixels].mean()])

    (value,), (error,) = jackknife(ratio, pixel_blocks(usable))
    drift = 0.0 if len(near) >= 16 else laser_rms * np.sqrt(2.0)
    clipped = float((seen.of(np.append(chosen, chosen + 1))[:, sensor.live] >= sensor.ceiling).mean())
    levels = float(beam.image[usable].mean()), float(light[usable].mean()) / 3.0
    rounding = [sensor.level_error_dn / level for level in levels]
    return Estimate(float(value), float(value * np.linalg.norm([error / value, noise, *rounding, drift + clipped])))


def phase_parameters(seen: Evidence, sensor: Sensor, medium_frames: float) -> list[Parameter]:
    """Jitter and drift of the reference's phase, from frames of one half-ON pattern with the reference."""
    process = fit_process(phase_series(seen, sensor, medium_frames))
    how = "likelihood of the phase of one pattern: white noise and an Ornstein-Uhlenbeck drift"
    return [Parameter.find(name, unit, how, process.estimate, kind) for name, (unit, kind) in NOISE.items()]


def phase_series(seen: Evidence, sensor: Sensor, medium_frames: float) -> Series:
    """Phase of the reference in each frame of the pattern that most frames with the reference show."""
    index, _, signal, angle, start = watch_fringes(seen, sensor, medium_frames)
    fringes = follow_fringes(signal, angle, start)
    beat = fringes.wave * np.exp(-1j * angle)
    noise = fringes.noise / np.mean(np.abs(beat) ** 2)
    times, values = (seen.number[index] * seen.period_s).astype(np.float64), np.unwrap(np.angle(beat))
    kept = np.arange(len(index))
    waited = np.diff(seen.number[index]) > 1
    if waited.any() and float(np.mean(np.diff(values)[waited] ** 2)) > MAX_STEP_RAD**2:
        kept = kept[: int(np.flatnonzero(waited)[0]) + 1]  # turns between the looks may have been missed
    return Series(times[kept], values[kept], noise[kept])
