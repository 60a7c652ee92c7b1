"""A recovered matrix that follows its medium, by frames of ordinary patterns: a recursive estimate with forgetting.

Each row t has an error of the variance P. A drift makes a share s of the power stale, ``t = sqrt(1 - s) t_before +
new``. Frames of patterns a are predicted by ``E|y|^2 = |a t|^2 + v``, ``v = a P a^H``, and the best linear estimate of
t given their deviations follows (a Kalman filter of second order: for a circular normal error, all moments of the
intensities are exact). P has two values for each row, the variance that all entries share and that of the rest;
patterns should be random, so that nothing else is needed. s is found from the frames alone: with it they deviate from
their prediction as much as they should.

References
----------
A. H. Jazwinski, *Stochastic Processes and Filtering Theory*, Academic Press 1970, chapter 9 (second-order filters).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from array_api_compat import is_array_api_obj

from calibration.arrays import median
from calibration.fields.readings import Bench
from photonics.arrays import Array, BoolArray
from photonics.backend import backend_of, to_host
from photonics.patterns.encoding import as_patterns

__all__ = ["Facts", "Rows", "check_update", "describe_facts", "follow", "read_facts"]

Real: TypeAlias = Array
"""Of float64, where the frames are."""
Complex: TypeAlias = Array
"""Of complex128, where the frames are."""

FRAMES = 8
"""Frames that are taken in together: few, so that the medium stays while they are taken."""
BISECTIONS = 20
"""Halvings of the range in which the stale share is sought."""
MAX_STALE = 0.5
"""Stale share of the power above which the medium is lost."""
MAX_ERROR = 0.5
"""Relative error of the median row above which the medium is lost."""
BLIND = 1e12
"""Variance of a saturated reading, in the unit of T."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an update must know of the measurement; part of the provenance of an estimate."""

    unit_dn: float
    """DN above dark of unit intensity at `exposure_s`, for the field that mirrors add when they turn ON."""
    exposure_s: float
    dark_dn: float
    floor_dn2: float
    """Variance of a dark pixel, DN^2."""
    slope_dn: float
    """Shot noise, DN^2 per DN."""
    saturation_dn: float
    leakage: float
    """Real part of the field of an OFF mirror over that of an ON mirror."""
    leakage_imag: float
    """Its imaginary part."""
    leaked: float
    """Mean intensity leaked by mirrors that are not recovered, in the unit of T."""
    scale_error: float
    """Relative error of a row's scale, which frames cannot show."""
    coherent: bool
    """Whether a pixel sees a single field."""


class Rows(NamedTuple):
    """Rows of a matrix and their errors, in the unit of T."""

    matrix: Complex
    """(n_rows, n_inputs); measured rows outside of `follow`, with ``E|t_found|^2 = |t|^2 + error^2``."""
    rest: Real
    """Variance of the error of an entry, without what all entries of the row share, (n_rows,)."""
    shared: Real
    """Variance of the error of the sum of all entries over the root of their number, (n_rows,)."""

    def scaled(self, factor: Real) -> "Rows":
        """Rows times a factor each, and variances too: from measured rows to expected ones, or back."""
        return Rows(self.matrix * factor[:, None], self.rest * factor, self.shared * factor)

    def aged(self, stale: float, power: Real) -> "Rows":
        """Rows of which a share of the power is stale; `power` is the mean ``|t|^2`` of each row."""
        kept = 1.0 - stale
        return Rows(self.matrix * math.sqrt(kept), kept * self.rest + stale * power, kept * self.shared + stale * power)


class Shown(NamedTuple):
    """Frames in the unit of T."""

    weights: Complex
    """Field of each mirror over that of ON minus OFF, (frames, n_inputs)."""
    intensity: Real
    """``|T x|^2``, (frames, n_rows)."""
    variance: Real
    """Of the reading, (frames, n_rows); `BLIND` where a pixel saturates."""

    def part(self, frames: slice) -> "Shown":
        """Some of the frames."""
        return Shown(*(values[frames, :] for values in self))


class Followed(NamedTuple):
    """Result of `follow`."""

    rows: Rows
    """After the last frame. Their errors are those from which the next frames are predicted, without the misfit."""
    error: Real
    """Rms error of an entry after the last frame, (n_rows,). A significant misfit multiplies it by its root; in
    the 600 frames after a step some 5 % of the rows return more slowly than they state, by up to a factor of 3."""
    stale: float
    """Share of the power that had become stale since the estimate before."""
    misfit: Real
    """Mean squared deviation of the frames from their prediction over its expectation, (n_rows,)."""


