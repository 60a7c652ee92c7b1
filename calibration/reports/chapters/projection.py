"""The linear projection: its linearity, its noise and, if the truth is known, its error."""

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincinv

from calibration.camera.estimate import share_of
from calibration.camera.noise import NoiseModel
from calibration.device import Device
from calibration.fields.misfit import MAY_BE
from calibration.metrics import anchor_truth, pair_truth, row_correlation
from calibration.projections.base import LinearProjection
from calibration.projections.dark_rows import MAX_SINGLE_GRAIN_SHAPE, speckle_shape
from calibration.projections.reference_pairs import PairProjection
from calibration.projections.responses import Projected
from calibration.reports.chapters.common import Chapter, is_noise_hidden
from calibration.reports.chapters.speckle import grain_pixels
from calibration.reports.findings import Line
from calibration.storage.files import WrongFile
from photonics.arrays import BoolArray, FloatArray, HostArray
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet, Stream, words

__all__ = ["measure_vectors", "median_errors", "projection_chapter", "projection_vectors", "truth_chapter"]

GROUP = "projection"
POINTS = 3000
"""Number of points in a scatter plot."""
MAX_SCATTER = math.log2(1.5)
"""Largest variance of repeated frames relative to shot noise, as a logarithm to base 2. A stable bench is within 6 % of
shot noise. Above 3.4 times shot noise the verdict is "failed": drift then causes more error than all noise. Above 50
times the calibration raises an error (`calibration.camera.noise`)."""
UNUSABLE = f"frames of projections must fit the model, got no value that does, or that is not saturated. {MAY_BE}"
"""Reason why nothing can be said of a projection."""
MAX_NOISE, MAX_REPEATS = 0.2, 0.1
"""Largest noise over signal, and over the values, of vectors that are shown in bright frames."""
MAX_ERROR = 0.04
"""Largest error of a row against the true matrix."""
MAX_EXCESS_NOISE = 0.25
"""Largest excess of the noise of reference pairs over that by the data sheets."""
MAX_EXCESS_DARK = 0.02
"""Largest excess of dark rows over the expected share; doubled if rows hidden by noise are dropped as well."""


def projection_vectors(projection: LinearProjection, count: int, seed: int) -> HostArray:
    """Vectors on which a report judges a projection: random patterns, half ON.

    For reference pairs they are codes with one 1 and one -1, for which the method is made: errors of its calibration
    add up over the entries of a half-ON pattern, and cancel in such a code. A single input has no such code.
    """
    n = projection.n_inputs
    if n < 2 or not isinstance(projection, PairProjection):
        return half_on(count, n, seed, PatternSet.PROJECTION_VECTORS)
    ticks = PatternSet.PROJECTION_VECTORS + np.arange(count)[:, None]
    order = words(seed, Stream.PROBES, np.arange(n)[None, :], ticks)[0].argsort(axis=1)
    codes = np.zeros((count, n), np.int8)
    for sign, chosen in ((1, order[:, :1]), (-1, order[:, 1:2])):
        np.put_along_axis(codes, chosen, sign, axis=1)
    return codes


def measure_vectors(projection: LinearProjection, count: int, seed: int) -> tuple[HostArray, Projected]:
    """Vectors on which a report judges a projection, and their values.

    Recordings of version 1.0.0 have half-ON patterns for reference pairs as well; these are then taken.
    """
    x = projection_vectors(projection, count, seed)
    try:
        return x, projection.measure(x)
    except WrongFile:
        half = half_on(count, projection.n_inputs, seed, PatternSet.PROJECTION_VECTORS)
        with suppress(WrongFile):
            return half, projection.measure(half)
        raise


def usable(*results: Projected) -> BoolArray:
    """Values neither saturated nor refused in any of the results; raises a ``ValueError`` if there are none."""
    found = np.all([~result.saturated & np.isfinite(result.noise) for result in results], axis=0)
    if not found.any():
        raise ValueError(UNUSABLE)
    return found


def additivity_error(first: Projected, second: Projected, whole: Projected) -> FloatArray:
    """Standard error of the sum of two results less the whole.

    Errors common to the three cancel, except for one term of the calibration's noise, which the shortest vector shows.
    """
    shared = (first.standard_error**2 - np.where(np.isfinite(first.noise), first.noise, 0.0) ** 2).min(axis=0)
    return np.sqrt(first.noise**2 + second.noise**2 + whole.noise**2 + shared)


