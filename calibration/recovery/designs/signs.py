"""Designs of +-1 patterns for measurements without a reference: Hadamard probes, inverted by masks, and anchors.

With ``s_j = +-1`` for an input that is ON or OFF, ``u_j = (t_on - t_off)_j / 2`` and c the field half-way between all
ON and all OFF, a pixel's field is ``y = c + sum_j s_j u_j``, also for mirrors that leak: what leaks is part of c. A
frame and the one with some inputs swung the other way, ``y = a + z`` and ``a - z``, have intensities that differ by
``4 Re(conj(a) z)``, linear in z: whatever stands still is an anchor for what swings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics import draws
from photonics.random import PatternSet, Stream

__all__ = ["Probes", "SignDesign", "hadamard", "masked"]

Real = NDArray[np.floating[Any]]
"""float32 in fact."""


@dataclass(frozen=True, eq=False)
class Probes:
    """Frames of ``s = fixed_a +- mask * hadamard_k``: for each a, each k, first + and then -."""

    rows: Real
    """+-1, (n_probes, n_support): rows of a Hadamard matrix, cut to the support."""
    support: NDArray[np.intp]
    """Inputs that change, (n_support,)."""
    mask: Real
    """+-1, (n_support,): which of the inputs are inverted."""
    fixed: Real
    """+-1 and 0 on the support, (n_fixed, n_inputs): patterns on the other inputs."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return 2 * len(self.fixed) * len(self.rows)

    @property
    def round(self) -> bytes:
        """Which inputs change and by which mask: the same for parts that share the rows of one Hadamard matrix."""
        return self.support.tobytes() + self.mask.tobytes()

    def signs(self, index: NDArray[np.intp]) -> Real:
        """+-1 of the frames with these numbers, (len(index), n_inputs)."""
        a, rest = np.divmod(index, 2 * len(self.rows))
        k, side = np.divmod(rest, 2)
        signs = self.fixed[a]
        signs[:, self.support] = self.rows[k] * self.mask * (1.0 - 2.0 * side[:, None])
        return signs

    def forward(self, unknowns: Real, out: Real) -> None:
        """Fields of these frames into `out`: (n_inputs + 1, m) -> (n_fixed, n_probes, 2, m)."""
        still = self.fixed @ unknowns[:-1] + unknowns[-1]
        swing = self.rows @ (self.mask[:, None] * unknowns[self.support])
        np.add(still[:, None], swing, out=out[:, :, 0])
        np.subtract(still[:, None], swing, out=out[:, :, 1])

    def add_adjoint(self, fields: Real, unknowns: Real) -> None:
        """Add the transpose of `forward`: (n_fixed, n_probes, 2, m) -> (n_inputs + 1, m)."""
        swing = (fields[:, :, 0] - fields[:, :, 1]).sum(axis=0)
        still = fields.sum(axis=(1, 2))
        unknowns[self.support] += self.mask[:, None] * (self.rows.T @ swing)
        unknowns[:-1] += self.fixed.T @ still
        unknowns[-1] += still.sum(axis=0)


