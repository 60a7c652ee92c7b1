"""Errors of projections and matrices against a ground truth, which the caller provides."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.fields.readings import switched_unit_dn
from calibration.projections.anchor import AnchorProjection
from calibration.projections.base import LinearProjection
from calibration.projections.reference_pairs import PairProjection
from calibration.recovery.base import Gauge
from photonics.arrays import BoolArray, real_numbers

__all__ = [
    "anchor_truth",
    "fix_conjugation",
    "fix_gauge",
    "fix_phase",
    "fix_scale",
    "matrix_error",
    "matrix_row_errors",
    "output_error",
    "pair_truth",
    "row_correlation",
    "row_errors",
]


def anchor_truth(projection: LinearProjection, matrix: ArrayLike, x: ArrayLike) -> NDArray[np.float64]:
    """Values of an anchor projection without noise: ``Re(conj(T b) T x) / |T b|`` with the true matrix.

    Parameters
    ----------
    projection : LinearProjection
        A projection by anchors; it has the anchor b of each row.
    matrix : array_like of complex, shape (n_out, n_in)
        The transmission matrix, ``E|t_ij|^2 = 1/n_in``, including the beam's profile over the inputs.
    x : array_like, shape (batch, n_inputs)

    Returns
    -------
    ndarray, shape (batch, n_out)

    Raises
    ------
    ValueError
        If the projection was measured by another method.
    """
    if not isinstance(projection, AnchorProjection):
        raise ValueError(f"projection must be measured by the method anchor, got {type(projection).__name__}")
    matrix = np.asarray(matrix, np.complex128)
    fields = projection.anchors @ matrix.T  # (n_anchors, n_out)
    anchor = fields[projection.choice, np.arange(matrix.shape[0])]
    y = real_numbers(x, "x") @ matrix[:, : projection.n_inputs].T
    return np.real(np.conj(anchor) * y) / np.abs(anchor)


def pair_truth(projection: PairProjection, matrix: ArrayLike, x: ArrayLike, values: ArrayLike) -> NDArray[np.float64]:
    """Values of a projection by pairs with a reference R without noise: ``Re(exp(-i rho) T x) + L x / (2 |R|)``.

    L is ``|T|^2`` less the mean light of an input, as calibrated.

    Parameters
    ----------
    projection : PairProjection
        It has the intensity of the beam R on each pixel, and the mean light of an input.
    matrix : array_like of complex, shape (n_out, n_in)
        As for `anchor_truth`.
    x : array_like, shape (batch, n_inputs)
    values : array_like, shape (batch, n_out)
        Measured values; the phase rho of each row is fitted to them, as the gauge leaves it undetermined.

    Returns
    -------
    ndarray, shape (batch, n_out)
    """
    matrix = np.asarray(matrix, np.complex128)[:, : projection.n_inputs]
    x = real_numbers(x, "x")
    unit_dn = switched_unit_dn(projection.opu, projection.unit_dn)
    beam = np.sqrt(np.maximum(projection.reference_dn, 1e-6) / unit_dn)
    light, field = x @ (np.abs(matrix.T) ** 2 - projection.light_dn / unit_dn) / (2.0 * beam), x @ matrix.T
    rest = real_numbers(values, "values") - light
    # Least squares of rest = a Re(field) + b Im(field) in each row; only the direction of (a, b) is unknown.
    normal = np.einsum("bri,brj->rij", *(np.stack([field.real, field.imag], axis=-1),) * 2)
    side = np.stack([(field.real * rest).sum(axis=0), (field.imag * rest).sum(axis=0)], axis=-1)
    a, b = np.einsum("rij,rj->ir", np.linalg.pinv(normal), side)
    return np.real(field * np.exp(-1j * np.arctan2(b, a))) + light


def row_errors(estimate: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Rms error of each output relative to the output's rms over the vectors: (batch, n_out) twice -> (n_out,).

    Values are real or complex. Nothing is fitted: a wrong scale, sign or phase counts in full. The error is infinite if
    a value of the output is not finite, and NaN if the true output is 0 for all vectors.
    """
    estimate, truth = check_matrices(estimate, truth)
    estimate, wrong = zero_nonfinite(estimate, axis=0)
    return relative_error(np.linalg.norm(estimate - truth, axis=0), np.linalg.norm(truth, axis=0), wrong)


