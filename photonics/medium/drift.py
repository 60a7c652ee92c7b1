"""A medium that changes in time: a stationary process of transmission matrices, known at any frame number."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from photonics.backend import backend_of
from photonics.component import number
from photonics.draws import MAX_TICK
from photonics.medium.base import ScatteringMedium, check_field
from photonics.medium.effects import COPY, Ballistic, Effect, derived_seed, related_seed
from photonics.medium.mixture import Mixture
from photonics.medium.stored import StoredMedium
from photonics.random import check_seed

__all__ = ["Drifting"]

LEVEL = 2**52
"""The parts are named by integers, ``level * LEVEL + position``; part 0 is the wrapped medium itself."""
ROOTS = 8.0
"""Correlation times from one independent matrix to the next, exponential law: what should be exp(-8) there is 0."""
STEPS = {"exponential": 256, "gaussian": 16}
"""Knots in a correlation time."""
REACH = 4
"""Knots of noise on each side of a frame that the Gaussian law averages, half a correlation time apart."""
NEGLIGIBLE = 2.0**-40
KNOTS, PARTS = 4, 16
"""Media kept at most: those with a matrix, those without."""
WORTH = 4.0
"""Frames from knot to knot from which on it is worth while to make the matrix at a knot."""

Weights = NDArray[np.floating]
Names = NDArray[np.int64]


class Drifting(Effect):
    """A medium whose transmission matrix drifts: the speckle decorrelates while its statistics stay.

    ``T(t) = sum_k c_k(t) T_k``, where T_0 is the medium itself, T_k are fresh ones of the same statistics, and the
    coefficients are real and fixed, with ``sum c_k^2 = 1`` (so ``E|t_ij|^2`` is constant) and
    ``c(t) . c(t') = rho(t - t')``. The correlation of the field is ``rho``, that of its intensity ``rho^2``; T(0) is
    the medium itself. Any frame can be asked for in any order.

    Parameters
    ----------
    medium : ScatteringMedium
        The medium in frame 0. Light that goes straight through does not drift: `Ballistic` goes outside.
    correlation_frames : float
        tau, the time constant of the *field* in frames: ``correlation_time_s / frame_period_s``, as a medium does not
        know the clock. Over 0. It belongs to a sample and its mount: milliseconds for living tissue, hours for dry
        paint.
    law : {"exponential", "gaussian"}
        ``rho(t) = exp(-t / tau)``, scatterers that wander (diffusing-wave spectroscopy), or ``exp(-(t / tau)^2)``,
        smooth in time, as in creep and thermal expansion. The intensity's time constants are tau / 2 and
        tau / sqrt(2).
    seed : int
        Which drift it is, 0 to 2**64 - 1.

    Raises
    ------
    ValueError
        If a parameter is out of range or the medium holds a ballistic share.

    Notes
    -----
    Within an exposure the medium stands still: tau should be many frames. Speckle that changes during an exposure would
    lose contrast, which is not modelled.

    The coefficients are known at knots tau / 256 (tau / 16) apart, or at every frame if that is less, and interpolated
    linearly in between, divided by the norm. Exponential: an Ornstein-Uhlenbeck bridge, each middle from its exact
    conditional law, between independent matrices 8 tau apart. Gaussian: a moving average of noise at knots tau / 2
    apart, under a Gaussian window that ends at 2 tau, turned by a Householder reflection so that T(0) is a single
    matrix. Largest error of the correlation, over all pairs of frames up to 2**40 (a year at 35 kHz; then times round):
    0.002 (exponential), 0.001 (Gaussian).

    A frame costs up to 13 products of the medium inside (Gaussian: 9, and 14 within 4 tau of frame 0). If that holds
    its matrix and knots are 4 frames apart or more, T itself is made at the knots and a frame costs 2 products (the two
    ways agree to rounding). Up to 4 matrices are kept, or 16 parts that are none.

    References
    ----------
    D. J. Pine et al., Phys. Rev. Lett. 60, 1134 (1988): field correlation of multiply scattered light. G. E. Uhlenbeck
    and L. S. Ornstein, Phys. Rev. 36, 823 (1930).
    """

    parameters = ("correlation_frames", "law", "seed")

    def __init__(
        self,
        medium: ScatteringMedium,
        correlation_frames: float,
        law: Literal["exponential", "gaussian"] = "exponential",
        seed: int = 0,
    ) -> None:
        super().__init__(medium)
        if not 0 < number(correlation_frames) < np.inf:
            raise ValueError(f"correlation_frames must be over 0, got {correlation_frames!r}")
        if law not in LAWS:
            raise ValueError(f"law must be one of {sorted(LAWS)}, got {law!r}")
        if holds_ballistic(medium):
            raise ValueError("medium must not hold a ballistic share (put Drifting inside Ballistic), got one")
        self.correlation_frames = float(correlation_frames)
        self.law: Literal["exponential", "gaussian"] = law
        self.seed = check_seed(seed)
        self._step = max(self.correlation_frames / STEPS[law], 1.0)
        self._by_matrix = holds_matrix(medium) and self._step >= WORTH
        self._most = KNOTS if holds_matrix(medium) else PARTS
        self._kept: OrderedDict[int, ScatteringMedium] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": OrderedDict()}

    def correlation(self, lag: Any) -> Weights:
        """Correlation of the field over a lag in frames, rho; the intensity's is its square."""
        ratio = np.abs(np.asarray(lag, np.float64)) / self.correlation_frames
        return np.exp(-ratio if self.law == "exponential" else -(ratio**2))

    def coefficients(self, ticks: NDArray[np.int64]) -> tuple[Names, Weights]:
        """Media that T is made of in each frame, and how much of each.

        Parameters
        ----------
        ticks : ndarray of int64, shape (batch,)
            Frame numbers.

        Returns
        -------
        names, weights : ndarrays, shape (batch, terms)
            A name stands for the same medium in all frames; 0 is the wrapped one. Squares of a row sum to 1.
        """
        names, left, right, place = self._cell(ticks)
        return names, unit((1.0 - place) * left + place * right)

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self._apply("propagate", field, ticks, *self.shape)

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self._apply("adjoint", field, ticks, *self.shape[::-1])

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        blocks = (
            weight[0] * medium.block(rows, cols, tick) for medium, _, weight in self._terms(check_ticks([tick], 1))
        )
        return sum(blocks, np.zeros((), np.complex64))

    def fresh(self, seed: int) -> "Drifting":  # noqa: D102 (inherited)
        # Other words for the drift than for the medium: else a drift of drifts would share its media.
        inner = self.medium.fresh(derived_seed(seed, COPY))
        return Drifting(inner, self.correlation_frames, self.law, derived_seed(seed, COPY, 1))

    def _apply(self, way: str, field: Any, ticks: Any, n_to: int, n_from: int) -> Any:
        field = check_field(field, n_from)
        backend = backend_of(field)
        ticks = check_ticks(ticks, field.shape[0])
        order = np.argsort(ticks, kind="stable")
        ordered = bool(np.all(order[1:] > order[:-1]))
        if not ordered:  # in order of time, the frames that share a medium are neighbours
            ticks, field = ticks[order], backend.xp.take(field, backend.asarray(order), axis=0)
        out = backend.zeros((field.shape[0], n_to), "complex64")
        for medium, frames, weight in self._terms(ticks):
            share = getattr(medium, way)(field[frames, :], ticks[frames])
            out[frames, :] += share * backend.asarray(weight[:, None])
        return out if ordered else backend.xp.take(out, backend.asarray(np.argsort(order)), axis=0)

    def _terms(self, ticks: NDArray[np.int64]) -> Iterator[tuple[ScatteringMedium, slice, NDArray[np.float32]]]:
        """Media to add up, each with the frames that use it and its weight there, always in the same order."""
        if self._by_matrix:
            names, weights, find = *self._knots(ticks), self._knot
        else:
            names, weights, find = *self.coefficients(ticks), self._part
        for name, frames, weight in runs(names, weights):
            yield find(name), frames, weight

    def _cell(self, ticks: NDArray[np.int64]) -> tuple[Names, Weights, Weights, Weights]:
        """Names, weights at the knots before and after each frame, and its place between them, 0 to 1: (batch, 1)."""
        knot = np.floor(ticks / self._step).astype(np.int64)
        place = ticks / self._step - knot
        return *LAWS[self.law](knot, self.correlation_frames, self._step), place[:, None]

    def _knots(self, ticks: NDArray[np.int64]) -> tuple[Names, Weights]:
        """Knots around each frame and their weights, (batch, 2)."""
        _, left, right, place = self._cell(ticks)
        norm = np.linalg.norm((1.0 - place) * left + place * right, axis=1, keepdims=True)
        knot = np.floor(ticks / self._step).astype(np.int64)
        return knot[:, None] + np.arange(2), np.concatenate([1.0 - place, place], axis=1) / norm

    def _knot(self, knot: int) -> ScatteringMedium:
        """The medium at a knot, its matrix added up once."""
        if knot == 0:
            return self.medium
        names, weights, _ = LAWS[self.law](np.asarray([knot]), self.correlation_frames, self._step)
        terms = [(weight[0], name) for name, _, weight in runs(names, unit(weights))]
        return self._keep(knot, lambda: Mixture(self.shape, partial(parts, self.medium, self.seed, terms)))

    def _part(self, name: int) -> ScatteringMedium:
        return self._keep(name, lambda: part(self.medium, self.seed, name))

    def _keep(self, name: int, make: Callable[[], ScatteringMedium]) -> ScatteringMedium:
        """Return the medium of that name from those kept, or make it and forget the one longest unused."""
        made = self._kept.pop(name, None) or make()
        self._kept[name] = made
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made


