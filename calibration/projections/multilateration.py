"""Complex projections by multilateration: fields from their distances to a few anchors in the complex plane.

There is no reference beam, and each row is solved separately. In a row, the anchors are points ``q_i = (T b_i)`` of the
complex plane. The intensities of anchors and of pairs of anchors give these points up to a rotation and a reflection.
The field y of a vector follows from its distances to them. Complex numbers are written as real vectors of two
components, so that ``Re(conj(q) y)`` is the dot product ``q . y``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from calibration.arrays import as_complex, columns, count, difference, located, mean, median, nanquantile
from calibration.camera.decay import change_of_light
from calibration.camera.noise import Background, measure_many
from calibration.device import Device, show
from calibration.fields.linearity import warn_of_exposures
from calibration.fields.misfit import check_repeats, response_factor
from calibration.fields.readings import data_sheet_error, switched_unit_dn
from calibration.projections.anchor import MAX_DIM
from calibration.projections.anchor_placement import anchor_patterns, anchor_sets, frames_with_anchors, place
from calibration.projections.base import LinearProjection, ProjectionMethod, Refreshed
from calibration.projections.dark_rows import MAX_SINGLE_GRAIN_SHAPE, flat_anchor_share, speckle_shape
from calibration.projections.light import change_of_anchors, state_of_light
from calibration.projections.responses import Common, Response
from calibration.projections.trilateration import Anchors, by_frame, locate, misfit, shared_error
from photonics.arrays import Array, BoolArray, IntArray
from photonics.backend import HOST, backend_of, to_host
from photonics.component import Field, component, integer

__all__ = ["MultilaterationMethod", "MultilaterationProjection"]

CHUNK_ROWS = 2**13
"""Number of rows whose anchors are located at a time."""
MIN_READINGS = 4
"""Smallest number of unsaturated frames. A field and its intensity are three unknowns; one more reading makes the start
reliable."""
MAX_RANK_RATIO = 0.3
"""Largest median over rows of `MultilaterationProjection.rank_ratio` at which each pixel sees a single field."""
MAX_ROW_RANK_RATIO = 0.5
"""Largest `MultilaterationProjection.rank_ratio` of a row. Above it, noise may reflect anchors across a line."""
MIN_ANCHOR_SNR = 2.0
"""Smallest mean intensity of the anchors, in standard errors of a pixel."""
SOUND_MISFIT, SOUND_MISFITS = 1.0, {3: 0.7, 4: 1.3}
"""Largest misfit of a pattern on sound benches, in general and by the number of anchors: the mean of its rows. With
three, errors of the anchors' places have long tails, and it is the median."""
MAX_MISFIT = 20.0
"""Largest misfit of a row's anchors, relative to the median row."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MultilaterationProjection(LinearProjection):
    """A complex linear map from S + 1 frames: a pattern alone, and with each of S anchors on separate mirrors.

    The start is the solution of S linear equations for two unknowns in each row,
    ``I(x + b_i) - I(x) - [I(b_i) - I(0)] = 2 q_i . (T x)``, which are exact also if OFF mirrors leak. A Gauss-Newton
    step then leads to the most likely field. It uses ``I(x)``, which depends on ``|T x|^2``, and weights each frame by
    its noise; this lowers the error to 0.7 to 0.8 of that of the linear equations. Saturated frames are left out if
    four others remain. The estimate is linear in the vector except for errors of second order in the noise.

    The S - 1 degrees of freedom of a value's frames give a misfit. It refuses values, enlarges errors by its root, and
    is told by a warning. In `measure` of 17 patterns more than inputs, the light of the anchors in the call is compared
    with that of the calibration, and the two exposures of the calibration show a camera that is not linear, if readings
    at the shorter one scatter by some 0.5 DN. Both enlarge the errors, and a warning tells them.

    Not seen: a camera that is not linear by a few per cent, which moves the values by less than their noise; a gamma
    from the start, if anchors give 5 DN (true over stated error 2.2 for 1.15; told at 8 DN). docs/calibration.md has
    the table of faults.

    References
    ----------
    S. Gupta et al., "Don't take it lightly: phasing optical random projections with unknown operators",
    arXiv:1907.01703 (2019); "Fast optical system identification by numerical interferometry", arXiv:1911.01006.
    """

    conjugation_fixed: ClassVar[bool] = False
    drops_noisy_rows: ClassVar[bool] = True
    by_row: ClassVar[tuple[str, ...]] = (
        "places",
        "off_dn",
        "rank_ratio",
        "flatness",
        "shared_variance",
        "scale_error",
    )

    method: "MultilaterationMethod"
    anchors: Array
    """Anchor patterns on spare inputs, (S, n_in)."""
    places: Anchors
    """Positions of the anchors in the complex plane of each row, up to a rotation and a reflection."""
    off_dn: Array
    """Mean frame with all mirrors OFF, DN: (n_out,)."""
    rank_ratio: Array
    """Third over second eigenvalue of the anchors' Gram matrix in each row, (n_out,): 0 without noise if a pixel sees a
    single field, near 1 if noise or a second field is as strong as the second dimension."""
    flatness: Array
    """Second over first eigenvalue, (n_out,): 1 at best; 0 for anchors on a line, which cannot distinguish a field from
    its conjugate."""
    shared_variance: Array
    """Variance of the real (or imaginary) part of a field near 0 due to errors of the anchors' positions, DN:
    (n_out,)."""
    scale_error: Array
    """Relative standard error of a row's scale due to errors of its anchors' positions, (n_out,)."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "The phase of each row is undetermined, and each row may be the complex conjugate of T's, as real inputs "
            "cannot distinguish the two. The scale is fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: the pattern alone, and one with each anchor."""
        return 1 + self.anchors.shape[0]

    @property
    def dtype(self) -> type[np.complex64]:  # noqa: D102 (inherited)
        return np.complex64

    def recalibrate(self) -> "MultilaterationProjection":
        """Measure the projection again; rows are turned and reflected so that their anchors lie where they lay."""
        new = self.method.calibrate(self.opu, self.n_inputs)
        return replace(new, places=new.places.aligned(located(self.places, HOST)))

    def refresh(self, count: int = 1) -> Refreshed:
        """Compare `count` frames of each anchor with their places, which then scale with the light."""
        if (there := self.on_device) is not self:
            return there.refresh(count)
        xp, count, at = self.backend.xp, integer(count, "count", 1), self.opu.clock.frames
        anchors = self.anchors.shape[0]
        frames = xp.reshape(show(self.opu, xp.repeat(self.anchors, count, axis=0)), (anchors, count, -1))
        taken, before = mean(frames, 1, "float32"), self.places.added
        rows = self.valid & (taken < self.opu.camera.saturation_dn)
        misplaced = 4.0 * xp.maximum(before, 0.0) * self.places.position_variance
        noise = (self.noise.variance(taken) / count)[rows], misplaced[rows]
        middle = at + anchors * count // 2
        found = change_of_light((taken - self.off_dn)[rows], before[rows], noise, middle - self.frame)
        dark, scale = self.noise.dark_dn, float(np.float32(found.scale))
        off_dn, shared = dark + (self.off_dn - dark) * scale, self.shared_variance * scale
        places = self.places.scaled(found.scale)
        projection = replace(self, places=places, off_dn=off_dn, shared_variance=shared).moving(found)
        return Refreshed(projection if projection.correlation == 1.0 else projection._misplaced(), *found)

    def _misplaced(self) -> "MultilaterationProjection":
        """The projection with the errors that anchors make which are not where they were calibrated."""
        kept, xp, points = self.correlation, self.backend.xp, self.places.positions
        power = mean(columns(xp.sum(points**2, axis=1), self.valid))
        variance = (1.0 - kept) ** 2 * points**2 + (1.0 - kept**2) * power / 2.0
        variance = xp.astype(xp.reshape(variance, (-1, self.n_outputs)).T, xp.float64)
        variance = xp.concat([variance, xp.zeros_like(variance[:, :2])], axis=1)  # that of the leaked field is known
        same = self.backend.asarray(np.eye(variance.shape[1], dtype=np.bool_))
        half = self.unit_dn * self.n_inputs / (2.0 * self.opu.n_in)
        shared, relative = shared_error(self.places, xp.where(same, variance[:, :, None], 0.0), half)
        shared, error = self.shared_variance + shared, xp.hypot(self.scale_error, relative)
        return replace(self, shared_variance=shared, scale_error=error)

    def expected_dark_share(self) -> float | None:
        """Share of rows whose anchors lie near a line; None if pixels average over several grains (no formula)."""
        if speckle_shape(self.opu) >= MAX_SINGLE_GRAIN_SHAPE:
            return None
        return flat_anchor_share(self.anchors.shape[0], self.method.dark_share)

    def _frames(self, half: Array) -> Array:
        return frames_with_anchors(self.opu, self._pad(half), self.anchors)

    def _respond(self, frames: Array, uncertain: bool) -> Response:
        xp, anchors = self.backend.xp, self.anchors.shape[0]
        full = by_frame(frames >= self.opu.camera.saturation_dn)
        lost = count(~full, 0) < MIN_READINGS
        weight = by_frame(1.0 / self.noise.variance(frames))
        weight = xp.where(full & ~lost, 0.0, weight)
        check_repeats(frames[:, :-1, :], frames[:, 1:, :])
        signal = by_frame(difference(frames, self.off_dn))
        y, solution = locate(self.places, signal, weight)
        values = as_complex(y[0, ...], y[1, ...])
        found = xp.where(xp.any(full, axis=0) | ~self.valid, np.nan, misfit(self.places, signal, weight, y))
        if anchors == 3:
            some = xp.any(xp.isfinite(found), axis=1)
            found[some] = xp.zeros_like(found[some]) + nanquantile(found[some], 0.5, 1)[:, None]
        factor = response_factor(found / SOUND_MISFITS.get(anchors, SOUND_MISFIT), anchors - 1)
        if not uncertain:
            return Response(values, None, None)
        if not bool(xp.any(dim := self._dim)):
            return Response(values, solution.variance() * factor, lost)
        excess = signal[1:, ...] - signal[:1, ...] - self.places.added[:, None, :]
        sums = mean(columns(excess, dim), (0, 2), "float64")[:, None] / 2.0
        return Response(values, solution.variance() * factor, lost, sums)

    def _common_error(self, sums: Array, patterns: Array) -> Common:
        light = float(mean(columns(self.places.added, self._dim)))
        return change_of_anchors(sums, patterns, light, self.opu, stacklevel=3)

    @property
    def _dim(self) -> Array:
        """Valid rows that hardly saturate with an anchor."""
        brightest = self.backend.xp.max(self.places.added, axis=0)
        return self.valid & (brightest < float(np.float32(MAX_DIM * self.opu.camera.top)))

    def _scale(self) -> Array:
        unit_dn = switched_unit_dn(self.opu, self.unit_dn)
        return self.backend.xp.astype(self.valid, self.backend.xp.float32) * (1.0 / math.sqrt(unit_dn))

    def _shared_variance(self) -> Array:
        return self.shared_variance

    def _scale_error(self) -> Array:
        return self.backend.xp.hypot(self.scale_error, data_sheet_error(self.opu))


