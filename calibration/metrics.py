"""Fidelity to a ground truth that is handed in: the only place of this package where truth is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.projections.anchor import AnchorProjection
from calibration.projections.base import LinearProjection
from calibration.recovery.base import Gauge

__all__ = [
    "anchor_truth",
    "fix_conjugation",
    "fix_gauge",
    "fix_phase",
    "fix_scale",
    "matrix_error",
    "matrix_row_errors",
    "output_error",
    "row_correlation",
    "row_errors",
]


def anchor_truth(projection: LinearProjection, matrix: Any, x: Any) -> NDArray[np.float64]:
    """What a perfect device would return: ``Re(conj(T b) T x) / |T b|`` with the true matrix.

    Parameters
    ----------
    projection : LinearProjection
        Says which anchor b serves each row.
    matrix : array_like of complex, shape (n_out, n_in)
        The transmission matrix as the field meets it, ``E|t_ij|^2 = 1/n_in``.
    x : array_like, shape (batch, n_inputs)

    Returns
    -------
    ndarray, shape (batch, n_out)

    Raises
    ------
    ValueError
        If it is a projection by another method.
    """
    if not isinstance(projection, AnchorProjection):
        raise ValueError(f"projection must be one by anchors, got {type(projection).__name__}")
    matrix = np.asarray(matrix, np.complex128)
    fields = projection.anchors @ matrix.T  # (n_anchors, n_out)
    anchor = fields[projection.choice, np.arange(matrix.shape[0])]
    y = np.asarray(x, np.float64) @ matrix[:, : projection.n_inputs].T
    return np.real(np.conj(anchor) * y) / np.abs(anchor)


def row_errors(estimate: Any, truth: Any) -> NDArray[np.float64]:
    """Error of each output over that output's rms, over the vectors: (batch, n_out) twice -> (n_out,), real or complex.

    Nothing is fitted: a wrong scale, sign or phase counts in full. An output with a value that is not finite counts as
    infinite; one whose truth is 0 is NaN.
    """
    estimate, truth = two_matrices(estimate, truth)
    estimate, wrong = without_wild(estimate, axis=0)
    return relative(np.linalg.norm(estimate - truth, axis=0), np.linalg.norm(truth, axis=0), wrong)


def row_correlation(estimate: Any, truth: Any) -> NDArray[np.float64]:
    """Pearson correlation of each output with the truth, over the vectors: (n_out,); of complex values its real part.

    0 where the estimate or the truth is constant, or the estimate has a value that is not finite.
    """
    estimate, truth = two_matrices(estimate, truth)
    estimate, wrong = without_wild(estimate, axis=0)
    a, b = estimate - estimate.mean(axis=0), truth - truth.mean(axis=0)
    norm = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.real(np.sum(np.conj(a) * b, axis=0)) / np.where((norm > 0) & ~wrong, norm, np.inf)


def fix_phase(estimate: Any, truth: Any, common: bool = False) -> NDArray[np.complex128]:
    """Turn each row (or, if `common`, all rows together) by the phase that brings it nearest to the truth.

    ``exp(i arg <estimate, truth>)``, the least-squares phase: (n_out, n_in) twice -> (n_out, n_in).
    """
    estimate, truth = two_matrices(estimate, truth)
    overlap = np.sum(np.conj(estimate) * truth, axis=1, keepdims=True)
    if common:
        overlap = overlap.sum(keepdims=True)
    return estimate * np.exp(1j * np.angle(overlap))


def fix_conjugation(estimate: Any, truth: Any) -> NDArray[np.complex128]:
    """Conjugate the rows that are then more like the truth, whatever their phase: (n_out, n_in) twice -> same."""
    estimate, truth = two_matrices(estimate, truth)
    as_is, conjugated = (np.abs(np.sum(v * truth, axis=1)) for v in (np.conj(estimate), estimate))
    return np.where((conjugated > as_is)[:, None], np.conj(estimate), estimate)


def fix_scale(estimate: Any, truth: Any) -> NDArray[np.complex128]:
    """Multiply all rows by the one positive number that brings them nearest to the truth, phases fixed before."""
    estimate, truth = two_matrices(estimate, truth)
    power = np.sum(np.abs(estimate) ** 2)
    factor = np.real(np.sum(np.conj(estimate) * truth)) / power if power > 0 else 1.0
    return estimate * max(factor, 0.0)


def fix_gauge(estimate: Any, truth: Any, gauge: Gauge) -> NDArray[np.complex128]:
    """Fix what an estimate leaves undetermined, and nothing else.

    Parameters
    ----------
    estimate, truth : array_like of complex, shape (n_out, n_in)
    gauge : Gauge
        As the estimate states it. Where the phases of the rows have a common origin, that one is fixed.
    """
    fixed = np.asarray(estimate) if gauge.conjugation_fixed else fix_conjugation(estimate, truth)
    fixed = fix_phase(fixed, truth, common=gauge.phase_fixed)
    return fixed if gauge.scale_fixed else fix_scale(fixed, truth)


def matrix_row_errors(estimate: Any, truth: Any, gauge: Gauge | None = None) -> NDArray[np.float64]:
    """``|a - a_estimate| / |a|`` of each row a: (n_out, n_in) twice -> (n_out,), NaN where the true row is 0.

    The gauge is that given; None fixes a phase and a conjugation in each row, not the scale. A row of the estimate with
    an entry that is not finite counts as infinite.
    """
    fixed, truth, wrong = in_the_gauge(estimate, truth, gauge)
    return relative(np.linalg.norm(truth - fixed, axis=1), np.linalg.norm(truth, axis=1), wrong)


def matrix_error(estimate: Any, truth: Any, gauge: Gauge | None = None) -> float:
    """Median over rows of `matrix_row_errors`, those left out whose truth is 0.

    It says little of a matrix of low rank: see `output_error`.
    """
    errors = matrix_row_errors(estimate, truth, gauge)
    if np.isnan(errors).all():
        raise ValueError(f"truth must have a row that is not 0, got none of {len(errors)}")
    return float(np.nanmedian(errors))


def output_error(estimate: Any, truth: Any, x: Any, gauge: Gauge | None = None) -> float:
    """Error of the outputs over their rms, ``|(T - T_estimate) x| / |T x|`` over all rows and vectors.

    Parameters
    ----------
    estimate, truth : array_like of complex, shape (n_out, n_in)
        If an entry of the estimate is not finite the error is infinite.
    x : array_like, shape (batch, n_in)
    gauge : Gauge, optional
        As for `matrix_row_errors`.
    """
    fixed, truth, wrong = in_the_gauge(estimate, truth, gauge)
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != truth.shape[1]:
        raise ValueError(f"x must have shape (batch, {truth.shape[1]}), got {x.shape}")
    outputs = np.linalg.norm(x @ truth.T)
    if not outputs > 0:
        raise ValueError("truth must give outputs for x that are not all 0, got nothing else")
    return np.inf if wrong.any() else float(np.linalg.norm(x @ (truth - fixed).T) / outputs)


def in_the_gauge(
    estimate: Any, truth: Any, gauge: Gauge | None
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.bool_]]:
    """The estimate in its gauge, the truth, and the rows that are not finite, which are 0 and spoil no other."""
    gauge = Gauge("", conjugation_fixed=False) if gauge is None else gauge
    estimate, truth = two_matrices(estimate, truth)
    estimate, wrong = without_wild(estimate, axis=1)
    return fix_gauge(estimate, truth, gauge), truth, wrong


def without_wild(values: NDArray[np.complex128], axis: int) -> tuple[NDArray[np.complex128], NDArray[np.bool_]]:
    """Values with 0 in place of the lines along the axis that are not finite all through, and which these are."""
    wrong = np.asarray(~np.isfinite(values).all(axis=axis))
    return np.where(np.expand_dims(wrong, axis), 0.0, values), wrong


def relative(error: NDArray[np.float64], length: NDArray[np.float64], wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Error over length: NaN where the length is 0, else infinite where `wrong`."""
    return np.where(wrong, np.inf, error) / np.where(length > 0, length, np.nan)


def two_matrices(estimate: Any, truth: Any) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Both as complex128, or say that their shapes differ or that the truth is none."""
    a, b = np.asarray(estimate, np.complex128), np.asarray(truth, np.complex128)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"estimate must have the truth's shape {b.shape}, two axes, got {a.shape}")
    if not np.isfinite(b).all():
        raise ValueError(f"truth must be finite, got {np.count_nonzero(~np.isfinite(b))} entries that are not")
    return a, b
