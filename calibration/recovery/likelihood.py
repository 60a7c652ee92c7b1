"""Maximum-likelihood fields from the frames of many patterns, for all rows of a matrix at once."""

import math
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import as_complex, mean
from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.designs.signs import Probes, SignDesign
from calibration.recovery.designs.variance import expected_variance, invert
from photonics.arrays import Array, BoolArray, RealArray
from photonics.backend import backend_of, to_host
from photonics.threads import for_blocks

__all__ = ["Fit", "Pixels", "check_light", "fit_limit", "read_pixels", "refine", "retry", "take_rows"]

ROWS = 128
"""Number of rows solved together: their intermediate arrays for one part of the design fit in the processor's cache."""
MAX_ITERATIONS = 40
"""Maximum number of conjugate-gradient steps."""
MAX_SATURATED = 0.2
"""Share of saturated pixels above which frames are rejected."""
MAX_EXPECTED_ERROR = 0.2
"""Relative error above which frames (by the expected error) and rows (by their own) are rejected. Above it a wrong
minimum may fit the frames as well as the true one: 14 % of the rows of phase retrieval at 0.26, 46 % at 0.35."""
ERROR_OVER_TOLERANCE = 3.0
"""Smallest possible relative error of a row, divided by `tolerance`."""
COARSE_FRAMES_PER_INPUT = 12
"""Frames per input of a first, coarse fit, used if the measurement has more than twice as many."""
DONE_SHARE = 0.5
"""Share of the rows that are solved together that must have converged; the others then go on without them."""
DONE_STEP = 0.5
"""Last step of a converged row over `tolerance`."""
ROWS_ON_DEVICE = 4096
"""Number of rows solved together on a device other than the host."""


class Pixels(NamedTuple):
    """Readings of some pixels, and the camera's noise."""

    signal: Array
    """DN above dark, float32, (frames, n_rows)."""
    floor: float
    """Floor f of the noise model, DN: variance of a dark pixel over the gain, 0 or more."""
    gain: float
    """Gain K, DN^2 per DN."""
    ceiling: float
    """DN above dark from which a pixel counts as saturated: its intensity is at least this."""

    def take(self, rows: NDArray[np.intp]) -> "Pixels":
        """Return some of the pixels, by number."""
        return self._replace(signal=take_rows(self.signal, rows))


class Fit(NamedTuple):
    """The most likely fields of some rows."""

    unknowns: Array
    """u of each input, then c: (n_inputs + 1, n_rows), square root of DN, where the frames are."""
    misfit: RealArray
    """Mean of ``residual^2 / variance`` over the frames, relative to its expectation: 1 for a good fit; (n_rows,)"""
    variance: NDArray[np.float64]
    """Expected ``E|error of u|^2`` of an input in each of the design's groups, DN: (n_rows, n_groups)."""


def refine(design: SignDesign, pixels: Pixels, start: Array) -> Fit:
    """Maximise the likelihood of all frames from a start, for all rows at once.

    Shot noise, read noise and rounding together are modelled as a Poisson law shifted by the floor, ``-log L = sum (p +
    f) - (I + f) log(p + f)`` with ``p = |y|^2``: mean and variance are exact, the third cumulant is not. Its gradient
    is ``2 A^T y (p - I) w`` and its Fisher information ``4 A^T y y^T w A``, ``w = 1/(p + f)``. The maximum is found by
    nonlinear conjugate gradients (Polak and Ribiere). The Fisher information gives the length of each step, and the
    preconditioner is ``(A^T A)^-1`` times the inverse 2 x 2 mean of ``y y^T w`` of each row. A saturated pixel counts
    only while the model is below the ceiling. Rows are solved together until the last step of half of them was below a
    sixth of the smallest error that the noise allows (`tolerance`); the others then go on without them.

    Parameters
    ----------
    start : ndarray of complex64, shape (n_inputs + 1, n_rows)
        It must be in the basin of attraction of the solution; `Fit.misfit` shows whether it was.

    Returns
    -------
    Fit
    """
    design = design.on(backend_of(pixels.signal))
    coarse = design.prefix(COARSE_FRAMES_PER_INPUT * design.n_inputs)  # a fit to part of the frames gets close enough
    rows = start.shape[1]
    fits: dict[int, Fit] = {}

    def work(first: int, stop: int) -> None:
        share, begin = pixels._replace(signal=pixels.signal[:, first:stop]), start[:, first:stop]
        if coarse.frames < design.frames / 2:
            begin = climb(coarse, share._replace(signal=share.signal[: coarse.frames, :]), begin)
        fits[first] = judge(design, share, climb(design, share, begin))

    _ = design.inverse, coarse.inverse  # cached before threads use them
    for_blocks(work, rows, ROWS if design.backend.on_host else ROWS_ON_DEVICE)
    parts = [fits[first] for first in sorted(fits)]
    return Fit(
        design.backend.xp.concat([fit.unknowns for fit in parts], axis=1),
        np.concatenate([fit.misfit for fit in parts]),
        np.concatenate([fit.variance for fit in parts]),
    )


