"""Search for the exposure at which frames have a target level, from frames as on a bench."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from photonics.arrays import Array
from photonics.backend import Backend, to_host
from photonics.chain import SHORTEST_EXPOSURE_S
from photonics.component import number
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.laser import Laser
from photonics.patterns.encoding import as_patterns, half_on
from photonics.random import PatternSet

__all__ = ["Aim", "Exposable", "autoexpose", "search_exposure"]

AUTOEXPOSE_PATTERNS = 8
"""Number of random patterns from which `autoexpose` sets the exposure by default."""


class Exposable(Protocol):
    """A device whose exposure can be set: a `Chain`, or a device of `calibration`."""

    @property
    def exposure_s(self) -> float:
        """Exposure of the camera, seconds."""
        ...

    @exposure_s.setter
    def exposure_s(self, value: float) -> None: ...

    @property
    def frame_period_s(self) -> float:
        """Seconds from one frame to the next."""
        ...

    @property
    def dmd(self) -> DMD:
        """The mirrors."""
        ...

    @property
    def laser(self) -> Laser:
        """The laser."""
        ...


class Exposed(Exposable, Protocol):
    """A device that `autoexpose` can use: a `Chain`, or one whose pixels several processes share."""

    seed: int
    """Seed of the run."""

    @property
    def backend(self) -> Backend:
        """Library and device of the patterns."""
        ...

    @property
    def n_in(self) -> int:
        """Number of logical inputs."""
        ...

    @property
    def camera(self) -> Camera:
        """The camera."""
        ...

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> Array:
        """Frames of patterns: (batch, n_in) -> (batch, n_out)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Target level of an exposure search, and the range of readable levels; all in one unit.

    Readable levels are proportional to the exposure. Outside this range the search moves by a fixed factor, because a
    saturated level does not show by how much it is too high, and a dark level is mostly noise.
    """

    target: float
    """Wanted level."""
    low: float
    """Levels up to this value are too dark to read."""
    high: float
    """Levels from this value on are too bright to read."""
    step_up: float
    """Factor on the exposure if the level is too dark."""
    step_down: float
    """Factor on the exposure if the level is too bright."""
    one_reading: bool = False
    """Whether the first readable level ends the search; otherwise the search continues until a level is right to 2
    %."""

    def factor(self, level: float) -> tuple[float, bool]:
        """Factor on the exposure that brings `level` towards the target, and whether the level is readable."""
        if level <= self.low:
            return self.step_up, False
        if level >= self.high:
            return self.step_down, False
        return self.target / level, True


def search_exposure(device: Exposable, level: Callable[[float], float], aim: Aim) -> float:
    """Set the exposure at which frames have the target level.

    If codes are too coarse to resolve the target, the search ends at the exposure where the level crosses the target.

    Parameters
    ----------
    device : Exposable
        Its `exposure_s` is set; the search starts from it.
    level : callable
        Takes frames with an exposure in seconds and returns their level.
    aim : Aim
        Target level and the range of readable levels.

    Returns
    -------
    float
        The exposure, seconds; the longest possible if there is too little light.

    Raises
    ------
    ValueError
        If the frames are too bright at the shortest exposure; the exposure of the device is then unchanged.
    """
    longest = device.frame_period_s - device.dmd.settle_s
    exposure = start = device.exposure_s
    too_short, too_long = 0.0, np.inf
    while True:
        factor, readable = aim.factor(level(exposure))
        if factor > 1.0:
            too_short = exposure
        elif factor < 1.0:
            too_long = exposure
        wanted = exposure * factor
        if wanted < 0.98 * SHORTEST_EXPOSURE_S and exposure == SHORTEST_EXPOSURE_S:
            device.exposure_s = start
            raise ValueError(
                f"laser.power_w must be lower: frames are too bright at the shortest exposure of "
                f"{SHORTEST_EXPOSURE_S:g} s, got {device.laser.power_w:g} W"
            )
        last = aim.one_reading and readable
        if not last and too_short > 0.0 and too_long < np.inf and not too_short < wanted < too_long:
            wanted = np.sqrt(too_short * too_long)
        wanted = float(min(max(wanted, SHORTEST_EXPOSURE_S), longest))
        if last or abs(wanted / exposure - 1.0) < 0.02:
            device.exposure_s = wanted
            return wanted
        exposure = wanted


def autoexpose(
    chain: Exposed, target: float = 0.5, patterns: Array | None = None, *, reference_phase: Array = None
) -> float:
    """Set the exposure so that the 99th percentile of the frames is at `target` of the camera's range.

    In fully developed speckle the mean is then ``target / 4.6`` of the range, and at 0.5 about one pixel in 10 000
    saturates. As on a bench, frames are taken until the level is right to 2 %; they advance the clock. If codes are too
    coarse for that, the exposure is right to half a code (see `search_exposure`).

    Parameters
    ----------
    chain : Exposed
        Its `exposure_s` is set.
    target : float
        Target level as a share of the range from offset to the last code, 0.01 to 0.9.
    patterns : array_like, shape (batch, n_in), optional
        Patterns typical of the application; by default 8 random half-ON patterns.
    reference_phase : float or array_like, shape (batch,), optional
        Opens the reference arm at this phase (radians), as in `photonics.OPU.measure`: frames with the reference are
        brighter.

    Returns
    -------
    float
        The exposure, seconds; `Chain.longest_exposure_s` if there is too little light.

    Raises
    ------
    ValueError
        If the target is out of range or the frames are too bright at the shortest exposure.
    """
    if not 0.01 <= number(target) <= 0.9:
        raise ValueError(f"target must be 0.01 to 0.9, got {target!r}")
    if patterns is None:
        patterns = half_on(AUTOEXPOSE_PATTERNS, chain.n_in, chain.seed, PatternSet.EXPOSURE)
        patterns = chain.backend.asarray(patterns)
    shown = as_patterns(patterns, chain.n_in, backend=chain.backend)
    if not shown.shape[0]:
        raise ValueError("patterns must have at least one pattern, got none")
    span = chain.camera.saturation_dn - chain.camera.offset

    def level(exposure_s: float) -> float:
        frames = to_host(chain.measure(shown, exposure_s, reference_phase=reference_phase))
        return float((np.percentile(frames, 99) - chain.camera.offset) / span)

    aim = Aim(target=target, low=target / 8.0, high=0.95, step_up=8.0, step_down=0.125)
    return search_exposure(chain, level, aim)
