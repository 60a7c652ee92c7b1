"""The most likely fields behind the frames of many patterns, all rows of a matrix at once."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.base import Block
from calibration.recovery.designs.signs import Probes, SignDesign, hadamard
from photonics.kernels.threads import for_blocks

__all__ = ["Fit", "Pixels", "check_light", "fit_limit", "pixels_of", "recovered", "refine", "retry"]

Real = NDArray[np.floating[Any]]  # float32 in fact
Complex = NDArray[np.complexfloating[Any, Any]]
"""complex64 in fact."""

ROWS = 128
"""Rows worked on at a time: what is made of them and of one part of the design stays near the processor."""
ITERATIONS = 40
"""Steps of a climb, at most."""
MOST_SATURATED = 0.2
"""Share of saturated pixels from which frames are refused."""
LEAST_KNOWN = 0.2
"""Least relative error (see `tolerance`) from which frames are refused: the actual one is some times larger."""
WORST = 25.0
"""Misfit over which no row is accepted, though all are alike: residuals of five times the noise."""
COARSE = 12
"""Frames per input of the first climb, where there are more than twice as many."""
SETTLES = 8
"""Rounds of turns that `expected_variance` takes: the last changes it by less than 1 %."""
SETTLED = 0.95
"""Share of the rows of a block that must stand still before it is done."""


class Pixels(NamedTuple):
    """What the camera said about some rows, and how to read it."""

    signal: Real
    """DN above dark, (frames, n_rows)."""
    floor: float
    """f of the module's noise model, DN: variance of a dark pixel over the gain, 0 or more."""
    gain: float
    """K, DN^2 per DN."""
    ceiling: float
    """DN above dark at which a pixel counts as saturated: it says only that the intensity was at least that."""


class Fit(NamedTuple):
    """The most likely fields of some rows."""

    unknowns: Complex
    """u of each input, then c: (n_inputs + 1, n_rows), square root of DN."""
    misfit: Real
    """Mean of ``residual^2 / variance`` over the frames, over what it is expected to be: 1 for a good fit; (n_rows,)"""
    variance: NDArray[np.float64]
    """Expected ``E|error of u|^2`` of an input in each of the design's groups, DN: (n_rows, n_groups)."""


def refine(design: SignDesign, pixels: Pixels, start: Complex, iterations: int = ITERATIONS) -> Fit:
    """Climb the likelihood of all frames from a start, all rows at once.

    Shot noise, read noise and rounding together are taken as a Poisson law shifted by the floor, ``-log L = sum (p + f)
    - (I + f) log(p + f)`` with ``p = |y|^2``: mean and variance are exact, the third cumulant is not. Its gradient is
    ``2 A^T y (p - I) w`` and its Fisher information ``4 A^T y y^T w A``, ``w = 1/(p + f)``. The climb is by nonlinear
    conjugate gradients (Polak and Ribiere), each step as long as the Fisher information says, preconditioned by
    ``(A^T A)^-1`` and by the 2 x 2 mean of ``y y^T w`` of each row. A saturated pixel pulls only while the model is
    below the ceiling.

    Parameters
    ----------
    start : ndarray of complex64, shape (n_inputs + 1, n_rows)
        It must be in the basin of the solution; `Fit.misfit` tells whether it was.
    iterations : int
        At most so many. A block of rows is done when the last step of 95 % of them was under a third of the least
        error that the noise leaves (`tolerance`): the rest of the way is a tenth of that.

    Returns
    -------
    Fit
    """
    coarse = design.prefix(COARSE * design.n_inputs)  # most of the way is as well done on a part of many frames
    rows = start.shape[1]
    fits: dict[int, Fit] = {}

    def work(first: int, stop: int) -> None:
        share, begin = pixels._replace(signal=pixels.signal[:, first:stop]), start[:, first:stop]
        if coarse.frames < design.frames / 2:
            some = share._replace(signal=share.signal[: coarse.frames])
            begin = climb(coarse, some, begin, iterations).unknowns
        fits[first] = climb(design, share, begin, iterations)

    _ = design.inverse, coarse.inverse  # cached before threads ask for them
    with threadpool_limits(1, user_api="blas"):  # blocks run side by side; threads of BLAS would wait for each other
        for_blocks(work, rows, ROWS)
    parts = [fits[first] for first in sorted(fits)]
    return Fit(
        np.concatenate([fit.unknowns for fit in parts], axis=1),
        np.concatenate([fit.misfit for fit in parts]),
        np.concatenate([fit.variance for fit in parts]),
    )


def fit_limit(misfit: Real, frames: int) -> float:
    """Misfit over which a row is in a wrong minimum (where it is tens or hundreds): a tenth and 5 standard errors."""
    return max(float(np.median(misfit)), 1.0) * (1.1 + 5.0 * math.sqrt(2.0 / frames))


