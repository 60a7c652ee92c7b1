"""Prediction of each frame from the other frames of a recording, by the covariance of speckle intensities."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, get_lapack_funcs

from photonics.arrays import FloatArray, HostArray, RealArray

__all__ = [
    "REACH", "Prediction", "Shown", "choose_decay", "covariance", "independent_pixels", "log_gain", "predict",
    "unit_vectors",
]  # fmt: skip

WINDOW = 1024
"""Frames that are predicted at a time, from themselves and half as many on either side."""
REACH = 16
"""Largest distance of two frames that are left out together."""
NOISE = 0.03
"""Variance of noise relative to that of the speckle; it only has to be of the right order."""
MEAN = 100.0
"""Variance of the frames' unknown mean relative to that of the speckle. It is fitted with the rest: a mean that is
subtracted would contain the very frame that is predicted."""
DECAY_FRAMES = (1e5, 1e4, 3e3, 1e3, 300.0, 100.0)
"""Correlation times of the medium that are tried, frames."""
DECAY_WINDOW = 512
"""Frames from which the correlation time is chosen."""
GRAM_FRAMES = 400
"""Frames from which the number of independent pixels is counted."""
MIN_IMPROVEMENT = 0.5
"""Gain per frame, nats, from which a shorter correlation time is preferred."""


class Shown(NamedTuple):
    """What the mirrors and the reference arm showed, one row for each pattern."""

    patterns: RealArray
    """1 where a mirror is ON, otherwise 0: (count, n_in)."""
    reference: NDArray[np.complex64]
    """``exp(i phase)``; 0 where the shutter of the reference arm was closed: (count,)."""

    def take(self, rows: NDArray[np.intp]) -> "Shown":
        """Return some rows."""
        return Shown(self.patterns[rows], self.reference[rows])


class Prediction(NamedTuple):
    """Frames predicted from the other frames."""

    of_patterns: FloatArray
    """Frame of each pattern that has none but is near others that have; otherwise 0: (count, n_pixels)."""
    of_frames: FloatArray
    """Each frame from all the others, as the pattern that is assigned to it: (n_frames, n_pixels)."""
    weights: FloatArray
    """Frames times the inverse of their covariance: (n_frames, n_pixels)."""
    band: NDArray[np.float64]
    """Entries of that inverse up to `REACH` frames away from its diagonal: (n_frames, 2 REACH + 1)."""
    missing: dict[int, FloatArray]
    """Weights of all frames in the prediction of each pattern that has no frame: (n_frames,)."""
    expected: FloatArray
    """Squared correlation with a frame that the patterns allow, in a medium that does not move: (n_frames,)."""

    def without_two(self, frames: RealArray, other: NDArray[np.intp]) -> FloatArray:
        """Predict the frames `other` without these frames and without frame k: (n_frames, n_pixels).

        Entry k is frame ``other[k]``, at most `REACH` away from k and not k itself.
        """
        here = np.arange(len(frames))
        own, both = self.band[:, REACH], self.band[here, other - here + REACH]
        scale = 1.0 / (own * own[other] - both**2)
        one, two = (own * scale).astype(np.float32), (both * scale).astype(np.float32)
        found = frames[other] - one[:, None] * self.weights[other] + two[:, None] * self.weights
        return found.astype(np.float32, copy=False)

    def without_all(self, frames: RealArray, rows: NDArray[np.intp]) -> FloatArray:
        """Predict frame ``rows[0]`` without all frames `rows`, which are at most `REACH` apart: (n_pixels,)."""
        block = self.band[rows[:, None], rows[None, :] - rows[:, None] + REACH]
        return (frames[rows[0]] - np.linalg.solve(block, self.weights[rows])[0]).astype(np.float32)

    def missing_without(self, pattern: int, frame: int) -> FloatArray:
        """Predict a pattern that has no frame, without one of the frames: (n_pixels,)."""
        share = self.missing[pattern][frame] / self.band[frame, REACH]
        return self.of_patterns[pattern] - np.float32(share) * self.weights[frame]


class Window(NamedTuple):
    """Predictions for the frames of a window."""

    own: FloatArray
    """Each frame from all the others: (n_frames, n_pixels)."""
    expected: FloatArray
    """See `Prediction.expected`."""
    weights: FloatArray
    band: NDArray[np.float64]
    """See `Prediction`."""
    wanted: FloatArray
    """Weights of the frames in the prediction of patterns that have none: (n_wanted, n_frames)."""


def covariance(one: Shown, two: Shown, power: float) -> NDArray[np.float64]:
    """Covariance of the intensities of two lists of patterns over Gaussian media: (count_one, count_two).

    Fields ``y = T x + r`` with Gaussian entries have the covariance ``c = x'.x + r* r'``, and their intensities
    ``|c|^2`` (Goodman, Speckle Phenomena in Optics, 2nd ed. 2020, ch. 3).

    Parameters
    ----------
    one, two : Shown
    power : float
        Intensity of the reference, in units of that of one mirror.
    """
    overlap = (one.patterns @ two.patterns.T).astype(np.float64)
    if one.reference.any() and two.reference.any():
        return np.abs(overlap + power * np.outer(one.reference, two.reference.conj())) ** 2
    return overlap**2


def unit_vectors(frames: RealArray) -> RealArray:
    """Frames with mean 0 and length 1: (..., n_pixels)."""
    centred = frames - frames.mean(axis=-1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-12)


def log_gain(squared: RealArray, pixels: float) -> NDArray[np.float64]:
    """Gain in log-likelihood of a prediction with a squared correlation, over none, nats."""
    return -0.5 * pixels * np.log1p(-np.clip(np.asarray(squared, np.float64), 0.0, 1.0 - 1e-6))


def predict(frames: RealArray, shown: Shown, label: NDArray[np.intp], decay: float) -> Prediction:
    """Predict the frame of every pattern by Gaussian-process regression on the frames of the others.

    A frame is left out of the prediction of the pattern assigned to it, so that a wrong assignment does not confirm
    itself (leave-one-out residuals: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 5.12).

    Parameters
    ----------
    frames : ndarray of float32, shape (n_frames, n_pixels)
        Frames, in any unit; their mean over time is of the order of their variation or less.
    shown : Shown
        All patterns, `count` rows.
    label : ndarray of int, shape (n_frames,)
        Row of `shown` that is assigned to each frame.
    decay : float
        Correlation time of the medium, frames.
    """
    count, n_frames = len(shown.patterns), len(frames)
    when = np.interp(np.arange(count), label, np.arange(n_frames))  # of patterns that have no frame
    of_frames, weights = np.empty_like(frames), np.empty_like(frames)
    band, expected = np.empty((n_frames, 2 * REACH + 1)), np.empty(n_frames, np.float32)
    of_patterns, missing = np.zeros((count, frames.shape[1]), np.float32), np.ones(count, bool)
    missing[label] = False
    near = np.arange(max(label.min() - REACH, 0), min(label.max() + REACH + 1, count))
    missing[np.setdiff1d(np.arange(count), near)] = False
    of_missing: dict[int, FloatArray] = {}
    for start in range(0, n_frames, WINDOW):
        stop = min(start + WINDOW, n_frames)
        inside = np.arange(max(start - WINDOW // 2, 0), min(stop + WINDOW // 2, n_frames))
        wanted = np.flatnonzero(missing & (when >= start) & (when < stop))
        found = predict_window(frames[inside], shown, label[inside], inside, wanted, when, decay)
        part = slice(start - inside[0], stop - inside[0])
        of_frames[start:stop], expected[start:stop] = found.own[part], found.expected[part]
        weights[start:stop], band[start:stop] = found.weights[part], found.band[part]
        of_patterns[wanted] = found.wanted @ frames[inside]
        for pattern, row in zip(wanted.tolist(), found.wanted, strict=True):
            of_missing[pattern] = np.zeros(n_frames, np.float32)
            of_missing[pattern][inside] = row
    return Prediction(of_patterns, of_frames, weights, band, of_missing, expected)


def predict_window(
    frames: RealArray,
    shown: Shown,
    label: NDArray[np.intp],
    time: HostArray,
    wanted: NDArray[np.intp],
    when: NDArray[np.float64],
    decay: float,
) -> Window:
    """Predict frames of a window, and the patterns `wanted`, which have no frame."""
    known = shown.take(label)
    power = max(float(known.patterns.sum(axis=1).mean()), 1.0)
    prior = covariance(known, known, power)
    level = prior.mean(axis=0)
    variance = prior.diagonal() - 2.0 * level + level.mean()
    scale = max(float(variance.mean()), 1e-12)
    matrix = prior * np.exp(-2.0 / decay * np.abs(time[:, None] - time[None, :])) + MEAN * scale
    matrix[np.diag_indices_from(matrix)] += NOISE * scale
    factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, frames, check_finite=False).astype(np.float32)
    others = np.zeros((0, len(frames)), np.float32)
    if len(wanted):
        cross = covariance(shown.take(wanted), known, power)
        cross = cross * np.exp(-2.0 / decay * np.abs(when[wanted][:, None] - time[None, :])) + MEAN * scale
        others = cho_solve(factor, cross.T, check_finite=False).T.astype(np.float32)
    (invert,) = get_lapack_funcs(("potri",), (factor[0],))
    inverse = invert(factor[0], lower=True, overwrite_c=True)[0]
    left = inverse.diagonal()
    own = frames - weights / left[:, None].astype(np.float32)
    share = 1.0 - 1.0 / (left * (variance + NOISE * scale))
    rows = np.arange(len(frames))[:, None]
    near = np.clip(rows + np.arange(-REACH, REACH + 1), 0, len(frames) - 1)
    band = inverse[np.maximum(rows, near), np.minimum(rows, near)]  # the lower triangle is stored
    return Window(own, share.astype(np.float32), weights, band, others)


def choose_decay(frames: RealArray, shown: Shown, label: NDArray[np.intp]) -> float:
    """Correlation time of `DECAY_FRAMES` that predicts some frames best; the longest if none is clearly better."""
    middle = max((len(frames) - DECAY_WINDOW) // 2, 0)
    time = np.arange(middle, min(middle + DECAY_WINDOW, len(frames)))
    nothing, when = np.zeros(0, np.intp), np.zeros(0)
    best, found = -np.inf, DECAY_FRAMES[0]
    unit = unit_vectors(frames[time])
    for decay in DECAY_FRAMES:
        own = predict_window(frames[time], shown, label[time], time, nothing, when, decay).own
        match = np.einsum("ij,ij->i", unit, unit_vectors(own))
        gain = float(log_gain(np.maximum(match, 0.0) ** 2, frames.shape[1]).mean())
        if gain > best + MIN_IMPROVEMENT:
            best, found = gain, decay
    return found


def independent_pixels(residual: RealArray) -> float:
    """Number of independent pixels, ``tr(C)^2 / tr(C^2)`` of their covariance C, from frames with independent noise."""
    part = unit_vectors(residual[:: max(len(residual) // GRAM_FRAMES, 1)])
    products = (part @ part.T) ** 2
    count = len(part)
    square = (products.sum() - products.trace()) / max(count * (count - 1), 1)
    return float(np.clip(1.0 / max(square, 1e-9), 1.0, residual.shape[1]))
