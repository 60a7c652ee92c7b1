"""Singular values of a recovered matrix against the law of Marchenko and Pastur."""

import math

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from calibration.fields.readings import frame_shape
from calibration.recovery.estimate import TransmissionEstimate
from calibration.reports.chapters.common import Chapter, independent_pixels
from calibration.reports.findings import Line
from photonics.analysis.speckle import marchenko_pastur_edges
from photonics.arrays import Array, BoolArray
from photonics.backend import backend_of, to_host

__all__ = ["align_conjugation", "singular_values", "spectrum_of"]

GROUP = "matrix"


def spectrum_of(opu: Device, estimate: TransmissionEstimate) -> Chapter:
    """Singular values of the valid rows of an estimate."""
    matrix, valid = estimate.matrix, np.asarray(estimate.valid, bool)
    if opu.imaging.numerical_aperture is not None and not estimate.gauge.conjugation_fixed:
        matrix = align_conjugation(matrix, valid, frame_shape(opu))
    return singular_values(matrix, valid, independent_pixels(opu, valid))


def singular_values(matrix: Array, valid: BoolArray, independent: float | None = None) -> Chapter:
    """Singular values against the law of Marchenko and Pastur, after scaling rows and columns to the same rms.

    The scaling removes the beam profile (columns) and the reference (rows). Then ``sum s^4 / M = M / K + M / N`` for
    ``E|t|^2 = 1/N``, M rows of which K are independent (`independent_pixels`; all by default) and N columns. The law
    does not depend on the phase or conjugation of rows.
    """
    backend = backend_of(matrix)
    xp = backend.xp
    known = xp.astype(matrix[backend.asarray(valid)], xp.complex128)
    known /= xp.sqrt(xp.maximum(xp.mean(xp.abs(known) ** 2, axis=0, keepdims=True), 1e-30))
    known /= xp.sqrt(xp.maximum(xp.sum(xp.abs(known) ** 2, axis=1, keepdims=True), 1e-30))
    rows, columns = known.shape
    free = rows if independent is None else independent
    values = to_host(xp.linalg.svdvals(known))
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


def align_conjugation(matrix: Array, valid: BoolArray, shape: tuple[int, int]) -> Array:
    """Conjugate rows whose conjugate correlates better with their neighbours to the left and above.

    If a method leaves the conjugation of rows undetermined, some rows are conjugated, which destroys the correlation of
    neighbouring rows in a grain.
    """
    backend, (near, there) = backend_of(matrix), neighbours(valid, shape)
    xp = backend.xp
    same, mirrored = np.zeros(near.shape), np.zeros(near.shape)
    for k in range(len(near)):
        others = xp.take(matrix, backend.asarray(near[k]), axis=0)
        same[k] = to_host(xp.abs(xp.sum(others * xp.conj(matrix), axis=1)) ** 2)
        mirrored[k] = to_host(xp.abs(xp.sum(others * matrix, axis=1)) ** 2)
    excess = np.where(there, mirrored - same, 0.0)
    swapped = np.zeros(len(valid), bool)
    for i in np.flatnonzero(valid):  # a neighbour that is conjugated itself exchanges the two
        swapped[i] = np.sum(np.where(swapped[near[:, i]], -excess[:, i], excess[:, i])) > 0
    return xp.where(backend.asarray(swapped)[:, None], xp.conj(matrix), matrix)


def neighbours(valid: BoolArray, shape: tuple[int, int]) -> tuple[NDArray[np.intp], BoolArray]:
    """Numbers of the neighbours to the left and above of each row, (4, n_out), and which of them are valid rows.

    A row without any has the valid row before it as its neighbour, and the first valid row has row 0.
    """
    known = np.zeros((shape[0] + 1, shape[1] + 2), bool)  # with a margin
    known[1:, 1:-1] = valid.reshape(shape)
    row, column = np.divmod(np.arange(valid.size), shape[1])
    steps = ((0, -1), (-1, -1), (-1, 0), (-1, 1))
    there = np.stack([known[row + 1 + down, column + 1 + right] for down, right in steps])
    near = np.where(there, np.stack([(row + down) * shape[1] + column + right for down, right in steps]), 0)
    before = np.maximum.accumulate(np.where(valid, np.arange(valid.size), 0))
    near[0] = np.where(there.any(axis=0), near[0], np.concatenate([before[:1], before[:-1]]))
    there[0] |= ~there.any(axis=0)
    return near, there
