"""Warnings of pairs that fit a matrix, but not what their patterns, exposures and data sheets say."""

import math
import warnings

import numpy as np
from scipy.special import fdtri

from calibration.fields.readings import MAX_SATURATED
from calibration.recovery.likelihood import MAX_EXPECTED_ERROR
from photonics.arrays import BoolArray, ComplexArray, HostArray, RealArray

__all__ = [
    "background_ratio", "error_beside", "warn_of_background", "warn_of_inverted", "warn_of_saturated", "warn_of_scale",
]  # fmt: skip

MAX_SCALE = 4.0
"""Ratio of the light to that by the data sheets, or its inverse, above which a warning is given."""
MAX_BACKGROUND = 25.0
"""Power of inputs that are always ON over that of the changes of all others above which a warning is given."""
TRUE_BACKGROUND = 50.0
"""The same above which the error by the Fisher information is too small for the rows that are left: it is true to 17 %
at 47, and to a factor 3 to 6 at 99 (10 inputs of 64 to 256, 320 frames of `lab_bench`)."""
RARE = 1e-3
"""Share of sound rows that may be dropped because of their imaginary part."""
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


def background_ratio(background: int, signs: RealArray) -> float:
    """Power of inputs that are always ON over that of the changes of the others, ``2 (x - mean)``, (frames, n)."""
    return 4.0 * background / max(float(np.sum(signs.var(axis=0))), 1e-30)


def warn_of_background(background: int, signs: RealArray) -> None:
    """Warn if inputs that are always ON are so bright that the imaginary part of a row has a small share of the light.

    `signs` are ``2 (x - mean)`` of the inputs that change: (frames, n).
    """
    ratio = background_ratio(background, signs)
    if ratio > MAX_BACKGROUND:
        warnings.warn(
            f"{background} inputs are always ON, with {ratio:.0f} times the power of the changes of the other "
            f"{signs.shape[1]}: without a reference few rows can be fitted; keep some of them OFF",
            stacklevel=3,
        )


def error_beside(error: RealArray, matrix: ComplexArray, ratio: float) -> RealArray:
    """Error of rows beside inputs that are always ON, infinite for rows whose imaginary part is noise.

    In a frame, the part of a field along that of these inputs, the real one, is linear, and the imaginary one adds its
    square only. Noise in that square makes the imaginary part too large, and the Fisher information with it, so that
    the worst rows seem to be the best. Both parts have the same power in a scattering medium. Above `TRUE_BACKGROUND`
    the error is enlarged. Rows whose error is large against the real part, or whose imaginary part is too large for it
    (Fisher's F distribution), are dropped.
    """
    width, error = matrix.shape[1], error * np.float32(max(ratio / TRUE_BACKGROUND, 1.0) ** 1.5)
    real, imag = (matrix.real**2).mean(axis=1), (matrix.imag**2).mean(axis=1)
    noise = (error**2 > MAX_EXPECTED_ERROR**2 * 2.0 * real) | (imag > float(fdtri(width, width, 1.0 - RARE)) * real)
    return np.where(noise, np.inf, error)


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
