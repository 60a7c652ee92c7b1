"""A recovered transmission matrix: how well it predicts new frames, and the statistics of its entries."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.camera.noise import NoiseModel
from calibration.device import Device
from calibration.fields.readings import frame_shape
from calibration.fields.sideband import pixel_transfer
from calibration.recovery.estimate import TransmissionEstimate
from calibration.reports.chapters.common import Chapter, refusal, signal_of
from calibration.reports.findings import Curve, Line
from calibration.wavefront.focusing import leaked_field, pad_to_device
from photonics.analysis.speckle import marchenko_pastur_edges
from photonics.arrays import BoolArray, FloatArray, HostArray
from photonics.backend import HOST
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["HeldOut", "matrix_chapter", "measure_held_out"]

GROUP = "matrix"
MAX_MISFIT = 4.0
"""Largest misfit of the median row, relative to noise; above it no matrix explains the frames."""
PROBES = 64
"""Held-out patterns."""
MIN_CORRELATION = 0.5
"""Smallest correlation of prediction and frames; below it the matrix does not describe the frames."""
MAX_SATURATED_SHARE = 0.2
"""Largest share of saturated pixels in the held-out frames."""
MIN_SIGNAL_DN = 6.0
"""Smallest mean of the held-out frames above dark. Below it, subtraction of noise does not remove rounding errors in
dim rows: an error of 3 % looks 1.4 times as large at 4 DN, and 3 times as large at 1.2 DN."""


class HeldOut(NamedTuple):
    """Frames of random patterns that no calibration used, and their prediction: arrays of shape (n_probes, n_out)."""

    frames: HostArray
    """Frames of the camera, unchanged."""
    measured: NDArray[np.float64]
    """Frames above dark, DN."""
    predicted: NDArray[np.float64]
    """``|T x|^2`` in DN, with a common scale fitted by least squares."""
    variance: FloatArray
    """Variance of `measured` due to the camera's noise, DN^2."""
    good: BoolArray
    """Readings that are not saturated and belong to a valid row."""


def measure_held_out(opu: Device, matrix: ArrayLike, valid: ArrayLike, noise: NoiseModel, seed: int) -> HeldOut:
    """Take frames of random half-ON patterns and predict them by a matrix of shape (n_out, n_inputs).

    Only the common scale is fitted; phases and conjugations of rows do not show in intensities.
    """
    matrix = np.asarray(matrix)
    x = half_on(PROBES, matrix.shape[1], seed, PatternSet.HELD_OUT)
    frames = np.asarray(opu.measure(pad_to_device(x, opu.n_in)))
    field = x.astype(np.float32) @ matrix.T + leaked_field(opu, matrix)
    intensity = np.abs(field).astype(np.float64) ** 2
    unknown = ~np.asarray(valid, bool)
    good = (frames < opu.camera.saturation_dn) & ~unknown
    measured = signal_of(frames, noise)
    # Pixels receive some light of their neighbours. Where the matrix has no row, that light is taken from the frames.
    intensity[:, unknown] = measured[:, unknown] / max(fit_scale(measured, intensity, good), 1e-30)
    predicted = average_over_pixels(opu, intensity)
    predicted *= fit_scale(measured, predicted, good)
    return HeldOut(frames, measured, predicted, noise.variance(frames), good)


def fit_scale(measured: NDArray[np.float64], predicted: NDArray[np.float64], good: BoolArray) -> float:
    """Factor that fits predictions to the frames, by least squares."""
    return float(np.sum(measured * predicted, where=good) / max(np.sum(predicted**2, where=good), 1e-30))


