"""Light that changes from pattern to pattern, from levels that all pixels have in common."""

import math
import warnings

import numpy as np

from calibration.arrays import columns, count, least_squares, mean, median, total
from calibration.camera.rounding import SPECKLE_ROUNDING_DN
from calibration.device import Device
from calibration.fields.misfit import Misfit
from calibration.fields.readings import binned_imaging
from calibration.projections.responses import Common, Response
from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.parts.camera import QUANTISATION
from photonics.parts.pupil import pixel_power

__all__ = [
    "change_of_anchors",
    "change_of_beam",
    "common_scale",
    "fringe_power",
    "grains_per_pixel",
    "state_of_light",
    "told_level",
    "warn_of_scale",
]

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

MIN_BEAM_CHANGE = 0.05
"""Smallest relative change of a pattern's light, against the calibration's, that a beam of known strength tells."""
BEAM_ERROR, BEAM_ROUNDING_DN = 0.005, 0.3
"""Error of a pattern's mean light, relative and in DN: on sound benches 0.003, and that of the dark level."""
MIN_COHERENT = 0.95
"""Share of the speckle's power that must interfere with the beam."""
BEAM_PULL = 4.0
"""Errors above which that change is told. Noise is small beside them: the mean is over all pixels."""
STRAY_NATS = 5.0
"""Gain in log-likelihood from which on it is stray light."""


def common_level(values: Array, patterns: Array, opu: Device) -> float:
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
    if patterns.shape[0] < patterns.shape[1] + 1 + MIN_PATTERNS:
        return 0.0
    known = with_ones(patterns)
    parts = backend_of(values).xp.stack([mean(part, 1, "float64") for part in parts_of(values)], axis=1)
    fitted, rank = least_squares(known, parts)
    return common_variance(parts - known @ fitted, patterns.shape[0] - rank)


def common_scale(excess: Array, lever: Array, beam_variance: float, n_inputs: int, opu: Device) -> float:
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
    xp, slopes, weight = backend_of(excess).xp, [], 0.0
    for seen, by in zip(parts_of(excess), parts_of(lever), strict=True):
        known = seen != 0
        number = xp.maximum(total(known, 1, "int64"), 1)[:, None]
        level = total(by, 1, where=known)[:, None] / xp.astype(number, xp.float64)
        centred = xp.where(known, by - level, 0.0)
        power = xp.sum(centred**2, axis=1)
        slopes.append(xp.sum(seen * centred, axis=1) / xp.maximum(power, 1e-12))
        weight = weight + power
    parts, batch = xp.stack(slopes, axis=1), excess.shape[0]
    mean_weight = max(float(xp.mean(weight)), 1e-12)
    if mean_weight < pixels * QUANTISATION:
        return 0.0  # readings differ from pixel to pixel by rounding, not by light
    weight = weight / mean_weight  # slopes of dim patterns are noisy
    root, most = xp.sqrt(weight + 1e-12)[:, None], beam_variance / mean_weight
    fitted = least_squares(xp.concat([root, 1.0 / root], axis=1), root * parts)[0]
    parts -= xp.clip(fitted[1, :], -most, most) / root**2
    parts = xp.sqrt(weight)[:, None] * (parts - average(parts, weight + 1e-12))
    shown = batch / max(float(xp.mean(weight**2)), 1e-12)
    independent = 1.0 / (1.0 / max(shown - 1.0, 1.0) + 1.0 / n_inputs)  # speckle is the same in all patterns
    pull = MIN_PULL if grains == 1.0 else WIDE_PULL
    found = common_variance(parts, batch - 1, pull, independent)
    return found if grains == 1.0 or found > WIDE_SCALE**2 else 0.0


def average(parts: Array, weight: Array) -> Array:
    """Weighted mean over the patterns: (batch, parts) and (batch,) -> (parts,)."""
    if isinstance(parts, np.ndarray):
        return np.average(parts, axis=0, weights=weight)
    xp = backend_of(parts).xp
    return xp.sum(parts * weight[:, None], axis=0) / xp.sum(weight)


