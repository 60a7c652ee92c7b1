"""The phase of a drifting reference in every frame, from the frames themselves.

Between the probes one pattern a, all inputs ON, is shown again and again. Two things follow from its frames.

1. The phase in these frames: with ``z_a = conj(R) T a`` and the phases unknown, ``I = b + 2 Re(z_a exp(-i theta))`` has
   rank 2 over pixels and frames; it is solved by turns for ``z_a`` (pixel by pixel) and theta (frame by frame). With
   some 1000 pixels the phases are good to about 1 mrad. In between they are interpolated: that follows a drift.
2. The phase in any other frame: half of each probe, ``x = (a + g) / 2`` with g = +-1, is the known pattern, so
   ``I = b + Re(z_a exp(-i theta)) + Re(z_g exp(-i theta))``, and a regression over the pixels on ``z_a`` gives theta.
   ``z_g`` is other speckle: its error is ``1 / sqrt(pixels)`` radians. That follows even a jitter without memory.

The two are weighted by their variances: of the second from the regression's residual, of the first from how far the two
are apart, or where the reference is known, from how far a probe's own fields put its frames from interpolated phases.
(After the idea of solving for unknown phase steps, Z. Wang and B. Han, Opt. Lett. 29, 1671 (2004).)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.fields.readings import Bench, RawFrames
from calibration.fields.stepped import closure, is_complete, linear_fields, refined_fields, stepped
from photonics.arrays import ComplexArray, FloatArray, HostArray

__all__ = ["Drift", "track"]

PIXELS = 4096
"""Pixels looked at, at most, spread over the sensor."""
VALUES = 2**25
"""Readings held at a time, at most."""
ROUNDS = 6
"""Turns of the fit of the known pattern within the probes, and of `settled` at least."""
MOST_ROUNDS = 64
"""Turns of any other fit, at most."""
STRIDE = 1.5
"""Changes of a turn of `settled` are taken so many times: by itself a turn goes a third of the way that is left."""
SETTLED, NOTHING = 0.05, 1e-5
"""What is still to come of a phase when `settled` ends: over the phase's standard error, or in radians."""

Real = FloatArray


@dataclass(frozen=True)
class Drift:
    """What is known of the reference's phase."""

    phases: NDArray[np.float64]
    """In the frames of each probe, (probes, steps), radians, set phase included; their common origin is arbitrary."""
    tracked: NDArray[np.float64]
    """Departure from the set phase in the frames that track, (probes,), radians, unwrapped."""
    error: float
    """Rms error that the remaining uncertainty of the phases makes in a field, relative. In a row of the matrix it is
    the root of 2 larger: half of each probe is what all probes have in common."""
    jitter: float
    """Rms by which the phases in the probes' frames depart from those interpolated between the frames that track,
    radians."""

    def record(self) -> Mapping[str, Any]:
        """Numbers and arrays for the result."""
        step = float(np.sqrt(np.mean(np.diff(self.tracked) ** 2))) if len(self.tracked) > 1 else 0.0
        return {
            "phase_rad": self.tracked,
            "step_rms_rad": step,
            "jitter_rms_rad": self.jitter,
            "field_error": self.error,
        }


