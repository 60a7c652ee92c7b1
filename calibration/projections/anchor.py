"""Real projections by interference with anchors: patterns on the same mirrors that serve as reference fields."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import bessel_sum, columns, located, mean
from calibration.camera.ageing import Seen
from calibration.camera.decay import change_of_light
from calibration.camera.noise import measure_background
from calibration.device import Device, show
from calibration.fields.holography import anchor_interference, disjoint_anchor
from calibration.fields.linearity import warn_of_exposures
from calibration.fields.misfit import check_repeats, response_factor
from calibration.projections.anchor_placement import anchor_patterns, frames_with_anchors
from calibration.projections.base import LinearProjection, ProjectionMethod, Refreshed
from calibration.projections.dark_rows import dark_anchor_share, speckle_shape
from calibration.projections.light import change_of_anchors, state_of_light, told_level
from calibration.projections.responses import Common, Response
from calibration.projections.signed_patterns import Terms
from photonics.arrays import Array
from photonics.backend import HOST, to_host
from photonics.component import Field, component, integer

__all__ = ["MAX_DIM", "AnchorMethod", "AnchorProjection"]

SOUND_MISFIT = 1.5
"""Largest misfit of a pattern on a sound bench: 0.7 with speckle, 1.4 with a real matrix (all rows at the bound)."""
SOFT = 0.3
"""`AnchorProjection.soft` of a projection that follows its medium."""
DARK_VARIANCE = 0.25
"""Squared error of the dark level, DN^2: half a code where the noise is too small to average the rounding out."""
MAX_DIM = 1.0 / 3.0
"""Largest light of an anchor, relative to the last code, on pixels whose mean shows whether it has changed."""
FURTHEST = 0.95
"""Quantile of the misfits that shows the size of a fault; most rows hardly exceed their bound in spite of it."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AnchorProjection(LinearProjection):
    """A real linear map: ``M_ij = Re(conj(u_i) t_ij)``, with ``u_i = (T b)_i / |(T b)_i|`` the phase of the anchor b.

    For a Gaussian medium the entries are i.i.d. Gaussian of variance ``1/(2 n_in)``. The sign is fixed (M b > 0), and
    the unit is that of T (`unit_dn`, from the device's photometry).

    The scale has systematic errors. Each row is multiplied by the square root of its pixel's relative response (PRNU).
    All rows scale with changes of the laser power since the calibration. Light c that OFF mirrors leak interferes with
    an anchor on separate mirrors: the anchor's length then has the relative error ``|c| / |T b|``, and the common scale
    changes by up to ``2 eps``, ``eps = 1/sqrt(contrast)``. Both are part of the standard error. With the complement as
    the anchor they cancel to order ``eps^2``.

    The two frames of a value fit any field, within one bound: its square is at most ``I(x) I(b)`` (Cauchy and Schwarz).
    In `measure`, values beyond the bound by more than noise show lost frames, light that changes and a calibration at
    another exposure: their misfit enlarges the errors of all rows, and a warning tells it. A call only refuses doubled
    frames.

    The two exposures of the calibration show a camera that is not linear, from 2 % in the light of the anchors on. In
    `measure` of 17 patterns more than inputs, the light of the anchors is compared with that of the calibration: values
    are linear in the patterns, and 0 without inputs. Both enlarge the errors, and warnings tell them. A camera that
    changes later by a few per cent, or clips, is not seen; `calibration.characterize` tests additivity.
    """

    by_row: ClassVar[tuple[str, ...]] = ("choice", "anchor_dn", "anchor_variance", "calibrated")

    method: "AnchorMethod"
    anchors: Array
    """Anchor patterns, shape (n_anchors, n_in): separate mirrors, or a single pattern with all inputs ON."""
    choice: Array
    """Index of the anchor used for each row, the brightest one on its pixel: shape (n_out,)."""
    anchor_dn: Array
    """``I(b) - I(0)`` of the anchor used for each row, DN: shape (n_out,)."""
    anchor_variance: Array
    """Variance of `anchor_dn`, DN^2."""
    calibrated: Seen
    """The anchors as calibrated; after `refresh`, `anchor_dn` and `frame` are those of then."""
    bend: float = 0.0
    """Relative error by the camera's curve, from the calibration's two exposures; the complement cancels half of it."""
    soft: float = 0.0
    """Share of the mean anchor that is added to that of each row in its scale; above 0 if the anchors follow a medium
    that moves (`follow`). Frames are then not tested against the anchors."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "Each row is the real part of T's row times an unknown phase factor, that of its anchor. "
            "Sign and scale are fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: the pattern alone, and one with each anchor."""
        return 1 + self.anchors.shape[0]

    @property
    def dtype(self) -> type[np.float32]:  # noqa: D102 (inherited)
        return np.float32

    def expected_dark_share(self) -> float:  # noqa: D102 (inherited)
        return dark_anchor_share(self.anchors.shape[0], self.method.dark_share, speckle_shape(self.opu))

    def _frames(self, half: Array) -> Array:
        return frames_with_anchors(self.opu, self._pad(half), self.anchors)

    def _respond(self, frames: Array, uncertain: bool) -> Response:
        alone, other = frames[:, 0, :], self._select_anchor_frame(frames)
        if self.anchors.shape[0] == 1:
            values = anchor_interference(frames, self.anchor_dn, self.complementary)
        else:
            values = disjoint_anchor(other, alone, self.anchor_dn)
        check_repeats(alone, other)
        if not uncertain:
            return Response(values, None, None)
        variance = (self.noise.variance(alone) + self.noise.variance(other)) / 4.0
        if not self.soft:
            variance *= response_factor(self._misfit(alone, other, values), 1.0, FURTHEST)
        top, dim = self.opu.camera.saturation_dn, self._dim
        known = not self.soft and bool(self.backend.xp.any(dim))
        sums = mean(columns(values, dim), 1, "float64")[:, None] if known else None
        return Response(values, variance, (alone >= top) | (other >= top), sums)

    def _common_error(self, sums: Array, patterns: Array) -> Common:
        light = float(mean(columns(self.anchor_dn, self._dim)))
        return change_of_anchors(sums, patterns, light, self.opu, stacklevel=3)

    @property
    def _dim(self) -> Array:
        """Valid rows that hardly saturate with an anchor."""
        return self.valid & (self.anchor_dn < float(np.float32(MAX_DIM * self.opu.camera.top)))

    def recalibrate(self) -> "AnchorProjection":
        """Measure the projection again; each row keeps its anchor, and so its phase."""
        return self.method.calibrate(self.opu, self.n_inputs, to_host(self.choice))

    def refresh(self, count: int = 1) -> Refreshed:
        """Measure each anchor again by `count` frames; the dark level and light that leaks are those of before.

        Rows that have become dark keep the scale of a row at the limit of darkness.
        """
        if (there := self.on_device) is not self:
            return there.refresh(count)
        count, xp = integer(count, "count", 1), self.backend.xp
        at = self.opu.clock.frames + count * self.anchors.shape[0] // 2
        frames = show(self.opu, xp.repeat(self.anchors, count, axis=0))
        means = mean(xp.reshape(frames, (self.anchors.shape[0], count, -1)), 1, "float32")
        taken = xp.take_along_axis(means, self.choice[None, :], axis=0)[0, :]
        now = taken - (self.noise.dark_dn + self.leakage * self.unit_dn)
        first, seen = self.calibrated, columns(now, self.valid)
        variance = xp.maximum(self.noise.variance(taken) / count, DARK_VARIANCE)
        projection = replace(
            self,
            anchor_dn=xp.maximum(now, float(self.method.dark_share * mean(seen))),
            anchor_variance=variance,
            frame=at,
        )
        noise = columns(variance, self.valid), columns(first.variance, self.valid)
        found = change_of_light(seen, columns(first.light_dn, self.valid), noise, at - first.frame)
        return Refreshed(projection.moving(found), *found)

    def follow(self, common: Array) -> "AnchorProjection | None":
        """The projection with the anchor of now, ``I_b + 2 common``, and soft rows.

        Their scale becomes ``1 / sqrt(I_b + 0.3 mean)``: rows that the drift has made dark are mostly noise. None with
        the complement as the anchor, whose common response is not that of the anchor alone.
        """
        if self.complementary:
            return None
        now = self.backend.xp.maximum(self.anchor_dn + 2.0 * common, 0.0)
        return replace(self, anchor_dn=now, soft=SOFT)

    def _misfit(self, alone: Array, other: Array, values: Array) -> Array:
        """Squared distance of values beyond their bound over its variance, (batch, n_out); NaN within it.

        The variance of ``I(x) I(b) - v^2`` is that of the three frames, the leaked light and the drift of the laser.
        """
        xp, anchor = self.backend.xp, self.anchor_dn
        light = xp.astype(alone, xp.float32) - self.noise.dark_dn
        leak = 2.0 * self.leakage * self.unit_dn
        of_anchor = self.anchor_variance + (self.opu.laser.drift_rms * anchor) ** 2 + leak * anchor
        of_anchor = of_anchor + self._moved_variance()
        own, swing = (anchor - values, light - values) if self.complementary else (anchor + values, light + values)
        variance = own**2 * (self.noise.variance(alone) + leak * xp.maximum(light, 0.0) + DARK_VARIANCE)
        variance += values**2 * self.noise.variance(other) + swing**2 * of_anchor
        beyond = values**2 - light * anchor
        top = self.opu.camera.saturation_dn
        known = (beyond > 0) & self.valid & (alone < top) & (other < top)
        return xp.where(known, beyond**2 / xp.maximum(SOUND_MISFIT * variance, 1e-12), math.nan)

    def _level_variance(self, response: Response, patterns: Array) -> float:
        return 0.0 if self.soft else told_level(response, self.valid, patterns, self.opu)

    def _select_anchor_frame(self, frames: Array) -> Array:
        """Frame with the anchor used for each row: (batch, n_out)."""
        if self.anchors.shape[0] == 1:
            return frames[:, 1, :]
        return self.backend.xp.take_along_axis(frames, 1 + self.choice[None, None, :], axis=1)[:, 0, :]

    @property
    def _mean_dn(self) -> Array:
        """Mean light of the anchors over the valid rows, DN."""
        return mean(columns(self.anchor_dn, self.valid))

    @property
    def _length_dn(self) -> Array:
        """Squared length of each row's anchor that sets its scale, DN."""
        return self.anchor_dn + self.soft * self._mean_dn if self.soft else self.anchor_dn

    def _scale(self) -> Array:
        xp = self.backend.xp
        return 1.0 / xp.sqrt(xp.where(self.valid, self._length_dn * self.unit_dn, math.inf))

    @property
    def correlation(self) -> float:  # noqa: D102 (inherited)
        return self._correlation_since(self.calibrated.frame)

    @property
    def _since(self) -> float:
        """Correlation of the field now with that of the anchors' frame; anchors that follow are those of now."""
        return 1.0 if self.soft else self._correlation_since(self.frame)

    @property
    def _before(self) -> float:
        """Correlation of the field in the anchors' frame with that of the calibration."""
        return self.correlation / self._since

    def _moved_variance(self) -> Array:
        """Squared change of the anchors' light since it was measured, DN^2, for speckle that moves: (n_out,).

        Of the intensity I of mean m, ``c^2 I + (1 - c^2) m`` is expected after a movement of correlation c.
        """
        kept, mean_dn = self._since**2, self._mean_dn
        moved, light = float(np.float32(1.0 - kept)), self.backend.xp.maximum(self.anchor_dn, 0.0)
        return moved**2 * ((mean_dn - light) ** 2 + mean_dn**2) + 2.0 * kept * moved * mean_dn * light

    @property
    def value_correlation(self) -> float:  # noqa: D102 (inherited)
        since, turned = self._since, self._before * float(mean(columns(self._cosine, self.valid)))
        spread = (1.0 - since**2) * float(mean(1.0 / columns(self._light, self.valid)))
        return turned * since**2 / math.sqrt(since**2 + spread)

    @property
    def _light(self) -> Array:
        """Light of each row's anchor over the mean; rows that have become dark count as dark as is allowed."""
        return self.backend.xp.maximum(self.anchor_dn / self._mean_dn, self.method.dark_share)

    @property
    def _cosine(self) -> Array:
        """Mean cosine of the angle by which the anchors have turned between the calibration and their frame: (n_out,).

        Of a Rician field ``E cos = sqrt(pi r) / 2 exp(-r / 2) (I0(r / 2) + I1(r / 2))``, with r the light that is kept
        over the light that is new.
        """
        half = self._before**2 * self._light / max(1.0 - self._before**2, 1e-12) / 2.0
        return self.backend.xp.sqrt(math.pi * half / 2.0) * bessel_sum(half)

    def _stale_variance(self) -> Array:
        """As inherited: the anchor's phase turns with the medium, and its length is that of `frame`."""
        grown = (1.0 - self._since**2) * (1.0 + 1.0 / self._light)
        return 2.0 * (1.0 - self._before * self._cosine) + grown

    def _stale_error(self, values: Array, error: Array, terms: Terms) -> Array:
        """As inherited, and the stale light of the anchor, an offset.

        The complement of a vector makes the vector's mean a share of the anchor. That share does not turn; only its
        length changes, and of the offset it takes twice itself.
        """
        xp, share = self.backend.xp, (terms.totals / (self.n_inputs if self.complementary else math.inf))[:, None]
        scale = self._scale()
        offset = (terms.balance[:, None] / 2.0 - share) ** 2 * self._moved_variance() * scale**2
        length = share**2 * self.anchor_dn * scale**2 * self._mean_dn * ((1.0 - self._before**2) / 2.0)
        others = xp.hypot(error, xp.sqrt(offset + length))
        turned = super()._stale_error(values - share * self.anchor_dn * scale, others, terms)
        return xp.sqrt(offset + length + turned**2)

    def _shared_variance(self) -> Array:
        return self.anchor_variance / 4.0

    def _scale_error(self) -> Array:
        xp = self.backend.xp
        anchor = xp.where(self.valid, self._length_dn, math.inf)
        squared = self.anchor_variance / (2.0 * anchor) ** 2 + self.bend**2
        if not self.complementary:
            # The leaked field has a random phase relative to a row's anchor (rms cosine 1/sqrt(2)). The change of the
            # common scale enters with its bound, 2 eps.
            squared += self.leakage * self.unit_dn / (2.0 * anchor) + 4.0 * self.leakage
        return xp.sqrt(squared)


