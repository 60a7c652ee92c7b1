"""Stability: frames of one pattern, repeated between the other measurements."""

import math

import numpy as np

from calibration.camera.noise import NoiseModel
from calibration.device import Device
from calibration.reports.chapters.common import Chapter, signal_of
from calibration.reports.findings import Line
from photonics.arrays import HostArray
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["Witness", "stability_chapter"]

REPEATS = 4
"""Number of frames at a time."""


class Witness:
    """Takes frames of one half-ON pattern on request, and stores them with their times."""

    def __init__(self, opu: Device, seed: int) -> None:
        self.opu = opu
        self.pattern = half_on(1, opu.n_in, seed, PatternSet.STABILITY)
        self.ticks: list[int] = []
        self.frames: list[HostArray] = []

    def take_frames(self) -> None:
        """Take a few frames."""
        self.ticks.append(self.opu.clock.frames)
        self.frames.append(np.asarray(self.opu.measure(np.repeat(self.pattern, REPEATS, axis=0))))


def stability_chapter(witness: Witness, noise: NoiseModel) -> Chapter:
    """Correlation of the repeated frames, the time constant of the medium, and the drift of the laser.

    The medium's field correlation is taken as ``exp(-t / tau)``, so that of the intensity is ``exp(-2 t / tau)``; tau
    is fitted to all pairs with equal weights on ``-ln C``, as a slope through the origin.
    """
    opu, frames = witness.opu, np.stack(witness.frames)
    signal = signal_of(frames, noise)
    means = signal.mean(axis=1)
    power = signal.mean(axis=(1, 2))
    centred = means - means.mean(axis=1, keepdims=True)
    spread = np.mean(centred**2, axis=1) - noise.variance(frames).mean(axis=(1, 2)) / REPEATS
    spread = np.maximum(spread, 1e-12)
    correlation = np.clip(centred @ centred.T / opu.n_out / np.sqrt(np.outer(spread, spread)), -1.0, 1.0 / 0.9)
    times = np.asarray(witness.ticks) * opu.frame_period_s
    first, second = np.triu_indices(len(times), 1)
    if not power.min() > 0:
        raise ZeroDivisionError("no light above dark")
    lag, found = times[second] - times[first], correlation[first, second]
    share = noise.variance(frames).mean() / REPEATS / spread.mean()
    error = float(math.sqrt(2.0 * share / opu.n_out) + share / math.sqrt(opu.n_out))
    loss = -np.log(np.clip(found, 0.02, None))
    rate = max(float(lag @ loss / (2.0 * lag @ lag)), 0.0)
    rate_error = error / (2.0 * float(np.sqrt(lag @ lag)))
    run = float(times[-1] - times[0])
    last = float(correlation[0, -1])
    reason = ""
    if last < 0.5:
        reason = f"the medium drifted away: only {max(last, 0.0):.0%} of its speckle was left after {run:.3g} s"
    tau = f"τ = {1.0 / rate:.3g} s" if rate > 3.0 * rate_error else f"τ > {1.0 / (rate + 3.0 * rate_error):.3g} s"
    drift = float(power.std(ddof=1) / power.mean())
    expected = math.sqrt(opu.laser.power_variance(opu.exposure_s))
    lines = [
        Line("stability", "speckle kept", "correlation of first and last frames, less noise", "", last, error, 1.0,
             0.02, "measure faster than the medium drifts, or fix the sample", reason),
        Line("stability", "decorrelation in the run", f"T / τ, C(t) = exp(-2t / τ); {tau}, T = {run:.3g} s", "",
             rate * run, rate_error * run, None, 0.02, "calibrate more often than the decorrelation time"),
        Line("stability", "laser drift", "relative rms variation of the total intensity", "", drift,
             drift / math.sqrt(2.0 * (len(power) - 1)), None, 3.0 * expected + 0.002, "let the laser warm up"),
    ]  # fmt: skip
    curve = {"lag_s": lag.tolist(), "correlation": found.tolist(), "rate_per_s": rate, "error": error}
    curve |= {"time_s": (times - times[0]).tolist(), "power": (power / power.mean()).tolist()}
    return Chapter(lines, {"stability": curve})
