"""Complex projections by phase stepping: frames of each pattern at equal steps of the reference arm's phase."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from calibration.fields.holography import step_phases, stepped_interference
from calibration.fields.linearity import curvature_of_levels, curvature_of_steps, curvature_sums
from calibration.fields.misfit import MAX_REPEATED, response_factor
from calibration.fields.readings import binned_imaging, data_sheet_error
from calibration.fields.saturated import Prior, intersect_circles, weigh_points
from calibration.fields.stepped import Fields, misfit, refine_fields, stepped_reference
from calibration.projections.base import ProjectionMethod
from calibration.projections.reference_arm import (
    ReferencedProjection,
    beam_in_light,
    check_arm,
    measure_arm,
    warn_of_saturation,
)
from calibration.projections.responses import Response
from photonics.arrays import BoolArray, ComplexArray, FloatArray, HostArray
from photonics.component import Field, component
from photonics.parts.camera import QUANTISATION

__all__ = ["PhaseSteppingMethod", "SteppingProjection"]

MIN_READINGS = 3
"""Readings that determine the three unknowns of a fringe: its mean, its cosine and its sine."""
MIN_VISIBILITY = 0.99
"""Smallest contrast of the fringes at which their amplitude follows from the beam's intensity."""

Places = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Indices of patterns and of pixels, (n,) each."""
Recovered = tuple[Fields, BoolArray]
"""Recovered ``conj(R) y``, and whether it is one of two possible solutions; arrays of shape (n,)."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SteppingProjection(ReferencedProjection):
    """A complex linear map from P frames at phases ``2 pi k / P`` of the reference beam.

    If the phase changes within the P frames of a pattern, a share of ``conj(y)`` and of the intensity is added to y.
    White jitter of 0.1 rad rms raises an error of 0.03 to 0.08, and 0.4 rad raises it to 0.30 (measured, four steps).
    A camera that is not linear changes the scale, too; it bends the fringes, whose second harmonic (with three steps,
    the mean of the frames, if all light is coherent) shows the curvature. In `measure` it enlarges the errors, and a
    warning tells it, from 1 % on. Light that changes from pattern to pattern leaves perfect steps; in `measure` of 16
    patterns or more it enlarges the errors, and a warning tells it, if all light is coherent. So do frames of whole
    vectors that are lost (`calibration.fields.shift`).

    A pixel that saturates in some frames is recovered from the others. Three readings determine the fringe. Two
    readings and the beam's intensity determine it if all light interferes with the beam (one polarisation, one grain
    per pixel) and only one of the two solutions is bright enough for the saturated readings. Other values are marked as
    saturated; their standard error is still valid if one reading is unsaturated. A warning is given if more than 2 % of
    the readings saturate.
    """

    by_row: ClassVar[tuple[str, ...]] = ("reference_dn", "reference_variance", "shared_variance", "offset_dn")

    phases_rad: NDArray[np.float64]
    """Phases of the steps, (P,)."""
    offset_dn: ComplexArray
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

    def _in_light(self, scale: float) -> ReferencedProjection:
        light = np.complex64(scale)
        return replace(self, **beam_in_light(self, scale), offset_dn=self.offset_dn * light)

    def _scale(self) -> FloatArray:
        # A pixel of finite width reduces the contrast of a tilted beam's fringes; the data sheet of the optics gives
        # the factor.
        return super()._scale() / np.float32(self.opu.imaging.visibility(self.opu.laser.wavelength_m))

    def _frames(self, half: BoolArray) -> HostArray:
        steps = len(self.phases_rad)
        patterns = np.repeat(self._pad(half), steps, axis=0)
        frames = self.opu.measure(patterns, reference_phase=np.tile(self.phases_rad, len(half)))
        return frames.reshape(len(half), steps, -1)

    def _respond(self, frames: HostArray, uncertain: bool) -> Response:
        values = stepped_interference(frames, self.phases_rad)
        full = frames >= self.opu.camera.saturation_dn
        warn_of_saturation(self, full, stacklevel=3)
        saturated = np.asarray(full.any(axis=1))
        variance = None
        if uncertain:
            variance = self.noise.variance(frames).mean(axis=1) / np.float32(2 * len(self.phases_rad))
        factor = self._misfit_factor(frames, values)
        light, sums = None, None
        if uncertain:
            mean = frames.mean(axis=1, dtype=np.float32) - np.float32(self.noise.dark_dn)
            light = self._light_variance(values, mean, saturated) if self.coherent else None
            sums = self._curvature_sums(frames, values, mean, ~saturated & self.valid)
        batch, row = np.nonzero(saturated)
        left = (~full[batch, :, row]).sum(axis=1)
        few = (left < MIN_READINGS) & self.valid[row] & self.coherent
        enough = left >= MIN_READINGS
        for chosen, recover, least in ((few, self._fit_with_beam, MIN_READINGS - 1), (enough, self._fit_fringe, 0)):
            if not chosen.any():
                continue
            at = batch[chosen], row[chosen]
            fields, ambiguous = recover(frames, values, full, at)
            values[at] = fields.values
            if variance is not None:
                variance[at] = fields.variance / np.float32(2.0)
            saturated[at] = (left[chosen] < least) | ambiguous
        values -= self.offset_dn
        variance = None if variance is None else variance * factor + (np.float32(0.0) if light is None else light)
        return Response(values, variance, saturated if uncertain else None, sums)

    def _curvature_sums(
        self, frames: HostArray, values: ComplexArray, mean_dn: FloatArray, good: BoolArray
    ) -> HostArray | None:
        """Second harmonic of the steps, or the levels of three steps; None if neither shows the camera's curve."""
        variance, light = self.noise.variance(frames).mean(axis=1), np.abs(values) ** 2
        steps = len(self.phases_rad)
        if steps > MIN_READINGS:
            found = curvature_of_steps(frames, values, self.phases_rad, variance, good)
        elif self.coherent:
            beam = np.maximum(self.reference_dn, np.float32(1e-3))
            speckle = light / beam
            spread = variance * (1.0 + 2.0 * speckle / beam) / np.float32(steps)
            found = curvature_of_levels(mean_dn - beam - speckle, speckle, spread, good)
        else:
            return None
        shot = {3: 0.0, 4: 1.0}.get(steps, 2.0 / steps) * self.noise.slope_dn
        return curvature_sums(*found, np.where(good, light, np.float32(0.0)), mean_dn, variance, shot)

    def _misfit_factor(self, frames: HostArray, values: ComplexArray) -> FloatArray:
        """Factor on the variance of each value by the misfit of its frames; 1 if any frames fit.

        Raises
        ------
        ValueError
            If frames repeat those of the step before.
        """
        repeated = float((frames[:, 1:] == frames[:, :-1]).all(axis=2).mean())
        seen = np.mean(np.abs(values[:, self.valid]) ** 2) > 25.0 * np.mean(self.noise.variance(frames))
        if repeated > MAX_REPEATED and seen:
            raise ValueError(
                f"frames of one phase step must differ from those of the step before, but {repeated:.0%} are equal: "
                "the camera or the recording repeats frames, or the phase of the reference does not step"
            )
        if len(self.phases_rad) > MIN_READINGS:
            top, phases = self.opu.camera.saturation_dn, self.phases_rad[None]
            found = np.stack([misfit(one[None], phases, self.noise, top) for one in frames])
        elif self.coherent:
            found = self._misfit_of_mean(frames, values)
        else:
            return np.ones(values.shape, np.float32)
        found[:, ~self.valid] = np.nan
        # Rounding of fixed fringes is not noise: alone, it raises the misfit by up to 0.3.
        rounding = QUANTISATION / self.noise.variance(frames).mean(axis=(1, 2))
        found /= (1.0 + 0.5 * rounding)[:, None]
        return response_factor(found, max(len(self.phases_rad) - MIN_READINGS, 1))

    def _misfit_of_mean(self, frames: HostArray, values: ComplexArray) -> FloatArray:
        """Misfit of the mean of a pattern's frames, ``|y|^2 + |R|^2`` if all light is coherent: (batch, n_out)."""
        beam = np.maximum(self.reference_dn, np.float32(1e-3))
        power = np.abs(values) ** 2 / beam
        mean = frames.mean(axis=1, dtype=np.float32) - np.float32(self.noise.dark_dn)
        noise = self.noise.variance(frames).mean(axis=1) / np.float32(len(self.phases_rad))
        expected = noise * (1.0 + 2.0 * power / beam) + self.reference_variance
        expected += (np.float32(2.0 * data_sheet_error(self.opu)) * mean) ** 2
        full = (frames >= self.opu.camera.saturation_dn).any(axis=1)
        return np.where(full, np.float32(np.nan), (mean - beam - power) ** 2 / expected)

    def _fit_fringe(self, frames: HostArray, values: ComplexArray, full: BoolArray, at: Places) -> Recovered:
        """Fit ``conj(R) y`` to three readings or more, which are unambiguous."""
        batch, row = at
        weights = fringe_weights(self.phases_rad, ~full[batch, :, row])
        readings = frames[batch, :, row]
        spread = (np.abs(weights) ** 2 * self.noise.variance(readings)).sum(axis=1)
        return Fields((weights * readings).sum(axis=1), spread), np.zeros(len(row), np.bool_)

    def _fit_with_beam(self, frames: HostArray, values: ComplexArray, full: BoolArray, at: Places) -> Recovered:
        """Fit ``conj(R) y`` to fewer readings and the beam's intensity.

        The `values` of the other pixels give the brightness of a pattern.
        """
        batch, row = at
        beam = np.sqrt(self.reference_dn[row])
        light = np.where(self.valid, np.abs(values) ** 2 / np.maximum(self.reference_dn, np.float32(1e-3)), 0.0)
        known = np.count_nonzero(~full.any(axis=1) & self.valid, axis=1)
        # Maximum-likelihood mean of speckle whose bright pixels saturate: clipped values are lower bounds.
        spread = light.sum(axis=1) / np.maximum(known, 1)
        prior = Prior(np.zeros(len(row), np.complex64), spread[batch].astype(np.float32))
        readings, top = frames[batch, :, row].T, self.opu.camera.saturation_dn

        def refine(start: ComplexArray, which: slice | NDArray[np.intp]) -> Fields:
            some = Prior(prior.mean[which], prior.spread[which])
            beams = stepped_reference(self.phases_rad[None], beam[which])
            return refine_fields(readings[None, :, which], beams, start[None], self.noise, top, prior=some)

        start, ambiguous = np.asarray(values[batch, row] / beam, np.complex64), np.zeros(len(row), np.bool_)
        two = np.flatnonzero((readings < top).sum(axis=0) == MIN_READINGS - 1)
        seen = readings[:, two].astype(np.float32)
        beams = np.exp(1j * self.phases_rad)[:, None].astype(np.complex64) * beam[two]
        start[two], mirrored = intersect_circles(seen, beams, self.noise, top)
        fields = refine(start, slice(None))
        field, variance = fields.values[0], fields.variance
        if len(two):
            other = refine(mirrored, two)
            points, errors = np.stack([field[two], other.values[0]]), np.stack([variance[two], other.variance])
            some = Prior(prior.mean[two], prior.spread[two])
            field[two], variance[two], ambiguous[two] = weigh_points(points, errors, seen, beams, some, self.noise, top)
        return Fields(field * beam, variance * beam**2), ambiguous

    @property
    def coherent(self) -> bool:
        """Whether all light on a pixel interferes with the beam, by the data sheets of the optics."""
        imaging = binned_imaging(self.opu)
        straight = imaging.visibility(self.opu.laser.wavelength_m) >= MIN_VISIBILITY
        return straight and imaging.polarisations == 1 and imaging.samples_per_pixel == 1


