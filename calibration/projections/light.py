"""Light that changes from pattern to pattern, from levels that all pixels have in common."""

import warnings

import numpy as np

from calibration.device import Device
from calibration.fields.misfit import Misfit
from calibration.fields.readings import binned_imaging
from calibration.projections.responses import Common, Response
from photonics.arrays import BoolArray, HostArray

__all__ = ["change_of_anchors", "common_scale", "grains_per_pixel", "state_of_light", "told_level", "warn_of_scale"]

PARTS = 8
"""Number of parts of the sensor whose levels are compared."""
MIN_PATTERNS = 16
"""Number of patterns from which on changes of the level are looked for."""
MIN_PIXELS = 8
"""Smallest number of pixels of a part in which a slope is fitted."""
MIN_GRAINS = 100.0
"""Smallest number of grains of a part if grains are wider than pixels. With fewer, too many lie across two parts."""
MIN_PULL = 4.0
"""Standard errors above which a common change of the level is told."""
TOLD_SHARE = 0.25
"""Variance of a level over that of a response from which on a warning tells it."""
MIN_CHANGE = 0.01
"""Smallest relative change of the anchors' light that counts; a warning tells it from 4 times the laser's drift on."""
WIDE_GRAINS, WIDE_PULL, WIDE_SCALE = 20.0, 8.0, 0.01
"""Smallest number of grains on the sensor, standard errors and change of the light if grains are wider than pixels. On
sound sensors of 32 grains and more the light seems to change by up to 0.8 %, 3.9 standard errors."""


def common_level(values: HostArray, patterns: BoolArray, opu: Device) -> float:
    """Variance from pattern to pattern of a level that all pixels have in common; 0 if it is not significant.

    Values are linear in the patterns, whatever the medium: a least-squares fit takes them out, also the level of a
    medium of few channels, whose transmission depends on the pattern. What remains of separate parts of the sensor is
    noise, which is independent. Its covariance over the patterns is that of stray light and of changes of the laser.

    Parameters
    ----------
    values : ndarray, shape (batch, n_pixels)
        Response to each pattern, DN. A level is looked for in batches of `MIN_PATTERNS` more than inputs.
    patterns : ndarray of bool, shape (batch, n_inputs)
        What was shown.
    opu : Device
        Its optics give the size of a grain of speckle.
    """
    pixels, grains = values.shape[1], grains_per_pixel(opu)
    if pixels < PARTS or (grains < 1.0 and pixels * grains < PARTS * MIN_GRAINS):
        return 0.0
    if len(patterns) < patterns.shape[1] + 1 + MIN_PATTERNS:
        return 0.0
    known = np.column_stack([np.ones(len(patterns)), patterns])
    parts = np.stack([part.mean(axis=1, dtype=np.float64) for part in parts_of(values)], axis=1)
    fitted, _, rank, _ = np.linalg.lstsq(known, parts, rcond=None)
    return common_variance(parts - known @ fitted, len(patterns) - int(rank))


def common_scale(excess: HostArray, lever: HostArray, beam_variance: float, n_inputs: int, opu: Device) -> float:
    """Variance from pattern to pattern of the relative light; 0 if it is not significant.

    Light of power ``1 + e`` makes the mean of a frame with a beam R exceed ``|R|^2 + |y|^2``, y from the fringes, by
    ``e (|R|^2 - |y|^2)``: e is the slope over the pixels. Stray light has no slope. The error of ``|R|^2``, the same in
    all patterns, is in both and gives a slope, too, which is larger for dim patterns: it is fitted and taken out.

    Parameters
    ----------
    excess, lever : ndarray, shape (batch, n_pixels)
        The excess of each pixel, 0 where it saturated, and ``|R|^2 - |y|^2``, both in DN.
    beam_variance : float
        Variance of ``|R|^2``, sum over the pixels, DN^2.
    n_inputs : int
        Inputs of a pattern.
    opu : Device
        Its optics give the size of a grain of speckle.
    """
    pixels, grains = excess.shape[1], grains_per_pixel(opu)
    if pixels < PARTS * MIN_PIXELS or pixels * grains < WIDE_GRAINS:
        return 0.0
    slopes, weight = [], 0.0
    for seen, by in zip(parts_of(excess), parts_of(lever), strict=True):
        known = seen != 0
        count = np.maximum(known.sum(axis=1), 1)[:, None]
        centred = np.where(known, by - np.sum(by, axis=1, where=known, keepdims=True) / count, np.float32(0.0))
        power = (centred**2).sum(axis=1)
        slopes.append((seen * centred).sum(axis=1) / np.maximum(power, 1e-12))
        weight = weight + power
    parts, count = np.stack(slopes, axis=1), len(excess)
    mean = max(float(np.mean(weight)), 1e-12)
    weight = weight / mean  # slopes of dim patterns are noisy
    root, most = np.sqrt(weight + 1e-12)[:, None], beam_variance / mean
    fitted = np.linalg.lstsq(np.hstack([root, 1.0 / root]), root * parts, rcond=None)[0]
    parts -= np.clip(fitted[1], -most, most) / root**2
    parts = np.sqrt(weight)[:, None] * (parts - np.average(parts, axis=0, weights=weight + 1e-12))
    shown = count / max(float(np.mean(weight**2)), 1e-12)
    independent = 1.0 / (1.0 / max(shown - 1.0, 1.0) + 1.0 / n_inputs)  # speckle is the same in all patterns
    pull = MIN_PULL if grains == 1.0 else WIDE_PULL
    found = common_variance(parts, count - 1, pull, independent)
    return found if grains == 1.0 or found > WIDE_SCALE**2 else 0.0


