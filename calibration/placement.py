"""Where the anchors of multilateration lie in the complex plane of each row, and how a field is found from them.

The complex plane as real vectors of two components: ``Re(conj(q) y)`` is the dot product ``q . y``.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Places", "anchor_sets", "place", "solve"]

ROUNDS = 8
"""Gauss-Newton steps; they converge quadratically from the eigenvectors."""


class Places(NamedTuple):
    """Anchors of some rows, in the plane of each."""

    positions: NDArray[np.float64]  # (rows, S, 2)
    covariance: NDArray[np.float64]  # (rows, S, S), summed over the two components
    rank_ratio: NDArray[np.float64]  # (rows,)
    flatness: NDArray[np.float64]
    spread: NDArray[np.float64]  # second eigenvalue, DN


def anchor_sets(anchors: int) -> NDArray[np.int64]:
    """Which anchors the calibration's patterns hold, each alone and then each pair: (S + S (S - 1) / 2, S)."""
    first, second = np.triu_indices(anchors, 1)
    one = np.eye(anchors, dtype=np.int64)
    return np.concatenate([one, one[first] + one[second]])


def place(
    intensity: NDArray[np.float32], variance: NDArray[np.float32], members: NDArray[np.int64], leak_dn: float
) -> Places:
    """Place the anchors of each row in its plane.

    Classical multidimensional scaling of the Gram matrix gives a start. Gauss-Newton steps then fit the positions q_i
    and the leaked field c to all intensities, ``I(p) - I(0) = |z|^2 + 2 c . z``, z the sum of the members' positions,
    each weighted by its noise; c has a normal prior of mean square `leak_dn`, which pairs alone make superfluous from
    five anchors on.

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
    q = leading(gram(data, members))
    c = np.zeros((len(data), 1, 2))
    prior = np.zeros(2 * count + 2)
    prior[-2:] = 2.0 / max(leak_dn, 1e-6 * float(np.abs(data).mean()))
    covariance = np.empty(0)
    for _ in range(ROUNDS):
        z = np.einsum("pi,rik->rpk", members, q)
        slope = members[None, :, :, None] * (2.0 * (z + c))[:, :, None, :]
        jacobian = np.concatenate([slope, 2.0 * z[:, :, None, :]], axis=2).reshape(*data.shape, -1)
        residual = data - ((z + 2.0 * c) * z).sum(axis=2)
        weighted = np.swapaxes(jacobian * weight[:, :, None], 1, 2)
        normal = weighted @ jacobian
        level = np.trace(normal, axis1=1, axis2=2)
        # A turn of the plane changes nothing: hold it, or there is no unique step.
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
    beat = 2.0 * (c * np.einsum("pi,rik->rpk", members, q)).sum(axis=2)
    values = np.sort(np.abs(np.linalg.eigvalsh(gram(data - beat, members))), axis=1)[:, ::-1]
    largest = np.maximum(values, 1e-30)
    of_anchors = covariance.reshape(len(data), count + 1, 2, count + 1, 2)[:, :count, :, :count]
    return Places(
        positions=q,
        covariance=np.einsum("rikjk->rij", of_anchors),
        rank_ratio=values[:, 2] / largest[:, 1],
        flatness=values[:, 1] / largest[:, 0],
        spread=values[:, 1],
    )


def gram(intensity: NDArray[np.float64], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Gram matrix of the anchors, ``q_i . q_j``, from the intensities of single ones and pairs: (rows, S, S)."""
    count = members.shape[1]
    single, pair = intensity[:, :count], intensity[:, count:]
    first, second = np.triu_indices(count, 1)
    matrix = np.zeros((len(intensity), count, count))
    matrix[:, np.arange(count), np.arange(count)] = single
    matrix[:, first, second] = matrix[:, second, first] = (pair - single[:, first] - single[:, second]) / 2.0
    return matrix


def leading(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points of the plane with that Gram matrix, as near as may be: (rows, S, S) -> (rows, S, 2)."""
    values, vectors = np.linalg.eigh(matrix)
    # Noise may leave the second one negative: exactly on a line the fit would have nowhere to go.
    two = np.maximum(values[:, :-3:-1], 1e-4 * np.abs(values).max(axis=1, keepdims=True))
    return vectors[:, :, :-3:-1] * np.sqrt(two)[:, None, :]


def solve(positions: NDArray[Any], weight: NDArray[Any], alone: NDArray[Any]) -> NDArray[np.float64]:
    """Weights of the anchors' equations ``h_i = 2 q_i . y + e_i - e_0`` in the best estimate of y.

    Parameters
    ----------
    positions : ndarray, shape (n, S, 2)
        The anchors.
    weight : ndarray, shape (n, S)
        One over the variance of each frame with an anchor, of e_i; 0 leaves it out.
    alone : ndarray, shape (n,)
        One over the variance of the frame without, of e_0; 0 if nothing is known of it.

    Returns
    -------
    ndarray, shape (n, 2, S)
    """
    design = np.concatenate([2.0 * positions, np.ones((*positions.shape[:2], 1))], axis=2).astype(np.float64)
    weighted = np.swapaxes(design * weight[:, :, None], 1, 2)
    normal = weighted @ design
    normal[:, 2, 2] += alone
    # Anchors on a line, of rows that are not valid, have no solution; theirs is not used.
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.diag([1.0, 1.0, 0.0])
    return np.linalg.solve(normal, weighted)[:, :2]
