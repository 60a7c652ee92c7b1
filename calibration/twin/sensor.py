"""The camera: dark level, gain, noise, well, dark current and defect pixels, from dark frames and bursts."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.camera.bursts import Burst, burst_of, fit_line, has_grains
from calibration.camera.dark_current import level_before_rounding
from calibration.camera.estimate import Estimate
from calibration.camera.photon_transfer import MIN_DARK_NOISE_DN
from calibration.camera.pixels import find_defects
from calibration.twin.beam import beam_radius, likely_radius, pointing
from calibration.twin.evidence import MIN_DARK_FRAMES, Evidence
from calibration.twin.parameter import CannotTell, Parameter, estimate_if_seen, jackknife, pixel_blocks
from photonics.arrays import BoolArray, FloatArray, IntArray, Shapes
from photonics.parts.camera import QUANTISATION

__all__ = ["Sensor", "camera_parameters", "read_sensor", "spread_of"]

MAX_SATURATED = 0.02
"""Largest share of saturated readings among half-ON patterns."""
MIN_PATTERNS = 64
"""Smallest number of half-ON patterns for a fit."""
MIN_RESPONSE = 0.15
"""A pixel is dead if its mean signal over half-ON patterns is under this share of the mean over pixels. A quarter of
the mean signal is that of the speckle with all inputs ON, so that good pixels go down to half of it and less."""
MIN_PROOF = 0.01
"""Share of readings at the highest code that proves saturation if that code is below the last one."""
SURE = 6.0
"""Standard errors by which a pixel is hot."""
MIN_LIGHT_DN = 2.0
"""Smallest mean signal of half-ON patterns for a fit, DN."""
ROUNDING_DN = 0.29
"""Error of a level whose noise rounding hides, DN: the standard deviation of rounding."""


NONE = Estimate(0.0, 0.0)


@dataclass(frozen=True, eq=False, repr=False)
class Sensor(Shapes):
    """What the other estimators need of the camera; arrays have shape (n_out,)."""

    level: FloatArray
    """Mean dark frame at the longest exposure, DN."""
    floor_dn2: float
    """Temporal variance of dark frames with that of rounding, DN^2."""
    offset: Estimate
    """Mean dark level at the shortest exposure, DN."""
    gain: Estimate
    """DN per electron."""
    read_dn2: Estimate
    """Temporal variance without light and rounding, DN^2."""
    ceiling: float
    """Code from which a reading is saturated."""
    live: BoolArray
    """Pixels that respond to light and are not hot."""
    hot: BoolArray
    """Pixels whose dark level grows with the exposure by far more than that of the others."""
    signal_dn: float
    """Mean signal of half-ON patterns on live pixels at the main exposure, DN."""
    shared_dn2: float = 0.0
    """Variance of the mean of a frame by noise of whole rows and columns, DN^2; not right if rounding hides it."""

    @property
    def dithered(self) -> bool:
        """Whether the dark noise is half a code or more, so that averages resolve fractions of a code."""
        return self.floor_dn2 - QUANTISATION >= MIN_DARK_NOISE_DN**2

    @property
    def level_error_dn(self) -> float:
        """Error of the mean dark level that all pixels share, DN: that of rounding if the noise does not resolve it."""
        return 0.0 if self.dithered else ROUNDING_DN

    @cached_property
    def pixels(self) -> IntArray:
        """Numbers of the live pixels."""
        return np.flatnonzero(self.live)

    def unsaturated(self, frames: FloatArray) -> IntArray:
        """Live pixels that no frame saturates."""
        return np.flatnonzero(self.live & (frames.max(axis=0) < self.ceiling))

    def variance(self, signal_dn: FloatArray) -> FloatArray:
        """Temporal variance of a reading with this signal, DN^2."""
        return np.float32(self.floor_dn2) + np.float32(self.gain.value) * np.maximum(signal_dn, np.float32(0.0))


def read_sensor(seen: Evidence) -> Sensor:
    """Measure the camera.

    Raises
    ------
    ValueError
        If there are too few dark frames, patterns or bursts, or too little or too much light.
    """
    dark = seen.dark()
    counts = max((len(index) for _, index in dark), default=0)
    if counts < MIN_DARK_FRAMES:
        raise ValueError(f"recording must have {MIN_DARK_FRAMES} dark frames of one exposure or more, got {counts}")
    lit = np.flatnonzero(seen.half & seen.at(seen.main_s)) if seen.half.any() else np.zeros(0, int)
    lit = lit[np.unique(seen.name[lit], return_index=True)[1]]  # one frame of each pattern
    if len(lit) < MIN_PATTERNS:
        raise ValueError(f"recording must have {MIN_PATTERNS} half-ON patterns of one exposure or more, got {len(lit)}")
    stack, light = seen.of(dark[-1][1]).astype(np.float64), seen.of(lit).astype(np.float64)
    level, ceiling = stack.mean(axis=0), ceiling_of(seen)
    hot = hot_pixels(seen, stack)
    odd = hot | find_defects(light, stack, ceiling - float(np.median(level))).hot
    response = light.mean(axis=0) - level
    live = ~odd & (response > MIN_RESPONSE * max(float(response[~odd].mean()), 0.0))
    signal = float((light - level)[:, live].mean()) if live.any() else 0.0
    check_light(signal, float((light[:, live] >= ceiling).mean()) if live.any() else 0.0, seen.main_s)
    offset = level_of(seen.of(dark[0][1]).astype(np.float64)[:, live])
    floor = float(stack[:, live].var(axis=0, ddof=1).mean())
    resolved = floor - QUANTISATION >= MIN_DARK_NOISE_DN**2
    radius = radius_of(seen, live, ceiling, 0.0 if resolved else ROUNDING_DN)
    gain, read = noise_of(seen, level, offset, live, ceiling, radius)
    return Sensor(level.astype(np.float32), floor, offset, gain, read, ceiling, live, hot, signal)


def hot_pixels(seen: Evidence, longest: NDArray[np.float64]) -> BoolArray:
    """Pixels whose dark level grows with the exposure far more than that of the others; `longest` are dark frames."""
    grown, least = dark_growth(seen, longest)
    return grown > least


def dark_growth(seen: Evidence, longest: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Growth of the dark level with the exposure less its median, (n_out,), and from which on a pixel is hot, DN.

    Where noise does not dither the codes, equal growths may be one code apart.
    """
    shortest = seen.of(seen.dark()[0][1])
    grown = longest.mean(axis=0) - shortest.mean(axis=0)
    floor = max(float(np.median(longest.var(axis=0, ddof=1))), QUANTISATION)
    noise = (floor * (1.0 / len(longest) + 1.0 / len(shortest))) ** 0.5
    dithered = floor - QUANTISATION >= MIN_DARK_NOISE_DN**2
    return grown - np.median(grown), SURE * noise + (0.0 if dithered else 1.0)


