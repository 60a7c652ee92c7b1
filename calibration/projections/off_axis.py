"""Complex projections by a tilted reference beam: the fringes in one frame of each pattern give the field."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from calibration.arrays import difference, located, mean
from calibration.device import Device, backend_of_device, show
from calibration.fields.linearity import MIN_SHARE, bend_of, bend_of_fringes, curvature_sums
from calibration.fields.readings import binned_imaging
from calibration.fields.shift import Known
from calibration.fields.sideband import Frequency, Sideband
from calibration.fields.sideband_place import (
    MIN_RING_SHARE,
    annuli,
    bad_pixels,
    check_optics,
    disc_radius,
    mean_power,
    place_sideband,
)
from calibration.projections.base import ProjectionMethod
from calibration.projections.reference_arm import (
    Arm,
    ReferencedProjection,
    check_arm,
    frames_in_beam,
    measure_arm,
    see_medium_if_recorded,
    warn_of_saturation,
)
from calibration.projections.responses import Common, Response
from photonics.arrays import Array, BoolArray, HostArray
from photonics.backend import to_host
from photonics.component import component
from photonics.patterns.encoding import half_on
from photonics.random import PatternSet

__all__ = ["OffAxisMethod", "OffAxisProjection"]

PROBES = 8
"""Number of half-ON patterns whose mean spectrum shows the sideband."""
MAX_PROBES_FULL = 0.25
"""Largest share of saturated readings of the probes: at 0.15 the sideband is found, at 0.47 it is not."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OffAxisProjection(ReferencedProjection):
    """A complex linear map from one frame per vector: a sideband of the frame's spectrum is the interference term.

    The frame of the reference alone is subtracted, and the field is divided by the reference's amplitude on each pixel,
    so that aberrations of the beam cause no bias. They only move some light out of the disc that is cut from the
    spectrum. Pixels within a speckle grain are not independent outputs: a field of band B (``NA pixel / lambda``,
    cycles per pixel) has ``pi B^2 n_out`` independent ones. Saturated and bad pixels are left out of the fit: their
    neighbours share the light that is missing there, and a warning is given if more than 2 % of the readings saturate.

    The simulator's whole sensor is periodic, as the transforms are. A real sensor and a region of interest are not, and
    fields would wrap around at their edges. If ``imaging.region`` is set, frames are part of a larger grid, whose other
    pixels are lost: the fit is slower, the two outermost rows and columns are not valid, and the stated error grows
    towards the edges. For frames of a real sensor, set ``imaging.region``, also if it is the whole sensor.

    A camera that is not linear changes the reading of the speckle when the beam is added. Probes of the calibration,
    with the beam and without, show this; it is part of the standard error, and a warning tells it. If the camera
    changes later, `measure` finds the second harmonic of the fringes, does the same, and needs no frame for it; not so
    in a region of interest, whose edges hide the harmonic.

    A single frame fits any field, but the fields of the calibration's probes, and of patterns that share mirrors,
    predict those of a call: frames that show the next pattern or the one before are told and refused
    (`calibration.fields.shift`, which says how many patterns are enough; it takes no frame). Doubled frames are
    refused. In `measure` of 16 patterns or more, light that changes from pattern to pattern by over 1 % enlarges the
    errors if the sensor has 20 grains or more; light that is not that of the calibration does from 5 % on, in any
    number of patterns.
    """

    sideband: Sideband
    """The disc of the spectrum that holds the field."""
    reference_frame: Array
    """Mean frame of the reference beam with all mirrors OFF, DN: (n_out,)."""
    bad: Array
    """Pixels that do not respond to the reference beam, or that it saturates: (n_out,)."""
    lost: float
    """Relative amplitude of the light outside the disc, due to aberrations of the beam; part of the standard error."""
    bend: float = 0.0
    """Relative change of the speckle's reading by the beam (`bend_of`) if significant, else 0; part of the standard
    error."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "The phase of each row is relative to that of the reference beam on that pixel, which is unknown; a drift "
            "of the beam turns all rows of a vector together. Conjugation (by the beam's angle) and scale are fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: 1."""
        return 1

    def _in_light(self, light: float, **more: Array) -> Self:
        dark = self.noise.dark_dn
        return super()._in_light(light, reference_frame=dark + (self.reference_frame - dark) * light, **more)

    def _scale_error(self) -> Array:
        xp = self.backend.xp
        return xp.hypot(super()._scale_error(), xp.hypot(self.sideband.model_error, math.hypot(self.lost, self.bend)))

    def _frames(self, half: Array) -> Array:
        return frames_in_beam(self.opu, half, self._pad(half))

    def _respond(self, frames: Array, uncertain: bool) -> Response:
        taken = frames[:, 0, :]
        full = taken >= self.opu.camera.saturation_dn
        warn_of_saturation(self, full & ~self.bad, stacklevel=3)
        images, lost = difference(taken, self.reference_frame), full | self.bad
        values = self.sideband.demodulate(images, lost)
        if not uncertain:
            return Response(values, None, None)
        variance = self.sideband.variance(self.noise.variance(taken))
        rest = self.sideband.subtract_fringes(images, lost)
        variance += self._light_variance(values, rest + self.reference_dn, lost, self.leakage * self.unit_dn)
        sums = self._curvature_sums(images, taken, values, rest + self.reference_dn, lost)
        return Response(values, variance, self.sideband.outputs_affected(full & ~self.bad), sums)

    def _blind_variance(self, pixels: Array, values: Array) -> Array:
        """All light ``|R + y|^2`` is missing: its mean square is ``(|R|^2 + |y|^2)^2 + 2 |R|^2 |y|^2 + |y|^4``."""
        xp, seen = self.backend.xp, self.valid & ~pixels
        beam = mean(self.reference_dn, where=seen)
        speckle = mean(xp.abs(values) ** 2, where=seen) / mean(self._scale() ** 2, where=seen) / beam
        light = (beam + speckle) ** 2 + 2.0 * beam * speckle + speckle**2
        variance = self.sideband.variance(xp.where(pixels, light, 0.0)[None, :])[0, :]
        return xp.where(pixels, math.inf, variance)

    def _curvature_sums(self, images: Array, frames: Array, values: Array, mean_dn: Array, lost: Array) -> Array:
        """Second harmonic of the fringes, where the bands of the spectrum leave room for it; see `curvature_sums`."""
        xp = self.backend.xp
        light = xp.where(lost | ~self.valid, 0.0, xp.abs(values) ** 2)
        whole = xp.where(lost, 0.0, -self.sideband.second_harmonic(values))
        harmonic = self.sideband.residual(whole, lost)
        room = xp.sum(harmonic**2, axis=1) > MIN_SHARE * xp.sum(whole**2, axis=1)
        harmonic = xp.where(room[:, None], harmonic, 0.0)
        seen = self.sideband.residual(images, lost)
        variance = self.noise.variance(frames)
        return curvature_sums(seen, harmonic, variance, light, mean_dn, variance)

    def _common_error(self, sums: Array, patterns: Array) -> Common:
        found = bend_of_fringes(sums, self.bend, stacklevel=3)  # the calibration may have told it
        return Common(relative=math.sqrt(max(found**2 - self.bend**2, 0.0)))