def part(medium: ScatteringMedium, seed: int, name: int) -> ScatteringMedium:
    """The medium of that name among those that a drifting one is made of."""
    return medium.fresh(related_seed(medium, seed, *divmod(name, LEVEL))) if name else medium


def parts(medium: ScatteringMedium, seed: int, terms: list[tuple[np.float32, int]]) -> Iterator[tuple[np.float32, Any]]:
    """Weights and media of a sum, one at a time: their matrices are not all in memory at once."""
    for weight, name in terms:
        yield weight, part(medium, seed, name)


def holds_matrix(medium: ScatteringMedium) -> bool:
    """Whether the medium keeps its matrix in memory, so that sums of such matrices may be kept as well."""
    return isinstance(medium, StoredMedium) and not getattr(medium, "streamed", False)


def holds_ballistic(medium: ScatteringMedium) -> bool:
    """Whether there is unscattered light, common to all fresh copies of the medium."""
    return isinstance(medium, Ballistic) or (isinstance(medium, Effect) and holds_ballistic(medium.medium))


def check_ticks(ticks: Any, batch: int) -> NDArray[np.int64]:
    """Frame numbers as int64 of shape (batch,), 0 if not given, or say what is wrong."""
    if ticks is None:
        return np.zeros(batch, np.int64)
    array = np.asarray(ticks)
    if array.shape != (batch,) or (batch and array.dtype.kind not in "iu"):
        raise ValueError(f"ticks must be integers of shape ({batch},), got {array.dtype} of shape {array.shape}")
    if batch and not (array.min() >= 0 and array.max() < MAX_TICK):
        raise ValueError(f"ticks must be from 0 to 2**48 - 1, got {array.min()} to {array.max()}")
    return array.astype(np.int64)


