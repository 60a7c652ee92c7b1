"""Real projections by a still reference arm: one frame for each entry of a vector, and differences of frames."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from calibration.arrays import columns, count, difference, mean
from calibration.camera.noise import NoiseModel
from calibration.camera.rounding import rounding_rms
from calibration.device import Device
from calibration.fields.readings import data_sheet_error, switched_unit_dn
from calibration.projections.base import ProjectionMethod
from calibration.projections.light import fringe_power, grains_per_pixel, told_level
from calibration.projections.reference_arm import BeamProjection, check_arm, frames_in_beam, measure_arm, see_medium
from calibration.projections.responses import Common, Response
from calibration.projections.signed_patterns import Terms
from photonics.arrays import Array, FloatArray
from photonics.component import component

__all__ = ["PairProjection", "ReferencePairsMethod"]

MAX_PULL = 5.0
"""Change of a frame's mean light, in standard errors, above which the frame does not fit the calibration."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PairProjection(BeamProjection):
    """A real linear map from frames with a reference beam R at one phase, one frame for each entry of a vector.

    An input j alone gives ``[I(j + R) - I(R)] / (2 |R|) = Re(exp(-i rho) t_j) + |t_j|^2 / (2 |R|)``, with rho the phase
    of the beam on that pixel. Less the mean light m of an input, ``m / (2 |R|)``, this is the entry ``M_ij`` of the
    map: outputs have no common part, whatever the sum of a vector. The light that is left has the rms ``m / (2 |R|)``
    in speckle. The calibration measures m; its error is in the stated ones. A vector is shown entry by entry, the
    entries of a vector one after the other, and so the map is linear. A code with one 1 and one -1 (`dfa.Ternary` with
    ``stochastic=1, pairs=True``) takes two frames, ``[I(x+ + R) - I(x- + R)] / 2``; the light of the beam cancels, so
    that no value of the calibration but the beam's strength is used.

    Dense vectors take many dim frames: phase stepping is better for them.

    The unit is that of T (`unit_dn`). Each row is multiplied by the square root of its pixel's relative response
    (PRNU). Light that OFF mirrors leak is part of R. If the phase of the beam drifts, the map drifts with it: the real
    part is then that along another direction.

    The frames of a value fit any field, but the mean light of a frame is known: a frame that is brighter or darker by
    more than the speckle explains (stray light, a laser that changes) enlarges the stated error of its value by the
    change, and a warning tells it; smaller changes that all pixels share do so in `measure` of 17 frames more than
    inputs. A level that is constant, and other than in the calibration, adds up over the entries of a vector of one
    sign: the mean light of all frames of a call of `measure` shows it, and it is in the stated errors, times the sum of
    the vector's entries. It is told by a warning only if it is more than the speckle and the laser's data sheet
    explain. A lost frame is told if inputs are shown several times in a call (`calibration.fields.shift`), which need
    not be so for a single dense vector.
    """

    noise_advice: ClassVar[str] = (
        "a longer exposure or more light, until the beam almost saturates, or fewer inputs: a frame has the light of "
        "one input"
    )
    by_row: ClassVar[tuple[str, ...]] = (
        "reference_dn",
        "reference_variance",
        "offset_dn",
        "offset_variance",
        "speckle_dn",
    )

    offset_dn: Array
    """Mean frame of the beam alone, dark level included, DN: (n_out,)."""
    offset_variance: Array
    """Variance of `offset_dn`, DN^2."""
    light_dn: float
    """Light that an input adds when it turns ON, mean over inputs and pixels, DN."""
    light_error_dn: float
    """Standard error of `light_dn`."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "Each row is the real part of T's row, its phase relative to that of the reference beam on that pixel, "
            "plus the light of each input, less its mean, over twice the beam's amplitude. Sign and scale are fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for a vector with one entry that is not 0; each entry takes a frame, or one for each bit plane."""
        return 1

    @property
    def dtype(self) -> type[np.float32]:  # noqa: D102 (inherited)
        return np.float32

    def entry_noise(self, noise: NoiseModel) -> float:
        """Noise of an entry of the map over the rms of entries, by the camera's noise and the light of the data sheet.

        It is the noise over the values of any vector with entries -1, 0 and 1, as each of them takes a frame.
        """
        variance = noise.variance(self.offset_dn) / 4.0 * self._scale() ** 2
        power = fringe_power(self.opu) / (2.0 * self.opu.n_in)
        return math.sqrt(float(mean(columns(variance, self.valid))) / power)

    def _in_light(self, light: float, **more: Array) -> Self:
        offset_dn = self.noise.dark_dn + (self.offset_dn - self.noise.dark_dn) * light
        now = super()._in_light(light, offset_dn=offset_dn, offset_variance=self.offset_variance * light**2, **more)
        return replace(now, light_dn=self.light_dn * light, light_error_dn=self.light_error_dn * light)

    def _split(self, x: Array) -> Terms:
        return super()._split(x).one_by_one()

    def _frames(self, half: Array) -> Array:
        return frames_in_beam(self.opu, half, self._pad(half))

    def _respond(self, frames: Array, uncertain: bool) -> Response:
        taken = frames[:, 0, :]
        change = difference(taken, self.offset_dn)
        values = change / 2.0
        if not uncertain:
            return Response(values, None, None)
        variance = self.noise.variance(taken) / 4.0
        variance += self._excess(change, variance)[:, None]
        level = mean(columns(values, self.valid), 1, "float64")[:, None]
        return Response(values, variance, taken >= self.opu.camera.saturation_dn, level)

    def _start(self, terms: Terms) -> Array:
        return super()._start(terms) - terms.totals[:, None] * (self.light_dn / 2.0)

    def _level_variance(self, response: Response, patterns: Array) -> float:
        return told_level(response, self.valid, patterns, self.opu)

    def _common_error(self, sums: Array, patterns: Array) -> Common:
        """Mean response that is not light of the inputs; it adds up over the entries of a vector."""
        level = float(mean(sums)) - self.light_dn / 2.0  # of which the error of `light_dn` is a part
        return Common(variance=max(level**2 - self.light_error_dn**2 / 4.0, 0.0))

    def _excess(self, change: Array, variance: Array) -> Array:
        """Squared error of the responses of a frame whose mean light does not fit, DN^2: (batch,); else 0.

        The mean of ``I(j + R) - I(R)`` over the pixels is the light of one input, give or take the interference of the
        grains, the noise and the drift of the laser.
        """
        xp, valid, beam = self.backend.xp, self.valid, float(mean(columns(self.reference_dn, self.valid)))
        light = self.light_dn
        spread = 2.0 * beam * light + 4.0 * mean(columns(variance, valid), 1)
        spread = spread / (int(count(valid)) * grains_per_pixel(self.opu)) + light**2
        spread += (2.0 * data_sheet_error(self.opu) * beam) ** 2
        still = columns(self.offset_dn, valid)
        scatter = xp.mean(self.noise.variance(still)) + xp.var(still)
        spread += float(rounding_rms(scatter)) ** 2
        shift = mean(columns(change, valid), 1) - light
        wrong = shift**2 > MAX_PULL**2 * spread
        if bool(xp.any(wrong)):
            warnings.warn(
                f"frames do not fit the model: the mean light of {int(count(wrong))} of {wrong.shape[0]} differs from "
                f"that of the reference beam by up to {float(xp.max(xp.abs(shift))):.3g} DN of {beam:.3g}, where one "
                f"input gives {light:.3g}; stated errors include it. Light may change, or the beam may be another than "
                "calibrated",
                stacklevel=4,
            )
        return xp.astype(xp.where(wrong, shift**2 / 4.0, 0.0), xp.float32)

    def _scale(self) -> Array:
        xp, visibility = self.backend.xp, self.opu.imaging.visibility(self.opu.laser.wavelength_m)
        length = xp.where(self.valid, self.reference_dn * switched_unit_dn(self.opu, self.unit_dn), np.inf)
        return 1.0 / (xp.sqrt(length) * visibility)

    def _shared_variance(self) -> Array:
        return (self.offset_variance + self.light_error_dn**2) / 4.0