def fit_limit(misfit: RealArray, frames: int) -> float:
    """Misfit above which a row is in a wrong minimum: 10 % and 5 standard errors above its expectation."""
    known = misfit[np.isfinite(misfit)]
    middle = float(np.median(known)) if known.size else 1.0
    return max(middle, 1.0) * (1.1 + 5.0 * math.sqrt(2.0 / frames))


def retry(design: SignDesign, pixels: Pixels, fit: Fit, starts: Iterable[Callable[[NDArray[np.intp]], Array]]) -> Fit:
    """Refit rows that are in a wrong minimum from other starts, and keep the better fit.

    Parameters
    ----------
    starts : iterable of functions
        Each returns starts for the rows with these numbers, (n_inputs + 1, len(rows)). They are tried in turn until no
        row is in a wrong minimum.
    """
    limit = fit_limit(fit.misfit, design.frames)
    unknowns, misfit, variance = fit.unknowns, fit.misfit.copy(), fit.variance.copy()
    for start in starts:
        rows = np.flatnonzero(misfit > limit)
        if not rows.size:
            break
        again = refine(design, pixels.take(rows), start(rows))
        better = again.misfit < misfit[rows]
        replaced = rows[better]
        unknowns = put_rows(unknowns, replaced, take_rows(again.unknowns, np.flatnonzero(better)))
        misfit[replaced], variance[replaced] = again.misfit[better], again.variance[better]
    return Fit(unknowns, misfit, variance)


def check_light(design: SignDesign, raw: RawFrames, bench: Bench) -> None:
    """Raise a ``ValueError`` if the first frames are too often saturated or too dark for a useful fit."""
    frames = raw.frames(0, min(raw.count, 64))
    pixels = read_pixels(frames, bench)
    saturated, light = float(mean(pixels.signal >= pixels.ceiling)), float(mean(pixels.signal))
    if saturated > MAX_SATURATED:
        raise ValueError(
            f"frames must have {MAX_SATURATED:.0%} saturated pixels or less, got {saturated:.0%}: shorten the exposure"
        )
    error = ERROR_OVER_TOLERANCE * tolerance(design, pixels)
    if error > MAX_EXPECTED_ERROR:
        raise ValueError(
            f"frames must be brighter, got {light:.2g} DN above dark on average, which makes the error of a row "
            f"{error:.0%} or more: lengthen the exposure or raise frames_per_input"
        )


def read_pixels(frames: Array, bench: Bench) -> Pixels:
    """Return frames above dark, with the camera's noise."""
    noise, xp = bench.noise, backend_of(frames).xp
    signal = xp.astype(frames, xp.float32) - float(np.float32(noise.dark_dn))
    gain = max(noise.slope_dn, 1e-12)
    return Pixels(signal, noise.floor_dn2 / gain, gain, bench.saturation_dn - noise.dark_dn - 0.5)