def grains_per_pixel(opu: Device) -> float:
    """Number of independent speckle grains on a pixel, at most 1: the area of the field's band in cycles per pixel."""
    imaging = binned_imaging(opu)
    if imaging.numerical_aperture is None:
        return 1.0
    return min(np.pi * (imaging.numerical_aperture * imaging.pixel_m / opu.laser.wavelength_m) ** 2, 1.0)


def fringe_power(opu: Device) -> float:
    """Share of the speckle's power that interferes with a plane reference, by the data sheet of the optics, 0 to 1.

    The reference has one polarisation, and fringes of several grains on a pixel partly cancel.
    """
    imaging, share = binned_imaging(opu), 1.0
    if imaging.numerical_aperture is not None:
        optics = imaging.pupil, imaging.numerical_aperture, opu.laser.wavelength_m, imaging.pixel_m
        share = pixel_power(*optics, imaging.samples_per_pixel, 1)
    return share / imaging.polarisations


def parts_of(values: Array) -> list[Array]:
    """Parts of the sensor, (batch, n_pixels of the part) each."""
    ends = np.cumsum([len(part) for part in np.array_split(np.arange(values.shape[1]), PARTS)]).tolist()
    return [values[:, first:stop] for first, stop in zip([0, *ends], ends, strict=False)]


def with_ones(patterns: Array) -> Array:
    """Patterns in float64 after a column of ones: (batch, n_inputs) -> (batch, 1 + n_inputs)."""
    xp = backend_of(patterns).xp
    known = xp.astype(patterns, xp.float64)
    return xp.concat([xp.ones_like(known[:, :1]), known], axis=1)


def common_variance(parts: Array, freedom: int, min_pull: float = MIN_PULL, independent: float | None = None) -> float:
    """Mean covariance of quantities of separate parts, of mean 0, (batch, parts); 0 if it is not significant.

    Of the patterns, `freedom` are left by the fit that made the mean 0, and `independent` (all of these if not given)
    differ in more than noise.
    """
    if freedom < MIN_PATTERNS - 1:
        return 0.0
    backend = backend_of(parts)
    xp, others = backend.xp, backend.asarray(~np.eye(PARTS, dtype=bool))
    covariance = parts.T @ parts / freedom
    found = float(xp.mean(covariance[others]))
    own = xp.maximum(xp.linalg.diagonal(covariance) - max(found, 0.0), 0.0)
    pairs = PARTS * (PARTS - 1) / 2.0
    error = math.sqrt(float(xp.mean((own[:, None] * own[None, :])[others])) / pairs / (independent or freedom))
    return found if found > min_pull * error else 0.0


def told_level(response: Response, valid: Array, patterns: Array, opu: Device) -> float:
    """Return the `common_level` of responses in valid rows; warn of it if it is not small beside their own variance.

    The noise of the laser is such a level, too, and needs no warning.
    """
    variance = common_level(columns(response.values, valid), patterns, opu)
    assert response.variance is not None
    if variance and variance > TOLD_SHARE * median(columns(response.variance, valid)):
        warnings.warn(
            f"frames do not fit the model: their level changes by {2.0 * np.sqrt(variance):.2g} DN rms from pattern to "
            "pattern on all pixels together; stated errors include it. Keep stray light out, let the laser settle, or "
            "take frames faster",
            Misfit,
            stacklevel=5,
        )
    return variance