def check_light(signal_dn: float, saturated: float, exposure_s: float) -> None:
    """Raise a ``ValueError`` if half-ON patterns are too dark or too bright for a fit."""
    if saturated > MAX_SATURATED:
        raise ValueError(
            f"exposure_s must be shorter: {saturated:.0%} of the readings of half-ON patterns are saturated at "
            f"{exposure_s:.3g} s, at most {MAX_SATURATED:.0%} may be (OPU.autoexpose sets it)"
        )
    if not signal_dn >= MIN_LIGHT_DN:
        raise ValueError(
            f"exposure_s must be longer, or the light stronger: half-ON patterns are {signal_dn:.2g} DN above dark at "
            f"{exposure_s:.3g} s, {MIN_LIGHT_DN:g} DN are needed"
        )


def ceiling_of(seen: Evidence) -> float:
    """Code of a saturated pixel: the last code, or a lower one that many of the brightest readings have."""
    highest = float(seen.frames.max())
    if highest >= seen.top:
        return seen.top
    brightest = max(frames_of_runs(seen), key=lambda run: float(seen.of(run).mean()), default=np.zeros(0, int))
    proved = len(brightest) and (seen.of(brightest) == highest).mean() > MIN_PROOF
    return highest if proved else seen.top


def frames_of_runs(seen: Evidence) -> list[IntArray]:
    """Frames of all inputs ON by their exposure, and all half-ON patterns."""
    ones = seen.plain & (seen.on == seen.n_in)
    return [np.flatnonzero(ones & seen.at(float(time))) for time in np.unique(seen.exposure_s[ones])]


