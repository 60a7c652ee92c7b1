"""What a method that recovers a transmission matrix must be able to say and to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.camera.noise import NoiseModel
from calibration.device import Device

__all__ = ["Bench", "Block", "Gauge", "RawFrames", "RecoveryMethod", "Shots"]


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


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a method knows besides the frames: sizes, data sheets, and the camera's noise as it was measured."""

    n_in: int
    """Logical inputs of the device."""
    n_out: int
    """Pixels."""
    unit_dn: float
    """DN above dark of unit intensity ``|T x|^2``, photometry: T is what a mirror adds when it turns ON, so this is the
    device's `unit_dn`, which belongs to mirrors ON, times ``|1 - leakage|^2``."""
    saturation_dn: int
    """DN of a saturated pixel."""
    leakage: complex
    """Field of an OFF mirror over that of an ON mirror, by the data sheet."""
    carrier: tuple[float, float]
    """Frequency of the reference's fringes along x and y, cycles per pixel, by the data sheet."""
    frame_shape: tuple[int, int]
    """Rows and columns of pixels in a frame."""
    field_band: float | None = None
    """Radius of the field's band, cycles per pixel, ``NA pixel / lambda``; None without a pupil: grains of a pixel."""
    samples_per_pixel: int = 1
    """Points of the field along a pixel's side that a pixel averages (of a real one: many)."""
    visibility: float = 1.0
    """What pixels of a single point leave of the fringes, `photonics.Imaging.visibility`."""
    scale_error: float = 0.0
    """Relative standard error that data sheets leave in the scale of a row: half of PRNU and of the laser's drift."""
    noise: NoiseModel
    """Dark level and floor from dark frames of this run; slope from the camera's data sheet."""


class RawFrames(Protocol):
    """The frames of a run, on disk, in the order of `RecoveryMethod.shots`; dark frames are not among them."""

    @property
    def count(self) -> int:
        """Number of frames."""
        ...

    def rows(self, rows: slice) -> NDArray[Any]:
        """All frames of some pixels: (count, n_rows), the camera's integers."""
        ...

    def frames(self, start: int, stop: int) -> NDArray[Any]:
        """All pixels of some frames: (stop - start, n_out), the camera's integers."""
        ...


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
