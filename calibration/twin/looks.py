"""Looks at one pattern over time: the medium's correlation time, and noise and drift of the laser."""

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.beam import pointing
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at
from calibration.twin.parameter import CannotTell, Parameter, jackknife, pixel_blocks
from calibration.twin.processes import Process, Series, fit_process
from calibration.twin.sensor import Sensor
from calibration.twin.speckle import half_on_covariance
from photonics.arrays import FloatArray, IntArray

__all__ = ["DRIFT", "NOISE", "Looks", "laser_parameters", "medium_parameters"]

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

NOISE = {
    "laser.rin_db_per_hz": ("dB/Hz", "white"),
    "laser.drift_rms": ("", "drift"),
    "laser.drift_time_s": ("s", "time"),
    "laser.drift_rms^2/drift_time_s": ("1/s", "rate"),
}
"""Parameters of the laser's noise, their units and names in a `Process`."""
HOW = "likelihood of the total light of one pattern: white noise and an Ornstein-Uhlenbeck drift"


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
        self.shared_dn2, self.dithered = sensor.shared_dn2, sensor.dithered
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


def medium_parameters(looks: Looks, straight: float = 0.0, fields: int = 1) -> list[Parameter]:
    """Correlation time of the field; `straight` and `fields` are those of `half_on_covariance`."""
    (log_time,), (error,) = jackknife(
        lambda pixels: best_time(looks, pixels, straight, fields), pixel_blocks(looks.pixels)
    )
    error = ERROR_FACTOR * error
    span = float(np.ptp(looks.times))
    how = "correlation of the speckle of one pattern between looks, field correlation exp(-t / tau)"
    if log_time > GRID[-2] or error > MAX_LOG_ERROR or np.exp(log_time) > 300.0 * span:
        least = min(np.exp(log_time - 2.0 * error), 300.0 * span)
        raise CannotTell(f"the speckle does not change: at least {least:.2g} frames", least=least)
    value = float(np.exp(log_time))
    return [Parameter(DRIFT, "frames", Estimate(value, value * float(error)), how)]


def best_time(looks: Looks, pixels: IntArray, straight: float, fields: int) -> NDArray[np.float64]:
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
    model = half_on_covariance(rho, straight, fields) / half_on_covariance(1.0, straight, fields)
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


def laser_parameters(
    seen: Evidence, looks: Looks, medium_time_s: float, grain: float, radius_m: float | None
) -> list[Parameter]:
    """Noise of the laser.

    Parameters
    ----------
    seen, looks
        The frames, and the looks.
    medium_time_s : float
        Correlation time of the medium's field, seconds.
    grain : float
        Integral of the normalised autocovariance of the speckle, pixels: it gives the fluctuation of the total light
        while the speckle changes.
    radius_m : float or None
        Radius of the beam on the mirrors, metres; None for a uniform beam.
    """
    power = looks.signal[:, looks.pixels].mean(axis=1)
    mean = float(power.mean())
    lines = looks.shared_dn2 / mean**2
    read = temporal_variance(looks) / len(looks.pixels) / mean**2 + lines * looks.dithered
    relative = np.maximum(power / mean, 0.05).astype(np.float64)
    times = looks.number * seen.period_s
    series = Series(
        times_s=times.astype(np.float64),
        values=np.log(relative),  # noise is relative to the light at its time, which speckle and drift change
        variance=read / relative,
        known_rms=float(np.sqrt(max(grain, 0.0) / len(looks.pixels))),
        known_time_s=medium_time_s / 2.0,
    )
    process, exposure_s = fit_process(series), float(seen.exposure_s[looks.index[0]])
    power, speckle = pointing(seen, seen.patterns[looks.index[0]], radius_m)
    shaken = power + speckle * max(grain, 0.0) / len(looks.pixels) + lines * (not looks.dithered)
    slow = slow_rms(process, seen.parts.laser.drift_rms)
    return [
        Parameter.find(name, unit, HOW, noise_of, process, kind, exposure_s, shaken, slow)
        for name, (unit, kind) in NOISE.items()
    ]


def temporal_variance(looks: Looks) -> float:
    """Mean variance of a pixel from frame to frame, DN^2, without the fluctuation that all pixels share.

    It is measured, since rounding makes it more than shot and read noise where these are under half a code.
    """
    signal = looks.signal[:, looks.pixels]
    image = signal.mean(axis=0)
    even = signal - np.outer(signal.mean(axis=1) / image.mean(), image)
    return float(((even[1:] - even[:-1])[np.diff(looks.number) == 1] ** 2).mean()) / 2.0


def slow_rms(process: Process, sheet: float) -> float:
    """Rms of the drift; if it is not known, that of the data sheet within what the frames allow."""
    try:
        return process.estimate("drift").value
    except CannotTell as reason:
        return float(np.clip(sheet, max(reason.least, 0.0), reason.most))


def noise_of(process: Process, kind: str, exposure_s: float, shaken: float, slow: float) -> Estimate:
    """One parameter; white noise of the rms w is that of ``2 t w^2`` in 1/Hz.

    Intensity noise is that of the nominal power, from which the power of the record differs by `slow`, rms.

    The pointing of the laser changes the light, too, by the relative variance `shaken`, and so does noise of rows and
    columns whose size rounding hides. Frames do not tell it apart: it is subtracted, and all of it is an error.
    """
    if kind != "white":
        return process.estimate(kind)
    try:
        white = process.estimate(kind)
    except CannotTell as reason:
        raise hidden(exposure_s, reason.most**2) from None
    variance = white.value**2 - shaken
    error = float(np.linalg.norm([2.0 * white.value * white.error, shaken, 2.0 * slow * variance]))
    if variance < 2.0 * error:
        raise hidden(exposure_s, max(variance, 0.0) + 2.0 * error)
    decibel = 10.0 * np.log10(2.0 * exposure_s * variance)
    return Estimate(float(decibel), float(10.0 / np.log(10.0) * error / variance))


def hidden(exposure_s: float, most: float) -> CannotTell:
    """Reason why intensity noise is unknown; `most` is the largest relative variance that the frames allow."""
    level = 10.0 * np.log10(2.0 * exposure_s * most) if np.isfinite(most) else np.inf
    return CannotTell(f"shot noise or the pointing of the laser hides it: at most {level:.0f} dB/Hz", most=level)
