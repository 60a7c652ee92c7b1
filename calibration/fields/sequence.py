"""Frames that belong to their patterns: lost, repeated, shifted and late frames, found from the frames alone."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.fields.alignment import Path, align, change_probability
from calibration.fields.frame_prediction import (
    REACH,
    Prediction,
    Shown,
    choose_decay,
    independent_pixels,
    log_gain,
    predict,
    unit_vectors,
)  # fmt: skip
from photonics.arrays import Array, HostArray, RealArray, Shapes
from photonics.backend import to_host
from photonics.patterns.encoding import as_patterns

__all__ = ["FrameFault", "SequenceCheck", "check_sequence"]

MAX_OFFSET = 8
"""Largest difference between the number of a frame and that of its pattern."""
MAX_NAMED = 5
"""Faults that are printed."""
MAX_SHIFTED = 64
"""Longest run of frames that counts as shifted, not as a lost and a repeated frame."""
MAX_PIXELS = 1024
"""Number of pixels that are used, spread over the sensor."""
MAX_CHANGES = 8
"""Largest number of changes of the offset in a sequence, and one more for each 50 frames."""
MAX_ROUNDS = 8
"""Rounds of prediction and alignment."""
MIN_FRAMES = 16
"""Smallest number of frames that are judged."""
MIN_PIXELS = 8.0
"""Smallest number of independent pixels that are judged."""
MIN_MARGIN = 3.0
"""A frame identifies its pattern if this fits better than other patterns nearby, by so many nats."""
MIN_IDENTIFIED = 0.6
"""Smallest share of frames that identify their patterns for a recording to be judged."""
ENOUGH_IDENTIFIED = 0.9
"""Share of frames that identify their patterns from which no other offset is tried."""
MIN_CONFIDENCE = 0.02
"""Confidence of a fault below which the assignment contradicts the frames, so that the recording is not judged."""
MIN_EXPECTED = 0.1
"""Squared correlation below which patterns do not predict each other's frames."""
MIN_LATE = 0.2
"""Smallest share of the exposure in which a late frame shows the one pattern and the other."""
SHIFTS = (0, 1, -1, 2, -2, 3, -3)
"""Offsets that are tried for the whole recording if that of its beginning explains few frames."""

Kind = Literal["lost", "repeated", "shifted", "late", "black"]


@dataclass(frozen=True)
class FrameFault:
    """One fault in the sequence of frames."""

    kind: Kind
    """"lost": frames are missing before `frame`. "repeated": `frame` shows a pattern again. "shifted": a run of frames
    shows the patterns of its neighbours. "late": `frame` also shows the pattern before its own. "black": frames have no
    light, although mirrors are ON (found in recordings, which have the dark level)."""
    frame: int
    """Number of the frame where it happened, from 0; of the first frame of a run."""
    count: int
    """Number of frames that were lost, repeated, shifted or late."""
    offset: int
    """Change of the pattern's number minus the frame's number; 0 for a late frame."""
    confidence: float
    """Probability that this happened at exactly this frame, 0 to 1."""

    def __str__(self) -> str:
        many, last = f"{self.count} frames" if self.count > 1 else "a frame", self.frame + self.count - 1
        said = {
            "lost": f"{many} lost before frame {self.frame}",
            "repeated": f"{many} repeated from frame {self.frame} on",
            "shifted": f"frames {self.frame} to {last} shifted by {self.offset:+d} patterns",
            "late": f"frame {self.frame} late: it also shows the pattern before",
            "black": f"{many} without light from frame {self.frame} on",
        }[self.kind]
        return f"{said} (confidence {self.confidence:.2f})"


@dataclass(frozen=True, eq=False, repr=False)
class SequenceCheck(Shapes):
    """Whether frames belong to their patterns."""

    judged: bool
    """Whether the frames determine which pattern they show."""
    reason: str
    """Why the recording was not judged; empty if it was."""
    faults: tuple[FrameFault, ...]
    """Faults in the order of the frames; if the recording was not judged, only those of frames without light."""
    shown: NDArray[np.intp]
    """Row of `patterns` that each frame shows, (n_frames,); -1 where it is beyond the patterns, or not judged."""
    identified: float
    """Share of frames that identify their own pattern among the ones nearby."""
    correlation: float
    """Median correlation of frames with their prediction from the other frames; NaN if there is none."""

    @property
    def sound(self) -> bool:
        """Whether the recording was judged and has no fault."""
        return self.judged and not self.faults

    def __str__(self) -> str:
        if not self.judged and not self.faults:
            return f"not judged: {self.reason}"
        if not self.faults:
            return "every frame shows its pattern"
        more = f"; and {len(self.faults) - MAX_NAMED} more" if len(self.faults) > MAX_NAMED else ""
        return "; ".join(map(str, self.faults[:MAX_NAMED])) + more


