"""Focusing through the medium with a recovered transmission matrix, on the device itself."""

import math
from dataclasses import dataclass

import numpy as np
from array_api_compat import is_array_api_obj
from numpy.typing import ArrayLike, NDArray

from calibration.arrays import columns, mean
from calibration.device import Device, check_device, show
from calibration.fields.bad_pixels import is_hot
from photonics.arrays import Array, BoolArray, FloatArray, HostArray, Shapes, real_numbers
from photonics.backend import backend_of, to_host
from photonics.chain import SHORTEST_EXPOSURE_S
from photonics.component import integer
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet
from photonics.threads import one_blas_thread

__all__ = [
    "Focus",
    "amplitude_masks",
    "binary_gain",
    "focus",
    "leaked_field",
    "pad_to_device",
    "phase_gain",
]

PHASES = 32
"""Number of global phases among which a mask is chosen; the best one is brighter by less than (pi/32)^2, 1 %."""
PEAK = 0.5
"""Level of the brightest focus as a share of the camera's range."""
GOLDEN_RATIO = (math.sqrt(5.0) - 1.0) / 2.0
"""Multiples of this fraction of a turn (golden ratio) are evenly spread for any number of them."""


@dataclass(frozen=True, eq=False, repr=False)
class Focus(Shapes):
    """Foci on several pixels. Enhancements are intensities over the mean of random half-ON patterns."""

    targets: NDArray[np.intp]
    """Pixels to focus on, shape (k,)."""
    masks: BoolArray
    """Which inputs were ON for each target, shape (k, n_inputs)."""
    enhancement: NDArray[np.float64]
    """Measured at the target, shape (k,)."""
    predicted: NDArray[np.float64]
    """Enhancement predicted by the matrix if it is exact, shape (k,)."""
    expected: NDArray[np.float64]
    """Enhancement expected by the matrix and its stated error; `predicted` if no error was given, shape (k,).

    It holds for the medium that the matrix describes. Of a medium that moves, ``exp(-2 t / tau)`` of what exceeds 1 is
    left t frames later, tau its correlation time in frames: update the matrix first (`TransmissionEstimate.update`).
    """
    expected_error: NDArray[np.float64]
    """Standard error of `enhancement` about `expected`, by the errors of the matrix, the scatter of the frames and the
    laser's drift; NaN if the matrix came without an error, infinite if its error is, shape (k,)."""
    phase_only: NDArray[np.float64]
    """Enhancement predicted by the matrix for phase modulators, ``(sum |t|)^2``; shape (k,)."""
    saturated: BoolArray
    """Whether the target saturated, so that its enhancement is a lower bound, shape (k,)."""
    frame: FloatArray
    """Mean frame of the first mask over the mean of random patterns, shape (n_out,)."""
    exposure_s: float
    """Exposure for the foci, seconds."""


def binary_gain(n: int) -> float:
    """Enhancement by n binary mirrors through an exactly known Gaussian medium, ``1 + (n - 1) / (2 pi)``.

    The mirrors whose field at the focus is within a quarter turn of the common phase are ON (D. Akbulut et al., Opt.
    Express 19, 4017 (2011)). For ``E|t|^2 = 1`` their mean intensity is ``n/2 + n (n - 1) / (4 pi)``, that of half-ON
    patterns n/2.

    >>> round(binary_gain(256), 1)
    41.6
    """
    return 1.0 + (n - 1.0) / (2.0 * math.pi)


def phase_gain(n: int) -> float:
    """Enhancement by n phase modulators over their mean with random phases, ``1 + pi/4 (n - 1)``.

    I. M. Vellekoop and A. P. Mosk, Opt. Lett. 32, 2309 (2007).
    """
    return 1.0 + math.pi / 4.0 * (n - 1.0)