def unit(weights: Weights) -> Weights:
    """Rows of squares that sum to 1, without what rounding left of zeros."""
    weights = np.where(np.abs(weights) < NEGLIGIBLE, 0.0, weights)
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def runs(names: Names, weights: Weights) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
    """Each name in ascending order, the frames from its first to its last use, and its weight in them."""
    frame, term = np.nonzero(weights)
    name, weight = names[frame, term], weights[frame, term]
    order = np.argsort(name, kind="stable")
    name, frame, weight = name[order], frame[order], weight[order]
    first = np.flatnonzero(np.diff(name, prepend=-1))
    for start, stop in pairwise([*first, len(name)]):
        frames = slice(int(frame[start]), int(frame[stop - 1]) + 1)
        dense = np.zeros(frames.stop - frames.start, np.float32)
        dense[frame[start:stop] - frames.start] = weight[start:stop]
        yield int(name[start]), frames, dense


def exponential(knot: Names, tau: float, step: float) -> tuple[Names, Weights, Weights]:
    """Ornstein-Uhlenbeck bridge: names and weights at each knot and at the next, (n, terms).

    A middle has correlation ``a = exp(-h / tau)`` with both ends, at distance h, which have q with each other: its law
    given them is ``(left + right) a / (1 + q)`` with variance ``1 - 2 a^2 / (1 + q)``. The process is Markov, so this
    gives the exact correlation between all knots, but for that of the roots (q = 0 in place of exp(-8)).
    """
    levels = max(math.ceil(math.log2(ROOTS * tau / step)), 0)
    names = np.empty((knot.size, levels + 2), np.int64)
    left, right = np.zeros(names.shape), np.zeros(names.shape)
    left[:, 0] = right[:, 1] = 1.0
    names[:, 0], names[:, 1] = knot >> levels, (knot >> levels) + 1
    start, q = knot >> levels << levels, 0.0
    for level in range(1, levels + 1):
        half = 1 << (levels - level)
        a, middle_at = math.exp(-half * step / tau), start + half
        middle = (left + right) * (a / (1.0 + q))
        middle[:, 1 + level] = math.sqrt(1.0 - 2.0 * a * a / (1.0 + q))
        names[:, 1 + level] = level * LEVEL + middle_at
        after = knot >= middle_at
        left, right = np.where(after[:, None], middle, left), np.where(after[:, None], right, middle)
        start, q = np.where(after, middle_at, start), a
    return names, left, right


