"""Whether the frames of a measurement are neither saturated nor clipped."""

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns, count, mean
from calibration.device import Device
from calibration.fields.readings import MAX_SATURATED
from photonics.arrays import Array, BoolArray, FloatArray
from photonics.backend import backend_of, to_host

__all__ = ["Saturated", "check_first_frames", "check_frames"]

MAX_CLIPPED = 20
"""Readings of the highest code that are chance; more than that, and five times as many as of a code below, are not."""


class Saturated(ValueError):
    """Frames of a whole measurement are too bright."""


def check_frames(device: Device, hot: BoolArray, parts: Iterable[Array]) -> FloatArray:
    """Share of saturated readings of each pixel, (n_out,), in frames that come in parts.

    `hot` pixels, saturated in the dark, do not count.

    Warns if the camera clips below its saturation.

    Raises
    ------
    Saturated
        If more than 2 % of the readings are saturated.
    """
    top, count = device.camera.saturation_dn, 0
    readings, codes = np.zeros(device.n_out, np.int64), np.zeros(top + 1, np.int64)
    for frames in parts:
        full, seen = count_readings(frames, top, ~hot)
        readings += full
        codes += seen
        count += frames.shape[0]
    check_clipping(codes)
    share = (readings / count).astype(np.float32)
    refuse_saturated(device, float(share[~hot].mean()))
    return share


def count_readings(frames: Array, top: int, good: BoolArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of readings of `top` or more of each pixel, and of each code up to there in the good pixels."""
    if isinstance(frames, np.ndarray):
        seen = np.minimum(frames, top)
        return (seen == top).sum(axis=0), np.bincount(seen[:, good].ravel(), minlength=top + 1)
    backend = backend_of(frames)
    xp = backend.xp
    found = xp.unique_counts(xp.astype(columns(frames, backend.asarray(good)), xp.int32))
    seen = np.bincount(np.minimum(to_host(found.values), top), weights=to_host(found.counts), minlength=top + 1)
    return to_host(count(frames >= top, axis=0)).astype(np.int64), seen.astype(np.int64)


def check_first_frames(device: Device, hot: BoolArray, frames: Array) -> None:
    """Raise a `Saturated` if the first frames of a measurement, (count, n_out), show that all would be refused.

    Their brightest eighth does not count, because a method may begin with patterns that are brighter than the others.
    """
    full = mean(columns(frames, backend_of(frames).asarray(~hot)) >= device.camera.saturation_dn, axis=1)
    share = np.sort(to_host(full))
    refuse_saturated(device, float(share[: len(share) - len(share) // 8].mean()))


def refuse_saturated(device: Device, share: float) -> None:
    """Raise a `Saturated` if more than 2 % of the readings are saturated."""
    if share > MAX_SATURATED:
        raise Saturated(
            f"exposure_s {device.exposure_s:.4g} saturates {share:.1%} of the readings, {MAX_SATURATED:.0%} is "
            "allowed: shorten it (calibration.recovery.exposure.expose), or use exposure='auto'"
        )


def check_clipping(codes: NDArray[np.int64]) -> None:
    """Warn if readings pile up at the highest code of the frames, although it is under saturation.

    Parameters
    ----------
    codes : ndarray, shape (saturation_dn + 1,)
        Number of readings of each code.
    """
    top = int(np.flatnonzero(codes)[-1])
    beside = codes[max(top - 8, 0) : top]
    if top < len(codes) - 1 and beside.any() and codes[top] > MAX_CLIPPED + 5.0 * beside.mean():
        warnings.warn(
            f"frames have {codes[top]} readings of {top} DN and none above, but {beside.mean():.3g} of a code below: "
            f"the camera clips there, below camera.saturation_dn {len(codes) - 1}; such readings count as light",
            stacklevel=4,
        )
