"""Stability: frames of one pattern, repeated between the other measurements."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns
from calibration.camera.noise import NoiseModel
from calibration.device import Device, show
from calibration.reports.chapters.common import Chapter, signal_of
from calibration.reports.findings import Line, format_number
from photonics.arrays import Array, BoolArray
from photonics.backend import backend_of, to_host
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["Witness", "stability_chapter"]

REPEATS = 4
"""Number of frames at a time."""
MAX_DRIFT = 2e-3
"""Variation of the light in the run that is tolerated above that by the data sheets. It is one of 0.1 % in the field,
and a value of a projection has a noise of some 3 %."""


class Witness:
    """Takes frames of one half-ON pattern on request, and stores them with their times."""

    def __init__(self, opu: Device, seed: int) -> None:
        self.opu = opu
        self.pattern = half_on(1, opu.n_in, seed, PatternSet.STABILITY)
        self.ticks: list[int] = []
        self.frames: list[Array] = []

    def take_frames(self) -> None:
        """Take a few frames."""
        self.ticks.append(self.opu.clock.frames)
        self.frames.append(show(self.opu, np.repeat(self.pattern, REPEATS, axis=0)))


class Repeats(NamedTuple):
    """The repeated frames compared with each other."""

    times_s: NDArray[np.float64]
    """When they were taken, (n,)."""
    power: NDArray[np.float64]
    """Mean light, DN above dark, (n,)."""
    correlation: NDArray[np.float64]
    """Correlation of their speckle, without the camera's noise, (n, n)."""
    error: float
    """Standard error of a correlation."""
    camera_variance: float
    """Relative variance of the mean light by the camera's noise."""


def stability_chapter(witness: Witness, noise: NoiseModel, bad: BoolArray) -> Chapter:
    """Correlation of the repeated frames, the time constant of the medium, and the drift of the laser.

    Bad pixels (n_out,) do not count.

    The medium's field correlation is taken as ``exp(-t / tau)``, so that of the intensity is ``exp(-2 t / tau)``; tau
    is fitted to all pairs with equal weights on ``-ln C``, as a slope through the origin.
    """
    times, power, correlation, error, camera = compare_repeats(witness, noise, bad)
    first, second = np.triu_indices(len(times), 1)
    lag, found = times[second] - times[first], correlation[first, second]
    loss = -np.log(np.clip(found, 0.02, None))
    rate = max(float(lag @ loss / (2.0 * lag @ lag)), 0.0)
    rate_error = error / (2.0 * float(np.sqrt(lag @ lag)))
    run, last = float(times[-1] - times[0]), float(correlation[0, -1])
    reason = f"the medium drifted away: only {max(last, 0.0):.0%} of its speckle was left after {run:.3g} s"
    reason = reason if last < 0.5 else ""
    fastest, sign = (rate, "=") if rate > 3.0 * rate_error else (rate + 3.0 * rate_error, ">")
    tau = f"τ {sign} {format_number(1.0 / fastest, 3)} s"
    drift = float(power.std(ddof=1) / power.mean())
    slow, fast = laser_variance(witness.opu, times)
    sheet = format_number(slow**0.5, 2)
    lines = [
        Line("stability", "speckle kept", "correlation of first and last frames, less noise", "", last, error, 1.0,
             0.02, "measure faster than the medium drifts, or fix the sample", reason),
        Line("stability", "decorrelation in the run", f"T / τ, C(t) = exp(-2t / τ); {tau}, T = {run:.3g} s", "",
             rate * run, rate_error * run, None, 0.02, "calibrate more often than the decorrelation time"),
        Line("stability", "laser drift",
             f"relative rms variation of the light in {run:.3g} s; by the laser's data sheet {sheet}", "",
             drift, drift / math.sqrt(2.0 * (len(power) - 1)), None,
             3.0 * math.sqrt(slow + fast + camera) + MAX_DRIFT,
             "let the laser warm up; drift that is slower than the run does not show"),
    ]  # fmt: skip
    curve = {"lag_s": lag.tolist(), "correlation": found.tolist(), "rate_per_s": rate, "error": error}
    curve |= {"time_s": (times - times[0]).tolist(), "power": (power / power.mean()).tolist()}
    return Chapter(lines, {"stability": curve})


def compare_repeats(witness: Witness, noise: NoiseModel, bad: BoolArray) -> Repeats:
    """Times, light and correlations of the repeated frames, without bad pixels (n_out,)."""
    opu, good = witness.opu, ~bad if not bad.all() else bad
    backend = backend_of(witness.frames[0])
    xp, frames = backend.xp, columns(backend.xp.stack(witness.frames), backend.asarray(good))
    signal, camera = signal_of(frames, noise), noise.variance(frames)
    means = xp.mean(signal, axis=1)
    power, camera_of = (to_host(xp.mean(values, axis=(1, 2))) for values in (signal, camera))
    if not power.min() > 0:
        raise ZeroDivisionError("no light above dark")
    centred = means - xp.mean(means, axis=1, keepdims=True)
    spread = np.maximum(to_host(xp.mean(centred**2, axis=1)) - camera_of / REPEATS, 1e-12)
    products = to_host(centred @ centred.T) / good.sum() / np.sqrt(np.outer(spread, spread))
    variance = float(xp.mean(camera))
    share = variance / REPEATS / spread.mean()
    return Repeats(
        times_s=np.asarray(witness.ticks) * opu.frame_period_s,
        power=power,
        correlation=np.clip(products, -1.0, 1.0 / 0.9),
        error=float(math.sqrt(2.0 * share / good.sum()) + share / math.sqrt(good.sum())),
        camera_variance=variance / (REPEATS * good.sum() * power.mean() ** 2),
    )


def laser_variance(opu: Device, times: NDArray[np.float64]) -> tuple[float, float]:
    """Expected relative variance of the laser's power between the times of the run, by its data sheet.

    The drift has the covariance ``rms^2 exp(-|t - t'| / tau)``, so the sample variance of the powers is the mean over
    their pairs of ``rms^2 (1 - exp(-|t - t'| / tau))``: of a drift that is slower than the run, only a share shows. The
    second value is that of intensity noise in a mean of `REPEATS` frames.
    """
    laser, (first, second) = opu.laser, np.triu_indices(len(times), 1)
    gone = -np.expm1(-np.abs(times[second] - times[first]) / laser.drift_time_s)
    return laser.drift_rms**2 * float(gone.mean()), laser.rin_variance(opu.exposure_s) / REPEATS