def change_of_anchors(sums: Array, patterns: Array, anchor_dn: float, opu: Device, stacklevel: int = 2) -> Common:
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
    if patterns.shape[0] < patterns.shape[1] + 1 + MIN_PATTERNS or anchor_dn <= 0:
        return Common()
    xp, known = backend_of(sums).xp, with_ones(patterns)
    fitted, rank = least_squares(known, sums[:, 0])
    if rank < known.shape[1]:
        return Common()
    noise = float(xp.sum((sums[:, 0] - known @ fitted) ** 2)) / (known.shape[0] - rank)
    error = 2.0 * math.sqrt(noise * float(xp.linalg.inv(known.T @ known)[0, 0])) / anchor_dn
    change = 2.0 * float(fitted[0]) / anchor_dn
    if abs(change) < max(MIN_CHANGE, 5.0 * error):
        return Common()
    if abs(change) > 4.0 * opu.laser.drift_rms and abs(float(fitted[0])) > SPECKLE_ROUNDING_DN:
        warnings.warn(
            f"frames do not fit the model: the light of the anchors is {change:+.1%} from that of the calibration "
            f"(noise: {error:.1%}); stated errors include it. The laser may have changed, or the camera may not be "
            "linear",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return Common(float(fitted[0]) ** 2, abs(change))


def change_of_beam(
    light: Array, beam: Array, speckle: Array, known: Array, leaked_dn: float, opu: Device, stacklevel: int = 2
) -> Array:
    """Light of each pattern over that of the calibration, (batch,): 1 unless it clearly differs; a warning tells it.

    Light of power L shows a beam ``L |R|^2`` and a speckle ``L |y|^2``, whose fringes say ``L^2 |R|^2 |y|^2``. With B
    the beam of the calibration, S the speckle that fringes say beside it and M the mean light, ``M = L B + S / L`` if
    all light is coherent. Of the two solutions the one nearer to 1 is taken, so that no change is told by mistake; a
    speckle of about the beam's strength tells nothing. Stray light adds a constant to M, and leaves the fringes as they
    are: it is no such change if it explains the pixels better.

    Parameters
    ----------
    light, speckle : ndarray, shape (batch, n_pixels)
        M and S of each pixel, DN.
    beam : ndarray, shape (n_pixels,)
        B of each pixel, DN.
    known : ndarray of bool, shape (batch, n_pixels)
        Pixels that do not saturate.
    leaked_dn : float
        Light that OFF mirrors leak, if it is not in S, DN; it interferes with the speckle.
    opu : Device
        Its data sheet gives the drift of the laser.
    stacklevel : int
        Number of calls from here to the line that the warning names.
    """
    xp = backend_of(light).xp
    number = xp.maximum(total(known, 1), 1.0)
    if fringe_power(opu) < MIN_COHERENT:
        return xp.ones_like(number)
    m, b, s = (total(one + 0.0 * light, 1, "float64", known) / number for one in (light, beam, speckle))
    half = 0.5 * m / b
    root = xp.sqrt(xp.maximum(half**2 - s / b, 0.0))
    found = half + xp.where(half < 1.0, root, -root)
    relative = math.hypot(BEAM_ERROR, opu.laser.drift_rms, opu.laser.warm_up)
    error = xp.sqrt((relative * m) ** 2 + BEAM_ROUNDING_DN**2 + leaked_dn * s) / xp.maximum(xp.abs(b - s), 1e-6)
    clear = (number > 0.5 * light.shape[1]) & (xp.abs(found - 1.0) > xp.maximum(BEAM_PULL * error, MIN_BEAM_CHANGE))
    found = xp.where(clear, xp.maximum(found, 1e-3), 1.0)
    if not bool(xp.any(clear)):
        return found
    stray = light - beam - speckle - (m - b - s)[:, None]
    power = light - found[:, None] * beam - speckle / found[:, None]
    left = [xp.maximum(total(rest**2, 1, "float64", known), 1e-12) for rest in (stray, power)]
    if float(total(0.5 * number * xp.log(left[1] / left[0]), where=clear)) > STRAY_NATS:
        return xp.ones_like(found)
    furthest = max(float(xp.max(found)) - 1.0, float(xp.min(found)) - 1.0, key=abs)
    warnings.warn(
        f"frames do not fit the model: the light of {int(count(clear))} of {clear.shape[0]} patterns is up to "
        f"{furthest:+.0%} from that of the calibration; stated errors include it. The laser may have changed: "
        "calibrate again",
        Misfit,
        stacklevel=stacklevel + 1,
    )
    return found


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
