"""Setting the exposure as a person at the bench would: by looking at frames."""

from typing import TYPE_CHECKING, Any

import numpy as np

from photonics.backend import to_host
from photonics.component import number
from photonics.patterns.encoding import as_patterns, half_on

if TYPE_CHECKING:
    from photonics.opu import OPU

__all__ = ["SHORTEST_EXPOSURE_S", "autoexpose"]

SHORTEST_EXPOSURE_S = 1e-6
"""Shortest exposure that a camera takes, seconds."""


def autoexpose(opu: "OPU", target: float = 0.5, patterns: Any = None) -> float:
    """Set the exposure so that the 99th percentile of the frames sits at `target` of the camera's range.

    In fully developed speckle the mean is then ``target / 4.6`` of the range, and at 0.5 about one pixel in
    10 000 saturates. As at a bench, frames are taken until the level is right to 2 %; they count on the clock. Where
    codes are too coarse to tell, the exposure is the one at which the level changes from under the target to above:
    right to half a code, with one bit as well.

    Parameters
    ----------
    target : float
        Wanted level, share of the range from offset to the last code, 0.01 to 0.9.
    patterns : array_like, shape (batch, n_in), optional
        Patterns that are typical of the work; 8 random ones, half ON, if not given.

    Returns
    -------
    float
        The exposure, seconds; `OPU.longest_exposure_s` if there is not light enough for less.

    Raises
    ------
    ValueError
        If the target is out of range or even the shortest exposure is too long.
    """
    if not 0.01 <= number(target) <= 0.9:
        raise ValueError(f"target must be 0.01 to 0.9, got {target!r}")
    if patterns is None:
        patterns = opu.backend.asarray(half_on(8, opu.n_in, opu.seed))
    patterns = as_patterns(patterns, opu.n_in, backend=opu.backend)
    if not patterns.shape[0]:
        raise ValueError("patterns must hold at least one pattern, got none")
    span = opu.camera.saturation_dn - opu.camera.offset
    exposure = opu.exposure_s
    under, over = 0.0, np.inf  # exposures known to be too short and too long
    while True:  # each look leaves 2 % less to look through
        level = (np.percentile(to_host(opu.measure(patterns, exposure)), 99) - opu.camera.offset) / span
        # A saturated frame does not say by how much, a dark one hardly: move by a fixed factor.
        factor = 0.125 if level > 0.95 else target / max(level, target / 8.0)
        under, over = exposure if factor > 1.0 else under, exposure if factor < 1.0 else over
        wanted = exposure * factor
        if wanted < 0.98 * SHORTEST_EXPOSURE_S and exposure == SHORTEST_EXPOSURE_S:
            raise ValueError(
                f"target {target} needs an exposure under {SHORTEST_EXPOSURE_S:g} s: lower laser.power_w "
                f"(now {opu.laser.power_w:g} W)"
            )
        if under and over < np.inf and not under < wanted < over:  # no new one: halve what is left
            wanted = np.sqrt(under * over)
        wanted = min(max(wanted, SHORTEST_EXPOSURE_S), opu.longest_exposure_s)
        done = abs(wanted / exposure - 1.0) < 0.02
        exposure = float(wanted)
        if done:
            opu.exposure_s = exposure
            return exposure
