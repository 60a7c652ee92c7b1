"""Expected variance of the fields in a likelihood fit, from the Fisher information of its frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.recovery.designs.dense import DenseDesign
from calibration.recovery.designs.hadamard import hadamard
from calibration.recovery.designs.signs import Probes, SignDesign
from photonics.arrays import Array, Shapes
from photonics.backend import backend_of

__all__ = ["expected_variance"]

ROUNDS = 8
"""Fixed-point iterations of `expected_variance`: the last one changes it by less than 1 %."""
MAX_PROBES = 4096
"""Approximate number of frames from which the information is computed; they determine a variance well enough."""


@dataclass(frozen=True, eq=False, repr=False)
class Round(Shapes):
    """Parts of a design that share the rows of one Hadamard matrix."""

    light: Array
    """``4 w y y^T / K`` (entries xx, xy, yy) of some probes, summed over their frames: (3, probes looked at, m)."""
    count: int
    """Number of probes that were shown."""
    order: int
    """Order N of the Hadamard matrix."""
    n_inputs: int
    """Number n of inputs that change."""
    covers: NDArray[np.bool_]
    """Which groups of the design's inputs change, (n_groups,)."""


def expected_variance(design: SignDesign, gain: float, real: Array, imag: Array, weight: Array) -> Array:
    """Expected ``E|error of u|^2`` of an input in each of the design's groups, (m, n_groups).

    The inverse of the Fisher information in the limit of many inputs. A round of N Hadamard probes, of n inputs, has
    the information ``H^T diag(Q_k) H``, Q_k the 2 x 2 sum of ``4 w y y^T / K`` over the frames of probe k, 0 for one
    that is not shown. Rounds with different masks are asymptotically free: one adds ``J = G^-1 - W`` to B, the
    information that the others have about an entry, with ``G = mean_k (N Q_k + W)^-1`` and ``W = B + (1 - n / N)
    G^-1``. The covariance of an entry is ``(sum J)^-1``. W exceeds B for columns of H that are not used. This is free
    convolution by subordination (H. Bercovici and D. Voiculescu, Indiana Univ. Math. J. 42, 733 (1993)).
    """
    if isinstance(design, DenseDesign):
        return design.expected_variance(gain, real, imag, weight)
    rounds, xp = collect_rounds(design, gain, real, imag, weight), design.backend.xp
    sizes = np.array([len(group) for group in design.groups])
    brightest = xp.max(xp.stack([xp.max(part.light, axis=(0, 1)) for part in rounds]), axis=0)  # of each row
    least = 1e-9 * xp.astype(brightest, xp.float64)
    least = xp.stack([least, xp.zeros_like(least), least])
    added = [part.count * xp.mean(xp.astype(part.light, xp.float64), axis=1) for part in rounds]
    unused = [xp.zeros_like(information) for information in added]  # (1 - n / N) G^-1
    for _ in range(ROUNDS):
        for number, part in enumerate(rounds):
            count, w = min(part.count, part.order), least + unused[number]
            for group in np.flatnonzero(part.covers):
                for i, other in enumerate(rounds):
                    if i != number and other.covers[group]:
                        w = w + added[i] * float(sizes[group] / sizes[part.covers].sum())
            mean = xp.mean(invert(part.order * part.light + w[:, None, :]), axis=1) * count
            mean = mean + invert(w) * (part.order - count)
            g = invert(mean / part.order)
            added[number] = g - w
            unused[number] = (1.0 - part.n_inputs / part.order) * g
    found = []
    for group in range(len(sizes)):
        covariance = invert(sum((added[i] for i, part in enumerate(rounds) if part.covers[group]), least))
        found.append(covariance[0, :] + covariance[2, :])
    return xp.stack(found, axis=1)


def collect_rounds(design: SignDesign, gain: float, real: Array, imag: Array, weight: Array) -> list[Round]:
    """Parts of a design by the Hadamard matrix that they share, with the information of some of their probes."""
    stride, xp = max(design.frames // MAX_PROBES, 1), design.backend.xp
    parts: dict[bytes, list[Probes]] = {}
    lights: dict[bytes, list[Array]] = {}
    for (part, y), (_, x), (_, w) in zip(*map(design.parts, (real, imag, weight)), strict=True):
        y, x, w = (view[:, ::stride, :, :] for view in (y, x, w))
        light = xp.stack([xp.sum(w * product, axis=(0, 2)) for product in (y * y, y * x, x * x)])
        parts.setdefault(part.round, []).append(part)
        lights.setdefault(part.round, []).append(light * (4.0 / gain))
    return [
        Round(
            light=xp.concat(lights[name], axis=1),
            count=sum(part.rows.shape[0] for part in shared),
            order=len(hadamard(len(shared[0].support))),
            n_inputs=len(shared[0].support),
            covers=np.array([bool(np.isin(group, shared[0].support).all()) for group in design.groups]),
        )
        for name, shared in parts.items()
    ]


def invert(matrix: Array) -> Array:
    """Inverse of symmetric 2 x 2 matrices, entries xx, xy, yy: (3, ...) -> (3, ...)."""
    xx, xy, yy = (matrix[i, ...] for i in range(3))
    return backend_of(matrix).xp.stack([yy, -xy, xx]) / (xx * yy - xy * xy)
