"""From phase-stepped frames to fields: the linear estimate, and the one that also uses what the reference is alone.

Model of a pixel: ``I_p = |y + r exp(i phase_p)|^2 + dark`` with r > 0 the root of the reference's intensity and y the
field, its phase counted from the reference's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.noise import NoiseModel
from calibration.fields.readings import Bench
from calibration.fields.saturated import Prior, estimate_on_circle
from photonics.arrays import BoolArray, ComplexArray, FloatArray, HostArray

__all__ = ["Fields", "closure", "is_complete", "linear_fields", "linear_weights", "misfit", "refined_fields", "stepped"]

ROUNDS = 4
"""Gauss-Newton steps: the last changes a field by under 1e-3 of its error, a saturated one's by a few per cent."""
COMPLETE = 0.05
"""Departure of the light in the frames from the light in the fringes up to which all of it counts as coherent."""

Real = FloatArray


class Fields(NamedTuple):
    """Fields at some pixels and what is known of their error."""

    values: ComplexArray
    """(probes, n_pixels), roots of DN."""
    variance: Real
    """``E|error|^2`` over probes, (n_pixels,), DN."""


def linear_weights(phases: NDArray[np.float64]) -> ComplexArray:
    """Weights of frames in z of the fit ``I_p = a + 2 Re(z exp(-i phase_p))`` by least squares: (..., P) -> (..., P).

    ``z = r y``; for P >= 3 equal steps over the full circle they are ``exp(i phase_p) / P``.
    """
    basis = np.stack([np.ones_like(phases), 2.0 * np.cos(phases), 2.0 * np.sin(phases)], axis=-1)
    inverse = np.linalg.pinv(basis, rcond=1e-3)
    return (inverse[..., 1, :] + 1j * inverse[..., 2, :]).astype(np.complex64)


def linear_fields(frames: HostArray, phases: NDArray[np.float64], reference: Real, bench: Bench) -> Fields:
    """Fields without any assumption on the mean intensity; a saturated reading counts as it is.

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


def stepped(phases: NDArray[np.float64], reference: Real) -> Callable[[int], ComplexArray]:
    """The reference's field in each step, (probes, n_pixels): as `refined_fields` asks for it."""
    turns = np.exp(1j * phases).astype(np.complex64)
    return lambda step: turns[:, step, None] * reference


def refined_fields(
    frames: HostArray,
    beam: Callable[[int], ComplexArray],
    start: ComplexArray,
    noise: NoiseModel,
    saturation_dn: int,
    rounds: int = ROUNDS,
    prior: Prior | None = None,
) -> Fields:
    """Fields by maximum likelihood in ``I_p = |y + beam_p|^2 + dark``, the beam known.

    Gauss-Newton from `start`, each reading weighted by the inverse of its variance; a saturated reading says "at least
    that": it counts while the model is below it. The mean of a probe's frames, ``|y|^2 + r^2``, is thus used as well,
    which halves the variance of |y| at ``|y| = r / sqrt 2``; and saturated frames cost precision, not truth, as long as
    two are left. Fields of which one is left are averages over what it and the prior leave possible
    (`calibration.fields.saturated`), and those of none have the prior's spread.

    Parameters
    ----------
    frames : ndarray, shape (probes, P, n_pixels)
        The camera's integers.
    beam : function
        Field that is added to y in a step, roots of DN: step -> (probes or 1, n_pixels).
    start : ndarray, shape (probes, n_pixels)
    noise : NoiseModel
    saturation_dn : int
    rounds : int
    prior : Prior, optional
        Of each pixel; by default the mean and the spread of its other probes.
    """
    y = start.copy()
    top = np.float32(saturation_dn)
    determinant, trace = np.ones(y.shape, np.float32), np.ones(y.shape, np.float32)
    for _ in range(rounds):
        aa, ab, bb, ra, rb = (np.zeros(y.shape, np.float32) for _ in range(5))
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
        # Damping by 1e-3 changes the path, not the end.
        aa += np.float32(1e-3) * trace
        bb += np.float32(1e-3) * trace
        determinant = np.maximum(aa * bb - ab * ab, np.float32(1e-30))
        y.real += (bb * ra - ab * rb) / determinant
        y.imag += (aa * rb - ab * ra) / determinant
    variance = trace / determinant
    left = (frames < top).sum(axis=1)
    if (left < 2).any():
        prior = prior or spread_of(y, left >= 2)
        variance = np.where(left == 0, prior.spread, variance)
        probe, pixel = np.nonzero(left == 1)
        beams = [np.broadcast_to(beam(step), y.shape)[probe, pixel] for step in range(frames.shape[1])]
        readings = frames[probe, :, pixel].T.astype(np.float32)
        of_each = Prior(prior.mean[pixel], prior.spread[pixel])
        y[probe, pixel], variance[probe, pixel] = estimate_on_circle(
            readings, np.stack(beams), of_each, noise, float(top)
        )
    return Fields(y, variance.mean(axis=0))


def spread_of(values: ComplexArray, known: BoolArray) -> Prior:
    """Mean and spread of the fields of each pixel that are known; of all of them where none is."""
    known = known | ~known.any(axis=0)
    mean = values.mean(axis=0, where=known)
    return Prior(mean, (np.abs(values - mean) ** 2).mean(axis=0, where=known))


def misfit(frames: HostArray, phases: NDArray[np.float64], noise: NoiseModel, saturation_dn: int) -> Real:
    """Squared residuals of ``I_p = a + 2 Re(z exp(-i phase_p))`` over what noise leaves of them, for each pixel.

    P - 3 degrees of freedom in each probe, so there must be more than three steps; NaN where every probe saturates.
    Arguments are as for `linear_fields`.
    """
    seen, expected = np.zeros(frames.shape[2], np.float32), np.zeros(frames.shape[2], np.float32)
    basis = np.stack([np.ones_like(phases), 2.0 * np.cos(phases), 2.0 * np.sin(phases)], axis=-1)
    left = np.eye(frames.shape[1]) - basis @ np.linalg.pinv(basis, rcond=1e-3)  # (probes, P, P)
    for probe, rest in zip(frames, left.astype(np.float32), strict=True):
        good = (probe < saturation_dn).all(axis=0)
        seen += np.where(good, ((rest @ probe.astype(np.float32)) ** 2).sum(axis=0), np.float32(0.0))
        expected += np.where(good, np.diag(rest) @ noise.variance(probe), np.float32(0.0))
    return (seen / np.where(expected > 0, expected, np.nan)).astype(np.float32)


def is_complete(share: float) -> bool:
    """Whether a `closure` is near enough to 1 for all light to count as coherent."""
    return abs(share - 1.0) <= COMPLETE


def closure(frames: HostArray, phases: NDArray[np.float64], reference: Real, bench: Bench) -> float:
    """Whether the model is complete: mean intensity of the speckle in the frames over that in the fringes.

    1 if all light interferes; more with a second polarisation or an incoherent share, which the refinement would
    take for signal. Pixels without saturated readings are used; the noise's own share is taken out.
    """
    good = (frames < bench.saturation_dn).all(axis=(0, 1))
    if not good.any():
        return float("nan")
    fields = linear_fields(frames[:, :, good], phases, reference[good], bench)
    fringes = np.mean(np.abs(fields.values) ** 2) - fields.variance.mean()
    mean = np.mean(frames[:, :, good], dtype=np.float64) - bench.noise.dark_dn - np.mean(reference[good] ** 2)
    return float(mean / fringes)