def check_sequence(patterns: Array, frames: Array, *, reference_phase: Array = None) -> SequenceCheck:
    """Find lost, repeated, shifted and late frames of a recording, from the frames alone.

    Every frame is predicted from the other frames by the covariance of speckle intensities, and compared with the
    patterns up to 8 places away. Neither marks in the sequence nor a model of the device are needed. Patterns must have
    mirrors in common: frames of patterns with a single mirror ON are not judged. A frame is late only where mirrors
    move: light between two phases of the reference may be that of a phase that drifts. Where the mirrors stand still
    for more than 16 frames, phases do not tell the place of a frame either.

    Parameters
    ----------
    patterns : array_like of bool or 0/1, shape (n_patterns, n_in)
        Patterns in the order in which they were sent.
    frames : array_like, shape (n_frames, n_out)
        Frames in the order in which they came, at one exposure (or divided by it, without the dark level). Their number
        may differ from that of the patterns.
    reference_phase : array_like, shape (n_patterns,), optional
        Set phase of the reference, radians; NaN where its shutter was closed (by default everywhere).

    Returns
    -------
    SequenceCheck

    Raises
    ------
    ValueError
        If the shapes are wrong, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from calibration import check_sequence
    >>> from photonics import presets
    >>> patterns = np.random.default_rng(0).random((300, 32)) < 0.5
    >>> frames = presets.lab_bench(32, 200).measure(patterns)
    >>> print(check_sequence(patterns, np.delete(frames, 120, axis=0)))
    a frame lost before frame 120 (confidence 1.00)
    """
    shown, values = read(patterns, frames, reference_phase)
    count, pixels = values.shape
    if count < MIN_FRAMES or pixels < MIN_PIXELS:
        return refuse(count, f"{MIN_FRAMES} frames of {MIN_PIXELS:g} pixels that change are needed, got {values.shape}")
    return Search(shown, values).result()


