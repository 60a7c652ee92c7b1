"""A linear projection fitted to pairs of patterns and frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.fields.readings import DARK_SHARE
from calibration.pairs.matrix import fit_matrix
from calibration.projections.base import Projected
from calibration.recovery.estimate import TransmissionEstimate
from calibration.storage.recording import Recording
from photonics.arrays import Array, BoolArray, ComplexArray, FloatArray, HostArray, Shapes
from photonics.patterns.encoding import as_ternary

__all__ = ["FittedProjection", "fit_projection"]


@dataclass(frozen=True, eq=False, repr=False)
class FittedProjection(Shapes):
    """A linear map of stored frames: ``projection(x)`` is ``x @ matrix.T``; no frames are taken."""

    matrix: HostArray
    """(n_out, n_inputs), in the unit of T: complex64 if the phases of a reference were known, float32 otherwise; 0 in
    rows that are not `valid`."""
    standard_error: FloatArray
    """Predicted rms error of the real part of an entry, and of the imaginary part, (n_out,); inf where not `valid`."""
    valid: BoolArray
    """Rows that could be fitted and whose anchor is not dark, (n_out,)."""
    estimate: TransmissionEstimate
    """The fit of the transmission matrix, with its provenance."""

    @property
    def n_inputs(self) -> int:
        """Length of the vectors."""
        return self.matrix.shape[1]

    @property
    def n_out(self) -> int:
        """Number of pixels."""
        return self.matrix.shape[0]

    def __call__(self, x: Array) -> HostArray:
        """Values of vectors with entries -1, 0 and 1: (batch, n_inputs) -> (batch, n_out)."""
        return as_ternary(x, self.n_inputs).astype(np.float32) @ self.matrix.T

    def measure(self, x: Array) -> Projected:
        """Values with their errors, as `LinearProjection.measure`; the noise of repeated values is 0."""
        values = self(x)
        size = np.sqrt(np.abs(as_ternary(x, self.n_inputs)).sum(axis=1, dtype=np.float32))[:, None]
        error = np.where(size > 0, size, np.float32(1.0)) * self.standard_error
        return Projected(values, error, np.zeros_like(error), np.zeros(values.shape, bool))


def fit_projection(
    patterns: Array | Recording | str | Path,
    frames: Array = None,
    *,
    n_inputs: int | None = None,
    dark_share: float = DARK_SHARE,
    seed: int = 0,
    **columns: Any,
) -> FittedProjection:
    """Fit a linear projection to pairs of patterns and frames, in any order: no questions are asked.

    With the reference at known phases it is complex, ``conj(R) T x / |R|``. Without a reference it is that of an anchor
    of all inputs ON, ``Re(conj(T 1) T x) / |T 1|``, which does not depend on the phase and conjugation of a row.

    Parameters
    ----------
    patterns, frames, n_inputs, seed, **columns
        As for `calibration.fit_matrix`.
    dark_share : float
        Rows whose anchor is dimmer than this share of the mean are dropped.

    Raises
    ------
    ValueError
        As `calibration.fit_matrix`.
    """
    estimate = fit_matrix(patterns, frames, n_inputs=n_inputs, seed=seed, **columns)
    matrix, valid = np.asarray(estimate.matrix), estimate.valid.copy()
    error = np.asarray(estimate.standard_error) / np.float32(np.sqrt(2.0))
    if not estimate.gauge.conjugation_fixed:
        anchor = matrix.sum(axis=1)
        light = np.abs(anchor) ** 2
        valid &= light > dark_share * light[valid].mean() if valid.any() else False
        size = np.where(valid, np.abs(anchor), np.float32(1.0))
        along = np.where(valid, anchor.conj() / size, 0.0)[:, None]
        turned: ComplexArray = along * matrix
        # The anchor has an error of its own, which turns the row: its quadrature leaks into the real part.
        turn = np.sqrt(matrix.shape[1] / 2.0) * np.where(valid, estimate.standard_error, 0.0) / size
        aside = np.sqrt(np.mean(turned.imag**2, axis=1))
        error = np.hypot(error, turn * aside)
        matrix = turned.real.astype(np.float32)
    matrix = np.where(valid[:, None], matrix, 0).astype(matrix.dtype)
    return FittedProjection(matrix, np.where(valid, error, np.inf).astype(np.float32), valid, estimate)