def climb(design: SignDesign, pixels: Pixels, start: Array) -> Array:
    """Unknowns of rows that are solved together; those that have converged leave the others, half of them at a time."""
    unknowns, rows, iterations = start, np.arange(start.shape[1]), MAX_ITERATIONS
    while rows.size and iterations > 0:
        found, done, steps = climb_together(design, pixels.take(rows), take_rows(unknowns, rows), iterations)
        unknowns = put_rows(unknowns, rows, found)
        rows, iterations = rows[~done], iterations - steps
    return unknowns


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def climb_together(design: SignDesign, pixels: Pixels, start: Array, iterations: int) -> tuple[Array, BoolArray, int]:
    """Do what `refine` does until `DONE_SHARE` of the rows have converged: unknowns, which have, and number of steps.

    Each step goes through the frames twice, part by part of the design, so that intermediate results of a part are used
    while they are in the processor's cache.
    """
    backend, enough, half = design.backend, DONE_STEP * tolerance(design, pixels), start.shape[1]
    xp, bound = backend.xp, lower_bound(pixels)
    values = xp.concat([xp.real(start), xp.imag(start)], axis=1)
    fields, change = design.forward(values), backend.zeros((design.frames, 2 * half), "float32")
    step, metric = backend.zeros((2 * half,), "float32"), backend.zeros((3, half), "float64")
    direction, old, done, number = None, None, np.zeros(half, np.bool_), 0
    while number < iterations and done.mean() < DONE_SHARE:
        gradient = step_and_gradient(design, pixels, bound, fields, change, step, metric if number < 2 else None)
        scaled = precondition(design.inverse @ gradient, metric, xp)
        rise = dot_per_row(gradient, scaled, xp)
        if direction is None or old is None:
            direction = scaled
        else:
            beta = at_least(rise - dot_per_row(old[0], scaled, xp), 0.0, xp) / at_least(old[1], 1e-30, xp)
            direction = scaled + xp.concat([beta, beta]) * direction
        old = gradient, rise
        length = step_length(design, pixels, bound, fields, direction, change)
        step = xp.concat([length, length])
        values += direction * step
        size = xp.abs(length) * xp.sqrt(dot_per_row(direction, direction, xp) / dot_per_row(values, values, xp))
        done, number = to_host(size < enough), number + 1
    return as_complex(values[:, :half], values[:, half:]), done, number


@np.errstate(over="ignore", invalid="ignore")
def judge(design: SignDesign, pixels: Pixels, unknowns: Array) -> Fit:
    """Misfit and expected variance of rows at their unknowns; the misfit of rows that diverged is not finite."""
    xp, half = design.backend.xp, unknowns.shape[1]
    fields = design.forward(xp.concat([xp.real(unknowns), xp.imag(unknowns)], axis=1))
    real, imag = fields[:, :half], fields[:, half:]
    weight, excess = residual(pixels, pixels.signal, lower_bound(pixels), real, imag)
    freedom = max(1.0 - 2.0 * (design.n_inputs + 1) / design.frames, 1.0 / design.frames)
    misfit = sum_frames(excess * excess * weight, xp) / (design.frames * freedom * pixels.gain)
    return Fit(unknowns, to_host(misfit), to_host(expected_variance(design, pixels.gain, real, imag, weight)))


def step_and_gradient(
    design: SignDesign, pixels: Pixels, bound: Array, fields: Array, change: Array, step: Array, metric: Array | None
) -> Array:
    """Take the step, ``fields += step * change``, and return half the gradient of log L there.

    `metric`, if given, is filled with the mean of ``y y^T w``: its entries xx, xy and yy, (3, m).
    """
    half, xp = fields.shape[1] // 2, design.backend.xp
    gradient = design.backend.zeros((design.n_inputs + 1, fields.shape[1]), "float32")
    if metric is not None:
        metric *= 0.0
    for part, y, dy, signal, least in parts_of(design, fields, change, pixels.signal, bound):
        y += step * dy
        real, imag = y[..., :half], y[..., half:]
        weight, excess = residual(pixels, signal, least, real, imag)
        if metric is not None:
            metric += sum_moments(real, imag, weight, xp) / design.frames
        excess *= weight
        part.add_adjoint(xp.concat([real * excess, imag * excess], axis=-1), gradient)
    return gradient


def step_length(
    design: SignDesign, pixels: Pixels, bound: Array, fields: Array, direction: Array, change: Array
) -> Array:
    """Length of each row's step by the Fisher information; fills `change` with the fields of the direction."""
    half, xp = fields.shape[1] // 2, design.backend.xp
    slope, curvature = (design.backend.zeros((half,), "float32") for _ in range(2))
    for part, y, dy, signal, least in parts_of(design, fields, change, pixels.signal, bound):
        part.forward(direction, dy)
        weight, excess = residual(pixels, signal, least, y[..., :half], y[..., half:])
        radial = y * dy
        radial = radial[..., :half] + radial[..., half:]
        weight *= radial
        excess *= weight
        weight *= radial
        slope += sum_frames(excess, xp)
        curvature += sum_frames(weight, xp)
    return slope / at_least(2.0 * curvature, 1e-30, xp)


