"""How fast the map of a projection moves, from the frames of the vectors that it projects."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from calibration.arrays import count
from calibration.camera.decay import STILL, Speed
from photonics.arrays import Array
from photonics.backend import backend_of

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
MIN_ALIKE = 0.25
"""Pairs of like readings, for each reading, under which they do not tell a speed; what was known before then holds."""
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
    halves: list[Array]
    responses: list[Array]


class Ring(NamedTuple):
    """The last readings: mean frame number, and map (n_inputs, n_rows), NaN for inputs that were rare."""

    frames: list[int]
    maps: list[Array]


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
        self.jumped = False
        """Whether the device has changed all at once since the last calibration."""
        self._usual = 0.0
        self._open = Frames([], [], [])
        self._ring = Ring([], [])
        self._first: tuple[int, Array] | None = None
        self._first_scale = 0.0
        self._known: Array | None = None
        self._flat: list[tuple[Array, Array]] = []

    def add(self, frame: int, halves: Array, responses: Array) -> None:
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
        xp, parts = backend_of(responses).xp, responses[:, : min(MAX_ROWS, responses.shape[1])]
        if isinstance(parts, np.ndarray):
            parts = np.ascontiguousarray(parts)  # sums depend on the order in memory
        if xp.isdtype(parts.dtype, "complex floating"):
            pairs = xp.stack([xp.real(parts), xp.imag(parts)], axis=2)
            parts = xp.reshape(pairs, (pairs.shape[0], -1))
        numbers, shown, seen = self._open
        numbers.append(frame)
        shown.append(halves)
        seen.append(parts)
        on = count(halves, 0) if len(shown) == 1 else count(xp.concat(shown), 0)
        terms, inputs = sum(one.shape[0] for one in shown), halves.shape[1]
        if terms < MAX_TERMS * inputs and (terms < MIN_TERMS * inputs or int(xp.min(on)) < MIN_SHOWN):
            return
        found = solve(xp.concat(shown), xp.concat(seen), on >= MIN_SHOWN)
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
        self.strange, self.answers, self.jumped = 0, False, False

    def state(self) -> dict[str, object]:
        """State in plain types and arrays, for `load`."""
        return {
            "speed": list(self.speed),
            "correlation": self.correlation,
            "strange": self.strange,
            "answers": self.answers,
            "jumped": self.jumped,
            "usual": self._usual,
            "open": list(map(list, self._open)),
            "ring": list(map(list, self._ring)),
            "first": [] if self._first is None else list(self._first),
            "first_scale": self._first_scale,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.speed, self.correlation = Speed(*state["speed"]), state["correlation"]
        self.jumped = state.get("jumped", False)
        self.strange, self.answers, self._usual = state["strange"], state["answers"], state["usual"]
        self._open, self._ring = Frames(*map(list, state["open"])), Ring(*map(list, state["ring"]))
        self._first = tuple(state["first"]) if state["first"] else None
        self._first_scale = state["first_scale"]

    def _take(self, frame: int, found: Array) -> None:
        if self._ring.maps and self._jumped(frame, found):
            self._ring = Ring([], [])
        frames, maps = self._ring = Ring([*self._ring.frames, frame][-RING:], [*self._ring.maps, found][-RING:])
        if self._first is None:
            self._first = frame, found
        xp = backend_of(found).xp
        known = xp.all(xp.isfinite(xp.stack([one[:, 0] for one in (*maps, self._first[1])])), axis=0)
        if len(maps) < MIN_READINGS or int(count(known)) < 2:
            return
        flat = self._contrasts(maps, known)
        at = backend_of(found).asarray(np.array(frames, np.float64))
        least = 0.5 / flat.shape[1] if len(maps) < FEW_READINGS else 0.0
        floor = max(MIN_OVERLAP, CHANCE / float(np.sqrt(flat.shape[1])))
        lags = xp.abs(at[:, None] - at[None, :])
        fit = fit_decay(lags, flat @ flat.T, self.fields, least, floor)
        if fit is not None:
            self.speed = fit[0]
            self._first_scale = float(fit[1][0]) if frames[0] == self._first[0] else self._first_scale
        if fit is None or not self._first_scale:
            self.correlation = float(np.exp(-self.fields * self.speed.rate * (frame - self._first[0])))
            return
        together = float(flat[-1, :] @ contrast(self._first[1], known))
        self.correlation = min(max(together / max(self._first_scale * float(fit[1][-1]), 1e-300), 0.0), 1.0)

    def _contrasts(self, maps: list[Array], known: Array) -> Array:
        """Contrast of each map as a row, (readings, n); those of maps that have been here before are kept."""
        xp = backend_of(known).xp
        if self._known is None or not bool(xp.all(self._known == known)):
            self._known, self._flat = known, []
        kept = {id(one): flat for one, flat in self._flat}
        self._flat = [(one, kept[id(one)] if id(one) in kept else contrast(one, known)) for one in maps]
        return xp.stack([flat for _, flat in self._flat])

    def _jumped(self, frame: int, found: Array) -> bool:
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
            self.jumped = True
            return True
        alike, decay = near[0]
        if alike is not None and decay > MIN_OVERLAP:
            self.strange, self.answers = 0, True
            usual = min(alike / decay, 1.0)
            self._usual = usual if not self._usual else 0.8 * self._usual + 0.2 * usual
        return False


def likeness(one: Array, two: Array) -> float | None:
    """Normalised overlap of two readings, noise included; None if they share less than two inputs."""
    xp = backend_of(one).xp
    known = xp.isfinite(one[:, 0]) & xp.isfinite(two[:, 0])
    if int(count(known)) < 2:
        return None
    a, b = contrast(one, known), contrast(two, known)
    return float(a @ b) / max(float(xp.linalg.vector_norm(a)) * float(xp.linalg.vector_norm(b)), 1e-300)


def contrast(found: Array, known: Array) -> Array:
    """Maps (..., n_inputs, n_rows) of the known inputs less their mean over them, each as one vector.

    Where every pattern has one input ON, that mean is part of the common response, and not known.
    """
    xp = backend_of(found).xp
    some = xp.astype(xp.take(found, xp.nonzero(known)[0], axis=found.ndim - 2), xp.float64)
    some -= xp.mean(some, axis=-2, keepdims=True)
    return xp.reshape(some, (*some.shape[:-2], -1))


def solve(halves: Array, values: Array, used: Array) -> Array:
    """Map of the inputs that are `used`, (inputs, rows), without a common response; NaN for the others."""
    backend = backend_of(values)
    xp, x = backend.xp, backend.xp.astype(halves, backend.xp.float64)
    x -= xp.mean(x, axis=0)
    normal = x.T @ x + backend.asarray(RIDGE * np.eye(x.shape[1]))
    centred = xp.astype(values - xp.mean(values, axis=0), xp.float64)
    found = xp.astype(xp.linalg.solve(normal, x.T @ centred), xp.float32)
    return xp.where(used[:, None], found, np.nan)


def fit_decay(lags: Array, overlaps: Array, fields: int, least: float, floor: float) -> tuple[Speed, Array] | None:
    """Fit ``log overlap_ij = b_i + b_j - fields rate lag_ij``; also return the scales ``exp(b)``.

    `least` is a floor for the variance of a relative overlap, and overlaps under `floor` are not used. None if fewer
    than `MIN_ALIKE` of the readings are like another one: noise or a medium that is faster than the readings hides it.
    """
    backend, readings = backend_of(lags), lags.shape[0]
    xp, pairs = backend.xp, backend.asarray(~np.eye(readings, dtype=np.bool_))
    own = xp.sqrt(xp.maximum(xp.linalg.diagonal(overlaps), 1e-300))
    alike = overlaps / (own[:, None] * own[None, :])
    scale = max(float(fields * xp.max(lags)), 1.0)
    lag = fields * lags / scale
    target = xp.log(xp.maximum(alike, 0.02))
    if int(count(pairs & (alike > floor))) < 2 * max(MIN_ALIKE * readings, 1.0):  # each pair is there twice
        return None
    solution, _ = weighted_fit(lag, target, xp.where(pairs & (alike > floor), alike, 0.0))
    # Once more, with the pairs that decay and noise leave above the limit by the fit, not by their own noise.
    kept = pairs & (xp.exp(-solution[-1] * lag) > floor)
    weight = xp.where(kept, xp.exp(predict(solution, lag)), 0.0)
    solution, inverse = weighted_fit(lag, target, weight)
    residual = float(xp.sum((weight * (target - predict(solution, lag))) ** 2)) / 2.0  # each pair is there twice
    freedom = max(int(count(kept)) // 2 - readings - 1, 1)
    error = np.sqrt(max(residual / freedom, least) * float(inverse[-1, -1]))
    return Speed(max(float(solution[-1]), 0.0) / scale, float(error) / scale), own * xp.exp(solution[:-1])


def predict(solution: Array, lag: Array) -> Array:
    """``b_i + b_j - rate lag_ij`` for a solution ``(b, rate)``."""
    return solution[:-1, None] + solution[None, :-1] - solution[-1] * lag


def weighted_fit(lag: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Least-squares fit of `predict` to symmetric targets: the solution, and the inverse of the normal matrix.

    `PRIOR` is the weight of ``2 b_i = 0``. The diagonals of the weights must be 0.
    """
    backend = backend_of(lag)
    xp, square, unit = backend.xp, weight**2, backend.asarray(np.eye(lag.shape[0] + 1))
    last = xp.sum(square * lag**2) / 2.0
    normal = unit * (xp.concat([xp.sum(square, axis=1) + 4.0 * PRIOR**2, last[None]]) + 1e-12)
    normal[:-1, :-1] += square
    sloped = square * lag
    normal[:-1, -1] = normal[-1, :-1] = -xp.sum(sloped, axis=1)
    right = xp.concat([xp.sum(square * target, axis=1), -xp.sum(sloped * target)[None] / 2.0])
    inverse = xp.linalg.inv(normal)
    return inverse @ right, inverse
