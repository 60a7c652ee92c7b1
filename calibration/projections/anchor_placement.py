"""Patterns of anchors, and places of those of multilateration in the complex plane of each row.

Complex numbers are written as real vectors of two components: ``Re(conj(q) y)`` is the dot product ``q . y``.
"""

from typing import NamedTuple

import numpy as np

from calibration.device import Device, show
from photonics.arrays import Array, BoolArray, IntArray
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

    positions: Array
    """(rows, S, 2), roots of DN."""
    leak: Array
    """Leaked field, (rows, 2), roots of DN."""
    covariance: Array
    """Covariance of positions and leaked field, (rows, 2 S + 2, 2 S + 2), DN."""
    misfit: Array
    """Squared residuals over those expected from noise, (rows,)."""
    rank_ratio: Array
    """Third over second eigenvalue of the Gram matrix, (rows,)."""
    flatness: Array
    """Second over first eigenvalue of the Gram matrix, (rows,)."""
    spread: Array
    """Second eigenvalue of the Gram matrix, (rows,), DN."""


def anchor_sets(anchors: int) -> IntArray:
    """Anchors in each pattern of the calibration, single ones and then pairs: (S + S (S - 1) / 2, S), 0 or 1."""
    first, second = np.triu_indices(anchors, 1)
    one = np.eye(anchors, dtype=np.int64)
    return np.concatenate([one, one[first] + one[second]])


def place(intensity: Array, variance: Array, members: IntArray, leak_dn: float) -> Places:
    """Place the anchors of each row in its plane.

    Classical multidimensional scaling of the Gram matrix gives a start. Gauss-Newton steps then fit the positions q_i
    and the leaked field c to all intensities, ``I(p) - I(0) = |z|^2 + 2 c . z`` with z the sum of the members'
    positions, each weighted by its noise. The prior of c is normal with the mean square `leak_dn`; with five anchors or
    more the intensities determine c without it.

    Parameters
    ----------
    intensity, variance : array, shape (rows, n_patterns)
        ``I(p) - I(0)``, DN, and its variance. The result is where they are.
    members : ndarray, shape (n_patterns, S)
        Anchors in each pattern: single ones first, then the pairs in the order of ``numpy.triu_indices(S, 1)``.
    leak_dn : float
        Mean intensity of all mirrors OFF, by the data sheet.
    """
    backend = backend_of(intensity)
    xp, count = backend.xp, members.shape[1]
    data, weight = xp.astype(intensity, xp.float64), 1.0 / xp.astype(variance, xp.float64)
    freedom = max(len(members) - 2 * count - 1, 1)
    leak_dn = max(leak_dn, 1e-6 * float(xp.mean(xp.abs(data))))
    start = points_of(gram(data, members))
    found = fit(data, weight, members, leak_dn, start, backend.zeros((data.shape[0], 2), "float64"))
    for turn in range(RESTARTS):
        wrong = found.cost > MAX_MISFIT * freedom
        if not bool(xp.any(wrong)):
            break
        angle = 2.0 * np.pi * turn / RESTARTS
        leak = backend.asarray(np.sqrt(leak_dn) * np.array([[np.cos(angle), np.sin(angle)]]))
        first = start[wrong]
        other = fit(data[wrong], weight[wrong], members, leak_dn, first, xp.broadcast_to(leak, (first.shape[0], 2)))
        better = other.cost < found.cost[wrong]
        for mine, its in zip(found, other, strict=True):
            mine[wrong] = xp.where(xp.reshape(better, (-1, *(1,) * (its.ndim - 1))), its, mine[wrong])
    values = xp.sort(xp.abs(xp.linalg.eigvalsh(gram(data - beats(found, members), members))), axis=1)
    first, second, third = (values[:, count - 1 - k] for k in range(3))
    return Places(
        positions=found.positions,
        leak=found.leak,
        covariance=found.covariance,
        misfit=found.cost / freedom,
        rank_ratio=third / xp.maximum(second, 1e-30),
        flatness=second / xp.maximum(first, 1e-30),
        spread=second,
    )


class Fit(NamedTuple):
    """Positions that fit the intensities best, from one start."""

    positions: Array
    leak: Array
    covariance: Array
    cost: Array  # squared residuals over their variances, that of the leak included: (rows,)


