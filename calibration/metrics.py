"""Fidelity to a ground truth that is handed in: the only place of this package where truth is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.projection import AnchorProjection, LinearProjection
from calibration.recovery import Gauge

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
    """Error of each output over that output's rms, over the vectors: (batch, n_out) twice -> (n_out,).

    Nothing is fitted: a wrong scale or sign counts in full.
    """
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    return np.sqrt(np.mean((estimate - truth) ** 2, axis=0) / np.mean(truth**2, axis=0))


def row_correlation(estimate: Any, truth: Any) -> NDArray[np.float64]:
    """Pearson correlation of each output with the truth, over the vectors: (n_out,)."""
    a = np.asarray(estimate, np.float64) - np.mean(estimate, axis=0)
    b = np.asarray(truth, np.float64) - np.mean(truth, axis=0)
    norm = np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0))
    return np.sum(a * b, axis=0) / np.where(norm > 0, norm, np.inf)


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

    The gauge is that given; None fixes a phase and a conjugation in each row, not the scale.
    """
    gauge = Gauge("", conjugation_fixed=False) if gauge is None else gauge
    fixed, truth = two_matrices(fix_gauge(estimate, truth, gauge), truth)
    length = np.linalg.norm(truth, axis=1)
    return np.linalg.norm(truth - fixed, axis=1) / np.where(length > 0, length, np.nan)


def matrix_error(estimate: Any, truth: Any, gauge: Gauge | None = None) -> float:
    """Median over rows of `matrix_row_errors`. It says little of a matrix of low rank: see `output_error`."""
    return float(np.nanmedian(matrix_row_errors(estimate, truth, gauge)))


def output_error(estimate: Any, truth: Any, x: Any, gauge: Gauge | None = None) -> float:
    """Error of the outputs over their rms, ``|(T - T_estimate) x| / |T x|`` over all rows and vectors.

    Parameters
    ----------
    estimate, truth : array_like of complex, shape (n_out, n_in)
    x : array_like, shape (batch, n_in)
    gauge : Gauge, optional
        As for `matrix_row_errors`.
    """
    gauge = Gauge("", conjugation_fixed=False) if gauge is None else gauge
    fixed, truth = two_matrices(fix_gauge(estimate, truth, gauge), truth)
    x = np.asarray(x, np.float64)
    return float(np.linalg.norm(x @ (truth - fixed).T) / np.linalg.norm(x @ truth.T))


def two_matrices(estimate: Any, truth: Any) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Both as complex128, or say that their shapes differ."""
    a, b = np.asarray(estimate, np.complex128), np.asarray(truth, np.complex128)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"estimate must have the truth's shape {b.shape}, two axes, got {a.shape}")
    return a, b
