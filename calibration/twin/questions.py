"""The frames from which a twin is fitted: what to show, in which order, and when."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device, check_device, show
from calibration.storage.recorder import Recorder
from photonics.arrays import BoolArray, FloatArray, HostArray
from photonics.backend import to_host
from photonics.chain import SHORTEST_EXPOSURE_S
from photonics.component import integer
from photonics.random import PatternSet, Stream, check_seed, words

__all__ = ["record_bench"]

QUARTERS: NDArray[np.float64] = np.array([0.0, 0.5, 1.0, 1.5]) * np.pi
"""Phases of the reference beam, radians."""
MAX_BLOCKS = 256
"""Largest number of groups of inputs that are lit alone."""
LOOKS, LONGEST_GAP = 45, 600_000
"""Number of looks at one pattern, and the longest wait before one, frames."""
REFERENCE_LOOKS, LONGEST_REFERENCE_GAP = 160, 20_000
"""Number of looks at the reference's phase, and the longest wait before one, frames."""
PHASE_STEP = 0.25
"""Wanted mean square change of the reference's phase from one look to the next, radians squared: it can be followed."""
REFERENCE_LEVEL = 0.3
"""Wanted level of the reference beam alone, as a share of the camera's range."""


def record_bench(opu: Device, path: str | Path, *, reference: bool = True, seed: int = 0) -> Path:
    """Ask a device the questions of `fit_device` in at most 5000 frames, and record them.

    Dark frames; bursts of one pattern at two exposures; a pattern, its complement and all inputs ON in turn; groups of
    inputs alone, with frames of all inputs OFF beside them; looks at one pattern at logarithmic spacing; the reference
    beam at four phases with all inputs OFF and with a half-ON pattern; patterns at two exposures in turn. The looks
    take 41 minutes at 1000 frames per second.

    Parameters
    ----------
    opu : Device
        A simulated device or the adapter of a bench. Its exposure must suit random half-ON patterns
        (`OPU.autoexpose`). Between looks its clock is advanced; the adapter of a bench waits so many frame periods.
    path : str or Path
        The new recording.
    reference : bool
        Whether the device has a reference arm.
    seed : int
        Seed of the patterns.

    Returns
    -------
    Path
        The recording.

    Raises
    ------
    ValueError
        If an argument is wrong, or the file exists or cannot be written.
    """
    check_device(opu)
    integer(opu.n_in, "n_in", 8)
    with Recorder(opu, path) as recorder:
        asked = Questions(recorder, check_seed(seed))
        asked.ask_camera()
        asked.ask_pairs()
        asked.ask_blocks()
        asked.ask_looks()
        if reference:
            asked.ask_pairs(4)
            asked.ask_reference()
            asked.ask_pairs(4)
            asked.ask_phase()
        asked.ask_response()
    return recorder.path


