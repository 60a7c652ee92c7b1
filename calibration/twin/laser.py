"""The laser: intensity noise and drift, from the total light of frames of one pattern."""

import numpy as np

from calibration.camera.estimate import Estimate
from calibration.twin.decorrelation import Looks
from calibration.twin.evidence import Evidence
from calibration.twin.parameter import CannotTell, Parameter
from calibration.twin.processes import Process, Series, fit_process

__all__ = ["NOISE", "laser_parameters"]

NOISE = {
    "laser.rin_db_per_hz": ("dB/Hz", "white"),
    "laser.drift_rms": ("", "drift"),
    "laser.drift_time_s": ("s", "time"),
    "laser.drift_rms^2/drift_time_s": ("1/s", "rate"),
}
"""Parameters of the laser's noise, their units and names in a `Process`."""
HOW = "likelihood of the total light of one pattern: white noise and an Ornstein-Uhlenbeck drift"


def laser_parameters(seen: Evidence, looks: Looks, medium_time_s: float, grain: float) -> list[Parameter]:
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
    """
    power = looks.signal[:, looks.pixels].mean(axis=1)
    mean = float(power.mean())
    read = temporal_variance(looks) / len(looks.pixels) / mean**2
    times = looks.number * seen.period_s
    series = Series(
        times_s=times.astype(np.float64),
        values=power.astype(np.float64) / mean - 1.0,
        variance=np.full(len(power), read),
        known_rms=float(np.sqrt(max(grain, 0.0) / len(looks.pixels))),
        known_time_s=medium_time_s / 2.0,
    )
    process, exposure_s = fit_process(series), float(seen.exposure_s[looks.index[0]])
    return [
        Parameter.find(name, unit, HOW, noise_of, process, kind, exposure_s) for name, (unit, kind) in NOISE.items()
    ]


def temporal_variance(looks: Looks) -> float:
    """Mean variance of a pixel from frame to frame, DN^2, without the fluctuation that all pixels share.

    It is measured, since rounding makes it more than shot and read noise where these are under half a code.
    """
    signal = looks.signal[:, looks.pixels]
    image = signal.mean(axis=0)
    even = signal - np.outer(signal.mean(axis=1) / image.mean(), image)
    return float(((even[1:] - even[:-1])[np.diff(looks.number) == 1] ** 2).mean()) / 2.0


def noise_of(process: Process, kind: str, exposure_s: float) -> Estimate:
    """One parameter; white noise of the rms w is that of ``2 t w^2`` in 1/Hz."""
    if kind != "white":
        return process.estimate(kind)
    try:
        white = process.estimate(kind)
    except CannotTell as reason:
        most = 10.0 * np.log10(2.0 * exposure_s * reason.most**2) if np.isfinite(reason.most) else np.inf
        raise CannotTell(f"shot noise hides it: at most {most:.0f} dB/Hz", most=most) from None
    decibel = 10.0 * np.log10(2.0 * exposure_s * white.value**2)
    return Estimate(float(decibel), float(20.0 / np.log(10.0) * white.error / white.value))
