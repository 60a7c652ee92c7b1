"""What a method that recovers a transmission matrix must be able to say and to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from calibration.fields.readings import Bench, RawFrames

__all__ = ["Block", "Gauge", "RecoveryMethod", "Shots"]


class Shots(NamedTuple):
    """Frames to take, one after the other."""

    patterns: NDArray[np.bool_]
    """Which inputs are ON, shape (count, n_in): all inputs of the device."""
    reference_phase: NDArray[np.float64] | None = None
    """Phase of the reference arm in each frame, radians, shape (count,); NaN where its shutter is closed. None: closed
    in all."""


class Gauge(NamedTuple):
    """What a result leaves undetermined."""

    sentence: str
    """For people."""
    phase_fixed: bool = False
    """Whether the phases of different rows have a common origin."""
    conjugation_fixed: bool = True
    """Whether a row is known from its complex conjugate."""
    scale_fixed: bool = True
    """Whether the unit is that of T, ``E|t|^2 = 1/n_in``."""


@dataclass(frozen=True)
class Block:
    """Some rows of the result."""

    matrix: NDArray[np.complex64]
    """(n_rows, n_inputs), in the unit of T."""
    standard_error: NDArray[np.float32]
    """Predicted rms error ``sqrt(E|t - t_estimate|^2)`` of an entry, (n_rows,) or (n_rows, n_inputs); inf where the row
    is invalid."""
    valid: NDArray[np.bool_]
    """False where the row cannot be known: the reference or the anchors are dark there, or it saturated. (n_rows,)"""
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Diagnostics per row, by name: arrays whose first axis is the rows'."""


class RecoveryMethod(ABC):
    """Plan of a measurement and the way back from its frames.

    A method is made for a device's sizes, ``Method(n_in=..., n_inputs=..., seed=..., **options)``, and raises a
    one-line ``ValueError`` if an option is out of range; make it with `photonics.component.component`, whose fields
    beyond those three are the options. It has no state: `shots` and `solve` are functions of their arguments.
    The driver takes dark frames, then all shots, and stores the raw frames; calls `prepare` once; then `solve` for one
    block of rows after the other, in bounded memory.
    """

    name: ClassVar[str]
    """As `recover_transmission_matrix` calls it."""

    n_in: int
    n_inputs: int
    seed: int

    @property
    @abstractmethod
    def gauge(self) -> Gauge:
        """What the result leaves undetermined."""

    @property
    @abstractmethod
    def frames(self) -> int:
        """Frames of the whole measurement, calibration of references and anchors included, dark frames not."""

    @property
    @abstractmethod
    def condition_number(self) -> float:
        """Of the matrix of probes (largest over smallest singular value); NaN if there is no linear system."""

    @abstractmethod
    def shots(self, start: int, stop: int) -> Shots:
        """Frames `start` to `stop` of the measurement; any split gives the same frames."""

    def check(self, device: Device) -> None:  # noqa: B027 (most methods ask for nothing)
        """Raise a ``ValueError`` if the method cannot work on this device; called before the first frame."""

    def prepare(self, raw: RawFrames, bench: Bench) -> Any:
        """What needs all pixels at once (drift, demodulation), handed to `solve` as `state`; nothing by default."""
        return None

    @abstractmethod
    def solve(self, frames: NDArray[Any], rows: slice, bench: Bench, state: Any) -> Block:
        """Rows of the matrix from all frames of these pixels, (frames, n_rows)."""

    def release(self, state: Any) -> None:  # noqa: B027
        """Close what `prepare` opened."""

    def unknown_leak(self, bench: Bench) -> float:
        """Mean intensity, in the unit of T, of what mirrors beyond the recovered ones leak."""
        return abs(bench.leakage) ** 2 * (1.0 - self.n_inputs / self.n_in)

    def record(self, state: Any) -> Mapping[str, Any]:
        """What `prepare` found that the result should tell (drift): numbers or arrays, by name."""
        return {}
