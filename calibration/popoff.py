"""Transmission matrix with a reference that passes through the medium: mirrors that carry no data."""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.bundle import Real, adjust
from calibration.probes import Design, design
from calibration.recovery import Bench, Block, Gauge, RecoveryMethod, Shots
from photonics.component import Field, component

__all__ = ["Popoff"]

LEAST_CLARITY = 2.5
"""Signal over noise along the weaker axis of the references under which a row counts as dark: there a field's sign
along that axis is a guess. 5 % of the rows with 3 references, 0.5 % with 5."""
WORST_MISFIT = 4.0
"""Misfit over which no row is accepted, though all are alike: residuals of twice the noise, from light that does not
interfere or a medium that moves."""
WORST = 0.25
"""Predicted error of a row over its length from which the row is given up."""


class Guess(NamedTuple):
    """Fields of the probes, (order, n_rows), and of the references, (S, n_rows): roots of DN."""

    fields: NDArray[np.complex64]
    references: NDArray[np.complex64]
    clarity: Real
    """Signal over noise, in amplitude, along the weaker axis of the plane of the references: (n_rows,)."""


@component
class Popoff(RecoveryMethod):
    """Internal reference, after S. M. Popoff et al., Phys. Rev. Lett. 104, 100601 (2010), for mirrors that are binary.

    There a part of a phase modulator is left alone and the rest steps through four phases against its speckle r, which
    gives ``diag(conj r) T``. Mirrors cannot step a phase: patterns and their differences have the factors +-1, and
    interference with one speckle tells only ``Re(conj(r) t)``. So the part that carries no data shows S patterns in
    turn, and nothing, with each probe x: ``I_0 = |y|^2``, ``I_s = |y + r_s|^2``, y the field of the probe. The
    references take the place of the phase steps; where they lie in the complex plane is found from the frames:

    1. ``(I_s - I_0) / 2 = Re(conj(r_s) y) + |r_s|^2 / 2`` has rank 2 over the probes, which gives y up to a real linear
       map of the plane (principal components, whitened by the noise).
    2. ``I_0 = |y|^2`` of all probes fixes that map but for a rotation and a reflection: a quadratic form.
    3. Fields and references are fitted to all readings together (`calibration.bundle`: maximum likelihood).

    Each row is left with a phase and a complex conjugation, as with any real modulation. Light that leaks from mirrors
    that are OFF is part of y; it puts ``2 eps / sqrt(n)`` of a row into the error. The predicted error takes the
    references as known, which makes it 4 % low in the median row, and up to 1.7 times where they are nearly collinear.
    """

    name: ClassVar[str] = "popoff"

    n_in: int = Field(ge=1)
    """Inputs of the device."""
    n_inputs: int = Field(ge=1)
    """Inputs whose columns are recovered, the first ones; the others are the references'."""
    seed: int = Field(default=0, ge=0)
    """Not used: the probes are fixed."""
    references: int = Field(default=3, ge=3, le=32)
    """Reference patterns S, the other inputs dealt out in turn; two would often be collinear in the complex plane."""

    def __post_init__(self) -> None:
        if self.n_inputs > self.n_in - self.references:
            raise ValueError(
                f"n_inputs must be {self.n_in - self.references} or less, which leaves an input for each of "
                f"{self.references} references, got {self.n_inputs}"
            )

    @property
    def design(self) -> Design:
        """The probes."""
        return design(self.n_inputs)

    @property
    def frames(self) -> int:  # noqa: D102
        return (self.references + 1) * self.design.order

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return Gauge("each row is times a phase, and complex conjugated or not", conjugation_fixed=False)

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        probe, reference = np.divmod(np.arange(start, stop), self.references + 1)
        other = np.arange(self.n_in)[None, :] - self.n_inputs
        # Reference 0 is none: no input has the turn -1.
        patterns = (other >= 0) & (other % self.references == (reference - 1)[:, None])
        patterns[:, : self.n_inputs] = self.design.patterns(probe, self.n_inputs)
        return Shots(patterns)

    def solve(self, frames: NDArray[Any], rows: slice, bench: Bench, state: Any) -> Block:  # noqa: D102
        readings = frames.reshape(self.design.order, self.references + 1, -1)
        guess = first_guess(readings, bench)
        found = adjust(readings, guess.fields, guess.references, bench)
        unit = np.float32(1.0 / np.sqrt(bench.unit_dn))
        matrix = self.design.solve(found.fields)[: self.n_inputs].T * unit
        length = np.mean(np.abs(matrix) ** 2, axis=1)
        squared = float(self.design.gain(self.n_inputs).mean()) * found.variance * unit**2
        spare = (self.references - 1) * self.design.order
        valid = np.isfinite(squared) & (squared < WORST**2 * length) & (guess.clarity > LEAST_CLARITY)
        limit = max(float(np.median(found.misfit)), 1.0) * (1.1 + 3.0 * np.sqrt(2.0 / spare))
        valid &= found.misfit < min(limit, WORST_MISFIT)
        error = np.where(valid, np.sqrt(squared + length * bench.scale_error**2), np.inf)
        extra = {
            "reference_ratio": axes_ratio(found.references),
            "misfit": found.misfit,
            "clarity": guess.clarity,
        }
        return Block(matrix.astype(np.complex64), error.astype(np.float32), valid, extra)


