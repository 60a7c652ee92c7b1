"""Designs of +-1 patterns for measurements without a reference: Hadamard probes with random masks, and anchors.

With ``s_j = +-1`` for an input that is ON or OFF, ``u_j = (t_on - t_off)_j / 2`` and c the mean of the fields of all ON
and all OFF, a pixel's field is ``y = c + sum_j s_j u_j``. This also holds for mirrors that leak: the leaked light is
part of c. Let z be the part of a field that belongs to some of the inputs, and a the rest. With the signs of these
inputs reversed, the field is ``a - z`` instead of ``a + z``, and the two intensities differ by ``4 Re(conj(a) z)``,
which is linear in z: the inputs that keep their signs serve as an anchor for those that change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.recovery.designs.hadamard import hadamard
from photonics import draws
from photonics.arrays import BoolArray, HostArray, RealArray, Shapes
from photonics.kernels.threads import one_blas_thread
from photonics.random import PatternSet, Stream

__all__ = ["Probes", "SignDesign", "complement_probes", "draw_probes"]


@dataclass(frozen=True, eq=False, repr=False)
class Probes(Shapes):
    """Frames of ``s = fixed_a +- mask * hadamard_k``: for each a and each k, first with + and then with -."""

    rows: RealArray
    """+-1, (n_probes, n_support): rows of a Hadamard matrix, cut to the support."""
    support: NDArray[np.intp]
    """Inputs that change, (n_support,)."""
    mask: RealArray
    """Which of these inputs are inverted, +-1: (n_support,)."""
    fixed: RealArray
    """Patterns on the other inputs, +-1, with 0 on the support: (n_fixed, n_inputs)."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return 2 * len(self.fixed) * len(self.rows)

    @property
    def round(self) -> bytes:
        """Key shared by all parts that use the rows of one Hadamard matrix: support and mask."""
        return self.support.tobytes() + self.mask.tobytes()

    def signs(self, index: NDArray[np.intp]) -> RealArray:
        """Signs of the frames with these numbers, +-1: (len(index), n_inputs)."""
        a, rest = np.divmod(index, 2 * len(self.rows))
        k, side = np.divmod(rest, 2)
        signs = self.fixed[a]
        signs[:, self.support] = self.rows[k] * self.mask * (1.0 - 2.0 * side[:, None])
        return signs

    def apply_signs(self, vector: RealArray) -> RealArray:
        """``sum_j s_kj v_j`` over the support for each probe: (n_support, m) -> (n_probes, m)."""
        return self.rows @ (self.mask[:, None] * vector)

    def project_back(self, values: RealArray) -> RealArray:
        """Transpose of `apply_signs`: (n_probes, m) -> (n_support, m)."""
        return self.mask[:, None] * (self.rows.T @ values)

    def forward(self, unknowns: RealArray, out: RealArray) -> None:
        """Write the fields of these frames to `out`: (n_inputs + 1, m) -> (n_fixed, n_probes, 2, m)."""
        anchors = self.fixed @ unknowns[:-1] + unknowns[-1]
        changing = self.apply_signs(unknowns[self.support])
        np.add(anchors[:, None], changing, out=out[:, :, 0])
        np.subtract(anchors[:, None], changing, out=out[:, :, 1])

    def add_adjoint(self, fields: RealArray, unknowns: RealArray) -> None:
        """Add the transpose of `forward` to `unknowns`: (n_fixed, n_probes, 2, m) -> (n_inputs + 1, m)."""
        changing = (fields[:, :, 0] - fields[:, :, 1]).sum(axis=0)
        anchors = fields.sum(axis=(1, 2))
        unknowns[self.support] += self.project_back(changing)
        unknowns[:-1] += self.fixed.T @ anchors
        unknowns[-1] += anchors.sum(axis=0)


