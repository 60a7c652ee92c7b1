"""Transmission matrix without a reference arm: groups of mirrors as anchors for the others.

After S. Gupta, R. Gribonval, L. Daudet and I. Dokmanic, "Don't take it lightly: phasing optical random projections
with unknown operators", NeurIPS 2019, arXiv:1907.01703, and "Fast optical system identification by numerical
interferometry", ICASSP 2020, arXiv:1911.01006: fields of anchors are located from intensities alone, then every other
field by its distances to them. What is new here: the anchors are half ON, as bright as the probes; they are located by
the same frames that measure the probes; and a last step climbs the likelihood of all frames.
"""

from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.base import Block, Gauge, RecoveryMethod, Shots
from calibration.recovery.designs.signs import Probes, SignDesign, hadamard, masked
from calibration.recovery.likelihood import check_light, pixels_of, recovered, refine, retry
from photonics.component import Field, component

__all__ = ["BINARY_GAUGE", "Half", "NumericalInterferometry", "anchored_design", "join", "locate"]

MIN_INPUTS = 8
BINARY_GAUGE = Gauge(
    "each row is known up to a phase and a complex conjugation; the rows' are independent of each other", False, False
)
"""What binary inputs without a reference leave open."""
Real = NDArray[np.floating[Any]]
"""float32 in fact."""
Complex = NDArray[np.complexfloating[Any, Any]]
"""complex64 in fact."""

LEAST_SHARE = 0.15
"""Least ratio of the two axes of the metric that `locate` accepts: below, noise decides, and it is bounded there."""


class Half(NamedTuple):
    """What `locate` finds for one half of the inputs, each row in a gauge of its own (phase and conjugation)."""

    probes: Probes
    entries: Complex
    """u of the half's inputs, (n_support, n_rows)."""
    anchors: Complex
    """Fields of the anchors, (n_anchors, n_rows)."""
    shadows: Real
    """``Re(conj(anchor) u)`` as measured, (n_anchors, n_support, n_rows)."""
    rank_ratio: Real
    """Second over first singular value of a row's anchors in the complex plane: 0 if they are collinear, (n_rows,)."""


