"""Singular values of a recovered matrix against the law of Marchenko and Pastur."""

import math

import numpy as np

from calibration.device import Device
from calibration.fields.readings import frame_shape
from calibration.recovery.estimate import TransmissionEstimate
from calibration.reports.chapters.common import Chapter, independent_pixels
from calibration.reports.findings import Line
from photonics.analysis.speckle import marchenko_pastur_edges
from photonics.arrays import BoolArray, HostArray
from photonics.backend import to_host

__all__ = ["align_conjugation", "singular_values", "spectrum_of"]

GROUP = "matrix"


def spectrum_of(opu: Device, estimate: TransmissionEstimate) -> Chapter:
    """Singular values of the valid rows of an estimate."""
    matrix, valid = to_host(estimate.matrix), np.asarray(estimate.valid, bool)
    if opu.imaging.numerical_aperture is not None and not estimate.gauge.conjugation_fixed:
        matrix = align_conjugation(matrix, valid, frame_shape(opu))
    return singular_values(matrix, valid, independent_pixels(opu, valid))


def singular_values(matrix: HostArray, valid: BoolArray, independent: float | None = None) -> Chapter:
    """Singular values against the law of Marchenko and Pastur, after scaling rows and columns to the same rms.

    The scaling removes the beam profile (columns) and the reference (rows). Then ``sum s^4 / M = M / K + M / N`` for
    ``E|t|^2 = 1/N``, M rows of which K are independent (`independent_pixels`; all by default) and N columns. The law
    does not depend on the phase or conjugation of rows.
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
