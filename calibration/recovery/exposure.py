"""Exposure of a measurement, set from a sample of its frames."""

from collections.abc import Callable
from typing import Any

import numpy as np

from calibration.device import Device, check_device, show
from calibration.fields.bad_pixels import is_hot
from calibration.recovery.base import RecoveryMethod
from calibration.recovery.methods import build_method, take_frames
from calibration.storage.files import WrongFile
from calibration.storage.recorded import RecordedDevice
from photonics.analysis.exposure import Aim, search_exposure
from photonics.arrays import HostArray
from photonics.backend import to_host
from photonics.component import number
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["expose", "expose_method", "expose_patterns", "expose_recovery"]

SAMPLES = 64
"""Number of frames from which the exposure is set, spread over the measurement."""


def expose(opu: Device, method: str = "phase-stepping", saturated: float = 1e-3, **options: Any) -> float:
    """Set the exposure at which a share of the readings of a transmission matrix recovery saturates.

    Frames of the method itself are taken, with its settings of the reference's shutter, until the share is right.

    Parameters
    ----------
    opu : Device
        Its `exposure_s` is set; the frames count on its clock.
    method : str
        As for `calibration.recovery.transmission.recover_transmission_matrix`.
    saturated : float
        Share of saturated readings, 1e-5 to 0.02. Phase stepping leaves saturated readings out and benefits from more
        light: its error falls from 0.031 at 0.1 % to 0.026 at 1 % (8 bits, 10 ke-).
    **options
        Options of the method, with `n_inputs` and `seed`.

    Returns
    -------
    float
        The exposure, seconds; the longest one if there is too little light.

    Raises
    ------
    ValueError
        If an argument is wrong, or the shortest exposure is too long.
    """
    device = check_device(opu)
    return expose_method(device, build_method(device, method, **options), saturated)


def expose_method(device: Device, plan: RecoveryMethod, saturated: float = 1e-3) -> float:
    """Set the exposure at which a share of the readings of a recovery method saturates; see `expose`."""
    if not 1e-5 <= number(saturated) <= 0.02:
        raise ValueError(f"saturated must be 1e-5 to 0.02, got {saturated!r}")
    plan = plan.for_exposure()
    some = np.unique(np.linspace(0, plan.frames - 1, SAMPLES).astype(int))
    shots = [plan.shots(int(frame), int(frame) + 1) for frame in some]
    return search(device, lambda: np.concatenate([to_host(take_frames(device, shot)) for shot in shots]), saturated)


def expose_recovery(device: Device, plan: RecoveryMethod) -> float:
    """Set the exposure of a recovery, as `expose_method`; the error of a recording names the other policy."""
    left = device.frames_left if isinstance(device, RecordedDevice) else plan.frames
    if left < plan.frames:
        raise WrongFile(
            f"opu must be a recording with the {plan.frames} frames of {plan.name}, got {left} frames that are left in "
            f"{device}: record this method, too"
        )
    try:
        return expose_method(device, plan)
    except WrongFile as error:
        raise WrongFile(f"{error}; frames that were recorded at one exposure need exposure='keep'") from None


def expose_patterns(opu: Device, seed: int = 0) -> float:
    """Set the exposure at which one in 10 000 readings of random half-ON patterns saturates; see `expose`."""
    device = check_device(opu)
    patterns = half_on(SAMPLES, device.n_in, seed, PatternSet.REPORT_EXPOSURE)
    return search(device, lambda: to_host(show(device, patterns)), 1e-4)


def search(device: Device, take: Callable[[], HostArray], saturated: float) -> float:
    """Set the exposure at which a share of the readings returned by `take` saturates, hot pixels left out."""
    frame = to_host(device.dark(1))[0]
    good = ~is_hot(frame, device.camera.saturation_dn)
    dark = float(frame[good].mean())
    span = device.camera.saturation_dn - dark

    def level(exposure_s: float) -> float:
        device.exposure_s = exposure_s
        return float(np.quantile(take()[:, good], 1.0 - saturated)) - dark

    aim = Aim(target=span, low=0.3 * span, high=span - 1.0, step_up=2.0, step_down=0.5, one_reading=True)
    return search_exposure(device, level, aim)