@component
class AnchorMethod(ProjectionMethod):
    """Real projections by interference with anchors, patterns on the same mirrors; see `AnchorProjection`.

    Without spare inputs the anchor is all inputs ON, and the second frame of a vector shows its complement. With spare
    inputs the anchors use these mirrors. Rows that an anchor alone saturates are then dropped, because every vector
    would have the same error there.
    """

    name: ClassVar[str] = "anchor"
    uses_reference: ClassVar[bool] = False
    anchors: int = Field(default=1, ge=1)
    """Number of anchors; each row uses the brightest one on its pixel. More than one needs spare inputs."""

    def calibrate(self, device: Device, n_inputs: int, choice: NDArray[np.intp] | None = None) -> AnchorProjection:
        """Take the frames of a calibration; `choice` gives each row its anchor, by default the brightest one."""
        anchors = integer(self.anchors, "anchors", 1, max(device.n_in - n_inputs, 1))
        patterns = anchor_patterns(device.n_in, n_inputs, anchors)
        background = located(measure_background(device, patterns, self.repeats), HOST)
        chosen = background.intensity.argmax(axis=0) if choice is None else choice
        rows = np.arange(device.n_out)
        anchor_dn, variance = background.intensity[chosen, rows], background.variance[chosen, rows]
        mean = float(background.intensity.mean())
        # A vector's frame also contains the light of a disjoint anchor: if that alone saturates, all values have the
        # same error.
        lost = background.saturated if n_inputs == device.n_in else background.clipped
        valid = (anchor_dn > self.dark_share * mean) & ~lost[chosen, rows]
        if mean <= 0 or valid.mean() < 0.5:
            light = state_of_light(device, mean, float(background.saturated.mean()))
            raise ValueError(
                f"anchors must be bright enough on half of the pixels, got {valid.mean():.0%} of {device.n_out} with "
                f"{anchors} anchor{'s' * (anchors > 1)}, {light}"
            )
        return AnchorProjection(
            opu=device,
            method=self,
            n_inputs=n_inputs,
            anchors=patterns,
            choice=chosen,
            valid=valid,
            anchor_dn=anchor_dn,
            anchor_variance=variance,
            calibrated=Seen(anchor_dn, variance, background.frame),
            bend=warn_of_exposures(background.bend, stacklevel=3) * (0.5 if n_inputs == device.n_in else 1.0),
            unit_dn=self.unit_of(device),
            noise=background.noise,
            speed=background.speed,
            frame=background.frame,
        )
