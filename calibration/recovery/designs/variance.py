"""Expected variance of the fields in a likelihood fit, from the Fisher information of its frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.recovery.designs.dense import DenseDesign
from calibration.recovery.designs.hadamard import hadamard
from calibration.recovery.designs.signs import Probes, SignDesign
from photonics.arrays import HostArray, RealArray, Shapes

__all__ = ["expected_variance"]

ROUNDS = 8
"""Fixed-point iterations of `expected_variance`: the last one changes it by less than 1 %."""
MAX_PROBES = 4096
"""Approximate number of frames from which the information is computed; they determine a variance well enough."""


@dataclass(frozen=True, eq=False, repr=False)
class Round(Shapes):
    """Parts of a design that share the rows of one Hadamard matrix."""

    light: RealArray
    """``4 w y y^T / K`` (entries xx, xy, yy) of some probes, summed over their frames: (3, probes looked at, m)."""
    count: int
    """Number of probes that were shown."""
    order: int
    """Order N of the Hadamard matrix."""
    n_inputs: int
    """Number n of inputs that change."""
    covers: NDArray[np.bool_]
    """Which groups of the design's inputs change, (n_groups,)."""


def expected_variance(
    design: SignDesign, gain: float, real: RealArray, imag: RealArray, weight: RealArray
) -> NDArray[np.float64]:
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
    rounds = collect_rounds(design, gain, real, imag, weight)
    sizes = np.array([len(group) for group in design.groups])
    brightest = np.max([part.light.max(axis=(0, 1)) for part in rounds], axis=0)  # of each row: others may be NaN
    least = 1e-9 * np.array([1.0, 0.0, 1.0])[:, None] * brightest.astype(np.float64)
    added = [part.count * part.light.mean(axis=1, dtype=np.float64) for part in rounds]
    unused = [np.zeros_like(information) for information in added]  # (1 - n / N) G^-1
    for _ in range(ROUNDS):
        for number, part in enumerate(rounds):
            count = min(part.count, part.order)
            others = [
                sum(added[i] for i, other in enumerate(rounds) if i != number and other.covers[group])
                for group in np.flatnonzero(part.covers)
            ]
            w = least + np.average(np.stack(others), axis=0, weights=sizes[part.covers]) + unused[number]
            mean = invert(part.order * part.light + w[:, None]).mean(axis=1) * count
            mean = mean + invert(w) * (part.order - count)
            g = invert(mean / part.order)
            added[number] = g - w
            unused[number] = (1.0 - part.n_inputs / part.order) * g
    total = [sum(added[i] for i, part in enumerate(rounds) if part.covers[group]) for group in range(len(sizes))]
    return np.stack([invert(least + information)[[0, 2]].sum(axis=0) for information in total], axis=1)


def collect_rounds(design: SignDesign, gain: float, real: RealArray, imag: RealArray, weight: RealArray) -> list[Round]:
    """Parts of a design by the Hadamard matrix that they share, with the information of some of their probes."""
    stride = max(design.frames // MAX_PROBES, 1)
    parts: dict[bytes, list[Probes]] = {}
    lights: dict[bytes, list[RealArray]] = {}
    for (part, y), (_, x), (_, w) in zip(*map(design.parts, (real, imag, weight)), strict=True):
        y, x, w = (view[:, ::stride] for view in (y, x, w))
        light = np.stack([(w * product).sum(axis=(0, 2)) for product in (y * y, y * x, x * x)])
        parts.setdefault(part.round, []).append(part)
        lights.setdefault(part.round, []).append(light * np.float32(4.0 / gain))
    return [
        Round(
            light=np.concatenate(lights[name], axis=1),
            count=sum(len(part.rows) for part in shared),
            order=len(hadamard(len(shared[0].support))),
            n_inputs=len(shared[0].support),
            covers=np.array([bool(np.isin(group, shared[0].support).all()) for group in design.groups]),
        )
        for name, shared in parts.items()
    ]


def invert(matrix: HostArray) -> HostArray:
    """Inverse of symmetric 2 x 2 matrices, entries xx, xy, yy: (3, ...) -> (3, ...)."""
    xx, xy, yy = matrix
    return np.stack([yy, -xy, xx]) / (xx * yy - xy * xy)
