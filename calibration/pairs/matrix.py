"""A transmission matrix fitted to pairs of patterns and frames."""

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.camera.datasheet import sheet_noise_dn2
from calibration.camera.noise import NoiseModel
from calibration.fields.bad_pixels import is_dead, is_hot
from calibration.fields.misfit import MAX_MISFIT, common_misfit, refusal_limit, variance_factor, warn_of_misfit
from calibration.fields.readings import Bench
from calibration.fields.sideband_place import check_optics
from calibration.pairs.columns import Columns, choose_columns
from calibration.pairs.off_axis import Holograms, fit_holograms
from calibration.pairs.plausible import (
    background_ratio,
    error_beside,
    warn_of_background,
    warn_of_inverted,
    warn_of_saturated,
    warn_of_scale,
)
from calibration.pairs.starts import reference_starts, spectral_start
from calibration.recovery.base import FREE_GAUGE, REFERENCE_GAUGE
from calibration.recovery.designs.dense import DenseDesign
from calibration.recovery.estimate import TransmissionEstimate
from calibration.recovery.likelihood import MAX_EXPECTED_ERROR, Fit, Pixels, fit_limit, read_pixels, refine, retry
from calibration.recovery.transmission import describe_bench
from calibration.storage.descriptions import stamp
from calibration.storage.recorded import RecordedDevice
from calibration.storage.recording import Recording
from photonics.arrays import Array, BoolArray, ComplexArray, HostArray, RealArray
from photonics.component import integer
from photonics.threads import one_blas_thread

__all__ = ["Pairs", "fit_matrix", "missing_text", "read_pairs"]

BLOCK = 2**23
"""Frames times rows that are solved at a time."""
MIN_FRAMES_PER_INPUT = 4.0
"""Fewest frames of an input without a reference; there are two unknowns, and starts need twice as many frames."""


def missing_text(record: Recording) -> str:
    """Sentence that names the patterns whose frames are missing, the first 20 of them."""
    return (
        f"no frame shows pattern {', '.join(map(str, record.not_shown[:20]))}{', ...' * (len(record.not_shown) > 20)}"
    )


class Pairs:
    """Lit frames of a recording with their patterns, at one reference exposure, and what is known of the bench."""

    def __init__(self, record: Recording) -> None:
        columns, lit = record.columns, record.columns["laser_on"]
        self.device = RecordedDevice(record)
        self.patterns: BoolArray = record.patterns[lit]
        self.frames: HostArray = record.frames[lit]
        exposure = columns["exposure_s"][lit]
        if not len(self.frames):
            raise ValueError("frames must have light in some of them, got dark frames only")
        self.exposure_s = self.device.exposure_s = float(np.median(exposure))
        self.scale = np.sqrt(exposure / self.exposure_s).astype(np.float32)
        self.phase = columns["reference_phase"][lit]
        dark, camera = record.frames[~lit], self.device.camera
        missing = np.full((2, record.n_out), round(camera.offset), camera.dtype)
        self.dark = dark if len(dark) > 1 else missing
        self.bench: Bench = describe_bench(self.device, self.dark)
        if len(dark) <= 1:
            text = "there are no two dark frames: dark level and read noise are those of the data sheet"
            warnings.warn(text, stacklevel=4)
            noise = NoiseModel(sheet_noise_dn2(camera, self.exposure_s), camera.gain, camera.offset)
            self.bench = replace(self.bench, noise=noise)
        self.bad: BoolArray = is_hot(self.dark, self.bench.saturation_dn) | is_dead(
            self.frames, self.bench.noise.dark_dn
        )
        self.saturated = (self.frames >= self.bench.saturation_dn).mean(axis=0).astype(np.float32)
        self.missing_text = f"; {missing_text(record)}" if record.not_shown else ""

    def explain(self) -> str:
        """Which frames do not belong to their patterns; empty if frames do not tell."""
        found = self.device.check_sequence()
        return f"Frames do not belong to their patterns: {found}" if found.faults else ""

    @property
    def off_axis(self) -> bool:
        """Whether fringes of a tilted reference must give the fields: its phases alone do not."""
        phases = np.unique(np.round(np.angle(np.exp(1j * self.phase[~np.isnan(self.phase)])), 3))
        tilted = any(abs(cycles) > 1e-9 for cycles in self.bench.carrier)
        blurred = self.bench.field_band is not None and not self.bench.coherent
        return tilted and len(phases) > 0 and (len(phases) < 3 or blurred)

    @property
    def beam(self) -> ComplexArray | None:
        """Factor of the reference in each frame, 0 where its shutter is closed; None if it always is."""
        is_open = ~np.isnan(self.phase)
        if not is_open.any():
            return None
        return np.where(is_open, np.exp(1j * np.where(is_open, self.phase, 0.0)), 0.0).astype(np.complex64)


