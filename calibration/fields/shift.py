"""Frames of a call that show the patterns of their neighbours, from responses that are linear in the patterns.

Responses ``y_j = T x_j`` to patterns in a Gaussian medium have the covariance ``x_i . x_j`` over the pixels. Patterns
that share mirrors therefore predict the responses of each other, and a response that agrees with the prediction for
the next pattern, not with that for its own, belongs to a shifted frame. No frame is needed for this. Fields that a
calibration has measured predict responses as well, also those of a few patterns, or of patterns that share no mirrors.
"""

import math
import warnings
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns
from calibration.fields.misfit import Misfit
from photonics.arrays import Array, BoolArray, ComplexArray
from photonics.backend import backend_of, to_host
from photonics.threads import one_blas_thread

__all__ = ["Known", "Shift", "check_order", "find_known_shifts", "find_shifts"]

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
DRIFTS = (0.0, 0.02, 0.2, 2.0, 20.0, 200.0)
"""Variances by which it moves from one pattern to the next, that are tried: what moves resembles the pattern before."""
MIN_GAIN = 12.0
"""Gain in log-likelihood from which a shift is told, nats; ``log(count)`` is added, as a shift may begin anywhere."""
MAX_GAIN = 10.0
"""Largest gain of one pattern, so that chance resemblance of two responses is no shift, nats."""
EDGE_GAIN = 12.0
"""Patterns next to a shift count with it if they lower its gain by less, nats."""
CHANCE = 1 + 1 / 2 + 1 / 3  # nats, the mean of the highest of three log-likelihoods that are chance
MIN_EXPLAINED = 4.0
"""Mean log-likelihood, nats, that known fields must give a response. Less is chance."""
MIN_KNOWN_SHARE = 0.8
"""Least share of what they should explain by the law. Less, after a medium or a phase has moved, is not judged."""
MIN_SEEN = 5.0
"""Nats from which on a response counts as explained, by its own pattern or by a neighbour."""

Matrix = Array  # of float64, where the responses are


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


class Known(NamedTuple):
    """Fields that a calibration has measured on the pixels whose responses are judged."""

    patterns: Array
    """(n_known, n_inputs)."""
    responses: Array
    """(n_known, n_pixels)."""
    pixels: float  # independent ones

    @classmethod
    def of(cls, patterns: BoolArray, responses: ComplexArray, most: float) -> Self:
        """Known fields, from which the independent pixels are counted, at most `most`."""
        parts = np.concatenate([responses.real, responses.imag], axis=1)
        counted = 0.5 * independent_values(prior_of(patterns.astype(np.float64)), gram_of(parts))
        return cls(patterns, responses, min(most, counted))


