"""How fast the map of a projection moves, from the frames of the vectors that it projects."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.decay import STILL, Speed
from photonics.arrays import BoolArray, FloatArray, HostArray

__all__ = ["MAX_ROWS", "Motion"]

RING = 40
"""Readings that are kept."""
MIN_READINGS = 4
"""Readings from which on a speed is stated. A fast medium must be seen soon: a stale anchor drives units into
saturation within ten steps."""
FEW_READINGS = 8
"""Readings below which their fit is too good by chance, so that the noise of an overlap has a floor."""
MIN_SHOWN = 2
"""Frames in which an input must be ON in a reading; inputs that are rarer are left out."""
MIN_TERMS, MAX_TERMS = 4, 40
"""Frames for each input from which on a reading may end, and after which it ends even if some inputs are rare."""
MAX_ROWS = 256
"""Outputs that are watched, the first ones that are valid."""
RIDGE = 0.05
"""Frames that the inputs' mean counts for, so that inputs that are always ON together have a solution."""
MIN_OVERLAP = 0.15
"""Overlap of two readings, noise apart, below which it is not used: its logarithm would be that of noise."""
CHANCE = 4.0
"""Standard errors of the overlap of unlike readings below which it is not used, either: of few outputs, one in twenty
would be above 0.15, and a fast medium would seem slow."""
MAX_DROP = 0.5
"""Likeness of two neighbouring readings over the usual one under which the device has changed all at once."""
MIN_USUAL, MIN_LEFT = 0.1, 0.4
"""Usual likeness, and decay from one reading to another, under which a change is not seen: noise or a fast medium hide
it."""
LOST = 3
"""Readings in a row that are not like the one before, after which the device does not answer any more."""
PRIOR = 0.02
"""Weight of a reading's overlap with itself, which contains its noise."""


class Frames(NamedTuple):
    """Frames of the reading that is not complete: their numbers, patterns and responses, one entry for each call."""

    numbers: list[int]
    halves: list[BoolArray]
    responses: list[FloatArray]


class Ring(NamedTuple):
    """The last readings: mean frame number, and map (n_inputs, n_rows), NaN for inputs that were rare."""

    frames: list[int]
    maps: list[FloatArray]