def describe_facts(bench: Bench, exposure_s: float, leaked: float) -> dict[str, Any]:
    """Facts of a measurement in plain types."""
    return {
        "unit_dn": float(bench.unit_dn),
        "exposure_s": float(exposure_s),
        "dark_dn": float(bench.noise.dark_dn),
        "floor_dn2": float(bench.noise.floor_dn2),
        "slope_dn": float(bench.noise.slope_dn),
        "saturation_dn": float(bench.saturation_dn),
        "leakage": bench.leakage.real,
        "leakage_imag": bench.leakage.imag,
        "leaked": float(leaked),
        "scale_error": float(bench.scale_error),
        "coherent": bool(bench.coherent),
    }


def read_facts(provenance: Mapping[str, Any]) -> Facts:
    """Facts of the measurement of an estimate.

    Raises
    ------
    ValueError
        If an earlier version, which did not write them, recovered the matrix, or pixels see several fields.
    """
    if "readings" not in provenance:
        raise ValueError(
            "estimate must be recovered by this version to be updated, got one of an earlier version: recover it again"
        )
    facts = Facts(**dict(provenance["readings"]))
    if not facts.coherent:
        raise ValueError("estimate must have one field for each pixel to be updated: one polarisation, one sample")
    return facts


def check_update(
    patterns: Array, frames: Array, exposure_s: float | None, shape: tuple[int, int], facts: Facts
) -> tuple[BoolArray, Array, float]:
    """Patterns, on the host, frames and exposure of an update.

    Raises
    ------
    ValueError
        If a shape, type or value is wrong.
    """
    n_out, n_inputs = shape
    values: Array = frames if is_array_api_obj(frames) else np.asarray(frames)
    shown, xp = as_patterns(to_host(patterns), n_inputs), backend_of(values).xp
    real = values.dtype != object and xp.isdtype(values.dtype, ("integral", "real floating"))
    if values.shape != (len(shown), n_out) or not real or not math.prod(values.shape):
        raise ValueError(
            f"frames must be numbers, one frame of {n_out} pixels for each of {len(shown)} patterns, got "
            f"{values.dtype} of shape {values.shape}"
        )
    if xp.isdtype(values.dtype, "real floating") and not bool(xp.all(xp.isfinite(values))):
        raise ValueError("frames must be finite, got NaN or infinity")
    seconds = facts.exposure_s if exposure_s is None else float(exposure_s)
    if not 0.0 < seconds < np.inf:
        raise ValueError(f"exposure_s must be above 0, got {exposure_s!r}")
    return shown, values, seconds


def read_frames(patterns: BoolArray, frames: Array, exposure_s: float, facts: Facts) -> Shown:
    """Frames as intensities in the unit of T."""
    eps = complex(facts.leakage, facts.leakage_imag)
    unit = facts.unit_dn * exposure_s / facts.exposure_s
    backend = backend_of(frames)
    xp = backend.xp
    signal = xp.astype(frames, xp.float64) - facts.dark_dn
    light = xp.maximum(signal, xp.zeros_like(signal))
    variance = (facts.floor_dn2 + facts.slope_dn * light) / unit**2 + 2.0 * facts.leaked * light / unit
    variance = xp.where(frames >= facts.saturation_dn, xp.full_like(variance, BLIND), variance)
    weights = backend.asarray(np.asarray(patterns + eps / (1.0 - eps), np.complex128))
    return Shown(weights, signal / unit, variance)


