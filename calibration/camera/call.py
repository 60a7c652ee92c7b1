"""What the frames of one call of a projection tell by themselves: a medium that moves, and pixels that are blind."""

import math

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns
from calibration.camera.decay import Speed
from calibration.camera.noise import NoiseModel
from calibration.camera.own_motion import MAX_INPUTS, MAX_ROWS, speed_of_call
from photonics.arrays import Array, BoolArray, FloatArray
from photonics.backend import backend_of, to_host

__all__ = ["CallWatch", "Lookout", "blind_in", "blind_pixels", "last_of"]

MIN_FRAMES, MIN_PIXELS = 16, 16
"""Numbers of frames and pixels from which on pixels are judged."""
NOISE_ERRORS = 3.0
"""A pixel is blind if its variance is that of noise within this many standard errors."""
SPREADS = 6.0
"""And if the logarithm of what exceeds noise is this many standard deviations below that of the median pixel, by those
of the darkest twentieth. On sound benches the least of 500 pixels is 2 to 4 of them below it."""
MAX_CHANCE = 0.01
"""And if a sound pixel of the sensor is as dim with this probability at most, by the power law of the darker half: what
exceeds noise is exponential over the pixels of a single pattern."""
MIN_VARIANCE = 0.5
"""Variance by the patterns, DN^2, that a sound pixel must have, so that rounding does not hide it."""
LOOK_EVERY = 8192
"""Frames after which a plain call is looked at again: 8 s at 1 kHz. It bounds the time, on average over calls."""
LOOK_AT = 32
"""Patterns of a call that are looked at, the last ones."""


class Lookout:
    """Counts the frames of plain calls, which are looked at from time to time."""

    def __init__(self) -> None:
        self._unseen = LOOK_EVERY

    def is_due(self, frames: int) -> bool:
        """Whether to look at a call of so many frames; the first is."""
        self._unseen += frames
        if not frames or self._unseen < LOOK_EVERY:
            return False
        self._unseen = 0
        return True


class CallWatch:
    """Watches the frames of one call.

    Parameters
    ----------
    noise : NoiseModel
        Of the camera, by the calibration.
    speed : Speed
        Of the medium, by the calibration. A call shows it only where the calibration has seen no movement.
    valid : ndarray of bool, shape (n_out,)
        Rows that can be used.
    watches : bool
        False if the frames are watched elsewhere.
    """

    def __init__(self, noise: NoiseModel, speed: Speed, valid: Array, watches: bool) -> None:
        self._noise, self._speed, self._valid, self._watches = noise, speed, valid, watches
        self._moves = watches and not speed.moving
        self._rows, usable = valid, to_host(valid) if self._moves else np.zeros(0, np.bool_)
        if (step := -(-np.count_nonzero(usable) // MAX_ROWS)) > 1:
            self._rows = backend_of(valid).asarray(usable & (np.cumsum(usable) % step == 0))
        self._seen: list[tuple[BoolArray, NDArray[np.number]]] = []
        self._spreads: list[tuple[int, FloatArray, FloatArray]] = []

    def add(self, patterns: Array, responses: Array, frames: Array) -> None:
        """Take in patterns, (n, n_inputs), and responses, (n, n_out), in the order of time, and all frames."""
        if self._moves and patterns.shape[1] <= MAX_INPUTS:
            self._seen.append((to_host(patterns), to_host(columns(responses, self._rows))))
        if self._watches and frames.shape[0]:
            self._spreads.append(spread_of(frames))

    def speed(self, fields: int, each: int) -> Speed:
        """Rate by the calibration or, if it has seen none, by `speed_of_call`."""
        if not self._seen:
            return self._speed
        patterns, responses = (np.concatenate(parts) for parts in zip(*self._seen, strict=True))
        return speed_of_call(patterns, responses[:, np.isfinite(responses).all(axis=0)], fields, each)

    def blind(self, saturation_dn: float) -> Array:
        """Pixels that do not see the patterns any more, (n_out,), by `blind_pixels`."""
        return judge(self._spreads, self._noise, self._valid, saturation_dn)


def last_of(frames: Array, count: int) -> Array:
    """Frames of the last patterns, as many as there are: (batch, ...) -> (count or fewer, ...)."""
    return frames[max(frames.shape[0] - count, 0) :, ...]


def blind_in(frames: Array, noise: NoiseModel, valid: Array, saturation_dn: float) -> Array:
    """Pixels that do not see the last `LOOK_AT` patterns, (batch, frames_per_vector, n_out), any more: (n_out,)."""
    return judge([spread_of(last_of(frames, LOOK_AT))], noise, valid, saturation_dn)


def spread_of(frames: Array) -> tuple[int, FloatArray, FloatArray]:
    """Number of frames, and mean and variance of each pixel over them, on the host."""
    xp = backend_of(frames).xp
    flat = xp.astype(xp.reshape(frames, (-1, frames.shape[-1])), xp.float32)
    return flat.shape[0], to_host(xp.mean(flat, axis=0)), to_host(xp.var(flat, axis=0))


def judge(
    spreads: list[tuple[int, FloatArray, FloatArray]], noise: NoiseModel, valid: Array, saturation_dn: float
) -> Array:
    """`blind_pixels` by the `spread_of` the parts of a call, where `valid` is; those that saturate are not judged."""
    found = np.zeros(valid.shape[0], np.bool_)
    if spreads:
        counts, means, variances = map(np.array, zip(*spreads, strict=True))
        share = (counts / counts.sum())[:, None]
        mean = np.sum(share * means, axis=0)
        variance = np.sum(share * (variances + (means - mean) ** 2), axis=0)
        expected = noise.variance(mean.astype(np.float32))
        found = blind_pixels(variance, expected, int(counts.sum()), to_host(valid) & (mean < saturation_dn))
    return backend_of(valid).asarray(found)


def blind_pixels(variance: FloatArray, noise: FloatArray, count: int, judged: BoolArray) -> BoolArray:
    """Pixels that show noise only, where others show the patterns: dead, stuck at a reading, or hidden by dust.

    Parameters
    ----------
    variance, noise : ndarray, shape (n_pixels,)
        Variance of the readings over all frames, and that of the camera's noise, DN^2.
    count : int
        Number of frames.
    judged : ndarray of bool, shape (n_pixels,)
        Pixels that count.

    Returns
    -------
    ndarray of bool, shape (n_pixels,)
        None of them if noise could hide the patterns in a sound pixel.
    """
    above, limit = np.where(judged, variance / noise - 1.0, math.nan), NOISE_ERRORS * math.sqrt(2.0 / count)
    blind = judged & (above < limit)
    if count < MIN_FRAMES or np.count_nonzero(judged) < MIN_PIXELS or not blind.any():
        return np.zeros_like(blind)
    low, middle = np.log(np.maximum(np.nanquantile(above, (0.05, 0.5)), 1e-9))  # 1.64 standard deviations
    darkest = math.exp(middle - SPREADS * (middle - low) / 1.64)
    if darkest < max(limit, MIN_VARIANCE / float(np.median(noise[judged]))):
        return np.zeros_like(blind)
    power = math.log(10.0) / max(middle - low, 1e-6)
    chance = math.log(0.05 * np.count_nonzero(judged)) + power * (math.log(limit) - low)
    return blind & (chance < math.log(MAX_CHANCE))