def track(probes: HostArray, reference: Real, bench: Bench) -> Drift:
    """Find the phase in every frame of a measurement of probes, each of `steps` frames and one that tracks.

    Parameters
    ----------
    probes : ndarray, shape (probes, steps + 1, n_pixels)
        Frames of each probe and the one that tracks, of some pixels.
    reference : ndarray, shape (n_pixels,)
        Root of the intensity of the reference alone, roots of DN; positive.
    bench : Bench
    """
    steps = probes.shape[1] - 1
    known = probes[:, steps].astype(np.float32)
    mask = (known < bench.saturation_dn).astype(np.float32)
    order = len(known)
    turns = 2.0 * np.pi * (np.arange(order) % steps) / steps
    theta: HostArray = principal_phases(known, turns)
    _, field = fit_pixels(known, mask, theta)
    for _ in range(MOST_ROUNDS):
        mean, field = fit_pixels(known, mask, theta)
        new = np.angle(fit_phases(known - mean, mask, field)[0])
        change, theta = np.angle(np.exp(1j * (new - theta))), new
        if np.std(change) < NOTHING / 10.0:
            break
    offset = np.exp(1j * (theta - turns))
    origin = np.angle(offset.sum())  # arbitrary, but zero if there is no drift
    tracked = np.unwrap(np.angle(offset * np.exp(-1j * origin)))
    field = field * np.complex64(np.exp(-1j * origin))

    at = np.arange(order) * (steps + 1.0)
    when = at[:, None] + np.arange(steps)
    between = np.interp(when, at + steps, tracked) + 2.0 * np.pi * np.arange(steps) / steps
    seen, variance = pilot(probes[:, :steps], bench, between, field)
    apart = np.angle(np.exp(1j * (seen - between)))
    level = apart.mean(axis=1, keepdims=True)
    start = between + share_of(apart, variance) * apart
    # Half of the regression's variance is common to the frames of a probe: where the rest is settled, it is all of it.
    share = share_of(level, variance / 2.0)
    within = start - start.mean(axis=1, keepdims=True)
    # How far interpolation may be off: for phases that leap in every frame the tracked ones show how far.
    leap = float(np.mean(np.diff(tracked) ** 2)) / 2.0 if order > 1 else 0.0
    square = max(share * variance * (0.5 + 1.0 / steps), (1.0 - share) ** 2 * leap * 1.5)
    if is_complete(closure(probes[:, :steps], start, reference, bench)):
        found, left = settled(probes[:, :steps], bench, start, reference)
        within = found - found.mean(axis=1, keepdims=True)
        # A probe's phases depart from interpolated ones within it as their mean does, be it leaps or a walk.
        off = float(np.mean((within - (between - between.mean(axis=1, keepdims=True))) ** 2))
        share = off / max(off + variance / 2.0, 1e-30)
        square = share * variance / 2.0 + left
    phases = between.mean(axis=1, keepdims=True) + share * level + within
    error = np.sqrt(square)
    jitter = np.sqrt(max(float(np.mean(apart**2)) - variance, 0.0))
    return Drift(phases, tracked, float(error), float(jitter))


def share_of(apart: NDArray[np.float64], variance: float) -> float:
    """Weight of the regression, whose variance is known, against the interpolation, from how far they are apart.

    1 if the interpolation is useless, 0 if they are no further apart than chance makes them (two standard errors).
    """
    other = float(np.mean(apart**2)) - variance * (1.0 + 2.0 * np.sqrt(2.0 / apart.size))
    return max(other, 0.0) / (max(other, 0.0) + variance)


