"""How fast the medium moves, from the vectors of one call of a projection."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from calibration.camera.decay import BLOCKS, STILL, Speed
from photonics.arrays import BoolArray

__all__ = ["MAX_INPUTS", "MAX_ROWS", "speed_of_call"]

PARTS = 6
"""Parts of a call whose maps are compared, at most."""
PER_INPUT = 4
"""Patterns for each input that a part has at least."""
MAX_ROWS = 512
"""Rows that are enough, spread over the valid ones."""
MAX_INPUTS = 1024
"""Largest number of inputs of a call that is watched, for time: 2 s for 10,000 patterns."""
MIN_VARIANCE = 0.02
"""Smallest variance of the patterns in a direction of the inputs, over the largest one, in which maps are compared."""
UNKNOWN_NOISE = 0.1
"""Relative error of the noise of a map, by the residuals of its fit."""
CLEAR = 5.0
"""Standard errors by which a rate must be above 0."""
MAX_LOST = 0.95
"""Largest loss of correlation whose logarithm is used."""


def speed_of_call(patterns: BoolArray, responses: NDArray[np.number], fields: int, each: int) -> Speed:
    """Rate at which the map from patterns to responses decays over a call.

    The maps of some parts of the call, one after the other, are least-squares fits with a common response. Two of them
    differ by the power ``2 P (1 - exp(-fields rate lag))`` and by their noise, which the residuals give. A call is
    longer than the repeated frames of a calibration, and tells slower drifts. A scale and a phase that all rows share
    (the laser, the reference) are left out.

    Parameters
    ----------
    patterns : ndarray of bool, shape (n, n_inputs)
        In the order of time.
    responses : ndarray, shape (n, n_rows)
        Real or complex.
    fields : int
        Fields in a response that move with the medium.
    each : int
        Frames of a pattern.

    Returns
    -------
    Speed
        `STILL` if the rate is not clearly above 0, or if the call is too short to tell.
    """
    (count, inputs), rows = patterns.shape, responses.shape[1]
    parts = min(PARTS, count // (PER_INPUT * inputs))
    if parts < 2 or rows < 2 * BLOCKS:
        return STILL
    places = np.array_split(np.arange(count), parts)
    along = directions(patterns, places)
    maps, noise = map(np.stack, zip(*(fit_part(patterns[k], responses[k], along) for k in places), strict=True))
    power = np.sum(np.abs(maps) ** 2, axis=1) - noise
    total, overlap = power.sum(axis=1), np.einsum("kdr,dr->k", maps.conj(), maps.mean(axis=0))
    if total.min() <= 0 or not np.abs(overlap).min():
        return STILL
    maps *= (overlap / np.abs(overlap) / np.sqrt(total))[:, None, None]
    noise, power = noise / total[:, None], np.mean(power / total[:, None], axis=0)
    lags, lost, chance = [], [], []
    for i, j in combinations(range(parts), 2):
        added = noise[i] + noise[j]
        lost.append((np.sum(np.abs(maps[i] - maps[j]) ** 2, axis=0) - added) / 2.0)
        chance.append(float(added.sum()) / 2.0)
        lags.append(each * (places[j].mean() - places[i].mean() - (len(places[i]) + len(places[j])) / 6.0))
    lag, lost = np.array(lags), np.array(lost)
    blocks = np.array_split(np.arange(rows), BLOCKS)
    shares = [lost.sum(axis=1), *(np.delete(lost, k, axis=1).sum(axis=1) / np.delete(power, k).sum() for k in blocks)]
    weight = lag / (fields * lag @ lag)
    rate, *others = (float(weight @ -np.log1p(-np.minimum(share, MAX_LOST))) for share in shares)
    error = np.hypot(np.std(others) * np.sqrt(BLOCKS - 1.0), UNKNOWN_NOISE * float(weight @ chance))
    return Speed(rate, 0.0) if rate > CLEAR * error else STILL


def directions(patterns: BoolArray, places: list[NDArray[np.intp]]) -> NDArray[np.float64]:
    """Directions of the inputs in which the patterns of the parts vary, (n_inputs, n_directions)."""
    normal = sum(np.cov(patterns[at].T.astype(np.float64), bias=True) for at in places)
    values, vectors = np.linalg.eigh(np.atleast_2d(normal))
    return vectors[:, values > MIN_VARIANCE * values[-1]]


def fit_part(
    patterns: BoolArray, responses: NDArray[np.number], along: NDArray[np.float64]
) -> tuple[NDArray[np.number], NDArray[np.float64]]:
    """Map of a part in some directions, (n_directions, n_rows), and the power of its noise in each row."""
    x, y = patterns @ along, responses - responses.mean(axis=0)
    x = x - x.mean(axis=0)
    inverse = np.linalg.pinv(x.T @ x, hermitian=True)
    found = inverse @ (x.T @ y)
    freedom = max(len(x) - 1 - along.shape[1], 1)
    return found, np.sum(np.abs(y - x @ found) ** 2, axis=0) / freedom * np.trace(inverse)
