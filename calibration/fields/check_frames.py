"""Check frames of a recovery with a reference beam: patterns that are predicted from the result, not fitted."""

import math
import warnings
from typing import NamedTuple

import numpy as np

from calibration.arrays import columns, difference, mean
from calibration.camera.decay import UNKNOWN_NOISE
from calibration.fields.linearity import bend_of
from calibration.fields.misfit import common_misfit
from calibration.fields.readings import Bench
from calibration.fields.sideband import Sideband
from photonics.arrays import Array, BoolArray, FloatArray
from photonics.backend import backend_of, to_host
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["Checked", "check_bend", "check_fields", "check_patterns", "stray_level"]

LEAST_PULL = 2.0
"""Standard errors from which on a deviation counts as stale: it enlarges errors, and is not told."""
MAX_LEVEL = 0.25
"""Scatter of the mean of a frame, DN, that is not told: on a bench without noise it is due to rounding."""


class Checked(NamedTuple):
    """What check frames say about a recovery."""

    misfit: FloatArray
    """Mean squared deviation of fields from the predicted ones, over its expectation, on the host: (n_out,), NaN on bad
    pixels."""
    common: float
    """Misfit common to all rows, 1 if not significant (`calibration.fields.misfit.common_misfit`)."""
    stale: float
    """Power of the deviation that noise and a scale of each frame do not explain, over that of the fields; 0 if it is
    not significant."""
    bend: float
    """Relative change of the speckle's reading by the beam (`calibration.fields.linearity.bend_of`)."""


def check_patterns(count: int, n_inputs: int) -> BoolArray:
    """Random half-ON patterns of the check frames: (count, n_inputs)."""
    return half_on(count, n_inputs, 0, PatternSet.CHECKS)


def check_fields(
    found: Array,
    predicted: Array,
    variance: Array,
    sideband: Sideband,
    bad: Array,
    bench: Bench,
) -> tuple[FloatArray, float, float]:
    """`Checked.misfit`, `Checked.common` and `Checked.stale` of the fields of check frames.

    Frames that are lost or doubled, light or a medium that changes, and a response that is not linear make fields
    differ from the predicted ones. The phase of the beam in a check frame is fitted, as it has no part in the result.

    Parameters
    ----------
    found : ndarray, shape (checks, n_out)
        Fields of the check frames.
    predicted : ndarray, shape (checks, n_out)
        Fields predicted for their patterns.
    variance : ndarray, shape (checks, n_out)
        Variance of the difference by the camera's noise, real and imaginary part together.
    sideband : Sideband
        The disc from which the fields were taken.
    bad : ndarray, shape (n_out,)
        Pixels that do not count.
    bench : Bench
        The bench.
    """
    backend, independent = backend_of(found), max(sideband.independent, 2.0)  # the fitted phase takes half of one
    xp, bad = backend.xp, bad | backend.asarray(sideband.edge)
    seen, expected = columns(found, ~bad), columns(predicted, ~bad)
    turn = xp.sum(xp.conj(expected) * seen, axis=1)
    stale = unexplained(seen, expected, columns(variance, ~bad), independent)
    predicted = predicted * xp.astype(turn / xp.maximum(xp.abs(turn), 1e-30), xp.complex64)[:, None]
    # The laser's drift changes the scale of a frame.
    light = xp.mean(xp.abs(predicted) ** 2, axis=0) * (
        2.0 * (float(np.float32(bench.scale_error**2)) + sideband.model_error**2)
    )
    expected = (variance + light) * (1.0 - 0.5 / independent)
    seen = xp.astype(xp.mean(xp.abs(found - predicted) ** 2 / expected, axis=0), xp.float32)
    misfit = to_host(xp.where(bad, math.nan, seen))
    return misfit, common_misfit(misfit, bench.n_out / independent), stale


def unexplained(found: Array, predicted: Array, variance: Array, independent: float) -> float:
    """`Checked.stale` of fields on the pixels that count, each (checks, n_pixels), with so many independent ones."""
    xp = backend_of(found).xp
    power = xp.sum(xp.abs(predicted) ** 2, axis=1)
    scale = xp.sum(xp.conj(predicted) * found, axis=1) / xp.maximum(power, 1e-30)
    scaled = predicted * xp.astype(scale, xp.complex64)[:, None]
    noise = float(xp.mean(variance)) * (1.0 - 1.0 / independent)
    excess = float(xp.mean(xp.abs(found - scaled) ** 2)) - noise
    error = noise * (UNKNOWN_NOISE + 1.0 / math.sqrt(found.shape[0] * independent))
    return excess / float(xp.mean(xp.abs(scaled) ** 2)) if excess > LEAST_PULL * error else 0.0


def check_bend(both: Array, alone: Array, beam: Array, sideband: Sideband, bad: Array, bench: Bench) -> float:
    """Relative change of the speckle's reading by the beam, from frames of patterns with it and without.

    Parameters
    ----------
    both, alone : ndarray, shape (checks, n_out)
        Frames of the same patterns with the beam and without.
    beam : ndarray, shape (n_out,)
        Mean frame of the beam alone.
    sideband : Sideband
        The fringes.
    bad : ndarray, shape (n_out,)
        Pixels that do not count.
    bench : Bench
        The bench.
    """
    xp, dark = backend_of(both).xp, float(np.float32(bench.noise.dark_dn))
    lost = (both >= bench.saturation_dn) | bad
    cross = xp.where(lost, 0.0, difference(both, alone) - (beam - dark))
    rest = xp.where(lost, 0.0, sideband.subtract_fringes(cross, lost))
    speckle = xp.where(lost, 0.0, xp.astype(alone, xp.float32) - dark)
    return bend_of(rest, speckle, beam - dark, bench.laser_drift, stacklevel=7)


def stray_level(frames: Array, bench: Bench) -> float:
    """Scatter of the level of frames of the reference alone that noise and laser do not explain, DN; 0 if none.

    Stray light that changes adds to the frames of the reference, and not to the dark frames, so the reference seems
    stronger than it is. A warning is given.

    Parameters
    ----------
    frames : ndarray, shape (count, n_out)
        Frames of the reference alone.
    bench : Bench
        The bench.
    """
    if frames.shape[0] < 3:
        return 0.0
    level = to_host(mean(frames, 1, "float64"))
    scatter = float(level.std(ddof=1))
    noise = math.sqrt(float(mean(bench.noise.variance(frames))) / frames.shape[1])
    laser = 2.0 * bench.laser_drift * (float(level.mean()) - bench.noise.dark_dn)
    if scatter < max(4.0 * math.hypot(noise, laser), MAX_LEVEL):
        return 0.0
    warnings.warn(
        f"frames do not fit the model: the level of the reference alone changes by {scatter:.2g} DN between frames "
        f"(noise {noise:.2g}); the stated error contains it. Stray light may change, or frames be lost",
        stacklevel=7,
    )
    return scatter