class Motion:
    """Watches the map of a projection: readings of it, their overlaps, and the decay of these with the lag.

    A reading is the least-squares map from the patterns shown to the responses, over the frames of a few steps. A
    common response is left out. The overlap of two readings i and j has no noise in its mean: ``s_i s_j exp(-k lag
    rate)``, with k the number of fields in a response that move (2 with an anchor on the same mirrors, 1 with a still
    reference). A weighted fit of its logarithm over all pairs gives the rate, without a model of noise or light.

    Parameters
    ----------
    fields : int
        k.
    speed : Speed
        What the calibration has seen; it holds until the first readings are complete.
    """

    def __init__(self, fields: int, speed: Speed = STILL) -> None:
        self.fields = fields
        self.speed = speed
        self.correlation = 1.0
        """Overlap of the last reading with the first one since the last calibration, noise apart."""
        self.strange = 0
        """Readings in a row that are not like the one before although the medium is slow enough: 1 after a step."""
        self.answers = False
        """Whether two neighbouring readings since the last calibration were alike."""
        self._usual = 0.0
        self._open = Frames([], [], [])
        self._ring = Ring([], [])
        self._first: tuple[int, FloatArray] | None = None
        self._first_scale = 0.0

    def add(self, frame: int, halves: BoolArray, responses: HostArray) -> None:
        """Take in frames of patterns; the speed is new whenever these complete a reading.

        Parameters
        ----------
        frame : int
            Number of the last one of these frames.
        halves : ndarray, shape (n, n_inputs)
            Patterns.
        responses : ndarray, shape (n, n_rows)
            Responses of the watched rows, real or complex; the first `MAX_ROWS` are used.
        """
        parts = np.ascontiguousarray(responses[:, :MAX_ROWS])
        parts = parts.view(np.float32) if np.iscomplexobj(parts) else parts
        numbers, shown, seen = self._open
        numbers.append(frame)
        shown.append(halves)
        seen.append(parts)
        on = np.sum([h.sum(axis=0) for h in shown], axis=0)
        count, inputs = sum(map(len, shown)), halves.shape[1]
        if count < MAX_TERMS * inputs and (count < MIN_TERMS * inputs or on.min() < MIN_SHOWN):
            return
        found = solve(np.concatenate(shown), np.concatenate(seen), on >= MIN_SHOWN)
        self._open = Frames([], [], [])
        self._take(round(sum(numbers) / len(numbers)), found)

    @property
    def lost(self) -> bool:
        """Whether the readings agree no more with one another: what comes from the device is not its map."""
        return self.strange >= LOST

    def kept(self, frame: int, since: int) -> float:
        """Correlation of the map in a frame with that of `since`, when it was calibrated.

        It is that of the readings, times the decay before the first and after the last of them.
        """
        gap = frame - since
        if self._first is not None and len(self._ring.maps) >= MIN_READINGS:
            gap = max(self._first[0] - since, 0) + max(frame - self._ring.frames[-1], 0)
        return self.correlation * float(np.exp(-self.fields * self.speed.rate * max(gap, 0)))

    def restart(self) -> None:
        """Begin again after a new calibration: the next reading is the one that later ones are compared with."""
        self._open, self._first, self.correlation = Frames([], [], []), None, 1.0
        if self.strange:
            self._ring = Ring([], [])
        self.strange, self.answers = 0, False

    def state(self) -> dict[str, object]:
        """State in plain types and arrays, for `load`."""
        return {
            "speed": list(self.speed),
            "correlation": self.correlation,
            "strange": self.strange,
            "answers": self.answers,
            "usual": self._usual,
            "open": list(map(list, self._open)),
            "ring": list(map(list, self._ring)),
            "first": [] if self._first is None else list(self._first),
            "first_scale": self._first_scale,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.speed, self.correlation = Speed(*state["speed"]), state["correlation"]
        self.strange, self.answers, self._usual = state["strange"], state["answers"], state["usual"]
        self._open, self._ring = Frames(*map(list, state["open"])), Ring(*map(list, state["ring"]))
        self._first = tuple(state["first"]) if state["first"] else None
        self._first_scale = state["first_scale"]

    def _take(self, frame: int, found: FloatArray) -> None:
        if self._ring.maps and self._jumped(frame, found):
            self._ring = Ring([], [])
        frames, maps = self._ring = Ring([*self._ring.frames, frame][-RING:], [*self._ring.maps, found][-RING:])
        if self._first is None:
            self._first = frame, found
        known = np.asarray(np.isfinite([one[:, 0] for one in (*maps, self._first[1])]).all(axis=0))
        if len(maps) < MIN_READINGS or known.sum() < 2:
            return
        flat = contrast(np.stack(maps), known)
        lags = np.abs(np.subtract.outer(np.array(frames, np.float64), frames))
        least = 0.5 / flat.shape[1] if len(maps) < FEW_READINGS else 0.0
        floor = max(MIN_OVERLAP, CHANCE / float(np.sqrt(flat.shape[1])))
        self.speed, scales = fit_decay(lags, flat @ flat.T, self.fields, least, floor)
        if frames[0] == self._first[0]:
            self._first_scale = float(scales[0])
        together = float(flat[-1] @ contrast(self._first[1], known))
        self.correlation = min(max(together / max(self._first_scale * float(scales[-1]), 1e-300), 0.0), 1.0)

    def _jumped(self, frame: int, found: FloatArray) -> bool:
        """Whether a reading is much less like the two before than usual; the correlation then falls at once.

        Two, because a step in the middle of a reading leaves it half like both of its neighbours.
        """
        last = zip(self._ring.frames[:-3:-1], self._ring.maps[:-3:-1], strict=True)
        near = [
            (likeness(found, one), float(np.exp(-self.fields * self.speed.rate * (frame - at)))) for at, one in last
        ]
        seen = [(a, decay) for a, decay in near if a is not None and decay > MIN_LEFT]
        drops = [a / (self._usual * decay) for a, decay in seen if self._usual > MIN_USUAL]
        if drops and min(drops) < MAX_DROP:
            self.correlation *= max(min(drops), 0.0)
            self.strange += 1
            return True
        alike, decay = near[0]
        if alike is not None and decay > MIN_OVERLAP:
            self.strange, self.answers = 0, True
            usual = min(alike / decay, 1.0)
            self._usual = usual if not self._usual else 0.8 * self._usual + 0.2 * usual
        return False


def likeness(one: FloatArray, two: FloatArray) -> float | None:
    """Normalised overlap of two readings, noise included; None if they share less than two inputs."""
    known = np.isfinite(one[:, 0]) & np.isfinite(two[:, 0])
    if known.sum() < 2:
        return None
    a, b = contrast(one, known), contrast(two, known)
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-300)