def amplitude_masks(matrix: ArrayLike, phases: int = PHASES, offset_rad: ArrayLike = 0.0) -> BoolArray:
    """Return binary masks that focus on each row: mirrors are ON where ``Re(conj(t) e^{i phi}) > 0``, at the best phi.

    Parameters
    ----------
    matrix : array_like of complex, shape (k, n)
        Rows of a transmission matrix. The phase of a row and its conjugation do not change the mask.
    offset_rad : float or array_like, shape (k,)
        First value of phi, radians.
    phases : int
        Number of values of phi that are tried, over the full turn. The focus varies with phi by some ``3 / sqrt(n)``;
        the best one exceeds the average by 28 % at n = 256, by 50 % at n = 64.

    Returns
    -------
    ndarray of bool, shape (k, n)
    """
    rows = np.asarray(matrix, np.complex64)
    first = np.broadcast_to(real_numbers(offset_rad, "offset_rad"), len(rows))[:, None]
    best = np.full(len(rows), -1.0)
    masks = np.zeros(rows.shape, np.bool_)
    for step in range(phases):  # one phase at a time, to limit memory to that of the rows
        turn = np.exp(1j * (first + 2.0 * np.pi * step / phases)).astype(np.complex64)
        on = np.real(np.conj(rows) * turn) > 0.0
        power = np.abs(np.where(on, rows, 0.0).sum(axis=1)) ** 2
        better = power > best
        best[better], masks[better] = power[better], on[better]
    return masks


