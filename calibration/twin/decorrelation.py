"""The medium's correlation time, from looks at one pattern."""

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at
from calibration.twin.parameter import CannotTell, Parameter, jackknife, pixel_blocks
from calibration.twin.sensor import Sensor
from photonics.arrays import FloatArray, IntArray

__all__ = ["DRIFT", "Looks", "medium_parameters"]

DRIFT = "medium.correlation_frames"
MIN_LOOKS = 8
"""Smallest number of looks."""
PER_LOOK = 8
"""Largest number of frames of a look that are averaged."""
MAX_LOG_ERROR = 0.7
"""Largest standard error of the logarithm with which the time is known."""
MAX_STEPS = 10
"""Largest number of steps of the weights."""
ERROR_FACTOR = 1.2
"""Factor on the jackknife's error of the logarithm. A few bright pixels weigh most, so that it comes out low: in 280
simulated series the deviations were 1.16 of it, rms."""
GRID = np.linspace(np.log(1e2), np.log(3e10), 400)
"""Logarithms of the correlation times that are compared, frames."""


class Looks:
    """Looks at the pattern that has most of them: frames that are averaged, and when.

    Raises
    ------
    CannotTell
        If there are too few looks, or too few pixels that they do not saturate.
    """

    def __init__(self, seen: Evidence, sensor: Sensor) -> None:
        self.index = np.flatnonzero(seen.most_watched(seen.half))
        visits = seen.visits(seen.most_watched(seen.half)) if len(self.index) else []
        if len(visits) < MIN_LOOKS:
            raise CannotTell(f"there are {len(visits)} looks at one half-ON pattern, {MIN_LOOKS} are needed")
        frames = seen.of(self.index)
        dark = dark_at(seen, sensor, float(seen.exposure_s[self.index[0]]))
        self.signal: FloatArray = frames - dark
        self.pixels: IntArray = sensor.unsaturated(frames)
        self.number: IntArray = seen.number[self.index]
        last = [visit[-PER_LOOK:] for visit in visits]
        place = [np.searchsorted(self.index, visit) for visit in last]
        self.means: FloatArray = np.stack([self.signal[visit].mean(axis=0) for visit in place])
        self.times: NDArray[np.float64] = np.array([seen.number[visit].mean() for visit in last])
        counts = np.array([len(visit) for visit in last], np.float32)
        self.variance: FloatArray = sensor.variance(self.means) / counts[:, None]
        if len(self.pixels) < 64:
            raise CannotTell(f"{len(self.pixels)} pixels are never saturated in the looks, 64 are needed")


def medium_parameters(looks: Looks, straight: float = 0.0) -> list[Parameter]:
    """Correlation time of the field; `straight` is the ballistic share, which does not decorrelate."""
    (log_time,), (error,) = jackknife(lambda pixels: best_time(looks, pixels, straight), pixel_blocks(looks.pixels))
    error = ERROR_FACTOR * error
    span = float(np.ptp(looks.times))
    how = "correlation of the speckle of one pattern between looks, field correlation exp(-t / tau)"
    if log_time > GRID[-2] or error > MAX_LOG_ERROR or np.exp(log_time) > 300.0 * span:
        least = min(np.exp(log_time - 2.0 * error), 300.0 * span)
        raise CannotTell(f"the speckle does not change: at least {least:.2g} frames", least=least)
    value = float(np.exp(log_time))
    return [Parameter(DRIFT, "frames", Estimate(value, value * float(error)), how)]


def best_time(looks: Looks, pixels: IntArray, straight: float) -> NDArray[np.float64]:
    """Logarithm of the correlation time that fits the correlations between looks best, weighted by their spread.

    Weights are those of the time of the last step, so that the misfit alone decides.
    """
    centred = looks.means[:, pixels] - looks.means[:, pixels].mean(axis=1, keepdims=True)
    noise = looks.variance[:, pixels].mean(axis=1)
    power = np.maximum((centred**2).mean(axis=1) - noise, 1e-9)
    i, j = np.triu_indices(len(looks.times), 1)
    found = ((centred @ centred.T) / len(pixels) / np.sqrt(np.outer(power, power)))[i, j]
    lag = np.abs(looks.times[j] - looks.times[i])
    dim = (noise / power)[i] / 2.0 + (noise / power)[j] / 2.0
    rho = np.exp(-lag[None, :] / np.exp(GRID)[:, None])
    share = 4.0 * straight  # straight light of the inputs that are ON, times speckle, decorrelates as rho, not rho^2
    model = (rho**2 + share * rho) / (1.0 + share)
    best, place = -1, len(GRID) // 2
    cost = np.zeros(len(GRID))
    for _ in range(MAX_STEPS):
        if best == place:
            break
        best = place
        variance = 2.0 * dim + (1.0 - model[best]) ** 2 + dim**2
        cost = ((found - model) ** 2 / variance).sum(axis=1)
        place = int(np.argmin(cost))
    k = int(np.clip(place, 1, len(GRID) - 2))
    left, middle, right = cost[k - 1 : k + 2]
    bend = left - 2.0 * middle + right
    step = 0.5 * (left - right) / bend if bend > 0.0 else 0.0
    return np.array([GRID[k] + np.clip(step, -1.0, 1.0) * (GRID[1] - GRID[0])])
