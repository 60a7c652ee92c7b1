"""Frames of a call that show the patterns of their neighbours, from responses that are linear in the patterns.

Responses ``y_j = T x_j`` to patterns in a Gaussian medium have the covariance ``x_i . x_j`` over the pixels. Patterns
that share mirrors therefore give responses that resemble each other, and the likelihood of all responses of a call
tells the order in which the patterns were shown. No frame is needed for this.
"""

import warnings
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fields.misfit import Misfit
from photonics.arrays import BoolArray, HostArray

__all__ = ["Shift", "check_order", "find_shift"]

MIN_FRAMES = 8
"""Number of patterns from which on a shift is looked for."""
MAX_FRAMES = 48
"""Number of patterns that are compared, spread over the call."""
MAX_PIXELS = 1024
"""Number of pixels that are used, spread over the sensor."""
EDGES = 6
"""Number of parts of a call at whose edges a shift may begin or end."""
NOISE = (0.01, 0.1, 1.0)
"""Variances of noise, and of what else the patterns do not explain, that are tried, relative to the responses."""
MEAN = 10.0
"""Variance of a response that all patterns have in common, relative to the responses."""
MIN_GAIN = 12.0
"""Gain in log-likelihood from which a shift is told, nats."""

Matrix = NDArray[np.float64]


class Shift(NamedTuple):
    """Frames that show the patterns of their neighbours."""

    start: int
    """First pattern of the shifted ones, to a sixth of the call."""
    stop: int
    """Pattern after the last one."""
    step: int
    """1 if each response is that of the next pattern (a frame was lost), -1 if it is that of the one before."""
    gain: float
    """Gain in log-likelihood, nats."""

    def __str__(self) -> str:
        side, fault = ("next pattern", "lost") if self.step > 0 else ("pattern before", "repeated")
        return (
            f"patterns {self.start} to {self.stop - 1}, or thereabouts, have the response of the {side} (higher "
            f"log-likelihood by {self.gain:.3g}): a frame was {fault}"
        )


def check_order(patterns: BoolArray, responses: HostArray, stacklevel: int = 3) -> BoolArray:
    """Whether responses belong to their patterns, as far as `find_shift` tells, (count,); a warning says which do not.

    A sixth of the call before and after the shifted patterns counts with them, as their place is only known so well.
    """
    sound, found = np.ones(len(patterns), np.bool_), find_shift(patterns, responses)
    if found is not None:
        margin = -(-len(patterns) // EDGES)
        sound[max(found.start - margin, 0) : found.stop + margin] = False
        warnings.warn(
            f"frames do not fit the model: of {len(patterns)} patterns, {found}. The stated errors of "
            f"{np.count_nonzero(~sound)} patterns are infinite: project them again",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return sound


def find_shift(patterns: BoolArray, responses: HostArray) -> Shift | None:
    """Find a run of patterns whose responses are those of the next pattern, or of the one before.

    The log-likelihood of the order as sent is compared with that of orders in which a part of the patterns is shifted
    by one. Scale and noise are those of the highest likelihood, and the number of independent pixels is counted from
    the responses. A lost frame in the middle of 40 random half-ON patterns of 160 mirrors gains 13 to 30 nats on 10
    independent pixels, 20 patterns gain 14 to 40 on 500; `MIN_GAIN` is needed, and sound calls stay under 4. A shift is
    not seen in fewer patterns than `MIN_FRAMES`, if less than about a sixth of
    the call is shifted, or if patterns share no mirrors and none is shown twice.

    Parameters
    ----------
    patterns : ndarray of bool, shape (count, n_inputs)
        Patterns in the order in which they were sent.
    responses : ndarray, shape (count, n_pixels)
        Their responses, real or complex.

    Returns
    -------
    Shift or None
        None if the order as sent is likely, or there are fewer than `MIN_FRAMES` patterns.
    """
    count = len(patterns)
    values = responses[:, :: -(-responses.shape[1] // MAX_PIXELS) or 1]
    values = values[:, np.isfinite(values).all(axis=0) & (values != 0).any(axis=0)]
    if count < MIN_FRAMES or not values.shape[1]:
        return None
    some = np.unique(np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(np.intp))
    edges = np.unique(np.linspace(0, count, EDGES + 1).round().astype(np.intp))
    runs = [(start, stop, step) for start, stop in combinations(edges.tolist(), 2) for step in (1, -1)]
    moved = [np.clip(some + step * ((some >= start) & (some < stop)), 0, count - 1) for start, stop, step in runs]
    values = values[some] / np.sqrt(np.mean(np.abs(values[some]) ** 2, axis=0) + np.float32(1e-30))
    gram = np.real(values @ values.conj().T).astype(np.float64)
    likelihood = log_likelihoods(patterns, np.stack([some, *moved]), gram)
    axes = 2.0 if np.iscomplexobj(values) else 1.0
    pixels = min(independent_pixels(patterns[some], gram) / axes, float(values.shape[1]))
    gain = 0.5 * axes * pixels * (likelihood[1:] - likelihood[0])
    best = int(gain.argmax())
    return Shift(*runs[best], float(gain[best])) if gain[best] > MIN_GAIN else None


def covariances(patterns: BoolArray, labels: NDArray[np.intp]) -> Matrix:
    """Covariance of the responses to patterns, relative to their mean variance, without noise: (orders, n, n)."""
    shown = patterns.astype(np.float32)
    overlap = (shown @ shown[np.unique(labels)].T).astype(np.float64)
    column = np.searchsorted(np.unique(labels), labels)
    found = overlap[labels[:, :, None], column[:, None, :]]
    scale = np.maximum(np.trace(found, axis1=1, axis2=2) / labels.shape[1], 1e-30)
    return found / scale[:, None, None] + MEAN


def log_likelihoods(patterns: BoolArray, labels: NDArray[np.intp], gram: Matrix) -> Matrix:
    """Twice the log-likelihood per pixel of each order of patterns, (orders, n), at the best scale and noise."""
    prior, n = covariances(patterns, labels), labels.shape[1]
    found = []
    for noise in NOISE:
        matrix = prior + noise * np.eye(n)
        residual = np.einsum("kij,ij->k", np.linalg.inv(matrix), gram)
        found.append(-n * np.log(np.maximum(residual, 1e-30)) - np.linalg.slogdet(matrix)[1])
    return np.max(found, axis=0)


def independent_pixels(patterns: BoolArray, gram: Matrix) -> float:
    """Number of independent pixels (twice that of complex ones) from the products of responses without their model."""
    least = []
    for noise in NOISE:
        matrix = covariances(patterns, np.arange(len(patterns))[None])[0] + noise * np.eye(len(patterns))
        half = np.linalg.inv(np.linalg.cholesky(matrix))
        white = half @ gram @ half.T
        size = np.sqrt(np.maximum(np.diag(white), 1e-30))
        square = (white / np.outer(size, size)) ** 2
        least.append((square.sum() - np.trace(square)) / max(len(square) * (len(square) - 1), 1))
    return max(1.0 / max(min(least), 1e-9), 1.0)