def projection_chapter(
    projection: LinearProjection,
    x: HostArray,
    result: Projected,
    seed: int,
    dim_ratio: float = 1.0,
    bad: BoolArray | None = None,
) -> Chapter:
    """Additivity on disjoint patterns, repeatability and dark rows; needs no ground truth.

    `dim_ratio` is that of `dark_row_line`. Bad pixels do not count in linearity and additivity: other lines tell them.
    """
    parts = sums_of_parts(projection, x, result, seed, bad)
    lines = [
        *linearity_lines(projection, *parts),
        dark_row_line(projection, dim_ratio),
        *noise_lines(projection, result, projection.measure(x)),
    ]
    total, whole, _ = parts
    keep = slice(None, None, max(1, len(whole) // POINTS))
    points = {"whole": np.real(whole)[keep].astype(float).tolist(), "sum": np.real(total)[keep].astype(float).tolist()}
    return Chapter(lines, {"additivity": points})


def linearity_lines(projection: LinearProjection, total: HostArray, whole: HostArray, error: FloatArray) -> list[Line]:
    """Noise of the calibration's frames, and sums of parts against the whole."""
    rows = int(projection.valid.sum())
    axes = 2.0 if np.iscomplexobj(whole) else 1.0  # standard errors are those of each of the real and imaginary parts
    pull = float(np.sqrt(np.mean(np.abs((total - whole) / error) ** 2) / axes))
    explained = float(1.0 - np.mean(np.abs(total - whole) ** 2) / np.var(whole))
    noise_share = float(axes * np.mean(error**2) / np.var(whole))
    scatter = math.log2(max(projection.noise.slope_dn / projection.opu.camera.gain, 1e-3))
    # If the noise is under half a code, rounding decides how frames scatter.
    hidden = is_noise_hidden(noise_by_sheet(projection), 0.5 * projection.unit_dn)
    told = math.nan if hidden else 1.0
    advice = "not linear: saturated frames or a drifting device"
    return [
        Line(GROUP, "scatter of repeated frames", "log₂ of variance, less dark noise, over that of shot noise", "",
             told * scatter, math.nan, None, MAX_SCATTER,
             "the medium or the laser drifts: measure faster, fix the sample"),
        Line(GROUP, "linearity R²", "1 - |P(x₁) + P(x₂) - P(x₁ + x₂)|² / |P - mean|²", "", explained,
             3.0 * noise_share / math.sqrt(2.0 * rows), 1.0 - noise_share, 0.01, advice),
        Line(GROUP, "additivity", "rms of P(x₁) + P(x₂) - P(x₁ + x₂) over its noise", "", told * pull,
             1.0 / math.sqrt(2.0 * rows), 1.0, 0.25, advice),
    ]  # fmt: skip


def noise_by_sheet(projection: LinearProjection) -> NoiseModel:
    """Noise of a frame with the shot noise of the data sheet and the dark noise of the calibration."""
    return replace(projection.noise, slope_dn=projection.opu.camera.gain)


def noise_lines(projection: LinearProjection, result: Projected, again: Projected) -> list[Line]:
    """Noise over signal by the stated noise, and by the same vectors measured twice."""
    valid, axes = projection.valid, 2.0 if np.iscomplexobj(result.values) else 1.0
    spread = float(np.sqrt(result.values[:, valid].var(axis=0).mean() / axes))
    noise = float(np.sqrt(np.mean(result.noise[np.isfinite(result.noise) & valid] ** 2)))
    snr_db = 20.0 * math.log10(spread / noise) if spread else math.nan
    told_snr = f"; SNR {snr_db:.1f} dB, {(snr_db - 1.76) / 6.02:.1f} bits" if spread else "; no signal"
    twin = (again.values - result.values) / np.float32(math.sqrt(2.0))
    rows, outputs = median_errors(twin, result.values, valid)
    most_noise, most_of_row, most_of_output = noise_bounds(projection)
    advice = projection.noise_advice
    return [
        Line(GROUP, "noise over signal", f"10^(-SNR/20){told_snr}", "", 10.0 ** (-snr_db / 20.0),
             math.nan, None, most_noise, advice),
        Line(GROUP, "row repeats", "median over rows of |P - P again| / √2 |P|, over the vectors", "", rows,
             math.nan, None, most_of_row, advice),
        Line(GROUP, "output repeats", "median over vectors of |P - P again| / √2 |P|, over the rows", "", outputs,
             math.nan, None, most_of_output, advice),
    ]  # fmt: skip


def noise_bounds(projection: LinearProjection) -> tuple[float, float, float]:
    """Largest noise over signal, and over the values of a row and of an output.

    A frame of reference pairs has the light of one input, and the noise of any code, relative to its values, is that of
    an entry. The bounds are then what the data sheets let expect, and `MAX_EXCESS_NOISE` more, but at most noise as
    large as the signal. The values of a row follow from few entries if inputs are few: the power of half of the rows is
    under the median of a chi-squared law of ``n_inputs - 1`` degrees of freedom, 0.45 of its mean for two inputs.
    """
    if not isinstance(projection, PairProjection):
        return MAX_NOISE, MAX_REPEATS, MAX_REPEATS
    noise, freedom = projection.entry_noise(noise_by_sheet(projection)), max(projection.n_inputs - 1, 1)
    most = (1.0 + MAX_EXCESS_NOISE) * noise / math.hypot(1.0, noise)
    of_row = most * math.sqrt(freedom / (2.0 * float(gammaincinv(freedom / 2.0, 0.5))))
    most, of_row = min(most, math.sqrt(0.5)), min(of_row, math.sqrt(0.5))
    return max(MAX_NOISE, most), max(MAX_REPEATS, of_row), max(MAX_REPEATS, most)


def sums_of_parts(
    projection: LinearProjection, x: HostArray, result: Projected, seed: int, bad: BoolArray | None
) -> tuple[HostArray, HostArray, FloatArray]:
    """Sums of the values of disjoint parts of the vectors, values of the whole, and errors of the difference."""
    part = half_on(len(x), projection.n_inputs, seed, PatternSet.DISJOINT_PARTS)
    first, second = projection.measure(x * part), projection.measure(x * ~part)
    good = usable(first) & usable(second) & usable(result) & projection.valid
    good &= x.any(axis=1, keepdims=True)  # a vector of zeros has neither frames nor an error
    good &= True if bad is None else ~bad
    if not good.any():
        raise ValueError(UNUSABLE)
    return (first.values + second.values)[good], result.values[good], additivity_error(first, second, result)[good]


def dark_row_line(projection: LinearProjection, dim_ratio: float) -> Line:
    """Share of dropped rows against its law in fully developed speckle.

    In another medium it grows by `dim_ratio`: how many times as many dim readings as in fully developed speckle the
    frames of random patterns have.
    """
    n = projection.n_outputs
    dark = share_of(n - int(projection.valid.sum()), n)
    law = projection.expected_dark_share()
    expected = None if law is None else min(law * max(dim_ratio, 1.0), 1.0)
    error = dark.error * math.sqrt(dark_share_variance(projection.opu))
    most = 0.1 if expected is None else MAX_EXCESS_DARK * (2.0 if projection.drops_noisy_rows else 1.0)
    if expected is not None and dark.value < expected and speckle_shape(projection.opu) > MAX_SINGLE_GRAIN_SHAPE:
        expected, most = None, expected + most  # the law is an upper bound if pixels average over grains
    advice = "the speckle is not fully developed, pixels are dead, or the mirrors of the anchor are not lit"
    formula = "share of rows whose anchor or reference is under its limit"
    return Line(GROUP, "dark rows", formula, "", dark.value, error, expected, most, advice)


def dark_share_variance(opu: Device) -> float:
    """Variance of the share of dark pixels, relative to independent pixels.

    A dark spot is about 7 % of a grain; simulations give 1.2, 2.4 and 4.6 for grains of 8, 32 and 50 pixels.
    """
    return 1.0 + 0.07 * max(grain_pixels(opu) - 1.0, 0.0)


def median_errors(error: HostArray, truth: HostArray, valid: BoolArray) -> tuple[float, float]:
    """Median over rows of the error relative to the row's rms, and median over vectors relative to the output's rms.

    The second is the error relevant to a network: dim rows, whose relative error is larger, have little weight in it.
    """
    error, truth = np.abs(error[:, valid]) ** 2, np.abs(truth[:, valid]) ** 2
    of_rows, of_outputs = (np.sqrt(error.sum(axis) / np.maximum(truth.sum(axis), 1e-30)) for axis in (0, 1))
    return float(np.median(of_rows)), float(np.median(of_outputs))


def truth_chapter(projection: LinearProjection, x: HostArray, result: Projected, truth: ArrayLike) -> Chapter:
    """Comparison with the true matrix: error and correlation per row, and the stated error."""
    valid, expected = projection.valid, true_values(projection, x, result.values, truth)
    difference = result.values - expected
    rows = np.sqrt(np.mean(np.abs(difference) ** 2, 0) / np.maximum(np.mean(np.abs(expected) ** 2, 0), 1e-30))[valid]
    _, outputs = median_errors(difference, expected, valid)
    correlation = row_correlation(result.values, expected)[valid]
    good = usable(result) & valid
    axes = 2.0 if np.iscomplexobj(expected) else 1.0
    pull = float(np.sqrt(np.mean(np.abs(difference[good] / result.standard_error[good]) ** 2) / axes))
    spread = float(1.2533 * rows.std() / math.sqrt(rows.size))
    stated = stated_noise(projection, result, expected)
    limit = max(MAX_ERROR, stated)  # with separate anchors, mirror leakage makes the overall scale uncertain as well
    if not projection.complementary:
        limit += 2.0 * math.sqrt(projection.leakage)
    more = "more light, fewer saturated pixels"
    lines = [
        Line(GROUP, "error per row", "median over rows of |P(x) - truth| / |truth|", "", float(np.median(rows)),
             spread, None, limit, more),
        Line(GROUP, "error of the output", "median over vectors of |P(x) - truth| / |truth|", "", outputs,
             math.nan, None, 1.5 * limit, more),
        Line(GROUP, "correlation per row", "1 - median Pearson correlation with the truth", "",
             float(1.0 - np.median(correlation)), math.nan, None, max(0.01, 1.0 - 1.0 / math.hypot(1.0, stated)), more),
        Line(GROUP, "stated uncertainty", "rms of (P(x) - truth) / standard error", "", pull,
             1.0 / math.sqrt(2.0 * valid.sum()), 1.0, 0.25, "the noise model does not hold: drift or saturation"),
    ]  # fmt: skip
    keep = slice(None, None, max(1, int(good.sum()) // POINTS))
    truths, values = (np.real(part[good][keep]).astype(float).tolist() for part in (expected, result.values))
    return Chapter(lines, {"projection": {"truth": truths, "measured": values}, "row_errors": rows.tolist()})


def stated_noise(projection: LinearProjection, result: Projected, expected: HostArray) -> float:
    """Largest error of a row by the noise that reference pairs state, with `MAX_EXCESS_NOISE`; 0 for other methods."""
    if not isinstance(projection, PairProjection):
        return 0.0
    stated, _ = median_errors(result.standard_error, expected, projection.valid)
    return (1.0 + MAX_EXCESS_NOISE) * stated


def true_values(projection: LinearProjection, x: HostArray, values: HostArray, truth: ArrayLike) -> HostArray:
    """Output of a noiseless device, in the projection's gauge.

    A projection by anchors has their phase. For other projections the phase of each row is fitted to its values, and so
    is its conjugation if the gauge leaves it undetermined.
    """
    if isinstance(projection, PairProjection):
        return pair_truth(projection, truth, x, values)
    if not np.iscomplexobj(values):
        return anchor_truth(projection, truth, x)
    field = x.astype(np.complex128) @ np.asarray(truth, np.complex128)[:, : projection.n_inputs].T
    overlap = np.sum(values * np.conj(field), axis=0)
    if not projection.conjugation_fixed:
        mirrored = np.sum(values * field, axis=0)
        swap = np.abs(mirrored) > np.abs(overlap)
        field, overlap = np.where(swap, np.conj(field), field), np.where(swap, mirrored, overlap)
    return field * overlap / np.maximum(np.abs(overlap), 1e-30)