class SignDesign:
    """Patterns of a measurement, and the linear map from the unknowns of a row to its fields.

    Unknowns are real arrays of shape (n_inputs + 1, m): u of each input, then c. Each column is the real or the
    imaginary part of a row of the matrix.
    """

    groups: tuple[NDArray[np.intp], ...]
    """Inputs that change together: the supports of parts that leave inputs out, or all inputs."""
    frames: int
    """Number of frames."""

    def __init__(self, n_inputs: int, probes: tuple[Probes, ...]) -> None:
        self.n_inputs = n_inputs
        parts = {part.support.tobytes(): part.support for part in probes if len(part.support) < n_inputs}
        self.groups = tuple(parts.values()) or (np.arange(n_inputs),)
        self.probes = probes
        self.frames = sum(part.count for part in probes)
        self._prefixes: dict[int, SignDesign] = {}

    def prefix(self, frames: int) -> "SignDesign":
        """The design of as many first parts as have at least `frames` frames; itself if that takes all parts."""
        counts = np.cumsum([part.count for part in self.probes])
        parts = int(np.searchsorted(counts, frames)) + 1
        if parts >= len(self.probes):
            return self
        if parts not in self._prefixes:
            self._prefixes[parts] = SignDesign(self.n_inputs, self.probes[:parts])
        return self._prefixes[parts]

    def patterns(self, start: int, stop: int) -> BoolArray:
        """Which inputs are ON in frames `start` to `stop`: (stop - start, n_inputs)."""
        shown, first = [np.zeros((0, self.n_inputs), np.bool_)], 0
        for part in self.probes:
            index = np.arange(max(start, first), min(stop, first + part.count)) - first
            shown.append(part.signs(index) > 0)
            first += part.count
        return np.concatenate(shown)

    def parts(self, values: HostArray) -> Iterator[tuple[Probes, HostArray]]:
        """Yield each part with its share of a (frames, ...) array, as a view (n_fixed, n_probes, 2, ...)."""
        first = 0
        for part in self.probes:
            share = values[first : first + part.count]
            yield part, share.reshape(len(part.fixed), len(part.rows), 2, *values.shape[1:])
            first += part.count

    def forward(self, unknowns: RealArray) -> RealArray:
        """Fields in each frame: (n_inputs + 1, m) -> (frames, m)."""
        fields = np.empty((self.frames, unknowns.shape[1]), np.float32)
        for part, share in self.parts(fields):
            part.forward(unknowns, share)
        return fields

    def adjoint(self, fields: RealArray) -> RealArray:
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
            changing = (part.rows * part.mask).astype(np.float64)
            gram[np.ix_(part.support, part.support)] += 2.0 * len(part.fixed) * (changing.T @ changing)
            anchors = np.concatenate([part.fixed, np.ones_like(part.fixed[:, :1])], axis=1).astype(np.float64)
            gram += 2.0 * len(part.rows) * (anchors.T @ anchors)
        return gram / self.frames

    @cached_property
    @one_blas_thread
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues and vectors of `gram`."""
        return np.linalg.eigh(self.gram)

    @property
    def condition_number(self) -> float:
        """Largest over smallest singular value of the +-1 patterns with a column of ones for c."""
        values = self.spectrum[0]
        return float(np.sqrt(values[-1] / values[0])) if values[0] > 1e-9 * values[-1] else float("inf")

    @cached_property
    @one_blas_thread
    def inverse(self) -> RealArray:
        """Inverse of `gram`."""
        values, vectors = self.spectrum
        return (vectors / values @ vectors.T).astype(np.float32)


def draw_probes(
    support: NDArray[np.intp], fixed: RealArray, seed: int, number: int, max_probes: int | None = None
) -> Probes:
    """Rows of a Hadamard matrix on some inputs, in random order and with a random sign of each input.

    Parameters
    ----------
    support : ndarray of int
        Inputs that change.
    fixed : ndarray, shape (n_fixed, n_inputs)
        Patterns on the others.
    seed, number : int
        Seeds of the order and the signs.
    max_probes : int, optional
        Maximum number of probes; by default all rows of the matrix.
    """
    matrix = hadamard(len(support))
    tick = PatternSet.HADAMARD_ORDER + 2 * number
    order = np.argsort(draws.uniforms(seed, Stream.PROBES, np.arange(len(matrix)), tick))
    flips = draws.uniforms(seed, Stream.PROBES, np.arange(len(support)), tick + 1) < 0.5
    mask = np.where(flips, -1.0, 1.0).astype(np.float32)
    return Probes(np.ascontiguousarray(matrix[order[:max_probes], : len(support)]), support, mask, fixed)


def complement_probes(n_inputs: int, pairs: int, seed: int) -> list[Probes]:
    """Pairs of patterns and their complements on all inputs: Hadamard rows, with new signs in each round."""
    everything, none, order = np.arange(n_inputs), np.zeros((1, n_inputs), np.float32), len(hadamard(n_inputs))
    rounds = range(0, pairs, order)
    return [draw_probes(everything, none, seed, 4 + k, min(order, pairs - at)) for k, at in enumerate(rounds)]
