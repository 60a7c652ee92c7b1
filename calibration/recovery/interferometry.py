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

from calibration.arrays import as_complex, mean
from calibration.fields.readings import Bench
from calibration.recovery.base import Block
from calibration.recovery.designs.hadamard import hadamard
from calibration.recovery.designs.signs import Probes, SignDesign, complement_probes, draw_probes
from calibration.recovery.likelihood import read_pixels, refine, retry, take_rows
from calibration.recovery.no_reference import NoReferenceMethod, build_block
from photonics.arrays import Array
from photonics.backend import backend_of, to_host
from photonics.component import Field, Seed, component

__all__ = ["MIN_AXIS_RATIO", "Half", "NumericalInterferometry", "anchored_design", "join", "locate"]

MIN_INPUTS = 8
MIN_AXIS_RATIO = 0.15
"""Lower bound of `locate` for the ratio of the two axes of the metric: smaller ratios are dominated by noise."""


class Half(NamedTuple):
    """Result of `locate` for one half of the inputs; each row has its own gauge (phase and conjugation)."""

    probes: Probes
    entries: Array
    """u of the half's inputs, (n_support, n_rows)."""
    anchors: Array
    """Fields of the anchors, (n_anchors, n_rows)."""
    products: Array
    """``Re(conj(anchor) u)`` as measured, (n_anchors, n_support, n_rows)."""
    rank_ratio: Array
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
    uses_reference: ClassVar[bool] = False

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

    def solve(self, frames: Array, rows: slice, bench: Bench, state: None) -> Block:  # noqa: D102
        pixels, backend = read_pixels(frames, bench), backend_of(frames)
        first, second = (locate(*part) for part in islice(self.design.on(backend).parts(pixels.signal), 2))
        fit = refine(self.design, pixels, join(first, second))
        starts = [
            lambda bad: locate_other(select_rows(first, bad), select_rows(second, bad)),
            lambda bad: locate_other(select_rows(second, bad), select_rows(first, bad)),
            lambda bad: join(select_rows(first, bad), select_rows(second, bad), other_way=True),
        ]
        fit = retry(self.design, pixels, fit, starts)
        ratio = to_host(backend.xp.minimum(first.rank_ratio, second.rank_ratio))
        return build_block(self.design, fit, pixels, bench, rank_ratio=ratio)