class SignDesign:
    """Patterns of a measurement, and the linear map from the unknowns of a row to its fields.

    Unknowns are (n_inputs + 1, m) real arrays: u of each input, then c; the columns are real and imaginary parts of
    rows, in any order.
    """

    def __init__(self, n_inputs: int, probes: tuple[Probes, ...]) -> None:
        self.n_inputs = n_inputs
        parts = {part.support.tobytes(): part.support for part in probes if len(part.support) < n_inputs}
        self.groups = tuple(parts.values()) or (np.arange(n_inputs),)
        self.probes = probes
        self.frames = sum(part.count for part in probes)
        self._prefixes: dict[int, SignDesign] = {}

    def prefix(self, frames: int) -> "SignDesign":
        """The first parts of this design that have `frames` frames or more together; itself if it has fewer."""
        counts = np.cumsum([part.count for part in self.probes])
        parts = int(np.searchsorted(counts, frames)) + 1
        return (
            self
            if parts >= len(self.probes)
            else self._prefixes.setdefault(parts, SignDesign(self.n_inputs, self.probes[:parts]))
        )

    def patterns(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which inputs are ON in frames `start` to `stop`: (stop - start, n_inputs)."""
        shown, first = [np.zeros((0, self.n_inputs), np.bool_)], 0
        for part in self.probes:
            index = np.arange(max(start, first), min(stop, first + part.count)) - first
            shown.append(part.signs(index) > 0)
            first += part.count
        return np.concatenate(shown)

    def parts(self, values: NDArray[Any]) -> Iterator[tuple[Probes, NDArray[Any]]]:
        """Each part with its share of a (frames, ...) array, as a view (n_fixed, n_probes, 2, ...)."""
        first = 0
        for part in self.probes:
            share = values[first : first + part.count]
            yield part, share.reshape(len(part.fixed), len(part.rows), 2, *values.shape[1:])
            first += part.count

    def forward(self, unknowns: Real) -> Real:
        """Fields in each frame: (n_inputs + 1, m) -> (frames, m)."""
        fields = np.empty((self.frames, unknowns.shape[1]), np.float32)
        for part, share in self.parts(fields):
            part.forward(unknowns, share)
        return fields

    def adjoint(self, fields: Real) -> Real:
        """Transpose of `forward`: (frames, m) -> (n_inputs + 1, m)."""
        unknowns = np.zeros((self.n_inputs + 1, fields.shape[1]), np.float32)
        for part, share in self.parts(fields):
            part.add_adjoint(share, unknowns)
        return unknowns

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """``A^T A / frames`` of the matrix A of `forward`, (n_inputs + 1, n_inputs + 1)."""
        gram = np.zeros((self.n_inputs + 1, self.n_inputs + 1))
        for part in self.probes:
            swing = (part.rows * part.mask).astype(np.float64)
            gram[np.ix_(part.support, part.support)] += 2.0 * len(part.fixed) * (swing.T @ swing)
            still = np.concatenate([part.fixed, np.ones_like(part.fixed[:, :1])], axis=1).astype(np.float64)
            gram += 2.0 * len(part.rows) * (still.T @ still)
        return gram / self.frames

    @cached_property
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues and vectors of `gram`."""
        return np.linalg.eigh(self.gram)

    @property
    def condition_number(self) -> float:
        """Largest over smallest singular value of the +-1 patterns (a constant column included)."""
        values = self.spectrum[0]
        return float(np.sqrt(values[-1] / values[0])) if values[0] > 1e-9 * values[-1] else float("inf")

    @cached_property
    def inverse(self) -> Real:
        """Inverse of `gram`."""
        values, vectors = self.spectrum
        return (vectors / values @ vectors.T).astype(np.float32)


def masked(support: NDArray[np.intp], fixed: Real, seed: int, number: int, most: int | None = None) -> Probes:
    """Rows of a Hadamard matrix on some inputs, in random order, each input inverted or not at random.

    Parameters
    ----------
    support : ndarray of int
        Inputs that swing.
    fixed : ndarray, shape (n_fixed, n_inputs)
        Patterns on the others.
    seed, number : int
        Which order and which inputs.
    most : int, optional
        At most so many probes.
    """
    matrix = hadamard(len(support))
    tick = PatternSet.HADAMARD_ORDER + 2 * number
    order = np.argsort(draws.uniforms(seed, Stream.PROBES, np.arange(len(matrix)), tick))
    flips = draws.uniforms(seed, Stream.PROBES, np.arange(len(support)), tick + 1) < 0.5
    mask = np.where(flips, -1.0, 1.0).astype(np.float32)
    return Probes(np.ascontiguousarray(matrix[order[:most], : len(support)]), support, mask, fixed)


@lru_cache(maxsize=8)
def hadamard(least: int) -> Real:
    """Hadamard matrix of the smallest order, `least` or more, that doubling of Paley's first construction gives.

    Orders ``2^a (q + 1)``, q = 1 or a prime with q = 3 mod 4. The rows are orthogonal, their entries +-1.

    References
    ----------
    R. E. A. C. Paley, J. Math. and Phys. 12, 311 (1933).

    Examples
    --------
    >>> h = hadamard(10)
    >>> h.shape, bool((h @ h.T == 12 * np.eye(12)).all())
    ((12, 12), True)
    """
    order = max(least, 1)
    while not (core := paley_order(order)):
        order += 1
    matrix = paley(core)
    while len(matrix) < order:
        matrix = np.kron(np.asarray([[1, 1], [1, -1]], matrix.dtype), matrix)
    return matrix


def paley_order(order: int) -> int:
    """Smallest ``q + 1`` that gives `order` by doubling, 1 for a power of two; 0 if there is none."""
    while order % 2 == 0 and order > 2:
        q = order - 1
        if order % 4 == 0 and q > 3 and all(q % d for d in range(2, int(q**0.5) + 1)):
            return order
        order //= 2
    return order if order in (1, 2) else 0


def paley(order: int) -> Real:
    """Hadamard matrix of order q + 1 from the quadratic residues of q; [1] and [[1, 1], [1, -1]] for 1 and 2."""
    if order <= 2:
        return np.array([[1.0, 1.0], [1.0, -1.0]], np.float32)[:order, :order]
    q = order - 1
    index = np.arange(q)
    character = np.full(q, -1.0, np.float32)
    character[index * index % q] = 1.0
    character[0] = 0.0
    skew = np.zeros((order, order), np.float32)
    skew[0, 1:], skew[1:, 0] = 1.0, -1.0
    skew[1:, 1:] = character[(index[:, None] - index) % q]
    return skew + np.eye(order, dtype=np.float32)
