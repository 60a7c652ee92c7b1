"""Maximum-likelihood fields from the frames of many patterns, for all rows of a matrix at once."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.designs.signs import Probes, SignDesign
from calibration.recovery.designs.variance import expected_variance
from photonics.arrays import ComplexArray, HostArray, RealArray
from photonics.kernels.threads import for_blocks

__all__ = ["Fit", "Pixels", "check_light", "fit_limit", "read_pixels", "refine", "retry"]

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
DONE_QUANTILE = 0.95
"""Share of the rows of a block that must have converged before the block is done."""


class Pixels(NamedTuple):
    """Readings of some pixels, and the camera's noise."""

    signal: RealArray
    """DN above dark, (frames, n_rows)."""
    floor: float
    """Floor f of the noise model, DN: variance of a dark pixel over the gain, 0 or more."""
    gain: float
    """Gain K, DN^2 per DN."""
    ceiling: float
    """DN above dark from which a pixel counts as saturated: its intensity is at least this."""


class Fit(NamedTuple):
    """The most likely fields of some rows."""

    unknowns: ComplexArray
    """u of each input, then c: (n_inputs + 1, n_rows), square root of DN."""
    misfit: RealArray
    """Mean of ``residual^2 / variance`` over the frames, relative to its expectation: 1 for a good fit; (n_rows,)"""
    variance: NDArray[np.float64]
    """Expected ``E|error of u|^2`` of an input in each of the design's groups, DN: (n_rows, n_groups)."""


def refine(design: SignDesign, pixels: Pixels, start: ComplexArray, iterations: int = MAX_ITERATIONS) -> Fit:
    """Maximise the likelihood of all frames from a start, for all rows at once.

    Shot noise, read noise and rounding together are modelled as a Poisson law shifted by the floor, ``-log L = sum (p +
    f) - (I + f) log(p + f)`` with ``p = |y|^2``: mean and variance are exact, the third cumulant is not. Its gradient
    is ``2 A^T y (p - I) w`` and its Fisher information ``4 A^T y y^T w A``, ``w = 1/(p + f)``. The maximum is found by
    nonlinear conjugate gradients (Polak and Ribiere). The Fisher information gives the length of each step, and the
    preconditioner is ``(A^T A)^-1`` times the inverse 2 x 2 mean of ``y y^T w`` of each row. A saturated pixel counts
    only while the model is below the ceiling.

    Parameters
    ----------
    start : ndarray of complex64, shape (n_inputs + 1, n_rows)
        It must be in the basin of attraction of the solution; `Fit.misfit` shows whether it was.
    iterations : int
        Maximum number of steps. A block of rows is done when the last step of 95 % of them was below a third of the
        smallest error that the noise allows (`tolerance`); the remaining distance is a tenth of that.

    Returns
    -------
    Fit
    """
    coarse = design.prefix(COARSE_FRAMES_PER_INPUT * design.n_inputs)  # a fit to part of the frames gets close enough
    rows = start.shape[1]
    fits: dict[int, Fit] = {}

    def work(first: int, stop: int) -> None:
        share, begin = pixels._replace(signal=pixels.signal[:, first:stop]), start[:, first:stop]
        if coarse.frames < design.frames / 2:
            some = share._replace(signal=share.signal[: coarse.frames])
            begin = climb(coarse, some, begin, iterations).unknowns
        fits[first] = climb(design, share, begin, iterations)

    _ = design.inverse, coarse.inverse  # cached before threads use them
    for_blocks(work, rows, ROWS)
    parts = [fits[first] for first in sorted(fits)]
    return Fit(
        np.concatenate([fit.unknowns for fit in parts], axis=1),
        np.concatenate([fit.misfit for fit in parts]),
        np.concatenate([fit.variance for fit in parts]),
    )


def fit_limit(misfit: RealArray, frames: int) -> float:
    """Misfit above which a row is in a wrong minimum: 10 % and 5 standard errors above its expectation."""
    known = misfit[np.isfinite(misfit)]
    middle = float(np.median(known)) if known.size else 1.0
    return max(middle, 1.0) * (1.1 + 5.0 * math.sqrt(2.0 / frames))


