"""Images sent through the medium and recovered from frames with the transmission matrix."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.device import Device, check_device, show
from calibration.fields.bad_pixels import is_hot
from calibration.wavefront.focusing import leaked_field, pad_to_device
from photonics.arrays import BoolArray, FloatArray, RealArray, real_numbers
from photonics.backend import to_host
from photonics.component import integer, number
from photonics.patterns.encoding import as_patterns
from photonics.threads import one_blas_thread

__all__ = ["Sent", "recover_from_frames", "recover_from_projections", "send", "similarity"]

RIDGE = 1e-3
"""Default weight of the regularisation, relative to the mean squared singular value."""
ITERATIONS = 200
"""Default number of iterations of the phase retrieval."""


class Sent(NamedTuple):
    """Speckle images of pictures sent through the medium, shape (batch, n_out)."""

    intensity: FloatArray
    """``|T x|^2`` in the unit of T: all inputs ON give 1 on average over pixels."""
    usable: BoolArray
    """Whether the reading is unsaturated."""


def send(opu: Device, pictures: ArrayLike, averages: int = 1) -> Sent:
    """Show binary pictures and measure their speckle, in the unit of the transmission matrix.

    Parameters
    ----------
    opu : Device
        The device, at a suitable exposure (see `OPU.autoexpose`).
    pictures : array_like of bool or 0/1, shape (batch, n)
        Pictures of n pixels, on the device's first n inputs.
    averages : int
        Number of frames of each picture, which are averaged.
    """
    check_device(opu)
    averages = integer(averages, "averages", 1)
    width = np.shape(pictures)[-1] if np.ndim(pictures) == 2 else 0
    x = as_patterns(pictures, min(width, opu.n_in), "pictures")
    unlit = to_host(opu.dark(8)).astype(np.float32)
    dark = unlit[:, ~is_hot(unlit, opu.camera.saturation_dn)].mean()
    frames = to_host(show(opu, np.repeat(pad_to_device(x, opu.n_in), averages, axis=0)))
    frames = frames.reshape(len(x), averages, -1)
    level = (frames.astype(np.float32).mean(axis=1) - dark) / np.float32(opu.unit_dn)
    return Sent(level, np.all(frames < opu.camera.saturation_dn, axis=1))


@one_blas_thread
def recover_from_projections(matrix: ArrayLike, values: ArrayLike, ridge: float = RIDGE) -> FloatArray:
    """Recover pictures from linear projections ``y = M x`` by the regularised pseudo-inverse.

    ``x = (M^H M + ridge s^2)^-1 Re(M^H y)``, s^2 the mean squared singular value of M. A complex equation counts as two
    real ones. The result is not clipped: values lie around 0 and 1.

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


@one_blas_thread
def recover_from_frames(
    opu: Device,
    matrix: ArrayLike,
    sent: Sent,
    *,
    valid: ArrayLike | None = None,
    ridge: float = RIDGE,
    iterations: int = ITERATIONS,
) -> FloatArray:
    """Recover pictures from frames alone: phase retrieval with a known transmission matrix.

    Alternating projections (Gerchberg and Saxton): the moduli of ``z = T x + leakage`` are replaced by the measured
    ones, then x is the regularised least-squares solution, real and clipped to [0, 1]. The start is the leading real
    eigenvector of ``sum_i I_i Re(conj(t_i) t_i^T)``. As x is real, neither the phase of a row of T nor its conjugation
    matters. About 4 n pixels are needed for n inputs.

    Parameters
    ----------
    opu : Device
        The device; only the leakage of its mirrors is used.
    matrix : array_like of complex, shape (n_out, n)
        Recovered transmission matrix, in the unit of T.
    sent : Sent
        Result of `send`.
    valid : array_like of bool, shape (n_out,), optional
        Rows of the matrix that are known.
    ridge : float
        As in `recover_from_projections`.
    iterations : int
        Number of iterations.

    Returns
    -------
    ndarray of float32, shape (batch, n)
        Values from 0 to 1.
    """
    entries = np.asarray(matrix, np.complex64)
    iterations = integer(iterations, "iterations", 1)
    known = np.ones(len(entries), bool) if valid is None else np.asarray(valid, bool)
    rows = entries[known]
    stacked = np.concatenate([rows.real, rows.imag])  # (2 m, n): a real problem
    inverse, m = pseudo_inverse(stacked, ridge), len(rows)
    background = leaked_field(opu, rows)
    usable = sent.usable[:, known]
    amplitude = np.sqrt(np.maximum(sent.intensity[:, known], 0.0))
    x = spectral_start(stacked, amplitude**2)
    for _ in range(iterations):
        flat = x @ stacked.T
        field = flat[:, :m] + 1j * flat[:, m:] + background
        size = np.maximum(np.abs(field), 1e-12)
        field *= np.where(usable, amplitude / size, 1.0)
        field -= background
        x = np.clip(np.concatenate([field.real, field.imag], axis=1) @ inverse.T, 0.0, 1.0)
    return x.astype(np.float32)


def pseudo_inverse(matrix: RealArray, ridge: float) -> FloatArray:
    """``(M^T M + ridge mean(s^2))^-1 M^T`` of a real matrix."""
    if not 0 <= number(ridge) < np.inf:
        raise ValueError(f"ridge must be 0 or more, got {ridge!r}")
    gram = matrix.T.astype(np.float64) @ matrix
    gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram, matrix.T.astype(np.float64)).astype(np.float32)


def spectral_start(stacked: RealArray, intensity: FloatArray) -> FloatArray:
    """Leading real eigenvector of the rows weighted by intensity, non-negative and scaled to the measured power."""
    start = []
    twice = np.concatenate([intensity, intensity], axis=1)
    norms = float(np.mean(np.sum(stacked**2, axis=0)))  # sum over rows of |t_ij|^2
    for weights in twice:
        _, vectors = np.linalg.eigh((stacked.T * weights) @ stacked)
        top = vectors[:, -1] * np.sign(vectors[:, -1].sum() or 1.0)
        start.append(top * np.sqrt(max(float(weights.sum()) / 2.0, 0.0) / norms))
    return np.clip(np.asarray(start, np.float32), 0.0, 1.0)


def similarity(pictures: ArrayLike, recovered: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation of each recovered picture with the original: (batch,)."""
    a, b = real_numbers(pictures, "pictures"), real_numbers(recovered, "recovered")
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    return np.sum(a * b, axis=1) / np.maximum(np.sqrt(np.sum(a**2, axis=1) * np.sum(b**2, axis=1)), 1e-30)