def contrast(found: FloatArray, known: BoolArray) -> NDArray[np.float64]:
    """Maps (..., n_inputs, n_rows) of the known inputs less their mean over them, each as one vector.

    Where every pattern has one input ON, that mean is part of the common response, and not known.
    """
    some = found.compress(known, axis=-2).astype(np.float64)
    some -= some.mean(axis=-2, keepdims=True)
    return some.reshape(*some.shape[:-2], -1)


def solve(halves: BoolArray, values: FloatArray, used: BoolArray) -> FloatArray:
    """Map of the inputs that are `used`, (inputs, rows), without a common response; NaN for the others."""
    x = halves.astype(np.float64)
    x -= x.mean(axis=0)
    normal = x.T @ x + RIDGE * np.eye(x.shape[1])
    found = np.linalg.solve(normal, x.T @ (values - values.mean(axis=0))).astype(np.float32)
    found[~used] = np.nan
    return found


def fit_decay(
    lags: NDArray[np.float64], overlaps: NDArray[np.float64], fields: int, least: float, floor: float = MIN_OVERLAP
) -> tuple[Speed, NDArray[np.float64]]:
    """Fit ``log overlap_ij = b_i + b_j - fields rate lag_ij``; also return the scales ``exp(b)``.

    `least` is a floor for the variance of a relative overlap, and overlaps under `floor` are not used.
    """
    count, pairs = len(lags), ~np.eye(len(lags), dtype=np.bool_)
    own = np.sqrt(np.maximum(np.diag(overlaps), 1e-300))
    alike = overlaps / np.multiply.outer(own, own)
    scale = max(float(fields * lags.max()), 1.0)
    lag = fields * lags / scale
    target = np.log(np.maximum(alike, 0.02))
    solution, _ = weighted_fit(lag, target, np.where(pairs & (alike > floor), alike, 0.0))
    # Once more, with the pairs that decay and noise leave above the limit by the fit, not by their own noise.
    kept = pairs & (np.exp(-solution[-1] * lag) > floor)
    weight = np.where(kept, np.exp(predict(solution, lag)), 0.0)
    solution, inverse = weighted_fit(lag, target, weight)
    residual = float(np.sum((weight * (target - predict(solution, lag))) ** 2)) / 2.0  # each pair is there twice
    freedom = max(np.count_nonzero(kept) // 2 - count - 1, 1)
    error = np.sqrt(max(residual / freedom, least) * inverse[-1, -1])
    return Speed(max(float(solution[-1]), 0.0) / scale, float(error) / scale), own * np.exp(solution[:-1])


def predict(solution: NDArray[np.float64], lag: NDArray[np.float64]) -> NDArray[np.float64]:
    """``b_i + b_j - rate lag_ij`` for a solution ``(b, rate)``."""
    return np.add.outer(solution[:-1], solution[:-1]) - solution[-1] * lag


def weighted_fit(
    lag: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares fit of `predict` to symmetric targets: the solution, and the inverse of the normal matrix.

    `PRIOR` is the weight of ``2 b_i = 0``. The diagonals of the weights must be 0.
    """
    square = weight**2
    normal = np.diag(np.append(square.sum(axis=1) + 4.0 * PRIOR**2, np.sum(square * lag**2) / 2.0) + 1e-12)
    normal[:-1, :-1] += square
    normal[:-1, -1] = normal[-1, :-1] = -np.sum(square * lag, axis=1)
    right = np.append(np.sum(square * target, axis=1), -np.sum(square * lag * target) / 2.0)
    inverse = np.asarray(np.linalg.inv(normal), np.float64)
    return inverse @ right, inverse
