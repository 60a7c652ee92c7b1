"""Interface of the methods that recover a transmission matrix."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from calibration.fields.readings import Bench, RawFrames
from photonics.arrays import Array, BoolArray, FloatArray, RealArray, Shapes
from photonics.component import Field, Seed, component, integer
from photonics.random import check_seed

__all__ = ["FREE_GAUGE", "REFERENCE_GAUGE", "Block", "Findings", "Gauge", "RecoveryMethod", "RowDiagnostics", "Shots"]

State = TypeVar("State")
"""Type of what a method prepares once for all rows."""


class Shots(NamedTuple):
    """Frames to take, in order."""

    patterns: BoolArray
    """Which inputs are ON, over all inputs of the device: (count, n_in)."""
    reference_phase: NDArray[np.float64] | None = None
    """Phase of the reference arm in each frame, radians, shape (count,); NaN where its shutter is closed, None if it is
    closed in all frames."""


class Gauge(NamedTuple):
    """What a measurement leaves undetermined."""

    sentence: str
    """Description in plain words."""
    phase_fixed: bool = False
    """Whether the phases of different rows have a common origin."""
    conjugation_fixed: bool = True
    """Whether a row is distinguished from its complex conjugate."""
    scale_fixed: bool = True
    """Whether the result is in the unit of T, ``E|t|^2 = 1/n_in``."""


REFERENCE_GAUGE = Gauge("each row is multiplied by a phase, that of the conjugate reference at its pixel")
"""Gauge of measurements with a reference beam."""
FREE_GAUGE = Gauge(
    "each row is known up to a phase and a complex conjugation, independent of the other rows", conjugation_fixed=False
)
"""Gauge of measurements without one."""


class RowDiagnostics(NamedTuple):
    """Diagnostics of some rows, arrays of shape (n_rows,); None where the method has no such quantity."""

    misfit: FloatArray | None = None
    """Mean of ``residual^2 / variance`` over the frames, relative to its expectation: 1 for a good fit."""
    pattern_error: FloatArray | None = None
    """Predicted rms error of the field of a random half-ON pattern, leakage of other mirrors included, in the unit of
    T; for methods whose errors of a row's entries are correlated."""
    reference_dn: FloatArray | None = None
    """Intensity of the reference alone, DN."""
    touched: FloatArray | None = None
    """Share of probes in which a saturated pixel contributed to the field of this pixel."""
    rank_ratio: RealArray | None = None
    """Second over first singular value of the anchors' fields in the complex plane: 0 if they are collinear."""

    def present(self) -> dict[str, RealArray]:
        """Diagnostics that the method has, by name."""
        return {name: values for name, values in self._asdict().items() if values is not None}


