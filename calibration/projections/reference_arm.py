"""Projections with a reference arm, and the calibration of its beam."""

import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns, count, mean
from calibration.camera.decay import STILL, Change, Speed, change_of_light, speed_of_repeats
from calibration.camera.noise import NoiseModel, fit_noise, over_repeats
from calibration.camera.pixels import is_restless
from calibration.device import Device, backend_of_device, show
from calibration.fields.linearity import bend_of_fringes
from calibration.fields.misfit import check_repeats
from calibration.fields.readings import MAX_SATURATED, data_sheet_error, switched_unit_dn
from calibration.projections.base import LinearProjection, Refreshed
from calibration.projections.light import change_of_beam, common_scale, warn_of_scale
from calibration.projections.responses import Common
from calibration.projections.signed_patterns import Terms
from calibration.storage.files import WrongFile
from photonics.arrays import Array, BoolArray, FloatArray
from photonics.backend import backend_of, to_host
from photonics.component import integer
from photonics.parts.camera import QUANTISATION

__all__ = [
    "Arm",
    "BeamProjection",
    "ReferencedProjection",
    "check_arm",
    "frames_in_beam",
    "measure_arm",
    "see_medium",
    "see_medium_if_recorded",
    "warn_of_saturation",
]


class Arm(NamedTuple):
    """The reference beam with all mirrors OFF; arrays of shape (n_out,) or (n_phases, n_out)."""

    reference_dn: FloatArray
    """Mean intensity over the phases, minus that of all mirrors OFF without the beam, DN. It includes the beam's
    interference with leaked light unless the phases average it out."""
    reference_variance: FloatArray
    """Variance of `reference_dn`, DN^2."""
    frames_dn: FloatArray
    """Mean frame at each phase, DN, dark level included: (n_phases, n_out)."""
    frame_variance: FloatArray
    """Variance of `frames_dn`, DN^2."""
    saturated: BoolArray
    """Whether the beam alone saturates a pixel, or it blinks in the dark."""
    noise: NoiseModel