def fringe_weights(phases_rad: NDArray[np.float64], kept: BoolArray) -> ComplexArray:
    """Weights of the kept frames in a sum that gives ``conj(R) y``: (n, P) -> (n, P).

    They are those of the least-squares fit of ``I_k = A + 2 Re(conj(R) y exp(-i phi_k))``; with all frames,
    ``exp(i phi_k) / P``.
    """
    design = np.stack([np.ones_like(phases_rad), 2.0 * np.cos(phases_rad), 2.0 * np.sin(phases_rad)], axis=1)
    used = kept[:, :, None] * design  # (n, P, 3)
    normal = np.swapaxes(used, 1, 2) @ design
    solved = np.linalg.solve(normal, np.swapaxes(used, 1, 2))
    return (solved[:, 1] + 1j * solved[:, 2]).astype(np.complex64)


@component
class PhaseSteppingMethod(ProjectionMethod):
    """Complex projections by stepping the reference arm's piezo from frame to frame; see `SteppingProjection`."""

    name: ClassVar[str] = "phase-stepping"
    steps: int = Field(4, ge=3, le=1000)
    """Phase steps in a full turn, one frame each. With 4 or more, a pixel that saturates in one frame is recovered."""

    def calibrate(self, device: Device, n_inputs: int) -> SteppingProjection:  # noqa: D102 (inherited)
        phases = step_phases(self.steps)
        arm = measure_arm(device, phases, self.repeats)
        return SteppingProjection(
            opu=device,
            method=self,
            n_inputs=n_inputs,
            valid=check_arm(device, arm, self.dark_share),
            unit_dn=self.unit_of(device),
            noise=arm.noise,
            reference_dn=arm.reference_dn,
            reference_variance=arm.reference_variance,
            shared_variance=arm.frame_variance.mean(axis=0) / np.float32(2 * self.steps),
            phases_rad=phases,
            offset_dn=stepped_interference(arm.frames_dn[None], phases)[0],
        )