@component
class ReferencePairsMethod(ProjectionMethod):
    """Real projections by the reference arm at one phase, one frame for each entry; see `PairProjection`.

    No piezo is needed. Made for codes with one 1 and one -1 on a medium that drifts: only the medium itself goes stale.
    """

    name: ClassVar[str] = "reference-pairs"
    uses_reference: ClassVar[bool] = True

    def calibrate(self, device: Device, n_inputs: int) -> PairProjection:  # noqa: D102 (inherited)
        arm = measure_arm(device, np.zeros(1), self.repeats)
        medium = see_medium(device, n_inputs, self.repeats, arm.noise)
        valid = check_arm(device, arm, self.dark_share)
        light, error = light_of_input(device, n_inputs, columns(medium.speckle_dn, valid), arm.noise.dark_dn)
        return PairProjection(
            opu=device,
            method=self,
            n_inputs=n_inputs,
            valid=valid,
            unit_dn=self.unit_of(device),
            noise=arm.noise,
            **medium._asdict(),
            reference_dn=arm.reference_dn,
            reference_variance=arm.reference_variance,
            offset_dn=arm.frames_dn[0],
            offset_variance=arm.frame_variance[0],
            light_dn=light,
            light_error_dn=error,
        )


def light_of_input(device: Device, n_inputs: int, speckle_dn: FloatArray, dark_dn: float) -> tuple[float, float]:
    """Mean light that an input adds when it turns ON, DN, and its error, by the speckle of all inputs on some pixels.

    Of speckle with an exponential distribution, of which readings under a limit are known, the mean is most likely the
    sum of all readings, cut at the limit, over the number of those under it. OFF mirrors leak as by the data sheet.
    """
    top = device.camera.saturation_dn - dark_dn
    under = float(np.count_nonzero(speckle_dn < top))
    leaked = abs(device.dmd.leakage) ** 2 * device.unit_dn * (1.0 - n_inputs / device.n_in)
    if under < speckle_dn.size / 10.0:  # too bright a frame: photometry, with an error of its own size
        light = switched_unit_dn(device, device.unit_dn) / device.n_in
        return light, light
    all_on = float(np.minimum(speckle_dn, top).sum(dtype=np.float64)) / under - leaked
    light = max(switched_unit_dn(device, all_on), 0.0) / n_inputs
    return light, light / math.sqrt(under * grains_per_pixel(device))
