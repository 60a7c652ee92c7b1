"""Transmission matrix without a reference arm: groups of mirrors serve as anchors for the others.

After S. Gupta, R. Gribonval, L. Daudet and I. Dokmanic, "Don't take it lightly: phasing optical random projections with
unknown operators", NeurIPS 2019, arXiv:1907.01703, and "Fast optical system identification by numerical
interferometry", ICASSP 2020, arXiv:1911.01006: fields of anchors are located from intensities alone, then every other
field by its distances to them. New here: the anchors are half ON, as bright as the probes; the frames that measure the
probes also locate the anchors; and the last step maximises the likelihood of all frames.
"""

from functools import lru_cache
from itertools import islice
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fields.readings import Bench
from calibration.recovery.base import Block
from calibration.recovery.designs.hadamard import hadamard
from calibration.recovery.designs.signs import Probes, SignDesign, complement_probes, draw_probes
from calibration.recovery.likelihood import read_pixels, refine, retry
from calibration.recovery.no_reference import NoReferenceMethod, build_block
from photonics.arrays import ComplexArray, HostArray, RealArray
from photonics.component import Field, Seed, component

__all__ = ["Half", "NumericalInterferometry", "anchored_design", "join", "locate"]

MIN_INPUTS = 8
MIN_AXIS_RATIO = 0.15
"""Lower bound of `locate` for the ratio of the two axes of the metric: smaller ratios are dominated by noise."""


class Half(NamedTuple):
    """Result of `locate` for one half of the inputs; each row has its own gauge (phase and conjugation)."""

    probes: Probes
    entries: ComplexArray
    """u of the half's inputs, (n_support, n_rows)."""
    anchors: ComplexArray
    """Fields of the anchors, (n_anchors, n_rows)."""
    products: RealArray
    """``Re(conj(anchor) u)`` as measured, (n_anchors, n_support, n_rows)."""
    rank_ratio: RealArray
    """Second over first singular value of a row's anchors in the complex plane: 0 if they are collinear, (n_rows,)."""


@component
class NumericalInterferometry(NoReferenceMethod):
    """Groups of mirrors serve as anchors for the others; the result is the most likely matrix given all frames.

    1. One half of the inputs shows the rows of a Hadamard matrix, with fields ``z_k``, while the other half shows S
       patterns, whose fields (with c) are the anchors ``a_s``. ``(I+ - I-)/4 = Re(conj(a_s) z_k)`` is a matrix of rank
       2, and ``(I+ + I-)/2 = |a_s|^2 + |z_k|^2`` gives its metric; both together give all fields (`locate`). Then the
       halves are swapped, and the patterns common to both results bring them into one gauge (`join`).
    2. The remaining frames are patterns and their complements, in which all inputs change.
    3. The likelihood of all frames is maximised from there (`calibration.recovery.likelihood.refine`). Rows whose
       residuals exceed the noise are fitted again, starting from the other half.

    A frame of step 1 carries information on one half of the inputs, so it is worth half of a frame of step 2. At 14
    frames per input, S = 3 leaves more frames to step 2 and has a 10 % smaller error than S = 5, but more rows need a
    second start.

    Each row is known up to a phase and a complex conjugation, as in every binary measurement without a reference. The
    relative error of its scale is half of PRNU and half of the laser's drift. Leakage of OFF mirrors is modelled
    exactly (as part of c). Stuck mirrors and drift of the medium are not modelled: they increase the `misfit`.
    """

    name: ClassVar[str] = "numerical-interferometry"

    n_in: int = Field(ge=MIN_INPUTS)
    """Inputs of the device."""
    n_inputs: int = Field(ge=MIN_INPUTS)
    """Inputs whose columns are recovered, the first ones; the others stay OFF."""
    seed: Seed = 0
    """Seed of the signs and the order of the probes."""
    anchors: int = Field(default=5, ge=3, le=64)
    """Number S of anchor patterns in each half; with only two, their fields are collinear in many rows."""
    frames_per_input: float = Field(default=14.0, gt=0, le=10_000)
    """Frames of the measurement over `n_inputs`; at least 2 S (more where the order of the Hadamard matrix exceeds the
    number of inputs)."""

    def __post_init__(self) -> None:
        self.design  # noqa: B018 (raises if there are too few frames)

    @property
    def design(self) -> SignDesign:
        """The patterns."""
        frames = 2 * round(self.frames_per_input * self.n_inputs / 2.0)
        anchors = min(self.anchors, max_anchors(self.n_inputs))
        return anchored_design(self.n_inputs, anchors, frames, self.seed)

    def solve(self, frames: HostArray, rows: slice, bench: Bench, state: None) -> Block:  # noqa: D102
        pixels = read_pixels(frames, bench)
        first, second = (locate(*part) for part in islice(self.design.parts(pixels.signal), 2))
        fit = refine(self.design, pixels, join(first, second))
        starts = [
            lambda bad: locate_other(select_rows(first, bad), select_rows(second, bad)),
            lambda bad: locate_other(select_rows(second, bad), select_rows(first, bad)),
            lambda bad: join(select_rows(first, bad), select_rows(second, bad), other_way=True),
        ]
        fit = retry(self.design, pixels, fit, starts)
        ratio = np.minimum(first.rank_ratio, second.rank_ratio)
        return build_block(self.design, fit, pixels, bench, rank_ratio=ratio)


