"""Bad pixels of a device, which do not count in the other lines of its report."""

import math
from typing import NamedTuple

import numpy as np

from calibration.camera.estimate import HIDDEN, share_of
from calibration.camera.noise import NoiseModel
from calibration.camera.pixels import MAX_DARK_SHARE
from calibration.device import Device
from calibration.fields.bad_pixels import is_dead
from calibration.reports.chapters.camera import MAX_DEFECTS, hot_share
from calibration.reports.findings import Line
from photonics.arrays import BoolArray, HostArray

__all__ = ["BadPixels", "bad_pixel_lines", "find_bad_pixels"]

MAX_BAD = 5e-3
"""Share of pixels without light that is allowed above that of the data sheet: in some media pixels are dark."""
MIN_MEAN_DN = 6.0
"""Smallest mean of the frames, DN, at which a pixel that shows no light in all patterns counts as bad."""


class BadPixels(NamedTuple):
    """Bad pixels by their kind; a pixel has one kind, and arrays have the shape (n_out,)."""

    hot: BoolArray
    """Bright in the dark."""
    dead: BoolArray
    """Without light in all patterns; in a medium of few channels they may be dark."""
    stuck: BoolArray
    """One reading far above dark in all patterns, or saturated in all."""
    known: bool
    """Whether the frames have enough light to find dead and stuck pixels."""

    @property
    def bright(self) -> BoolArray:
        """Hot and stuck pixels; those without light may belong to the medium."""
        return self.hot | self.stuck

    def replace_in(self, frames: HostArray) -> HostArray:
        """Frames (batch, n_out) with the readings of hot and stuck pixels replaced by the mean of the others."""
        bad = self.bright
        if not bad.any():
            return frames
        return np.where(bad, np.rint(frames[:, ~bad].mean(axis=1, keepdims=True)), frames).astype(frames.dtype)


def find_bad_pixels(opu: Device, frames: HostArray, noise: NoiseModel, hot: BoolArray) -> BadPixels:
    """Find the bad pixels in frames of different patterns, (batch, n_out); `hot` ones are known from dark frames."""
    none = np.zeros_like(hot)
    mean = float(frames[:, ~hot].mean()) - noise.dark_dn
    full = (frames >= opu.camera.saturation_dn).all(axis=0)
    if mean <= MIN_MEAN_DN or full.all():
        return BadPixels(hot, none, none, known=False)
    same = np.asarray((frames == frames[:1]).all(axis=0))
    bright = frames[0] > noise.dark_dn + MAX_DARK_SHARE * opu.camera.saturation_dn
    stuck = ((same & bright) | full) & ~hot
    return BadPixels(hot, is_dead(frames, noise.dark_dn) & ~hot & ~stuck, stuck, known=True)


def bad_pixel_lines(opu: Device, bad: BadPixels) -> list[Line]:
    """Shares of hot and stuck pixels, and of pixels without light; not measurable in the dark.

    Of hot and stuck ones 0.1 % pass above the data sheet's share, or one pixel if that is less than `MAX_BAD` of all.
    """
    n, lines = opu.n_out, []
    least = max(MAX_DEFECTS, min(1.0 / n, MAX_BAD))
    for name, formula, found, sheet, allowed in (
        ("bad pixels", f"{bad.hot.sum()} hot and {bad.stuck.sum()} stuck of {n}", bad.bright,
         hot_share(opu.camera, opu.exposure_s), least),
        ("pixels without light", f"{bad.dead.sum()} of {n}, in all patterns", bad.dead, opu.camera.dead_share, MAX_BAD),
    ):  # fmt: skip
        share = share_of(int(found.sum()), n) if bad.known or found.any() else HIDDEN
        limit = sheet + max(allowed, 3.0 * math.sqrt(sheet / n))
        advice = "list the pixels and leave out their rows"
        lines.append(Line("speckle", name, formula, "", share.value, share.error, None, limit, advice))
    return lines
