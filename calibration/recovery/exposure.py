"""The exposure of a measurement, found by looking at some of its frames."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device, check_device
from calibration.recovery.methods import make, take
from photonics.analysis.exposure import SHORTEST_EXPOSURE_S
from photonics.component import number
from photonics.patterns.encoding import half_on

__all__ = ["expose", "expose_patterns"]

SAMPLES = 64
"""Frames looked at, spread over the measurement."""
PATTERN_TICK = 7_000_000


def expose(opu: Device, method: str = "phase-stepping", saturated: float = 1e-3, **options: Any) -> float:
    """Set the exposure at which a share of the readings of a recovery of the transmission matrix saturates.

    Frames of the method itself are taken, the reference's shutter as the method sets it, until the share is right.

    Parameters
    ----------
    opu : Device
        Its `exposure_s` is set; the frames count on its clock.
    method : str
        As for `calibration.recovery.transmission.recover_transmission_matrix`.
    saturated : float
        Share of saturated readings, 1e-5 to 0.02. Phase stepping knows what to do with them and gains by more light:
        its error falls from 0.031 at 0.1 % to 0.026 at 1 % (8 bits, 10 ke-).
    **options
        Those of the method, `n_inputs` and `seed` among them.

    Returns
    -------
    float
        The exposure, seconds; the longest there is if there is not light enough for more.

    Raises
    ------
    ValueError
        If an argument is wrong, or the shortest exposure is too long.
    """
    if not 1e-5 <= number(saturated) <= 0.02:
        raise ValueError(f"saturated must be 1e-5 to 0.02, got {saturated!r}")
    device = check_device(opu)
    n_inputs, seed = options.pop("n_inputs", None), options.pop("seed", 0)
    # Frames that track may saturate: these readings are left out.
    options.pop("track_drift", None)
    common = {name: options.pop(name) for name in ("steps",) if name in options}
    plan = make(device, method, n_inputs, seed, common, options)
    some = np.unique(np.linspace(0, plan.frames - 1, SAMPLES).astype(int))
    shots = [plan.shots(int(frame), int(frame) + 1) for frame in some]
    return settle(device, lambda: np.concatenate([take(device, shot) for shot in shots]), saturated)


def expose_patterns(opu: Device, saturated: float = 1e-4, seed: int = 0) -> float:
    """Set the exposure at which that share of the readings of random half-ON patterns saturates; see `expose`."""
    device = check_device(opu)
    patterns = half_on(SAMPLES, device.n_in, seed, PATTERN_TICK)
    return settle(device, lambda: np.asarray(device.measure(patterns)), saturated)


def settle(device: Device, look: Callable[[], NDArray[Any]], saturated: float) -> float:
    """Look at frames and change the exposure until that share of the readings saturates."""
    top = device.camera.saturation_dn
    dark = float(device.dark(1).mean())
    longest = device.frame_period_s - device.dmd.settle_s
    for _ in range(30):
        level = float(np.quantile(look(), 1.0 - saturated)) - dark
        # A saturated reading does not say by how much, a dark one hardly: move by a fixed factor until it is neither.
        seen = level < top - dark - 1.0 and level > 0.3 * (top - dark)
        factor = (top - dark) / level if seen else 0.5 if level > 0.3 * (top - dark) else 2.0
        wanted = min(device.exposure_s * factor, longest)
        if wanted < SHORTEST_EXPOSURE_S:
            raise ValueError(f"laser.power_w must be lower: {SHORTEST_EXPOSURE_S:g} s is too long an exposure")
        done = seen or wanted == device.exposure_s
        device.exposure_s = wanted
        if done:
            break
    return device.exposure_s
