"""Fringes of the reference with one pattern: the phase of each frame, and the interference term on each pixel."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.twin.evidence import Evidence
from calibration.twin.parameter import CannotTell
from calibration.twin.sensor import Sensor
from photonics.arrays import BoolArray, IntArray

__all__ = ["MIN_FRAMES", "Fringes", "Watched", "design_of", "follow_fringes", "watch_fringes"]

MIN_FRAMES = 32
"""Smallest number of frames with the reference."""
FURTHER_FITS = 3
"""Further fits of the images of the fringes, each with the phases that the one before found."""
MAX_LOSS = 0.05
"""Largest share of the field's correlation time that the frames of the phase may last."""
MAX_START = 240
"""Largest number of frames from which the images of the fringes are fitted."""


class Fringes(NamedTuple):
    """Fringes of some frames."""

    wave: NDArray[np.complex128]
    """Proportional to ``exp(i phase)`` of the reference in each frame: (frames,)."""
    noise: NDArray[np.float64]
    """Variance of its real part: (frames,)."""


class Watched(NamedTuple):
    """Frames of the pattern that most frames with the reference show."""

    chosen: IntArray
    """Numbers of the frames in the recording, (n,)."""
    pixels: IntArray
    """Live pixels that are never saturated."""
    signal: NDArray[np.float64]
    """Codes of these pixels, (n, pixels)."""
    angle: NDArray[np.float64]
    """Phase that was set, radians: (n,)."""
    start: BoolArray
    """The first of them, to which the images of the fringes are fitted: (n,)."""


def design_of(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``1, cos(angle), sin(angle)`` of each frame: (frames, 3)."""
    return np.stack([np.ones(len(angle)), np.cos(angle), np.sin(angle)], axis=1)


def fit_fringes(signal: NDArray[np.float64], angle: NDArray[np.float64], start: BoolArray) -> Fringes:
    """Fit the images of ``1, cos(angle), sin(angle)`` to the frames `start`, and all frames to these images.

    The noise is that of the residuals: rounding, and speckle that has changed since the start, make it more than shot
    and read noise.
    """
    images = np.linalg.lstsq(design_of(angle)[start], signal[start], rcond=None)[0]
    inverse = np.linalg.pinv(images)  # (pixels, 3)
    parts = signal @ inverse
    return Fringes(parts[:, 1] + 1j * parts[:, 2], (signal - parts @ images) ** 2 @ inverse[:, 1] ** 2)


def follow_fringes(signal: NDArray[np.float64], angle: NDArray[np.float64], start: BoolArray) -> Fringes:
    """Fringes of frames whose phase is not just the `angle` that was set: they are fitted in turn with their images."""
    fringes = fit_fringes(signal, angle, start)
    for _ in range(FURTHER_FITS):
        fringes = fit_fringes(signal, np.angle(fringes.wave), start)
    return fringes


def watch_fringes(seen: Evidence, sensor: Sensor, medium_frames: float) -> Watched:
    """Find the frames of one pattern with the reference.

    Raises
    ------
    CannotTell
        If there are too few, or they saturate the camera.
    """
    lit = seen.laser_on & ~np.isnan(seen.phase) & (seen.on > 0)
    index = np.flatnonzero(seen.most_watched(lit))
    index = index[seen.number[index] - seen.number[index[:1]] < max(MAX_LOSS * medium_frames, 400.0)]
    if len(index) < MIN_FRAMES:
        raise CannotTell(f"there are {len(index)} frames of one pattern with the reference, {MIN_FRAMES} are needed")
    frames = seen.of(index)
    pixels = sensor.unsaturated(frames)
    if len(pixels) < 32:
        raise CannotTell("the reference and a pattern together saturate the camera")
    signal = frames[:, pixels].astype(np.float64)
    start = index < index[0] + min(MAX_START, len(index))  # the drift since then is in the phases
    angle = seen.phase[index].astype(np.float64)
    return Watched(index, pixels, signal, angle, start)
