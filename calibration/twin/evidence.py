"""The frames of a recording, sorted by what was asked: dark frames, bursts, pairs of complements, looks, references."""

from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from calibration.camera.estimate import HIDDEN, Estimate
from calibration.storage.recording import Recording
from calibration.twin.parameter import CannotTell
from photonics.arrays import BoolArray, FloatArray, HostArray, IntArray, Shapes
from photonics.description import PartTables, parts_of

__all__ = ["Evidence", "read_evidence"]

MAX_READINGS = 2**28
"""Largest number of readings (frames times pixels) that a fit takes into memory."""
MIN_BURST = 16
"""Smallest number of frames of one pattern in a row from which the variance of a pixel is taken."""
COLUMNS = ("frames", "patterns", "exposure_s", "phase", "laser_on")
"""Arrays with an entry for each frame, besides their numbers."""
MIN_DARK_FRAMES = 16
"""Smallest number of dark frames at an exposure for a fit."""
HALF = (0.3, 0.7)
"""Share of inputs that are ON in a pattern that counts as half ON."""


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Shapes):
    """Frames in the order in which they were taken, and the request of each; N frames of n_out pixels."""

    frames: HostArray
    """Codes of the camera: (N, n_out)."""
    patterns: BoolArray
    """Inputs that are ON: (N, n_in)."""
    exposure_s: FloatArray
    """Exposure of each frame, seconds: (N,)."""
    phase: FloatArray
    """Phase of the reference beam, radians; NaN where its shutter was closed: (N,)."""
    laser_on: BoolArray
    """False in dark frames: (N,)."""
    number: IntArray
    """Frame numbers, in frame periods: (N,)."""
    parts: PartTables
    """Data sheets of the parts."""
    curve: Estimate = HIDDEN
    """Curve that was taken out of the codes (`straight`), 1/DN; NaN if none was."""
    zero_dn: float = 0.0
    """Dark level from which it was taken, DN."""

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self.patterns.shape[1]

    @property
    def n_out(self) -> int:
        """Number of pixels."""
        return self.frames.shape[1]

    @property
    def top(self) -> float:
        """Last code of the camera, on the scale of the frames."""
        return float(self.straighten(self.parts.camera.top))

    @property
    def period_s(self) -> float:
        """Seconds from one frame to the next, by the data sheets."""
        return 1.0 / min(self.parts.dmd.frame_rate_hz, self.parts.camera.frame_rate_hz)

    @cached_property
    def on(self) -> IntArray:
        """Number of inputs that are ON: (N,)."""
        return self.patterns.sum(axis=1)

    @cached_property
    def name(self) -> IntArray:
        """Number of the pattern of each frame; equal patterns have the same: (N,)."""
        return np.unique(np.packbits(self.patterns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)

    @cached_property
    def plain(self) -> BoolArray:
        """Frames of light without the reference: (N,)."""
        return self.laser_on & np.isnan(self.phase)

    @cached_property
    def half(self) -> BoolArray:
        """Frames of patterns that are about half ON, without the reference: (N,)."""
        share = self.on / self.n_in
        return self.plain & (share > HALF[0]) & (share < HALF[1])

    @cached_property
    def main_s(self) -> float:
        """Exposure of most frames of half-ON patterns, seconds.

        Raises
        ------
        CannotTell
            If there are none.
        """
        if not self.half.any():
            raise CannotTell("there are no frames of patterns that are half ON")
        times, counts = np.unique(self.exposure_s[self.half], return_counts=True)
        return float(times[np.argmax(counts)])

    def straight(self, curve: Estimate, zero_dn: float) -> "Evidence":
        """Return codes of a linear camera, float32, from those of a response ``s + curve s^2`` above dark."""
        bent = replace(self, curve=curve, zero_dn=zero_dn)
        return replace(bent, frames=bent.straighten(self.frames))

    def straighten(self, codes: HostArray | float) -> FloatArray:
        """Return codes as a linear camera would have them."""
        codes = np.asarray(codes, np.float32)
        if not np.isfinite(self.curve.value):
            return codes
        signal = codes - np.float32(self.zero_dn)
        root = np.sqrt(np.maximum(1.0 + np.float32(4.0 * self.curve.value) * signal, np.float32(0.0)))
        return np.asarray(np.float32(self.zero_dn) + np.float32(2.0) * signal / (np.float32(1.0) + root), np.float32)

    def take(self, chosen: IntArray) -> "Evidence":
        """Return some frames, the first of which has the number 0."""
        columns = {name: getattr(self, name)[chosen] for name in COLUMNS}
        return replace(self, **columns, number=self.number[chosen] - self.number[chosen[0]])

    def of(self, chosen: BoolArray | IntArray) -> FloatArray:
        """Codes of some frames as float32: (n, n_out)."""
        return self.frames[chosen].astype(np.float32)

    def at(self, exposure_s: float) -> BoolArray:
        """Frames of an exposure: (N,)."""
        return np.isclose(self.exposure_s, exposure_s, rtol=1e-6, atol=0.0)

    def dark(self) -> list[tuple[float, IntArray]]:
        """Exposures of the dark frames, ascending, each with the frames; only those with many, if there are such."""
        times = np.unique(self.exposure_s[~self.laser_on])
        found = [(float(t), np.flatnonzero(~self.laser_on & self.at(float(t)))) for t in times]
        return [(time, index) for time, index in found if len(index) >= MIN_DARK_FRAMES] or found

    def off(self) -> IntArray:
        """Frames of all inputs OFF at the longest exposure that has them.

        Raises
        ------
        CannotTell
            If there are none.
        """
        off = self.plain & (self.on == 0)
        if not off.any():
            raise CannotTell("there are no frames of all inputs OFF without the reference")
        return np.flatnonzero(off & self.at(float(self.exposure_s[off].max())))

    def bursts(self) -> list[IntArray]:
        """Runs of `MIN_BURST` or more frames, one after the other, of one pattern at one exposure."""
        lit = self.plain & (self.on > 0)
        same = lit[1:] & lit[:-1] & (np.diff(self.name) == 0) & (np.diff(self.number) == 1)
        same &= np.isclose(self.exposure_s[1:], self.exposure_s[:-1])
        parts = np.split(np.arange(len(self.frames)), np.flatnonzero(~same) + 1)
        return [part for part in parts if len(part) >= MIN_BURST]

    def pairs(self) -> IntArray:
        """Frames i whose next frame shows the complement, half ON, at the main exposure."""
        good = self.half & self.at(self.main_s)
        follows = good[:-1] & good[1:] & (np.diff(self.number) == 1)
        first = np.flatnonzero(follows)
        first = first[(self.patterns[first] != self.patterns[first + 1]).all(axis=1)]
        return first[np.concatenate([[True], np.diff(first) > 1])] if len(first) else first

    def visits(self, chosen: BoolArray) -> list[IntArray]:
        """Split the chosen frames of one pattern into looks: runs of frames with following numbers."""
        index = np.flatnonzero(chosen)
        return np.split(index, np.flatnonzero(np.diff(self.number[index]) > 1) + 1)

    def most_watched(self, chosen: BoolArray) -> BoolArray:
        """Frames, among the chosen ones, of the pattern at one exposure that has the most looks."""
        best, most = np.zeros(len(self.frames), bool), 0
        names, counts = np.unique(self.name[chosen], return_counts=True)
        for name in names[counts >= MIN_BURST]:
            mine = chosen & (self.name == name)
            times, numbers = np.unique(self.exposure_s[mine], return_counts=True)
            mine &= self.at(float(times[np.argmax(numbers)]))
            if (looks := len(self.visits(mine))) > most:
                best, most = mine, looks
        return best


def read_evidence(recording: Recording | str | Path) -> Evidence:
    """Read all frames of a recording.

    Raises
    ------
    ValueError
        If the file cannot be read, its description is not valid, or there are too many readings.
    """
    if not isinstance(recording, Recording):
        with closing(Recording(recording)) as opened:
            return read_evidence(opened)
    count, n_out = len(recording), recording.n_out
    if count * n_out > MAX_READINGS:
        raise ValueError(
            f"recording must have at most {MAX_READINGS} readings (frames times pixels), got {count} x {n_out}: "
            "record a region of the sensor"
        )
    columns = recording.columns
    return Evidence(
        frames=recording.frames,
        patterns=recording.patterns,
        exposure_s=columns["exposure_s"],
        phase=columns["reference_phase"],
        laser_on=columns["laser_on"].astype(bool),
        number=columns["frame_number"],
        parts=parts_of(recording.device),
    )
