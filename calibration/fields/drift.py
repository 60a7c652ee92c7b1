"""The phase of a drifting reference beam in every frame of a measurement, estimated from the frames.

The *known pattern* a, all inputs ON, is shown after every probe. Its frames give the phase in two ways.

1. Interpolation, which follows a slow drift. In frames of the known pattern, ``I = b + 2 Re(z_a exp(-i theta))`` with
   ``z_a = conj(R) T a``; without b this has rank 2 over pixels and frames. It is solved alternately for ``z_a`` (pixel
   by pixel) and theta (frame by frame). With 1000 pixels the phases are good to about 1 mrad. Between these frames
   they are interpolated.
2. Regression, which also follows white jitter. Half of each probe is the known pattern, ``x = (a + g) / 2`` with g =
   +-1, so that ``I = b + Re(z_a exp(-i theta)) + Re(z_g exp(-i theta))``. A regression over the pixels on ``z_a`` gives
   theta. Since ``z_g`` is uncorrelated speckle, the error of theta is ``1 / sqrt(pixels)`` radians.

The two are combined by their variances. The variance of the regression follows from its residual. The variance of the
interpolation follows from the difference between the two; if the reference is known, from the difference between the
interpolated phases and the phases fitted to the probe's fields. Solving for unknown phase steps follows Z. Wang and B.
Han, Opt. Lett. 29, 1671 (2004).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import as_complex
from calibration.fields.holography import fringe_basis
from calibration.fields.readings import Bench, RawFrames
from calibration.fields.stepped import (
    closure,
    is_complete,
    linear_fields,
    mean_weights,
    refine_fields,
    stepped_reference,
)
from photonics.arrays import Array, ComplexArray, FloatArray, HostArray, Shapes
from photonics.backend import backend_of, to_host

__all__ = ["Drift", "track"]

MAX_PIXELS = 4096
"""Largest number of pixels that are used; they are spread over the sensor."""
MAX_READINGS = 2**25
"""Largest number of readings in memory at a time."""
ROUNDS = 6
"""Iterations of `phases_in_probes`, and the smallest number of `settle_phases`."""
MAX_ROUNDS = 64
"""Largest number of iterations of the other fits."""
OVER_RELAXATION = 1.5
"""Over-relaxation factor of `settle_phases`: a plain step covers only a third of the remaining distance."""
MAX_RESIDUAL = 0.05
"""Remaining change of a phase at which `settle_phases` stops, relative to the phase's standard error."""
MIN_INFORMATION = 0.05
"""Smallest eigenvalue of a pixel's normal matrix for each frame: 1 with all frames, 0.36 with three of four phases, 0
with two. A single pixel of which half of the readings saturate would outweigh all others."""
MIN_RESIDUAL_RAD = 1e-5
"""Remaining change of a phase that is negligible, radians."""


@dataclass(frozen=True, repr=False)
class Drift(Shapes):
    """The reference's phase in every frame, and its error."""

    phases: NDArray[np.float64]
    """Phases in the frames of each probe, set phases included: (probes, steps), radians. The common origin is
    arbitrary."""
    tracked: NDArray[np.float64]
    """Deviation from the set phase in the frames of the known pattern: (probes,), radians, unwrapped."""
    error: float
    """Relative rms error of a field due to the remaining phase error. In a row of the matrix it is larger by the root
    of 2, because half of each probe is common to all probes."""
    jitter: float
    """Rms deviation of the phases in the probes' frames from the interpolated ones, radians."""

    @property
    def step(self) -> float:
        """Rms change of `tracked` from one frame to the next, radians."""
        return float(np.sqrt(np.mean(np.diff(self.tracked) ** 2))) if len(self.tracked) > 1 else 0.0


def track(probes: Array, reference: Array, bench: Bench) -> Drift:
    """Find the phase in every frame of a measurement of probes, each of `steps` frames and one of the known pattern.

    Parameters
    ----------
    probes : ndarray, shape (probes, steps + 1, n_pixels)
        Frames of some pixels: those of each probe, and last that of the known pattern.
    reference : ndarray, shape (n_pixels,)
        Root of the intensity of the reference alone, roots of DN; positive.
    bench : Bench
    """
    order, steps = probes.shape[0], probes.shape[1] - 1
    tracked, field = track_pattern(probes[:, steps, :], steps, bench.saturation_dn)
    probes = probes[:, :steps, :]
    at = np.arange(order) * (steps + 1.0)
    when = at[:, None] + np.arange(steps)
    between = np.interp(when, at + steps, tracked) + 2.0 * np.pi * np.arange(steps) / steps
    seen, variance = phases_in_probes(probes, bench, between, field)
    apart = np.angle(np.exp(1j * (seen - between)))
    level = apart.mean(axis=1, keepdims=True)
    start = between + regression_weight(apart, variance) * apart
    # Half of the regression's variance is common to the frames of a probe, and remains even if the rest is known.
    share = regression_weight(level, variance / 2.0)
    within = start - start.mean(axis=1, keepdims=True)
    # Error of interpolation: for jitter that is independent from frame to frame, the tracked phases give it.
    leap = float(np.mean(np.diff(tracked) ** 2)) / 2.0 if order > 1 else 0.0
    square = max(share * variance * (0.5 + 1.0 / steps), (1.0 - share) ** 2 * leap * 1.5)
    if is_complete(closure(probes, start, reference, bench)):
        found, left = settle_phases(probes, bench, start, reference)
        within = found - found.mean(axis=1, keepdims=True)
        # For both jitter and drift, deviations from the interpolated phases within a probe are as large as those of its
        # mean.
        off = float(np.mean((within - (between - between.mean(axis=1, keepdims=True))) ** 2))
        share = off / max(off + variance / 2.0, 1e-30)
        square = share * variance / 2.0 + left
    phases = between.mean(axis=1, keepdims=True) + share * level + within
    error = np.sqrt(square)
    jitter = np.sqrt(max(float(np.mean(apart**2)) - variance, 0.0))
    return Drift(phases, tracked, float(error), float(jitter))