def follow(rows: Rows, patterns: BoolArray, frames: Array, exposure_s: float, facts: Facts) -> Followed:
    """Update rows by frames of patterns, `FRAMES` at a time.

    Raises
    ------
    ValueError
        If the medium is lost: the frames are too far from their prediction.
    """
    xp = backend_of(frames).xp
    power = xp.mean(xp.abs(rows.matrix) ** 2, axis=1) - rows.rest
    power = xp.maximum(power, xp.full_like(power, 1e-12))
    rows = rows.scaled(power / (power + rows.rest))  # the expected row, which is shorter than a measured one
    shown, kept, stale = read_frames(patterns, frames, exposure_s, facts), 1.0, 0.0
    misfits = []
    for start in range(0, len(patterns), FRAMES):
        part = shown.part(slice(start, start + FRAMES))
        stale = stale_share(rows, power, part)
        kept *= 1.0 - stale
        rows = rows.aged(stale, power)
        misfits.append(deviations(rows, part))
        rows = estimate(rows, part)
        error = math.sqrt(float(median(rows.rest / power)))
        if stale > MAX_STALE or error > MAX_ERROR:
            raise ValueError(
                f"frames must be of the medium of the matrix, but at frame {start} a share of {1.0 - kept:.2f} of its "
                f"power is stale and the error of a row is {error:.0%}: it moved too far, recover the matrix again"
            )
    rows = rows.scaled(power / (power - xp.minimum(rows.rest, 0.9 * power)))
    # The last frames were taken over some time: half of what became stale in it is stale after the last one.
    later = stale / 2.0 if len(patterns) > FRAMES else 0.0
    rows = rows._replace(rest=rows.rest + later * power)
    misfit = xp.mean(xp.concat(misfits), axis=0)
    factor = xp.where(misfit > 1.0 + 4.0 * math.sqrt(8.0 / len(patterns)), misfit, xp.ones_like(misfit))
    found = xp.sqrt(rows.rest * factor + facts.scale_error**2 * power)
    return Followed(rows, found, 1.0 - kept, misfit)


def spreads(weights: Complex) -> tuple[Complex, Complex]:
    """Covariances of the fields of frames, (frames, frames), for unit variances of the rest and of the shared part."""
    xp = backend_of(weights).xp
    together = xp.sum(weights, axis=1)
    shared = together[:, None] * xp.conj(together)[None, :] / weights.shape[1]
    return weights @ xp.conj(weights).T - shared, shared


def deviations(rows: Rows, shown: Shown) -> Real:
    """Squared deviations of the frames from their prediction over their expectation, (frames, n_rows)."""
    xp = backend_of(shown.weights).xp
    rest, shared = (xp.real(xp.linalg.diagonal(part))[:, None] for part in spreads(shown.weights))
    v = rest * rows.rest + shared * rows.shared
    light = xp.abs(shown.weights @ rows.matrix.T) ** 2
    return (shown.intensity - light - v) ** 2 / (2.0 * light * v + v**2 + shown.variance)


def stale_share(rows: Rows, power: Real, shown: Shown) -> float:
    """Share of the power at which the mean deviation of all readings is as expected; 0 if it is less before."""
    seen, xp = shown.variance < BLIND, backend_of(shown.variance).xp

    def mean(stale: float) -> float:
        return float(xp.mean(deviations(rows.aged(stale, power), shown)[seen]))

    low, high = 0.0, 1.0
    if not bool(xp.any(seen)) or mean(low) <= 1.0:
        return 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if mean(middle) > 1.0 else (low, middle)
    return high


def estimate(rows: Rows, shown: Shown) -> Rows:
    """Best linear estimate of the rows, and the variances of their errors.

    With the derivative J of the intensities, ``2 Re(conj(y) a .)``, it is ``t + P J^T S^-1 (I - E[I])``, where ``S =
    J P J^T + |a P a^H|^2 + R`` is the covariance of the intensities: as many rows as there are frames.
    """
    weights, backend = shown.weights, backend_of(shown.weights)
    n, xp = weights.shape[1], backend.xp
    apart, alike = spreads(weights)
    field = (weights @ rows.matrix.T).T  # (rows, frames)
    spread = rows.rest[:, None, None] * apart + rows.shared[:, None, None] * alike
    turn = xp.conj(field)[:, :, None] * field[:, None, :]
    one = backend.asarray(np.eye(len(weights)))
    total = 2.0 * xp.real(turn * spread) + xp.abs(spread) ** 2 + shown.variance.T[:, :, None] * one
    excess = shown.intensity.T - xp.abs(field) ** 2 - xp.real(xp.linalg.diagonal(spread))
    pull = xp.linalg.solve(total, excess[:, :, None])[:, :, 0] * field
    mean = (pull @ xp.conj(xp.sum(weights, axis=1)) / n)[:, None]
    found = rows.matrix + rows.rest[:, None] * (pull @ xp.conj(weights) - mean) + rows.shared[:, None] * mean
    gains = (xp.linalg.solve(total, 2.0 * xp.real(turn * part)) for part in (apart, alike))
    own, common = (xp.linalg.trace(gain) for gain in gains)
    rest = rows.rest * xp.clip(1.0 - rows.rest * own / (2.0 * max(n - 1, 1)), 0.0, 1.0)
    return Rows(found, rest, rows.shared * xp.clip(1.0 - rows.shared * common / 2.0, 0.0, 1.0))