def gaussian(knot: Names, tau: float, step: float) -> tuple[Names, Weights, Weights]:
    """Moving average of noise at multiples of tau / 2: names and weights at each knot and at the next, (n, terms).

    The window ``exp(-2 (t / tau)^2)`` has the autocorrelation ``exp(-(t / tau)^2)``; taken at tau / 2, its sum differs
    from the integral by 1e-4, and lowered to end at 2 tau (so that no term appears suddenly) by 4e-4. The noise knots
    around frame 0 are turned by the reflection that takes the weights of frame 0 to a single one.
    """
    spacing = max(tau, 0.25) / 2.0  # below a quarter of a frame, all frames are independent (exp(-16))
    near = np.arange(1 - REACH, REACH)  # noise knots of frame 0
    mirror = window(near.astype(np.float64))
    mirror /= np.linalg.norm(mirror)
    mirror[near == 0] -= 1.0
    noise = np.floor(knot * (step / spacing)).astype(np.int64)[:, None] + np.arange(1 - REACH, REACH + 2)
    turned = np.abs(noise) < REACH

    def weights(times: Weights) -> Weights:
        raw = window(noise - times[:, None] / spacing)
        fixed = np.where(noise[:, :, None] == near, raw[:, :, None], 0.0).sum(axis=1)
        fixed -= np.outer(fixed @ mirror, 2.0 * mirror / (mirror @ mirror))
        # Far from its knots a step of one frame may leave them: such a next knot is never used, and need not be unit.
        every = np.concatenate([np.where(turned, 0.0, raw), fixed], axis=1)
        return every / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), NEGLIGIBLE)

    names = np.concatenate([noise, np.broadcast_to(near, (knot.size, near.size))], axis=1)
    names = np.where(names < 0, LEVEL - names, names)
    return names, weights(knot * step), weights((knot + 1) * step)


def window(knots: Weights) -> Weights:
    """Gaussian of width tau at distances in units of tau / 2, lowered so that it reaches zero at `REACH`."""
    return np.maximum(np.exp(-0.5 * knots**2) - math.exp(-0.5 * REACH**2), 0.0)


LAWS = {"exponential": exponential, "gaussian": gaussian}
