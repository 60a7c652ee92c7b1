"""Fields from phase-stepped frames: a linear estimate, and a maximum-likelihood one that uses the known reference.

Model of a pixel: ``I_p = |y + r exp(i phase_p)|^2 + dark``, with r > 0 the root of the reference's intensity and y the
field, whose phase is relative to that of the reference.
"""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import as_complex, at_places, columns, count, mean, put, total
from calibration.camera.noise import NoiseModel
from calibration.fields.holography import fringe_basis
from calibration.fields.readings import Bench
from calibration.fields.saturated import Prior, estimate_on_circle
from photonics.arrays import Array, ComplexArray, FloatArray
from photonics.backend import backend_of

__all__ = [
    "Fields",
    "closure",
    "coherent_misfit",
    "is_complete",
    "light_changes",
    "linear_fields",
    "linear_weights",
    "mean_weights",
    "misfit",
    "refine_fields",
    "stepped_reference",
    "warn_of_light",
]

ROUNDS = 4
"""Gauss-Newton steps. The last one changes a field by under 1e-3 of its error, a saturated one by a few per cent."""
MAX_INCOHERENT = 0.05
"""Largest deviation of `closure` from 1 at which all light counts as coherent."""

MAX_LIGHT_ERROR = 0.5
"""Squared error by changes of the light, relative to that by noise, from which on a warning is given."""
MIN_LIT = 16
"""Pixels without saturated readings from which on changes of the light can be told from noise."""

Real = Array


class Fields(NamedTuple):
    """Fields at some pixels, and their error."""

    values: Array
    """(probes, n_pixels), roots of DN."""
    variance: Real
    """``E|error|^2``, mean over the probes, (n_pixels,), DN."""

    @property
    def light(self) -> Real:
        """Mean of ``|y|^2`` over the probes, (n_pixels,), DN."""
        xp = backend_of(self.values).xp
        return xp.mean(xp.abs(self.values) ** 2, axis=0)

    @property
    def mean_light(self) -> float:
        """Mean of ``|y|^2`` over probes and pixels, DN."""
        xp = backend_of(self.values).xp
        return float(xp.mean(xp.abs(self.values) ** 2))


def linear_weights(phases: NDArray[np.float64]) -> ComplexArray:
    """Weights with which frames add up to ``z = r y``: (..., P) -> (..., P).

    They are those of the least-squares fit of ``I_p = a + 2 Re(z exp(-i phase_p))``; for P >= 3 equal steps over the
    full circle, ``exp(i phase_p) / P``.
    """
    inverse = np.linalg.pinv(fringe_basis(phases), rcond=1e-3)
    return (inverse[..., 1, :] + 1j * inverse[..., 2, :]).astype(np.complex64)


def mean_weights(phases: NDArray[np.float64]) -> FloatArray:
    """Weights with which frames add up to ``a`` of the fit of `linear_weights`: (..., P) -> (..., P)."""
    return np.linalg.pinv(fringe_basis(phases), rcond=1e-3)[..., 0, :].astype(np.float32)


def linear_fields(frames: Array, phases: NDArray[np.float64], reference: Real, bench: Bench) -> Fields:
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
    backend, (probes, steps, pixels) = backend_of(frames), frames.shape
    xp, weights = backend.xp, linear_weights(phases)
    values, variance = backend.zeros((probes, pixels), "complex64"), backend.zeros((pixels,), "float32")
    for step in range(steps):
        seen = xp.astype(frames[:, step, :], xp.float32)
        values += backend.asarray(weights[:, step, None]) * seen
        variance += backend.asarray(np.abs(weights[:, step]) ** 2) @ bench.noise.variance(seen)
    return Fields(values / reference, xp.astype(variance / (reference**2 * float(probes)), xp.float32))


def stepped_reference(phases: NDArray[np.float64], reference: Real) -> Callable[[int], Array]:
    """The reference's field as a function of the step, -> (probes, n_pixels); argument `beam` of `refine_fields`."""
    turns = backend_of(reference).asarray(np.exp(1j * phases).astype(np.complex64))
    return lambda step: turns[:, step, None] * reference