def read(patterns: Array, frames: Array, reference_phase: Array) -> tuple[Shown, RealArray]:
    """Check the arguments; patterns as `Shown`, and frames of some pixels without their mean over time."""
    bits = as_patterns(to_host(patterns), np.shape(patterns)[-1] if np.ndim(patterns) else 0)
    values = np.asarray(to_host(frames))
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise ValueError(f"frames must be numbers, (n_frames, n_out), got {values.dtype}, shape {values.shape}")
    values = values[:, :: -(-values.shape[1] // MAX_PIXELS) or 1].astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("frames must be finite, got NaN or infinity")
    try:
        phase = np.broadcast_to(np.asarray(np.nan if reference_phase is None else reference_phase, float), len(bits))
    except (TypeError, ValueError):
        raise ValueError(f"reference_phase must be {len(bits)} numbers, one for each pattern") from None
    if np.isinf(phase).any():
        raise ValueError("reference_phase must be finite, or NaN where the shutter was closed, got infinity")
    phase = np.where(bits.any(axis=1) | np.isnan(phase), phase, 0.0)  # of the reference alone nothing is seen
    reference = np.where(np.isnan(phase), 0.0, np.exp(1j * np.nan_to_num(phase))).astype(np.complex64)
    if len(values):
        values = values - values.mean(axis=0)
        spread = values.std(axis=0)
        values = values[:, spread > 0] / spread[spread > 0]
    return Shown(bits.astype(np.float32), reference), values


def refuse(count: int, reason: str, identified: float = 0.0, correlation: float = float("nan")) -> SequenceCheck:
    """Result for a recording that cannot be judged."""
    return SequenceCheck(False, reason, (), np.full(count, -1), identified, correlation)


class Search:
    """The search for the sequence of patterns that explains the frames."""

    def __init__(self, shown: Shown, values: RealArray) -> None:
        self.shown, self.values = shown, values
        self.unit, self.offsets = unit_vectors(values), np.arange(-MAX_OFFSET, MAX_OFFSET + 1)
        self.count, self.n_patterns = len(values), len(shown.patterns)
        place = np.arange(self.count)[:, None] + self.offsets[None, :]
        self.place, self.inside = np.clip(place, 0, self.n_patterns - 1), (place >= 0) & (place < self.n_patterns)
        self.pixels, self.most_changes = float(values.shape[1]), MAX_CHANGES + self.count // 50
        self.last: tuple[NDArray[np.intp], tuple[Prediction, HostArray, HostArray]] | None = None
        moved = np.any(shown.patterns[1:] != shown.patterns[:-1], axis=1)  # a phase between two steps may drift
        still = (np.bincount(run := np.cumsum(np.append(0, moved))) > 2 * MAX_OFFSET)[run]  # the phase alone may drift
        phase = np.where(still & (shown.reference != 0), np.complex64(2.0), shown.reference)
        kinds = np.hstack([np.packbits(shown.patterns > 0, axis=1), phase[:, None].view(np.uint8)])
        self.kind = np.unique(kinds, axis=0, return_inverse=True)[1].reshape(-1)
        self.lit = np.any(shown.patterns, axis=1)  # no mirrors: too little light to show a part of another
        self.changes = np.append(False, moved & self.lit[1:] & self.lit[:-1])

    def labels(self, state: NDArray[np.intp]) -> NDArray[np.intp]:
        """Pattern of each frame on a path, within the patterns."""
        return self.place[np.arange(self.count), state]

    def guess(self, found: Prediction, label: NDArray[np.intp], place: NDArray[np.intp]) -> RealArray:
        """Predict the frame of pattern ``place[k]`` without frame k and the frame that is assigned to the pattern."""
        frame_of, here = np.full(self.n_patterns, -1), np.arange(self.count)
        frame_of[label] = here
        other, count = frame_of[place], np.bincount(label, minlength=self.n_patterns)[place]
        equal = self.kind[place] == self.kind[label]  # then frame k from all other frames, whatever their order
        apart = (np.abs(other - here) <= REACH) & ~equal
        near = np.where(apart & (count == 1), other, np.where(here > 0, here - 1, 1))
        guess = np.where(equal[:, None], found.of_frames, found.without_two(self.values, near))
        for k in np.flatnonzero(~equal & ((count != 1) | ~apart)).tolist():
            if count[k] == 0 or not apart[k]:
                pattern = int(place[k])
                guess[k] = found.missing_without(pattern, k) if pattern in found.missing else 0.0
            else:
                rows = np.append(np.flatnonzero(label == place[k]), k)
                guess[k] = found.without_all(self.values, rows) if np.ptp(rows) <= REACH else 0.0
        return guess

    def gains(self, found: Prediction, label: NDArray[np.intp]) -> tuple[HostArray, HostArray]:
        """Gain of each frame with each pattern, and with it and the frame before: (n_frames, offsets) each."""
        unit, size, previous = self.unit, np.linalg.norm(self.values, axis=1), np.roll(self.unit, 1, axis=0)
        lag = np.einsum("ij,ij->i", unit, previous)
        repeat, after_light = np.append(-1, self.kind[label[:-1]]), self.lit[np.roll(label, 1)]  # the frame before
        one, two = np.zeros(self.place.shape), np.zeros(self.place.shape)
        for i, place in enumerate(self.place.T):
            guess = self.guess(found, label, place)
            other = unit_vectors(guess)
            match, cross = (np.einsum("ij,ij->i", vectors, other) for vectors in (unit, previous))
            now = (match - lag * cross) / np.maximum(np.linalg.norm(guess, axis=1), 1e-12)
            before = (lag - match * cross) / np.maximum(np.roll(size, 1), 1e-12)
            mixed = (np.minimum(now, before) > MIN_LATE * (now + before)) & self.changes[place] & after_light
            mixed &= self.kind[place] != repeat  # the frame before shows the same pattern: no other part to show
            both = (match**2 + lag**2 - 2.0 * match * lag * cross) / np.maximum(1.0 - cross**2, 1e-6)
            match = np.where(self.kind[place] == repeat, np.maximum(match, lag), match)
            one[:, i] = log_gain(np.maximum(match, 0.0) ** 2, self.pixels)
            two[:, i] = np.where(mixed, log_gain(both, self.pixels), 0.0)
        two[0] = 0.0
        return np.where(self.inside, one, 0.0), np.where(self.inside, two, 0.0)

    def margin(self, one: HostArray, path: Path) -> HostArray:
        """Gain of each frame's pattern above that of any other pattern nearby, nats: (n_frames,)."""
        at = np.arange(self.count), path.state
        same = self.kind[self.place] == self.kind[self.place[at]][:, None]
        return one[at] - np.where(same | ~self.inside, 0.0, one).max(axis=1)

    def evaluate(self, label: NDArray[np.intp]) -> tuple[Prediction, HostArray, HostArray]:
        """Predict all frames with an assignment of patterns, and compare; the last assignment is remembered."""
        if self.last is None or (self.last[0] != label).any():
            decay = choose_decay(self.values, self.shown, label)
            found = predict(self.values, self.shown, label, decay)
            self.pixels = independent_pixels(self.values - found.of_frames)
            self.last = label, (found, *self.gains(found, label))
        return self.last[1]

    def settle(self, path: Path) -> Path:
        """Predict with the patterns of a path and align again, until the path stays."""
        _, one, two = self.evaluate(self.labels(path.state))
        for _ in range(MAX_ROUNDS):
            before, path = path, align(one, two)
            if (path.state == before.state).all() or path.changes > self.most_changes:
                break
            _, *new = self.evaluate(self.labels(path.state))
            one, two = (one + new[0]) / 2.0, (two + new[1]) / 2.0  # the mean keeps it from going back and forth
        return path

    def identified(self, one: HostArray, path: Path) -> float:
        """Share of frames that identify their pattern."""
        return float(np.mean(self.margin(one, path) > MIN_MARGIN))

    def search(self) -> Path:
        """Best path found from the assumption of one offset for all frames, or of several in turn."""
        one, two = np.zeros(self.place.shape), np.zeros(self.place.shape)
        best, most = Path(np.full(self.count, MAX_OFFSET), np.zeros(self.count, bool)), -np.inf
        for shift in SHIFTS:
            _, *new = self.evaluate(self.labels(np.full(self.count, MAX_OFFSET + shift)))
            one, two = np.maximum(one, new[0]), np.maximum(two, new[1])
            path = self.settle(align(one, two))
            if path.changes > self.most_changes:
                continue
            _, *last = self.evaluate(self.labels(path.state))
            if (score := path.score(*last)) > most:
                best, most = path, score
                if self.identified(last[0], path) > ENOUGH_IDENTIFIED and path.changes <= self.most_changes / 4:
                    break
        return best

    def result(self) -> SequenceCheck:
        """Search, and judge."""
        path = self.search()
        found, one, two = self.evaluate(self.labels(path.state))
        match = np.einsum("ij,ij->i", self.unit, unit_vectors(found.of_frames))
        identified, correlation = self.identified(one, path), float(np.median(match))
        reason = self.reason(identified, float(np.median(found.expected)))
        faults = faults_of(path, self.offsets, change_probability(one, two, path))
        doubt = [fault for fault in faults if fault.confidence < MIN_CONFIDENCE]
        if not reason and len(faults) > self.most_changes:
            reason = f"{len(faults)} faults would explain the frames, too many for a sequence: light or phases change"
        elif not reason and doubt:
            reason = f"several sequences of patterns fit about equally well from frame {doubt[0].frame} on"
        if reason:
            return refuse(self.count, reason, identified, correlation)
        shown = np.arange(self.count) + self.offsets[path.state]
        shown[(shown < 0) | (shown >= self.n_patterns)] = -1
        return SequenceCheck(True, "", faults, shown, identified, correlation)

    def reason(self, identified: float, expected: float) -> str:
        """Why the recording cannot be judged; empty if it can."""
        if self.pixels < MIN_PIXELS:
            return f"frames have {self.pixels:.1f} independent pixels, {MIN_PIXELS:g} are needed"
        if identified >= MIN_IDENTIFIED:
            return ""
        said = f"{identified:.0%} of the frames identify their pattern, {MIN_IDENTIFIED:.0%} are needed"
        if expected < MIN_EXPECTED:
            return f"{said}: the patterns have too little in common (one mirror at a time, or few frames)"
        return f"{said}: the medium moves too fast, the frames are too dark, or they belong to other patterns"


def faults_of(path: Path, offsets: NDArray[np.intp], probability: HostArray) -> tuple[FrameFault, ...]:
    """Faults of a path, in the order of the frames."""
    steps = np.diff(offsets[path.state], prepend=0)
    found = [FrameFault("late", k, 1, 0, float(probability[k])) for k in np.flatnonzero(path.late).tolist()]
    at = np.flatnonzero(steps).tolist()
    paired: set[int] = set()
    for k, stop in pairwise([*at, -1]):
        if k in paired:
            continue
        step, sure = int(steps[k]), float(probability[k])
        if stop > 0 and steps[stop] == -step and stop - k <= MAX_SHIFTED:
            paired.add(stop)
            found.append(FrameFault("shifted", k, stop - k, step, min(sure, float(probability[stop]))))
        else:
            found.append(FrameFault("lost" if step > 0 else "repeated", k, abs(step), step, sure))
    return tuple(sorted(found, key=lambda fault: fault.frame))
