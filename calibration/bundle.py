"""Fields and references fitted together to all frames: ``I_ks = |y_k + r_s|^2``, row by row, all rows at once."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.recovery import Bench

__all__ = ["Bundle", "adjust"]

STEPS = 30
"""Steps at most."""
SETTLED = 1e-3
"""Change of the cost, per row, under which a row is done."""

Real = NDArray[np.float32]


class Bundle(NamedTuple):
    """Most likely fields of the probes and references, and how well they explain the frames."""

    fields: NDArray[np.complex64]
    """y, (order, n_rows), roots of DN."""
    references: NDArray[np.complex64]
    """r, (S, n_rows)."""
    misfit: Real
    """Mean of ``residual^2 / variance`` over its expectation, 1 for a good fit: (n_rows,)."""
    variance: Real
    """Mean of ``E|error of y|^2`` over probes with the references known, DN: (n_rows,)."""


class Normal(NamedTuple):
    """Normal equations of one step. ``g`` is the gradient of a reading, ``2 (y + r)``, times the root of its weight."""

    gx: Real
    """(S + 1, order, n_rows)."""
    gy: Real
    residual: Real
    """Residuals times the root of their weight."""
    cost: NDArray[np.float64]
    """Minus the logarithm of the likelihood, (n_rows,)."""
    squares: Real
    """Mean of the squared residuals that count, (n_rows,)."""


def adjust(
    readings: NDArray[Any], fields: NDArray[np.complex64], references: NDArray[np.complex64], bench: Bench
) -> Bundle:
    """Climb the likelihood by Levenberg's and Marquardt's steps, the fields eliminated (Schur complement).

    Each reading counts with the inverse of the variance that the model predicts for it; a saturated one counts while
    the model is below it. A step that lowers a row's likelihood is not taken there.

    Parameters
    ----------
    readings : ndarray, shape (order, S + 1, n_rows)
        The camera's integers; the first of each probe is without a reference.
    fields, references : ndarray
        Start, (order, n_rows) and (S, n_rows), roots of DN.
    bench : Bench
    """
    damping = np.full(fields.shape[1], 1e-2, np.float32)
    now = equations(readings, fields, references, bench)
    active = np.ones(fields.shape[1], np.bool_)
    for _ in range(STEPS):
        rows = np.flatnonzero(active)
        here = Normal(now.gx[..., rows], now.gy[..., rows], now.residual[..., rows], now.cost[rows], now.squares[rows])
        move_y, move_r = step(here, damping[rows])
        tried_y, tried_r = fields[:, rows] + move_y, references[:, rows] + move_r
        tried = equations(readings[..., rows], tried_y, tried_r, bench)
        gain = here.cost - tried.cost
        better = gain > 0
        taken = rows[better]
        fields[:, taken], references[:, taken] = tried_y[:, better], tried_r[:, better]
        for old, new in zip(now, tried, strict=True):
            old[..., taken] = new[..., better]
        damping[rows] *= np.where(better, np.float32(0.2), np.float32(10.0))
        np.clip(damping, 1e-6, 1e6, out=damping)
        active[rows] = np.where(better, gain > SETTLED, damping[rows] < 1e3)
        if not active.any():
            break
    return judged(now, fields, references)


def equations(
    readings: NDArray[Any], fields: NDArray[np.complex64], references: NDArray[np.complex64], bench: Bench
) -> Normal:
    """Gradients, residuals and cost at a point."""
    noise, top = bench.noise, np.float32(bench.saturation_dn)
    order, count, rows = readings.shape
    gx, gy, residual = (np.empty((count, order, rows), np.float32) for _ in range(3))
    cost, squares, used = np.zeros(rows), np.zeros(rows, np.float32), np.zeros(rows, np.float32)
    for s in range(count):
        total = fields if s == 0 else fields + references[s - 1]
        seen = readings[:, s].astype(np.float32)
        model = total.real**2 + total.imag**2
        left = seen - np.float32(noise.dark_dn) - model
        variance = np.float32(noise.floor_dn2) + np.float32(noise.slope_dn) * model
        counts = (seen < top) | (left > 0)
        root = counts / np.sqrt(variance)
        gx[s], gy[s] = 2.0 * total.real * root, 2.0 * total.imag * root
        residual[s] = left * root
        squared = residual[s] ** 2
        squares += squared.sum(axis=0)
        used += counts.sum(axis=0)
        cost += 0.5 * (squared + np.where(counts, np.log(variance), 0.0)).sum(axis=0, dtype=np.float64)
    return Normal(gx, gy, residual, cost, (squares / np.maximum(used, 1.0)).astype(np.float32))


def field_blocks(at: Normal, damping: Real) -> tuple[Real, Real, Real]:
    """Inverse of each probe's 2 x 2 block, entries xx, xy, yy: (order, n_rows) each."""
    xx, xy, yy = (np.einsum("skr,skr->kr", a, b) for a, b in ((at.gx, at.gx), (at.gx, at.gy), (at.gy, at.gy)))
    # Next to nothing is added to a probe that no reading holds, all its frames being saturated.
    little = np.float32(1e-4) * (xx + yy).mean(axis=0)
    xx, yy = xx * (1.0 + damping) + little, yy * (1.0 + damping) + little
    determinant = xx * yy - xy * xy
    return yy / determinant, -xy / determinant, xx / determinant


