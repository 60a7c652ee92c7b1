"""A report of stored pairs of patterns and frames: the chapters that they allow, and what the others lack."""

import math
from pathlib import Path

import numpy as np

from calibration.camera.noise import dark_level
from calibration.fields.bad_pixels import is_hot
from calibration.pairs.matrix import Pairs, fit_matrix, missing_text, read_pairs
from calibration.reports.chapters.bad_pixels import find_bad_pixels
from calibration.reports.chapters.common import Chapter, refusal, signal_of
from calibration.reports.chapters.held_out import HeldOut, fit_scale, prediction_lines, scatter
from calibration.reports.chapters.matrix import share_line
from calibration.reports.chapters.speckle import speckle_chapter
from calibration.reports.findings import Line
from calibration.reports.report import Report, bind
from calibration.storage.recording import Recording

__all__ = ["characterize_pairs"]

HELD_OUT = 10
"""One frame in so many is predicted and not fitted."""
MAX_SPECKLE_FRAMES = 64
MIN_SPECKLE_FRAMES = 4
HALF = (0.25, 0.75)
"""Share of inputs that are ON in frames whose speckle is judged."""


def characterize_pairs(recording: Recording | str | Path, *, n_inputs: int | None = None, seed: int = 0) -> Report:
    """Report on pairs of patterns and frames in any order, without questions.

    Parameters
    ----------
    recording : Recording, str or Path
        The pairs (`Recording.from_arrays`, `calibration.open_recording`).
    n_inputs : int, optional
        Inputs whose columns of the matrix are fitted, the first ones; all by default.
    seed : int
        Seed of the fit.

    Returns
    -------
    Report
        Dark level, speckle, and a matrix that is fitted to nine frames in ten and predicts the others. What the frames
        do not allow is a line "not measurable" that names what is missing.

    Raises
    ------
    ValueError
        If there is no frame with light.
    """
    record = recording if isinstance(recording, Recording) else Recording(recording)
    pairs = read_pairs(record, None, {})
    chapters = [dark_chapter(pairs, record), speckle_of(pairs)]
    about: dict[str, object] = {}
    try:
        chapters.append(matrix_of(pairs, record, n_inputs, seed, about))
    except ValueError as error:
        chapters.append(missing("matrix", "held-out frames", str(error)))
    pairs.device.clock.frames = 0
    order = pairs.device.check_sequence()
    if order.faults:
        advice = "give the patterns that check_sequence finds"
        chapters.append(Chapter([refusal("frames", "order", str(order), advice)], {}))
    if record.not_shown:
        chapters.append(missing("frames", "patterns without a frame", missing_text(record)))
    provenance = {
        "frames": len(record),
        "camera_frames": 0,
        "exposure_s": pairs.exposure_s,
        "exposures_s": {"pairs": pairs.exposure_s},
        "seed": seed,
        "projection": "pairs",
        "truth": "not used",
        "frame_order": str(order),
        **about,
    }
    return bind(pairs.device, chapters, provenance)


def missing(group: str, name: str, reason: str) -> Chapter:
    """A chapter of one line, not measurable, that names what is missing."""
    return Chapter([Line(group, name, reason, "", math.nan, math.nan, None, math.nan, reason)], {})


def dark_chapter(pairs: Pairs, record: Recording) -> Chapter:
    """Dark level and noise against the data sheet."""
    dark, camera = record.frames[~record.columns["laser_on"]], pairs.device.camera
    if len(dark) < 2:
        return missing("camera", "dark level", f"two dark frames or more are needed, got {len(dark)} (laser_on)")
    level, variance = dark_level(dark.astype(np.float64), camera.saturation_dn)
    error = math.sqrt(max(variance, 1.0 / 12.0) / dark.size)
    advice = "check black level and stray light, or the data sheet"
    line = Line("camera", "dark level", "mean of dark frames", "DN", level, error, camera.offset, 0.5, advice)
    return Chapter([line], {})


def speckle_of(pairs: Pairs) -> Chapter:
    """Speckle of frames of one exposure without the reference, a quarter to three quarters of the inputs ON."""
    share = pairs.patterns.mean(axis=1)
    fit = np.isnan(pairs.phase) & (share >= HALF[0]) & (share <= HALF[1]) & (np.abs(pairs.scale - 1.0) < 1e-3)
    if fit.sum() < MIN_SPECKLE_FRAMES:
        reason = (
            f"{MIN_SPECKLE_FRAMES} frames of {pairs.exposure_s:g} s with a quarter to three quarters of the inputs ON "
            f"and the reference closed are needed, got {fit.sum()}"
        )
        return missing("speckle", "contrast", reason)
    some = np.flatnonzero(fit)[:MAX_SPECKLE_FRAMES]
    frames, noise = pairs.frames[some], pairs.bench.noise
    bad = find_bad_pixels(pairs.device, frames, noise, is_hot(pairs.dark, pairs.bench.saturation_dn))
    try:
        return speckle_chapter(pairs.device, pairs.patterns[some], frames, noise, bad)
    except ArithmeticError:
        return Chapter([refusal("speckle", "light", "the frames have no light above dark", "a longer exposure")], {})


def matrix_of(pairs: Pairs, record: Recording, n_inputs: int | None, seed: int, about: dict[str, object]) -> Chapter:
    """Fit a matrix to most frames, and predict the others."""
    lit = np.flatnonzero(record.columns["laser_on"])
    tested = np.zeros(len(record), bool)
    closed = lit[np.isnan(pairs.phase)]
    tested[(closed if len(closed) >= HELD_OUT else lit)[HELD_OUT // 2 :: HELD_OUT]] = True
    estimate = fit_matrix(record.select(~tested), n_inputs=n_inputs, seed=seed)
    about["matrix"] = {"method": estimate.method, "frames": estimate.frames, "gauge": estimate.gauge._asdict()}
    valid = estimate.valid
    formula, advice = "share of rows that do not fit, are dark or saturated", "more frames, more light, other exposures"
    lines = [share_line("dark share", formula, ~valid, 0.1, advice)]
    if estimate.matrix.shape[1] < record.n_in or not np.isnan(pairs.phase[tested[lit]]).all() or valid.sum() < 2:
        return Chapter(lines, {})
    x = pairs.patterns[tested[lit]].astype(np.float32)
    leak = pairs.device.dmd.leakage / (1.0 - pairs.device.dmd.leakage)
    field = x @ estimate.matrix.T + np.complex64(leak) * estimate.matrix.sum(axis=1)
    frames = pairs.frames[tested[lit]]
    good = (frames < pairs.device.camera.saturation_dn) & valid
    predicted = np.abs(field).astype(np.float64) ** 2 * pairs.scale[tested[lit], None].astype(np.float64) ** 2
    measured = signal_of(frames, pairs.bench.noise)
    predicted *= fit_scale(measured, predicted, good)
    test = HeldOut(frames, measured, predicted, pairs.bench.noise.variance(frames), good)
    lines += prediction_lines(test, valid, 0.06, "more light and frames, no saturation; a medium that holds still")
    return Chapter(lines, {"held_out": scatter(test)})
