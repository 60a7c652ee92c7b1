"""Maps of the pixels of a bench from its frames, and flaws of its camera that a twin does not have."""

import warnings
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at
from calibration.twin.parameter import CannotTell
from calibration.twin.reference import prnu, read_beam
from calibration.twin.sensor import Sensor, spread_of
from calibration.twin.speckle import layout
from photonics.arrays import BoolArray, FloatArray, IntArray, Shapes
from photonics.parts.camera import QUANTISATION, Camera

__all__ = ["PixelMaps", "check_camera", "read_maps"]

GAINS = (0.5, 2.0)
"""Smallest and largest gain in a map of a `Camera`."""
SURE = 6.0
"""Standard errors by which a flaw is told."""
MIN_SHARED = 0.1
"""Smallest share of the variance of dark frames that whole rows or columns have in common, to be told."""
MIN_BEND = 0.02
"""Smallest deviation from a linear response at the full well that is told."""
MIN_PIXELS, MIN_STRETCH = 64, 1.5
"""Pixels, and ratio of two exposures, from which the response is judged."""


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
        changes: dict[str, object] = {"bad_pixel_map": self.bad.reshape(self.shape), "dead_pixels": 0.0}
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


def check_camera(seen: Evidence, sensor: Sensor, shape: tuple[int, int]) -> None:
    """Warn of flaws of the camera that a twin does not have, and which of its parameters contain them."""
    told: list[str] = []
    if min(shape) > 1:
        for name, shared in shared_noise(seen, shape)._asdict().items():
            if shared.value > max(SURE * shared.error, MIN_SHARED * sensor.floor_dn2):
                rms = shared.value**0.5 / sensor.gain.value
                told.append(f"{name} of dark frames fluctuate together by {rms:.2g} e- rms: camera.read_noise_e has it")
    if len(hot := hot_pixels(seen, sensor)):
        many = f"{len(hot)} pixels ({', '.join(map(str, hot[:8]))}{', ...' * (len(hot) > 8)})"
        told.append(f"{many} are hot: dark current and camera.dsnu_e have their level, or dead_pixels their number")
    bend = nonlinearity(seen, sensor)
    if abs(bend.value) > max(SURE * bend.error, MIN_BEND):
        told.append(
            f"the response is {bend.value:+.1%} ({bend.error:.1%} s.e.) off a straight line at the full well: "
            "gain and full well are wrong by up to as much"
        )
    for flaw in told:
        warnings.warn(f"{flaw}; the twin has no such flaw but that of the data sheet", stacklevel=3)


class Lines(NamedTuple):
    """Temporal variance that the pixels of a row, and those of a column, have in common, DN^2."""

    rows: Estimate
    columns: Estimate


def shared_noise(seen: Evidence, shape: tuple[int, int]) -> Lines:
    """Variance of dark frames that whole rows or columns share, from the products of their pixels."""
    stacks = [seen.of(index).astype(np.float64) for _, index in seen.dark() if len(index) > 1]
    apart = np.concatenate([(stack - stack.mean(axis=0)) * (len(stack) / (len(stack) - 1)) ** 0.5 for stack in stacks])
    images = apart.reshape(-1, *shape)
    found = []
    for axis in (2, 1):
        size = images.shape[axis]
        products = (images.sum(axis=axis) ** 2 - (images**2).sum(axis=axis)).mean(axis=1) / (size * (size - 1))
        found.append(Estimate(float(products.mean()), float(products.std() / len(products) ** 0.5)))
    return Lines(*found)


def hot_pixels(seen: Evidence, sensor: Sensor) -> IntArray:
    """Pixels whose dark level grows with the exposure by far more than that of the others."""
    (_, short), (_, long) = seen.dark()[0], seen.dark()[-1]
    grown = seen.of(long).mean(axis=0) - seen.of(short).mean(axis=0)
    noise = (max(sensor.floor_dn2, QUANTISATION) * (1.0 / len(long) + 1.0 / len(short))) ** 0.5
    return np.flatnonzero(grown - np.median(grown) > SURE * noise + 2.0 * sensor.level_error_dn)


def nonlinearity(seen: Evidence, sensor: Sensor) -> Estimate:
    """Relative deviation from a linear response at the full well, from frames of all inputs ON at two exposures.

    The speckle moves a little between the frames, which draws pixels to the mean: that is linear in the signal, and
    only the curve counts. NaN if there are too few frames or pixels.
    """
    ones = seen.plain & (seen.on == seen.n_in)
    main, long = np.flatnonzero(ones & seen.at(seen.main_s)), np.flatnonzero(ones & (seen.exposure_s > seen.main_s))
    unknown = Estimate(float("nan"), float("nan"))
    if not len(main) or not len(long):
        return unknown
    long_s = float(seen.exposure_s[long[0]])
    main = main[np.argsort(np.abs(seen.number[main] - seen.number[long].mean()), kind="stable")[: len(long)]]
    stretch, full = long_s / seen.main_s, sensor.ceiling - float(np.median(sensor.level))
    one = seen.of(main).mean(axis=0) - dark_at(seen, sensor, seen.main_s)
    other = (seen.of(long).mean(axis=0) - dark_at(seen, sensor, long_s)) / np.float32(stretch)
    signal = (one + other).astype(np.float64) / 2.0
    pixels = np.flatnonzero(sensor.live & (signal * stretch < 0.8 * full))
    if stretch < MIN_STRETCH or len(pixels) < MIN_PIXELS:
        return unknown
    x, y = signal[pixels], (other - one)[pixels].astype(np.float64)
    weight = 1.0 / np.sqrt(QUANTISATION + sensor.floor_dn2 + sensor.gain.value * np.maximum(x, 0.0) + (0.02 * x) ** 2)
    design: NDArray[np.float64] = np.stack([np.ones_like(x), x, x**2], axis=1) * weight[:, None]
    inverse = np.linalg.pinv(design)
    bend = inverse @ (y * weight)
    left = y * weight - design @ bend
    error = float(np.sqrt((inverse[2] ** 2 * left**2).sum() * len(x) / (len(x) - 3)))
    scale = full / (stretch - 1.0)
    return Estimate(float(bend[2] * scale), error * scale)
