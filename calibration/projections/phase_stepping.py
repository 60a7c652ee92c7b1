"""Complex projections by phase stepping: frames of each pattern at equal steps of the reference arm's phase."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import at_places, columns, count, mean, put
from calibration.device import Device, show
from calibration.fields.holography import fringe_basis, step_phases, stepped_interference
from calibration.fields.linearity import curvature_of_levels, curvature_of_steps, curvature_sums
from calibration.fields.misfit import check_steps, response_factor
from calibration.fields.readings import binned_imaging, data_sheet_error
from calibration.fields.saturated import Prior, intersect_circles, weigh_points
from calibration.fields.stepped import Fields, misfit, refine_fields, stepped_reference
from calibration.projections.base import ProjectionMethod
from calibration.projections.reference_arm import (
    ReferencedProjection,
    check_arm,
    measure_arm,
    see_medium_if_recorded,
    warn_of_saturation,
)
from calibration.projections.responses import Response
from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.component import Field, component
from photonics.parts.camera import QUANTISATION

__all__ = ["PhaseSteppingMethod", "SteppingProjection"]

MIN_READINGS = 3
"""Readings that determine the three unknowns of a fringe: its mean, its cosine and its sine."""
MIN_VISIBILITY = 0.99
"""Smallest contrast of the fringes at which their amplitude follows from the beam's intensity."""