def retry(design: SignDesign, pixels: Pixels, fit: Fit, starts: Iterable[Callable[[NDArray[np.intp]], Complex]]) -> Fit:
    """Start rows that are in a wrong minimum again, elsewhere, and keep the better; the others are left as they are.

    Parameters
    ----------
    starts : iterable of functions
        Each makes starts for the rows of these numbers, (n_inputs + 1, len(rows)). They are tried until no row is left.
    """
    limit = fit_limit(fit.misfit, design.frames)
    unknowns, misfit, variance = fit.unknowns.copy(), fit.misfit.copy(), fit.variance.copy()
    for start in starts:
        rows = np.flatnonzero(misfit > limit)
        if not rows.size:
            break
        again = refine(design, pixels._replace(signal=pixels.signal[:, rows]), start(rows))
        better = again.misfit < misfit[rows]
        taken = rows[better]
        unknowns[:, taken] = again.unknowns[:, better]
        misfit[taken], variance[taken] = again.misfit[better], again.variance[better]
    return Fit(unknowns, misfit, variance)


def check_light(design: SignDesign, raw: RawFrames, bench: Bench) -> None:
    """Raise a ``ValueError`` if a look at some frames shows that nothing can come of them."""
    frames = raw.frames(0, min(raw.count, 64))
    pixels = pixels_of(frames, bench)
    saturated = float((pixels.signal >= pixels.ceiling).mean())
    mean = float(pixels.signal.mean())
    if saturated > MOST_SATURATED:
        raise ValueError(f"frames have {saturated:.0%} saturated pixels, {MOST_SATURATED:.0%} allowed: expose shorter")
    if 3.0 * tolerance(design, pixels) > LEAST_KNOWN:
        raise ValueError(
            f"frames are {mean:.2g} DN above dark on average, so that rows would be known to "
            f"{3.0 * tolerance(design, pixels):.0%} at best: expose longer, or take more frames_per_input"
        )


def pixels_of(frames: NDArray[Any], bench: Bench) -> Pixels:
    """Frames as the camera gave them, above dark, and its noise."""
    noise = bench.noise
    signal = frames.astype(np.float32) - np.float32(noise.dark_dn)
    gain = max(noise.slope_dn, 1e-12)
    return Pixels(signal, noise.floor_dn2 / gain, gain, bench.saturation_dn - noise.dark_dn - 0.5)


def recovered(
    design: SignDesign,
    fit: Fit,
    pixels: Pixels,
    bench: Bench,
    count: int | None = None,
    worst: float = WORST,
    **extra: NDArray[Any],
) -> Block:
    """Rows of the matrix in the unit of T from a fit, the first `count` inputs of it (by default all).

    A row is valid if the fit is good, at most half of its readings are saturated and it is known better than to its own
    size. In its gauge the field half-way between all ON and all OFF is real and positive, and the first entry has no
    negative imaginary part. Where the misfit exceeds 1 (drift) the stated error is larger by its root.
    """
    middle = fit.unknowns[-1]
    phase = middle.conj() / np.maximum(np.abs(middle), 1e-30)
    entries = fit.unknowns[: design.n_inputs if count is None else count]
    matrix = (entries * phase).T * np.float32(2.0 / math.sqrt(bench.unit_dn))
    matrix = np.where(matrix[:, :1].imag < 0, matrix.conj(), matrix).astype(np.complex64)
    length = np.mean(np.abs(matrix) ** 2, axis=1)
    sizes = np.array([len(group) for group in design.groups])
    squared = (fit.variance @ sizes) / sizes.sum() * 4.0 / bench.unit_dn * np.maximum(fit.misfit, 1.0)
    saturated = (pixels.signal >= pixels.ceiling).mean(axis=0)
    valid = (fit.misfit < fit_limit(fit.misfit, design.frames)) & (fit.misfit < worst)
    valid &= (saturated < 0.5) & (squared < length)
    error = np.where(valid, np.sqrt(squared + length * bench.scale_error**2), np.inf).astype(np.float32)
    return Block(matrix, error, valid, {"misfit": fit.misfit.astype(np.float32), **extra})


