"""Linearity of a bench with a reference beam: what a camera that is not linear adds to fringes and to the speckle.

A camera that reads ``I - k I^2`` changes a field in light I by the share ``2 k I``, the bend. Other curves count by
their curvature at that light.
"""

import math
import warnings

import numpy as np

from calibration.arrays import total
from calibration.camera.rounding import rounding_of_speckle, rounding_rms
from calibration.fields.misfit import Misfit
from photonics.arrays import Array, HostArray
from photonics.backend import backend_of, to_host

__all__ = [
    "bend_of",
    "bend_of_fringes",
    "curvature_of_levels",
    "curvature_of_steps",
    "curvature_sums",
    "warn_of_exposures",
]

MIN_BEND = 0.01
"""Smallest change of the speckle's reading by the beam, and smallest bend of the fringes, that is told."""
MIN_SHARE = 0.1
"""Smallest share of the second harmonic that must be outside of the bands of a frame's spectrum."""
MIN_COUNT = 8
"""Number of patterns from which on their scatter shows the error of the curvature."""
COMMON_SHARE = 0.3
"""Share of that scatter which does not average out, since the fields of patterns resemble each other."""
SHOT_ERROR = 0.25
"""Relative error of the slope of noise over light, which dim frames show badly."""
MIN_PULL = 4.0
"""Standard errors above which a bend is told."""


def bend_of(rest: Array, speckle: Array, reference_dn: Array, drift_rms: float, stacklevel: int = 2) -> float:
    """Relative change of the speckle's reading when the beam is added: 0 for a linear camera, within its error.

    A linear camera leaves no rest of frames of both, less those of each alone and the fringes. The rest is fitted by
    the beam and the speckle. If the camera reads ``I - k I^2``, the coefficient of the speckle is ``-2 k |R|^2``, the
    relative error of the field is as large, and a warning is given.

    Parameters
    ----------
    rest : ndarray, shape (probes, n_out)
        The rest, DN; 0 on lost pixels.
    speckle : ndarray, shape (probes, n_out)
        Frames without the beam, less the dark level; 0 on lost pixels.
    reference_dn : ndarray, shape (n_out,)
        Intensity of the beam alone.
    drift_rms : float
        Relative rms drift of the laser's power between the frames.
    stacklevel : int
        Number of calls from here to the line that the warning names.
    """
    xp = backend_of(speckle).xp
    lit = xp.where(speckle != 0, reference_dn, 0.0)
    products = (lit**2, speckle * lit, speckle**2, rest * speckle, rest * lit)
    aa, ab, bb, of_speckle, of_beam = to_host(xp.stack([xp.sum(product, axis=1) for product in products]))
    found = aa * of_speckle - ab * of_beam
    found /= np.maximum(aa * bb - ab**2, 1e-9 * aa * bb + 1e-9)
    dim = rounding_of_speckle(float(xp.mean(speckle)))
    error = math.hypot(float(found.std()) / math.sqrt(len(found) - 1), drift_rms, dim)
    bend = abs(float(found.mean()))
    if bend < max(MIN_BEND, 4.0 * error):
        return 0.0
    warnings.warn(
        f"frames do not fit the model: the beam changes the reading of the speckle by {found.mean():.1%} (noise and "
        f"drift: {error:.1%}); the stated error contains it. The camera may not be linear, or frames lost or doubled",
        stacklevel=stacklevel + 1,
    )
    return bend


def curvature_sums(
    seen: Array,
    harmonic: Array,
    variance: Array,
    light: Array,
    level: Array,
    frame_variance: Array,
    shot_dn: float = 0.0,
) -> Array:
    """Sums over the pixels of each pattern from which `bend_of_fringes` finds the curvature k: (batch, 6).

    Parameters
    ----------
    seen, harmonic : ndarray, shape (batch, n_pixels)
        A part of the frames that a linear camera leaves at 0, and what ``-I^2`` adds to it, both real or complex.
    variance : ndarray, shape (batch, n_pixels)
        Variance of `seen` by noise, along any direction of the complex plane.
    light, level : ndarray, shape (batch, n_pixels)
        Squared fringes, and the mean of a pixel's frames above the dark level, DN.
    frame_variance : ndarray, shape (batch, n_pixels)
        Variance of a frame. If it is hardly more than that of rounding, errors of rounding depend on the fringes.
    shot_dn : float
        Shot noise is larger where fringes are bright: it adds ``-shot_dn light`` to the product of `seen` and
        `harmonic`.
    """
    xp = backend_of(seen).xp
    square = xp.abs(harmonic) ** 2
    rounding = rounding_rms(frame_variance) * xp.sqrt(variance / frame_variance)
    both = xp.real(xp.conj(harmonic) * seen) if xp.isdtype(seen.dtype, "complex floating") else harmonic * seen
    product = both + shot_dn * light
    known = xp.sqrt(square) * rounding + SHOT_ERROR * shot_dn * light
    parts = (product, square, square * variance, light * level, light, known)
    return xp.stack([total(part, 1, "float64") for part in parts], axis=1)


