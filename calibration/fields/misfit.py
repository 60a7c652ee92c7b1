"""Misfit: squared residuals of frames relative to noise, its effect on stated errors, and its warning."""

import math
import warnings
from collections.abc import Callable

import numpy as np

from calibration.arrays import count, equal_rows, mean, nanquantile, total
from calibration.camera.noise import NoiseModel
from photonics.arrays import Array, FloatArray, RealArray
from photonics.backend import backend_of, to_host
from photonics.parts.camera import QUANTISATION

__all__ = [
    "MAX_MISFIT",
    "MAY_BE",
    "Misfit",
    "check_repeats",
    "check_steps",
    "common_misfit",
    "read_once",
    "refusal_limit",
    "response_factor",
    "tell_blind",
    "variance_factor",
    "warn_of_misfit",
]

MAX_MISFIT = 25.0
"""Misfit above which a row is rejected: residuals of five times the noise."""
MAX_REPEATED = 0.25
"""Largest share of frames equal to the frame of the previous step, pixel by pixel; without noise, dark frames are
equal."""
MIN_PIXELS = 16
"""Number of pixels from which on equal frames are not chance."""
MIN_SURPRISE = 30.0
"""Nats that the noise of two frames must give against their being equal, for one of them to be read twice."""
MAY_BE = (
    "Frames may be lost or doubled, phase steps wrong, the camera not linear, or light may change; or laser, medium or "
    "phase of the reference drift or jitter: take frames faster, calibrate again more often (recalibrate_every), or "
    "follow the phase (track_drift)"
)
"""Causes of a misfit that is not explained."""


class Misfit(UserWarning):
    """Frames do not fit the model by which they are evaluated."""


MAX_SOUND = 1.1
"""Largest misfit on a sound bench, due to approximations of the noise model."""
MAX_REFUSED = 0.2
"""Share of rejected rows above which a warning is given. Popoff with few inputs typically loses 9 %."""
MAX_LOST, MIN_LOST = 1.0 / 3.0, 0.9
"""A frame was lost at the first rejected pattern, and all from there on are wrong, if over a third of them are rejected
and nearly all have half of that misfit: 0.8 if phase noise rejects half of them."""
MIN_BROAD = 3.0
"""Mean misfit of such a pattern, outliers cut: 3.4 or more if a frame was lost, 2.3 if 2 % of the pixels are dead."""


def repeated_share(before: Array, after: Array) -> float:
    """Share of frames, (..., n_out) each, that are equal pixel by pixel; 0 for few pixels, which may be by chance."""
    if before.shape[-1] < MIN_PIXELS or not before.size:
        return 0.0
    return float(mean(equal_rows(before, after)))


def check_steps(frames: Array) -> None:
    """Raise a ``ValueError`` if frames of different phase steps, (batch, steps, n_out), are equal pixel by pixel."""
    if (repeated := repeated_share(frames[:, :-1, :], frames[:, 1:, :])) > MAX_REPEATED:
        raise ValueError(
            f"frames of one phase step must differ from those of the step before, but {repeated:.0%} are equal: the "
            "camera or the recording repeats frames, or the phase of the reference does not step"
        )


def check_repeats(before: Array, after: Array) -> None:
    """Raise a ``ValueError`` if frames of different patterns, (..., n_out) each, are equal pixel by pixel."""
    if (repeated := repeated_share(before, after)) > MAX_REPEATED:
        raise ValueError(
            f"frames of different patterns must differ, but {repeated:.0%} are equal: the camera or the recording "
            "repeats them, or the patterns do not change"
        )