@component
class MultilaterationMethod(ProjectionMethod):
    """Complex projections by distances to a few anchors, without a reference beam; see `MultilaterationProjection`.

    `dark_share` limits the spread of the anchors across their main direction: rows with less are dropped.
    """

    name: ClassVar[str] = "multilateration"
    uses_reference: ClassVar[bool] = False
    repeats: int = Field(default=4, ge=2)
    """Frames averaged for each fixed pattern; fewer than with other methods, because pairs of anchors add redundant
    readings."""
    anchors: int | None = Field(default=None, ge=3)
    """Number of anchors on spare inputs; by default 5, or as many as there are spare inputs. Two would lie on a line
    with the origin in too many rows."""

    def calibrate(self, device: Device, n_inputs: int) -> MultilaterationProjection:  # noqa: D102 (inherited)
        singles = self.anchor_patterns(device.n_in, n_inputs)
        anchors, unit_dn = len(singles), self.unit_of(device)
        members = anchor_sets(anchors)
        background = measure_many(device, (members @ singles).astype(np.bool_), self.repeats)
        xp = backend_of(background.off).xp
        level, clipped = float(xp.mean(background.intensity[:anchors, :])), xp.any(background.saturated, axis=0)
        if level <= MIN_ANCHOR_SNR * np.sqrt(float(xp.mean(background.variance[:anchors, :]))):
            raise anchor_error(device, 0.0, level, float(mean(clipped)))
        leak_dn = abs(device.dmd.leakage) ** 2 * unit_dn
        half = unit_dn * n_inputs / (2.0 * device.n_in)  # mean intensity of half-ON vectors
        n_out = device.n_out
        parts = [slice(start, min(start + CHUNK_ROWS, n_out)) for start in range(0, n_out, CHUNK_ROWS)]
        found = Block.join([place_block(background, rows, members, leak_dn, half) for rows in parts])
        # With S anchors of independent phases both eigenvalues are near S/2 times their mean intensity.
        valid = (found.spread > self.dark_share * anchors / 2.0 * level) & ~clipped
        valid &= found.rank_ratio < MAX_ROW_RANK_RATIO
        valid &= found.misfit < MAX_MISFIT * max(median(found.misfit), 1.0)
        if float(mean(valid)) < 0.5:
            raise anchor_error(device, float(mean(valid)), level, float(mean(clipped)))
        check_plane(median(found.rank_ratio[valid]))
        return MultilaterationProjection(
            opu=device,
            method=self,
            n_inputs=n_inputs,
            valid=to_host(valid),
            unit_dn=unit_dn,
            noise=background.noise,
            speed=background.speed,
            frame=background.frame,
            anchors=singles,
            places=located(found.places, HOST),
            off_dn=to_host(background.off),
            rank_ratio=to_host(found.rank_ratio),
            flatness=to_host(found.flatness),
            shared_variance=to_host(found.shared_variance),
            scale_error=to_host(xp.hypot(found.scale_error, warn_of_exposures(background.bend, stacklevel=3))),
        )

    def anchor_patterns(self, n_in: int, n_inputs: int) -> BoolArray:
        """Anchor patterns on the spare inputs, (anchors, n_in). Raise a ``ValueError`` if there are too few inputs."""
        spare = n_in - n_inputs
        if spare < 3:
            raise ValueError(f"n_inputs must be {n_in - 3} or less, to leave 3 inputs for anchors, got {n_inputs}")
        anchors = integer(min(5, spare) if self.anchors is None else self.anchors, "anchors", 3, spare)
        return anchor_patterns(n_in, n_inputs, anchors)