@component
class OffAxisMethod(ProjectionMethod):
    """Complex projections by a tilted reference beam, one frame per pattern; see `OffAxisProjection`."""

    name: ClassVar[str] = "off-axis"
    uses_reference: ClassVar[bool] = True

    def calibrate(self, device: Device, n_inputs: int) -> OffAxisProjection:  # noqa: D102 (inherited)
        shape, band, carrier = check_optics(device)
        arm = measure_arm(device, np.zeros(1), self.repeats)
        valid = check_arm(device, arm, self.dark_share)
        bad = bad_pixels(arm.reference_dn, arm.saturated)
        shown = half_on(PROBES, n_inputs, 0, PatternSet.SIDEBAND)
        both, center, radius, lost, bend = locate(device, shown, arm, bad, shape, band, (-carrier[0], -carrier[1]))
        visibility = binned_imaging(device).visibility(device.laser.wavelength_m)
        samples, cropped = binned_imaging(device).samples_per_pixel, device.imaging.region is not None
        sideband = Sideband.at(shape, center, radius, band, samples, visibility, cropped)
        # Light leaked by OFF mirrors makes fringes with the beam, which are not part of the beam's own intensity.
        reference = sideband.subtract_fringes(arm.reference_dn[None], bad[None])[0]
        medium = see_medium_if_recorded(device, n_inputs, self.repeats, arm.noise)
        valid = valid & (reference > 0) & ~bad & ~sideband.edge
        fields = sideband.demodulate(both - arm.frames_dn[0], (both >= device.camera.saturation_dn) | bad)
        return OffAxisProjection(
            opu=device,
            method=self,
            n_inputs=n_inputs,
            valid=valid,
            known=Known.of(shown, fields[:, valid], sideband.independent * float(valid.mean())),
            unit_dn=self.unit_of(device),
            noise=arm.noise,
            **medium._asdict(),
            reference_dn=reference,
            reference_variance=arm.reference_variance,
            shared_variance=sideband.variance(arm.frame_variance)[0],
            sideband=sideband,
            reference_frame=arm.frames_dn[0],
            bad=bad,
            lost=lost,
            bend=bend,
        )


