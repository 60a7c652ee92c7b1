"""Focusing through the medium with a recovered transmission matrix, on the device itself."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device, check_device
from photonics.chain import SHORTEST_EXPOSURE_S
from photonics.component import integer
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["Focus", "amplitude_masks", "binary_gain", "focus", "leaked", "on_device", "phase_gain"]

PHASES = 32
"""Global phases among which a mask is chosen; the loss against the best one is under (pi/32)^2 / 2."""
PEAK = 0.5
"""Wanted level of the focus, share of the camera's range."""
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Multiples of the golden section of a turn are spread evenly, however many there are."""


@dataclass(frozen=True, eq=False)
class Focus:
    """Foci that a device made. Enhancements are intensities over the mean of random half-ON patterns."""

    targets: NDArray[np.intp]
    """Pixels to focus on, shape (k,)."""
    masks: NDArray[np.bool_]
    """What the mirrors showed for each, shape (k, n_in)."""
    enhancement: NDArray[np.float64]
    """Measured at the target, shape (k,)."""
    predicted: NDArray[np.float64]
    """By the matrix, were it exact, shape (k,)."""
    phase_only: NDArray[np.float64]
    """By the matrix, were it exact and the mirrors modulated phase, (sum |t|)^2; shape (k,)."""
    saturated: NDArray[np.bool_]
    """Whether the target saturated, so that its enhancement is a lower bound, shape (k,)."""
    frame: NDArray[np.float32]
    """A frame of the first mask over the mean of random patterns, shape (n_out,)."""
    exposure_s: float
    """Exposure of the foci, seconds."""


def binary_gain(n: int) -> float:
    """Enhancement by n binary mirrors through an exactly known Gaussian medium, ``1 + (n/2 - 1) / pi``.

    Half of the mirrors are ON, those whose light arrives within a quarter turn of the common phase (D. Akbulut et al.,
    Opt. Express 19, 4017 (2011)).

    >>> round(binary_gain(256), 1)
    41.4
    """
    return 1.0 + (n / 2.0 - 1.0) / math.pi


def phase_gain(n: int) -> float:
    """Enhancement by n phase modulators, ``1 + pi/4 (n - 1)`` (I. M. Vellekoop, A. P. Mosk, Opt. Lett. 32, 2309, 2007).

    Over the mean with all of them ON in random phases.
    """
    return 1.0 + math.pi / 4.0 * (n - 1.0)


def amplitude_masks(matrix: Any, phases: int = PHASES, offset_rad: Any = 0.0) -> NDArray[np.bool_]:
    """Binary masks that focus on each row: mirrors ON where ``Re(conj(t) e^{i phi}) > 0``, at the best phi.

    Parameters
    ----------
    matrix : array_like of complex, shape (k, n)
        Rows of a transmission matrix. A row may carry any phase, and may be conjugated: the mask is the same.
    offset_rad : float or array_like, shape (k,)
        First value of phi, radians.
    phases : int
        Values of phi that are tried, over the full turn. The best one beats the average, whose focus scatters by some
        ``3 / sqrt(n)``: by 28 % at n = 256, by 50 % at n = 64.

    Returns
    -------
    ndarray of bool, shape (k, n)
    """
    matrix = np.asarray(matrix, np.complex64)
    first = np.broadcast_to(np.asarray(offset_rad, np.float64), len(matrix))[:, None]
    best = np.full(len(matrix), -1.0)
    masks = np.zeros(matrix.shape, np.bool_)
    for step in range(phases):  # one phase at a time: memory of the rows themselves
        turn = np.exp(1j * (first + 2.0 * np.pi * step / phases)).astype(np.complex64)
        on = np.real(np.conj(matrix) * turn) > 0.0
        power = np.abs(np.where(on, matrix, 0.0).sum(axis=1)) ** 2
        better = power > best
        best[better], masks[better] = power[better], on[better]
    return masks


def focus(
    opu: Device,
    matrix: Any,
    targets: Any = 16,
    *,
    valid: Any = None,
    phases: int = PHASES,
    averages: int = 16,
    seed: int = 0,
) -> Focus:
    """Focus through the medium on pixels, one after the other, and measure the enhancement.

    Parameters
    ----------
    opu : Device
        The device; its exposure is that of ordinary frames. Foci are exposed for less, so that they stay at half of
        the camera's range.
    matrix : array_like of complex, shape (n_out, n_inputs)
        Recovered transmission matrix; of its rows only relative phases within a row matter.
    targets : int or array_like of int
        Pixels, or how many of them, which are then spread over the frame.
    valid : array_like of bool, shape (n_out,), optional
        Rows that are known; targets are chosen among them.
    phases : int
        Global phases among which each mask is chosen; with 1 each target has another one, without regard to the focus,
        as the law `binary_gain` has it (a method may turn rows so that phase 0 is special).
    averages : int
        Random half-ON patterns for the mean, half of them the complements of the others; each
        mask is shown a quarter as often, at least twice.
    seed : int
        Draws the random patterns.

    Raises
    ------
    ValueError
        If the matrix does not fit the device, a target is not a pixel, or no row is valid.
    """
    check_device(opu)
    matrix = np.asarray(matrix)
    n_inputs = matrix.shape[-1]
    if matrix.ndim != 2 or matrix.shape[0] != opu.n_out or not 0 < n_inputs <= opu.n_in:
        raise ValueError(f"matrix must have shape ({opu.n_out}, up to {opu.n_in}), got {matrix.shape}")
    averages, phases = integer(averages, "averages", 2), integer(phases, "phases", 1)
    rows = choose_targets(opu.n_out, targets, valid)
    random = half_on((averages + 1) // 2, n_inputs, seed, PatternSet.FOCUSING)
    random = np.concatenate([random, ~random])  # as many ON as OFF over all
    usual = opu.exposure_s
    frames = np.asarray(opu.measure(on_device(random, opu.n_in)))
    reference = float(frames.mean(dtype=np.float64)) - float(np.asarray(opu.dark(4)).mean())
    if reference <= 0.0:
        raise ValueError(f"exposure_s {usual:g} leaves no light above dark in random patterns: lengthen it")

    spread = 2.0 * np.pi * GOLDEN * np.arange(len(rows))
    masks, shots = amplitude_masks(matrix[rows], phases, spread), max(averages // 4, 2)
    norm = mean_intensity(opu, matrix if valid is None else matrix[np.asarray(valid, bool)], random)
    field = np.where(masks, matrix[rows], 0.0).sum(axis=1) + leaked(opu, matrix[rows])
    predicted = np.abs(field) ** 2 / norm
    span = (opu.camera.saturation_dn - opu.camera.offset) * PEAK
    exposure = min(usual, max(usual * span / (reference * float(predicted.max())), SHORTEST_EXPOSURE_S))
    shown = np.repeat(on_device(masks, opu.n_in), shots, axis=0)
    frames = np.asarray(opu.measure(shown, exposure)).reshape(len(rows), shots, -1)
    dark = float(np.asarray(opu.dark(4, exposure)).mean())
    at_target = np.take_along_axis(frames, rows[:, None, None], axis=2)[:, :, 0]
    unit = reference * exposure / usual
    return Focus(
        targets=rows,
        masks=masks,
        enhancement=(at_target.astype(np.float64).mean(axis=1) - dark) / unit,
        predicted=predicted,
        phase_only=np.abs(matrix[rows]).sum(axis=1) ** 2 / float(np.mean(np.sum(np.abs(matrix[rows]) ** 2, axis=1))),
        saturated=np.any(at_target >= opu.camera.saturation_dn, axis=1),
        frame=((frames[0].astype(np.float32).mean(axis=0) - dark) / unit).astype(np.float32),
        exposure_s=exposure,
    )


def leaked(opu: Device, matrix: NDArray[Any]) -> NDArray[Any]:
    """Field that mirrors that are OFF let through, by their data sheet: (k, n) -> (k,).

    ON and OFF send 1 and eps, so a pattern x sends ``(1 - eps) x + eps``; a recovered matrix is in the unit of the
    difference, ``(1 - eps) T``. With a complex eps it is wrong in rows that came back conjugated, by twice its
    imaginary part.
    """
    eps = complex(opu.dmd.leakage)
    return eps / (1.0 - eps) * matrix.sum(axis=1)


def mean_intensity(opu: Device, matrix: NDArray[Any], patterns: NDArray[np.bool_]) -> float:
    """Mean intensity of patterns by the matrix, over rows and patterns, in the unit of T."""
    field = patterns.astype(np.float32) @ matrix.T + leaked(opu, matrix)
    return float(np.mean(np.abs(field) ** 2))


def choose_targets(n_out: int, targets: Any, valid: Any) -> NDArray[np.intp]:
    """Pixels to focus on, or say what is wrong with them."""
    known = np.flatnonzero(np.ones(n_out, bool) if valid is None else np.asarray(valid, bool))
    if np.ndim(targets):
        rows = np.asarray(targets)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size or rows.min() < 0 or rows.max() >= n_out:
            raise ValueError(f"targets must be pixels from 0 to {n_out - 1}, got {targets!r}")
        return rows.astype(np.intp)
    if not known.size:
        raise ValueError("valid must have a row that is known, got none")
    count = min(integer(targets, "targets", 1), known.size)
    return known[((np.arange(count) + 0.5) * known.size / count).astype(int)]


def on_device(patterns: NDArray[np.bool_], n_in: int) -> NDArray[np.bool_]:
    """Patterns on all inputs of the device; those that the matrix leaves out are OFF."""
    whole = np.zeros((len(patterns), n_in), np.bool_)
    whole[:, : patterns.shape[1]] = patterns
    return whole
