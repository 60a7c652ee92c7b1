"""Frames of random patterns that no calibration used, against the prediction of a recovered matrix."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.arrays import count, mean, total
from calibration.camera.noise import NoiseModel
from calibration.device import Device, backend_of_device, show
from calibration.fields.readings import binned_imaging, frame_shape
from calibration.fields.sideband import pixel_transfer
from calibration.reports.chapters.common import signal_of
from calibration.reports.findings import Curve, Line
from calibration.wavefront.focusing import leaked_field, pad_to_device
from photonics.arrays import Array, BoolArray
from photonics.backend import backend_of, to_host
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = [
    "PROBES",
    "HeldOut",
    "measure_held_out",
    "prediction_lines",
    "reason_to_distrust",
    "row_quality",
    "row_squares",
    "scatter",
]

PROBES = 64
"""Held-out patterns."""
MIN_CORRELATION = 0.5
"""Smallest correlation of prediction and frames; below it the matrix does not describe the frames."""
MAX_SATURATED_SHARE = 0.2
"""Largest share of saturated pixels in the held-out frames."""


class HeldOut(NamedTuple):
    """Frames of random patterns that no calibration used, and their prediction: arrays of shape (n_probes, n_out).

    They are where the device computes.
    """

    frames: Array
    """Frames of the camera, unchanged."""
    measured: Array
    """Frames above dark, DN, float64."""
    predicted: Array
    """``|T x|^2`` in DN, with a common scale fitted by least squares, float64."""
    variance: Array
    """Variance of `measured` due to the camera's noise, DN^2, float32."""
    good: Array
    """Readings that are not saturated and belong to a valid row."""


def measure_held_out(opu: Device, matrix: Array, valid: ArrayLike, noise: NoiseModel, seed: int) -> HeldOut:
    """Take frames of random half-ON patterns and predict them by a matrix of shape (n_out, n_inputs).

    Only the common scale is fitted; phases and conjugations of rows do not show in intensities.
    """
    backend = backend_of_device(opu)
    xp, matrix = backend.xp, backend.asarray(matrix)
    x = half_on(PROBES, matrix.shape[1], seed, PatternSet.HELD_OUT)
    frames = show(opu, pad_to_device(x, opu.n_in))
    field = xp.astype(backend.asarray(x), matrix.dtype) @ matrix.T + leaked_field(opu, matrix)
    intensity = xp.astype(xp.abs(field), xp.float64) ** 2
    unknown = backend.asarray(~np.asarray(valid, bool))
    good = (frames < opu.camera.saturation_dn) & ~unknown
    measured = signal_of(frames, noise)
    # Pixels receive some light of their neighbours. Where the matrix has no row, that light is taken from the frames.
    intensity = xp.where(unknown, measured / max(fit_scale(measured, intensity, good), 1e-30), intensity)
    predicted = average_over_pixels(opu, intensity)
    predicted *= fit_scale(measured, predicted, good)
    return HeldOut(frames, measured, predicted, noise.variance(frames), good)


def fit_scale(measured: Array, predicted: Array, good: Array) -> float:
    """Factor that fits predictions to the frames, by least squares."""
    return float(total(measured * predicted, where=good)) / max(float(total(predicted**2, where=good)), 1e-30)


def average_over_pixels(opu: Device, intensity: Array) -> Array:
    """Intensity averaged over pixels, (batch, n_out), from the intensity at their centres.

    Behind a pupil of band B, an intensity has the band 2 B. If that is below 1/2, the centres determine it. Without a
    pupil, or with smaller grains, the intensity is returned unchanged.
    """
    imaging = binned_imaging(opu)
    per_wave = imaging.pixel_m / opu.laser.wavelength_m
    aperture = imaging.numerical_aperture
    if aperture is None or imaging.region is not None or 2.0 * aperture * per_wave >= 0.5:
        return intensity
    backend, (rows, columns) = backend_of(intensity), frame_shape(opu)
    transfer = pixel_transfer(np.asarray(np.fft.fftfreq(rows), np.float64), imaging.samples_per_pixel)[:, None]
    transfer = transfer * pixel_transfer(np.asarray(np.fft.rfftfreq(columns), np.float64), imaging.samples_per_pixel)
    spectrum = backend.xp.fft.rfftn(backend.xp.reshape(intensity, (-1, rows, columns)), axes=(1, 2))
    seen = backend.xp.fft.irfftn(spectrum * backend.asarray(transfer), s=(rows, columns), axes=(1, 2))
    return backend.xp.reshape(seen, intensity.shape)


def readings_of_rows(test: HeldOut) -> Array:
    """Number of good readings of each row, at least 1, float64."""
    xp = backend_of(test.good).xp
    return xp.astype(xp.maximum(count(test.good, 0), 1), xp.float64)


def row_mean(test: HeldOut, values: Array) -> Array:
    """Mean over the good readings of each row."""
    return total(values, 0, where=test.good) / readings_of_rows(test)