def check_plane(ratio: float) -> None:
    """Raise a ``ValueError`` if the anchors of the median row do not lie in a plane."""
    if ratio > MAX_RANK_RATIO:
        raise ValueError(
            f"anchors must lie in a plane, got a rank ratio of {ratio:.2g} (at most {MAX_RANK_RATIO}): pixels see "
            "several fields (polarisations, wavelengths, grains), or the light is too dim for the noise"
        )


def anchor_error(opu: Device, valid: float, level: float, clipped: float) -> ValueError:
    """Error for a device on which under half of the pixels have usable anchors, by shares of the pixels."""
    return ValueError(
        f"anchors must be bright enough, and apart in the complex plane, on half of the pixels, got {valid:.0%} "
        f"of {opu.n_out}, {state_of_light(opu, level, clipped)}"
    )


class Block(NamedTuple):
    """Positions of the anchors in some rows, with figures of `Places` and `shared_error`; arrays of shape (n_rows,)."""

    places: Anchors
    misfit: Array
    rank_ratio: Array
    flatness: Array
    spread: Array
    shared_variance: Array
    scale_error: Array

    @staticmethod
    def join(blocks: "Sequence[Block]") -> "Block":
        """Join blocks of rows, as float32."""
        xp, figures = backend_of(blocks[0].misfit).xp, zip(*(block[1:] for block in blocks), strict=True)
        figures = (xp.astype(xp.concat(list(parts)), xp.float32) for parts in figures)
        return Block(Anchors.join([block.places for block in blocks]), *figures)