def grains_per_pixel(opu: Device) -> float:
    """Number of independent speckle grains on a pixel, at most 1: the area of the field's band in cycles per pixel."""
    imaging = binned_imaging(opu)
    if imaging.numerical_aperture is None:
        return 1.0
    return min(np.pi * (imaging.numerical_aperture * imaging.pixel_m / opu.laser.wavelength_m) ** 2, 1.0)


def parts_of(values: HostArray) -> list[HostArray]:
    """Parts of the sensor, (batch, n_pixels of the part) each."""
    return np.array_split(values, PARTS, axis=1)


def common_variance(
    parts: HostArray, freedom: int, min_pull: float = MIN_PULL, independent: float | None = None
) -> float:
    """Mean covariance of quantities of separate parts, of mean 0, (batch, parts); 0 if it is not significant.

    Of the patterns, `freedom` are left by the fit that made the mean 0, and `independent` (all of these if not given)
    differ in more than noise.
    """
    if freedom < MIN_PATTERNS - 1:
        return 0.0
    covariance = parts.T @ parts / freedom
    others = ~np.eye(PARTS, dtype=bool)
    found = float(covariance[others].mean())
    own = np.maximum(np.diag(covariance) - max(found, 0.0), 0.0)
    pairs = np.count_nonzero(others) / 2.0
    error = np.sqrt(np.outer(own, own)[others].mean() / pairs / (independent or freedom))
    return found if found > min_pull * error else 0.0


def told_level(response: Response, valid: BoolArray, patterns: BoolArray, opu: Device) -> float:
    """Return the `common_level` of responses in valid rows; warn of it if it is not small beside their own variance.

    The noise of the laser is such a level, too, and needs no warning.
    """
    variance = common_level(response.values[:, valid], patterns, opu)
    assert response.variance is not None
    if variance > TOLD_SHARE * float(np.median(response.variance[:, valid])):
        warnings.warn(
            f"frames do not fit the model: their level changes by {2.0 * np.sqrt(variance):.2g} DN rms from pattern to "
            "pattern on all pixels together; stated errors include it. Keep stray light out, let the laser settle, or "
            "take frames faster",
            Misfit,
            stacklevel=5,
        )
    return variance


def change_of_anchors(
    sums: HostArray, patterns: BoolArray, anchor_dn: float, opu: Device, stacklevel: int = 2
) -> Common:
    """Error by anchors whose light in the frames of a call is not that of the calibration; a warning tells it.

    Responses are linear in the patterns, whatever the medium, and 0 without inputs. What a least-squares fit leaves
    there is half of the change of the anchors' light, which a camera that is not linear also makes. It needs
    `MIN_PATTERNS` patterns more than inputs.

    Parameters
    ----------
    sums : ndarray, shape (batch, 1)
        Mean response to each pattern over pixels that do not saturate, DN.
    patterns : ndarray of bool, shape (batch, n_inputs)
        What was shown.
    anchor_dn : float
        Mean light of the anchors on these pixels, DN.
    opu : Device
        Its data sheet gives the drift of the laser.
    stacklevel : int
        Number of calls from here to the line that the warning names.
    """
    known = np.column_stack([np.ones(len(patterns)), patterns])
    if len(patterns) < known.shape[1] + MIN_PATTERNS or anchor_dn <= 0:
        return Common()
    fitted, _, rank, _ = np.linalg.lstsq(known, sums[:, 0], rcond=None)
    if rank < known.shape[1]:
        return Common()
    noise = float(np.sum((sums[:, 0] - known @ fitted) ** 2)) / (len(known) - int(rank))
    error = 2.0 * float(np.sqrt(noise * np.linalg.inv(known.T @ known)[0, 0])) / anchor_dn
    change = 2.0 * float(fitted[0]) / anchor_dn
    if abs(change) < max(MIN_CHANGE, 5.0 * error):
        return Common()
    if abs(change) > 4.0 * opu.laser.drift_rms:
        warnings.warn(
            f"frames do not fit the model: the light of the anchors is {change:+.1%} from that of the calibration "
            f"(noise: {error:.1%}); stated errors include it. The laser may have changed, or the camera may not be "
            "linear",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return Common(float(fitted[0]) ** 2, abs(change))


def warn_of_scale(change: float, stacklevel: int = 2) -> None:
    """Warn of light that changes by this relative rms."""
    warnings.warn(
        f"frames do not fit the model: light changes by {change:.1%} rms from pattern to pattern; stated errors "
        "include it. Let the laser settle, or take frames faster",
        Misfit,
        stacklevel=stacklevel + 1,
    )


def state_of_light(device: Device, mean_dn: float, saturated: float) -> str:
    """Say how bright the frames are of which this is the mean above dark and the saturated share, and what helps."""
    longest = device.frame_period_s - device.dmd.settle_s
    if saturated > 0.1:
        advice = "shorten the exposure (opu.exposure_s)"
    elif device.exposure_s > 0.98 * longest:
        advice = "no longer exposure is possible: more light (laser.power_w) or slower frames are needed"
    else:
        advice = "set the exposure (opu.autoexpose); if that has set it, more bits or anchors are needed"
    return (
        f"at {mean_dn:,.2f} DN above dark of {device.camera.top} ({device.camera.bit_depth} bits), {saturated:.0%} "
        f"saturated, in {device.exposure_s:g} s of at most {longest:.3g} s: {advice}"
    )