class Findings(NamedTuple):
    """What a method found out about the whole run; None for quantities that it does not measure."""

    closure: float | None = None
    """See `calibration.fields.stepped.closure`."""
    phase_rad: NDArray[np.float64] | None = None
    """Phase of the reference in the tracking frames minus the set phase, radians, unwrapped."""
    step_rms_rad: float | None = None
    """Rms step of `phase_rad` from one frame to the next, radians."""
    jitter_rms_rad: float | None = None
    """Rms difference between the phases in the probes' frames and interpolated ones, radians."""
    field_error: float | None = None
    """Relative rms error of a field that follows from the uncertainty of the phases."""
    correlation_frames: float | None = None
    """Correlation time of the medium's field, frames, by `RecoveryMethod.closing_frames`; infinite if none is seen."""
    sideband_center: NDArray[np.float64] | None = None
    """Centre of the sideband, cycles per pixel along x and y."""
    sideband_radius: float | None = None
    """Radius of the sideband, cycles per pixel."""

    def present(self) -> dict[str, float | NDArray[np.float64]]:
        """Findings that the method has, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


@dataclass(frozen=True, repr=False)
class Block(Shapes):
    """Some rows of the result."""

    matrix: Array
    """(n_rows, n_inputs), in the unit of T, complex64; where the frames are. All other arrays are on the host."""
    standard_error: FloatArray
    """Predicted rms error ``sqrt(E|t - t_estimate|^2)`` of an entry, (n_rows,) or (n_rows, n_inputs); inf where the row
    is not valid."""
    valid: BoolArray
    """False where the reference or the anchors are dark, or the row saturated: (n_rows,)."""
    diagnostics: RowDiagnostics = field(default_factory=RowDiagnostics)


@component
class RecoveryMethod(ABC, Generic[State]):
    """A measurement of the transmission matrix: which frames it takes, and how rows are solved from them.

    A method is a frozen component (`photonics.component.component`): three fields that all methods share, and the
    options of its own class. It has no state: `shots` and `solve` are functions of their arguments. The driver
    (`calibration.recovery.transmission`) takes dark frames, then all shots, and stores the raw frames. It calls
    `prepare` once, and then `solve` for each block of rows, in bounded memory.

    A new method is one file with its class and one entry in `calibration.recovery.methods.METHODS`.
    """

    name: ClassVar[str]
    """Name in `recover_transmission_matrix`."""
    uses_reference: ClassVar[bool]
    """Whether frames are taken with the reference beam; a report then draws its arm."""

    n_in: int = Field(ge=1)
    """Inputs of the device."""
    n_inputs: int = Field(ge=1)
    """Inputs whose columns are recovered, the first ones of the device; the others stay OFF unless the method uses
    them."""
    seed: Seed = 0
    """Seed of random patterns, if the method uses any."""

    @classmethod
    def build(cls, device: Device, n_inputs: int | None, seed: int, options: Mapping[str, Any]) -> Self:
        """Return the method for a device, with options by name.

        Raises
        ------
        ValueError
            If an argument is out of range, or an option is not one of this method.
        """
        known = [option.name for option in fields(cls) if option.name not in SHARED]
        for name, value in options.items():
            if name not in known:
                raise ValueError(f"{name} is not an option of {cls.name}, which has {', '.join(known)}; got {value!r}")
        count = cls.default_inputs(device.n_in) if n_inputs is None else integer(n_inputs, "n_inputs", 1, device.n_in)
        return cls(n_in=device.n_in, n_inputs=count, seed=check_seed(seed), **options)

    @classmethod
    def default_inputs(cls, n_in: int) -> int:
        """Number of inputs to recover on a device with `n_in` inputs: all of them."""
        return n_in

    @property
    @abstractmethod
    def gauge(self) -> Gauge:
        """What the result leaves undetermined."""

    @property
    @abstractmethod
    def frames(self) -> int:
        """Frames of the measurement with calibration of references and anchors, without dark and closing frames."""

    @property
    def closing_frames(self) -> int:
        """Frames at the end of the run that show how far the medium has moved; 0 if the misfit shows it.

        Recordings of older versions lack them.
        """
        return 0

    @property
    @abstractmethod
    def condition_number(self) -> float:
        """Largest over smallest singular value of the matrix of probes."""

    @abstractmethod
    def shots(self, start: int, stop: int) -> Shots:
        """Frames `start` to `stop` of the measurement; any split gives the same frames."""

    def check(self, device: Device) -> None:
        """Raise a ``ValueError`` if the method cannot work on this device; called before the first frame."""

    def for_exposure(self) -> Self:
        """Return the method whose frames determine the exposure, without frames that may saturate."""
        return self

    @abstractmethod
    def prepare(self, raw: RawFrames, bench: Bench) -> State:
        """Compute what needs all pixels at once (drift, demodulation), the `state` of `solve`."""

    @abstractmethod
    def solve(self, frames: Array, rows: slice, bench: Bench, state: State) -> Block:
        """Solve rows of the matrix from all frames of these pixels, (frames, n_rows)."""

    def findings(self, state: State) -> Findings:
        """Return what `prepare` found out about the run."""
        return Findings()

    def grain(self, state: State) -> float:
        """Number of neighbouring rows whose misfits are equal: 1 if rows are independent."""
        return 1.0

    def unknown_leak(self, bench: Bench) -> float:
        """Mean intensity leaked by mirrors that are not recovered, in the unit of T."""
        return abs(bench.leakage) ** 2 * (1.0 - self.n_inputs / self.n_in)


SHARED = {"n_in", "n_inputs", "seed"}
"""Fields that every method has; the others are its options."""