@one_blas_thread
def focus(
    opu: Device,
    matrix: ArrayLike,
    targets: ArrayLike = 16,
    *,
    valid: ArrayLike | None = None,
    standard_error: ArrayLike | None = None,
    phases: int = PHASES,
    averages: int = 16,
    seed: int = 0,
) -> Focus:
    """Focus through the medium on one pixel after the other, and measure the enhancement.

    Parameters
    ----------
    opu : Device
        The device, at an exposure that suits ordinary frames. Foci are exposed for a shorter time, so that the
        brightest one is at half of the camera's range.
    matrix : array_like of complex, shape (n_out, n_inputs)
        Recovered transmission matrix; only relative phases within a row matter. The real map of an anchor or of
        reference pairs is refused: half of the light that an enhancement is compared with is missing in it.
    targets : int or array_like of int
        Indices of pixels, or a number of pixels, which are then spread over the frame.
    valid : array_like of bool, shape (n_out,), optional
        Valid rows of the matrix; targets are chosen among them.
    standard_error : array_like, shape (n_out,) or (n_out, n_inputs), optional
        Error of an entry of the matrix, in its unit (`TransmissionEstimate.standard_error`), for `Focus.expected`.
    phases : int
        Number of global phases among which each mask is chosen. With 1, each target has a different phase that does not
        depend on the focus, as `binary_gain` assumes (phase 0 may be special in the gauge of a matrix).
    averages : int
        Number of random half-ON patterns for the mean, half of them complements of the others. Each mask is shown a
        quarter of this number of times, at least twice.
    seed : int
        Seed of the random patterns.

    Raises
    ------
    ValueError
        If the matrix is real or does not fit the device, a target is not a pixel, or no row is valid.
    """
    entries = check_matrix(check_device(opu), matrix)
    backend, n_inputs = backend_of(entries), entries.shape[1]
    averages, phases = integer(averages, "averages", 2), integer(phases, "phases", 1)
    targets = choose_targets(opu.n_out, targets, valid)
    rows = to_host(backend.xp.take(entries, backend.asarray(targets), axis=0))
    known = entries if valid is None else backend.xp.take(entries, backend.asarray(np.flatnonzero(valid)), axis=0)
    random = half_on((averages + 1) // 2, n_inputs, seed, PatternSet.FOCUSING)
    random = np.concatenate([random, ~random])  # every input is ON equally often
    usual, reference = opu.exposure_s, mean_level(opu, random)

    spread = 2.0 * np.pi * GOLDEN_RATIO * np.arange(len(targets))
    masks, shots = amplitude_masks(rows, phases, spread), max(averages // 4, 2)
    field = np.where(masks, rows, 0.0).sum(axis=1) + leaked_field(opu, rows)
    level = mean_intensity(opu, known, random)
    predicted = np.abs(field) ** 2 / level
    expected, error = expect(entries, standard_error, targets, (masks, field), (level, valid))
    span = (opu.camera.saturation_dn - opu.camera.offset) * PEAK
    exposure = min(usual, max(usual * span / (reference * float(predicted.max())), SHORTEST_EXPOSURE_S))
    at_target, first, dark = measure_foci(opu, masks, targets, shots, exposure)
    unit, signal = reference * exposure / usual, at_target.astype(np.float64) - dark
    scatter = np.var(signal, axis=1, ddof=1).mean() / np.mean(signal**2) / shots + 2.0 * opu.laser.drift_rms**2
    return Focus(
        targets=targets,
        masks=masks,
        enhancement=signal.mean(axis=1) / unit,
        predicted=predicted,
        expected=expected,
        expected_error=np.hypot(error, expected * math.sqrt(scatter)),
        phase_only=np.abs(rows).sum(axis=1) ** 2 / float(np.mean(np.sum(np.abs(rows) ** 2, axis=1))),
        saturated=np.any(at_target >= opu.camera.saturation_dn, axis=1),
        frame=((first - dark) / unit).astype(np.float32),
        exposure_s=exposure,
    )


def check_matrix(opu: Device, matrix: ArrayLike) -> Array:
    """Return a complex matrix that fits the device, or raise a ``ValueError``."""
    entries: Array = matrix if is_array_api_obj(matrix) else np.asarray(matrix)
    if entries.ndim != 2 or entries.shape[0] != opu.n_out or not 0 < entries.shape[1] <= opu.n_in:
        raise ValueError(f"matrix must have shape ({opu.n_out}, up to {opu.n_in}), got {entries.shape}")
    if not backend_of(entries).xp.isdtype(entries.dtype, "complex floating"):
        raise ValueError(
            f"matrix must be complex, got {entries.dtype}: a real map, as of an anchor or reference pairs, lacks half "
            'of the light; take recover_transmission_matrix or measure_projection(opu, "phase-stepping"), and give a '
            "transmission matrix that is real in truth as complex numbers"
        )
    return entries


def measure_foci(
    opu: Device, masks: BoolArray, targets: NDArray[np.intp], shots: int, exposure_s: float
) -> tuple[HostArray, FloatArray, float]:
    """Show each mask some times: readings of its target, (k, shots); mean frame of the first mask; dark level."""
    frames = show(opu, np.repeat(pad_to_device(masks, opu.n_in), shots, axis=0), exposure_s)
    unlit = to_host(opu.dark(4, exposure_s))
    dark = float(unlit[:, ~is_hot(unlit, opu.camera.saturation_dn)].mean())
    readings = to_host(columns(frames, backend_of(frames).asarray(targets)))  # (targets * shots, targets)
    at_target = np.moveaxis(np.diagonal(readings.reshape(len(targets), shots, -1), axis1=0, axis2=2), -1, 0)
    return at_target, to_host(mean(frames[:shots, :], axis=0, dtype="float32")), dark


def expect(
    matrix: Array,
    standard_error: ArrayLike | None,
    targets: NDArray[np.intp],
    foci: tuple[BoolArray, NDArray[np.complex64]],
    mean: tuple[float, ArrayLike | None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Enhancement that a matrix with an error lets expect, and its standard error: (k,) each.

    Of an entry t' with the error s, the share ``w = 1 - s^2 / E|t'|^2`` is expected, with the variance ``w s^2``. A
    focus of the field F by the matrix has ``w^2 |F|^2`` and the sum V of the variances of its ON inputs, with the
    variance ``2 w^2 |F|^2 V + V^2``. The mean of random patterns is that of the matrix less the power of its errors.

    Parameters
    ----------
    foci : tuple
        Masks, (k, n_inputs), and fields by the matrix, (k,).
    mean : tuple
        Mean intensity of random half-ON patterns by the matrix, and the valid rows.
    """
    (masks, field), (level, valid) = foci, mean
    if standard_error is None:
        return np.abs(field) ** 2 / level, np.full(len(targets), math.nan)
    given = np.asarray(to_host(standard_error), np.float64)
    if given.shape not in ((matrix.shape[0],), matrix.shape):
        raise ValueError(f"standard_error must have shape {matrix.shape[:1]} or {matrix.shape}, got {given.shape}")
    squared = given.reshape(matrix.shape[0], -1) ** 2
    used = squared[np.ones(len(squared), bool) if valid is None else np.asarray(valid, bool)]
    rows = to_host(backend_of(matrix).xp.take(matrix, backend_of(matrix).asarray(targets), axis=0))
    own = np.broadcast_to(squared[targets], rows.shape)
    kept = np.clip(1.0 - own.mean(axis=1) / np.mean(np.abs(rows) ** 2, axis=1), 0.0, 1.0)
    with np.errstate(invalid="ignore"):  # an infinite error
        spread = kept * np.where(masks, own, 0.0).sum(axis=1)
    noise = float(np.where(np.isfinite(used), used, 0.0).sum()) / max(np.count_nonzero(np.isfinite(used)), 1)
    light, true = (kept * np.abs(field)) ** 2, level - rows.shape[1] / 2.0 * noise
    error = np.sqrt(2.0 * light * spread + spread**2)
    known = np.isfinite(spread) & (true > 0)
    return np.where(known, light + spread, level) / np.where(known, true, level), np.where(
        known, error / true, math.inf
    )


def mean_level(opu: Device, patterns: BoolArray) -> float:
    """Measure the mean level of patterns above dark, DN."""
    frames = show(opu, pad_to_device(patterns, opu.n_in))
    level = float(mean(frames, dtype="float64")) - float(to_host(opu.dark(4)).mean())
    if level <= 0.0:
        raise ValueError(f"exposure_s {opu.exposure_s:g} gives no light above dark in random patterns: lengthen it")
    return level


def leaked_field(opu: Device, matrix: Array) -> Array:
    """Field leaked by OFF mirrors, from their data sheet: (k, n) -> (k,).

    ON and OFF mirrors have the amplitudes 1 and eps, so a pattern x has ``(1 - eps) x + eps``; a recovered matrix is in
    the unit of the difference, ``(1 - eps) T``. In rows that are conjugated, the result for a complex eps is wrong by
    twice its imaginary part.
    """
    eps = complex(opu.dmd.leakage)
    return eps / (1.0 - eps) * backend_of(matrix).xp.sum(matrix, axis=1)


def mean_intensity(opu: Device, matrix: Array, patterns: BoolArray) -> float:
    """Mean intensity of patterns predicted by the matrix, over rows and patterns, in the unit of T."""
    backend = backend_of(matrix)
    shown = backend.xp.astype(backend.asarray(patterns), matrix.dtype)
    field = shown @ matrix.T + leaked_field(opu, matrix)
    return float(mean(backend.xp.abs(field) ** 2))


def choose_targets(n_out: int, targets: ArrayLike, valid: ArrayLike | None) -> NDArray[np.intp]:
    """Return the numbers of the pixels to focus on.

    Raises
    ------
    ValueError
        If a target is not a pixel, or no row is valid.
    """
    known = np.flatnonzero(np.ones(n_out, bool) if valid is None else np.asarray(valid, bool))
    if np.ndim(targets):
        rows = np.asarray(targets)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size or rows.min() < 0 or rows.max() >= n_out:
            raise ValueError(f"targets must be pixels from 0 to {n_out - 1}, got {targets!r}")
        return rows.astype(np.intp)
    if not known.size:
        raise ValueError("valid must have at least one True row, got none")
    count = min(integer(np.asarray(targets).item(), "targets", 1), known.size)
    return known[((np.arange(count) + 0.5) * known.size / count).astype(int)]


def pad_to_device(patterns: BoolArray, n_in: int) -> BoolArray:
    """Return patterns on all inputs of the device; inputs that are not in the matrix are OFF."""
    return np.pad(patterns, ((0, 0), (0, n_in - patterns.shape[1])))