@component
class NumericalInterferometry(RecoveryMethod):
    """Groups of mirrors as anchors for the others; then the most likely matrix given all frames.

    1. Half of the inputs swings through the rows of a Hadamard matrix, ``z_k``, while the other shows S patterns: their
       fields (with c) are the anchors ``a_s``. ``(I+ - I-)/4 = Re(conj(a_s) z_k)``, ``(I+ + I-)/2 = |a_s|^2 +
       |z_k|^2``: a matrix of rank 2 and its metric give both (`locate`). Then the halves change places, and the
       patterns that both know bring them into one gauge (`join`).
    2. What is left of the frames are patterns and their complements, all inputs swinging.
    3. The likelihood of all frames is climbed from there (`calibration.recovery.likelihood.refine`); rows whose
       residuals are beyond the noise start again from the other half.

    Frames of step 1 tell about a half of the inputs at a time, so they are worth half: S = 3 leaves more frames to
    step 2 and has a 10 % smaller error than S = 5 at 14 frames per input, but more rows that need a second start.

    What is left: each row is known up to a phase and a complex conjugation, as for every binary measurement without a
    reference; its scale is good to half of PRNU and of the laser's drift. Leakage of OFF mirrors is exact (part of c).
    Mirrors that do not move and drift of the medium are not modelled: they show in the `misfit`.
    """

    name: ClassVar[str] = "numerical-interferometry"

    n_in: int = Field(ge=MIN_INPUTS)
    """Inputs of the device."""
    n_inputs: int = Field(ge=MIN_INPUTS)
    """Inputs whose columns are recovered, the first ones; the others stay OFF."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    """Chooses masks and order of the probes."""
    anchors: int = Field(default=5, ge=3, le=64)
    """S, patterns that each half shows: with two the fields are collinear in many rows."""
    frames_per_input: float = Field(default=14.0, gt=0, le=10_000)
    """Frames of the measurement over `n_inputs`; 2 S (rounded up to the order of a Hadamard matrix) are the least."""

    def __post_init__(self) -> None:
        self.design  # noqa: B018 (raises if there are too few frames)

    @property
    def design(self) -> SignDesign:
        """The patterns."""
        frames = 2 * round(self.frames_per_input * self.n_inputs / 2.0)
        return anchored_design(self.n_inputs, min(self.anchors, most_anchors(self.n_inputs)), frames, self.seed)

    @property
    def frames(self) -> int:  # noqa: D102
        return self.design.frames

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return BINARY_GAUGE

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        return Shots(padded(self.design.patterns(start, stop), self.n_in))

    def prepare(self, raw: RawFrames, bench: Bench) -> None:
        """Refuse frames that are dark or saturated."""
        check_light(self.design, raw, bench)

    def solve(self, frames: NDArray[Any], rows: slice, bench: Bench, state: Any) -> Block:  # noqa: D102
        pixels = pixels_of(frames, bench)
        first, second = (locate(*part) for part in islice(self.design.parts(pixels.signal), 2))
        fit = refine(self.design, pixels, join(first, second))
        starts = [
            lambda bad: follow(pick(first, bad), pick(second, bad)),
            lambda bad: follow(pick(second, bad), pick(first, bad)),
            lambda bad: join(pick(first, bad), pick(second, bad), other_way=True),
        ]
        fit = retry(self.design, pixels, fit, starts)
        ratio = np.minimum(first.rank_ratio, second.rank_ratio)
        return recovered(self.design, fit, pixels, bench, rank_ratio=ratio)


def pick(half: Half, rows: NDArray[np.intp]) -> Half:
    """Some rows of a half."""
    return Half(
        half.probes,
        half.entries[:, rows],
        half.anchors[:, rows],
        half.shadows[:, :, rows],
        half.rank_ratio[rows],
    )


def padded(patterns: NDArray[np.bool_], n_in: int) -> NDArray[np.bool_]:
    """Patterns of the first inputs as those of the whole device, the others OFF."""
    return np.pad(patterns, ((0, 0), (0, n_in - patterns.shape[1])))


def most_anchors(n_inputs: int) -> int:
    """Anchors that the smaller half of the inputs has room for: the order of its Hadamard matrix."""
    return len(hadamard(n_inputs // 2))


@lru_cache(maxsize=8)
def anchored_design(n_inputs: int, anchors: int, frames: int, seed: int) -> SignDesign:
    """Each half of the inputs swings through Hadamard probes while the other shows anchors; the rest swings all.

    Raises
    ------
    ValueError
        If there are too few frames for the anchors and the probes.
    """
    first = np.arange((n_inputs + 1) // 2)
    second = np.arange(len(first), n_inputs)
    parts = []
    for number, (swing, still) in enumerate([(first, second), (second, first)]):
        # Rows of a Hadamard matrix, so that the anchors' fields are independent but for c.
        shown = masked(still, np.zeros((1, n_inputs), np.float32), seed, 2 + number, anchors)
        fixed = np.zeros((anchors, n_inputs), np.float32)
        fixed[:, still] = shown.rows * shown.mask
        parts.append(masked(swing, fixed, seed, number))
    left = (frames - sum(part.count for part in parts)) // 2
    if left < 0:
        raise ValueError(
            f"frames_per_input must be {(frames - 2 * left) / n_inputs:.4g} or more with {anchors} anchors, "
            f"got {frames / n_inputs:.4g}"
        )
    return SignDesign(n_inputs, (*parts, *whole_probes(n_inputs, left, seed)))


def whole_probes(n_inputs: int, pairs: int, seed: int) -> list[Probes]:
    """Pairs of patterns and their complements, all inputs swinging: Hadamard rows with a new mask in each round."""
    everything, none, order = np.arange(n_inputs), np.zeros((1, n_inputs), np.float32), len(hadamard(n_inputs))
    rounds = range(0, pairs, order)
    return [masked(everything, none, seed, 4 + k, min(order, pairs - at)) for k, at in enumerate(rounds)]


def locate(probes: Probes, signal: Real) -> Half:
    """Anchors and entries of one half from its frames, up to a phase and a conjugation of each row.

    With ``I+-`` the frames of an anchor's field a and a probe's swing z, ``(I+ - I-)/4 = Re(conj(a) z)`` for all
    anchors and probes is a real matrix of rank 2, the product of both in the plane, up to a linear map of the plane.
    The sums ``(I+ + I-)/2 = |a|^2 + |z|^2``, linear in the metric of that map, leave a rotation and a reflection: this
    is multidimensional scaling, the distances being those of a to z and to -z.

    Parameters
    ----------
    signal : ndarray, shape (n_anchors, n_probes, 2, n_rows)
        DN above dark.
    """
    order, rows = len(probes.rows), signal.shape[3]
    half = (signal[:, :, 0] - signal[:, :, 1]).transpose(1, 0, 2).reshape(order, -1) / np.float32(4 * order)
    shadows = (probes.mask[:, None] * (probes.rows.T @ half)).reshape(len(probes.mask), -1, rows).swapaxes(0, 1)
    gram = np.einsum("ajm,bjm->mab", shadows, shadows).astype(np.float64)
    plane = np.linalg.eigh(gram)[1][:, :, -2:]  # (m, n_anchors, 2)
    flat = np.einsum("ajm,mar->rjm", shadows, plane.astype(np.float32))
    # Round in the plane on average over the inputs, so that what is left for the metric is well conditioned.
    spread, axes = np.linalg.eigh(np.einsum("rjm,qjm->mrq", flat, flat).astype(np.float64) / flat.shape[1])
    root = np.sqrt(np.maximum(spread, 1e-12 * spread[:, 1:] + 1e-30))[:, None, :]
    turned = axes.swapaxes(1, 2)
    flat = np.einsum("mrq,qjm->rjm", ((axes / root) @ turned).astype(np.float32), flat)

    x, y = (probes.rows @ (probes.mask[:, None] * part) for part in flat)
    squares = np.stack([x * x, 2.0 * x * y, y * y, np.ones_like(x)]).astype(np.float64)  # (4, n_probes, m)
    sums = signal.mean(axis=(0, 2), dtype=np.float64)
    normal, right = np.einsum("pkm,qkm->mpq", squares, squares), np.einsum("pkm,km->mp", squares, sums)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4)
    found = np.linalg.solve(normal, right[..., None])[..., 0]
    length, ways = np.linalg.eigh(found[:, [0, 1, 1, 2]].reshape(rows, 2, 2))
    length = np.maximum(length, LEAST_SHARE * np.maximum(length[:, 1:], 1e-12))
    stretch = ways * np.sqrt(length)[:, None, :]
    entries = np.einsum("mrc,rjm->cjm", stretch.astype(np.float32), flat)
    back = plane @ (axes * root) @ turned @ np.linalg.inv(stretch).swapaxes(1, 2)  # (m, n_anchors, 2)
    scale = np.linalg.svd(back, compute_uv=False)
    anchors = (back[:, :, 0] + 1j * back[:, :, 1]).T
    ratio = (scale[:, 1] / scale[:, 0]).astype(np.float32)
    return Half(probes, as_complex(*entries), anchors.astype(np.complex64), shadows, ratio)


def as_complex(real: Real, imag: Real) -> Complex:
    """Complex from real and imaginary parts."""
    return (real + 1j * imag).astype(np.complex64)


def join(first: Half, second: Half, other_way: bool = False) -> Complex:
    """Both halves in the gauge of the first, and c: (n_inputs + 1, n_rows).

    The second's inputs, as anchors of the first, are known in both gauges: the phase and the reflection that match them
    best (Procrustes' problem in the plane) are applied; `other_way` takes the worse of turn and reflection.
    """
    here, there = centred(first.anchors), centred(second.anchors)
    moved, mine = centred(shift(first, second)), centred(shift(second, first))
    turn = (here * moved.conj()).sum(axis=0) + (mine * there.conj()).sum(axis=0)
    mirrored = (here * moved).sum(axis=0) + (mine * there).sum(axis=0)
    flip = (np.abs(mirrored) > np.abs(turn)) != other_way
    phase = np.where(flip, mirrored, turn)
    phase /= np.maximum(np.abs(phase), 1e-30)
    second = second._replace(**{
        name: np.where(flip, values.conj(), values) * phase
        for name, values in {"entries": second.entries, "anchors": second.anchors}.items()
    })  # fmt: skip
    middle = (first.anchors - shift(first, second)).mean(axis=0) + (second.anchors - shift(second, first)).mean(axis=0)
    return assembled(first, second.entries, second.probes, middle / 2.0)


def follow(lead: Half, other: Half) -> Complex:
    """The other half from the leading one alone: its anchors are known, the rest is linear; (n_inputs + 1, n_rows).

    It serves where the anchors of the other half are so nearly collinear that `locate` could not find its metric.
    """
    known = shift(other, lead)
    entries = multilaterate(centred(known), other.shadows - other.shadows.mean(axis=0))
    for _ in range(2):
        middle = (lead.anchors - lead.probes.fixed[:, other.probes.support] @ entries).mean(axis=0)
        entries = multilaterate(known + middle, other.shadows)
    middle = (lead.anchors - lead.probes.fixed[:, other.probes.support] @ entries).mean(axis=0)
    return assembled(lead, entries, other.probes, middle)


def shift(half: Half, other: Half) -> Complex:
    """Anchors of a half, less c, by the entries of the other half: (n_anchors, n_rows)."""
    return half.probes.fixed[:, other.probes.support] @ other.entries


def centred(values: Complex) -> Complex:
    """Values less their mean over the first axis."""
    return values - values.mean(axis=0)


def multilaterate(anchors: Complex, shadows: Real) -> Complex:
    """Least-squares u of ``Re(conj(a) u) = shadow``: one 2 x 2 system for each row; (n_support, n_rows)."""
    xx, yy = (anchors.real**2).sum(axis=0), (anchors.imag**2).sum(axis=0)
    xy = (anchors.real * anchors.imag).sum(axis=0)
    determinant = np.maximum(xx * yy - xy * xy, 1e-4 * (xx + yy) ** 2)
    x, y = np.einsum("am,ajm->jm", anchors.real, shadows), np.einsum("am,ajm->jm", anchors.imag, shadows)
    return as_complex((yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant)


def assembled(half: Half, others: Complex, probes: Probes, middle: Complex) -> Complex:
    """Unknowns of the whole design from those of two halves."""
    unknowns = np.empty((half.probes.fixed.shape[1] + 1, len(middle)), np.complex64)
    unknowns[half.probes.support], unknowns[probes.support], unknowns[-1] = half.entries, others, middle
    return unknowns
