"""Differences between the pixels of a camera: defect pixels, PRNU and DSNU, by EMVA 1288."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from calibration.camera.estimate import Estimate
from photonics.arrays import BoolArray, HostArray
from photonics.parts.camera import QUANTISATION

__all__ = [
    "MAX_DARK_SHARE",
    "Defects",
    "find_defects",
    "is_bad_in_dark",
    "is_bright_in_dark",
    "is_restless",
    "nonuniformity",
]

MIN_RESPONSE = 0.5
"""A pixel is dead if its response to light is under this share of the median response."""
MAX_DARK_SHARE = 0.05
"""A pixel is hot if its dark level is above the median one by over this share of the camera's range."""
MAX_DARK_SPREADS = 8.0
"""It is also above by over this many standard deviations of the levels, which noise is in a camera of a small range."""

MAX_DARK_VARIANCE = 16.0
"""A pixel blinks if the variance of its dark frames is over this many times the median one."""
BLINK_CHANCE = 1e-9
"""It is also above by more than noise makes once in so many pixels, which counts with few dark frames."""


class Defects(NamedTuple):
    """Pixels that are left out of the camera's figures. EMVA 1288 leaves the definition to the user."""

    dead: BoolArray
    """Pixels of less than half of the median response to light: (n_pixels,)."""
    hot: BoolArray
    """Pixels that are bright in the dark (`is_bright_in_dark`) or blink (`is_restless`): (n_pixels,)."""

    @property
    def good(self) -> BoolArray:
        """All other pixels."""
        return ~(self.dead | self.hot)


def is_bright_in_dark(dark: HostArray, range_dn: float) -> BoolArray:
    """Whether the level of a pixel in dark frames is far above the median one: (count, n_pixels) -> (n_pixels,).

    Far is `MAX_DARK_SHARE` of the camera's range in DN, and `MAX_DARK_SPREADS` standard deviations of the levels, which
    are taken from their median distance.
    """
    if not dark.size:
        return np.zeros(dark.shape[-1], np.bool_)
    level = dark.mean(axis=0, dtype=np.float64)
    above = level - np.median(level)
    spread = 1.4826 * float(np.median(np.abs(above)))
    return np.asarray(above > max(MAX_DARK_SHARE * range_dn, MAX_DARK_SPREADS * spread))


def is_restless(dark: HostArray) -> BoolArray:
    """Whether the readings of a pixel in dark frames blink, as random telegraph noise does: (count, n) -> (n,).

    The variance over the frames is compared with the median one, which is at least that of rounding
    (`MAX_DARK_VARIANCE`). False for all with a single frame.
    """
    count = len(dark)
    if count < 2 or not dark.size:
        return np.zeros(dark.shape[-1], np.bool_)
    variance = dark.var(axis=0, ddof=1, dtype=np.float64)
    noise = float(chdtri(count - 1, BLINK_CHANCE)) / (count - 1)
    return np.asarray(variance > max(MAX_DARK_VARIANCE, noise) * max(float(np.median(variance)), QUANTISATION))


def is_bad_in_dark(dark: HostArray, range_dn: float) -> BoolArray:
    """Whether a pixel is bright or blinks in dark frames: (count, n_pixels) -> (n_pixels,)."""
    return is_bright_in_dark(dark, range_dn) | is_restless(dark)


def find_defects(light: NDArray[np.float64], dark: NDArray[np.float64], range_dn: float) -> Defects:
    """Find dead and hot pixels in stacks of frames at half of saturation and in the dark: (count, n_pixels)."""
    response = light.mean(axis=0) - dark.mean(axis=0)
    hot = is_bad_in_dark(dark, range_dn)
    return Defects(~hot & (response < MIN_RESPONSE * np.median(response)), hot)


def nonuniformity(light: NDArray[np.float64], dark: NDArray[np.float64], gain: float) -> tuple[Estimate, Estimate]:
    """PRNU (relative) and DSNU (electrons) from averages over frames, temporal noise subtracted.

    Parameters
    ----------
    light, dark : ndarray, shape (count, n_pixels)
        Frames at half of saturation and in the dark, DN.
    gain : float
        DN per electron.
    """
    stacks, (count, pixels) = (light, dark), light.shape
    spatial = [s.mean(axis=0).var(ddof=1) - s.var(axis=0, ddof=1).mean() / count for s in stacks]
    signal = float(light.mean() - dark.mean()) or np.nan  # without any, PRNU is not known
    dsnu = np.sqrt(max(spatial[1], 0.0)) / gain
    prnu = np.sqrt(max(spatial[0] - spatial[1], 0.0)) / signal
    errors = [s.mean(axis=0).var(ddof=1) / np.sqrt(2.0 * pixels) for s in stacks]
    return (
        Estimate(float(prnu), float(errors[0] / max(prnu, 1e-9) / signal**2)),
        Estimate(float(dsnu), float(errors[1] / max(dsnu, 1e-9) / gain**2)),
    )