def level_of(frames: NDArray[np.float64]) -> Estimate:
    """Mean dark level; corrected for rounding where the noise allows it."""
    mean, spread = float(frames.mean()), float(frames.var())
    level = level_before_rounding(mean, spread)
    if not np.isfinite(level):
        return Estimate(mean, ROUNDING_DN)
    fixed = float(frames.mean(axis=0).var()) / frames.shape[1]
    return Estimate(level, float(np.sqrt(fixed + spread / frames.size)))


def radius_of(seen: Evidence, live: BoolArray, ceiling: float, rounding_dn: float) -> float | None:
    """Radius of the beam, metres: fitted, or that of the data sheet within what the frames allow; None if uniform."""
    try:
        return likely_radius(seen, beam_radius(seen, np.flatnonzero(live), ceiling, rounding_dn).value, 0.0)
    except CannotTell as reason:
        return likely_radius(seen, np.nan, reason.least)


def noise_of(
    seen: Evidence,
    level: NDArray[np.float64],
    offset: Estimate,
    live: BoolArray,
    ceiling: float,
    radius_m: float | None,
) -> tuple[Estimate, Estimate]:
    """Gain, and the variance that is left without light: a line through the variance against the mean of bursts.

    The pointing of the laser adds a variance in proportion to the square of the light. Frames do not tell it apart from
    shot noise: that of the data sheet is subtracted, and all of it is an error.
    """
    bursts = [
        burst_of(seen.of(index), level, live, ceiling, pointing(seen, seen.patterns[index[0]], radius_m)[1])
        for index in seen.bursts()
    ]
    bursts = [less_rounding(seen, burst) for burst in bursts if burst.usable.any()]
    if len(bursts) < 3:
        raise ValueError(f"recording must have 3 bursts of one pattern (16 frames in a row) or more, got {len(bursts)}")

    grains = has_grains(bursts)

    def line(pixels: IntArray) -> NDArray[np.float64]:
        return fit_line(bursts, pixels, grains)

    (gain, floor), errors = jackknife(line, pixel_blocks(np.flatnonzero(live)))
    shaken = fit_line(bursts, np.flatnonzero(live), grains, pointing=0.0) - (gain, floor)
    gain_error, floor_error = np.hypot(errors, shaken)
    if not gain > 4.0 * gain_error:
        raise ValueError(
            f"recording must show shot noise: the gain is {gain:.2g} DN per electron with an error of "
            f"{gain_error:.2g}; use more light, more bits or longer bursts"
        )
    read = Estimate(float(floor - QUANTISATION), float(np.hypot(floor_error, gain * offset.error)))
    return Estimate(float(gain), float(gain_error)), read


def less_rounding(seen: Evidence, burst: Burst) -> Burst:
    """A burst without what rounding adds where a curve that was taken out has stretched the codes."""
    if not np.isfinite(seen.curve.value):
        return burst
    stretch = 1.0 / (1.0 + 2.0 * seen.curve.value * burst.signal)
    return replace(burst, variance=(burst.variance - QUANTISATION * (stretch**2 - 1.0)).astype(np.float32))


def camera_parameters(seen: Evidence, sensor: Sensor, lines_e2: Estimate = NONE) -> list[Parameter]:
    """Parameters of the camera; what 8 bits hide is unknown. `lines_e2` is the variance of rows and columns."""
    offset = Estimate(
        sensor.offset.value, float(np.hypot(sensor.offset.error, (sensor.shared_dn2 / len(seen.dark()[0][1])) ** 0.5))
    )
    found = [
        Parameter("camera.offset_dn", "DN", offset, "mean of dark frames at the shortest exposure"),
        Parameter(
            "camera.gain_dn_per_e", "DN/e-", sensor.gain, "variance against mean of bursts, extrapolated to lag 0"
        ),
    ]
    how = "variance of dark frames, or of bursts extrapolated to no light"
    found.append(Parameter.find("camera.read_noise_e", "e-", how, read_noise, seen, sensor, lines_e2))
    for name, unit, how, estimate in (
        ("dark_current_e_per_s", "e-/s", "dark frames at the longest against the shortest exposure", dark_current),
        ("dsnu_e", "e-", "spread of the pixels in the mean dark frame", dsnu),
        ("full_well_e", "e-", "code at which readings stop below the last one", full_well),
        ("dead_pixels", "", f"pixels with less than {MIN_RESPONSE} of the mean response", dead_pixels),
    ):
        found.append(Parameter.find(f"camera.{name}", unit, how, estimate, seen, sensor))
    return found


