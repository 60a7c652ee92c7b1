"""Designs of +-1 patterns for measurements without a reference: Hadamard probes with random masks, and anchors.

With ``s_j = +-1`` for an input that is ON or OFF, ``u_j = (t_on - t_off)_j / 2`` and c the mean of the fields of all ON
and all OFF, a pixel's field is ``y = c + sum_j s_j u_j``. This also holds for mirrors that leak: the leaked light is
part of c. Let z be the part of a field that belongs to some of the inputs, and a the rest. With the signs of these
inputs reversed, the field is ``a - z`` instead of ``a + z``, and the two intensities differ by ``4 Re(conj(a) z)``,
which is linear in z: the inputs that keep their signs serve as an anchor for those that change.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import located
from calibration.recovery.designs.hadamard import hadamard, hadamard_factors
from photonics import draws
from photonics.arrays import Array, BoolArray, RealArray, Shapes
from photonics.backend import HOST, Backend, backend_of, to_host
from photonics.random import PatternSet, Stream
from photonics.threads import one_blas_thread

__all__ = ["Probes", "SignDesign", "complement_probes", "draw_probes"]


class Kronecker(NamedTuple):
    """Rows of a Hadamard matrix that is a Kronecker product of two, which multiply faster one after the other."""

    doublings: Array
    """Outer factor, (d, d), symmetric."""
    core: Array
    """Inner factor, (c, c)."""
    order: Array
    """Numbers of the rows, (n_probes,)."""
    place: Array
    """Probe of each row of the whole matrix, (d c,); n_probes if it is not shown."""

    def apply(self, vector: Array) -> Array:
        """Product with values of the first inputs: (n_support, m) -> (n_probes, m)."""
        xp, size = backend_of(vector).xp, self.doublings.shape[0] * self.core.shape[0]
        if vector.shape[0] < size:
            vector = xp.concat([vector, xp.zeros_like(vector[: size - vector.shape[0], :])])
        parts = self.core @ xp.reshape(vector, (self.doublings.shape[0], self.core.shape[0], -1))
        whole = self.doublings @ xp.reshape(parts, (self.doublings.shape[0], -1))
        return xp.take(xp.reshape(whole, (size, -1)), self.order, axis=0)

    def apply_transposed(self, values: Array, count: int) -> Array:
        """Transpose of `apply`, of which the first `count` rows are wanted: (n_probes, m) -> (count, m)."""
        xp, size = backend_of(values).xp, self.doublings.shape[0] * self.core.shape[0]
        if values.shape[0] < size:
            values = xp.concat([values, xp.zeros_like(values[:1, :])])
        parts = xp.reshape(xp.take(values, self.place, axis=0), (self.doublings.shape[0], -1))
        whole = xp.reshape(self.doublings @ parts, (self.doublings.shape[0], self.core.shape[0], -1))
        return xp.reshape(self.core.T @ whole, (size, -1))[:count, :]


def factor(order: NDArray[np.intp], least: int) -> Kronecker | None:
    """Return the factors of the rows `order` of ``hadamard(least)``, or None if these rows alone take less work."""
    doublings, core = hadamard_factors(least)
    if len(order) <= len(core):
        return None
    place = np.full(len(doublings) * len(core), len(order))
    place[order] = np.arange(len(order))
    return Kronecker(doublings, core, order, place)


@dataclass(frozen=True, eq=False, repr=False)
class Probes(Shapes):
    """Frames of ``s = fixed_a +- mask * hadamard_k``: for each a and each k, first with + and then with -."""

    rows: Array
    """+-1, (n_probes, n_support): rows of a Hadamard matrix, cut to the support."""
    support: NDArray[np.intp]
    """Inputs that change, (n_support,), one after the other; on the host."""
    mask: Array
    """Which of these inputs are inverted, +-1: (n_support,)."""
    fixed: Array
    """Patterns on the other inputs, +-1, with 0 on the support: (n_fixed, n_inputs)."""
    factors: Kronecker | None = None
    """Factors of `rows`, if these are faster."""

    @property
    def count(self) -> int:
        """Number of frames."""
        return 2 * self.fixed.shape[0] * self.rows.shape[0]

    @property
    def inputs(self) -> slice:
        """The support as a slice."""
        return slice(int(self.support[0]), int(self.support[-1]) + 1)

    @cached_property
    def round(self) -> bytes:
        """Key shared by all parts that use the rows of one Hadamard matrix: support and mask."""
        return self.support.tobytes() + to_host(self.mask).tobytes()

    def on(self, backend: Backend) -> Self:
        """Return the probes with arrays on a backend."""
        arrays = {name: backend.asarray(getattr(self, name)) for name in ("rows", "mask", "fixed")}
        return replace(self, **arrays, factors=located(self.factors, backend))

    def signs(self, index: NDArray[np.intp]) -> RealArray:
        """Signs of the frames with these numbers, +-1, on the host: (len(index), n_inputs)."""
        a, rest = np.divmod(index, 2 * len(self.rows))
        k, side = np.divmod(rest, 2)
        signs = self.fixed[a]
        signs[:, self.support] = self.rows[k] * self.mask * (1.0 - 2.0 * side[:, None])
        return signs

    def apply_signs(self, vector: Array) -> Array:
        """``sum_j s_kj v_j`` over the support for each probe: (n_support, m) -> (n_probes, m)."""
        signed = self.mask[:, None] * vector
        return self.rows @ signed if self.factors is None else self.factors.apply(signed)

    def project_back(self, values: Array) -> Array:
        """Transpose of `apply_signs`: (n_probes, m) -> (n_support, m)."""
        if self.factors is None:
            return self.mask[:, None] * (self.rows.T @ values)
        return self.mask[:, None] * self.factors.apply_transposed(values, len(self.support))

    def forward(self, unknowns: Array, out: Array) -> None:
        """Write the fields of these frames to `out`: (n_inputs + 1, m) -> (n_fixed, n_probes, 2, m)."""
        anchors = (self.fixed @ unknowns[:-1, :] + unknowns[-1, :])[:, None, :]
        changing = self.apply_signs(unknowns[self.inputs, :])
        out[:, :, 0, :] = anchors + changing
        out[:, :, 1, :] = anchors - changing

    def add_adjoint(self, fields: Array, unknowns: Array) -> None:
        """Add the transpose of `forward` to `unknowns`: (n_fixed, n_probes, 2, m) -> (n_inputs + 1, m)."""
        xp = backend_of(fields).xp
        changing = xp.sum(fields[:, :, 0, :] - fields[:, :, 1, :], axis=0)
        anchors = xp.sum(fields, axis=(1, 2))
        unknowns[self.inputs, :] += self.project_back(changing)
        unknowns[:-1, :] += self.fixed.T @ anchors
        unknowns[-1, :] += xp.sum(anchors, axis=0)


class SignDesign:
    """Patterns of a measurement, and the linear map from the unknowns of a row to its fields.

    Unknowns are real arrays of shape (n_inputs + 1, m): u of each input, then c. Each column is the real or the
    imaginary part of a row of the matrix.
    """

    groups: tuple[NDArray[np.intp], ...]
    """Inputs that change together: the supports of parts that leave inputs out, or all inputs."""
    frames: int
    """Number of frames."""

    def __init__(
        self,
        n_inputs: int,
        probes: tuple[Probes, ...],
        backend: Backend = HOST,
        origin: "SignDesign | None" = None,
    ) -> None:
        self.n_inputs, self.backend, self._origin = n_inputs, backend, origin
        parts = {part.support.tobytes(): part.support for part in probes if len(part.support) < n_inputs}
        self.groups = tuple(parts.values()) or (np.arange(n_inputs),)
        self.probes = probes
        self.frames = sum(part.count for part in probes)
        self._prefixes: dict[int, SignDesign] = {}
        self._copies: dict[Backend, SignDesign] = {}

    def on(self, backend: Backend) -> "SignDesign":
        """Return the same design with arrays on a backend; they are copied once."""
        if backend == self.backend:
            return self
        if backend not in self._copies:
            probes = tuple(part.on(backend) for part in self.probes)
            self._copies[backend] = SignDesign(self.n_inputs, probes, backend, self)
        return self._copies[backend]

    def prefix(self, frames: int) -> "SignDesign":
        """The design of as many first parts as have at least `frames` frames; itself if that takes all parts."""
        counts = np.cumsum([part.count for part in self.probes])
        parts = int(np.searchsorted(counts, frames)) + 1
        if parts >= len(self.probes):
            return self
        if parts not in self._prefixes:
            origin = None if self._origin is None else self._origin.prefix(frames)
            self._prefixes[parts] = SignDesign(self.n_inputs, self.probes[:parts], self.backend, origin)
        return self._prefixes[parts]

    def patterns(self, start: int, stop: int) -> BoolArray:
        """Which inputs are ON in frames `start` to `stop`: (stop - start, n_inputs)."""
        shown, first = [np.zeros((0, self.n_inputs), np.bool_)], 0
        for part in self.probes:
            index = np.arange(max(start, first), min(stop, first + part.count)) - first
            shown.append(part.signs(index) > 0)
            first += part.count
        return np.concatenate(shown)

    def parts(self, values: Array) -> Iterator[tuple[Probes, Array]]:
        """Yield each part with its share of a (frames, m) array, as a view (n_fixed, n_probes, 2, m)."""
        first, xp = 0, self.backend.xp
        for part in self.probes:
            share = values[first : first + part.count, :]
            yield part, xp.reshape(share, (part.fixed.shape[0], part.rows.shape[0], 2, values.shape[1]))
            first += part.count

    def forward(self, unknowns: Array) -> Array:
        """Fields in each frame: (n_inputs + 1, m) -> (frames, m)."""
        fields = self.backend.empty((self.frames, unknowns.shape[1]), "float32")
        for part, share in self.parts(fields):
            part.forward(unknowns, share)
        return fields

    def adjoint(self, fields: Array) -> Array:
        """Transpose of `forward`: (frames, m) -> (n_inputs + 1, m)."""
        unknowns = self.backend.zeros((self.n_inputs + 1, fields.shape[1]), "float32")
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
    def inverse(self) -> Array:
        """Inverse of `gram`, float32."""
        if self._origin is not None:
            return self.backend.asarray(self._origin.inverse)
        values, vectors = self.spectrum
        return (vectors / values @ vectors.T).astype(np.float32)

    @cached_property
    @one_blas_thread
    def inverse_without_background(self) -> Array:
        """Inverse of `gram` without its last row and column, float32."""
        if self._origin is not None:
            return self.backend.asarray(self._origin.inverse_without_background)
        return np.linalg.inv(self.gram[:-1, :-1]).astype(np.float32)


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
    order = order[:max_probes]
    rows = np.ascontiguousarray(matrix[order, : len(support)])
    return Probes(rows, support, mask, fixed, factor(order, len(support)))


def complement_probes(n_inputs: int, pairs: int, seed: int) -> list[Probes]:
    """Pairs of patterns and their complements on all inputs: Hadamard rows, with new signs in each round."""
    everything, none, order = np.arange(n_inputs), np.zeros((1, n_inputs), np.float32), len(hadamard(n_inputs))
    rounds = range(0, pairs, order)
    return [draw_probes(everything, none, seed, 4 + k, min(order, pairs - at)) for k, at in enumerate(rounds)]