@one_blas_thread  # two of a busy processor take 40 times as long
def check_order(patterns: Array, responses: Array, known: Known | None = None, stacklevel: int = 3) -> Array:
    """Whether no shift may contain a pattern, (count,), by `find_shifts` and `find_known_shifts`; warns of shifts."""
    sound, found = np.ones(patterns.shape[0], np.bool_), find_shifts(patterns, responses)
    found += [] if known is None else find_known_shifts(patterns, responses, known)
    for shift in found:
        sound[shift.start : shift.stop] = False
    if found:
        warnings.warn(
            f"frames do not fit the model: of {len(sound)} patterns, {max(found, key=lambda one: one.gain)}. The "
            f"stated errors of {np.count_nonzero(~sound)} patterns are infinite: project them again",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return backend_of(responses).asarray(sound)


def find_shifts(patterns: Array, responses: Array) -> list[Shift]:
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
    backend, count = backend_of(responses), patterns.shape[0]
    xp, values = backend.xp, responses[:, :: -(-responses.shape[1] // MAX_PIXELS) or 1]
    values = columns(values, xp.all(xp.isfinite(values), axis=0) & xp.any(values != 0, axis=0))
    if count < MIN_FRAMES or not values.shape[1]:
        return []
    axes, pixels = 2.0 if xp.isdtype(values.dtype, "complex floating") else 1.0, float(values.shape[1])
    values = xp.concat([xp.real(values), xp.imag(values)], axis=1) if axes == 2.0 else values
    values = values / xp.sqrt(xp.mean(values**2, axis=0) + 1e-30)
    some = np.unique(np.linspace(0, count - 1, min(count, COUNTED)).round().astype(np.intp))
    prior, gram = covariance(xp.take(patterns, k := backend.asarray(some), axis=0)), gram_of(xp.take(values, k, axis=0))
    walk = walk_of(prior, some)
    independent = min(max(independent_values(prior + drift * walk, gram) for drift in DRIFTS), axes * pixels)
    ends = [(part[0], part[-1] + 1) for part in np.array_split(np.arange(count), -(-count // BLOCK))]
    parts = ((covariance(patterns[start:stop, :]), gram_of(values[start:stop, :])) for start, stop in ends)
    gains = [gains_of(*part, 0.5 * independent) for part in parts]
    return runs_of(xp.minimum(xp.concat(gains, axis=1), MAX_GAIN), MIN_GAIN + math.log(count))


def find_known_shifts(patterns: Array, responses: Array, known: Known) -> list[Shift]:
    """Find runs of patterns whose responses are those of the next pattern, or of the one before, by known fields.

    Each known field predicts a share of a response; the squared correlation c of the response with the prediction for
    its own pattern, or its neighbour's, has the log-likelihood ``-pixels log(1 - c)``, whatever the beam's phase is.
    8 half-ON fields and 49 independent pixels tell a lost frame in the middle of 8 patterns of 10 to 64 inputs.

    Parameters
    ----------
    patterns : ndarray of bool, shape (count, n_inputs)
        Patterns in the order in which they were sent.
    responses : ndarray of complex, shape (count, n_pixels)
        Their responses.
    known : Known
        Fields on the same pixels.
    """
    backend, count = backend_of(responses), patterns.shape[0]
    xp = backend.xp
    shown, before = xp.astype(patterns, xp.float64), xp.astype(known.patterns, xp.float64)
    pixels, weights = known.pixels, xp.linalg.solve(prior_of(before), before @ shown.T).T
    predicted = xp.astype(weights, xp.complex64) @ known.responses
    alike = {step: likeness(predicted, responses, step) for step in (0, 1, -1)}
    nats = {step: -pixels * xp.log1p(-one) for step, one in alike.items()}
    best = [xp.maximum(one[0], xp.maximum(one[1], one[-1])) for one in (alike, nats)]
    share = xp.sum(weights * (shown @ before.T), axis=1) / xp.maximum(xp.sum(shown, axis=1), 1.0)
    enough = float(xp.mean(best[0])) > MIN_KNOWN_SHARE * float(xp.mean(share)) + CHANCE / pixels
    if not enough or float(xp.mean(best[1])) < MIN_EXPLAINED:
        return []
    gains = xp.stack([xp.where(xp.maximum(nats[k], nats[0]) > MIN_SEEN, nats[k] - nats[0], 0.0) for k in (1, -1)])
    gains[0, count - 1 :] = gains[1, :1] = 0.0
    return runs_of(xp.minimum(gains, MAX_GAIN), MIN_GAIN + math.log(count))


def likeness(predicted: Array, responses: Array, step: int) -> Array:
    """Squared correlation of each response with the prediction for the pattern at `step` from its own; 0 at the end."""
    backend, count = backend_of(responses), responses.shape[0]
    xp, first, stop = backend.xp, max(-step, 0), min(count, count - step)
    one, two = predicted[first + step : stop + step, :], responses[first:stop, :]
    sizes = xp.sum(xp.abs(one) ** 2, axis=1) * xp.sum(xp.abs(two) ** 2, axis=1)
    found = backend.zeros((count,), "float64")
    product = xp.abs(xp.sum(xp.conj(one) * two, axis=1)) ** 2 / xp.maximum(sizes, 1e-30)
    found[first:stop] = xp.minimum(xp.astype(product, xp.float64), 1.0 - 1e-6)
    return found


def gram_of(values: Array) -> Matrix:
    """Products of responses, (n, n)."""
    xp = backend_of(values).xp
    return xp.astype(values @ values.T, xp.float64)


def prior_of(patterns: Array) -> Matrix:
    """Covariance of the fields of known patterns, float64, with their noise: (n, n)."""
    prior = gram_of(patterns)
    return prior + NOISE[0] * float(backend_of(prior).xp.linalg.trace(prior)) / prior.shape[0] * unit_like(prior)


def covariance(patterns: Array) -> Matrix:
    """Covariance of the responses to patterns, relative to their mean variance, without noise: (n, n)."""
    xp = backend_of(patterns).xp
    overlap = gram_of(xp.astype(patterns, xp.float32))
    return overlap / max(float(xp.linalg.trace(overlap)) / overlap.shape[0], 1e-30) + MEAN


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
    backend, n = backend_of(gram), gram.shape[0]
    xp, some = backend.xp, np.unique(np.linspace(0, n - 1, min(n, COUNTED)).round().astype(np.intp))
    labels = {step: np.clip(np.arange(n) + step, 0, n - 1) for step in (0, 1, -1)}
    few, own, walk = block_of(gram, some), block_of(prior, some), walk_of(gram, some)
    drift = max(DRIFTS, key=lambda drift: best_noise(own + drift * walk, few))
    fits = {step: best_noise(block_of(prior, at[some]) + drift * walk, few) for step, at in labels.items()}
    best = max(fits, key=lambda step: fits[step][0])
    moved = best if weight * (fits[best][0] - fits[0][0]) >= EDGE_GAIN else 0
    matrix = block_of(prior, labels[moved]) + drift * walk_of(gram, np.arange(n)) + fits[moved][1] * unit_like(gram)
    precision = xp.linalg.inv(matrix)
    if not moved:
        return weight * xp.stack([neighbour_gains(precision, gram, step) for step in (1, -1)])
    back = -weight * neighbour_gains(precision, gram, -moved)
    return xp.stack([back if step == moved else xp.full_like(back, -math.inf) for step in (1, -1)])


def walk_of(like: Matrix, at: NDArray[np.intp]) -> Matrix:
    """Covariance of a common response that moves by a variance of 1 from pattern to pattern, at these patterns."""
    return backend_of(like).asarray(0.5 * (np.ptp(at) - abs(np.subtract.outer(at, at))))


def block_of(matrix: Matrix, index: NDArray[np.intp]) -> Matrix:
    """Rows and columns of a matrix."""
    backend = backend_of(matrix)
    at = backend.asarray(index)
    return backend.xp.take(backend.xp.take(matrix, at, axis=0), at, axis=1)


def unit_like(matrix: Matrix) -> Matrix:
    """Unit matrix of the same size and place."""
    backend = backend_of(matrix)
    return backend.xp.eye(matrix.shape[0], dtype=backend.xp.float64, device=backend.device)


def best_noise(prior: Matrix, gram: Matrix) -> tuple[float, float]:
    """Twice the log-likelihood per value with the most likely noise, at the best scale, and that noise."""
    linalg, n, found = backend_of(gram).xp.linalg, gram.shape[0], []
    for noise in NOISE:
        matrix = prior + noise * unit_like(gram)
        residual = max(float(linalg.trace(linalg.solve(matrix, gram))), 1e-30)
        found.append((-n * math.log(residual) - float(linalg.slogdet(matrix)[1]), noise))
    return max(found)


def neighbour_gains(precision: Matrix, gram: Matrix, step: int) -> Array:
    """Twice the gain in log-likelihood per value of each response, at `step` from its pattern: (n,).

    Both predictions leave out the response itself and that of the other pattern. The scale of the residuals, which is
    not known, is that of the highest likelihood, so that the gain is the logarithm of their ratio.
    """
    backend, n = backend_of(gram), gram.shape[0]
    xp, diagonal = backend.xp, backend.xp.linalg.diagonal
    first, stop = max(-step, 0), min(n, n - step)
    k, i = slice(first, stop), slice(first + step, stop + step)
    by = precision @ gram  # products of weights and responses
    of = by @ precision  # products of weights
    a, b, d = diagonal(precision)[k], diagonal(precision, offset=step), diagonal(precision)[i]
    of_k, of_ki, of_i = diagonal(of)[k], diagonal(of, offset=step), diagonal(of)[i]
    by_k, by_ki, by_ik, by_i = diagonal(by)[k], diagonal(by, offset=step), diagonal(by, offset=-step), diagonal(by)[i]
    scale = 1.0 / xp.maximum(a * d - b**2, 1e-30)
    own = (d**2 * of_k - 2.0 * d * b * of_ki + b**2 * of_i) * scale**2
    other = (a**2 * of_i - 2.0 * a * b * of_ki + b**2 * of_k) * scale**2
    other += 2.0 * scale * (a * (by_ik - by_i) - b * (by_k - by_ki))
    other += diagonal(gram)[k] + diagonal(gram)[i] - 2.0 * diagonal(gram, offset=step)
    gains = backend.zeros((n,), "float64")
    gains[k] = xp.log(xp.maximum(own, 1e-30) / xp.maximum(other, 1e-30))
    return gains


def independent_values(prior: Matrix, gram: Matrix) -> float:
    """Number of independent values in a response (two in a complex pixel), from the products of responses."""
    xp, n, least = backend_of(gram).xp, gram.shape[0], []
    for noise in NOISE:
        half = xp.linalg.inv(xp.linalg.cholesky(prior + noise * unit_like(prior)))
        white = half @ gram @ half.T
        size = xp.sqrt(xp.maximum(xp.linalg.diagonal(white), 1e-30))
        square = (white / (size[:, None] * size[None, :])) ** 2
        least.append(float(xp.sum(square) - xp.linalg.trace(square)) / max(n * (n - 1), 1))
    return max(1.0 / max(min(least), 1e-9), 1.0)


def runs_of(gains: Matrix, least: float) -> list[Shift]:
    """Runs of patterns whose gains, (2, count) nats, add up to more than `least`, with what may belong to them."""
    found: list[Shift] = []
    if highest_sum(gains) <= least:
        return found
    gains = to_host(gains).copy()
    while True:
        runs = [best_run(gain) for gain in gains]
        row = int(runs[1][2] > runs[0][2])
        start, stop, gain = runs[row]
        if gain <= least:
            return found
        found.append(Shift(start, stop, 1 - 2 * row, gain))
        gains[:, start:stop] = -1e6


def highest_sum(gains: Matrix) -> float:
    """Highest sum of a run of gains, (2, count)."""
    xp = backend_of(gains).xp
    total = xp.cumulative_sum(xp.maximum(gains, -1e6), axis=1, include_initial=True)
    lowest, step = total, 1
    while step < total.shape[1]:  # the minimum so far, in steps of twice the length
        lowest = xp.concat([lowest[:, :step], xp.minimum(lowest[:, step:], lowest[:, :-step])], axis=1)
        step *= 2
    return float(xp.max(total - lowest))


def best_run(gains: NDArray[np.float64]) -> tuple[int, int, float]:
    """First and last end of the run with the highest sum, the latter exclusive, and that sum."""
    total = np.concatenate([[0.0], np.cumsum(np.maximum(gains, -1e6))])
    rise = total - np.minimum.accumulate(total)
    stop = int(rise.argmax())
    start = int(total[: stop + 1].argmin())
    first = int(np.argmax(total[: start + 1] < total[start] + EDGE_GAIN))
    last = stop + int(np.flatnonzero(total[stop:] > total[stop] - EDGE_GAIN)[-1])
    return first, last, float(rise[stop])