def retry(
    design: SignDesign, pixels: Pixels, fit: Fit, starts: Iterable[Callable[[NDArray[np.intp]], ComplexArray]]
) -> Fit:
    """Refit rows that are in a wrong minimum from other starts, and keep the better fit.

    Parameters
    ----------
    starts : iterable of functions
        Each returns starts for the rows with these numbers, (n_inputs + 1, len(rows)). They are tried in turn until no
        row is in a wrong minimum.
    """
    limit = fit_limit(fit.misfit, design.frames)
    unknowns, misfit, variance = fit.unknowns.copy(), fit.misfit.copy(), fit.variance.copy()
    for start in starts:
        rows = np.flatnonzero(misfit > limit)
        if not rows.size:
            break
        again = refine(design, pixels._replace(signal=pixels.signal[:, rows]), start(rows))
        better = again.misfit < misfit[rows]
        replaced = rows[better]
        unknowns[:, replaced] = again.unknowns[:, better]
        misfit[replaced], variance[replaced] = again.misfit[better], again.variance[better]
    return Fit(unknowns, misfit, variance)


def check_light(design: SignDesign, raw: RawFrames, bench: Bench) -> None:
    """Raise a ``ValueError`` if the first frames are too often saturated or too dark for a useful fit."""
    frames = raw.frames(0, min(raw.count, 64))
    pixels = read_pixels(frames, bench)
    saturated = float((pixels.signal >= pixels.ceiling).mean())
    mean = float(pixels.signal.mean())
    if saturated > MAX_SATURATED:
        raise ValueError(
            f"frames must have {MAX_SATURATED:.0%} saturated pixels or less, got {saturated:.0%}: shorten the exposure"
        )
    error = ERROR_OVER_TOLERANCE * tolerance(design, pixels)
    if error > MAX_EXPECTED_ERROR:
        raise ValueError(
            f"frames must be brighter, got {mean:.2g} DN above dark on average, which makes the error of a row "
            f"{error:.0%} or more: lengthen the exposure or raise frames_per_input"
        )


def read_pixels(frames: HostArray, bench: Bench) -> Pixels:
    """Return frames above dark, with the camera's noise."""
    noise = bench.noise
    signal = frames.astype(np.float32) - np.float32(noise.dark_dn)
    gain = max(noise.slope_dn, 1e-12)
    return Pixels(signal, noise.floor_dn2 / gain, gain, bench.saturation_dn - noise.dark_dn - 0.5)


