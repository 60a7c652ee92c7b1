"""Patterns of anchors, and places of those of multilateration in the complex plane of each row.

Complex numbers are written as real vectors of two components: ``Re(conj(q) y)`` is the dot product ``q . y``.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device, show
from photonics.arrays import Array, BoolArray, FloatArray, IntArray
from photonics.backend import backend_of

__all__ = ["Places", "anchor_patterns", "anchor_sets", "frames_with_anchors", "place"]

ROUNDS = 8
"""Number of Gauss-Newton steps; they converge quadratically from the eigenvectors."""
RESTARTS = 4
"""Number of restarts, each from another leaked field, if a fit ends in a minimum that does not fit the frames."""
MAX_MISFIT = 10.0
"""Largest sum of squared residuals, relative to noise, that does not cause a restart."""


class Places(NamedTuple):
    """Positions of the anchors in the plane of each row."""

    positions: NDArray[np.float64]
    """(rows, S, 2), roots of DN."""
    leak: NDArray[np.float64]
    """Leaked field, (rows, 2), roots of DN."""
    covariance: NDArray[np.float64]
    """Covariance of positions and leaked field, (rows, 2 S + 2, 2 S + 2), DN."""
    misfit: NDArray[np.float64]
    """Squared residuals over those expected from noise, (rows,)."""
    rank_ratio: NDArray[np.float64]
    """Third over second eigenvalue of the Gram matrix, (rows,)."""
    flatness: NDArray[np.float64]
    """Second over first eigenvalue of the Gram matrix, (rows,)."""
    spread: NDArray[np.float64]
    """Second eigenvalue of the Gram matrix, (rows,), DN."""


def anchor_sets(anchors: int) -> IntArray:
    """Anchors in each pattern of the calibration, single ones and then pairs: (S + S (S - 1) / 2, S), 0 or 1."""
    first, second = np.triu_indices(anchors, 1)
    one = np.eye(anchors, dtype=np.int64)
    return np.concatenate([one, one[first] + one[second]])


def place(intensity: FloatArray, variance: FloatArray, members: IntArray, leak_dn: float) -> Places:
    """Place the anchors of each row in its plane.

    Classical multidimensional scaling of the Gram matrix gives a start. Gauss-Newton steps then fit the positions q_i
    and the leaked field c to all intensities, ``I(p) - I(0) = |z|^2 + 2 c . z`` with z the sum of the members'
    positions, each weighted by its noise. The prior of c is normal with the mean square `leak_dn`; with five anchors or
    more the intensities determine c without it.

    Parameters
    ----------
    intensity, variance : ndarray, shape (rows, n_patterns)
        ``I(p) - I(0)``, DN, and its variance.
    members : ndarray, shape (n_patterns, S)
        Anchors in each pattern: single ones first, then the pairs in the order of ``numpy.triu_indices(S, 1)``.
    leak_dn : float
        Mean intensity of all mirrors OFF, by the data sheet.
    """
    data, weight = intensity.astype(np.float64), 1.0 / variance.astype(np.float64)
    count = members.shape[1]
    freedom = max(len(members) - 2 * count - 1, 1)
    leak_dn = max(leak_dn, 1e-6 * float(np.abs(data).mean()))
    start = points_of(gram(data, members))
    found = fit(data, weight, members, leak_dn, start, np.zeros((len(data), 2)))
    for turn in range(RESTARTS):
        wrong = found.cost > MAX_MISFIT * freedom
        if not wrong.any():
            break
        angle = 2.0 * np.pi * turn / RESTARTS
        leak = np.sqrt(leak_dn) * np.array([[np.cos(angle), np.sin(angle)]])
        other = fit(data[wrong], weight[wrong], members, leak_dn, start[wrong], np.repeat(leak, wrong.sum(), axis=0))
        better = other.cost < found.cost[wrong]
        rows = np.flatnonzero(wrong)[better]
        for mine, its in zip(found, other, strict=True):
            mine[rows] = its[better]
    q, c = found.positions, found.leak
    beat = 2.0 * np.einsum("rk,pi,rik->rp", c, members, q)
    values = np.sort(np.abs(np.linalg.eigvalsh(gram(data - beat, members))), axis=1)[:, ::-1]
    largest = np.maximum(values, 1e-30)
    return Places(
        positions=q,
        leak=c,
        covariance=found.covariance,
        misfit=found.cost / freedom,
        rank_ratio=values[:, 2] / largest[:, 1],
        flatness=values[:, 1] / largest[:, 0],
        spread=values[:, 1],
    )


class Fit(NamedTuple):
    """Positions that fit the intensities best, from one start."""

    positions: NDArray[np.float64]
    leak: NDArray[np.float64]
    covariance: NDArray[np.float64]
    cost: NDArray[np.float64]  # squared residuals over their variances, that of the leak included: (rows,)


def fit(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    members: IntArray,
    leak_dn: float,
    q: NDArray[np.float64],
    c: NDArray[np.float64],
) -> Fit:
    """Fit positions and leaked fields by Gauss-Newton steps from q, (rows, S, 2), and c, (rows, 2)."""
    count, c = members.shape[1], c[:, None]
    prior = np.zeros(2 * count + 2)
    prior[-2:] = 2.0 / leak_dn
    covariance = np.empty(0)
    for _ in range(ROUNDS):
        z = np.einsum("pi,rik->rpk", members, q)
        slope = members[None, :, :, None] * (2.0 * (z + c))[:, :, None, :]
        jacobian = np.concatenate([slope, 2.0 * z[:, :, None, :]], axis=2).reshape(*data.shape, -1)
        residual = data - ((z + 2.0 * c) * z).sum(axis=2)
        weighted = np.swapaxes(jacobian * weight[:, :, None], 1, 2)
        normal = weighted @ jacobian
        level = np.maximum(np.trace(normal, axis1=1, axis2=2), prior[-1])  # in a row without light, that of the prior
        # Intensities do not depend on a rotation of the plane. It is held fixed, so that the step is unique.
        turn = np.concatenate([q, c], axis=1)[:, :, ::-1].copy()
        turn[:, :, 0] *= -1.0
        turn = turn.reshape(len(data), -1)
        turn /= np.maximum(np.linalg.norm(turn, axis=1, keepdims=True), 1e-30)
        hold = turn[:, :, None] * turn[:, None, :] + 1e-9 * np.eye(len(prior))  # the latter for anchors on a line
        normal += np.diag(prior) + level[:, None, None] * hold
        covariance = np.linalg.inv(normal)
        at = np.concatenate([q, c], axis=1)
        push = (weighted @ residual[:, :, None])[:, :, 0] - prior * at.reshape(len(data), -1)
        step = (covariance @ push[:, :, None])[:, :, 0].reshape(len(data), count + 1, 2)
        q, c = q + step[:, :count], c + step[:, count:]
    z = np.einsum("pi,rik->rpk", members, q)
    residual = data - ((z + 2.0 * c) * z).sum(axis=2)
    cost = (weight * residual**2).sum(axis=1) + 2.0 * (c**2).sum(axis=(1, 2)) / leak_dn
    return Fit(q, c[:, 0], covariance, np.where(np.isfinite(cost), cost, np.inf))


def gram(intensity: NDArray[np.float64], members: IntArray) -> NDArray[np.float64]:
    """Gram matrix of the anchors, ``q_i . q_j``, from the intensities of single ones and pairs: (rows, S, S)."""
    count = members.shape[1]
    single, pair = intensity[:, :count], intensity[:, count:]
    first, second = np.triu_indices(count, 1)
    matrix = np.zeros((len(intensity), count, count))
    matrix[:, np.arange(count), np.arange(count)] = single
    matrix[:, first, second] = matrix[:, second, first] = (pair - single[:, first] - single[:, second]) / 2.0
    return matrix


def points_of(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of the plane whose Gram matrix is nearest to a given one: (rows, S, S) -> (rows, S, 2)."""
    values, vectors = np.linalg.eigh(matrix)
    # Noise may make the second eigenvalue negative, and the fit cannot start with all points on a line.
    two = np.maximum(values[:, :-3:-1], 1e-4 * np.abs(values).max(axis=1, keepdims=True))
    return vectors[:, :, :-3:-1] * np.sqrt(two)[:, None, :]


def anchor_patterns(n_in: int, n_inputs: int, anchors: int) -> BoolArray:
    """Anchor patterns, (anchors, n_in): all ON without spare inputs, else the spare inputs dealt out in turn."""
    if n_inputs == n_in:
        return np.ones((1, n_in), np.bool_)
    index = np.arange(n_in)
    return (index >= n_inputs) & ((index - n_inputs) % anchors == np.arange(anchors)[:, None])


def frames_with_anchors(opu: Device, alone: Array, anchors: Array) -> Array:
    """Take frames of patterns, alone and with each anchor: (batch, n_in) -> (batch, 1 + n_anchors, n_out)."""
    # With a superset anchor the second frame shows a - x, with disjoint anchors x + b: both are an exclusive or.
    xp = backend_of(alone).xp
    patterns = xp.concat([alone[:, None, :], alone[:, None, :] ^ anchors], axis=1)
    frames = show(opu, xp.reshape(patterns, (-1, opu.n_in)))
    return xp.reshape(frames, (*patterns.shape[:2], -1))