def settled(
    probes: HostArray, bench: Bench, theta: NDArray[np.float64], reference: Real
) -> tuple[NDArray[np.float64], float]:
    """Phases of the frames of each probe against each other, as the probe's own field tells them: (probes, steps).

    With the reference known a probe has P readings for two unknowns in each pixel. Fields and phases are fitted by
    turns until what is to come of a phase is small; its mean square comes second. The mean phase of a probe stays.
    """
    order, steps, pixels = probes.shape
    found, about, rest = theta.copy(), (bench.noise, bench.saturation_dn), 0.0
    size = max(VALUES // (16 * steps * pixels), 1)
    for start in range(0, order, size):
        part = slice(start, start + size)
        frames = probes[part].astype(np.float32)
        mask = (frames < bench.saturation_dn).astype(np.float32)
        y = linear_fields(frames, found[part], reference, bench).values
        before, now, left = np.inf, np.inf, np.inf
        for turn in range(MOST_ROUNDS):
            y = refined_fields(frames, stepped(found[part], reference), y, *about, rounds=2).values
            fringes = frames - np.float32(bench.noise.dark_dn) - (np.abs(y) ** 2 + reference**2)[:, None, :]
            phasor, variance = fit_phases(fringes, mask, (y * reference)[:, None, :])
            change = STRIDE * np.angle(np.exp(1j * (np.angle(phasor) - found[part])))
            change -= change.mean(axis=1, keepdims=True)
            found[part] += change
            before, now = now, float(np.sqrt(np.mean(change**2)))
            # Changes fall in proportion, so this is the sum of those to come.
            left = now**2 / (before - now) if now < before else np.inf
            if turn + 1 >= ROUNDS and left < max(SETTLED * np.sqrt(max(float(variance.mean()), 0.0)), NOTHING):
                break
        rest += min(left, 4.0 * now) ** 2 * len(frames) / order
    return found, rest


def sample(raw: RawFrames, n_out: int) -> HostArray:
    """All frames of some pixels, spread over the sensor: (count, n_pixels)."""
    wanted = max(min(PIXELS, VALUES // raw.count), 16)
    stride = -(-n_out // wanted)
    size = stride * max(wanted // 16, 1)
    parts = [raw.rows(slice(start, min(start + size, n_out)))[:, ::stride] for start in range(0, n_out, size)]
    return np.concatenate(parts, axis=1)


def principal_phases(frames: Real, turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """First guess of the phases of frames of one pattern, from their two principal components, up to an origin.

    Which way they turn is that of the set phases, `turns`.
    """
    centred = frames - frames.mean(axis=0)
    if len(frames) <= frames.shape[1]:
        _, vectors = np.linalg.eigh(centred @ centred.T)
        pair = vectors[:, -2:]
    else:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        pair = centred @ vectors[:, -2:]
    pair = pair / np.sqrt(np.mean(pair**2, axis=0))
    theta = np.angle(pair[:, 0] + 1j * pair[:, 1]).astype(np.float64)
    step = np.exp(1j * np.diff(turns))
    forward, backward = (np.real(np.exp(1j * np.diff(sign * theta)) @ step.conj()) for sign in (1, -1))
    return theta if forward >= backward else -theta


def fit_pixels(frames: Real, mask: Real, theta: HostArray) -> tuple[Real, ComplexArray]:
    """Mean b and field z of each pixel, (n_pixels,), in ``I = b + 2 Re(z exp(-i theta))`` by least squares."""
    basis = np.stack([np.ones_like(theta), 2.0 * np.cos(theta), 2.0 * np.sin(theta)], axis=1).astype(np.float32)
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(theta), 9)
    normal = (mask.T @ products).reshape(-1, 3, 3) + np.float32(1e-3) * np.eye(3, dtype=np.float32)
    solution = np.linalg.solve(normal, ((mask * frames).T @ basis)[:, :, None])[:, :, 0]
    return solution[:, 0], (solution[:, 1] + 1j * solution[:, 2]).astype(np.complex64)


def fit_phases(fringes: Real, mask: Real, field: ComplexArray) -> tuple[ComplexArray, FloatArray]:
    """Phasor of each frame, (...,), in ``I - b = 2 Re(field exp(-i theta))`` by least squares, and its variance.

    The variance is that of the phase, from the residual; pixels are the last axis, and the rest broadcasts.
    """
    a, b, seen = 2.0 * field.real, 2.0 * field.imag, mask * fringes
    aa, ab, bb = ((mask * product).sum(axis=-1) for product in (a * a, a * b, b * b))
    ra, rb = (seen * a).sum(axis=-1), (seen * b).sum(axis=-1)
    determinant = aa * bb - ab * ab
    c, s = (bb * ra - ab * rb) / determinant, (aa * rb - ab * ra) / determinant
    left = (seen * fringes).sum(axis=-1) - c * ra - s * rb
    count = np.maximum(mask.sum(axis=-1) - 2.0, 1.0)
    power = np.maximum(c * c + s * s, np.float32(1e-12))
    return c + 1j * s, left / count / (0.5 * (aa + bb)) / power


def pilot(
    probes: HostArray, bench: Bench, theta: NDArray[np.float64], field: ComplexArray
) -> tuple[NDArray[np.float64], float]:
    """Phase of each probe's frames, (probes, steps), from the known pattern within the probe, and its variance.

    ``b`` is fitted with the phases found so far, so it is done by turns.
    """
    order, steps, pixels = probes.shape
    found, variance = theta.copy(), 0.0
    size = max(VALUES // (8 * steps * pixels), 1)
    for start in range(0, order, size):
        part = slice(start, start + size)
        frames = probes[part].astype(np.float32)
        mask = (frames < bench.saturation_dn).astype(np.float32)
        for _ in range(ROUNDS):
            mean = (mean_weights(found[part])[:, None, :] @ frames).astype(np.float32)
            phasor, spread = fit_phases(frames - mean, mask, field)
            found[part] = np.angle(phasor)
        variance += float(spread.sum())
    return found, variance / (order * steps)


def mean_weights(theta: NDArray[np.float64]) -> Real:
    """Weights of frames in b of the least-squares fit ``I = b + 2 Re(z exp(-i theta))``: (..., P) -> (..., P)."""
    basis = np.stack([np.ones_like(theta), 2.0 * np.cos(theta), 2.0 * np.sin(theta)], axis=-1)
    return np.linalg.pinv(basis, rcond=1e-3)[..., 0, :].astype(np.float32)