def select_rows(half: Half, rows: NDArray[np.intp]) -> Half:
    """Return some rows of a half."""
    return Half(
        half.probes,
        half.entries[:, rows],
        half.anchors[:, rows],
        half.products[:, :, rows],
        half.rank_ratio[rows],
    )


def max_anchors(n_inputs: int) -> int:
    """Maximum number of anchors: the order of the Hadamard matrix of the smaller half of the inputs."""
    return len(hadamard(n_inputs // 2))


@lru_cache(maxsize=8)
def anchored_design(n_inputs: int, anchors: int, frames: int, seed: int) -> SignDesign:
    """Each half of the inputs shows Hadamard probes while the other shows anchors; then all inputs change.

    Raises
    ------
    ValueError
        If there are too few frames for the anchors and the probes.
    """
    first = np.arange((n_inputs + 1) // 2)
    second = np.arange(len(first), n_inputs)
    parts = []
    for number, (changing, fixed_inputs) in enumerate([(first, second), (second, first)]):
        # Rows of a Hadamard matrix, so that the anchors' fields minus c are independent.
        shown = draw_probes(fixed_inputs, np.zeros((1, n_inputs), np.float32), seed, 2 + number, anchors)
        fixed = np.zeros((anchors, n_inputs), np.float32)
        fixed[:, fixed_inputs] = shown.rows * shown.mask
        parts.append(draw_probes(changing, fixed, seed, number))
    left = (frames - sum(part.count for part in parts)) // 2
    if left < 0:
        raise ValueError(
            f"frames_per_input must be {(frames - 2 * left) / n_inputs:.4g} or more with {anchors} anchors, "
            f"got {frames / n_inputs:.4g}"
        )
    return SignDesign(n_inputs, (*parts, *complement_probes(n_inputs, left, seed)))


def locate(probes: Probes, signal: RealArray) -> Half:
    """Find anchors and entries of one half from its frames, up to a phase and a conjugation of each row.

    With ``I+-`` the frames of an anchor's field a and a probe's field z, ``(I+ - I-)/4 = Re(conj(a) z)`` for all
    anchors and probes is a real matrix of rank 2, the product of both in the plane, up to a linear map of the plane.
    The sums ``(I+ + I-)/2 = |a|^2 + |z|^2``, linear in the metric of that map, leave a rotation and a reflection. This
    is multidimensional scaling: the distances are those of a to z and to -z.

    Parameters
    ----------
    signal : ndarray, shape (n_anchors, n_probes, 2, n_rows)
        DN above dark.
    """
    order, rows = len(probes.rows), signal.shape[3]
    half = (signal[:, :, 0] - signal[:, :, 1]).transpose(1, 0, 2).reshape(order, -1) / np.float32(4 * order)
    products = probes.project_back(half).reshape(len(probes.mask), -1, rows).swapaxes(0, 1)
    gram = np.einsum("ajm,bjm->mab", products, products).astype(np.float64)
    plane = np.linalg.eigh(gram)[1][:, :, -2:]  # (m, n_anchors, 2)
    flat = np.einsum("ajm,mar->rjm", products, plane.astype(np.float32))
    # Averaged over the inputs the plane is now isotropic, so that the fit of the metric is well conditioned.
    spread, axes = np.linalg.eigh(np.einsum("rjm,qjm->mrq", flat, flat).astype(np.float64) / flat.shape[1])
    root = np.sqrt(np.maximum(spread, 1e-12 * spread[:, 1:] + 1e-30))[:, None, :]
    transposed = axes.swapaxes(1, 2)
    flat = np.einsum("mrq,qjm->rjm", ((axes / root) @ transposed).astype(np.float32), flat)

    x, y = (probes.apply_signs(part) for part in flat)
    squares = np.stack([x * x, 2.0 * x * y, y * y, np.ones_like(x)]).astype(np.float64)  # (4, n_probes, m)
    sums = signal.mean(axis=(0, 2), dtype=np.float64)
    normal, right = np.einsum("pkm,qkm->mpq", squares, squares), np.einsum("pkm,km->mp", squares, sums)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(4)
    found = np.linalg.solve(normal, right[..., None])[..., 0]
    length, vectors = np.linalg.eigh(found[:, [0, 1, 1, 2]].reshape(rows, 2, 2))
    length = np.maximum(length, MIN_AXIS_RATIO * np.maximum(length[:, 1:], 1e-12))
    stretch = vectors * np.sqrt(length)[:, None, :]
    entries = np.einsum("mrc,rjm->cjm", stretch.astype(np.float32), flat)
    back = plane @ (axes * root) @ transposed @ np.linalg.inv(stretch).swapaxes(1, 2)  # (m, n_anchors, 2)
    scale = np.linalg.svd(back, compute_uv=False)
    anchors = (back[:, :, 0] + 1j * back[:, :, 1]).T
    ratio = (scale[:, 1] / scale[:, 0]).astype(np.float32)
    return Half(probes, to_complex(*entries), anchors.astype(np.complex64), products, ratio)


def to_complex(real: RealArray, imag: RealArray) -> ComplexArray:
    """Return complex64 from real and imaginary parts."""
    return (real + 1j * imag).astype(np.complex64)


def join(first: Half, second: Half, other_way: bool = False) -> ComplexArray:
    """Bring both halves into the gauge of the first, and find c: (n_inputs + 1, n_rows).

    The inputs of the second half, as anchors of the first, are known in both gauges. The phase, with or without a
    conjugation, that matches them best (Procrustes' problem in the plane) is applied. `other_way` applies the second
    best match, with the opposite choice of conjugation.
    """
    anchors, other_anchors = subtract_mean(first.anchors), subtract_mean(second.anchors)
    # The same fields, each computed from the entries of the opposite half.
    fields = subtract_mean(field_of_other(first, second))
    other_fields = subtract_mean(field_of_other(second, first))
    plain = (anchors * fields.conj()).sum(axis=0) + (other_fields * other_anchors.conj()).sum(axis=0)
    conjugated = (anchors * fields).sum(axis=0) + (other_fields * other_anchors).sum(axis=0)
    flip = (np.abs(conjugated) > np.abs(plain)) != other_way
    phase = np.where(flip, conjugated, plain)
    phase /= np.maximum(np.abs(phase), 1e-30)
    second = second._replace(**{
        name: np.where(flip, values.conj(), values) * phase
        for name, values in {"entries": second.entries, "anchors": second.anchors}.items()
    })  # fmt: skip
    middle = (first.anchors - field_of_other(first, second)).mean(axis=0)
    middle = middle + (second.anchors - field_of_other(second, first)).mean(axis=0)
    return assemble(first, second.entries, second.probes, middle / 2.0)


def locate_other(lead: Half, other: Half) -> ComplexArray:
    """Find the other half from the leading one alone: (n_inputs + 1, n_rows).

    Its anchors are known from the leading half; the rest is linear. This serves rows in which the anchors of the other
    half are so nearly collinear that `locate` does not find the metric.
    """
    known = field_of_other(other, lead)
    entries = multilaterate(subtract_mean(known), other.products - other.products.mean(axis=0))
    for _ in range(2):
        middle = (lead.anchors - lead.probes.fixed[:, other.probes.support] @ entries).mean(axis=0)
        entries = multilaterate(known + middle, other.products)
    middle = (lead.anchors - lead.probes.fixed[:, other.probes.support] @ entries).mean(axis=0)
    return assemble(lead, entries, other.probes, middle)


def field_of_other(half: Half, other: Half) -> ComplexArray:
    """Anchors of a half minus c, from the entries of the other half: (n_anchors, n_rows)."""
    return half.probes.fixed[:, other.probes.support] @ other.entries


def subtract_mean(values: ComplexArray) -> ComplexArray:
    """Subtract the mean over the first axis."""
    return values - values.mean(axis=0)


def multilaterate(anchors: ComplexArray, products: RealArray) -> ComplexArray:
    """Least-squares u of ``Re(conj(a) u) = product``: one 2 x 2 system for each row; (n_support, n_rows)."""
    xx, yy = (anchors.real**2).sum(axis=0), (anchors.imag**2).sum(axis=0)
    xy = (anchors.real * anchors.imag).sum(axis=0)
    determinant = np.maximum(xx * yy - xy * xy, 1e-4 * (xx + yy) ** 2)
    x, y = np.einsum("am,ajm->jm", anchors.real, products), np.einsum("am,ajm->jm", anchors.imag, products)
    return to_complex((yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant)


def assemble(half: Half, others: ComplexArray, probes: Probes, middle: ComplexArray) -> ComplexArray:
    """Put the unknowns of two halves together: (n_inputs + 1, n_rows)."""
    unknowns = np.empty((half.probes.fixed.shape[1] + 1, len(middle)), np.complex64)
    unknowns[half.probes.support], unknowns[probes.support], unknowns[-1] = half.entries, others, middle
    return unknowns
