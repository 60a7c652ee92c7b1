"""A projection that follows its device while it trains a network."""

import base64
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from array_api_compat import is_array_api_obj
from numpy.typing import NDArray
from torch import Tensor

from calibration import LinearProjection
from calibration.arrays import columns, located, mean, squares_of_columns, sum_squares
from calibration.camera.decay import Speed
from calibration.camera.motion import MAX_ROWS, Motion
from calibration.device import backend_of_device
from dfa.errors import Diverged
from dfa.feedback.base import State
from photonics.arrays import Array
from photonics.backend import backend_of, to_host

__all__ = ["ADVICE", "FEW", "LOST", "PROBE_EVERY", "Tracker", "quality"]

FEW = 4.0
"""Frames at which the mean of a step's own frames counts half; the other half is that of the steps before."""
GAIN = 0.3
"""Share of a step's own mean by which the anchors follow."""
TOLERATED = {2: 0.02, 1: 0.03}
"""Decorrelation of the field in a step at which hidden blocks learn at half their rate, by the fields in a response."""
COMMON_ROWS = 32
"""Rows of a step for which that holds. Steps of fewer rows are noisier, and count as long as if they had so many."""
COMMON_CLASSES = 10
"""Classes up to which that holds. A class of more is seen in fewer steps, and tolerates less in proportion."""
OFFSET_PULL = 10.0
"""Standard errors by which `offset_power` must grow for an anchor to be stale. With many classes its light hides a
single input long before the readings show how fast the medium moves."""
MIN_RATE = 0.05
"""Factor on the rate of the hidden blocks below which it is 0."""
SLOWED = 0.5
"""Factor on the rate of the hidden blocks below which a speed that is uncertain makes a device count as moving."""
SURE = 3.0
"""Standard errors that are taken off a speed for that."""
MIN_LIFE = 1000
"""Frames that a calibration must have lasted to be taken again: it takes about 64 of them."""
PROBE_EVERY = 10
"""Steps after which errors are shown again while the hidden blocks rest, to see whether the device has slowed down."""
LOST = "feedback must come from the device that was calibrated, got readings that are not like one another"
STALE = (
    "the medium has moved: values have a correlation under {:g} with those of the calibration, and a network that has "
    "aligned with these is taught by others; use refresh=True"
)
ADVICE = "check laser, shutter, alignment and cables, then resume"
Result = TypeVar("Result")