Places = tuple[Array, Array]
"""Indices of patterns and of pixels, (n,) each."""
Recovered = tuple[Fields, Array]
"""Recovered ``conj(R) y``, and whether it is one of two possible solutions; arrays of shape (n,)."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SteppingProjection(ReferencedProjection):
    """A complex linear map from P frames at phases ``2 pi k / P`` of the reference beam.

    If the phase changes within the P frames of a pattern, a share of ``conj(y)`` and of the intensity is added to y.
    White jitter of 0.1 rad rms raises an error of 0.03 to 0.08, and 0.4 rad raises it to 0.30 (measured, four steps).
    A camera that is not linear changes the scale, too; it bends the fringes, whose second harmonic (with three steps,
    the mean of the frames, if all light is coherent) shows the curvature. In `measure` it enlarges the errors, and a
    warning tells it, from 1 % on. Light that changes from pattern to pattern leaves perfect steps; in `measure` of 16
    patterns or more it enlarges the errors, and a warning tells it, if all light is coherent. Light that is not that of
    the calibration does so from 5 % on in any number of patterns, unless the speckle is about as bright as the beam;
    frames of whole vectors that are lost do, too (`calibration.fields.shift`).

    A pixel that saturates in some frames is recovered from the others. Three readings determine the fringe. Two
    readings and the beam's intensity determine it if all light interferes with the beam (one polarisation, one grain
    per pixel) and only one of the two solutions is bright enough for the saturated readings. Other values are marked as
    saturated; their standard error is still valid if one reading is unsaturated. A warning is given if more than 2 % of
    the readings saturate.
    """

    by_row: ClassVar[tuple[str, ...]] = (
        "reference_dn",
        "reference_variance",
        "speckle_dn",
        "shared_variance",
        "offset_dn",
    )

    host_fields: ClassVar[tuple[str, ...]] = ("phases_rad",)

    phases_rad: NDArray[np.float64]
    """Phases of the steps, (P,)."""
    offset_dn: Array
    """Response of all mirrors OFF, DN: (n_out,)."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "The phase of each row is relative to that of the reference beam on that pixel, which is unknown; a drift "
            "of the beam turns all rows of a vector together. Conjugation (by the piezo's direction) and scale are "
            "fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: one for each phase step."""
        return len(self.phases_rad)

    def _in_light(self, light: float, **more: Array) -> Self:
        return super()._in_light(light, offset_dn=self.offset_dn * light, **more)

    def _scale(self) -> Array:
        # A pixel of finite width reduces the contrast of a tilted beam's fringes; the data sheet of the optics gives
        # the factor.
        return super()._scale() / self.opu.imaging.visibility(self.opu.laser.wavelength_m)

    def _frames(self, half: Array) -> Array:
        xp, steps = self.backend.xp, len(self.phases_rad)
        patterns = xp.repeat(self._pad(half), steps, axis=0)
        frames = show(self.opu, patterns, reference_phase=np.tile(self.phases_rad, half.shape[0]))
        return xp.reshape(frames, (half.shape[0], steps, -1))

    def _respond(self, frames: Array, uncertain: bool) -> Response:
        xp, steps = self.backend.xp, len(self.phases_rad)
        values = stepped_interference(frames, self.phases_rad)
        full = frames >= self.opu.camera.saturation_dn
        warn_of_saturation(self, full, stacklevel=3)
        saturated = xp.any(full, axis=1)
        variance = mean(self.noise.variance(frames), 1) / (2 * steps) if uncertain else None
        factor = self._misfit_factor(frames, values)
        light, sums = 0.0, None
        if uncertain:
            level = mean(frames, 1, "float32") - self.noise.dark_dn
            light = self._light_variance(values, level, saturated) if self.coherent else 0.0
            sums = self._curvature_sums(frames, values, level, ~saturated & self.valid)
        batch, row = xp.nonzero(saturated)
        left = count(~at_places(full, batch, row), 1)
        few = (left < MIN_READINGS) & xp.take(self.valid, row) & self.coherent
        enough = left >= MIN_READINGS
        for chosen, recover, least in ((few, self._fit_with_beam, MIN_READINGS - 1), (enough, self._fit_fringe, 0)):
            if not bool(xp.any(chosen)):
                continue
            at = batch[chosen], row[chosen]
            fields, ambiguous = recover(frames, values, full, at)
            put(values, at, fields.values)
            if variance is not None:
                put(variance, at, fields.variance / 2.0)
            put(saturated, at, (left[chosen] < least) | ambiguous)
        values -= self.offset_dn
        variance = None if variance is None else variance * factor + light
        return Response(values, variance, saturated if uncertain else None, sums)

    def _curvature_sums(self, frames: Array, values: Array, mean_dn: Array, good: Array) -> Array | None:
        """Second harmonic of the steps, or the levels of three steps; None if neither shows the camera's curve."""
        xp = self.backend.xp
        variance, light = mean(self.noise.variance(frames), 1), xp.abs(values) ** 2
        steps = len(self.phases_rad)
        if steps > MIN_READINGS:
            found = curvature_of_steps(frames, values, self.phases_rad, variance, good)
        elif self.coherent:
            beam = xp.maximum(self.reference_dn, 1e-3)
            speckle = light / beam
            spread = variance * (1.0 + 2.0 * speckle / beam) / steps
            found = curvature_of_levels(mean_dn - beam - speckle, speckle, spread, good)
        else:
            return None
        shot = {3: 0.0, 4: 1.0}.get(steps, 2.0 / steps) * self.noise.slope_dn
        return curvature_sums(*found, xp.where(good, light, 0.0), mean_dn, variance, shot)

    def _misfit_factor(self, frames: Array, values: Array) -> Array:
        """Factor on the variance of each value by the misfit of its frames; 1 if any frames fit.

        Raises
        ------
        ValueError
            If frames repeat those of the step before.
        """
        xp, variance = self.backend.xp, self.noise.variance(frames)
        if float(mean(xp.abs(columns(values, self.valid)) ** 2)) > 25.0 * float(mean(variance)):
            check_steps(frames)
        if len(self.phases_rad) > MIN_READINGS:
            top, phases = self.opu.camera.saturation_dn, self.phases_rad[None]
            found = xp.stack([misfit(frames[k : k + 1, ...], phases, self.noise, top) for k in range(frames.shape[0])])
        elif self.coherent:
            found = self._misfit_of_mean(frames, values)
        else:
            return xp.ones_like(self.reference_dn) + xp.zeros_like(xp.real(values))
        # Rounding of fixed fringes is not noise: alone, it raises the misfit by up to 0.3.
        rounding = QUANTISATION / mean(variance, (1, 2))
        found = xp.where(self.valid, found, np.nan) / (1.0 + 0.5 * rounding)[:, None]
        return response_factor(found, max(len(self.phases_rad) - MIN_READINGS, 1))

    def _misfit_of_mean(self, frames: Array, values: Array) -> Array:
        """Misfit of the mean of a pattern's frames, ``|y|^2 + |R|^2`` if all light is coherent: (batch, n_out)."""
        xp, beam = self.backend.xp, self.backend.xp.maximum(self.reference_dn, 1e-3)
        power = xp.abs(values) ** 2 / beam
        level = mean(frames, 1, "float32") - self.noise.dark_dn
        noise = mean(self.noise.variance(frames), 1) / len(self.phases_rad)
        expected = noise * (1.0 + 2.0 * power / beam) + self.reference_variance
        expected += (2.0 * data_sheet_error(self.opu) * level) ** 2
        full = xp.any(frames >= self.opu.camera.saturation_dn, axis=1)
        return xp.where(full, np.nan, (level - beam - power) ** 2 / expected)

    def _fit_fringe(self, frames: Array, values: Array, full: Array, at: Places) -> Recovered:
        """Fit ``conj(R) y`` to three readings or more, which are unambiguous."""
        xp, readings = self.backend.xp, at_places(frames, *at)
        weights = fringe_weights(self.phases_rad, ~at_places(full, *at))
        spread = xp.sum(xp.abs(weights) ** 2 * self.noise.variance(readings), axis=1)
        found = xp.sum(weights * xp.astype(readings, xp.float32), axis=1)
        return Fields(found, spread), at[1] < 0

    def _fit_with_beam(self, frames: Array, values: Array, full: Array, at: Places) -> Recovered:
        """Fit ``conj(R) y`` to fewer readings and the beam's intensity.

        The `values` of the other pixels give the brightness of a pattern.
        """
        xp, (batch, row) = self.backend.xp, at
        beam = xp.sqrt(xp.take(self.reference_dn, row))
        light = xp.where(self.valid, xp.abs(values) ** 2 / xp.maximum(self.reference_dn, 1e-3), 0.0)
        known = count(~xp.any(full, axis=1) & self.valid, 1)
        # Maximum-likelihood mean of speckle whose bright pixels saturate: clipped values are lower bounds.
        spread = xp.sum(light, axis=1) / xp.astype(xp.maximum(known, 1), xp.float64)
        prior = Prior(xp.zeros_like(1j * beam), xp.take(xp.astype(spread, xp.float32), batch))
        readings, top = at_places(frames, *at).T, self.opu.camera.saturation_dn

        def refine(start: Array, which: Array | None) -> Fields:
            some, length, seen = prior, beam, readings
            if which is not None:
                some = Prior(*(xp.take(one, which) for one in prior))
                length, seen = xp.take(beam, which), xp.take(readings, which, axis=1)
            beams = stepped_reference(self.phases_rad[None], length)
            return refine_fields(seen[None, ...], beams, start[None, :], self.noise, top, prior=some)

        field = xp.take(xp.reshape(values, (-1,)), batch * values.shape[1] + row)
        start, ambiguous = field / beam, row < 0
        two = xp.nonzero(count(readings < top, 0) == MIN_READINGS - 1)[0]
        if not two.shape[0]:
            fields = refine(start, None)
            return Fields(fields.values[0, :] * beam, fields.variance * beam**2), ambiguous
        seen = xp.astype(xp.take(readings, two, axis=1), xp.float32)
        turns = self.backend.asarray(np.exp(1j * self.phases_rad)[:, None].astype(np.complex64))
        beams = turns * xp.take(beam, two)
        crossings = intersect_circles(seen, beams, self.noise, top)
        put(start, (two,), crossings[0, :])
        fields = refine(start, None)
        field, variance, other = fields.values[0, :], fields.variance, refine(crossings[1, :], two)
        points = xp.stack([xp.take(field, two), other.values[0, :]])
        errors = xp.stack([xp.take(variance, two), other.variance])
        some = Prior(*(xp.take(one, two) for one in prior))
        found = weigh_points(points, errors, seen, beams, some, self.noise, top)
        for old, new in zip((field, variance, ambiguous), found, strict=True):
            put(old, (two,), new)
        return Fields(field * beam, variance * beam**2), ambiguous

    @property
    def coherent(self) -> bool:
        """Whether all light on a pixel interferes with the beam, by the data sheets of the optics."""
        imaging = binned_imaging(self.opu)
        straight = imaging.visibility(self.opu.laser.wavelength_m) >= MIN_VISIBILITY
        return straight and imaging.polarisations == 1 and imaging.samples_per_pixel == 1