def track_pattern(frames: Array, steps: int, saturation_dn: int) -> tuple[NDArray[np.float64], Array]:
    """Deviations from the set phases in frames of the known pattern, (frames,), and the field ``z_a``, (n_pixels,)."""
    xp = backend_of(frames).xp
    frames, mask = xp.astype(frames, xp.float32), xp.astype(frames < saturation_dn, xp.float32)
    turns = 2.0 * np.pi * (np.arange(frames.shape[0]) % steps) / steps
    theta: NDArray[np.floating] = principal_phases(frames, turns)
    _, field = fit_pixels(frames, mask, theta)
    for _ in range(MAX_ROUNDS):
        mean, field = fit_pixels(frames, mask, theta)
        new = np.angle(fit_phases(frames - mean, mask, field)[0])
        change, theta = np.angle(np.exp(1j * (new - theta))), new
        if np.std(change) < MIN_RESIDUAL_RAD / 10.0:
            break
    offset = np.exp(1j * (theta - turns))
    origin = np.angle(offset.sum())  # arbitrary; this one is zero if there is no drift
    tracked = np.unwrap(np.angle(offset * np.exp(-1j * origin)))
    return tracked, field * complex(np.exp(-1j * origin))


def regression_weight(apart: NDArray[np.float64], variance: float) -> float:
    """Weight of the regression, of known variance, in its mean with the interpolation.

    It is 1 if the interpolation is useless, and 0 if the two differ by less than two standard errors. `apart` is their
    difference.
    """
    other = float(np.mean(apart**2)) - variance * (1.0 + 2.0 * np.sqrt(2.0 / apart.size))
    return max(other, 0.0) / (max(other, 0.0) + variance)