def refine_fields(
    frames: Array,
    beam: Callable[[int], Array],
    start: Array,
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
    backend = backend_of(start)
    xp, y = backend.xp, backend.xp.asarray(start, copy=True)
    variance = backend.zeros(y.shape, "float32") + 1.0
    # Reused in all rounds: new memory in each round would cost a third of the time.
    sums = backend.empty((5, *y.shape), "float32")
    for _ in range(rounds):
        variance = improve(y, frames, beam, noise, saturation_dn, sums)
    left = count(frames < saturation_dn, 1)
    if bool(xp.any(left < 2)):
        prior, at = prior or spread_of(y, left >= 2), xp.nonzero(left < 2)
        steps = range(frames.shape[1])
        beams = [at_places(xp.broadcast_to(beam(step), y.shape)[:, None, :], *at)[:, 0] for step in steps]
        readings = xp.astype(at_places(frames, *at).T, xp.float32)
        of_each = Prior(xp.take(prior.mean, at[1]), xp.take(prior.spread, at[1]))
        values, errors = estimate_on_circle(readings, xp.stack(beams), of_each, noise, float(saturation_dn))
        put(y, at, values)
        put(variance, at, errors)
    return Fields(y, xp.mean(variance, axis=0))


def improve(y: Array, frames: Array, beam: Callable[[int], Array], noise: NoiseModel, top: int, sums: Real) -> Real:
    """Improve fields in place by a Gauss-Newton step of `refine_fields`, and return their variance.

    `sums`, shape (5, probes, n_pixels), is memory to work in.
    """
    xp = backend_of(y).xp
    sums[...] = 0.0
    aa, ab, bb, ra, rb = (sums[k, ...] for k in range(5))
    for step in range(frames.shape[1]):
        seen = xp.astype(frames[:, step, :], xp.float32)
        field = y + beam(step)
        a, b = xp.real(field), xp.imag(field)
        model = a * a + b * b
        residual = seen - noise.dark_dn - model
        weight = 4.0 / (noise.floor_dn2 + noise.slope_dn * model)
        weight[(seen >= top) & (residual < 0)] = 0.0
        wa = weight * a
        aa += wa * a
        ab += wa * b
        bb += weight * b * b
        residual *= 0.5
        ra += residual * wa
        rb += residual * weight * b
    trace = aa + bb
    # Damping by 1e-3 changes the steps but not their limit.
    aa += 1e-3 * trace
    bb += 1e-3 * trace
    determinant = xp.maximum(aa * bb - ab * ab, 1e-30)
    y += as_complex((bb * ra - ab * rb) / determinant, (aa * rb - ab * ra) / determinant)
    return trace / determinant


def spread_of(values: Array, known: Array) -> Prior:
    """Mean and spread of the known fields of each pixel, or of all its fields if none is known."""
    xp = backend_of(values).xp
    known = known | ~xp.any(known, axis=0)
    middle = mean(values, 0, where=known)
    return Prior(middle, mean(xp.abs(values - middle) ** 2, 0, where=known))


def misfit(frames: Array, phases: NDArray[np.float64], noise: NoiseModel, saturation_dn: int) -> Real:
    """Squared residuals of the fit of ``I_p = a + 2 Re(z exp(-i phase_p))`` over those expected from noise, per pixel.

    A probe has P - 3 degrees of freedom, so more than three steps are needed. NaN if every probe of the pixel
    saturates. Arguments are as for `linear_fields`.
    """
    backend, (probes, steps, pixels) = backend_of(frames), frames.shape
    xp, seen, expected = backend.xp, backend.zeros((pixels,), "float32"), backend.zeros((pixels,), "float32")
    basis = fringe_basis(phases)
    left = (np.eye(steps) - basis @ np.linalg.pinv(basis, rcond=1e-3)).astype(np.float32)  # (probes, P, P)
    for k in range(probes):
        probe, rest = frames[k, ...], backend.asarray(left[k])
        good, diagonal = xp.all(probe < saturation_dn, axis=0), backend.asarray(np.diag(left[k]).copy())
        seen += xp.where(good, xp.sum((rest @ xp.astype(probe, xp.float32)) ** 2, axis=0), 0.0)
        expected += xp.where(good, diagonal @ noise.variance(probe), 0.0)
    return seen / xp.where(expected > 0, expected, np.nan)


def coherent_misfit(
    frames: Array, beam: Callable[[int], Array], values: Array, noise: NoiseModel, saturation_dn: int
) -> Real:
    """Squared residuals of the fields of `refine_fields` over those that noise explains, per pixel.

    A probe has P - 2 degrees of freedom, so that three steps have a misfit as well where all light is coherent.
    """
    backend = backend_of(values)
    xp, good, seen = backend.xp, backend.xp.all(frames < saturation_dn, axis=1), backend.zeros(values.shape, "float32")
    for step in range(frames.shape[1]):
        model = xp.abs(values + beam(step)) ** 2 + noise.dark_dn
        seen += (xp.astype(frames[:, step, :], xp.float32) - model) ** 2 / noise.variance(model)
    number = xp.astype(count(good, 0) * (frames.shape[1] - 2), xp.float64)
    return xp.astype(total(seen, 0, where=good) / xp.where(number > 0, number, np.nan), xp.float32)


def is_complete(share: float) -> bool:
    """Whether a `closure` is close enough to 1 that all light counts as coherent."""
    return abs(share - 1.0) <= MAX_INCOHERENT


def closure(frames: Array, phases: NDArray[np.float64], reference: Real, bench: Bench) -> float:
    """Mean intensity of the speckle in the frames over that in the fringes, after subtraction of noise.

    It is 1 if all light interferes with the reference, and larger with a second polarisation or other incoherent light,
    which `refine_fields` would mistake for signal. Only pixels without saturated readings are used.
    """
    xp = backend_of(frames).xp
    good = xp.all(frames < bench.saturation_dn, axis=(0, 1))
    if not bool(xp.any(good)):
        return float("nan")
    seen, beam = columns(frames, good), reference[good]
    fields = linear_fields(seen, phases, beam, bench)
    fringes = fields.mean_light - float(xp.mean(fields.variance))
    return (float(mean(seen, None, "float64")) - bench.noise.dark_dn - float(xp.mean(beam**2))) / fringes


def light_changes(frames: Array, phases: NDArray[np.float64], reference: Real, bench: Bench) -> float:
    """Relative change of the light from probe to probe, rms; 0 if noise explains what is seen.

    Light of power ``1 + e`` in a probe leaves its phase steps perfect. The mean of the frames and the fringes change as
    ``(1 + e)(r^2 + |y|^2)`` and ``(1 + e) r y``, so that with y from the fringes the mean exceeds ``r^2 + |y|^2`` by
    ``e (r^2 - |y|^2)`` to first order: e is the slope over the pixels. Only pixels without saturated readings are used.
    Arguments are as for `linear_fields`.
    """
    xp, probes = backend_of(frames).xp, frames.shape[0]
    good = xp.all(frames < bench.saturation_dn, axis=(0, 1))
    if int(count(good)) < MIN_LIT or probes < 2:
        return 0.0
    seen, beam = columns(frames, good), reference[good]
    square = xp.astype(beam, xp.float64) ** 2
    light = xp.astype(xp.abs(linear_fields(seen, phases, beam, bench).values), xp.float64) ** 2
    excess, lever = mean(seen, 1) - bench.noise.dark_dn - square - light, square - light
    power = xp.sum(lever**2, axis=1)
    slope = xp.sum(excess * lever, axis=1) / power
    noise = float(xp.mean(xp.mean((excess - slope[:, None] * lever) ** 2, axis=1) / power))
    found = float(xp.var(slope, correction=1))
    return math.sqrt(found - noise) if found > noise * (1.0 + 6.0 * math.sqrt(2.0 / probes)) else 0.0


def warn_of_light(change: float, fields: Fields) -> None:
    """Warn if relative changes of the light from probe to probe, rms, add to the error of fields."""
    noise = float(backend_of(fields.variance).xp.mean(fields.variance))
    if change**2 * fields.mean_light > MAX_LIGHT_ERROR * noise:
        warnings.warn(
            f"light changes by {change:.1%} rms from probe to probe: stated errors are enlarged by it; let the laser "
            "settle, or take frames faster",
            stacklevel=6,
        )