def fringe_weights(phases_rad: NDArray[np.float64], kept: Array) -> Array:
    """Weights of the kept frames in a sum that gives ``conj(R) y``: (n, P) -> (n, P).

    They are those of the least-squares fit of ``I_k = A + 2 Re(conj(R) y exp(-i phi_k))``; with all frames,
    ``exp(i phi_k) / P``.
    """
    backend = backend_of(kept)
    xp, design = backend.xp, backend.asarray(fringe_basis(phases_rad))
    used = xp.astype(kept, xp.float64)[:, :, None] * design  # (n, P, 3)
    turned = xp.permute_dims(used, (0, 2, 1))
    solved = xp.linalg.solve(turned @ design, turned)
    return xp.astype(solved[:, 1, :] + 1j * solved[:, 2, :], xp.complex64)


@component
class PhaseSteppingMethod(ProjectionMethod):
    """Complex projections by stepping the reference arm's piezo from frame to frame; see `SteppingProjection`."""

    name: ClassVar[str] = "phase-stepping"
    uses_reference: ClassVar[bool] = True
    steps: int = Field(default=4, ge=3, le=1000)
    """Phase steps in a full turn, one frame each. With 4 or more, a pixel that saturates in one frame is recovered."""

    def calibrate(self, device: Device, n_inputs: int) -> SteppingProjection:  # noqa: D102 (inherited)
        phases = step_phases(self.steps)
        arm = measure_arm(device, phases, self.repeats)
        valid = check_arm(device, arm, self.dark_share)
        medium = see_medium_if_recorded(device, n_inputs, self.repeats, arm.noise)
        return SteppingProjection(
            opu=device,
            method=self,
            n_inputs=n_inputs,
            valid=valid,
            unit_dn=self.unit_of(device),
            noise=arm.noise,
            **medium._asdict(),
            reference_dn=arm.reference_dn,
            reference_variance=arm.reference_variance,
            shared_variance=arm.frame_variance.mean(axis=0) / np.float32(2 * self.steps),
            phases_rad=phases,
            offset_dn=stepped_interference(arm.frames_dn[None], phases)[0],
        )
