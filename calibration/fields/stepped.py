"""Fields from phase-stepped frames: a linear estimate, and a maximum-likelihood one that uses the known reference.

Model of a pixel: ``I_p = |y + r exp(i phase_p)|^2 + dark``, with r > 0 the root of the reference's intensity and y the
field, whose phase is relative to that of the reference.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.noise import NoiseModel
from calibration.fields.readings import Bench
from calibration.fields.saturated import Prior, estimate_on_circle
from photonics.arrays import BoolArray, ComplexArray, FloatArray, HostArray

__all__ = [
    "Fields",
    "closure",
    "coherent_misfit",
    "is_complete",
    "light_changes",
    "linear_fields",
    "linear_weights",
    "misfit",
    "refine_fields",
    "stepped_reference",
]

ROUNDS = 4
"""Gauss-Newton steps. The last one changes a field by under 1e-3 of its error, a saturated one by a few per cent."""
MAX_INCOHERENT = 0.05
"""Largest deviation of `closure` from 1 at which all light counts as coherent."""

MIN_LIT = 16
"""Pixels without saturated readings from which on changes of the light can be told from noise."""

Real = FloatArray


class Fields(NamedTuple):
    """Fields at some pixels, and their error."""

    values: ComplexArray
    """(probes, n_pixels), roots of DN."""
    variance: Real
    """``E|error|^2``, mean over the probes, (n_pixels,), DN."""


def linear_weights(phases: NDArray[np.float64]) -> ComplexArray:
    """Weights with which frames add up to ``z = r y``: (..., P) -> (..., P).

    They are those of the least-squares fit of ``I_p = a + 2 Re(z exp(-i phase_p))``; for P >= 3 equal steps over the
    full circle, ``exp(i phase_p) / P``.
    """
    basis = np.stack([np.ones_like(phases), 2.0 * np.cos(phases), 2.0 * np.sin(phases)], axis=-1)
    inverse = np.linalg.pinv(basis, rcond=1e-3)
    return (inverse[..., 1, :] + 1j * inverse[..., 2, :]).astype(np.complex64)


def linear_fields(frames: HostArray, phases: NDArray[np.float64], reference: Real, bench: Bench) -> Fields:
    """Estimate fields from the fringes alone; saturated readings are used as they are.

    Parameters
    ----------
    frames : ndarray, shape (probes, P, n_pixels)
        The camera's integers.
    phases : ndarray, shape (probes, P)
        Radians.
    reference : ndarray, shape (n_pixels,)
        ``r``, roots of DN; positive.
    bench : Bench
    """
    weights = linear_weights(phases)
    values = np.zeros((frames.shape[0], frames.shape[2]), np.complex64)
    variance = np.zeros(frames.shape[2], np.float32)
    for step in range(frames.shape[1]):
        seen = frames[:, step].astype(np.float32)
        values += weights[:, step, None] * seen
        variance += np.abs(weights[:, step]) ** 2 @ bench.noise.variance(seen)
    return Fields(values / reference, (variance / (reference**2 * np.float32(len(frames)))).astype(np.float32))


def stepped_reference(phases: NDArray[np.float64], reference: Real) -> Callable[[int], ComplexArray]:
    """The reference's field as a function of the step, -> (probes, n_pixels); argument `beam` of `refine_fields`."""
    turns = np.exp(1j * phases).astype(np.complex64)
    return lambda step: turns[:, step, None] * reference


