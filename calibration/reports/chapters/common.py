"""Result of a chapter, and the noise of the camera."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.noise import NoiseModel, dark_level
from calibration.device import Device
from calibration.reports.findings import Line
from photonics.arrays import HostArray
from photonics.parts.camera import QUANTISATION

__all__ = ["Chapter", "noise_model", "refusal"]

DARK_FRAMES = 8
"""Dark frames for the noise model."""


class Chapter(NamedTuple):
    """Lines and curves of a chapter."""

    lines: list[Line]
    """One line per quantity."""
    curves: dict[str, Any]
    """Numbers behind the figures, by name, in plain types."""


def refusal(group: str, name: str, reason: str, advice: str) -> Line:
    """Line of a chapter that cannot be measured or trusted: verdict "failed", with the reason."""
    return Line(group, name, "", "", float("nan"), float("nan"), None, float("nan"), advice, reason)


def noise_model(opu: Device, gain: float, exposure_s: float | None = None) -> NoiseModel:
    """Noise of the camera: dark level and floor from dark frames, shot noise from its gain (DN per electron)."""
    dark = np.asarray(opu.dark(DARK_FRAMES, exposure_s)).astype(np.float64)
    level, variance = dark_level(dark)
    return NoiseModel(max(variance, QUANTISATION), gain, level)


def signal_of(frames: HostArray, noise: NoiseModel) -> NDArray[np.float64]:
    """Frames above the dark level, DN."""
    return np.asarray(frames).astype(np.float64) - noise.dark_dn
