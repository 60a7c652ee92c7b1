"""Base classes of linear projections and of the methods that measure them."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from calibration.arrays import columns, mean
from calibration.camera.ageing import Ageing
from calibration.camera.call import CallWatch, Lookout, blind_in, last_of
from calibration.camera.noise import NoiseModel
from calibration.device import Device
from calibration.fields.misfit import read_once, tell_blind
from calibration.fields.readings import DARK_SHARE
from calibration.fields.shift import Known, check_order
from calibration.projections.responses import Common, Observer, Projected, Response, rows_of
from calibration.projections.signed_patterns import Terms, split
from photonics.arrays import Array, HostArray
from photonics.component import Field, component, integer

__all__ = ["LinearProjection", "ProjectionMethod", "Refreshed"]

CHUNK = 2**25
"""Pixels of the frames taken at a time; bounds the memory (about 20 bytes per pixel)."""


class Refreshed(NamedTuple):
    """A projection for the light of now; rows and gauge are those of before."""

    projection: "LinearProjection"
    scale: float
    """Light of the anchors or of the beam over that of the last calibration, mean over the valid rows."""
    correlation: float | None
    """Correlation of the speckle's intensity with that of the last calibration, valid rows; None if it is not known."""
    correlation_frames: float | None
    """Correlation time of the field, frames: infinite if noise explains the change, None if the method cannot tell."""