def refine_fields(
    frames: HostArray,
    beam: Callable[[int], ComplexArray],
    start: ComplexArray,
    noise: NoiseModel,
    saturation_dn: int,
    rounds: int = ROUNDS,
    prior: Prior | None = None,
) -> Fields:
    """Estimate fields by maximum likelihood in ``I_p = |y + beam_p|^2 + dark``, the beam known.

    Gauss-Newton steps from `start`, each reading weighted by the inverse of its variance. Besides the fringes they use
    the mean of a probe's frames, ``|y|^2 + r^2``, which halves the variance of |y| at ``|y| = r / sqrt 2``. A saturated
    reading is a lower bound: it counts only while the model is below it, so that the estimate stays unbiased as long as
    two readings are left. With one reading left, the field is a posterior mean (`calibration.fields.saturated`). With
    none, it is that of the least light that saturates a frame, and the variance of the prior is added to its error.

    Parameters
    ----------
    frames : ndarray, shape (probes, P, n_pixels)
        The camera's integers.
    beam : function
        The reference's field in a step, roots of DN: step -> (probes or 1, n_pixels).
    start : ndarray, shape (probes, n_pixels)
    noise : NoiseModel
    saturation_dn : int
    rounds : int
    prior : Prior, optional
        The prior of each pixel; by default the mean and the spread of its other probes.
    """
    y = start.copy()
    top = np.float32(saturation_dn)
    variance = np.ones(y.shape, np.float32)
    sums = np.empty(
        (5, *y.shape), np.float32
    )  # reused in all rounds: new memory in each round would cost a third of the time
    for _ in range(rounds):
        variance = improve(y, frames, beam, noise, top, sums)
    left = (frames < top).sum(axis=1)
    if (left < 2).any():
        prior = prior or spread_of(y, left >= 2)
        probe, pixel = np.nonzero(left < 2)
        beams = [np.broadcast_to(beam(step), y.shape)[probe, pixel] for step in range(frames.shape[1])]
        readings = frames[probe, :, pixel].T.astype(np.float32)
        of_each = Prior(prior.mean[pixel], prior.spread[pixel])
        y[probe, pixel], variance[probe, pixel] = estimate_on_circle(
            readings, np.stack(beams), of_each, noise, float(top)
        )
    return Fields(y, variance.mean(axis=0))


def improve(
    y: ComplexArray,
    frames: HostArray,
    beam: Callable[[int], ComplexArray],
    noise: NoiseModel,
    top: np.float32,
    sums: FloatArray,
) -> FloatArray:
    """Improve fields in place by a Gauss-Newton step of `refine_fields`, and return their variance.

    `sums`, shape (5, probes, n_pixels), is memory to work in.
    """
    sums.fill(0.0)
    aa, ab, bb, ra, rb = sums
    for step in range(frames.shape[1]):
        seen = frames[:, step].astype(np.float32)
        total = y + beam(step)
        a, b = total.real, total.imag
        model = a * a + b * b
        residual = seen - np.float32(noise.dark_dn) - model
        weight = np.float32(4.0) / (np.float32(noise.floor_dn2) + np.float32(noise.slope_dn) * model)
        weight[(seen >= top) & (residual < 0)] = 0.0
        wa = weight * a
        aa += wa * a
        ab += wa * b
        bb += weight * b * b
        residual *= np.float32(0.5)
        ra += residual * wa
        rb += residual * weight * b
    trace = aa + bb
    # Damping by 1e-3 changes the steps but not their limit.
    aa += np.float32(1e-3) * trace
    bb += np.float32(1e-3) * trace
    determinant = np.maximum(aa * bb - ab * ab, np.float32(1e-30))
    y.real += (bb * ra - ab * rb) / determinant
    y.imag += (aa * rb - ab * ra) / determinant
    return np.asarray(trace / determinant, np.float32)


def spread_of(values: ComplexArray, known: BoolArray) -> Prior:
    """Mean and spread of the known fields of each pixel, or of all its fields if none is known."""
    known = known | ~known.any(axis=0)
    mean = values.mean(axis=0, where=known)
    return Prior(mean, (np.abs(values - mean) ** 2).mean(axis=0, where=known))