def spread_of(variance: float, error: float, scale: float) -> tuple[float, float]:
    """Standard deviation over `scale` and its relative error, from a variance and its error.

    Raises
    ------
    CannotTell
        If the variance is less than two standard errors above zero.
    """
    if variance <= 2.0 * error:
        most = (max(variance, 0.0) + 2.0 * error) ** 0.5 / scale
        raise CannotTell(f"the noise of the frames hides it: at most {most:.3g} (2 s.e.)", most=most)
    return float(variance**0.5 / scale), float(error / variance / 2.0)


def read_noise(seen: Evidence, sensor: Sensor, lines_e2: Estimate) -> Estimate:
    """Read noise of single pixels, electrons rms; `lines_e2` is that of whole rows and columns, squared."""
    gain = sensor.gain
    variance, error = sensor.read_dn2.value / gain.value**2, sensor.read_dn2.error / gain.value**2
    if sensor.dithered:
        shortest = seen.of(seen.dark()[0][1])[:, sensor.live].var(axis=0, ddof=1)
        variance = (float(shortest.mean()) - QUANTISATION) / gain.value**2
        error = float(shortest.std()) / np.sqrt(shortest.size) / gain.value**2
        error = float(np.hypot(error, 2.0 * variance * gain.error / gain.value))
    if not np.isfinite(lines_e2.error):
        most = (max(variance, 0.0) + 2.0 * error) ** 0.5
        raise CannotTell(f"noise of rows and columns, which rounding hides, is in it: at most {most:.3g} e-", most=most)
    variance, error = variance - lines_e2.value, float(np.hypot(error, lines_e2.error))
    if variance < 2.0 * error:
        most = (max(variance, 0.0) + 2.0 * error) ** 0.5
        raise CannotTell(f"the noise of the light and rounding hide it: at most {most:.3g} e- (2 s.e.)", most=most)
    return Estimate(float(variance**0.5), float(error / (2.0 * variance**0.5)))


def dark_current(seen: Evidence, sensor: Sensor) -> Estimate:
    """Dark current, electrons per second."""
    dark = seen.dark()
    (short_s, short), (long_s, long) = dark[0], dark[-1]
    if len(dark) < 2 or not sensor.dithered:
        raise CannotTell("rounding hides it" if len(dark) > 1 else "there are dark frames at one exposure only")
    steps = seen.of(long)[:, sensor.live].mean(axis=0) - seen.of(short)[:, sensor.live].mean(axis=0)
    scale = sensor.gain.value * (long_s - short_s)
    shared = sensor.shared_dn2 * (1.0 / len(short) + 1.0 / len(long))
    error = np.sqrt(float(steps.var()) / steps.size + shared)
    return estimate_if_seen(steps.mean() / scale, error / scale, "it")


def dsnu(seen: Evidence, sensor: Sensor) -> Estimate:
    """Dark signal non-uniformity, electrons."""
    if not sensor.dithered:
        raise CannotTell("rounding hides it")
    frames = seen.of(seen.dark()[-1][1])[:, sensor.live]
    mean = frames.mean(axis=0)
    square = float(mean.var(ddof=1)) - sensor.floor_dn2 / len(frames)
    gain = sensor.gain
    value, relative = spread_of(square, float(mean.var()) * (2.0 / mean.size) ** 0.5, gain.value)
    return Estimate(value, value * float(np.hypot(relative, gain.error / gain.value)))


def full_well(seen: Evidence, sensor: Sensor) -> Estimate:
    """Full well, electrons."""
    well = (sensor.ceiling - sensor.offset.value) / sensor.gain.value
    if sensor.ceiling >= seen.top:
        least = (float(seen.frames.max()) - sensor.offset.value) / sensor.gain.value
        raise CannotTell(f"no reading shows it below the last code: at least {least:.4g} e-", least=least)
    error = np.hypot(well * sensor.gain.error, np.hypot(ROUNDING_DN, sensor.offset.error)) / sensor.gain.value
    return Estimate(float(well), float(error))


def dead_pixels(seen: Evidence, sensor: Sensor) -> Estimate:
    """Share of pixels that do not respond to light, counted; the error is that of a place on the chip."""
    count = int((~sensor.live & ~sensor.hot).sum())
    return Estimate(count / seen.n_out, max(count, 1) ** 0.5 / seen.n_out)
