"""Maps of the pixels of a bench: offset, gain and bad pixels, from its frames."""

from dataclasses import dataclass, replace

import numpy as np

from calibration.twin.evidence import Evidence
from calibration.twin.parameter import CannotTell
from calibration.twin.reference import prnu, read_beam
from calibration.twin.sensor import Sensor, spread_of
from calibration.twin.speckle import layout
from photonics.arrays import BoolArray, FloatArray, Shapes
from photonics.parts.camera import Camera

__all__ = ["PixelMaps", "read_maps"]

GAINS = (0.5, 2.0)
"""Smallest and largest gain in a map of a `Camera`."""


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