class Medium(NamedTuple):
    """What a calibration sees of the medium; the fields of a `BeamProjection`."""

    speckle_dn: FloatArray
    speed: Speed
    frame: int


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BeamProjection(LinearProjection):
    """A linear map from interference with a reference beam R, whose strength sets the scale."""

    moving_fields: ClassVar[int] = 1

    reference_dn: Array
    """Intensity ``|R|^2`` of the beam alone on each pixel, DN: (n_out,)."""
    reference_variance: Array
    """Variance of `reference_dn`, DN^2."""
    speckle_dn: Array
    """Mean frame of all data inputs ON without the beam, above dark, DN: (n_out,). Shows how far the medium moves."""

    def refresh(self, count: int = 1) -> Refreshed:
        """Measure the beam by `count` frames with all mirrors OFF, and the speckle by as many without the beam."""
        if (there := self.on_device) is not self:
            return there.refresh(count)
        light = float(np.float32(light_of_beam(self.opu, self.noise, self.reference_dn, self.valid, count)))
        now = self._in_light(light)
        if not self.frame:  # a recording that has not seen the medium
            return Refreshed(now, light, None, None)
        found = self._change_of_speckle(count)
        return Refreshed(now.moving(found), light, *found[1:])

    def _change_of_speckle(self, count: int) -> Change:
        """What has become of the speckle of all data inputs since the calibration."""
        frames = show_inputs(self.opu, self.n_inputs, count)
        taken, dark = mean(frames, 0, "float32") - self.noise.dark_dn, self.noise.dark_dn
        top = self.opu.camera.saturation_dn - dark
        rows = self.valid & (taken < top) & (self.speckle_dn < top)
        now, before = columns(taken, rows), columns(self.speckle_dn, rows)
        noise = (
            self.noise.variance(now + dark) / count,
            self.noise.variance(before + dark) / self.method.repeats,
        )
        return change_of_light(now, before, noise, self.opu.clock.frames - count // 2 - self.frame)

    def _in_light(self, light: float, **more: Array) -> Self:
        """The projection in brighter or darker light; `more` are other fields that follow it."""
        beam_dn, variance = self.reference_dn * light, self.reference_variance * light**2
        return replace(self, reference_dn=beam_dn, reference_variance=variance, **more)

    def _stale_error(self, values: Array, error: Array, terms: Terms) -> Array:
        """As inherited, and that of the light that OFF mirrors leak: its field is subtracted as calibrated."""
        leaked = terms.balance[:, None] ** 2 * (self.leakage * (1.0 - self.correlation))
        return self.backend.xp.hypot(super()._stale_error(values, error, terms), leaked**0.5)

    def _scale_error(self) -> Array:
        xp = self.backend.xp
        beam = xp.where(self.valid, self.reference_dn, np.inf)
        return xp.hypot(xp.sqrt(self.reference_variance) / (2.0 * beam), data_sheet_error(self.opu))


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ReferencedProjection(BeamProjection):
    """A complex linear map: ``M_ij = exp(-i rho_i) t_ij``, with rho_i the phase of the reference beam R in row i.

    Its unit is that of T (`unit_dn`). Each row is multiplied by the square root of its pixel's relative response
    (PRNU). Light leaked by OFF mirrors is subtracted: the map of x is the response to x minus that to all mirrors OFF.

    If the beam's phase drifts by d between the calibration and the frames of a vector, all outputs of that vector turn
    by d together. The scale is unaffected, as the beam's strength is measured as an intensity. A signed vector is the
    difference of two halves; a phase drift between these causes an error.
    """

    shared_variance: Array
    """Variance of the real part (or the imaginary one) of the response of all mirrors OFF, DN^2: (n_out,)."""

    def _in_light(self, light: float, **more: Array) -> Self:
        return super()._in_light(light, shared_variance=self.shared_variance * light**2, **more)

    @property
    def dtype(self) -> type[np.complex64]:  # noqa: D102 (inherited)
        return np.complex64

    def _scale(self) -> Array:
        xp, unit_dn = self.backend.xp, switched_unit_dn(self.opu, self.unit_dn)
        return 1.0 / xp.sqrt(xp.where(self.valid, self.reference_dn * unit_dn, np.inf))

    def _light_variance(self, values: Array, mean_dn: Array, lost: Array, leaked_dn: float = 0.0) -> Array:
        """Variance of responses ``conj(R) y`` by light that is not that of the calibration; warnings tell it.

        `mean_dn` is the mean of a pattern's frames above the dark level, without fringes; `lost` are pixels that
        saturate in one: (batch, n_out) each. `leaked_dn` is the light of OFF mirrors, if it is not in the values.
        """
        xp, power = self.backend.xp, self.backend.xp.abs(values) ** 2
        beam = columns(xp.maximum(self.reference_dn, 1e-3), self.valid)
        speckle = columns(power, self.valid) / beam
        light, known = columns(mean_dn, self.valid), ~columns(lost, self.valid)
        light_now = change_of_beam(light, beam, speckle, known, leaked_dn, self.opu, stacklevel=5)
        excess = xp.where(known, light - beam - speckle, 0.0)
        error = float(xp.sum(columns(self.reference_variance, self.valid)))
        scale = common_scale(excess, beam - speckle, error, self.n_inputs, self.opu)
        if scale > (2.0 * data_sheet_error(self.opu)) ** 2:
            warn_of_scale(float(np.sqrt(scale)), stacklevel=5)
        wrong = xp.maximum((1.0 / light_now - 1.0) ** 2, scale)
        return power * xp.astype(wrong / 2.0, xp.float32)[:, None]

    def _common_error(self, sums: Array, patterns: Array) -> Common:
        return Common(relative=bend_of_fringes(sums, stacklevel=3))

    def _shared_variance(self) -> Array:
        return self.shared_variance


def warn_of_saturation(projection: LinearProjection, full: Array, stacklevel: int = 2) -> None:
    """Warn if over `MAX_SATURATED` of the readings in valid rows are `full`: (..., n_out)."""
    if int(count(full & projection.valid)) > MAX_SATURATED * float(mean(projection.valid)) * full.size:
        warnings.warn(
            f"exposure_s {projection.opu.exposure_s:.4g} saturates over {MAX_SATURATED:.0%} of a projection's readings"
            ": shorten it (calibration.recovery.exposure.expose)",
            stacklevel=stacklevel + 1,
        )


def measure_arm(opu: Device, phases_rad: NDArray[np.float64], repeats: int) -> Arm:
    """Measure the beam: frames with all mirrors OFF, shutter closed and open at each phase, `repeats` times each."""
    steps = len(phases_rad)
    dark = to_host(opu.dark(repeats)).astype(np.float32)
    off = over_repeats(show(opu, np.zeros((repeats, opu.n_in), np.bool_)), repeats)
    shown = np.zeros((repeats * steps, opu.n_in), np.bool_)
    lit = over_repeats(show(opu, shown, reference_phase=np.tile(phases_rad, repeats)), repeats)
    mean, spread, peak = (np.concatenate([to_host(one) for one in both]) for both in zip(off[:3], lit[:3], strict=True))
    top = opu.camera.saturation_dn
    noise = fit_noise(mean, spread, peak < top, dark, top)
    variance = variance_of_mean(noise.variance(mean), repeats)
    return Arm(
        reference_dn=mean[1:].mean(axis=0) - mean[0],
        reference_variance=variance[1:].mean(axis=0) / np.float32(steps) + variance[0],
        frames_dn=mean[1:],
        frame_variance=variance[1:],
        saturated=(peak[1:] >= top).any(axis=0) | is_restless(dark),
        noise=noise,
    )


def frames_in_beam(opu: Device, half: Array, padded: Array) -> Array:
    """Take a frame of each half with the beam at phase 0, shown as the `padded` pattern: (batch, 1, n_out).

    Equal frames of neighbours that differ are refused.
    """
    frames = show(opu, padded, reference_phase=0.0)
    changed = backend_of(half).xp.any(half[1:, :] != half[:-1, :], axis=1)
    check_repeats(frames[:-1, :][changed], frames[1:, :][changed])
    return frames[:, None, :]


def light_of_beam(opu: Device, noise: NoiseModel, before: Array, valid: Array, shots: int) -> float:
    """Light of the beam over that of `before` it, DN above dark, by some frames with all mirrors OFF."""
    shots = integer(shots, "count", 1)
    frames = show(opu, np.zeros((shots, opu.n_in), np.bool_), reference_phase=np.zeros(shots))
    taken = mean(frames, 0, "float32") - noise.dark_dn
    return float(mean(columns(taken, valid)) / mean(columns(before, valid)))


def show_inputs(opu: Device, n_inputs: int, count: int) -> Array:
    """Take frames of all data inputs ON without the beam: (count, n_out)."""
    shown = np.zeros((count, opu.n_in), np.bool_)
    shown[:, :n_inputs] = True
    return show(opu, shown)


def see_medium(opu: Device, n_inputs: int, repeats: int, noise: NoiseModel) -> Medium:
    """See the medium, and how fast it moves, by repeated frames at the end of a calibration."""
    frames, xp = show_inputs(opu, n_inputs, repeats), backend_of_device(opu).xp
    signal = xp.astype(frames, xp.float32) - noise.dark_dn
    speed = speed_of_repeats(signal, 1, xp.max(frames, axis=0) < opu.camera.saturation_dn)
    return Medium(to_host(mean(signal, 0)), speed, opu.clock.frames - repeats // 2)


def see_medium_if_recorded(opu: Device, n_inputs: int, repeats: int, noise: NoiseModel) -> Medium:
    """`see_medium`; a warning from recordings of older versions, which end before."""
    try:
        return see_medium(opu, n_inputs, repeats, noise)
    except WrongFile:
        warnings.warn(
            f"opu is a recording without the {repeats} frames of all inputs at the end of a calibration, which show "
            "whether the medium moves: stated errors are those of a medium that is still",
            stacklevel=4,
        )
        return Medium(np.zeros(opu.n_out, np.float32), STILL, 0)


def variance_of_mean(variance: FloatArray, repeats: int) -> FloatArray:
    """Variance of the mean of repeated frames, including rounding, which averages out only with enough noise."""
    floor = np.where(variance - QUANTISATION < 0.25, np.float32(QUANTISATION), np.float32(0.0))
    return np.maximum(variance / np.float32(repeats), floor)


def check_arm(opu: Device, arm: Arm, dark_share: float) -> BoolArray:
    """Rows whose reference is bright enough and not saturated.

    Raises
    ------
    ValueError
        If these are fewer than half.
    """
    mean = float(arm.reference_dn.mean())
    valid = (arm.reference_dn > dark_share * mean) & ~arm.saturated
    # A mean below three times its error is consistent with noise alone.
    dim = mean <= 3.0 * float(np.sqrt(arm.reference_variance.mean()))
    if dim or valid.mean() < 0.5:
        raise ValueError(
            f"imaging.reference.intensity {opu.imaging.reference.intensity:g} at exposure_s {opu.exposure_s:g} leaves "
            f"{0.0 if dim else valid.mean():.0%} of the pixels with a usable reference ({mean:.2g} DN above dark, "
            f"{arm.saturated.mean():.0%} saturated): change either"
        )
    return valid