def row_squares(test: HeldOut) -> tuple[Array, Array]:
    """Squared error of the field of each row, relative, and its variance due to the noise of the test frames.

    An error d of the field y of a pattern changes the intensity by ``2 Re(conj(y) d)``, of mean square ``2 E|y|^2
    E|d|^2``. To first order in d, the squared error of the field is therefore ``mean((I - P)^2 - noise) / 2 / (mean
    I)^2``. It is without bias, so that noise makes it negative in some rows. Normal noise of variance v gives its terms
    the variance ``2 v^2``.
    """
    xp = backend_of(test.measured).xp
    scale = 2.0 * xp.maximum(row_mean(test, test.measured), 1e-12) ** 2
    square = row_mean(test, (test.measured - test.predicted) ** 2 - test.variance) / scale
    variance = 2.0 * row_mean(test, xp.astype(test.variance, xp.float64) ** 2) / readings_of_rows(test)
    return square, variance / scale**2


def row_quality(test: HeldOut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Error of the field, at least 0, and correlation of the intensity in each row, without the test frames' noise.

    Both are on the host, (n_out,).
    """
    xp = backend_of(test.measured).xp
    a, b = (part - row_mean(test, part) for part in (test.measured, test.predicted))
    spread = xp.maximum(row_mean(test, a**2 - test.variance), 1e-12) * xp.maximum(row_mean(test, b**2), 1e-12)
    error, match = xp.sqrt(xp.maximum(row_squares(test)[0], 0.0)), row_mean(test, a * b) / xp.sqrt(spread)
    return to_host(error), to_host(match)


def frame_error(test: HeldOut) -> tuple[float, float]:
    """Relative error of predicted frames, ``sqrt(sum((I - P)^2 - noise) / sum I^2)``, and its standard error.

    In fully developed speckle it is the error of the field. Dim rows, whose relative error is large, weigh little.
    """
    excess = to_host(total((test.measured - test.predicted) ** 2 - test.variance, 1, where=test.good))
    power = float(total(test.measured**2 - test.variance, where=test.good)) / len(excess)
    found = math.sqrt(max(float(excess.mean() / max(power, 1e-12)), 0.0))
    return found, float(excess.std() / math.sqrt(len(excess)) / max(2.0 * found * power, 1e-12))


def prediction_lines(
    test: HeldOut, valid: BoolArray, limit: float, advice: str, reason: str = "", known: bool = True
) -> list[Line]:
    """Errors of predicted rows and frames, and their correlation; errors are not measurable if they are not `known`."""
    error, correlation = (values[valid] for values in row_quality(test))
    output, output_error = frame_error(test)
    told, spread = 1.0 if known else math.nan, float(1.2533 * error.std() / math.sqrt(error.size))
    return [
        Line("matrix", "error per row", "median over rows of √(⟨(I - |Tx|²)² - noise⟩ / 2) / ⟨I⟩, held-out", "",
             told * float(np.median(error)), spread, None, limit, advice, reason),
        Line("matrix", "error of the output", "√(Σ((I - |Tx|²)² - noise) / Σ I²) over held-out frames", "",
             told * output, output_error, None, limit, advice),
        Line("matrix", "correlation per row", "1 - median correlation of I with |Tx|², noise-corrected", "",
             float(1.0 - np.median(correlation)), math.nan, None, 0.02, advice),
    ]  # fmt: skip


def reason_to_distrust(test: HeldOut, correlation: float, opu: Device) -> str:
    """Reason why the matrix cannot be trusted; empty if it can."""
    saturated = float(mean(test.frames >= opu.camera.saturation_dn))
    if saturated > MAX_SATURATED_SHARE:
        return f"the camera is saturated in {saturated:.0%} of the pixels, so intensities are not measured"
    if correlation > MIN_CORRELATION:
        return ""
    xp = backend_of(test.measured).xp
    a, b = (part - xp.mean(part, axis=0) for part in (test.measured, test.predicted))
    norms = np.sqrt(np.outer(*(to_host(xp.sum(part**2, axis=1)) for part in (a, b))))
    match = to_host(a @ b.T) / np.maximum(norms, 1e-30)  # correlation of each frame with each prediction
    best = match.argmax(axis=1)
    moved = best != np.arange(len(best))
    if np.median(match.max(axis=1)) > MIN_CORRELATION and moved.mean() > 0.2:
        first = int(np.argmax(moved))
        return (
            f"patterns are shuffled: {moved.sum()} of {len(best)} frames show another pattern than the one sent "
            f"(frame {first} shows pattern {best[first]})"
        )
    return (
        f"the matrix does not predict the frames (correlation {correlation:.2f}): the medium drifted since the "
        "calibration, or the device showed other patterns than those sent"
    )


def scatter(test: HeldOut, points: int = 3000) -> Curve:
    """Predicted and measured intensity relative to the mean, for the figure."""
    level = float(backend_of(test.good).xp.mean(test.measured[test.good]))
    keep = slice(None, None, max(1, int(count(test.good)) // points))
    both = {"predicted": test.predicted, "measured": test.measured}
    return {name: (to_host(values[test.good][keep]) / level).tolist() for name, values in both.items()}