@component
class ProjectionMethod(ABC):
    """How a linear projection is measured: settings, and the calibration that takes the frames.

    A subclass is a `photonics.component.component` with further settings as fields, and an entry of `methods.METHODS`.
    """

    name: ClassVar[str]
    """The name by which `calibration.measure_projection` knows the method."""
    uses_reference: ClassVar[bool]
    """Whether frames are taken with the reference beam; a report then draws its arm."""
    bits: int = Field(default=8, ge=1, le=16)
    """Bit planes in which real vectors are shown."""
    repeats: int = Field(default=16, ge=2)
    """Frames averaged for each fixed pattern of the calibration: all mirrors OFF, each anchor, each phase."""
    dark_share: float = Field(default=DARK_SHARE, gt=0, lt=1)
    """Rows whose anchor or reference is dimmer than this share of the mean are dropped: their error would be 1 or more.
    Fully developed speckle has the fraction ``(1 - exp(-dark_share))^anchors`` of such rows."""
    unit_dn: float | None = Field(default=None, gt=0)
    """DN above dark of unit intensity, which sets the scale of the result. By default the device's, by photometry."""

    @abstractmethod
    def calibrate(self, device: Device, n_inputs: int) -> "LinearProjection":
        """Take the frames of a calibration, and return the projection for vectors of this length.

        Raises
        ------
        ValueError
            If the device does not suit the method, or its frames are too dark or too saturated.
        """

    def unit_of(self, device: Device) -> float:
        """DN above dark of unit intensity: the setting, or else the device's figure at its exposure."""
        return device.unit_dn if self.unit_dn is None else self.unit_dn


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LinearProjection(Ageing, ABC):
    """A linear map measured through the device: ``proj(x)`` is ``x @ M.T`` plus noise, M of shape (n_out, n_inputs).

    A subclass computes, from the frames of a binary pattern, a response that is linear in the pattern. Ternary vectors
    are the difference of two binary ones, real vectors a weighted sum of bit planes.
    """

    conjugation_fixed: ClassVar[bool] = True
    """Whether a row is distinguished from its complex conjugate."""
    moving_fields: ClassVar[int] = 2
    """Fields in a response that move with the medium: 2 if the reference passes through it, too, 1 if it does not."""
    drops_noisy_rows: ClassVar[bool] = False
    """Whether rows in which noise hides the anchors are dropped as well as dark ones."""
    noise_advice: ClassVar[str] = "more light, or average frames"
    """What a report advises if half-ON vectors are noisy."""
    by_row: ClassVar[tuple[str, ...]] = ()
    """Fields with an entry for each row, in their last axis; empty if a row needs the frame of the whole sensor."""

    method: ProjectionMethod
    """The method that measured the projection; ``method.calibrate(opu, n_inputs)`` measures it again."""
    n_inputs: int
    """Length of the vectors."""
    unit_dn: float
    """DN of unit intensity: the mean pixel's signal with all inputs ON, if ``E|t_ij|^2 = 1/n_in``."""
    noise: NoiseModel
    """The camera's noise, measured by the calibration."""
    known: Known | None = None
    """Fields of the calibration on the valid rows, which show whether the frames of a call belong to their patterns."""

    def __repr__(self) -> str:
        facts = f"{float(mean(self.valid)):.1%} valid, {self.frames_per_vector} frames per vector"
        return f"{type(self).__name__}({self.n_inputs} -> {self.n_outputs}, {facts})"

    @property
    @abstractmethod
    def gauge(self) -> str:
        """Description of what the method leaves undetermined, in a sentence or two."""

    @property
    @abstractmethod
    def frames_per_vector(self) -> int:
        """Frames for one binary vector; `frames_of` counts those of any vectors.

        A ternary vector takes twice as many, a real one up to ``2 bits`` times as many. An empty half takes no frames.
        """

    @property
    @abstractmethod
    def dtype(self) -> type[np.float32] | type[np.complex64]:
        """Type of the values."""

    @property
    def bits(self) -> int:
        """Bit planes in which real vectors are shown; they are rounded to ``2^-bits / 2``."""
        return self.method.bits

    @property
    def n_outputs(self) -> int:
        """Number of outputs, one per pixel, including the rows that are not valid."""
        return self.opu.n_out

    @property
    def complementary(self) -> bool:
        """Whether every input of the device carries data."""
        return self.n_inputs == self.opu.n_in

    @property
    def leakage(self) -> float:
        """Intensity of all mirrors OFF over that of all ON: 1/contrast, by the data sheet, as it is dim."""
        return abs(self.opu.dmd.leakage) ** 2

    def expected_dark_share(self) -> float | None:
        """Share of rows dropped in fully developed speckle; None if no formula is known."""
        return None

    def describe(self) -> dict[str, float | int | str]:
        """Facts for a report: share of dropped rows, unit, frames per vector and gauge."""
        return {
            "dark_anchor_share": 1.0 - float(mean(self.valid)),
            "unit_dn": self.unit_dn,
            "frames_per_vector": self.frames_per_vector,
            "projection_gauge": self.gauge,
        }

    def frames_of(self, x: Array) -> int:
        """Number of frames that the projection of these vectors takes."""
        return self._split(x).terms * self.frames_per_vector

    def __call__(self, x: Array, observer: Observer | None = None) -> Array:
        """Project vectors; the values are where the vectors are.

        Warnings tell pixels that do not see the patterns, and a pattern near the end that does not fit, if the call is
        looked at: the first, and one in 8192 frames. `measure` looks at all, and states what it finds as errors.

        Parameters
        ----------
        x : array_like, shape (batch, n_inputs)
            Bool, entries in {-1, 0, 1}, or real numbers from -1 to 1, which are rounded to `bits` bits; on the host or
            where the device computes.
        observer : Observer, optional
            Sees the responses, where the device computes, and may change them.

        Returns
        -------
        array of float32 or complex64, shape (batch, n_out)

        Raises
        ------
        ValueError
            If the shape is wrong or an entry is not in that range.
        """
        if (there := self.on_device) is not self:
            return there.bring(there(there.place(x, self.n_inputs), observer), x)
        terms = self._terms(x, observer)
        values, frames = self._start(terms), None
        for part in terms.parts(self._chunk):
            halves = terms.halves(part)
            response = self._respond(frames := self._frames(halves), False).values
            read_once(halves, frames, self.noise, self.opu.camera.saturation_dn)
            if self.frames_per_vector == 1:  # the frames of a vector have no misfit of their own
                self._in_order(halves, response)
            terms.add(values, part, response if observer is None else observer(halves, response))
        lookout = self._placed.setdefault("lookout", Lookout())
        if observer is None and lookout.is_due(terms.terms * self.frames_per_vector):
            self._respond(last_of(frames, 2)[:1, ...], True)  # the last one may have a frame twice, which is told
            tell_blind(blind_in(frames, self.noise, self.valid, self.opu.camera.saturation_dn))
        values *= self._scale()
        return values

    def measure(self, x: Array, observer: Observer | None = None) -> Projected:
        """Project vectors as a call does; also return the error of each value and whether it saturated."""
        if (there := self.on_device) is not self:
            return there.bring(there.measure(there.place(x, self.n_inputs), observer), x)
        terms, zeros, xp = self._terms(x, observer), self.backend.zeros, self.backend.xp
        values = self._start(terms)
        variance, saturated = zeros(values.shape, "float32"), zeros(values.shape, "bool")
        sums: list[tuple[Array, Array]] = []
        watch = CallWatch(self.noise, self.speed, self.valid, observer is None)
        for part in terms.parts(self._chunk):
            halves = terms.halves(part)
            response = self._respond(frames := self._frames(halves), True)
            assert response.variance is not None and response.saturated is not None
            spread = response.variance + float(self._level_variance(response, halves))
            fits = read_once(halves, frames, self.noise, self.opu.camera.saturation_dn)
            fits &= mean(xp.isfinite(spread), 1) > 0.5
            fits[fits] = self._in_order(halves[fits], response.values[fits])
            spread[~fits] = math.inf
            watch.add(halves[fits], response.values[fits], frames)
            sums += [] if response.sums is None else [(response.sums, halves)]
            terms.add(values, part, response.values if observer is None else observer(halves, response.values))
            terms.add(variance, part, spread, power=2)
            terms.flag(saturated, part, response.saturated)
        common = self._common_error(*map(xp.concat, zip(*sums, strict=True))) if sums else Common()
        scale, variance = self._scale(), xp.where(self.valid, variance, 0.0)
        noise = xp.sqrt(variance) * scale
        # The error that all responses share cancels between the positive and the negative half of a vector.
        variance += terms.balance[:, None] ** 2 * (self._shared_variance() + float(common.variance))
        values *= scale
        size = xp.abs(values) if self.dtype is np.float32 else xp.abs(values) / math.sqrt(2.0)
        relative = xp.hypot(self._scale_error(), float(common.relative))
        rounding = terms.rounding / (2.0 * self.opu.n_in)  # entries of M have the variance 1/(2 n_in) in each part
        error = xp.hypot(xp.hypot(xp.sqrt(variance) * scale, size * relative), xp.sqrt(rounding)[:, None])
        if (speed := watch.speed(self.moving_fields, self.frames_per_vector)).moving:
            error = xp.hypot(error, replace(self, speed=speed)._stale_error(values, error, terms))
        wrong = self._blind_variance(tell_blind(watch.blind(self.opu.camera.saturation_dn)), values)
        lost = xp.isinf(wrong)
        error = xp.hypot(error, xp.sqrt(xp.where(lost, 0.0, wrong) * terms.squares[:, None]) * scale)
        error, noise = xp.where(self.valid & ~lost, error, math.inf), xp.where(lost, math.inf, noise)
        return Projected(values, error, noise, saturated)

    def _blind_variance(self, pixels: Array, values: Array) -> Array:
        """Variance of a response by pixels that are blind, (n_out,), beside values like these; infinite if lost."""
        return self.backend.xp.where(pixels, math.inf, self.backend.zeros(pixels.shape, "float32"))

    def _in_order(self, halves: Array, values: Array) -> Array:
        """Whether responses belong to their patterns; a warning says which do not."""
        return check_order(halves, columns(values, self.valid), self.known, 4)

    def _stale_error(self, values: Array, error: Array, terms: Terms) -> Array:
        """Error of values, beside their other `error`, by what the medium has moved since the calibration."""
        xp, parts = self.backend.xp, 1.0 if self.dtype is np.float32 else 2.0
        power = mean(columns(xp.abs(values) ** 2 / parts - error**2, self.valid), 1)
        return xp.sqrt(xp.maximum(power, 0.0)[:, None] * self._stale_variance())

    def effective_matrix(self, repeats: int = 1) -> HostArray:
        """Measure the matrix M of the map, (n_out, n_inputs) of float32 or complex64, with unit vectors.

        It takes ``repeats frames_per_vector n_inputs`` frames. A single input is dim, so entries are noisy (`measure`
        predicts their error). `calibration.recover_transmission_matrix` has smaller errors, as its probes are brighter.
        """
        repeats, matrix = integer(repeats, "repeats", 1), np.zeros((self.n_outputs, self.n_inputs), self.dtype)
        for start in range(0, self.n_inputs, self._chunk):
            inputs = np.arange(start, min(start + self._chunk, self.n_inputs))
            for _ in range(repeats):
                matrix[:, inputs] += self(inputs[:, None] == np.arange(self.n_inputs)).T
        return matrix / np.float32(repeats)

    def _split(self, x: Array) -> Terms:
        """Binary patterns that are shown for vectors."""
        return split(self.on_device.place(x, self.n_inputs), self.n_inputs, self.bits, self.on_device.backend)

    def _terms(self, x: Array, observer: Observer | None) -> Terms:
        terms = self._split(x)
        return terms.by_vector() if observer is not None and observer.by_vector else terms

    def recalibrate(self) -> "LinearProjection":
        """Measure the projection again; rows keep sign and phase as far as the medium has not moved away."""
        return self.method.calibrate(self.opu, self.n_inputs)

    def part(self, device: Device, rows: slice) -> "LinearProjection":
        """The rows that `device` sees alone, a part of the device that was calibrated; values are the same bits.

        A ``ValueError`` says that a row of the method needs the frame of the whole sensor ("off-axis").
        """
        if not self.by_row:
            raise ValueError(f"method must read each pixel alone for a part of the sensor, got {self.method.name!r}")
        return replace(self, opu=device, **{key: rows_of(getattr(self, key), rows) for key in ("valid", *self.by_row)})

    def refresh(self, count: int = 1) -> Refreshed:
        """Measure the light again by `count` frames of each anchor, or of the reference beam, outside of a training.

        Anchors show light and medium at once, and are replaced; multilateration compares them with their places. A
        frame of a reference beam shows the light, one without it the medium. Arrays are where the device computes.
        """
        raise ValueError(f"refresh must be defined by the method, got {self.method.name}: use proj.recalibrate()")

    def follow(self, common: Array) -> "LinearProjection | None":
        """The projection that follows `common`, the mean response to many patterns, (n_out,), or None if none ages."""
        return None

    @property
    def _chunk(self) -> int:
        """Number of patterns whose frames are taken at a time."""
        return max(CHUNK // (self.frames_per_vector * max(self.n_outputs, self.opu.n_in)), 1)

    @abstractmethod
    def _frames(self, half: Array) -> Array:
        """Frames of binary vectors: (batch, n_inputs) -> (batch, frames_per_vector, n_out)."""

    @abstractmethod
    def _respond(self, frames: Array, uncertain: bool) -> Response:
        """Linear response from the frames of each pattern, with variance and saturation if `uncertain`."""

    def _start(self, terms: Terms) -> Array:
        """Value of each vector to which its responses are added: minus the known light that is no interference."""
        return self.backend.zeros((terms.batch, self.n_outputs), self.dtype.__name__)

    def _level_variance(self, response: Response, patterns: Array) -> float:
        """Variance of responses by light that changes from pattern to pattern, which a warning may tell."""
        return 0.0

    def _common_error(self, sums: Array, patterns: Array) -> Common:
        """Error that all responses of a call share, by the `Response.sums` of its patterns; a warning may tell it."""
        return Common()

    @abstractmethod
    def _scale(self) -> Array:
        """Factor from the response to the projection's unit, for each row; 0 if the row is not valid."""

    @abstractmethod
    def _shared_variance(self) -> Array:
        """Variance (of the real or imaginary part) that all responses share, from calibration noise: (n_out,)."""

    @abstractmethod
    def _scale_error(self) -> Array:
        """Relative standard error of each row's scale: (n_out,)."""

    def _pad(self, half: Array) -> Array:
        """Pad binary vectors to all inputs of the device, with the other inputs OFF: (batch, n_in)."""
        shown = self.backend.zeros((half.shape[0], self.opu.n_in), "bool")
        shown[:, : self.n_inputs] = half
        return shown