def read_pairs(patterns: Array | Recording | str | Path, frames: Array, columns: dict[str, Any]) -> Pairs:
    """Return the pairs of a recording, of its file, or of arrays."""
    if isinstance(patterns, (str, Path)):
        with closing(Recording(patterns)) as record:
            return Pairs(record)
    if isinstance(patterns, Recording):
        return Pairs(patterns)
    return Pairs(Recording.from_arrays(patterns, frames, **columns))


def fit_matrix(
    patterns: Array | Recording | str | Path,
    frames: Array = None,
    *,
    n_inputs: int | None = None,
    seed: int = 0,
    restarts: int = 6,
    **columns: Any,
) -> TransmissionEstimate:
    """Fit a transmission matrix to pairs of patterns and frames, in any order: no questions are asked.

    The likelihood of all frames is maximised (`calibration.recovery.likelihood.refine`). Frames with the reference at
    known phases start it by least squares; without a reference it starts by a spectral method, from 4 frames for an
    input, better 8 or more. A tilted reference (``imaging.reference.angle_x_rad`` of `device`) needs one phase only,
    which may drift: the fringes of a frame give its field, and least squares the matrix (`calibration.pairs.off_axis`).
    Exposures may differ. Inputs that are always alike count as one if they are not wanted.

    Parameters
    ----------
    patterns : array_like, Recording, str or Path
        Patterns, as for `Recording.from_arrays`; or a recording, which has the frames too.
    frames : array_like, optional
        Frames, as for `Recording.from_arrays`.
    n_inputs : int, optional
        Inputs whose columns are wanted, the first ones; all by default.
    seed : int
        Seed of the starts.
    restarts : int
        Further starts of rows in a wrong minimum.
    **columns
        As for `Recording.from_arrays`: exposure_s, device, reference_phase, laser_on, shown, and so on.

    Returns
    -------
    TransmissionEstimate
        With phases of a reference, rows have the phase of the conjugate reference; without, each row is known up to a
        phase and a complex conjugation. If all logged phases have the wrong sign, the matrix is the complex conjugate:
        frames cannot tell. Wrong signs of some phases, and phases in degrees, do not fit.

    Raises
    ------
    ValueError
        If the patterns do not tell the inputs apart, there are too few frames, or phases are missing.
    """
    pairs = read_pairs(patterns, frames, columns)
    n_in = pairs.patterns.shape[1]
    wanted = n_in if n_inputs is None else integer(n_inputs, "n_inputs", 1, n_in)
    restarts = integer(restarts, "restarts", 0)
    for group in (np.isnan(pairs.phase), ~np.isnan(pairs.phase)):
        warn_of_inverted(pairs.patterns[group], pairs.frames[group], pairs.scale[group], pairs.bench.noise.dark_dn)
    if pairs.off_axis:
        return solve_off_axis(pairs, wanted)
    chosen = choose_columns(pairs.patterns, wanted)
    design = chosen.design(pairs.scale, pairs.beam)
    unknowns = 2 * (design.n_inputs + 1)
    least = 1.2 * unknowns if pairs.beam is not None else MIN_FRAMES_PER_INPUT * chosen.signs.shape[1]
    check_count(pairs, design.frames, least, chosen)
    if pairs.beam is None:
        warn_of_background(chosen.background, chosen.signs)
    return solve(pairs, chosen, design, restarts, seed)


def check_count(pairs: Pairs, frames: int, least: float, chosen: Columns) -> None:
    """Raise a ``ValueError`` if there are too few frames; it names those that are missing."""
    if frames < least:
        raise ValueError(
            f"frames must be {math.ceil(least)} or more for {chosen.signs.shape[1]} inputs, got {frames}: take "
            f"more, or recover fewer inputs (n_inputs){pairs.missing_text}"
        )