def reduced(at: Normal, inverse: tuple[Real, Real, Real], damping: Real) -> NDArray[np.float64]:
    """Normal matrix of the references with the fields eliminated: (n_rows, S, 2, S, 2)."""
    xx, xy, yy = inverse
    count, _, rows = at.gx.shape
    matrix = np.zeros((rows, count - 1, 2, count - 1, 2))
    for s in range(1, count):
        a = (at.gx[s], at.gy[s])
        u, v = xx * a[0] + xy * a[1], xy * a[0] + yy * a[1]  # inverse times g_s
        for t in range(1, s + 1):
            b = (at.gx[t], at.gy[t])
            common = -(u * b[0] + v * b[1])
            if t == s:
                common = common + 1.0 + damping
            for i in range(2):
                for j in range(2):
                    entry = np.einsum("kr,kr,kr->r", common, a[i], b[j])
                    matrix[:, s - 1, i, t - 1, j] = entry
                    matrix[:, t - 1, j, s - 1, i] = entry
    return matrix


def step(at: Normal, damping: Real) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Move of the fields and of the references."""
    xx, xy, yy = inverse = field_blocks(at, damping)
    count, _, rows = at.gx.shape
    bx, by = (np.einsum("skr,skr->kr", g, at.residual) for g in (at.gx, at.gy))
    px, py = xx * bx + xy * by, xy * bx + yy * by  # the fields' move if the references stood still
    left = at.residual[1:] - at.gx[1:] * px - at.gy[1:] * py
    right = np.stack([np.einsum("skr,skr->rs", g[1:], left) for g in (at.gx, at.gy)], axis=2)
    matrix = reduced(at, inverse, damping).reshape(rows, 2 * (count - 1), -1)
    trace = np.trace(matrix, axis1=1, axis2=2)[:, None, None] + 1e-12
    matrix += 1e-6 * trace * np.eye(matrix.shape[1])  # a common turn of all changes nothing
    move = np.linalg.solve(matrix, right.reshape(rows, -1, 1).astype(np.float64)).reshape(rows, count - 1, 2)
    mx, my = (np.ascontiguousarray(move[:, :, i].T, np.float32)[:, None, :] for i in range(2))
    pull = at.gx[1:] * mx + at.gy[1:] * my
    qx, qy = (np.einsum("skr,skr->kr", g[1:], pull) for g in (at.gx, at.gy))
    moved = (px - xx * qx - xy * qy) + 1j * (py - xy * qx - yy * qy)
    return moved.astype(np.complex64), (mx + 1j * my)[:, 0].astype(np.complex64)


def judged(at: Normal, fields: NDArray[np.complex64], references: NDArray[np.complex64]) -> Bundle:
    """Errors by the normal equations at the end, and the misfit."""
    count, order, rows = at.gx.shape
    xx, _, yy = field_blocks(at, np.zeros(rows, np.float32))
    free = 1.0 - (2.0 * order + 2.0 * (count - 1)) / (order * count)
    return Bundle(fields, references, at.squares / np.float32(max(free, 0.1)), (xx + yy).mean(axis=0))
