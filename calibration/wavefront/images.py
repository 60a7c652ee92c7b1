"""Pictures sent through the medium, and recovered from what came out with the transmission matrix."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibration.device import Device, check_device
from calibration.wavefront.focusing import leaked, on_device
from photonics.component import integer, number
from photonics.patterns.encoding import as_patterns

__all__ = ["Sent", "recover_from_frames", "recover_from_projections", "send", "similarity"]

RIDGE = 1e-3
"""Default weight of the regularisation, relative to the mean squared singular value."""
ITERATIONS = 200


one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
"""Holds BLAS to one thread during a call: the order in which it adds, and so the result, depends on their number."""


class Sent(NamedTuple):
    """Pictures as the camera saw them through the medium, shape (batch, n_out)."""

    intensity: NDArray[np.float32]
    """In the unit of T, ``|T x|^2``: all inputs ON give 1 on the mean pixel."""
    usable: NDArray[np.bool_]
    """Not saturated."""


def send(opu: Device, pictures: Any, averages: int = 1) -> Sent:
    """Show binary pictures and photograph the speckle they make, in the unit of the transmission matrix.

    Parameters
    ----------
    opu : Device
        The device, exposed (see `OPU.autoexpose`).
    pictures : array_like of bool or 0/1, shape (batch, n)
        Pixels of the pictures, on the device's first n inputs.
    averages : int
        Frames of each, averaged.
    """
    check_device(opu)
    averages = integer(averages, "averages", 1)
    width = np.shape(pictures)[-1] if np.ndim(pictures) == 2 else 0
    x = as_patterns(pictures, min(width, opu.n_in), "pictures")
    dark = np.asarray(opu.dark(8)).astype(np.float32).mean()
    frames = np.asarray(opu.measure(np.repeat(on_device(x, opu.n_in), averages, axis=0)))
    frames = frames.reshape(len(x), averages, -1)
    level = (frames.astype(np.float32).mean(axis=1) - dark) / np.float32(opu.unit_dn)
    return Sent(level, np.all(frames < opu.camera.saturation_dn, axis=1))


@one_thread
def recover_from_projections(matrix: Any, values: Any, ridge: float = RIDGE) -> NDArray[np.float32]:
    """Pictures from linear projections ``y = M x``: regularised pseudo-inverse.

    ``x = (M^H M + ridge s^2)^-1 Re(M^H y)``, s^2 the mean squared singular value of M, complex ones taken as pairs of
    real equations. Not clipped: values lie around 0 and 1.

    Parameters
    ----------
    matrix : array_like, shape (n_out, n)
        The projection's effective matrix, real or complex.
    values : array_like, shape (batch, n_out)
        Projections of the pictures; rows of zeros in the matrix are ignored.

    Returns
    -------
    ndarray of float32, shape (batch, n)
    """
    stacked, outputs = np.asarray(matrix), np.asarray(values)
    if stacked.ndim != 2 or outputs.ndim != 2 or outputs.shape[1] != len(stacked):
        raise ValueError(f"values must have shape (batch, {len(stacked)}), got {outputs.shape}")
    if np.iscomplexobj(stacked) or np.iscomplexobj(outputs):
        stacked = np.concatenate([np.real(stacked), np.imag(stacked)])
        outputs = np.concatenate([np.real(outputs), np.imag(outputs)], axis=1)
    return (outputs @ pseudo_inverse(stacked.astype(np.float32), ridge).T).astype(np.float32)


@one_thread
def recover_from_frames(
    opu: Device,
    matrix: Any,
    sent: Sent,
    *,
    valid: Any = None,
    ridge: float = RIDGE,
    iterations: int = ITERATIONS,
) -> NDArray[np.float32]:
    """Pictures from frames alone: phase retrieval with a known transmission matrix.

    Alternating projections (Gerchberg and Saxton): the moduli of ``z = T x + leakage`` are replaced by the measured
    ones, then x is the regularised least-squares solution, real and clipped to [0, 1]. It starts at the leading
    real eigenvector of ``sum_i I_i Re(conj(t_i) t_i^T)``. As x is real, neither the phase of a row of T nor its
    conjugation matters. About 4 n pixels are needed for n inputs.

    Parameters
    ----------
    opu : Device
        For the leakage of its mirrors.
    matrix : array_like of complex, shape (n_out, n)
        Recovered transmission matrix, in the unit of T.
    sent : Sent
        What `send` returned.
    valid : array_like of bool, shape (n_out,), optional
        Rows that are known.
    ridge : float
        As in `recover_from_projections`.
    iterations : int
        Rounds.

    Returns
    -------
    ndarray of float32, shape (batch, n)
        From 0 to 1.
    """
    matrix = np.asarray(matrix, np.complex64)
    iterations = integer(iterations, "iterations", 1)
    known = np.ones(len(matrix), bool) if valid is None else np.asarray(valid, bool)
    rows = matrix[known]
    stacked = np.concatenate([rows.real, rows.imag])  # (2 m, n): a real problem
    inverse, m = pseudo_inverse(stacked, ridge), len(rows)
    steady = leaked(opu, rows)
    usable = sent.usable[:, known]
    amplitude = np.sqrt(np.maximum(sent.intensity[:, known], 0.0))
    x = spectral_start(stacked, amplitude**2)
    for _ in range(iterations):
        flat = x @ stacked.T
        field = flat[:, :m] + 1j * flat[:, m:] + steady
        size = np.maximum(np.abs(field), 1e-12)
        field *= np.where(usable, amplitude / size, 1.0)
        field -= steady
        x = np.clip(np.concatenate([field.real, field.imag], axis=1) @ inverse.T, 0.0, 1.0)
    return x.astype(np.float32)


def pseudo_inverse(matrix: NDArray[np.floating], ridge: float) -> NDArray[np.float32]:
    """``(M^T M + ridge mean(s^2))^-1 M^T`` of a real matrix."""
    if not 0 <= number(ridge) < np.inf:
        raise ValueError(f"ridge must be 0 or more, got {ridge!r}")
    gram = matrix.T.astype(np.float64) @ matrix
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, matrix.T.astype(np.float64)).astype(np.float32)


def spectral_start(stacked: NDArray[np.floating], intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leading real eigenvector of the matrix of rows weighted by intensity, non-negative and of the right power."""
    start = []
    twice = np.concatenate([intensity, intensity], axis=1)
    norms = float(np.mean(np.sum(stacked**2, axis=0)))  # sum over rows of |t_ij|^2
    for weights in twice:
        _, vectors = np.linalg.eigh((stacked.T * weights) @ stacked)
        top = vectors[:, -1] * np.sign(vectors[:, -1].sum() or 1.0)
        start.append(top * np.sqrt(max(float(weights.sum()) / 2.0, 0.0) / norms))
    return np.clip(np.asarray(start, np.float32), 0.0, 1.0)


def similarity(pictures: Any, recovered: Any) -> NDArray[np.float64]:
    """Pearson correlation of each recovered picture with the one that was sent: (batch,)."""
    a, b = (np.asarray(part, np.float64) for part in (pictures, recovered))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.sum(a * b, axis=1) / np.maximum(np.sqrt(np.sum(a**2, axis=1) * np.sum(b**2, axis=1)), 1e-30)