def locate(
    opu: Device, shown: BoolArray, arm: Arm, bad: BoolArray, shape: tuple[int, int], band: float, expected: Frequency
) -> tuple[HostArray, Frequency, float, float, float]:
    """Find the sideband of ``conj(R) y`` with a few patterns: frames, centre, radius, amplitude outside, and `bend_of`.

    Frames of reference and speckle together, minus those of each alone, contain only the two sidebands. The radius is
    that at which noise exceeds the light.
    """
    alone, both = show_probes(opu, shown)
    backend = backend_of_device(opu)
    xp = backend.xp
    beam, left_out = backend.asarray(arm.reference_dn), backend.asarray(bad)
    cross = xp.where(left_out, 0.0, both - alone - beam)
    cropped = opu.imaging.region is not None
    power = mean_power(cross, shape, cropped)
    center, room = place_sideband(power, band, expected)
    wide = located(Sideband.at(shape, center, room, band, 1, cropped=cropped), backend)
    left_out = (both >= opu.camera.saturation_dn) | left_out
    field = wide.demodulate(cross, left_out)
    rest = xp.where(left_out, 0.0, wide.subtract_fringes(cross, left_out))
    speckle = xp.where(left_out, 0.0, alone - float(np.float32(arm.noise.dark_dn)))
    bend = bend_of(rest, speckle, beam, opu.laser.drift_rms, stacklevel=5)
    radii, count, density = annuli(mean_power(field, shape, cropped))
    # Noise is white: each bin of the spectrum has the sum of the variances of all pixels.
    floor, dim = (float(xp.mean(xp.sum(arm.noise.variance(frames), axis=1))) for frames in (both, alone))
    noise = floor + float(np.float32(dim) + arm.reference_variance.sum())
    light = count * (density - noise)
    inside = float(light[radii <= band].sum())
    check_fringes(opu, inside / (count[radii <= band].sum() * floor))
    # A ring is part of the disc if it has more light than noise, and enough of it: wide discs make the fit slow.
    dim = (light < count * floor + MIN_RING_SHARE * inside) & (count > 0)
    radius = disc_radius(radii, dim, band, room)
    outside = (radii > radius + 1e-9) & (radii <= room)
    # Noise also leaves some power outside: two of its standard errors are subtracted.
    chance = 2.0 * noise * math.sqrt(float(count[outside].sum()) / PROBES)
    lost = max(float(light[outside].sum()) - chance, 0.0) / inside
    return to_host(both), center, radius, math.sqrt(lost), bend


def show_probes(opu: Device, shown: BoolArray) -> tuple[Array, Array]:
    """Frames of the probes without the reference and with it, float32; a ``ValueError`` if too many saturate."""
    patterns = np.zeros((PROBES, opu.n_in), np.bool_)
    patterns[:, : shown.shape[1]] = shown
    xp = backend_of_device(opu).xp
    alone = xp.astype(show(opu, patterns), xp.float32)
    both = xp.astype(show(opu, patterns, reference_phase=0.0), xp.float32)
    full = float(mean(both >= opu.camera.saturation_dn))
    if full > MAX_PROBES_FULL:
        raise ValueError(
            f"exposure_s {opu.exposure_s:.4g} saturates {full:.0%} of the readings, which hides the sideband, at most "
            f"{MAX_PROBES_FULL:.0%} may be: shorten it (calibration.expose)"
        )
    return alone, both


def check_fringes(opu: Device, strength: float) -> None:
    """Raise a ``ValueError`` if the power of the fringes in the band is less than that of the noise."""
    if strength < 1.0:
        raise ValueError(
            f"imaging.reference.intensity {opu.imaging.reference.intensity:g} must give fringes above the noise, got "
            f"{max(strength, 0.0):.2g} times the noise's power: use more light"
        )
