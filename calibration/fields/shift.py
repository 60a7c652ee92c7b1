"""Frames of a call that show the patterns of their neighbours, from responses that are linear in the patterns.

Responses ``y_j = T x_j`` to patterns in a Gaussian medium have the covariance ``x_i . x_j`` over the pixels. Patterns
that share mirrors therefore predict the responses of each other, and a response that agrees with the prediction for
the next pattern, not with that for its own, belongs to a shifted frame. No frame is needed for this.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fields.misfit import Misfit
from photonics.arrays import BoolArray, HostArray

__all__ = ["Shift", "check_order", "find_shifts"]

MIN_FRAMES = 8
"""Number of patterns from which on a shift is looked for."""
BLOCK = 128
"""Number of successive patterns that predict each other."""
MAX_PIXELS = 512
"""Number of pixels that are used, spread over the sensor."""
COUNTED = 48
"""Number of patterns from which the independent pixels are counted."""
NOISE = (0.01, 0.1, 1.0)
"""Variances of noise, and of what else the patterns do not explain, that are tried, relative to the responses."""
MEAN = 10.0
"""Variance of a response that all patterns have in common, relative to the responses."""
MIN_GAIN = 12.0
"""Gain in log-likelihood from which a shift is told, nats; ``log(count)`` is added, as a shift may begin anywhere."""
MAX_GAIN = 10.0
"""Largest gain of one pattern, so that chance resemblance of two responses is no shift, nats."""
EDGE_GAIN = 12.0
"""Patterns next to a shift count with it if they lower its gain by less, nats."""

Matrix = NDArray[np.float64]


class Shift(NamedTuple):
    """Frames that show the patterns of their neighbours."""

    start: int
    """First pattern of the shifted ones."""
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
    """Whether responses belong to their patterns, as far as `find_shifts` tells, (count,); a warning says which do not.

    Patterns that may belong to a shift count with it.
    """
    sound, found = np.ones(len(patterns), np.bool_), find_shifts(patterns, responses)
    for shift in found:
        sound[shift.start : shift.stop] = False
    if found:
        warnings.warn(
            f"frames do not fit the model: of {len(patterns)} patterns, {max(found, key=lambda one: one.gain)}. The "
            f"stated errors of {np.count_nonzero(~sound)} patterns are infinite: project them again",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return sound


def find_shifts(patterns: BoolArray, responses: HostArray) -> list[Shift]:
    """Find runs of patterns whose responses are those of the next pattern, or of the one before.

    Each response is compared with two predictions from the other ones of `BLOCK` successive patterns (Gaussian-process
    regression: Rasmussen and Williams, 2006, ch. 5): that for its own pattern, and that for its neighbour. A run is
    found by the sum of the gains in log-likelihood. If most of a block is shifted, all its patterns are moved first.
    A shift is not seen in calls of fewer patterns than `MIN_FRAMES`, or if patterns share no mirrors and none is shown
    twice. A single pattern is not enough, however much it gains (`MAX_GAIN`). The number of independent pixels is
    counted from the responses: 10 of them tell a run of 3 of 160 random half-ON patterns of 160 mirrors. Sound
    calls gain up to 10 nats, where 14 to 19 are needed.

    Parameters
    ----------
    patterns : ndarray of bool, shape (count, n_inputs)
        Patterns in the order in which they were sent.
    responses : ndarray, shape (count, n_pixels)
        Their responses, real or complex.

    Returns
    -------
    list of Shift
        Empty if the order as sent is likely.
    """
    count = len(patterns)
    values = responses[:, :: -(-responses.shape[1] // MAX_PIXELS) or 1]
    values = values[:, np.isfinite(values).all(axis=0) & (values != 0).any(axis=0)]
    if count < MIN_FRAMES or not values.shape[1]:
        return []
    axes, pixels = 2.0 if np.iscomplexobj(values) else 1.0, float(values.shape[1])
    values = np.concatenate([np.real(values), np.imag(values)], axis=1) if axes == 2.0 else values
    values = values / np.sqrt(np.mean(values**2, axis=0) + np.float32(1e-30))
    some = np.unique(np.linspace(0, count - 1, min(count, COUNTED)).round().astype(np.intp))
    independent = min(independent_values(covariance(patterns[some]), gram_of(values[some])), axes * pixels)
    gains = [
        gains_of(covariance(patterns[part]), gram_of(values[part]), 0.5 * independent)
        for part in np.array_split(np.arange(count), -(-count // BLOCK))
    ]
    return runs_of(np.minimum(np.concatenate(gains, axis=1), MAX_GAIN), MIN_GAIN + float(np.log(count)))


def gram_of(values: HostArray) -> Matrix:
    """Products of responses, (n, n)."""
    return (values @ values.T).astype(np.float64)


def covariance(patterns: BoolArray) -> Matrix:
    """Covariance of the responses to patterns, relative to their mean variance, without noise: (n, n)."""
    shown = patterns.astype(np.float32)
    overlap = gram_of(shown)
    return overlap / max(float(overlap.trace()) / len(overlap), 1e-30) + MEAN


def gains_of(prior: Matrix, gram: Matrix, weight: float) -> Matrix:
    """Gain in log-likelihood if a response belongs to the next pattern, or to the one before.

    If most responses are shifted, they do not predict the patterns as sent; they are compared with their neighbours
    after all of them are moved.

    Parameters
    ----------
    prior : ndarray, shape (n, n)
        Covariance of the responses to the patterns of a block, without noise.
    gram : ndarray, shape (n, n)
        Products of the responses.
    weight : float
        Half of the number of independent values in a response.

    Returns
    -------
    ndarray, shape (2, n)
        Nats, for the next pattern and the one before; 0 where that is outside of the block.
    """
    n = len(gram)
    some = np.unique(np.linspace(0, n - 1, min(n, COUNTED)).round().astype(np.intp))
    labels = {step: np.clip(np.arange(n) + step, 0, n - 1) for step in (0, 1, -1)}
    fits = {
        step: best_noise(prior[np.ix_(at[some], at[some])], gram[np.ix_(some, some)]) for step, at in labels.items()
    }
    moved = max(fits, key=lambda step: fits[step][0])
    if weight * (fits[moved][0] - fits[0][0]) < EDGE_GAIN:
        moved = 0
    matrix = prior[np.ix_(labels[moved], labels[moved])] + fits[moved][1] * np.eye(n)
    precision = np.asarray(np.linalg.inv(matrix), np.float64)
    if not moved:
        return weight * np.stack([neighbour_gains(precision, gram, step) for step in (1, -1)])
    back = -weight * neighbour_gains(precision, gram, -moved)
    return np.stack([back if step == moved else np.full(n, -np.inf) for step in (1, -1)])


def best_noise(prior: Matrix, gram: Matrix) -> tuple[float, float]:
    """Twice the log-likelihood per value with the most likely noise, at the best scale, and that noise."""
    n, found = len(gram), []
    for noise in NOISE:
        matrix = prior + noise * np.eye(n)
        residual = max(float(np.trace(np.linalg.solve(matrix, gram))), 1e-30)
        found.append((-n * float(np.log(residual)) - float(np.linalg.slogdet(matrix)[1]), noise))
    return max(found)


def neighbour_gains(precision: Matrix, gram: Matrix, step: int) -> NDArray[np.float64]:
    """Twice the gain in log-likelihood per value of each response, at `step` from its pattern: (n,).

    Both predictions leave out the response itself and that of the other pattern. The scale of the residuals, which is
    not known, is that of the highest likelihood, so that the gain is the logarithm of their ratio.
    """
    n = len(gram)
    k = np.arange(max(-step, 0), min(n, n - step))
    i = k + step
    by = precision @ gram  # products of weights and responses
    of = by @ precision  # products of weights
    a, b, d = precision[k, k], precision[k, i], precision[i, i]
    scale = 1.0 / np.maximum(a * d - b**2, 1e-30)
    own = (d**2 * of[k, k] - 2.0 * d * b * of[k, i] + b**2 * of[i, i]) * scale**2
    other = (a**2 * of[i, i] - 2.0 * a * b * of[k, i] + b**2 * of[k, k]) * scale**2
    other += 2.0 * scale * (a * (by[i, k] - by[i, i]) - b * (by[k, k] - by[k, i]))
    other += gram[k, k] + gram[i, i] - 2.0 * gram[k, i]
    gains = np.zeros(n)
    gains[k] = np.log(np.maximum(own, 1e-30) / np.maximum(other, 1e-30))
    return gains


def independent_values(prior: Matrix, gram: Matrix) -> float:
    """Number of independent values in a response (two in a complex pixel), from the products of responses."""
    least = []
    for noise in NOISE:
        half = np.linalg.inv(np.linalg.cholesky(prior + noise * np.eye(len(prior))))
        white = half @ gram @ half.T
        size = np.sqrt(np.maximum(np.diag(white), 1e-30))
        square = (white / np.outer(size, size)) ** 2
        least.append((square.sum() - np.trace(square)) / max(len(square) * (len(square) - 1), 1))
    return max(1.0 / max(min(least), 1e-9), 1.0)


def runs_of(gains: Matrix, least: float) -> list[Shift]:
    """Runs of patterns whose gains, (2, count) nats, add up to more than `least`, with what may belong to them."""
    found: list[Shift] = []
    while True:
        runs = [best_run(gain) for gain in gains]
        row = int(runs[1][2] > runs[0][2])
        start, stop, gain = runs[row]
        if gain <= least:
            return found
        found.append(Shift(start, stop, 1 - 2 * row, gain))
        gains[:, start:stop] = -1e6


def best_run(gains: NDArray[np.float64]) -> tuple[int, int, float]:
    """First and last end of the run with the highest sum, the latter exclusive, and that sum."""
    total = np.concatenate([[0.0], np.cumsum(np.maximum(gains, -1e6))])
    rise = total - np.minimum.accumulate(total)
    stop = int(rise.argmax())
    start = int(total[: stop + 1].argmin())
    first = int(np.argmax(total[: start + 1] < total[start] + EDGE_GAIN))
    last = stop + int(np.flatnonzero(total[stop:] > total[stop] - EDGE_GAIN)[-1])
    return first, last, float(rise[stop])