class Questions:
    """The questions to a device, in groups."""

    def __init__(self, opu: Device, seed: int) -> None:
        self.opu, self.seed, self.drawn = opu, seed, 0
        self.main_s = opu.exposure_s
        self.longest_s = (opu.frame_period_s - opu.dmd.settle_s) * 0.999
        self.ones, self.zeros = np.ones((1, opu.n_in), bool), np.zeros((1, opu.n_in), bool)

    def draw(self, count: int) -> BoolArray:
        """Random patterns with exactly half of the inputs ON: (count, n_in); never the same twice."""
        tick = PatternSet.TWIN + self.drawn + np.arange(count)
        self.drawn += count
        random = words(self.seed, Stream.PROBES, np.arange(self.opu.n_in)[None, :], tick[:, None])[0]
        return np.argsort(np.argsort(random, axis=1, kind="stable"), axis=1) < self.opu.n_in // 2

    def repeat(
        self, pattern: BoolArray, count: int, exposure_s: float, phase: NDArray[np.float64] | None = None
    ) -> HostArray:
        """Frames of one pattern, (count, n_out)."""
        return to_host(show(self.opu, np.repeat(pattern, count, axis=0), exposure_s, reference_phase=phase))

    def ask_camera(self) -> None:
        """Dark frames at three exposures, bursts at two, and all inputs ON at the longest exposure."""
        shortest = max(1e-5, SHORTEST_EXPOSURE_S)
        for count, seconds in ((120, self.longest_s), (40, (self.longest_s + shortest) / 2.0), (100, shortest)):
            self.opu.dark(count, seconds)
        for seconds in [self.main_s] * 12 + [max(self.main_s / 6.0, SHORTEST_EXPOSURE_S)] * 6:
            self.repeat(self.draw(1), 48, seconds)
        self.repeat(self.ones, 12, self.longest_s)

    def ask_pairs(self, groups: int = 24) -> None:
        """Patterns, each followed by its complement, between frames of all inputs ON."""
        for _ in range(groups):
            half = self.draw(25)
            pairs = np.stack([half, ~half], axis=1).reshape(-1, self.opu.n_in)
            show(self.opu, np.concatenate([self.ones, pairs, self.ones]), self.main_s)

    def ask_blocks(self) -> None:
        """Groups of neighbouring inputs alone at the longest exposure, with frames of all inputs OFF on both sides."""
        n = self.opu.n_in
        size = -(-n // MAX_BLOCKS)
        blocks = np.arange(n)[None, :] // size == np.arange(-(-n // size))[:, None]
        self.repeat(self.zeros, 60, self.longest_s)
        show(self.opu, np.repeat(blocks, max(1, min(3, 512 // len(blocks))), axis=0), self.longest_s)
        self.repeat(self.zeros, 60, self.longest_s)

    def ask_looks(self) -> None:
        """One pattern, first in a row and then after waits that grow to ten minutes."""
        pattern = self.draw(1)
        self.repeat(pattern, 300, self.main_s)
        for gap in np.geomspace(3, LONGEST_GAP, LOOKS).astype(int):
            self.opu.clock.advance(int(gap))
            self.repeat(pattern, 4, self.main_s)

    def ask_reference(self) -> None:
        """The reference beam at four phases, all inputs OFF, at an exposure found for it; frames without it beside."""
        dark = float(np.median(to_host(self.opu.dark(2, self.main_s))))
        exposure_s = self.main_s
        for _ in range(4):
            level = float(np.median(self.repeat(self.zeros, 2, exposure_s, np.zeros(2)))) - dark
            exposure_s *= REFERENCE_LEVEL * (self.opu.camera.saturation_dn - dark) / max(level, 1.0)
            exposure_s = float(np.clip(exposure_s, 2e-6, self.longest_s))
        self.repeat(self.zeros, 20, exposure_s)
        self.repeat(self.zeros, 240, exposure_s, np.tile(QUARTERS, 60))
        self.repeat(self.zeros, 20, exposure_s)
        self.reference_s = exposure_s

    def ask_phase(self) -> None:
        """A half-ON pattern with the reference at four phases, in a row and then in looks that can be followed."""
        pattern, exposure_s = self.draw(1), max(min(self.reference_s, self.main_s) / 2.0, SHORTEST_EXPOSURE_S)
        frames = self.repeat(pattern, 240, exposure_s, np.tile(QUARTERS, 60))
        gap = gap_of(frames.astype(np.float32))
        for _ in range(REFERENCE_LOOKS):
            self.opu.clock.advance(gap)
            self.repeat(pattern, 2, exposure_s, QUARTERS[:2])

    def ask_response(self) -> None:
        """Patterns at two exposures, which tell whether the response is a straight line."""
        for _ in range(6):
            pattern = self.draw(1)
            for seconds in (self.main_s, max(self.main_s / 6.0, SHORTEST_EXPOSURE_S)):
                self.repeat(pattern, 15, seconds)


def gap_of(frames: FloatArray) -> int:
    """Wait between looks at the reference's phase, frames, from frames at four phases in turn: (4 n, n_out)."""
    four = [frames[k::4].mean(axis=0) for k in range(4)]
    basis = np.stack([four[0] - four[2], four[1] - four[3]]) / 2.0
    parts = np.linalg.lstsq(basis.T, (frames - sum(four) / 4.0).T, rcond=None)[0]
    steps = np.tile(QUARTERS, len(frames) // 4)
    phase = np.unwrap(np.angle((parts[0] + 1j * parts[1]) * np.exp(-1j * steps)))
    moved = {lag: float(np.mean((phase[lag:] - phase[:-lag]) ** 2)) for lag in (4, 24, 64, 120)}
    # The fastest of several lags: over the longest one, a record this short may have stood still by chance.
    rate = max((moved[lag] - moved[4]) / (lag - 4) for lag in (24, 64, 120))
    return int(np.clip(PHASE_STEP / max(rate, 1e-6), 1, LONGEST_REFERENCE_GAP))