def row_correlation(estimate: ArrayLike, truth: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation of each output with the truth over the vectors, real part if complex: (n_out,).

    It is 0 if the estimate or the truth is constant, or if a value of the estimate is not finite.
    """
    estimate, truth = check_matrices(estimate, truth)
    estimate, wrong = zero_nonfinite(estimate, axis=0)
    a, b = estimate - estimate.mean(axis=0), truth - truth.mean(axis=0)
    norm = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.real(np.sum(np.conj(a) * b, axis=0)) / np.where((norm > 0) & ~wrong, norm, np.inf)


def fix_phase(estimate: ArrayLike, truth: ArrayLike, common: bool = False) -> NDArray[np.complex128]:
    """Multiply each row by the phase factor that brings it nearest to the truth: (n_out, n_in) twice -> (n_out, n_in).

    The factor is the least-squares phase, ``exp(i arg <estimate, truth>)``; with `common`, all rows share a single one.
    """
    estimate, truth = check_matrices(estimate, truth)
    overlap = np.sum(np.conj(estimate) * truth, axis=1, keepdims=True)
    if common:
        overlap = overlap.sum(keepdims=True)
    return estimate * np.exp(1j * np.angle(overlap))


def fix_conjugation(estimate: ArrayLike, truth: ArrayLike) -> NDArray[np.complex128]:
    """Conjugate the rows whose conjugate correlates better with the truth: (n_out, n_in) twice -> (n_out, n_in).

    The phases of the rows do not matter.
    """
    estimate, truth = check_matrices(estimate, truth)
    as_is, conjugated = (np.abs(np.sum(v * truth, axis=1)) for v in (np.conj(estimate), estimate))
    return np.where((conjugated > as_is)[:, None], np.conj(estimate), estimate)


def fix_scale(estimate: ArrayLike, truth: ArrayLike) -> NDArray[np.complex128]:
    """Multiply all rows by the positive number that brings them nearest to the truth. Fix the phases first."""
    estimate, truth = check_matrices(estimate, truth)
    power = np.sum(np.abs(estimate) ** 2)
    factor = np.real(np.sum(np.conj(estimate) * truth)) / power if power > 0 else 1.0
    return estimate * max(factor, 0.0)


def fix_gauge(estimate: ArrayLike, truth: ArrayLike, gauge: Gauge) -> NDArray[np.complex128]:
    """Fit to the truth exactly those degrees of freedom that the gauge of an estimate leaves undetermined.

    Parameters
    ----------
    estimate, truth : array_like of complex, shape (n_out, n_in)
    gauge : Gauge
        The gauge that the estimate states. If the phases of the rows have a common origin, that origin is fitted.
    """
    fixed = np.asarray(estimate) if gauge.conjugation_fixed else fix_conjugation(estimate, truth)
    fixed = fix_phase(fixed, truth, common=gauge.phase_fixed)
    return fixed if gauge.scale_fixed else fix_scale(fixed, truth)


def matrix_row_errors(estimate: ArrayLike, truth: ArrayLike, gauge: Gauge | None = None) -> NDArray[np.float64]:
    """Relative error ``|a - a_estimate| / |a|`` of each row a: (n_out, n_in) twice -> (n_out,).

    The error is infinite if an entry of the estimated row is not finite, and NaN if the true row is 0. Without a gauge,
    the phase and the conjugation of each row are fitted, and the scale is not.
    """
    fixed, truth, wrong = apply_gauge(estimate, truth, gauge)
    return relative_error(np.linalg.norm(truth - fixed, axis=1), np.linalg.norm(truth, axis=1), wrong)


def matrix_error(estimate: ArrayLike, truth: ArrayLike, gauge: Gauge | None = None) -> float:
    """Median over rows of `matrix_row_errors`, without rows whose truth is 0.

    For a matrix of low rank it says little about the outputs: see `output_error`.
    """
    errors = matrix_row_errors(estimate, truth, gauge)
    if np.isnan(errors).all():
        raise ValueError(f"truth must have a nonzero row, got {len(errors)} rows of zeros")
    return float(np.nanmedian(errors))


def output_error(estimate: ArrayLike, truth: ArrayLike, x: ArrayLike, gauge: Gauge | None = None) -> float:
    """Relative error of the outputs, ``|(T - T_estimate) x| / |T x|``, over all rows and vectors together.

    Parameters
    ----------
    estimate, truth : array_like of complex, shape (n_out, n_in)
        If an entry of the estimate is not finite, the error is infinite.
    x : array_like, shape (batch, n_in)
    gauge : Gauge, optional
        As for `matrix_row_errors`.
    """
    fixed, truth, wrong = apply_gauge(estimate, truth, gauge)
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] != truth.shape[1]:
        raise ValueError(f"x must have shape (batch, {truth.shape[1]}), got {x.shape}")
    outputs = np.linalg.norm(x @ truth.T)
    if not outputs > 0:
        raise ValueError("truth must give nonzero outputs for x, got only zeros")
    return np.inf if wrong.any() else float(np.linalg.norm(x @ (truth - fixed).T) / outputs)


def apply_gauge(
    estimate: ArrayLike, truth: ArrayLike, gauge: Gauge | None
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], BoolArray]:
    """Return the estimate with its gauge fixed, the truth, and a mask of non-finite rows, which are set to 0."""
    gauge = Gauge("", conjugation_fixed=False) if gauge is None else gauge
    estimate, truth = check_matrices(estimate, truth)
    estimate, wrong = zero_nonfinite(estimate, axis=1)
    return fix_gauge(estimate, truth, gauge), truth, wrong


def zero_nonfinite(values: NDArray[np.complex128], axis: int) -> tuple[NDArray[np.complex128], BoolArray]:
    """Set rows (axis 1) or columns (axis 0) that contain a non-finite value to 0; also return their mask."""
    wrong = np.asarray(~np.isfinite(values).all(axis=axis))
    return np.where(np.expand_dims(wrong, axis), 0.0, values), wrong


def relative_error(error: NDArray[np.float64], length: NDArray[np.float64], wrong: BoolArray) -> NDArray[np.float64]:
    """Error over length; NaN if the length is 0, else infinite if `wrong`."""
    return np.where(wrong, np.inf, error) / np.where(length > 0, length, np.nan)


def check_matrices(estimate: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return both as complex128, or raise a ``ValueError`` if shapes differ or the truth is not finite."""
    a, b = np.asarray(estimate, np.complex128), np.asarray(truth, np.complex128)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"estimate must have the truth's shape {b.shape}, two axes, got {a.shape}")
    if not np.isfinite(b).all():
        raise ValueError(f"truth must be finite, got {np.count_nonzero(~np.isfinite(b))} entries with NaN or infinity")
    return a, b