def parts_of(design: SignDesign, *arrays: Array) -> Iterator[tuple[Probes, Array, Array, Array, Array]]:
    """Yield each part of the design with its views of the arrays."""
    for shares in zip(*map(design.parts, arrays), strict=True):
        yield shares[0][0], *(share for _, share in shares)


def lower_bound(pixels: Pixels) -> Array:
    """Least ``I - p`` that counts: 0 where the reading is saturated, as the light may be more; none elsewhere."""
    xp = backend_of(pixels.signal).xp
    none = xp.full_like(pixels.signal, -math.inf)
    return xp.where(pixels.signal >= pixels.ceiling, xp.zeros_like(none), none)


def tolerance(design: SignDesign, pixels: Pixels) -> float:
    """A third of the smallest relative error of a row, ``sqrt(2 (n + 1) / frames * K (I + f) / 4) / I``, or 1e-5."""
    light = max(float(mean(pixels.signal)), 1e-9)
    share = 2.0 * (design.n_inputs + 1) / design.frames
    return max(math.sqrt(share * pixels.gain * (light + pixels.floor)) / (6.0 * light), 1e-5)


def residual(pixels: Pixels, signal: Array, bound: Array, real: Array, imag: Array) -> tuple[Array, Array]:
    """``1/(p + f)`` and ``I - p`` for fields y, with ``p = |y|^2``; ``I - p`` is 0 where both exceed the ceiling."""
    xp = backend_of(signal).xp
    model = real * real
    model += imag * imag
    excess = xp.maximum(signal - model, bound)
    model += max(pixels.floor, 1e-6)
    return 1.0 / model, excess


def sum_frames(values: Array, xp: ModuleType) -> Array:
    """Sum over all axes but the last."""
    return xp.sum(xp.reshape(values, (-1, values.shape[-1])), axis=0)


def dot_per_row(a: Array, b: Array, xp: ModuleType) -> Array:
    """Sum of products over the unknowns of each row: (n, 2 m) twice -> (m,)."""
    both, half = xp.sum(a * b, axis=0), a.shape[1] // 2
    return both[:half] + both[half:]


def take_rows(values: Array, rows: NDArray[np.intp]) -> Array:
    """Entries of the last axis with these numbers, in this order; the array itself if that is all of them."""
    if np.array_equal(rows, np.arange(values.shape[-1])):
        return values
    backend = backend_of(values)
    return backend.xp.take(values, backend.asarray(rows), axis=-1)


def put_rows(values: Array, rows: NDArray[np.intp], new: Array) -> Array:
    """Array whose entries of the last axis with these numbers are `new`; the others are unchanged."""
    count = values.shape[-1]
    source = np.arange(count)
    source[rows] = count + np.arange(len(rows))
    return take_rows(backend_of(values).xp.concat([values, new], axis=-1), source)


def at_least(values: Array, least: float, xp: ModuleType) -> Array:
    """Values, or a bound where they are smaller."""
    return xp.maximum(values, xp.full_like(values, least))


def sum_moments(real: Array, imag: Array, weight: Array, xp: ModuleType) -> Array:
    """Sum of ``y y^T w`` over frames, which are all axes but the last: entries xx, xy, yy, (3, m)."""
    light = weight * real
    moments = [sum_frames(one, xp) for one in (light * real, light * imag, weight * imag * imag)]
    return xp.astype(xp.stack(moments), xp.float64)


def precondition(unknowns: Array, metric: Array, xp: ModuleType) -> Array:
    """Divide each row by its 2 x 2 mean of ``y y^T w``, because the quadrature along a bright c is measured best."""
    # The other quadrature may be poorly determined: one per cent of the trace bounds the step there.
    least, half = 0.01 * (metric[0, :] + metric[2, :]), unknowns.shape[1] // 2
    inverse = invert(xp.stack([metric[0, :] + least, metric[1, :], metric[2, :] + least]))
    xx, xy, yy = (xp.astype(inverse[k, :], xp.float32) for k in range(3))
    real, imag = unknowns[:, :half], unknowns[:, half:]
    return xp.concat([xx * real + xy * imag, xy * real + yy * imag], axis=1)
