"""Maps of the pixels of a bench, and what a camera may have beyond the linear model: lines, hot pixels, a curve."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import HIDDEN, Estimate
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at
from calibration.twin.parameter import CannotTell, Parameter, gather
from calibration.twin.reference.arm import prnu, read_beam
from calibration.twin.sensor import ROUNDING_DN, Sensor, dark_growth, read_sensor, spread_of
from calibration.twin.speckle import layout
from photonics.arrays import BoolArray, FloatArray, IntArray, Shapes
from photonics.parts.camera import QUANTISATION, Camera

__all__ = [
    "CURVE",
    "SURE",
    "Lines",
    "PixelMaps",
    "curve_of",
    "defect_parameters",
    "line_parameters",
    "read_maps",
    "shared_noise",
    "take_out_curve",
    "unclear_lines",
    "variance_of_mean",
    "variance_of_pixel",
]

GAINS = (0.5, 2.0)
"""Smallest and largest gain in a map of a `Camera`."""
SURE = 4.0
"""Standard errors from which on a curve is taken out of the codes, and noise of lines is no chance."""
HOT = {"camera.hot_pixels": "", "camera.hot_current_e_per_s": "e-/s"}
"""Parameters of hot pixels, and their units."""
CURVE = "camera.nonlinearity/full_well_e"
"""The curve of the response per electron; the nonlinearity alone needs the full well, which frames may not show."""
MAX_ROUNDED = 0.1
"""Largest relative error by rounding with which noise of rows and columns is known."""
HIDES = "rounding hides how large it is"
ROUNDS = 3
"""Rounds in which the curve of the response is found."""
MIN_PIXELS, MIN_STRETCH = 64, 1.5
"""Pixels, and ratio of two exposures, from which the response is judged."""
MIN_VARIANCE_DN2 = 0.03
"""Variance of a reading from which rounding shifts its mean by less than 0.2 DN."""
MIN_READ_DN2, BEND_BY_ROUNDING = 0.06, 0.03
"""Variance of the read noise under which rounding bends the response, and by how much of the full well, rms: measured
on 9 of 60 hidden devices with 8 bits; the other 11 whose curve was found were right within 1.1 standard errors."""
NEAR_TOP_DN = 1.0
"""Distance from saturation within which no reading may be for that."""


@dataclass(frozen=True, eq=False, repr=False)
class PixelMaps(Shapes):
    """Maps of the pixels in a frame, row by row; None where the frames do not tell them."""

    shape: tuple[int, int]
    """Rows and columns of a frame."""
    bad: BoolArray
    """Pixels that do not respond to light, or are hot: (n_out,)."""
    offset_dn: FloatArray | None = None
    """Dark level of each pixel less that of the good ones, DN: (n_out,)."""
    offset_error_dn: float = 0.0
    """Standard error of an entry, DN."""
    gain: FloatArray | None = None
    """Response of each pixel over its mean: (n_out,)."""
    gain_error: float = 0.0
    """Standard error of an entry."""

    def camera(self, camera: Camera) -> Camera:
        """Return a camera with these maps in place of pixels drawn at random."""
        changes: dict[str, object] = {
            "bad_pixel_map": self.bad.reshape(self.shape),
            "dead_pixels": 0.0,
            "hot_pixels": 0.0,
        }
        if self.offset_dn is not None:
            changes |= {"offset_map": self.offset_dn.reshape(self.shape), "dsnu_e": 0.0}
        if self.gain is not None:
            changes |= {"gain_map": self.gain.reshape(self.shape), "prnu": 0.0}
        return replace(camera, **changes)

    def draw(self, random: np.random.Generator) -> "PixelMaps":
        """Return maps drawn from their errors."""
        drawn = []
        for values, error in ((self.offset_dn, self.offset_error_dn), (self.gain, self.gain_error)):
            noise = error * random.standard_normal(len(self.bad), np.float32)
            drawn.append(None if values is None else values + np.float32(1.0) * noise)
        gain = None if drawn[1] is None else np.clip(drawn[1], *GAINS)
        return replace(self, offset_dn=drawn[0], gain=gain)


def read_maps(seen: Evidence, sensor: Sensor) -> PixelMaps:
    """Read the maps.

    Noise of a mean frame makes its spread over the pixels too large. Each map is therefore drawn towards its mean by
    the share of noise in its variance, which makes the expected error smallest (N. Wiener, *Extrapolation,
    Interpolation, and Smoothing of Stationary Time Series*, MIT Press 1949).
    """
    maps = PixelMaps(layout(seen), ~sensor.live)
    try:
        offset, error = shrink(sensor.level, sensor.live, sensor.floor_dn2 / len(seen.dark()[-1][1]), sensor.dithered)
        # Hot pixels are far from the others; their level is that of the frames.
        offset = np.where(sensor.live, offset, sensor.level - sensor.level[sensor.live].mean())
        maps = replace(maps, offset_dn=offset.astype(np.float32), offset_error_dn=error)
    except CannotTell:
        pass
    try:
        beam = read_beam(seen, sensor)
        prnu(beam)
        usable = np.zeros(seen.n_out, bool)
        usable[beam.pixels] = True
        mean = float(beam.image[usable].mean())
        gain, error = shrink(beam.image / mean, usable, (beam.noise + beam.unresolved) / mean**2, True)
        gain = np.clip(np.where(usable, 1.0 + gain, 1.0), *GAINS)
        maps = replace(maps, gain=gain.astype(np.float32), gain_error=error)
    except CannotTell:
        pass
    return maps


def shrink(values: FloatArray, good: BoolArray, noise: float, resolved: bool) -> tuple[FloatArray, float]:
    """Deviation of each pixel from the mean of the good ones, and its standard error, from values with some noise.

    Raises
    ------
    CannotTell
        If rounding or the noise hides the spread of the pixels.
    """
    if not resolved:
        raise CannotTell("rounding hides it")
    apart = values - values[good].mean()
    variance = float(apart[good].var(ddof=1))
    spread_of(variance - noise, variance * (2.0 / good.sum()) ** 0.5, 1.0)
    kept = 1.0 - noise / variance
    return apart * np.float32(kept), float(np.sqrt(kept * noise))


def take_out_curve(seen: Evidence, sensor: Sensor) -> tuple[Evidence, Sensor]:
    """Return frames of a linear camera, and what is measured of it, in place of those of a curved response."""
    curve, codes = curve_of(seen, sensor), seen
    if not abs(curve.value) > SURE * curve.error:
        return seen, sensor
    value, error = curve.value, float(np.hypot(curve.error, rounding_of_curve(sensor)))
    for _ in range(ROUNDS):  # the estimate is right to first order
        seen = codes.straight(Estimate(value, error), sensor.offset.value)
        value += curve_of(seen, replace(sensor, ceiling=float(seen.straighten(sensor.ceiling)))).value
    straight = [codes.straight(Estimate(c, error), sensor.offset.value) for c in (value, value + error)]
    sensor, other = (read_sensor(each) for each in straight)
    gain, read = sensor.gain, sensor.read_dn2
    shift = other.read_dn2.value * (gain.value / other.gain.value) ** 2 - read.value  # that of the noise in electrons
    gain = Estimate(gain.value, float(np.hypot(gain.error, other.gain.value - gain.value)))
    return straight[0], replace(sensor, gain=gain, read_dn2=Estimate(read.value, float(np.hypot(read.error, shift))))


class Lines(NamedTuple):
    """Temporal variance that the pixels of a row, and those of a column, have in common, DN^2."""

    row: Estimate
    column: Estimate


def line_parameters(shared: Lines, sensor: Sensor) -> list[Parameter]:
    """Noise of whole rows and columns."""
    return [line_noise(name, estimate, sensor) for name, estimate in shared._asdict().items()]


def unclear_lines(parameters: Iterable[Parameter]) -> list[str]:
    """Names of the noise of rows or columns that dark frames have, but rounding hides how large it is."""
    return [p.name for p in parameters if p.how == HIDES and not np.isfinite(p.most)]


def variance_of_pixel(lines: Sequence[Parameter]) -> Estimate:
    """Variance of a pixel by the noise of its row and column, e-^2; its error is infinite if rounding hides some."""
    known = [p.estimate for p in lines if p.known]
    error = sum((2.0 * one.value * one.error) ** 2 for one in known) ** 0.5
    return Estimate(sum(one.value**2 for one in known), np.inf if unclear_lines(lines) else error)


def variance_of_mean(shared: Lines, shape: tuple[int, int]) -> float:
    """Variance of the mean of a frame by the noise of whole rows and columns, DN^2."""
    found = zip(shared, shape, strict=True)
    return sum(one.value / count for one, count in found if one.value > 2.0 * one.error)


def defect_parameters(seen: Evidence, sensor: Sensor) -> list[Parameter]:
    """Hot pixels, and the curve of the response."""
    hot = gather(HOT, lambda: hot_parameters(seen, sensor))
    return [*hot, Parameter.find(CURVE, "1/e-", "frames of one pattern at two exposures", curve, seen, sensor)]


def line_noise(name: str, shared: Estimate, sensor: Sensor) -> Parameter:
    """Noise that whole rows or columns have in common, from its variance in DN^2.

    Rounding of readings with a normal noise of s DN multiplies a small shift by 1 to within ``2 exp(-2 pi^2 s^2)``
    (B. Widrow and I. Kollar, *Quantization Noise*, Cambridge 2008), which is part of the error.
    """
    gain = sensor.gain

    def find() -> Estimate:
        if not np.isfinite(shared.error):
            raise CannotTell("the frame is one line of pixels")
        rounded = 2.0 * float(np.exp(-2.0 * np.pi**2 * max(sensor.floor_dn2 - QUANTISATION, 0.0)))
        if rounded > MAX_ROUNDED:
            unclear = shared.value > SURE * shared.error
            raise CannotTell(HIDES, most=np.inf if unclear else ROUNDING_DN / gain.value)
        value, relative = spread_of(shared.value, shared.error, gain.value)
        return Estimate(value, value * float(np.linalg.norm([relative, gain.error / gain.value, rounded])))

    return Parameter.find(f"camera.{name}_noise_e", "e-", "products of two pixels of a line in dark frames", find)


def hot_parameters(seen: Evidence, sensor: Sensor) -> list[Parameter]:
    """Share of hot pixels and the mean of their further dark current, of an exponential law.

    Of such a law the excess over a threshold has the same mean, so that pixels too dim to be told are allowed for.
    Those that saturate count as censored (J. F. Lawless, *Statistical Models and Methods for Lifetime Data*, 2003).
    """
    (short_s, _), (long_s, long) = seen.dark()[0], seen.dark()[-1]
    frames = seen.of(long).astype(np.float64)
    further, least = dark_growth(seen, frames)
    full: BoolArray = np.max(frames, axis=0) >= sensor.ceiling
    told = further[sensor.hot]
    if not told.size:
        raise CannotTell("no pixel is hot", most=3.0 / seen.n_out)
    if full[sensor.hot].all():
        raise CannotTell("all hot pixels saturate", least=told.size / seen.n_out)
    count, counted = told.size, int((~full[sensor.hot]).sum())
    mean = float((told - least).sum()) / counted
    if least > 2.0 * mean:
        raise CannotTell("hot pixels are too dim to tell how many there are", least=count / seen.n_out)
    share = min(count * float(np.exp(least / mean)) / seen.n_out, 1.0)
    scale = sensor.gain.value * (long_s - short_s)
    current, apart = Estimate(mean / scale, mean / scale / counted**0.5), np.hypot(1.0, least / mean)
    how = "dark frames at the longest against the shortest exposure"
    estimates = Estimate(share, float(share * apart / count**0.5)), current
    return [Parameter(name, unit, one, how) for (name, unit), one in zip(HOT.items(), estimates, strict=True)]


def curve(seen: Evidence, sensor: Sensor) -> Estimate:
    """Curve of the response per electron: that which was taken out of the codes, or what they allow."""
    found, gain = seen.curve, sensor.gain
    if np.isfinite(found.value):
        return Estimate(found.value * gain.value, float(np.hypot(found.error * gain.value, found.value * gain.error)))
    found = curve_of(seen, sensor)
    if not np.isfinite(found.error):
        raise CannotTell("no pattern is seen at two exposures by enough pixels")
    error = float(np.hypot(found.error, rounding_of_curve(sensor)))
    least, most = ((found.value + side * 2.0 * error) * gain.value for side in (-1.0, 1.0))
    raise CannotTell(f"it is straight: {least:.2g} to {most:.2g} (2 s.e.)", least=min(least, 0.0), most=max(most, 0.0))


def shared_noise(seen: Evidence, shape: tuple[int, int]) -> Lines:
    """Variance of dark frames that whole rows or columns share, from the products of their pixels.

    It is the noise of rows and columns of EMVA 1288 release 4.0, section 8.3, from single frames. NaN of a single line.
    """
    if min(shape) < 2:
        return Lines(HIDDEN, HIDDEN)
    stacks = [seen.of(index).astype(np.float64) for _, index in seen.dark() if len(index) > 1]
    apart = np.concatenate([(stack - stack.mean(axis=0)) * (len(stack) / (len(stack) - 1)) ** 0.5 for stack in stacks])
    images = apart.reshape(-1, *shape)
    found = []
    for axis in (2, 1):
        size = images.shape[axis]
        products = (images.sum(axis=axis) ** 2 - (images**2).sum(axis=axis)).mean(axis=1) / (size * (size - 1))
        found.append(Estimate(float(products.mean()), float(products.std() / len(products) ** 0.5)))
    return Lines(*found)


def curve_of(seen: Evidence, sensor: Sensor) -> Estimate:
    """Curve c of the response ``y = s + c s^2``, 1/DN, with s the signal of a linear camera in DN.

    Frames of one pattern at two exposures, whose ratio is r, tell it: the light of each pixel is ``s`` and ``r s``, so
    that ``y' / r - y = c (r - 1) s^2`` (EMVA 1288 release 4.0, section 6.6, takes a straight line through many
    exposures). Speckle and power that change between the frames draw pixels to the mean or scale them; that is linear
    in the signal, and only the curve counts. NaN if there are too few frames or pixels.
    """
    found = [curve_of_two(seen, sensor, one, other) for one, other in two_exposures(seen)]
    values, errors = np.array([(e.value, e.error) for e in found if np.isfinite(e.error)]).reshape(-1, 2).T
    if not len(values):
        return HIDDEN
    weights = errors**-2.0 / (errors**-2.0).sum()
    mean = float(weights @ values)
    spread = (weights**2 @ (values - mean) ** 2 * len(values) / max(len(values) - 1, 1)) ** 0.5
    return Estimate(mean, float(max(spread, (weights**2 @ errors**2) ** 0.5)))


def rounding_of_curve(sensor: Sensor) -> float:
    """Error of a curve by rounding, 1/DN, where the read noise is too small to smooth it."""
    if sensor.read_dn2.value > MIN_READ_DN2:
        return 0.0
    return BEND_BY_ROUNDING / (sensor.ceiling - float(np.median(sensor.level)))


def two_exposures(seen: Evidence) -> list[tuple[IntArray, IntArray]]:
    """Frames of a pattern at the main exposure and next to them at another one, at least `MIN_STRETCH` apart."""
    found = []
    for name in np.unique(seen.name[seen.plain & (seen.on > 0) & ~seen.at(seen.main_s)]):
        mine = seen.plain & (seen.name == name)
        main = np.flatnonzero(mine & seen.at(seen.main_s))
        for other_s in np.unique(seen.exposure_s[mine]):
            other = np.flatnonzero(mine & seen.at(float(other_s)))
            if len(main) and max(other_s / seen.main_s, seen.main_s / other_s) >= MIN_STRETCH:
                near = np.argsort(np.abs(seen.number[main] - seen.number[other].mean()), kind="stable")
                found.append((main[near[: len(other)]], other))
    return found


def curve_of_two(seen: Evidence, sensor: Sensor, one: IntArray, other: IntArray) -> Estimate:
    """Curve of the response from frames of one pattern at two exposures."""
    low, high = sorted((one, other), key=lambda index: float(seen.exposure_s[index[0]]))
    low_s, high_s = (float(seen.exposure_s[index[0]]) for index in (low, high))
    ratio = high_s / low_s
    y_low = seen.of(low).mean(axis=0) - dark_at(seen, sensor, low_s)
    frames = seen.of(high)
    y_high = frames.mean(axis=0) - dark_at(seen, sensor, high_s)
    level = y_high.astype(np.float64)
    dithered = sensor.variance(y_low) - QUANTISATION > MIN_VARIANCE_DN2
    near = (frames >= sensor.ceiling - NEAR_TOP_DN).any(axis=0)
    pixels = np.flatnonzero(sensor.live & ~near & dithered)
    if len(pixels) < MIN_PIXELS:
        return HIDDEN
    x, y = level[pixels] / ratio, (y_high / np.float32(ratio) - y_low)[pixels].astype(np.float64)
    noise = QUANTISATION + sensor.floor_dn2 + sensor.gain.value * np.maximum(x, 0.0)
    weight = 1.0 / np.sqrt(noise / len(low) + (0.02 * x) ** 2)
    design: NDArray[np.float64] = np.stack([np.ones_like(x), x, x**2], axis=1) * weight[:, None]
    inverse = np.linalg.pinv(design)
    bend = inverse @ (y * weight)
    left = y * weight - design @ bend
    error = float(np.sqrt((inverse[2] ** 2 * left**2).sum() * len(x) / (len(x) - 3)))
    scale = 1.0 / (ratio - 1.0)
    return Estimate(float(bend[2] * scale), error * scale)