def axes_ratio(references: NDArray[np.complex64]) -> Real:
    """Smaller over larger axis of the references (and nothing) in the complex plane: 0 if collinear, (n_rows,)."""
    shown = np.concatenate([np.zeros_like(references[:1]), references])
    shown = shown - shown.mean(axis=0)
    plane = np.stack([shown.real, shown.imag], axis=-1).transpose(1, 0, 2)
    values = np.linalg.svd(plane, compute_uv=False)
    return (values[:, 1] / np.maximum(values[:, 0], np.float32(1e-30))).astype(np.float32)


def first_guess(readings: NDArray[Any], bench: Bench) -> Guess:
    """Steps 1 and 2 of `Popoff`, from the readings (order, S + 1, n_rows)."""
    signal = readings.astype(np.float32) - np.float32(bench.noise.dark_dn)
    variance = bench.noise.variance(readings)
    alone = signal[:, 0]
    differences = ((signal[:, 1:] - signal[:, :1]) / np.float32(2.0)).transpose(2, 0, 1)  # (n_rows, order, S)
    centred = differences - differences.mean(axis=1, keepdims=True)

    # The frame without a reference is in all differences: their noise is correlated. What saturation cuts off is
    # taken for noise of a fifth of the range.
    cut = (readings >= bench.saturation_dn).mean(axis=0, dtype=np.float32) * np.float32(0.2 * bench.saturation_dn) ** 2
    spread = (variance.mean(axis=0) + cut).T / np.float32(4.0)  # (n_rows, S + 1)
    covariance = spread[:, None, :1] + np.eye(spread.shape[1] - 1, dtype=np.float32) * spread[:, 1:, None]
    white = np.linalg.inv(np.linalg.cholesky(covariance))
    scatter = white @ (centred.transpose(0, 2, 1) @ centred) @ white.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(scatter)
    clarity = np.sqrt(np.maximum(values[:, -2] / len(readings) - 1.0, 0.0)).astype(np.float32)
    plane = centred @ (white.transpose(0, 2, 1) @ vectors[:, :, -2:])  # (n_rows, order, 2)
    scale = np.sqrt(np.maximum((plane**2).mean(axis=1, keepdims=True), np.float32(1e-30)))
    plane = plane / scale

    to_field, centre = metric(plane, alone.T, 1.0 / variance[:, 0].T)
    placed = (plane + centre[:, None, :]) @ to_field.transpose(0, 2, 1)
    fields = (placed[..., 0] + 1j * placed[..., 1]).astype(np.complex64)

    # Differences are linear in the fields: their slopes are the references.
    a = placed - placed.mean(axis=1, keepdims=True)
    normal = a.transpose(0, 2, 1) @ a
    normal += np.float32(1e-6) * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2, dtype=np.float32)
    slopes = np.linalg.solve(normal, a.transpose(0, 2, 1) @ centred)  # (n_rows, 2, S)
    references = (slopes[:, 0] + 1j * slopes[:, 1]).astype(np.complex64)
    return Guess(np.ascontiguousarray(fields.T), np.ascontiguousarray(references.T), clarity)


def metric(plane: Real, intensity: Real, weight: Real) -> tuple[Real, Real]:
    """Map of the plane to fields, (n_rows, 2, 2), and the place of zero field's opposite, (n_rows, 2).

    Fits ``intensity = (d + m)^T M (d + m)`` to the points d, (n_rows, order, 2): ``y = M^(1/2) (d + m)``. M is
    kept positive, with axes no more than 1 : 20.
    """
    u, v = plane[..., 0], plane[..., 1]
    basis = np.stack([u * u, 2 * u * v, v * v, u, v, np.ones_like(u)], axis=-1)
    weighted = (basis * weight[..., None]).transpose(0, 2, 1)
    normal = weighted @ basis
    normal += np.float32(1e-6) * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6, dtype=np.float32)
    form = np.linalg.solve(normal.astype(np.float64), (weighted @ intensity[..., None]).astype(np.float64))[..., 0]
    quadratic = np.stack([form[:, [0, 1]], form[:, [1, 2]]], axis=1)
    values, axes = np.linalg.eigh(quadratic)
    values = np.maximum(values, np.maximum(values[:, 1:] / 400.0, 1e-12))
    centre = axes @ ((axes.transpose(0, 2, 1) @ form[:, 3:5, None]) / (2.0 * values[..., None]))
    root = axes * np.sqrt(values)[:, None, :] @ axes.transpose(0, 2, 1)
    return root.astype(np.float32), centre[..., 0].astype(np.float32)