def average_over_pixels(opu: Device, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intensity averaged over pixels, (batch, n_out), from the intensity at their centres.

    Behind a pupil of band B, an intensity has the band 2 B. If that is below 1/2, the centres determine it. Without a
    pupil, or with smaller grains, the intensity is returned unchanged.
    """
    imaging, per_wave = opu.imaging, opu.imaging.pixel_m / opu.laser.wavelength_m
    aperture = imaging.numerical_aperture
    if aperture is None or imaging.region is not None or 2.0 * aperture * per_wave >= 0.5:
        return intensity
    rows, columns = frame_shape(opu)
    transfer = pixel_transfer(np.asarray(np.fft.fftfreq(rows), np.float64), imaging.samples_per_pixel)[:, None]
    transfer = transfer * pixel_transfer(np.asarray(np.fft.rfftfreq(columns), np.float64), imaging.samples_per_pixel)
    seen = np.fft.irfft2(np.fft.rfft2(intensity.reshape(-1, rows, columns)) * transfer, (rows, columns))
    return seen.reshape(intensity.shape)


def row_quality(test: HeldOut) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Error of the field and correlation of the intensity in each row, without the noise of the test frames.

    An error d of the field y of a pattern changes the intensity by ``2 Re(conj(y) d)``, of mean square ``2 E|y|^2
    E|d|^2``. To first order in d, the error of the field is therefore ``sqrt(mean((I - P)^2 - noise) / 2) / mean I``.
    """

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sum(values, axis=0, where=test.good) / np.maximum(test.good.sum(axis=0), 1)

    level = np.maximum(mean(test.measured), 1e-12)
    excess = mean((test.measured - test.predicted) ** 2 - test.variance)
    error = np.sqrt(np.maximum(excess, 0.0) / 2.0) / level
    a, b = test.measured - mean(test.measured), test.predicted - mean(test.predicted)
    spread = np.maximum(mean(a**2 - test.variance), 1e-12) * np.maximum(mean(b**2), 1e-12)
    return error, mean(a * b) / np.sqrt(spread)


def frame_error(test: HeldOut) -> tuple[float, float]:
    """Relative error of predicted frames, ``sqrt(sum((I - P)^2 - noise) / sum I^2)``, and its standard error.

    In fully developed speckle it is the error of the field. Dim rows, whose relative error is large, weigh little.
    """
    excess = np.sum((test.measured - test.predicted) ** 2 - test.variance, axis=1, where=test.good)
    power = np.sum(test.measured**2 - test.variance, where=test.good) / len(excess)
    found = math.sqrt(max(float(excess.mean() / max(power, 1e-12)), 0.0))
    return found, float(excess.std() / math.sqrt(len(excess)) / max(2.0 * found * power, 1e-12))


def matrix_chapter(opu: Device, estimate: TransmissionEstimate, noise: NoiseModel, seed: int) -> Chapter:
    """Held-out probes, condition number, singular values and anchors of an estimate."""
    matrix, valid = np.asarray(estimate.matrix), np.asarray(estimate.valid, bool)
    dark = float(1.0 - valid.mean())
    share = Line(GROUP, "dark share", "share of rows with a dark anchor or reference, or saturated", "", dark,
                 math.sqrt(max(dark * (1.0 - dark), 1.0 / valid.size) / valid.size), None, 0.1,
                 "choose another or a brighter anchor, or more anchors")  # fmt: skip
    if valid.sum() < 2:
        misfit = np.asarray(estimate.diagnostics.get("misfit", math.nan), np.float64)
        if np.isfinite(misfit).any() and np.nanmedian(misfit) > MAX_MISFIT:
            reason = "no matrix explains the frames: they belong to other patterns, or the medium changed in between"
            advice = "check the order of the frames; wait until the medium is stable"
            return Chapter([share, refusal(GROUP, "held-out probes", reason, advice)], {})
        reason = "every anchor or reference is dark, or every pixel is saturated: no row is known"
        return Chapter([share, refusal(GROUP, "held-out probes", reason, "light the anchor; opu.autoexpose")], {})
    test = measure_held_out(opu, matrix, valid, noise, seed)
    error, correlation = (row[valid] for row in row_quality(test))
    reason = reason_to_distrust(test, float(np.median(correlation)), opu)
    told = 1.0 if test.good.any() and test.measured[test.good].mean() >= MIN_SIGNAL_DN else math.nan
    spread = float(1.2533 * error.std() / math.sqrt(error.size))
    # Mirrors that are not in the matrix are OFF; the field that they leak is not in the matrix.
    leak = math.sqrt(2.0 * (opu.n_in / matrix.shape[1] - 1.0)) * abs(opu.dmd.leakage)
    stated = pattern_error(estimate, matrix, valid, leak)
    of_output, of_output_error = frame_error(test)
    lines = [
        Line(GROUP, "error per row", "median over rows of √(⟨(I - |Tx|²)² - noise⟩ / 2) / ⟨I⟩, held-out", "",
             told * float(np.median(error)), spread, None, 0.06 + leak, "more light and frames, no saturation", reason),
        Line(GROUP, "error of the output", "√(Σ((I - |Tx|²)² - noise) / Σ I²) over held-out frames", "",
             told * of_output, of_output_error, None, 0.06 + leak, "as for the error per row"),
        Line(GROUP, "correlation per row", "1 - median correlation of I with |Tx|², noise-corrected", "",
             float(1.0 - np.median(correlation)), math.nan, None, 0.02, "as for the error per row"),
        Line(GROUP, "stated uncertainty", "rms error of rows over the predicted one, with leakage of other mirrors", "",
             told * float(np.sqrt(np.mean(error**2)) / stated), 1.0 / math.sqrt(2.0 * PROBES), 1.0, 0.4,
             "above 1: drift, or light that the model does not include"),
        share,
        Line(GROUP, "condition number", "largest over smallest singular value of the probes", "",
             float(estimate.condition_number), math.nan, None, 100.0, "choose other probes: they amplify errors"),
    ]  # fmt: skip
    ratio = estimate.diagnostics.get("rank_ratio")
    if ratio is not None:
        median = float(np.median(np.asarray(ratio)[valid]))
        formula = "third over second singular value of the anchors' distances, median over rows"
        advice = "more light or more anchors"
        lines.append(Line(GROUP, "anchors' rank ratio", formula, "", median, math.nan, None, 0.5, advice))
    if opu.imaging.numerical_aperture is not None and not estimate.gauge.conjugation_fixed:
        matrix = align_conjugation(matrix, valid, frame_shape(opu))
    spectrum = singular_values(matrix, valid, independent_rows(opu, valid))
    curves = {
        "held_out": scatter(test),
        "matrix_rows": {"error": error.tolist(), "correlation": correlation.tolist()},
    }
    return Chapter(lines + spectrum.lines, curves | spectrum.curves)


def predicted_error(estimate: TransmissionEstimate, matrix: HostArray, valid: BoolArray) -> float:
    """Predicted rms error of a row relative to its rms; NaN if the estimate predicts no error."""
    error = np.asarray(estimate.standard_error, np.float64)
    error = error[:, None] if error.ndim == 1 else error
    size = np.mean(np.abs(matrix[valid]) ** 2, axis=1)
    share = np.mean(error[valid] ** 2, axis=1) / np.maximum(size, 1e-30)
    return float(np.sqrt(np.mean(share[np.isfinite(share)]))) if np.isfinite(share).any() else math.nan


def pattern_error(estimate: TransmissionEstimate, matrix: HostArray, valid: BoolArray, leak: float) -> float:
    """Predicted rms error of the field of a half-ON pattern, relative to its rms.

    If the errors of a row's entries are independent, it combines the error of the row and the leakage of other mirrors.
    """
    known = estimate.diagnostics.get("pattern_error")
    if known is None:
        return math.hypot(predicted_error(estimate, matrix, valid), leak)
    rows = matrix[valid]
    light = (np.abs(rows.sum(axis=1)) ** 2 + (np.abs(rows) ** 2).sum(axis=1)) / 4.0
    return float(np.sqrt(np.mean(np.asarray(known)[valid] ** 2 / np.maximum(light, 1e-30))))


def reason_to_distrust(test: HeldOut, correlation: float, opu: Device) -> str:
    """Reason why the matrix cannot be trusted; empty if it can."""
    saturated = float((test.frames >= opu.camera.saturation_dn).mean())
    if saturated > MAX_SATURATED_SHARE:
        return f"the camera is saturated in {saturated:.0%} of the pixels, so intensities are not measured"
    if correlation > MIN_CORRELATION:
        return ""
    a, b = (part - part.mean(axis=0) for part in (test.measured, test.predicted))
    norms = np.sqrt(np.outer((a**2).sum(axis=1), (b**2).sum(axis=1)))
    match = a @ b.T / np.maximum(norms, 1e-30)  # correlation of each frame with each prediction
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
    mean = float(test.measured[test.good].mean())
    keep = slice(None, None, max(1, int(test.good.sum()) // points))
    both = {"predicted": test.predicted, "measured": test.measured}
    return {name: (values[test.good][keep] / mean).tolist() for name, values in both.items()}


def singular_values(matrix: HostArray, valid: BoolArray, independent: float | None = None) -> Chapter:
    """Singular values against the law of Marchenko and Pastur, after scaling rows and columns to the same rms.

    The scaling removes the beam profile (columns) and the reference (rows). Then ``sum s^4 / M = M / K + M / N`` for
    ``E|t|^2 = 1/N``, M rows of which K are independent (`independent_rows`; all by default) and N columns. The law does
    not depend on the phase or conjugation of rows.
    """
    known = matrix[valid].astype(np.complex128)
    known /= np.sqrt(np.maximum(np.mean(np.abs(known) ** 2, axis=0, keepdims=True), 1e-30))
    known /= np.sqrt(np.maximum(np.sum(np.abs(known) ** 2, axis=1, keepdims=True), 1e-30))
    rows, columns = known.shape
    free = rows if independent is None else independent
    values = np.linalg.svd(known, compute_uv=False)
    moment, expected = float(np.sum(values**4) / rows), rows / free + rows / columns
    scale = math.sqrt(rows / free)  # M rows are mixtures of K independent ones
    low, high = (scale * edge for edge in marchenko_pastur_edges(free, columns))
    advice = "a common background or correlated columns: the speckle is not fully developed, or frames saturate"
    edge = float(values[0] / high)
    lines = [
        Line(GROUP, "fourth moment", f"Σ s⁴ / M, law of Marchenko and Pastur: M/K + M/N, K = {free:.0f} free rows", "",
             moment, math.sqrt(2.0 / (free * columns)) * expected, expected, 0.05 * expected, advice),
        Line(GROUP, "largest singular value", "s_max over √(M/K) + √(M/N)", "", edge,
             0.6 * min(free, columns) ** (-2.0 / 3.0), 1.0, 0.05, advice),
    ]  # fmt: skip
    curve = {"values": values.tolist(), "rows": free, "columns": columns, "edges": [low, high], "scale": scale}
    return Chapter(lines, {"singular_values": curve})


def independent_rows(opu: Device, valid: BoolArray) -> float:
    """Number of independent rows among the valid ones, ``M^2 / sum_ij |mu_ij|^2``.

    mu is the correlation of the field at two pixels due to the pupil, with periodic edges of the sensor: K is the
    number of frequencies that the pupil passes. Without a pupil it is M.
    """
    imaging, rows = opu.imaging, float(valid.sum())
    if imaging.numerical_aperture is None:
        return rows
    (height, width), k = frame_shape(opu), imaging.samples_per_pixel
    more = 1 if imaging.region is None else 2  # the sensor extends beyond a region
    passed = imaging.filter((k * more * height, k * more * width), opu.laser.wavelength_m, HOST).astype(np.float64)
    match = np.abs(np.fft.ifft2(passed**2)[::k, ::k]) ** 2
    known = np.zeros(match.shape)
    known[:height, :width] = valid.reshape(height, width)
    pairs = np.fft.ifft2(np.abs(np.fft.fft2(known)) ** 2).real
    return rows**2 * float(match[0, 0] / np.sum(pairs * match))


def align_conjugation(matrix: HostArray, valid: BoolArray, shape: tuple[int, int]) -> HostArray:
    """Conjugate rows whose conjugate correlates better with their neighbours to the left and above.

    If a method leaves the conjugation of rows undetermined, some rows are conjugated, which destroys the correlation of
    neighbouring rows in a grain.
    """
    matrix, known = matrix.copy(), np.zeros((shape[0] + 1, shape[1] + 2), bool)  # with a margin
    known[1:, 1:-1] = valid.reshape(shape)
    last = 0
    for i in np.flatnonzero(valid).tolist():
        row, column = divmod(i, shape[1])
        near = ((row, column - 1), (row - 1, column - 1), (row - 1, column), (row - 1, column + 1))
        others = matrix[[r * shape[1] + c for r, c in near if known[r + 1, c + 1]] or [last]]
        same, mirrored = (np.sum(np.abs(others @ one) ** 2) for one in (matrix[i].conj(), matrix[i]))
        if mirrored > same:
            matrix[i] = matrix[i].conj()
        last = i
    return matrix