def settle_phases(
    probes: Array, bench: Bench, theta: NDArray[np.float64], reference: Array
) -> tuple[NDArray[np.float64], float]:
    """Fit the differences between the phases of a probe's frames together with the probe's field.

    With the reference known, a probe has P readings for two unknowns in each pixel. Fields and phases are fitted
    alternately until the remaining change of the phases is small. The mean phase of each probe is kept.

    Returns
    -------
    phases : ndarray, shape (probes, steps)
    rest : float
        Mean square of the remaining change, rad^2.
    """
    xp, (order, steps, pixels) = backend_of(probes).xp, probes.shape
    found, about, rest = theta.copy(), (bench.noise, bench.saturation_dn), 0.0
    size = max(MAX_READINGS // (16 * steps * pixels), 1)
    for start in range(0, order, size):
        part = slice(start, min(start + size, order))
        frames = xp.astype(probes[part, ...], xp.float32)
        mask = xp.astype(frames < bench.saturation_dn, xp.float32)
        y = linear_fields(frames, found[part], reference, bench).values
        before, now, left = np.inf, np.inf, np.inf
        for turn in range(MAX_ROUNDS):
            y = refine_fields(frames, stepped_reference(found[part], reference), y, *about, rounds=2).values
            fringes = frames - float(bench.noise.dark_dn) - (xp.abs(y) ** 2 + reference**2)[:, None, :]
            phasor, variance = fit_phases(fringes, mask, (y * reference)[:, None, :])
            change = OVER_RELAXATION * np.angle(np.exp(1j * (np.angle(phasor) - found[part])))
            change -= change.mean(axis=1, keepdims=True)
            found[part] += change
            before, now = now, float(np.sqrt(np.mean(change**2)))
            # Changes decrease geometrically: this is the sum of the remaining ones.
            left = now**2 / (before - now) if now < before else np.inf
            if turn + 1 >= ROUNDS and left < max(
                MAX_RESIDUAL * np.sqrt(max(float(variance.mean()), 0.0)), MIN_RESIDUAL_RAD
            ):
                break
        rest += min(left, 4.0 * now) ** 2 * frames.shape[0] / order
    return found, rest


def sample(raw: RawFrames, n_out: int) -> Array:
    """Read all frames of some pixels that are spread over the sensor: (count, n_pixels)."""
    wanted = max(min(MAX_PIXELS, MAX_READINGS // raw.count), 16)
    stride = -(-n_out // wanted)
    size = stride * max(wanted // 16, 1)
    parts = [raw.rows(slice(start, min(start + size, n_out)))[:, ::stride] for start in range(0, n_out, size)]
    return backend_of(parts[0]).xp.concat(parts, axis=1)


def principal_phases(frames: Array, turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """First guess of the phases in frames of one pattern, from two principal components: (frames,), up to an origin.

    The sense of rotation is that of the set phases, `turns`.
    """
    xp = backend_of(frames).xp
    centred = frames - xp.mean(frames, axis=0)
    if frames.shape[0] <= frames.shape[1]:
        _, vectors = xp.linalg.eigh(centred @ centred.T)
        pair = to_host(vectors[:, -2:])
    else:
        _, vectors = xp.linalg.eigh(centred.T @ centred)
        pair = to_host(centred @ vectors[:, -2:])
    pair = pair / np.sqrt(np.mean(pair**2, axis=0))
    theta = np.angle(pair[:, 0] + 1j * pair[:, 1]).astype(np.float64)
    step = np.exp(1j * np.diff(turns))
    forward, backward = (np.real(np.exp(1j * np.diff(sign * theta)) @ step.conj()) for sign in (1, -1))
    return theta if forward >= backward else -theta


def fit_pixels(frames: Array, mask: Array, theta: HostArray) -> tuple[Array, Array]:
    """Fit the mean b and the field z of each pixel, (n_pixels,), in ``I = b + 2 Re(z exp(-i theta))``.

    The field is 0 on pixels whose unsaturated readings do not determine it.
    """
    backend = backend_of(frames)
    xp, basis = backend.xp, fringe_basis(theta).astype(np.float32)
    products = backend.asarray((basis[:, :, None] * basis[:, None, :]).reshape(len(theta), 9))
    least = backend.asarray(np.float32(1e-3) * np.eye(3, dtype=np.float32))
    normal = xp.reshape(mask.T @ products, (-1, 3, 3)) + least
    solution = xp.linalg.solve(normal, ((mask * frames).T @ backend.asarray(basis))[:, :, None])[:, :, 0]
    known = xp.linalg.eigvalsh(normal)[:, 0] > MIN_INFORMATION * len(theta)
    return solution[:, 0], xp.where(known, as_complex(solution[:, 1], solution[:, 2]), 0.0)


def fit_phases(fringes: Array, mask: Array, field: Array) -> tuple[ComplexArray, FloatArray]:
    """Fit the phasor ``exp(i theta)`` of each frame, (...,), in ``I - b = 2 Re(field exp(-i theta))``.

    The second result is the variance of the phase, from the residual. Both are on the host. Pixels are the last axis;
    the others broadcast.
    """
    xp = backend_of(fringes).xp
    a, b, seen = 2.0 * xp.real(field), 2.0 * xp.imag(field), mask * fringes
    products = (mask * (a * a), mask * (a * b), mask * (b * b), seen * a, seen * b, seen * fringes, mask)
    aa, ab, bb, ra, rb, square, count = to_host(xp.stack([xp.sum(product, axis=-1) for product in products]))
    determinant = aa * bb - ab * ab
    c, s = (bb * ra - ab * rb) / determinant, (aa * rb - ab * ra) / determinant
    left = square - c * ra - s * rb
    count = np.maximum(count - 2.0, 1.0)
    power = np.maximum(c * c + s * s, np.float32(1e-12))
    return c + 1j * s, left / count / (0.5 * (aa + bb)) / power


def phases_in_probes(
    probes: Array, bench: Bench, theta: NDArray[np.float64], field: Array
) -> tuple[NDArray[np.float64], float]:
    """Phases of each probe's frames, (probes, steps), by regression on the known pattern; and their variance.

    The mean ``b`` is fitted with the phases of the previous iteration.
    """
    backend, (order, steps, pixels) = backend_of(probes), probes.shape
    xp, found, variance = backend.xp, theta.copy(), 0.0
    size = max(MAX_READINGS // (8 * steps * pixels), 1)
    for start in range(0, order, size):
        part = slice(start, min(start + size, order))
        frames = xp.astype(probes[part, ...], xp.float32)
        mask = xp.astype(frames < bench.saturation_dn, xp.float32)
        spread = np.zeros(0, np.float32)
        for _ in range(ROUNDS):
            mean = backend.asarray(mean_weights(found[part]))[:, None, :] @ frames
            phasor, spread = fit_phases(frames - mean, mask, field)
            found[part] = np.angle(phasor)
        variance += float(spread.sum())
    return found, variance / (order * steps)
