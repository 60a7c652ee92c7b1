"""Warnings of pairs that fit a matrix, but not what their patterns, exposures and data sheets say."""

import math
import warnings

import numpy as np

from calibration.fields.readings import MAX_SATURATED
from photonics.arrays import BoolArray, ComplexArray, HostArray, RealArray

__all__ = ["warn_of_background", "warn_of_inverted", "warn_of_saturated", "warn_of_scale"]

MAX_SCALE = 4.0
"""Ratio of the light to that by the data sheets, or its inverse, above which a warning is given."""
MAX_BACKGROUND = 25.0
"""Power of inputs that are always ON over that of the changes of all others above which a warning is given: at 9 and 22
the stated errors are true to 5 %, at 47 and 100 too small by up to 1.9 (320 frames of `lab_bench`)."""
MAX_CORRELATION = -0.3
"""Correlation of light and number of inputs ON below which patterns count as inverted, if it is 5 standard errors."""


def warn_of_inverted(patterns: BoolArray, frames: HostArray, scale: RealArray, dark_dn: float) -> None:
    """Warn if frames are the darker the more inputs are ON.

    Patterns with 0 for ON fit as well as the right ones: all entries change their sign, and the field of mirrors that
    are ON is taken for that of mirrors that are OFF.
    """
    count, light = patterns.sum(axis=1), (frames.mean(axis=1, dtype=np.float64) - dark_dn) / scale**2
    if len(count) < 3 or not count.std() or not light.std():
        return
    found = float(np.corrcoef(count, light)[0, 1])
    if found < min(MAX_CORRELATION, -5.0 / math.sqrt(len(count))):
        warnings.warn(
            f"patterns may be inverted: frames are darker the more inputs are ON (correlation {found:.2f}); 1, 255 and "
            "True are ON",
            stacklevel=3,
        )


def warn_of_background(background: int, signs: RealArray) -> None:
    """Warn if inputs that are always ON are so bright that the imaginary part of a row has a small share of the light.

    `signs` are ``2 (x - mean)`` of the inputs that change: (frames, n).
    """
    ratio = 4.0 * background / max(float(np.sum(signs.var(axis=0))), 1e-30)
    if ratio > MAX_BACKGROUND:
        warnings.warn(
            f"{background} inputs are always ON, with {ratio:.0f} times the power of the changes of the other "
            f"{signs.shape[1]}: without a reference stated errors may be half of the true ones; keep some of them OFF",
            stacklevel=3,
        )


def warn_of_saturated(share: float) -> None:
    """Warn if saturated readings, which have no fringes, make the field of an off-axis frame wrong around them."""
    if share > MAX_SATURATED:
        warnings.warn(
            f"{share:.1%} of the readings with the reference saturate, {MAX_SATURATED:.0%} are allowed: stated errors "
            "may be two thirds of the true ones; shorten the exposure",
            stacklevel=5,
        )


def warn_of_scale(matrix: ComplexArray, valid: BoolArray, n_in: int) -> None:
    """Warn if the light is far from that by exposure and data sheets, ``E|t|^2 = 1 / n_in``."""
    ratio = float(n_in * np.mean(np.abs(matrix[valid]) ** 2)) if valid.any() else 1.0
    if not 1.0 / MAX_SCALE < ratio < MAX_SCALE:
        warnings.warn(
            f"the light of the inputs is {ratio:.2g} times that by exposure_s and the data sheets of device; entries "
            "of the matrix have its root as their scale: check exposure_s (seconds), bits, power and throughput, or "
            "give unit_dn_per_s",
            stacklevel=6,
        )
