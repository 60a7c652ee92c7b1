"""Fidelity to a ground truth that is handed in: the only place of this package where truth is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.projection import LinearProjection

__all__ = ["anchor_truth", "row_correlation", "row_errors"]


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
    """
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