def curvature_of_steps(
    frames: Array, fields: Array, phases_rad: HostArray, variance: Array, good: Array
) -> tuple[Array, Array, Array]:
    """Second harmonic of phase steps, what ``-I^2`` adds to it, and its variance; for `curvature_sums`.

    Parameters
    ----------
    frames : ndarray, shape (batch, P, n_pixels)
        Frames at four equal steps over a full turn, or more.
    fields : ndarray, shape (batch, n_pixels)
        ``conj(R) y``.
    phases_rad : ndarray, shape (P,)
        Phases of the steps.
    variance : ndarray, shape (batch, n_pixels)
        Mean variance of a frame.
    good : ndarray of bool, shape (batch, n_pixels)
        Pixels that count.
    """
    xp, steps = backend_of(fields).xp, len(phases_rad)
    turn = np.exp(2j * phases_rad).astype(np.complex64)
    seen, square = xp.zeros_like(fields), xp.where(good, fields**2, 0.0)
    for step in range(steps):
        seen += complex(turn[step] / np.float32(steps)) * xp.astype(frames[:, step, :], xp.complex64)
    if steps == 4:  # the harmonic is at the sampling limit, where both of its sides add up
        return xp.real(seen), -2.0 * xp.real(square), variance / 4.0
    return seen, -square, variance / (2 * steps)


def curvature_of_levels(excess: Array, speckle: Array, variance: Array, good: Array) -> tuple[Array, Array, Array]:
    """Excess of the mean of a pattern's frames, what ``-I^2`` adds to it, and its variance; for `curvature_sums`.

    With the speckle P from the fringes, the mean exceeds ``|R|^2 + P`` by ``3 k P^2`` and terms that are linear in P. A
    level, the power of the light and noise are linear in P, too, and are taken out.

    Parameters
    ----------
    excess, speckle, variance : ndarray, shape (batch, n_pixels)
        Mean above dark minus ``|R|^2 + P``, DN; P, DN; variance of the excess.
    good : ndarray of bool, shape (batch, n_pixels)
        Pixels that count.
    """
    xp = backend_of(speckle).xp
    p = xp.astype(speckle, xp.float64)

    def without(values: Array, basis: Array) -> Array:
        share = total(values * basis, 1, where=good) / xp.maximum(total(basis**2, 1, where=good), 1e-30)
        return values - share[:, None] * basis

    one = xp.ones_like(p)
    linear = without(p, one)
    square = without(without(p**2, one), linear)
    return excess, xp.where(good, 3.0 * square, 0.0), variance


def bend_of_fringes(sums: Array, known: float = 0.0, stacklevel: int = 2) -> float:
    """Relative error of fields by a camera that is not linear, from `curvature_sums`; 0 if it is not significant.

    A warning tells it, unless it is within 1.5 times the bend that is `known` already. The error of the curvature is
    that of noise, of its scatter from pattern to pattern, and of rounding that noise does not average out. Fringes so
    dim that only a bend of 1 would be significant tell nothing.
    """
    xp, rows = backend_of(sums).xp, sums[sums[:, 1] > 0]
    if not (count := rows.shape[0]):
        return 0.0
    seen, square, noise, level, light, common = (rows[:, k] for k in range(6))
    of_square = float(xp.sum(square))
    curvature = float(xp.sum(seen)) / of_square
    variance = float(xp.sum(noise)) / of_square**2
    if count >= MIN_COUNT:
        scatter = float(xp.sum((seen / square - curvature) ** 2 * square)) / of_square
        variance = max(variance, scatter * max(1.0 / count, COMMON_SHARE**2))
    variance += (float(xp.sum(common)) / of_square) ** 2
    twice = 2.0 * float(xp.sum(level)) / max(float(xp.sum(light)), 1e-30)
    bend, error = abs(twice * curvature), twice * math.sqrt(variance)
    if bend < max(MIN_BEND, MIN_PULL * error) or MIN_PULL * error > 1.0:
        return 0.0
    if bend < 1.5 * known:
        return bend
    warnings.warn(
        f"frames do not fit the model: fringes are bent as by a camera whose reading in bright light changes by "
        f"{-twice * curvature:.1%} (noise: {error:.1%}); stated errors include it. The camera may not be linear, or "
        "use a gamma",
        Misfit,
        stacklevel=stacklevel + 1,
    )
    return bend


def warn_of_exposures(bend: float, stacklevel: int = 2) -> float:
    """Warn of a `calibration.camera.noise.Background.bend` that is not 0; return its size."""
    if bend:
        warnings.warn(
            f"frames do not fit the model: readings at an eighth of the exposure are {bend:+.1%} from an eighth of the "
            "readings; stated errors include it. The camera may not be linear or use a gamma, or the light may change",
            Misfit,
            stacklevel=stacklevel + 1,
        )
    return abs(bend)