class Tracker:
    """Watches the frames of a projection; once its medium moves, follows it.

    On a still device nothing changes, bit for bit. Once `calibration.camera.motion.Motion` sees a movement, or the
    frames of a step have more in common than those of the first step, the mean of a step's own frames takes the place
    of the calibrated anchor (`LinearProjection.follow`), the frames of a code are neighbours, and `OpticalFeedback`
    centres the signals over the batch. All of it takes no frame.

    Parameters
    ----------
    projection : LinearProjection
        As calibrated.
    rows : ndarray of int
        Rows that are in use; the first ones are watched.
    follows : bool
        Whether to follow a device that moves, or only to say how far it has moved.
    """

    def __init__(self, projection: LinearProjection, rows: NDArray[np.int64], follows: bool = True) -> None:
        self.rows = backend_of_device(projection.opu).asarray(rows)
        self._used = backend_of_device(projection.opu).asarray(np.isin(np.arange(projection.n_outputs), rows))
        self.motion = Motion(projection.moving_fields, projection.speed)
        self.follows = follows
        self.moves = False
        """Whether a movement has been seen."""
        self.shown = 0.0
        """Frames of a step of 32 rows or more, mean over the last steps."""
        self._common: Array | None = None
        self._next: Array | None = None
        self._frozen = self._told = False
        self._offset = 0.0
        self.calibrated = projection

    @property
    def following(self) -> bool:
        """Whether the device moves and is followed."""
        return self.follows and self.moves

    @property
    def _changed(self) -> bool:
        """Whether a movement has been seen, or a change all at once since the last calibration."""
        return self.moves or self.motion.jumped

    @property
    def by_vector(self) -> bool:
        """Whether the frames of a code are neighbours."""
        return self.following

    def __call__(self, halves: Array, responses: Array) -> Array:
        """Responses less the mean of these frames, if the device moves and an anchor would be stale; see `Observer`."""
        if not self._frozen:
            watched = self.rows[: min(MAX_ROWS, self.rows.shape[0])]
            self.motion.add(self.projection.opu.clock.frames, halves, columns(responses, watched))
            self.moves |= self.motion.speed.moving
        if self._calibrated.on_device.follow(responses[0, :]) is None:
            return responses
        if not self.moves and not self._frozen:
            self.moves = self._stale(offset_power(halves, responses, self.rows))
        if not self.following:
            return responses
        own, count = mean(responses, 0, "float32"), responses.shape[0]
        share = count / (count + FEW)
        if not self._frozen:
            before = 0.0 if self._common is None else self._common
            self._next = before + float(np.float32(GAIN) * np.float32(share)) * own
        return responses - share * own

    def _stale(self, power: float) -> bool:
        """Whether the frames of a step have more in common than those of the first step after the calibration."""
        self._offset = self._offset or max(power, 1.0)
        return power > (1.0 + OFFSET_PULL * math.sqrt(2.0 / self.rows.shape[0])) * self._offset

    def use(self, project: Callable[[LinearProjection], Result], rehearsing: bool) -> Result:
        """Use the projection of now for the codes of a step; a rehearsal is not remembered."""
        self._frozen, self._next = rehearsing, self._common
        found = project(self.projection)
        if not rehearsing:
            self._follow(self._next)
        return found

    @property
    def calibrated(self) -> LinearProjection:
        """The projection as it was calibrated last; if it is set, what was learned of its offset is forgotten."""
        return self._calibrated

    @calibrated.setter
    def calibrated(self, projection: LinearProjection) -> None:
        self._calibrated, self._since = projection, projection.frame or projection.opu.clock.frames
        self.moves |= projection.speed.moving
        self.motion.restart()
        self._offset = 0.0
        self._follow(None)

    def count(self, frames: int, rows: int) -> None:
        """Take in the number of frames of a step, and of its rows, shown or not."""
        frames = round(frames * max(COMMON_ROWS / rows, 1.0))
        self.shown = 0.9 * self.shown + 0.1 * frames if self.shown else float(frames)
        speed = self.motion.speed
        self.moves |= self._rate_at(self.shown * max(speed.rate - SURE * speed.error, 0.0)) < SLOWED

    @property
    def moved(self) -> float:
        """Decorrelation of the field in a step, frames over correlation time; 0 on a still device."""
        return self.shown * self.motion.speed.rate if self.following else 0.0

    @property
    def kept(self) -> float:
        """Correlation of the values of now with those of the calibration; 1 on a still device."""
        if not self._changed:
            return 1.0
        kept = self.motion.kept(self._calibrated.opu.clock.frames, self._since)
        # Anchors that are not followed also have stale lengths.
        return kept if self.follows else min(kept, replace(self._calibrated, speed=self.motion.speed).value_correlation)

    @property
    def rate(self) -> float:
        """Factor on the rate of the hidden blocks: ``1 / (1 + (d / d0)^2)`` with d the decorrelation in a step.

        With more than 10 classes, d0 is smaller in proportion.

        0 if that is too small, and as long as the last reading is not like the one before; 1 if nothing is followed.
        """
        if self.follows and (self.rests or self.motion.strange):
            return 0.0
        return self._factor

    @property
    def rests(self) -> bool:
        """Whether the medium moves too fast to teach hidden blocks."""
        return self._factor < MIN_RATE

    @property
    def _factor(self) -> float:
        return self._rate_at(self.moved)

    def _rate_at(self, moved: float) -> float:
        """`rate` for a decorrelation of the field in a step."""
        many = max(self._calibrated.n_inputs / COMMON_CLASSES, 1.0)
        return 1.0 / (1.0 + (many * moved / TOLERATED[self._calibrated.moving_fields]) ** 2)

    def alarm(self, limit: float, age: int) -> bool:
        """Whether to calibrate again: the correlation with the calibration is under the limit, or signals are lost.

        Not if the calibration, taken `age` frames ago, would not last, or if no calibration can teach hidden blocks. A
        device that is not followed is not calibrated: a warning tells once that it has moved.

        Raises
        ------
        Diverged
            If signals are lost in spite of a new calibration.
        """
        motion = self.motion
        if not self.follows:
            if motion.correlation < limit and not self._told:
                self._told = True
                warnings.warn(STALE.format(limit), stacklevel=4)
            return False
        if motion.lost and not motion.answers:
            raise Diverged(f"{LOST}, also after a new calibration: {ADVICE}")
        return motion.lost or (motion.correlation < limit and age >= MIN_LIFE and not self.rests)

    def rest(self) -> None:
        """Let the hidden blocks rest until the device is seen to be slower: it moves too fast for a calibration."""
        self.moves, self.motion.speed = True, Speed(1.0, 0.0)
        self.motion.restart()

    def statistics(self) -> dict[str, float]:
        """Correlation time of the field, frames, its correlation with the last calibration, and the hidden rate.

        Empty if no movement has been seen.
        """
        if not self._changed:
            return {}
        rate = self.motion.speed.rate
        time = 1.0 / rate if rate else math.inf
        return {"correlation_frames": time, "correlation": self.motion.correlation, "hidden_rate": self.rate}

    def state_dict(self) -> State:
        """State in plain types."""
        state = {
            "following": self.moves,
            "shown": self.shown,
            "offset": self._offset,
            "common": self._common,
            "motion": self.motion.state(),
        }
        return pack(state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state. The calibration must be that of the state already."""
        found = located(unpack(state), self.projection.on_device.backend)
        self.moves, self.shown, self._offset = found["following"], found["shown"], found.get("offset", 0.0)
        self.motion.load(found["motion"])
        self._follow(found["common"])

    def _follow(self, common: Array | None) -> None:
        """Take the anchor of now, or that of the calibration if none is known, with soft rows on a moving device.

        Rows in use whose anchor was dark in the last calibration stay in use.
        """
        self._common, followed, there = common, None, self._calibrated.on_device
        if self.following:
            followed = there.follow(there.backend.zeros(there.valid.shape, "float32") if common is None else common)
        self.projection = self._calibrated if followed is None else replace(followed, valid=self._used)


def offset_power(halves: Array, responses: Array, rows: Array) -> float:
    """Power of the mean response of some rows to patterns over what independent responses to their inputs leave in it.

    With w the share of the patterns in which an input is ON, and P the power of its response, the mean has the power
    ``P sum w^2``, and the responses the variance ``P sum w (1 - w)``. An offset that all share adds to the mean alone.
    """
    xp, shown, common = backend_of(halves).xp, mean(halves, 0), columns(mean(responses, 0), rows)
    power = float(sum_squares(common)) / common.size
    squares = float(xp.mean(columns(squares_of_columns(responses), rows))) / responses.shape[0]
    spread, kept = squares - power, float(xp.sum(shown**2))
    left = float(xp.sum(shown)) - kept
    if left <= 0 or spread <= 0:
        return 0.0
    return power * left / (spread * kept)


def quality(values: Tensor, noise: Tensor, saturated: Tensor, kept: float = 1.0) -> dict[str, float]:
    """Share of saturated values, and the power of the signal over that of the noise in dB (infinite without noise).

    `kept` is the correlation of the values with those of the calibration; the rest of their power counts as noise.
    """
    power, disturbance = float(values.square().mean()), float(noise.square().mean())
    disturbance += (1.0 - kept**2) * max(power - disturbance, 0.0)
    ratio = max(power - disturbance, 0.0) / disturbance if disturbance else math.inf
    level = 10.0 * math.log10(ratio) if ratio else -math.inf
    return {"saturated": float(saturated.float().mean()), "snr_db": level}


def pack(value: Any) -> Any:
    """Replace arrays in lists and dictionaries by texts, so that states are plain and can be compared."""
    if is_array_api_obj(value):
        value = to_host(value)
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": data, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, Mapping):
        return {name: pack(one) for name, one in value.items()}
    return [pack(one) for one in value] if isinstance(value, list) else value


def unpack(value: Any) -> Any:
    """Undo `pack`."""
    if isinstance(value, Mapping) and "array" in value:
        return np.frombuffer(base64.b64decode(value["array"]), value["dtype"]).reshape(value["shape"]).copy()
    if isinstance(value, Mapping):
        return {name: unpack(one) for name, one in value.items()}
    return [unpack(one) for one in value] if isinstance(value, list) else value
