"""Fields from their intensity alone and together with anchors at known positions in the complex plane.

Complex numbers are written as real vectors of two components, so that ``Re(conj(q) y)`` is the dot product ``q . y``.
With the leaked field c, ``I(x) - I(0) = |y|^2 + 2 c . y = s`` and
``I(x + b_i) - I(x) = 2 q_i . y + |q_i|^2 + 2 c . q_i``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from photonics.arrays import Array
from photonics.backend import backend_of

__all__ = ["Anchors", "Solution", "by_frame", "locate", "misfit", "shared_error"]

RIDGE = 1e-6
"""Relative ridge on the normal matrix, so that it is invertible even if the anchors lie on a line (invalid rows)."""
STEPS = 2
"""Further Gauss-Newton steps before residuals are compared with noise."""

BY_ROW = ("positions", "leak", "leak_variance", "position_variance", "off_variance")
"""Fields of `Anchors` with an entry for each row."""

Real = Array


class Anchors(NamedTuple):
    """Positions of the anchors in the plane of each row, roots of DN."""

    positions: Real  # (S, 2, n_out)
    leak: Real  # c, (2, n_out)
    leak_variance: Real  # of a component, DN: (n_out,)
    position_variance: Real  # of a component of an anchor, the largest one, DN: (n_out,)
    off_variance: Real  # of I(0), DN^2: (n_out,)
    floor_dn2: float
    slope_dn: float
    """Variance of a frame, ``floor_dn2 + slope_dn I``."""

    def part(self, rows: slice) -> "Anchors":
        """The same anchors in some rows."""
        return self._replace(**{name: getattr(self, name)[..., rows] for name in BY_ROW})

    @staticmethod
    def join(blocks: Sequence["Anchors"]) -> "Anchors":
        """Join blocks of rows."""
        xp = backend_of(blocks[0].leak).xp
        arrays = {name: xp.concat([getattr(block, name) for block in blocks], axis=-1) for name in BY_ROW}
        return blocks[0]._replace(**arrays)

    @property
    def added(self) -> Real:
        """Intensity ``I(b_i) - I(0)`` of each anchor from its position, DN: (S, n_out)."""
        return backend_of(self.leak).xp.sum((self.positions + 2.0 * self.leak) * self.positions, axis=1)

    def scaled(self, light: float) -> "Anchors":
        """The same anchors in brighter or darker light."""
        root, power = float(np.float32(np.sqrt(light))), float(np.float32(light))
        return self._replace(
            positions=self.positions * root,
            leak=self.leak * root,
            leak_variance=self.leak_variance * power,
            position_variance=self.position_variance * power,
            off_variance=self.off_variance * power**2,
        )

    def aligned(self, other: "Anchors") -> "Anchors":
        """The same anchors, each row turned and, if that is nearer, reflected to those of another calibration."""
        now, then = (a.positions[:, 0] + 1j * a.positions[:, 1] for a in (self, other))
        straight, mirrored = (np.conj(now) * then).sum(axis=0), (now * then).sum(axis=0)
        flip = np.abs(mirrored) > np.abs(straight)
        turn = np.where(flip, mirrored, straight)
        turn /= np.maximum(np.abs(turn), 1e-30)

        def move(points: Real) -> Real:
            moved = (points[..., 0, :] + 1j * np.where(flip, -1.0, 1.0) * points[..., 1, :]) * turn
            return np.stack([moved.real, moved.imag], axis=-2).astype(np.float32)

        return self._replace(positions=move(self.positions), leak=move(self.leak))

    def variances(self, y: Real) -> Real:
        """Variance of the frame without and with each anchor: (2, batch, n_out) -> (S + 1, batch, n_out), DN^2."""
        found = backend_of(y).empty((self.positions.shape[0] + 1, *y.shape[1:]), "float32")
        for i in range(found.shape[0]):
            place = self.leak + self.positions[i - 1, ...] if i else self.leak
            light = (y[0, ...] + place[0, :]) ** 2 + (y[1, ...] + place[1, :]) ** 2
            found[i, ...] = self.floor_dn2 + self.slope_dn * light
        return found


class Solution(NamedTuple):
    """Solution of the normal equations of fields, s eliminated: arrays (batch, n_out), vectors (2, batch, n_out)."""

    total: Real  # W, sum of the weights
    middle: Real  # weighted mean of the design vectors 2 q_i, 0 for the frame without an anchor
    pull: Real  # h, the design vector of ``s = |y|^2 + 2 c . y`` minus the mean
    share: Real  # kappa, the weight of that equation
    inverse: Real  # of the normal matrix: its two diagonal entries and its off-diagonal entry, (3, batch, n_out)

    def apply(self, a: Real, b: Real) -> tuple[Real, Real]:
        """Multiply the vectors (a, b) by the inverse."""
        first, second, off_diagonal = (self.inverse[k, ...] for k in range(3))
        return first * a + off_diagonal * b, off_diagonal * a + second * b

    def variance(self) -> Real:
        """Mean variance of the real and the imaginary part due to the noise of the frames, DN: (batch, n_out)."""
        a, b = self.apply(self.pull[0, ...], self.pull[1, ...])
        slack = self.share * (1.0 - self.share / self.total)
        return ((self.inverse[0, ...] + self.inverse[1, ...]) - slack * (a**2 + b**2)) / 2.0


def normal_equations(anchors: Anchors, weight: Real, y: Real | None) -> Solution:
    """Normal equations of frames with weights (S + 1, batch, n_out), linearised at the fields y, (2, batch, n_out).

    Without y only the frames are used, which are linear in y and s. With y the equation ``s = |y|^2 + 2 c . y`` is
    added, weighted by the errors of the leaked field and of the frame with all mirrors OFF.
    """
    backend = backend_of(weight)
    xp, q, at = backend.xp, anchors.positions, range(anchors.positions.shape[0])
    total = xp.maximum(xp.sum(weight, axis=0), 1e-20)
    middle = backend.zeros((2, *total.shape), "float32")
    for k in at:
        middle += 2.0 * q[k, :, None, :] * weight[k + 1, ...]
    middle /= total
    first, second = middle[0, ...], middle[1, ...]
    matrix = xp.stack([first**2, second**2, first * second]) * weight[0, ...]
    for k in at:
        u, v, w = 2.0 * q[k, 0, :] - first, 2.0 * q[k, 1, :] - second, weight[k + 1, ...]
        matrix[0, ...] += w * u * u
        matrix[1, ...] += w * v * v
        matrix[2, ...] += w * u * v
    pull, share = xp.zeros_like(middle), xp.zeros_like(total)
    if y is not None:
        pull = 2.0 * (y + anchors.leak[:, None, :]) + middle
        slack = 4.0 * (y[0, ...] ** 2 + y[1, ...] ** 2) * anchors.leak_variance + anchors.off_variance
        share = 1.0 / (slack + 1.0 / total)
        matrix[0, ...] += share * pull[0, ...] ** 2
        matrix[1, ...] += share * pull[1, ...] ** 2
        matrix[2, ...] += share * pull[0, ...] * pull[1, ...]
    matrix[:2, ...] += RIDGE * (matrix[0, ...] + matrix[1, ...]) + 1e-20
    determinant = matrix[0, ...] * matrix[1, ...] - matrix[2, ...] ** 2
    inverse = xp.stack([matrix[1, ...], matrix[0, ...], -matrix[2, ...]]) / xp.maximum(determinant, 1e-37)
    return Solution(total, middle, pull, share, inverse)


def locate(anchors: Anchors, signal: Real, weight: Real) -> tuple[Real, Solution]:
    """Find the most likely fields by one Gauss-Newton step from the linear solution.

    Parameters
    ----------
    anchors : Anchors
    signal : ndarray, shape (S + 1, batch, n_out)
        Frames of each pattern alone and with each anchor, minus the frame with all mirrors OFF, DN.
    weight : ndarray, shape (S + 1, batch, n_out)
        One over the variance of each frame, for the start; frames of weight 0 are left out.

    Returns
    -------
    fields : ndarray, shape (2, batch, n_out)
        Roots of DN. Errors of second order in the noise of the start remain.
    solution : Solution
    """
    xp, equations = backend_of(signal).xp, equations_of(anchors, signal)
    y = solve_fields(anchors, equations, weight, normal_equations(anchors, weight, None), None)
    weight = xp.where(weight > 0, 1.0 / anchors.variances(y), 0.0)
    solution = normal_equations(anchors, weight, y)
    return solve_fields(anchors, equations, weight, solution, y), solution


def by_frame(values: Array) -> Array:
    """Put the frames of a vector first: (batch, S + 1, n_out) -> (S + 1, batch, n_out)."""
    return backend_of(values).xp.permute_dims(values, (1, 0, 2))


def equations_of(anchors: Anchors, signal: Real) -> Real:
    """Frames less the light of their anchors: (S + 1, batch, n_out)."""
    equations = backend_of(signal).xp.asarray(signal, copy=True)
    equations[1:, ...] -= anchors.added[:, None, :]
    return equations


def misfit(anchors: Anchors, signal: Real, weight: Real, y: Real) -> Real:
    """Squared residuals of the most likely fields over those that noise and the anchors' errors explain.

    The S + 1 frames have S - 1 degrees of freedom. Arguments are those of `locate`, and its fields, which further
    Gauss-Newton steps improve first. The result has the shape (batch, n_out).
    """
    xp, equations = backend_of(signal).xp, equations_of(anchors, signal)
    for _ in range(STEPS):
        weight = xp.where(weight > 0, 1.0 / anchors.variances(y), 0.0)
        y = solve_fields(anchors, equations, weight, normal_equations(anchors, weight, y), y)
    misfits, frames = xp.zeros_like(y[0, ...]), signal.shape[0]
    alone = xp.sum((y + 2.0 * anchors.leak[:, None, :]) * y, axis=0)
    variances = anchors.variances(y) + anchors.off_variance
    for i in range(frames):
        model, field = alone, y
        if i:
            q = anchors.positions[i - 1, :, None, :]
            model, field = alone + anchors.added[i - 1, :] + 2.0 * xp.sum(q * y, axis=0), y + q
        slack = 4.0 * anchors.leak_variance * xp.sum(field**2, axis=0)
        if i:
            slack += 4.0 * anchors.position_variance * xp.sum((field + anchors.leak[:, None, :]) ** 2, axis=0)
        misfits += (signal[i, ...] - model) ** 2 / (variances[i, ...] + slack)
    return misfits / (frames - 2)


def solve_fields(anchors: Anchors, equations: Real, weight: Real, solution: Solution, y: Real | None) -> Real:
    """Solve the normal equations for the fields: (S + 1, batch, n_out) -> (2, batch, n_out)."""
    backend, q = backend_of(weight), anchors.positions
    mean = backend.xp.sum(weight * equations, axis=0) / solution.total
    right = backend.zeros((2, *mean.shape), "float32")
    for k in range(q.shape[0]):
        pushed = 2.0 * weight[k + 1, ...] * (equations[k + 1, ...] - mean)
        right[0, ...] += q[k, 0, :] * pushed
        right[1, ...] += q[k, 1, :] * pushed
    if y is not None:
        right += solution.pull * (solution.share * (mean + y[0, ...] ** 2 + y[1, ...] ** 2))
    return backend.xp.stack(solution.apply(right[0, ...], right[1, ...]))


def shared_error(anchors: Anchors, covariance: Array, size_dn: float) -> tuple[Real, Real]:
    """Errors that all fields of a row share, due to the errors of the anchors' positions and of I(0).

    Parameters
    ----------
    anchors : Anchors
    covariance : array of float64, shape (n_out, 2 S + 2, 2 S + 2)
        Covariance of the positions and the leaked field.
    size_dn : float
        Expected mean ``|y|^2`` of vectors, DN.

    Returns
    -------
    variance : array, shape (n_out,)
        Variance of the real (or imaginary) part of a field near 0, DN.
    relative : array, shape (n_out,)
        Further standard error of a longer field, relative to its length; evaluated at ``|y|^2 = size_dn``.
    """
    backend, rows = backend_of(covariance), covariance.shape[0]
    xp, fields = backend.xp, np.sqrt(size_dn) * np.array([[0.0, 1.0, 0.0, -1.0, 0.0], [0.0, 0.0, 1.0, 0.0, -1.0]])
    y = xp.broadcast_to(backend.asarray(fields, "float32")[:, :, None], (2, 5, rows))
    weight = 1.0 / anchors.variances(y)
    found = normal_equations(anchors, weight, y)
    of_pull = xp.stack(found.apply(found.pull[0, ...], found.pull[1, ...])) * found.share  # (2, 5, rows)
    c = anchors.leak[:, None, :]
    lever, of_leak = [], [backend.zeros((2, 5, rows), "float64") for _ in range(2)]
    for i in range(anchors.positions.shape[0]):
        q, w = anchors.positions[i, ...], weight[i + 1, ...]
        design = (2.0 * q[part, :] - found.middle[part, ...] for part in range(2))
        of_frame = xp.stack(found.apply(*design)) * w
        of_frame += of_pull * w / found.total
        for part in range(2):
            moved = of_frame * 2.0 * (q[part, :] + c[part, ...] + y[part, ...])
            lever.append(xp.astype(moved, xp.float64))
            of_leak[part] += xp.astype(of_frame * 2.0 * q[part, :], xp.float64)
    for part in range(2):
        of_leak[part] += xp.astype(of_pull * 2.0 * y[part, ...], xp.float64)
    variance = quadratic_form(xp.stack([*lever, *of_leak], axis=-1), covariance) / 2.0
    variance += xp.sum(of_pull**2, axis=0) * anchors.off_variance / 2.0
    # Each part of a value of length |y| has the variance |y|^2 / 2 times the squared relative error.
    excess = xp.maximum(xp.mean(variance[1:, :], axis=0) - variance[0, :], 0.0) * 2.0 / size_dn
    return xp.astype(variance[0, :], xp.float32), xp.astype(xp.sqrt(excess), xp.float32)


def quadratic_form(lever: Array, covariance: Array) -> Array:
    """``l^T C l`` of each row and field, summed over both parts: (2, k, rows, n), (rows, n, n) -> (k, rows)."""
    if isinstance(lever, np.ndarray):
        return np.einsum("pkri,rij,pkrj->kr", lever, covariance, lever)
    xp = backend_of(lever).xp
    return xp.sum((lever[..., None, :] @ covariance)[..., 0, :] * lever, axis=(0, 3))
