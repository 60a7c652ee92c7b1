"""A recovered transmission matrix: how well it predicts new frames, and the statistics of its entries."""

import math

import numpy as np

from calibration.arrays import count, mean
from calibration.camera.estimate import share_of
from calibration.camera.noise import NoiseModel
from calibration.device import Device
from calibration.fields.misfit import MAX_MISFIT as MAX_ROW_MISFIT
from calibration.fields.readings import frame_shape
from calibration.recovery.estimate import TransmissionEstimate
from calibration.recovery.interferometry import MIN_AXIS_RATIO
from calibration.reports.chapters.common import Chapter, is_noise_hidden, refusal
from calibration.reports.chapters.held_out import (
    PROBES,
    HeldOut,
    measure_held_out,
    prediction_lines,
    reason_to_distrust,
    row_quality,
    row_squares,
    scatter,
)
from calibration.reports.chapters.spectrum import spectrum_of
from calibration.reports.findings import Curve, Line
from photonics.arrays import BoolArray
from photonics.backend import backend_of, to_host

__all__ = ["matrix_chapter", "predicted_error", "share_line"]

GROUP = "matrix"
MAX_MISFIT = 4.0
"""Largest misfit of the median row, relative to noise; above it no matrix explains the frames."""
MAX_SATURATED = 0.05
"""Share of saturated readings above which a row that is not valid is attributed to saturation."""
MIN_SIGNAL_DN = 6.0
"""Smallest mean of the held-out frames above dark. Below it, subtraction of noise does not remove rounding errors in
dim rows: an error of 3 % looks 1.4 times as large at 4 DN, and 3 times as large at 1.2 DN."""
MIN_ROW_DN = 3.0
"""Smallest mean of a row, DN above dark, at which its error is compared with the stated one, for the same reason."""


def matrix_chapter(opu: Device, estimate: TransmissionEstimate, noise: NoiseModel, seed: int) -> Chapter:
    """Held-out probes, condition number, singular values and anchors of an estimate."""
    matrix, valid = estimate.matrix, np.asarray(estimate.valid, bool)
    share = share_line("dark share", "share of rows with a dark anchor or reference, or saturated", ~valid, 0.1,
                       "choose another or a brighter anchor, or more anchors")  # fmt: skip
    rows = row_curves(opu, estimate)
    if valid.sum() < 2:
        misfit = np.asarray(estimate.diagnostics.get("misfit", math.nan), np.float64)
        if np.isfinite(misfit).any() and np.nanmedian(misfit) > MAX_MISFIT:
            reason = "no matrix explains the frames: they belong to other patterns, or the medium changed in between"
            advice = "check the order of the frames; wait until the medium is stable"
            return Chapter([share, refusal(GROUP, "held-out probes", reason, advice)], rows)
        reason = "every anchor or reference is dark, or every pixel is saturated: no row is known"
        return Chapter([share, refusal(GROUP, "held-out probes", reason, "another exposure or anchor")], rows)
    test = measure_held_out(opu, matrix, valid, noise, seed)
    error, correlation = (values[valid] for values in row_quality(test))
    reason = reason_to_distrust(test, float(np.median(correlation)), opu)
    known = bool(count(test.good)) and level_of(test) >= MIN_SIGNAL_DN
    # Mirrors that are not in the matrix are OFF; the field that they leak is not in the matrix.
    leak = math.sqrt(2.0 * (opu.n_in / matrix.shape[1] - 1.0)) * abs(opu.dmd.leakage)
    lines = [
        *prediction_lines(test, valid, 0.06 + leak, "more light and frames, no saturation", reason, known),
        stated_line(estimate, test, leak, noise),
        share,
        Line(GROUP, "condition number", "largest over smallest singular value of the probes", "",
             float(estimate.condition_number), math.nan, None, 100.0, "choose other probes: they amplify errors"),
    ]  # fmt: skip
    ratio = estimate.diagnostics.get("rank_ratio")
    if ratio is not None:
        formula = f"share of rows whose anchors' second over first singular value is under {MIN_AXIS_RATIO:g}"
        lines.append(share_line("anchors on a line", formula, np.asarray(ratio) < MIN_AXIS_RATIO, 0.3, "more anchors"))
    spectrum = spectrum_of(opu, estimate)
    curves = {
        "held_out": scatter(test),
        "matrix_rows": {"error": error.tolist(), "correlation": correlation.tolist()},
    }
    return Chapter(lines + spectrum.lines, rows | curves | spectrum.curves)


