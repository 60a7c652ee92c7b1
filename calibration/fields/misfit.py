"""Misfit: residuals of frames over the noise. What it does to stated errors, and the warning about it."""

import math
import warnings

import numpy as np

from photonics.arrays import FloatArray, RealArray

__all__ = [
    "MAX_MISFIT",
    "MAX_REPEATED",
    "common_misfit",
    "refusal_limit",
    "response_factor",
    "variance_factor",
    "warn_of_misfit",
]

MAX_MISFIT = 25.0
"""Misfit above which a row is refused: residuals of five times the noise."""
MAX_REPEATED = 0.25
"""Share of frames that may be equal to the frame of the step before, pixel by pixel: without noise, dark ones are."""
MAX_SOUND = 1.1
"""Misfit that the model of noise allows on a sound bench."""
MAX_REFUSED = 0.2
"""Share of rows refused for their misfit from which there is a warning. Popoff with few inputs loses 9 % as a rule."""


def common_misfit(misfit: RealArray) -> float:
    """Median misfit of the rows if it is significantly above that of a sound bench, and otherwise 1.

    A fault of the bench (lost frames, wrong phase steps, a camera that is not linear) is common to all rows, whose
    median shows it long before a single row does.

    Parameters
    ----------
    misfit : ndarray, shape (n_rows,)
        Mean squared residual over its expectation; NaN where it is not known.
    """
    known = misfit[np.isfinite(misfit)]
    if not known.size:
        return 1.0
    middle = float(np.median(known))
    error = 1.2533 * 1.4826 * float(np.median(np.abs(known - middle))) / math.sqrt(known.size)
    return middle if middle > MAX_SOUND + 4.0 * error else 1.0


def variance_factor(misfit: RealArray, freedom: float, common: float = 1.0) -> FloatArray:
    """Factor on the squared error of each row: its misfit where that is significant, at least the common one."""
    limit = MAX_SOUND + 5.0 * math.sqrt(2.0 / freedom)
    return np.where(misfit > limit, np.maximum(misfit, common), common).astype(np.float32)


def refusal_limit(freedom: float) -> float:
    """Misfit above which a row is refused; `MAX_MISFIT` for many degrees of freedom."""
    return MAX_MISFIT * (1.0 + math.sqrt(2.0 / freedom))


def response_factor(misfit: RealArray, freedom: float) -> FloatArray:
    """Factor on the variance of the responses to some patterns, infinite where one is refused; it may warn.

    A pattern's common misfit is the mean over its rows, outliers cut off; so the factor does not depend on the batch.

    Parameters
    ----------
    misfit : ndarray, shape (batch, n_out)
        Misfit of each response; NaN where it is not known.
    freedom : float
        Degrees of freedom of a response.

    Returns
    -------
    ndarray, shape (batch, n_out)
    """
    limit = 1.0 + 8.0 * math.sqrt(2.0 / freedom)  # which noise hardly reaches
    known = np.isfinite(misfit)
    count = np.maximum(known.sum(axis=1), 1)
    cut = np.where(known, np.minimum(misfit, limit), 0.0)
    mean = cut.sum(axis=1) / count
    error = np.sqrt(2.0 / freedom / count)
    bright = np.sum(misfit, axis=1, where=known) / count
    common = np.where(mean > np.maximum(MAX_SOUND, 1.0 + 5.0 * error), bright, 1.0)
    refused = known & ((misfit > refusal_limit(freedom)) | (common[:, None] > MAX_MISFIT))
    pooled = float(np.average(mean, weights=count))
    if pooled > max(MAX_SOUND, 1.0 + 5.0 * math.sqrt(2.0 / freedom / count.sum())):
        told = max(pooled, float(common.mean()))
    else:
        told = 1.0
    warn_of_misfit(told, float(refused.sum() / max(known.sum(), 1)), stacklevel=4)
    return np.where(refused, np.inf, common[:, None]).astype(np.float32)


def warn_of_misfit(common: float, refused: float, stacklevel: int = 2) -> None:
    """Warn if the frames do not fit the model: by the `common_misfit`, and the share of rows that are refused."""
    if common <= 1.0 and refused <= MAX_REFUSED:
        return
    warnings.warn(
        f"frames do not fit the model: a misfit of {common:.3g}, where noise gives 1, and "
        f"{refused:.1%} of the rows refused (misfit over {MAX_MISFIT:g}); stated errors are multiplied by the root of "
        "the misfit. Frames may be lost or doubled, phase steps wrong, the camera not linear, or light may change",
        stacklevel=stacklevel + 1,
    )