@one_blas_thread
def solve(pairs: Pairs, chosen: Columns, design: DenseDesign, restarts: int, seed: int) -> TransmissionEstimate:
    """Fit all rows, block by block."""
    n_out, bench = pairs.frames.shape[1], pairs.bench
    matrix = np.zeros((n_out, chosen.wanted), np.complex64)
    error, misfit = np.full(n_out, np.inf, np.float32), np.full(n_out, np.nan, np.float32)
    saturated, rows, width = pairs.saturated, np.flatnonzero(~pairs.bad), max(BLOCK // design.frames, 16)
    for start in range(0, len(rows), width):
        part = rows[start : start + width]
        pixels = read_pixels(pairs.frames[:, part], bench)
        fit = fit_rows(pairs, chosen, design, pixels, part, restarts, seed)
        matrix[part], error[part] = rows_of(pairs, chosen, fit)
        misfit[part] = fit.misfit
    if pairs.beam is None and chosen.background:
        error = error_beside(error, matrix, background_ratio(chosen.background, chosen.signs))
    common = common_misfit(misfit[rows]) if len(rows) else 1.0
    valid = np.isfinite(error) & (misfit < min(fit_limit(misfit, design.frames), MAX_MISFIT)) & (saturated < 0.5)
    valid &= common < MAX_MISFIT
    length = np.mean(np.abs(matrix) ** 2, axis=1)
    valid &= error**2 < MAX_EXPECTED_ERROR**2 * np.maximum(length - error**2, 0.0)
    excess = np.sqrt(
        np.maximum(misfit, 1.0) + (common - 1.0) * max(design.frames / (2 * design.n_inputs + 2) - 1.0, 0.0)
    )
    error = np.where(valid, np.hypot(error * excess, np.sqrt(length) * bench.scale_error), np.inf)
    tell(pairs, misfit[rows], common, valid)
    options = {"seed": seed, "restarts": restarts}
    return estimate_of(pairs, chosen, matrix, error, valid, misfit, options, design.frames)


@one_blas_thread
def solve_off_axis(pairs: Pairs, wanted: int) -> TransmissionEstimate:
    """Fit all rows by the fringes of a tilted reference; frames without the reference have no part in it."""
    check_optics(pairs.device)
    used = ~np.isnan(pairs.phase)
    patterns = pairs.patterns[used]
    chosen = choose_columns(patterns, wanted)
    if not chosen.has_offset:
        raise ValueError(
            "patterns with a tilted reference must tell the light of mirrors that are OFF, got patterns with the same "
            "number of inputs ON: add frames of the reference with all inputs OFF, or patterns of other numbers"
        )
    alone: BoolArray = np.logical_not(patterns.any(axis=1))
    if pairs.device.imaging.polarisations > 1 and not alone.any():
        raise ValueError(
            "frames of the reference with all inputs OFF are needed, because with two polarisations light without "
            "fringes does not tell its intensity, got none: add some, or use a polariser"
        )
    unknowns = chosen.signs.shape[1] + 1
    check_count(pairs, int(used.sum()), 1.2 * unknowns, chosen)
    rows = np.concatenate([chosen.signs, np.ones((len(patterns), 1), np.float32)], axis=1)
    seen = Holograms(pairs.frames[used], pairs.scale[used] ** 2, pairs.phase[used], alone, rows, pairs.bad, pairs.bench)
    warn_of_saturated(float(np.mean(seen.frames[:, ~pairs.bad] >= pairs.bench.saturation_dn)))
    fit, bench = fit_holograms(seen, chosen), pairs.bench
    unit, common = 2.0 / math.sqrt(bench.unit_dn), common_misfit(fit.misfit[fit.valid], fit.grain)
    matrix, noise = (fit.unknowns[:wanted] * np.float32(unit)).T, fit.variance * unit**2
    limit = refusal_limit(2.0 * max(len(patterns) - unknowns, 1))
    valid = fit.valid & ~(fit.misfit > limit) & (common <= MAX_MISFIT) & (pairs.saturated < 0.5)
    length = np.mean(np.abs(matrix) ** 2, axis=1)
    factor = variance_factor(fit.misfit, 2.0 * max(len(patterns) - unknowns, 1), common)
    # What all frames share does not average out: a medium that moves is far from the mean over the frames.
    noise = noise * (factor + (common - 1.0) * max(len(patterns) / unknowns - 1.0, 0.0))
    valid &= noise < MAX_EXPECTED_ERROR**2 * np.maximum(length - noise, 0.0)
    error = np.where(valid, np.sqrt(noise + length * (bench.scale_error**2 + fit.relative**2)), np.inf)
    misfit = np.where(fit.valid, fit.misfit, np.nan)
    tell(pairs, misfit[fit.valid], common, valid)
    return estimate_of(pairs, chosen, matrix, error, valid, misfit, {"reference": "off-axis"}, len(patterns))


def tell(pairs: Pairs, misfit: RealArray, common: float, valid: BoolArray) -> None:
    """Warn if frames do not fit, or no row is valid."""
    refused = float(np.mean(misfit > MAX_MISFIT)) if len(misfit) else 0.0
    told = warn_of_misfit(common, refused, stacklevel=5, cause=pairs.explain)
    if not (told or valid.any()):
        warnings.warn("no row is valid: too few or too dark frames, or frames of other patterns", stacklevel=5)


def estimate_of(
    pairs: Pairs, chosen: Columns, matrix: ComplexArray, error: RealArray, valid: BoolArray, misfit: RealArray,
    options: Mapping[str, object], frames: int,
) -> TransmissionEstimate:  # fmt: skip
    """Result of a fit, with its provenance."""
    warn_of_scale(matrix, valid, pairs.patterns.shape[1])
    bench = pairs.bench
    return TransmissionEstimate(
        matrix=np.where(valid[:, None], matrix, np.complex64(0)),
        standard_error=error.astype(np.float32),
        valid=valid,
        method="pairs",
        gauge=FREE_GAUGE if pairs.beam is None else REFERENCE_GAUGE,
        frames=frames,
        condition_number=chosen.condition_number,
        provenance={
            "method": "pairs",
            "options": {**options, "n_inputs": chosen.wanted},
            "exposure_s": pairs.exposure_s,
            "device": pairs.device.to_dict(),
            "noise": asdict(bench.noise),
            **stamp(),
        },
        diagnostics={"misfit": misfit, "saturated": pairs.saturated},
    )


def fit_rows(
    pairs: Pairs, chosen: Columns, design: DenseDesign, pixels: Pixels, rows: NDArray[np.intp], restarts: int, seed: int
) -> Fit:
    """Fit some rows from all their starts."""
    light = pixels.signal / pairs.scale[:, None] ** 2
    if pairs.beam is None:

        def start(number: int, bad: NDArray[np.intp]) -> ComplexArray:
            return spectral_start(chosen, light[:, bad], seed, rows[bad], number)

        others: list[Callable[[NDArray[np.intp]], ComplexArray]] = [
            lambda bad, number=number: start(number, bad) for number in range(1, restarts + 1)
        ]
        return retry(design, pixels, refine(design, pixels, start(0, np.arange(len(rows)))), others)
    is_open = ~np.isnan(pairs.phase)
    _, group = np.unique(np.packbits(pairs.patterns[is_open], axis=1), axis=0, return_inverse=True)
    some = replace(chosen, signs=chosen.signs[is_open])
    starts = reference_starts(some, light[is_open], pairs.phase[is_open].astype(np.float32), group.reshape(-1))
    return retry(design, pixels, refine(design, pixels, starts[0]), [lambda bad: starts[1][:, bad]])


def rows_of(pairs: Pairs, chosen: Columns, fit: Fit) -> tuple[ComplexArray, RealArray]:
    """Rows of the matrix in the unit of T and their errors; infinite where the fit says nothing."""
    unit = np.float32(2.0 / math.sqrt(pairs.bench.unit_dn))  # u is half of an entry
    fields = fit.unknowns[: chosen.wanted]
    if not chosen.has_offset:  # light of OFF mirrors is in the unknowns
        leak = np.complex64(pairs.bench.leakage / (1.0 - pairs.bench.leakage))
        whole = 2.0 * fit.unknowns[: len(chosen.flat)].sum(axis=0) / (1.0 + 2.0 * leak * chosen.flat.sum())
        fields = fields - leak * np.outer(chosen.flat[: chosen.wanted], whole)
    if pairs.beam is not None:
        turn = fit.unknowns[-1]
    else:
        turn = fit.unknowns[-1] if chosen.has_offset else (fit.unknowns * chosen.center[:, None]).sum(axis=0)
    matrix = (fields * turn.conj() / np.maximum(np.abs(turn), 1e-30)).T * unit
    if pairs.beam is None:
        matrix = np.where(matrix[:, :1].imag < 0, matrix.conj(), matrix)
    error = np.sqrt(fit.variance[:, 0]) * unit
    return np.nan_to_num(matrix).astype(np.complex64), np.where(np.isfinite(error) & (error > 0), error, np.inf)