def read_once(patterns: Array, frames: Array, noise: NoiseModel, top: float, stacklevel: int = 2) -> Array:
    """Whether vectors have frames of their own, (batch,); a warning tells those that share a frame with a neighbour.

    The noise of two readings lets them be equal with a probability of about ``1 / (2 sqrt(pi) sigma)``. If all pixels
    of two successive frames are equal in spite of it, one was read twice: a frame in the middle or at the end of a call
    was lost. Either of the two may be the wrong one.

    Parameters
    ----------
    patterns : ndarray of bool, shape (batch, n_inputs)
    frames : ndarray, shape (batch, frames_per_vector, n_out)
    noise : NoiseModel
        Of the camera, by the calibration.
    top : float
        Reading from which on a pixel is saturated, DN; such readings, and those of 0, are equal without a reason.
    stacklevel : int
        That of the caller, as in `warnings.warn`.
    """
    backend, (batch, each, _) = backend_of(frames), frames.shape
    xp, flat = backend.xp, backend.xp.reshape(frames, (batch * each, -1))
    same, own = equal_rows(flat[1:, :], flat[:-1, :]), ~backend.zeros((batch,), "bool")
    if not bool(xp.any(same)):
        return own
    equal = np.zeros(batch * each + 1, np.bool_)  # whether a frame is that before it, and an end
    equal[1:-1] = to_host(same)
    equal[each : batch * each : each] &= to_host(xp.any(patterns[1:, :] != patterns[:-1, :], axis=1))
    for k in np.flatnonzero(equal):
        sigma = xp.sqrt(xp.maximum(noise.variance(flat[k, :]) - QUANTISATION, 0.0))
        nats = xp.log(xp.maximum(2.0 * math.sqrt(math.pi) * sigma, 1.0))
        equal[k] = float(xp.sum(xp.where((flat[k, :] > 0) & (flat[k, :] < top), nats, 0.0))) > MIN_SURPRISE
    shared = (equal[:-1] | equal[1:]).reshape(batch, each).any(axis=1)
    if shared.any():
        own = backend.asarray(~shared)
        warnings.warn(
            f"frames do not fit the model: a frame is equal to the one before, pixel by pixel, in spite of its noise "
            f"(pattern {np.flatnonzero(shared)[-1]} of {batch}): it was read twice, and a frame was lost. The stated "
            f"errors of {np.count_nonzero(shared)} patterns are infinite: project them again",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return own


def tell_blind(pixels: Array, stacklevel: int = 2) -> Array:
    """Warn of pixels that do not see the patterns any more, and return them: (n_out,)."""
    if found := count(pixels):
        warnings.warn(
            f"frames do not fit the model: {found} of {pixels.shape[0]} pixels do not see the patterns any more (the "
            f"first is {int(to_host(pixels).argmax())}): their readings change by noise alone. Their stated errors "
            "(`measure`) are infinite: calibrate again, which leaves them out",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return pixels


def common_misfit(misfit: RealArray, grain: float = 1.0) -> float:
    """Median misfit of the rows if it is significantly above that of a sound bench, and otherwise 1.

    A fault of the bench (lost frames, wrong phase steps, a camera that is not linear) is common to all rows, so the
    median shows it long before a single row does.

    Parameters
    ----------
    misfit : ndarray, shape (n_rows,)
        Mean squared residual over its expectation; NaN where it is not known.
    grain : float
        Number of neighbouring rows whose misfits are equal, the pixels of a grain.
    """
    known = misfit[np.isfinite(misfit)]
    if not known.size:
        return 1.0
    middle = float(np.median(known))
    error = 1.2533 * 1.4826 * float(np.median(np.abs(known - middle))) / math.sqrt(max(known.size / grain, 1.0))
    return middle if middle > MAX_SOUND + 4.0 * error else 1.0


def variance_factor(misfit: RealArray, freedom: float, common: float = 1.0) -> FloatArray:
    """Factor on the squared error of each row: its misfit if significant, and at least the common misfit."""
    limit = MAX_SOUND + 5.0 * math.sqrt(2.0 / freedom)
    return np.where(misfit > limit, np.maximum(misfit, common), common).astype(np.float32)


def refusal_limit(freedom: float) -> float:
    """Misfit above which a row is rejected; `MAX_MISFIT` for many degrees of freedom."""
    return MAX_MISFIT * (1.0 + math.sqrt(2.0 / freedom))


def response_factor(misfit: Array, freedom: float, quantile: float | None = None) -> Array:
    """Factor on the variance of responses to patterns, infinite for rejected ones; warns if needed.

    A pattern's common misfit is the mean over its rows without outliers, so that it does not depend on the batch. If
    nearly all misfit alike from one on, these are rejected, and any that misfit: a lost frame pairs all later ones
    wrongly, and some fit by chance.

    Parameters
    ----------
    misfit : ndarray, shape (batch, n_out)
        Misfit of each response; NaN where it is not known.
    freedom : float
        Degrees of freedom of a response.
    quantile : float, optional
        If the misfit is significant, that of all rows is this quantile in place of the mean. For faults that most rows
        do not show.

    Returns
    -------
    ndarray, shape (batch, n_out)
    """
    xp = backend_of(misfit).xp
    limit = 1.0 + 8.0 * math.sqrt(2.0 / freedom)  # which noise hardly reaches
    known = xp.isfinite(misfit)
    number = xp.astype(xp.maximum(count(known, 1), 1), xp.float64)
    average = total(xp.where(known, xp.minimum(misfit, limit), 0.0), 1) / number
    error = xp.sqrt(2.0 / freedom / number)
    bright = total(misfit, 1, where=known) / number
    if quantile is not None and bool(xp.any(known)):
        bright = nanquantile(xp.where(xp.any(known, axis=1)[:, None], misfit, 0.0), quantile, 1)
    common = xp.where(average > xp.maximum(1.0 + 5.0 * error, MAX_SOUND), bright, 1.0)
    lost = common > MAX_MISFIT
    broad = lost & (average > MIN_BROAD)
    later = xp.cumulative_sum(xp.astype(broad, xp.int64)) > 0
    after = total(later)
    slipped = (total(broad) > MAX_LOST * after) & (total(later & (common > MAX_MISFIT / 2.0)) >= MIN_LOST * after)
    lost = lost | ((later | (common > 1.0)) & slipped)
    refused = (known & (misfit > refusal_limit(freedom))) | lost[:, None]
    numbers = float(xp.sum(number))
    pooled = float(xp.sum(average * number)) / numbers
    if pooled > max(MAX_SOUND, 1.0 + 5.0 * math.sqrt(2.0 / freedom / numbers)):
        told = max(pooled, float(xp.mean(common)))
    else:
        told = 1.0
    warn_of_misfit(told, int(count(refused & known)) / max(int(count(known)), 1), stacklevel=4)
    return xp.astype(xp.where(refused, math.inf, common[:, None]), xp.float32)


def warn_of_misfit(common: float, refused: float, stacklevel: int = 2, cause: Callable[[], str] | None = None) -> bool:
    """Warn (`Misfit`) if the frames do not fit the model, by the `common_misfit` and the share of rejected rows.

    `cause` is asked for the reason, if there is one to add.

    Returns
    -------
    bool
        Whether a warning was given.
    """
    if common <= 1.0 and refused <= MAX_REFUSED:
        return False
    warnings.warn(
        f"frames do not fit the model: a misfit of {common:.3g}, where noise gives 1, and "
        f"{refused:.1%} of the rows refused (misfit over {MAX_MISFIT:g}); stated errors are multiplied by the root of "
        f"the misfit. {(cause and cause()) or MAY_BE}",
        Misfit,
        stacklevel=stacklevel + 1,
    )
    return True