def place_block(background: Background, rows: slice, members: IntArray, leak_dn: float, half_dn: float) -> Block:
    """Locate the anchors of some rows."""
    found = place(background.intensity[:, rows].T, background.variance[:, rows].T, members, leak_dn)
    xp, covariance = backend_of(found.leak).xp, found.covariance
    places = Anchors(
        positions=rows_last(found.positions),
        leak=rows_last(found.leak),
        position_variance=xp.astype(xp.max(xp.linalg.diagonal(covariance)[:, :-2], axis=1), xp.float32),
        leak_variance=xp.astype(xp.linalg.trace(covariance[:, -2:, -2:]) / 2.0, xp.float32),
        off_variance=background.off_variance[rows],
        floor_dn2=background.noise.floor_dn2,
        slope_dn=background.noise.slope_dn,
    )
    errors = shared_error(places, covariance, half_dn)
    return Block(places, found.misfit, found.rank_ratio, found.flatness, found.spread, *errors)


def rows_last(values: Array) -> Array:
    """Values with their rows in the last axis, contiguous, float32: (rows, ...) -> (..., rows)."""
    xp = backend_of(values).xp
    flat = xp.astype(xp.reshape(values, (values.shape[0], -1)), xp.float32)
    return xp.reshape(xp.stack([flat[:, k] for k in range(flat.shape[1])]), (*values.shape[1:], -1))