def climb(design: SignDesign, pixels: Pixels, start: Complex, iterations: int) -> Fit:
    """`refine` for rows that are worked on together.

    Frames are gone through part by part of the design, twice in each step, so that what is made of a part is used while
    it is near the processor.
    """
    values = np.concatenate([start.real, start.imag], axis=1).astype(np.float32)
    fields, change = design.forward(values), np.zeros((design.frames, values.shape[1]), np.float32)
    step, direction, old = np.zeros(values.shape[1], np.float32), np.zeros_like(values), None
    enough = tolerance(design, pixels)
    metric = np.zeros((len(step) // 2, 2, 2))
    for number in range(iterations):
        gradient = uphill(design, pixels, fields, change, step, metric if number < 2 else None)
        scaled = whiten(design.inverse @ gradient, metric)
        rise = per_row(gradient, scaled)
        beta = 0.0 if old is None else np.maximum(rise - per_row(old[0], scaled), 0.0) / np.maximum(old[1], 1e-30)
        direction, old = scaled + np.tile(beta, 2) * direction if old else scaled, (gradient, rise)
        length = reach(design, pixels, fields, direction, change)
        step = np.tile(length, 2)
        values += direction * step
        size = np.abs(length) * np.sqrt(per_row(direction, direction) / per_row(values, values))
        if np.quantile(size, SETTLED) < enough:
            break
    change *= step
    fields += change
    real, imag = np.split(fields, 2, axis=1)
    weight, excess = residual(pixels, pixels.signal, real, imag)
    freedom = max(1.0 - 2.0 * (design.n_inputs + 1) / design.frames, 1.0 / design.frames)
    misfit = np.einsum("fm,fm,fm->m", excess, excess, weight) / (design.frames * freedom * pixels.gain)
    unknowns = np.ascontiguousarray(values[:, : real.shape[1]] + 1j * values[:, real.shape[1] :], np.complex64)
    return Fit(unknowns, misfit, expected_variance(design, pixels.gain, real, imag, weight))


def uphill(
    design: SignDesign,
    pixels: Pixels,
    fields: Real,
    change: Real,
    step: Real,
    metric: NDArray[np.float64] | None,
) -> Real:
    """Take the step, ``fields += step * change``; half the gradient of log L there. Sets `metric`, mean ``y y^T w``."""
    half = fields.shape[1] // 2
    gradient = np.zeros((design.n_inputs + 1, fields.shape[1]), np.float32)
    if metric is not None:
        metric[:] = 0.0
    for (part, y), (_, dy), (_, signal) in zip(*map(design.parts, (fields, change, pixels.signal)), strict=True):
        y += step * dy
        real, imag = y[..., :half], y[..., half:]
        weight, excess = residual(pixels, signal, real, imag)
        if metric is not None:
            metric += moments(real, imag, weight) / design.frames
        excess *= weight
        pull = np.empty_like(y)
        np.multiply(real, excess, out=pull[..., :half])
        np.multiply(imag, excess, out=pull[..., half:])
        part.add_adjoint(pull, gradient)
    return gradient


def reach(design: SignDesign, pixels: Pixels, fields: Real, direction: Real, change: Real) -> Real:
    """Length of the step of each row after the Fisher information; fills `change` with the fields of the direction."""
    half = fields.shape[1] // 2
    slope, curvature = np.zeros(half, np.float32), np.zeros(half, np.float32)
    for (part, y), (_, dy), (_, signal) in zip(*map(design.parts, (fields, change, pixels.signal)), strict=True):
        part.forward(direction, dy)
        weight, excess = residual(pixels, signal, y[..., :half], y[..., half:])
        radial = y * dy
        radial = radial[..., :half] + radial[..., half:]
        excess *= weight
        slope += np.einsum("abcm,abcm->m", radial, excess)
        curvature += np.einsum("abcm,abcm,abcm->m", radial, radial, weight)
    return slope / np.maximum(2.0 * curvature, 1e-30)


def tolerance(design: SignDesign, pixels: Pixels) -> float:
    """A third of the least relative error of a row, ``sqrt(2 (n + 1) / frames * K (I + f) / 4) / I``, or 1e-5."""
    mean = max(float(pixels.signal.mean()), 1e-9)
    share = 2.0 * (design.n_inputs + 1) / design.frames
    return max(math.sqrt(share * pixels.gain * (mean + pixels.floor)) / (6.0 * mean), 1e-5)


def residual(pixels: Pixels, signal: Real, real: Real, imag: Real) -> tuple[Real, Real]:
    """``1/(p + f)`` and ``I - p`` for fields y, with ``p = |y|^2``; 0 where a saturated pixel is rightly bright."""
    model = real * real
    model += imag * imag
    excess = signal - model
    np.maximum(excess, 0.0, out=excess, where=signal >= pixels.ceiling)
    model += np.float32(max(pixels.floor, 1e-6))
    return np.reciprocal(model, out=model), excess


def per_row(a: Real, b: Real) -> Real:
    """Sum of products over the unknowns of each row: (n, 2 m) twice -> (m,)."""
    return np.einsum("nqm,nqm->m", a.reshape(len(a), 2, -1), b.reshape(len(b), 2, -1))


def moments(real: Real, imag: Real, weight: Real) -> NDArray[np.float64]:
    """Sum of ``y y^T w`` over frames, which are all axes but the last: (m, 2, 2)."""
    axis = tuple(range(real.ndim - 1))
    light = weight * real
    rr, ri = (light * real).sum(axis=axis), (light * imag).sum(axis=axis)
    ii = (weight * imag * imag).sum(axis=axis)
    return np.stack([rr, ri, ri, ii], axis=-1).reshape(-1, 2, 2).astype(np.float64)


def whiten(unknowns: Real, metric: NDArray[np.float64]) -> Real:
    """Divide each row by its mean of ``y y^T w``: the quadrature of a bright c is measured best."""
    # Where the other quadrature is hardly measured the step is bounded.
    metric = metric + 0.01 * np.trace(metric, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    inverse = np.linalg.inv(metric).astype(np.float32)
    split = unknowns.reshape(len(unknowns), 2, -1)
    return np.concatenate([inverse[:, q, 0] * split[:, 0] + inverse[:, q, 1] * split[:, 1] for q in (0, 1)], axis=1)


def expected_variance(design: SignDesign, gain: float, real: Real, imag: Real, weight: Real) -> NDArray[np.float64]:
    """Expected ``E|error of u|^2`` of an input in each of the design's groups, (m, n_groups).

    The inverse of the Fisher information in the limit of many inputs. A round of N Hadamard probes, of n inputs, has
    the information ``H^T diag(Q_k) H``, Q_k the 2 x 2 sum of ``4 w y y^T / K`` over the frames of probe k, 0 for one
    that is not shown. Rounds with masks of their own are as good as free of each other: one adds ``J = G^-1 - W`` to
    what the others know of an entry, B, with ``G = mean_k (N Q_k + W)^-1`` and ``W = B + (1 - n / N) G^-1``, and the
    covariance of an entry is ``(sum J)^-1``. W exceeds B for columns of H that are not used.
    This is free convolution by subordination (H. Bercovici and D. Voiculescu, Indiana Univ. Math. J. 42, 733 (1993)).
    """
    stride = max(design.frames // 4096, 1)  # some thousand frames tell a variance well enough
    shown: dict[bytes, list[Real]] = {}
    rounds: dict[bytes, Probes] = {}
    for (part, y), (_, x), (_, w) in zip(*map(design.parts, (real, imag, weight)), strict=True):
        y, x, w = (view[:, ::stride] for view in (y, x, w))
        light = np.stack([(w * product).sum(axis=(0, 2)) for product in (y * y, y * x, x * x)])
        rounds.setdefault(part.round, part)
        shown.setdefault(part.round, []).append(light * np.float32(4.0 / gain))
    probes = {name: np.concatenate(lights, axis=1) for name, lights in shown.items()}  # (3, probes looked at, m)
    counts = dict.fromkeys(rounds, 0)
    for part in design.probes:
        counts[part.round] += len(part.rows)
    sizes = np.array([len(group) for group in design.groups])
    moved = {name: [bool(np.isin(g, part.support).all()) for g in design.groups] for name, part in rounds.items()}
    orders = {name: len(hadamard(len(part.support))) for name, part in rounds.items()}

    least = 1e-9 * np.array([1.0, 0.0, 1.0])[:, None] * max(float(light.max()) for light in probes.values())
    added = {name: counts[name] * light.mean(axis=1, dtype=np.float64) for name, light in probes.items()}
    spent = {name: np.zeros_like(light) for name, light in added.items()}  # (1 - n / N) G^-1
    for _ in range(SETTLES):
        for name, light in probes.items():
            order, count = orders[name], min(counts[name], orders[name])
            of_groups = [
                sum(added[o] for o in rounds if o != name and moved[o][g]) for g in np.flatnonzero(moved[name])
            ]
            w = least + np.average(np.stack(of_groups), axis=0, weights=sizes[moved[name]]) + spent[name]
            mean = inverse(order * light + w[:, None]).mean(axis=1) * count + inverse(w) * (order - count)
            g = inverse(mean / order)
            added[name] = g - w
            spent[name] = (1.0 - len(rounds[name].support) / order) * g
    total = [sum(added[name] for name in rounds if moved[name][g]) for g in range(len(sizes))]
    return np.stack([inverse(least + info)[[0, 2]].sum(axis=0) for info in total], axis=1)


def inverse(matrix: NDArray[Any]) -> NDArray[Any]:
    """Inverse of symmetric 2 x 2 matrices, entries xx, xy, yy: (3, ...) -> (3, ...)."""
    xx, xy, yy = matrix
    return np.stack([yy, -xy, xx]) / (xx * yy - xy * xy)