def share_line(name: str, formula: str, found: BoolArray, limit: float, advice: str) -> Line:
    """Line of the share of rows that have a property, (n_out,)."""
    share = share_of(int(found.sum()), found.size)
    return Line(GROUP, name, formula, "", share.value, share.error, None, limit, advice)


def row_curves(opu: Device, estimate: TransmissionEstimate) -> dict[str, Curve]:
    """Which rows are valid, in the sensor's layout, why others are not, and the misfit of rows if the method has one.

    A row that is not valid is attributed to its misfit if that is over the limit, else to saturation if over
    `MAX_SATURATED` of its readings saturate, else to a dark anchor or reference, or a bad pixel.
    """
    valid = np.asarray(estimate.valid, bool)
    misfit, saturated = (
        np.broadcast_to(np.asarray(estimate.diagnostics.get(name, unknown), np.float64), valid.shape)
        for name, unknown in (("misfit", math.nan), ("saturated", 0.0))
    )
    state = np.select([valid, misfit > MAX_ROW_MISFIT, saturated > MAX_SATURATED], [0, 1, 2], 3)
    curves: dict[str, Curve] = {"row_map": {"state": state.tolist(), "shape": list(frame_shape(opu))}}
    known = misfit[np.isfinite(misfit)]
    return curves | ({"misfit": {"values": known.tolist(), "limit": MAX_ROW_MISFIT}} if known.size else {})


def stated_line(estimate: TransmissionEstimate, test: HeldOut, leak: float, noise: NoiseModel) -> Line:
    """Errors of rows of at least `MIN_ROW_DN` relative to the stated ones.

    They are not known in dim frames, nor if they are below the stated ones where rounding hides the camera's noise:
    methods assume the variance of rounding, which averages out.
    """
    level, square, variance = map(to_host, (mean(test.measured, 0), *row_squares(test)))
    bright = np.asarray(estimate.valid, bool) & (level >= MIN_ROW_DN)
    pull, spread = math.nan, 0.0
    if bright.any():
        stated = pattern_error(estimate, bright, leak) ** 2
        pull = math.sqrt(max(float(square[bright].mean()), 0.0) / stated)
        spread = math.sqrt(float(variance[bright].sum())) / int(bright.sum()) / stated / (2.0 * max(pull, 1.0))
    light = float(level.mean())
    if light < MIN_SIGNAL_DN or (pull < 1.0 and is_noise_hidden(noise, light)):
        pull = math.nan
    name, formula = "stated uncertainty", f"rms error of rows over {MIN_ROW_DN:g} DN, over the predicted one"
    return Line(GROUP, name, formula, "", pull, math.hypot(spread, 1.0 / math.sqrt(2.0 * PROBES)), 1.0, 0.4,
                "above 1: drift, or light that the model does not include")  # fmt: skip


def level_of(test: HeldOut) -> float:
    """Mean of the good readings, DN above dark."""
    return float(backend_of(test.good).xp.mean(test.measured[test.good]))


def predicted_error(estimate: TransmissionEstimate, valid: BoolArray) -> float:
    """Predicted rms error of a row relative to its rms; NaN if the estimate predicts no error."""
    backend = backend_of(estimate.matrix)
    error = np.asarray(estimate.standard_error, np.float64)
    error = error[:, None] if error.ndim == 1 else error
    size = to_host(backend.xp.mean(backend.xp.abs(estimate.matrix[backend.asarray(valid)]) ** 2, axis=1))
    share = np.mean(error[valid] ** 2, axis=1) / np.maximum(size, 1e-30)
    return float(np.sqrt(np.mean(share[np.isfinite(share)]))) if np.isfinite(share).any() else math.nan


def pattern_error(estimate: TransmissionEstimate, valid: BoolArray, leak: float) -> float:
    """Predicted rms error of the field of a half-ON pattern, relative to its rms.

    If the errors of a row's entries are independent, it combines the error of the row and the leakage of other mirrors.
    """
    known = estimate.diagnostics.get("pattern_error")
    if known is None:
        return math.hypot(predicted_error(estimate, valid), leak)
    backend = backend_of(estimate.matrix)
    xp, rows = backend.xp, estimate.matrix[backend.asarray(valid)]
    light = to_host((xp.abs(xp.sum(rows, axis=1)) ** 2 + xp.sum(xp.abs(rows) ** 2, axis=1)) / 4.0)
    return float(np.sqrt(np.mean(np.asarray(known)[valid] ** 2 / np.maximum(light, 1e-30))))