def fit(data: Array, weight: Array, members: IntArray, leak_dn: float, q: Array, c: Array) -> Fit:
    """Fit positions and leaked fields by Gauss-Newton steps from q, (rows, S, 2), and c, (rows, 2)."""
    backend, count = backend_of(data), members.shape[1]
    xp, rows, c = backend.xp, data.shape[0], c[:, None, :]
    known, size, tight = backend.asarray(members, "float64"), 2 * count + 2, 2.0 / leak_dn
    weak = np.where(np.arange(size) < 2 * count, 0.0, tight)
    prior, wide, line = map(backend.asarray, (weak, np.diag(weak), 1e-9 * np.eye(size)))
    covariance = backend.zeros((0,), "float64")
    for _ in range(ROUNDS):
        z = members_sum(members, q)
        slope = known[None, :, :, None] * (2.0 * (z + c))[:, :, None, :]
        jacobian = xp.reshape(xp.concat([slope, 2.0 * z[:, :, None, :]], axis=2), (*data.shape, size))
        residual = data - xp.sum((z + 2.0 * c) * z, axis=2)
        weighted = xp.matrix_transpose(jacobian * weight[:, :, None])
        normal = weighted @ jacobian
        level = xp.maximum(xp.linalg.trace(normal), tight)  # in a row without light, that of the prior
        # Intensities do not depend on a rotation of the plane. It is held fixed, so that the step is unique.
        at = xp.concat([q, c], axis=1)
        turn = xp.reshape(xp.stack([-at[:, :, 1], at[:, :, 0]], axis=2), (rows, size))
        turn /= xp.maximum(xp.linalg.vector_norm(turn, axis=1, keepdims=True), 1e-30)
        hold = turn[:, :, None] * turn[:, None, :] + line  # the latter for anchors on a line
        normal += wide + level[:, None, None] * hold
        covariance = xp.linalg.inv(normal)
        push = (weighted @ residual[:, :, None])[:, :, 0] - prior * xp.reshape(at, (rows, size))
        step = xp.reshape((covariance @ push[:, :, None])[:, :, 0], (rows, count + 1, 2))
        q, c = q + step[:, :count, :], c + step[:, count:, :]
    z = members_sum(members, q)
    residual = data - xp.sum((z + 2.0 * c) * z, axis=2)
    cost = xp.sum(weight * residual**2, axis=1) + 2.0 * xp.sum(c**2, axis=(1, 2)) / leak_dn
    return Fit(q, c[:, 0, :], covariance, xp.where(xp.isfinite(cost), cost, np.inf))


def members_sum(members: IntArray, q: Array) -> Array:
    """Sum of the positions of each pattern's anchors: (n_patterns, S) and (rows, S, 2) -> (rows, n_patterns, 2)."""
    if isinstance(q, np.ndarray):
        return np.einsum("pi,rik->rpk", members, q)
    return backend_of(q).asarray(members, "float64") @ q


def beats(found: Fit, members: IntArray) -> Array:
    """Light ``2 c . z`` of the leaked field and each pattern: (rows, n_patterns)."""
    if isinstance(found.leak, np.ndarray):
        return 2.0 * np.einsum("rk,pi,rik->rp", found.leak, members, found.positions)
    return 2.0 * backend_of(found.leak).xp.sum(found.leak[:, None, :] * members_sum(members, found.positions), axis=2)


def gram(intensity: Array, members: IntArray) -> Array:
    """Gram matrix of the anchors, ``q_i . q_j``, from the intensities of single ones and pairs: (rows, S, S)."""
    count = members.shape[1]
    matrix = backend_of(intensity).zeros((intensity.shape[0], count, count), "float64")
    for i in range(count):
        matrix[:, i, i] = intensity[:, i]
    for pair, (i, j) in enumerate(zip(*np.triu_indices(count, 1), strict=True), count):
        both = (intensity[:, pair] - intensity[:, int(i)] - intensity[:, int(j)]) / 2.0
        matrix[:, int(i), int(j)] = matrix[:, int(j), int(i)] = both
    return matrix


def points_of(matrix: Array) -> Array:
    """Points of the plane whose Gram matrix is nearest to a given one: (rows, S, S) -> (rows, S, 2)."""
    xp = backend_of(matrix).xp
    values, vectors = xp.linalg.eigh(matrix)
    # Noise may make the second eigenvalue negative, and the fit cannot start with all points on a line.
    least = 1e-4 * xp.max(xp.abs(values), axis=1, keepdims=True)
    two = xp.maximum(xp.flip(values[:, -2:], axis=1), least)
    return xp.flip(vectors[:, :, -2:], axis=2) * xp.sqrt(two)[:, None, :]


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