@np.errstate(over="ignore", invalid="ignore")
def climb(design: SignDesign, pixels: Pixels, start: ComplexArray, iterations: int) -> Fit:
    """Do what `refine` does, for rows that are solved together.

    Each step goes through the frames twice, part by part of the design, so that intermediate results of a part are used
    while they are in the processor's cache. The misfit of rows that diverge (dark ones, frames of another measurement)
    is not finite.
    """
    values = np.concatenate([start.real, start.imag], axis=1).astype(np.float32)
    fields, change = design.forward(values), np.zeros((design.frames, values.shape[1]), np.float32)
    step, direction, old = np.zeros(values.shape[1], np.float32), np.zeros_like(values), None
    enough = tolerance(design, pixels)
    metric = np.zeros((len(step) // 2, 2, 2))
    for number in range(iterations):
        gradient = step_and_gradient(design, pixels, fields, change, step, metric if number < 2 else None)
        scaled = precondition(design.inverse @ gradient, metric)
        rise = dot_per_row(gradient, scaled)
        beta = 0.0 if old is None else np.maximum(rise - dot_per_row(old[0], scaled), 0.0) / np.maximum(old[1], 1e-30)
        direction, old = scaled + np.tile(beta, 2) * direction if old else scaled, (gradient, rise)
        length = step_length(design, pixels, fields, direction, change)
        step = np.tile(length, 2)
        values += direction * step
        size = np.abs(length) * np.sqrt(dot_per_row(direction, direction) / dot_per_row(values, values))
        if np.quantile(size, DONE_QUANTILE) < enough:
            break
    change *= step
    fields += change
    real, imag = np.split(fields, 2, axis=1)
    weight, excess = residual(pixels, pixels.signal, real, imag)
    freedom = max(1.0 - 2.0 * (design.n_inputs + 1) / design.frames, 1.0 / design.frames)
    misfit = np.einsum("fm,fm,fm->m", excess, excess, weight) / (design.frames * freedom * pixels.gain)
    unknowns = np.ascontiguousarray(values[:, : real.shape[1]] + 1j * values[:, real.shape[1] :], np.complex64)
    return Fit(unknowns, misfit, expected_variance(design, pixels.gain, real, imag, weight))


def parts_of(
    design: SignDesign, fields: RealArray, change: RealArray, signal: RealArray
) -> Iterator[tuple[Probes, RealArray, RealArray, RealArray]]:
    """Yield each part of the design with its views of the fields, of their change and of the signal."""
    for (part, y), (_, dy), (_, share) in zip(*map(design.parts, (fields, change, signal)), strict=True):
        yield part, y, dy, share


def step_and_gradient(
    design: SignDesign,
    pixels: Pixels,
    fields: RealArray,
    change: RealArray,
    step: RealArray,
    metric: NDArray[np.float64] | None,
) -> RealArray:
    """Take the step, ``fields += step * change``, and return half the gradient of log L there.

    `metric`, if given, is filled with the mean of ``y y^T w``.
    """
    half = fields.shape[1] // 2
    gradient = np.zeros((design.n_inputs + 1, fields.shape[1]), np.float32)
    if metric is not None:
        metric[:] = 0.0
    for part, y, dy, signal in parts_of(design, fields, change, pixels.signal):
        y += step * dy
        real, imag = y[..., :half], y[..., half:]
        weight, excess = residual(pixels, signal, real, imag)
        if metric is not None:
            metric += sum_moments(real, imag, weight) / design.frames
        excess *= weight
        pull = np.empty_like(y)
        np.multiply(real, excess, out=pull[..., :half])
        np.multiply(imag, excess, out=pull[..., half:])
        part.add_adjoint(pull, gradient)
    return gradient


def step_length(
    design: SignDesign, pixels: Pixels, fields: RealArray, direction: RealArray, change: RealArray
) -> RealArray:
    """Length of each row's step by the Fisher information; fills `change` with the fields of the direction."""
    half = fields.shape[1] // 2
    slope, curvature = np.zeros(half, np.float32), np.zeros(half, np.float32)
    for part, y, dy, signal in parts_of(design, fields, change, pixels.signal):
        part.forward(direction, dy)
        weight, excess = residual(pixels, signal, y[..., :half], y[..., half:])
        radial = y * dy
        radial = radial[..., :half] + radial[..., half:]
        excess *= weight
        slope += np.einsum("abcm,abcm->m", radial, excess)
        curvature += np.einsum("abcm,abcm,abcm->m", radial, radial, weight)
    return slope / np.maximum(2.0 * curvature, 1e-30)


def tolerance(design: SignDesign, pixels: Pixels) -> float:
    """A third of the smallest relative error of a row, ``sqrt(2 (n + 1) / frames * K (I + f) / 4) / I``, or 1e-5."""
    mean = max(float(pixels.signal.mean()), 1e-9)
    share = 2.0 * (design.n_inputs + 1) / design.frames
    return max(math.sqrt(share * pixels.gain * (mean + pixels.floor)) / (6.0 * mean), 1e-5)


def residual(pixels: Pixels, signal: RealArray, real: RealArray, imag: RealArray) -> tuple[RealArray, RealArray]:
    """``1/(p + f)`` and ``I - p`` for fields y, with ``p = |y|^2``; ``I - p`` is 0 where both exceed the ceiling."""
    model = real * real
    model += imag * imag
    excess = signal - model
    np.maximum(excess, 0.0, out=excess, where=signal >= pixels.ceiling)
    model += np.float32(max(pixels.floor, 1e-6))
    return np.reciprocal(model, out=model), excess


def dot_per_row(a: RealArray, b: RealArray) -> RealArray:
    """Sum of products over the unknowns of each row: (n, 2 m) twice -> (m,)."""
    return np.einsum("nqm,nqm->m", a.reshape(len(a), 2, -1), b.reshape(len(b), 2, -1))


def sum_moments(real: RealArray, imag: RealArray, weight: RealArray) -> NDArray[np.float64]:
    """Sum of ``y y^T w`` over frames, which are all axes but the last: (m, 2, 2)."""
    axis = tuple(range(real.ndim - 1))
    light = weight * real
    rr, ri = (light * real).sum(axis=axis), (light * imag).sum(axis=axis)
    ii = (weight * imag * imag).sum(axis=axis)
    return np.stack([rr, ri, ri, ii], axis=-1).reshape(-1, 2, 2).astype(np.float64)


def precondition(unknowns: RealArray, metric: NDArray[np.float64]) -> RealArray:
    """Divide each row by its 2 x 2 mean of ``y y^T w``, because the quadrature along a bright c is measured best."""
    # The other quadrature may be poorly determined: one per cent of the trace bounds the step there.
    metric = metric + 0.01 * np.trace(metric, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    inverse = np.linalg.inv(metric).astype(np.float32)
    split = unknowns.reshape(len(unknowns), 2, -1)
    return np.concatenate([inverse[:, q, 0] * split[:, 0] + inverse[:, q, 1] * split[:, 1] for q in (0, 1)], axis=1)