def misfit(frames: HostArray, phases: NDArray[np.float64], noise: NoiseModel, saturation_dn: int) -> Real:
    """Squared residuals of the fit of ``I_p = a + 2 Re(z exp(-i phase_p))`` over those expected from noise, per pixel.

    A probe has P - 3 degrees of freedom, so more than three steps are needed. NaN if every probe of the pixel
    saturates. Arguments are as for `linear_fields`.
    """
    seen, expected = np.zeros(frames.shape[2], np.float32), np.zeros(frames.shape[2], np.float32)
    basis = np.stack([np.ones_like(phases), 2.0 * np.cos(phases), 2.0 * np.sin(phases)], axis=-1)
    left = np.eye(frames.shape[1]) - basis @ np.linalg.pinv(basis, rcond=1e-3)  # (probes, P, P)
    for probe, rest in zip(frames, left.astype(np.float32), strict=True):
        good = (probe < saturation_dn).all(axis=0)
        seen += np.where(good, ((rest @ probe.astype(np.float32)) ** 2).sum(axis=0), np.float32(0.0))
        expected += np.where(good, np.diag(rest) @ noise.variance(probe), np.float32(0.0))
    return (seen / np.where(expected > 0, expected, np.nan)).astype(np.float32)


def coherent_misfit(
    frames: HostArray, beam: Callable[[int], ComplexArray], values: ComplexArray, noise: NoiseModel, saturation_dn: int
) -> Real:
    """Squared residuals of the fields of `refine_fields` over those that noise explains, per pixel.

    A probe has P - 2 degrees of freedom, so that three steps have a misfit as well where all light is coherent.
    """
    good = (frames < saturation_dn).all(axis=1)
    seen = np.zeros(values.shape, np.float32)
    for step in range(frames.shape[1]):
        model = np.abs(values + beam(step)) ** 2 + np.float32(noise.dark_dn)
        seen += (frames[:, step].astype(np.float32) - model) ** 2 / noise.variance(model)
    count = good.sum(axis=0) * (frames.shape[1] - 2)
    return (seen.sum(axis=0, where=good) / np.where(count > 0, count, np.nan)).astype(np.float32)


def is_complete(share: float) -> bool:
    """Whether a `closure` is close enough to 1 that all light counts as coherent."""
    return abs(share - 1.0) <= MAX_INCOHERENT


def closure(frames: HostArray, phases: NDArray[np.float64], reference: Real, bench: Bench) -> float:
    """Mean intensity of the speckle in the frames over that in the fringes, after subtraction of noise.

    It is 1 if all light interferes with the reference, and larger with a second polarisation or other incoherent light,
    which `refine_fields` would mistake for signal. Only pixels without saturated readings are used.
    """
    good = (frames < bench.saturation_dn).all(axis=(0, 1))
    if not good.any():
        return float("nan")
    fields = linear_fields(frames[:, :, good], phases, reference[good], bench)
    fringes = np.mean(np.abs(fields.values) ** 2) - fields.variance.mean()
    mean = np.mean(frames[:, :, good], dtype=np.float64) - bench.noise.dark_dn - np.mean(reference[good] ** 2)
    return float(mean / fringes)


def light_changes(frames: HostArray, phases: NDArray[np.float64], reference: Real, bench: Bench) -> float:
    """Relative change of the light from probe to probe, rms; 0 if noise explains what is seen.

    Light of power ``1 + e`` in a probe leaves its phase steps perfect. The mean of the frames and the fringes change as
    ``(1 + e)(r^2 + |y|^2)`` and ``(1 + e) r y``, so that with y from the fringes the mean exceeds ``r^2 + |y|^2`` by
    ``e (r^2 - |y|^2)`` to first order: e is the slope over the pixels. Only pixels without saturated readings are used.
    Arguments are as for `linear_fields`.
    """
    good = (frames < bench.saturation_dn).all(axis=(0, 1))
    if good.sum() < MIN_LIT or len(frames) < 2:
        return 0.0
    frames, square = frames[:, :, good], reference[good].astype(np.float64) ** 2
    light = np.abs(linear_fields(frames, phases, reference[good], bench).values).astype(np.float64) ** 2
    excess, lever = frames.mean(axis=1) - bench.noise.dark_dn - square - light, square - light
    power = np.sum(lever**2, axis=1)
    slope = np.sum(excess * lever, axis=1) / power
    noise = np.mean(np.mean((excess - slope[:, None] * lever) ** 2, axis=1) / power)
    found = float(np.var(slope, ddof=1))
    return float(np.sqrt(found - noise)) if found > noise * (1.0 + 6.0 * np.sqrt(2.0 / len(frames))) else 0.0