def select_rows(half: Half, rows: NDArray[np.intp]) -> Half:
    """Return some rows of a half."""
    return Half(
        half.probes,
        take_rows(half.entries, rows),
        take_rows(half.anchors, rows),
        take_rows(half.products, rows),
        take_rows(half.rank_ratio, rows),
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


def locate(probes: Probes, signal: Array) -> Half:
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
    xp, order, (anchors, _, _, rows) = backend_of(signal).xp, probes.rows.shape[0], signal.shape
    half = xp.permute_dims(signal[:, :, 0, :] - signal[:, :, 1, :], (1, 0, 2))
    along = probes.project_back(xp.reshape(half, (order, -1)) / float(4 * order))
    products = xp.permute_dims(xp.reshape(along, (-1, anchors, rows)), (1, 0, 2))
    gram = xp.astype(overlaps(products, products), xp.float64)
    plane = xp.linalg.eigh(gram)[1][:, :, -2:]  # (m, n_anchors, 2)
    flat = combine(xp.matrix_transpose(plane), products)
    # Averaged over the inputs the plane is now isotropic, so that the fit of the metric is well conditioned.
    spread, axes = xp.linalg.eigh(xp.astype(overlaps(flat, flat), xp.float64) / flat.shape[1])
    root = xp.sqrt(xp.maximum(spread, 1e-12 * spread[:, 1:] + 1e-30))[:, None, :]
    transposed = xp.matrix_transpose(axes)
    flat = combine((axes / root) @ transposed, flat)

    x, y = (probes.apply_signs(flat[part, ...]) for part in range(2))
    squares = xp.astype(xp.stack([x * x, 2.0 * x * y, y * y, xp.ones_like(x)]), xp.float64)  # (4, n_probes, m)
    normal, right = overlaps(squares, squares), overlaps(squares, mean(signal, (0, 2), "float64")[None, ...])
    backend = backend_of(normal)
    normal += 1e-9 * xp.linalg.trace(normal)[:, None, None] * xp.eye(4, dtype=xp.float64, device=backend.device)
    found = xp.linalg.solve(normal, right)[:, :, 0]
    metric = xp.stack([found[:, entry] for entry in (0, 1, 1, 2)], axis=1)
    length, vectors = xp.linalg.eigh(xp.reshape(metric, (rows, 2, 2)))
    length = xp.maximum(length, MIN_AXIS_RATIO * xp.maximum(length[:, 1:], 1e-12))
    stretch = vectors * xp.sqrt(length)[:, None, :]
    entries = combine(xp.matrix_transpose(stretch), flat)
    back = plane @ (axes * root) @ transposed @ xp.matrix_transpose(xp.linalg.inv(stretch))  # (m, n_anchors, 2)
    scale = xp.linalg.svdvals(back)
    back = xp.astype(back, xp.float32)
    located = as_complex(back[:, :, 0].T, back[:, :, 1].T)
    ratio = xp.astype(scale[:, 1] / scale[:, 0], xp.float32)
    return Half(probes, as_complex(entries[0, ...], entries[1, ...]), located, products, ratio)


def overlaps(one: Array, other: Array) -> Array:
    """Sums of products over the middle axis, for each row: (p, j, m) and (q, j, m) -> (m, p, q)."""
    xp = backend_of(one).xp
    sums = [
        xp.stack([xp.sum(one[p, ...] * other[q, ...], axis=0) for q in range(other.shape[0])])
        for p in range(one.shape[0])
    ]
    return xp.permute_dims(xp.stack(sums), (2, 0, 1))


def combine(weights: Array, values: Array) -> Array:
    """Weighted sums of each row, in the type of the values: (m, r, k) and (k, j, m) -> (r, j, m)."""
    xp = backend_of(values).xp
    weights = xp.astype(weights, values.dtype)
    sums = [
        sum((weights[:, r, k] * values[k, ...] for k in range(1, values.shape[0])), weights[:, r, 0] * values[0, ...])
        for r in range(weights.shape[1])
    ]
    return xp.stack(sums)


def join(first: Half, second: Half, other_way: bool = False) -> Array:
    """Bring both halves into the gauge of the first, and find c: (n_inputs + 1, n_rows).

    The inputs of the second half, as anchors of the first, are known in both gauges. The phase, with or without a
    conjugation, that matches them best (Procrustes' problem in the plane) is applied. `other_way` applies the second
    best match, with the opposite choice of conjugation.
    """
    xp = backend_of(first.anchors).xp
    anchors, other_anchors = subtract_mean(first.anchors), subtract_mean(second.anchors)
    # The same fields, each computed from the entries of the opposite half.
    fields = subtract_mean(field_of_other(first, second))
    other_fields = subtract_mean(field_of_other(second, first))
    plain = xp.sum(anchors * xp.conj(fields), axis=0) + xp.sum(other_fields * xp.conj(other_anchors), axis=0)
    conjugated = xp.sum(anchors * fields, axis=0) + xp.sum(other_fields * other_anchors, axis=0)
    flip = (xp.abs(conjugated) > xp.abs(plain)) != other_way
    phase = xp.where(flip, conjugated, plain)
    phase = phase / xp.maximum(xp.abs(phase), 1e-30)
    entries, anchors = (xp.where(flip, xp.conj(values), values) * phase for values in (second.entries, second.anchors))
    second = second._replace(entries=entries, anchors=anchors)
    middle = xp.mean(first.anchors - field_of_other(first, second), axis=0)
    middle = middle + xp.mean(second.anchors - field_of_other(second, first), axis=0)
    return assemble(first, second.entries, second.probes, middle / 2.0)


def locate_other(lead: Half, other: Half) -> Array:
    """Find the other half from the leading one alone: (n_inputs + 1, n_rows).

    Its anchors are known from the leading half; the rest is linear. This serves rows in which the anchors of the other
    half are so nearly collinear that `locate` does not find the metric.
    """
    known = field_of_other(other, lead)
    entries = multilaterate(subtract_mean(known), subtract_mean(other.products))
    for _ in range(2):
        entries = multilaterate(known + background(lead, other._replace(entries=entries)), other.products)
    return assemble(lead, entries, other.probes, background(lead, other._replace(entries=entries)))


def background(lead: Half, other: Half) -> Array:
    """c, by the anchors of a half and the entries of the other one: (n_rows,)."""
    return backend_of(lead.anchors).xp.mean(lead.anchors - field_of_other(lead, other), axis=0)


def field_of_other(half: Half, other: Half) -> Array:
    """Anchors of a half minus c, from the entries of the other half: (n_anchors, n_rows)."""
    xp = backend_of(other.entries).xp
    return xp.astype(half.probes.fixed[:, other.probes.inputs], xp.complex64) @ other.entries


def subtract_mean(values: Array) -> Array:
    """Subtract the mean over the first axis."""
    return values - backend_of(values).xp.mean(values, axis=0)


def multilaterate(anchors: Array, products: Array) -> Array:
    """Least-squares u of ``Re(conj(a) u) = product``: one 2 x 2 system for each row; (n_support, n_rows)."""
    xp = backend_of(anchors).xp
    real, imag = xp.real(anchors), xp.imag(anchors)
    xx, yy, xy = xp.sum(real**2, axis=0), xp.sum(imag**2, axis=0), xp.sum(real * imag, axis=0)
    determinant = xp.maximum(xx * yy - xy * xy, 1e-4 * (xx + yy) ** 2)
    weights = xp.permute_dims(xp.stack([real, imag]), (2, 0, 1))
    sums = combine(weights, products)
    x, y = sums[0, ...], sums[1, ...]
    return as_complex((yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant)


def assemble(half: Half, others: Array, probes: Probes, middle: Array) -> Array:
    """Put the unknowns of two halves together: (n_inputs + 1, n_rows)."""
    unknowns = backend_of(others).empty((half.probes.fixed.shape[1] + 1, middle.shape[0]), "complex64")
    unknowns[half.probes.inputs, :], unknowns[probes.inputs, :], unknowns[-1, :] = half.entries, others, middle
    return unknowns
