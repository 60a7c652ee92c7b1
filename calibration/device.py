"""The interface between calibration and a device: frames of patterns, and figures of data sheets; never the medium."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from calibration.arrays import bring
from photonics.analysis.exposure import Exposable
from photonics.arrays import Array
from photonics.backend import HOST, Backend
from photonics.chain import Clock
from photonics.opu import OPU
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser

__all__ = ["Device", "Wrapper", "backend_of_device", "check_device", "is_simulated", "show"]


@runtime_checkable
class Device(Exposable, Protocol):
    """A bench, simulated (`photonics.OPU`) or recorded."""

    @property
    def clock(self) -> Clock:
        """Counts the frames that the device has taken."""
        ...

    @property
    def imaging(self) -> Imaging:
        """The data sheets of the optics before the sensor."""
        ...

    @property
    def camera(self) -> Camera:
        """The camera's data sheet."""
        ...

    @property
    def n_in(self) -> int:
        """Number of logical inputs."""
        ...

    @property
    def n_out(self) -> int:
        """Number of pixels in a frame."""
        ...

    @property
    def unit_dn(self) -> float:
        """DN above dark that unit intensity gives at the set exposure, from photometry."""
        ...

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> Array:
        """Frames of patterns: (batch, n_in) -> (batch, n_out)."""
        ...

    def dark(self, count: int, exposure_s: float | None = None) -> Array:
        """Frames with the laser's shutter closed: (count, n_out)."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Every known parameter, in plain types."""
        ...


def check_device(device: object, name: str = "opu") -> Device:
    """Return the device if calibration can use it; else raise a ``ValueError`` that names the argument."""
    if not isinstance(device, Device):
        raise ValueError(f"{name} must be an OPU or a recorded device, got {type(device).__name__}")
    return device


def backend_of_device(device: object) -> Backend:
    """Return the backend of a device's patterns and frames: that of an `OPU`, or else the host."""
    backend = getattr(device, "backend", HOST)
    return backend if isinstance(backend, Backend) else HOST


def is_simulated(device: object) -> bool:
    """Whether frames of a device can be taken again by its clock: not those of a bench, nor those that are recorded."""
    if isinstance(device, Wrapper):
        return not device.keeps_frames and is_simulated(device.device)
    return isinstance(device, OPU)


def show(device: Device, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> Array:
    """Frames of patterns that are on the host or already where the device computes: (batch, n_in) -> (batch, n_out).

    The frames are there, too, even if those of an adapter are of another library, or lists.
    """
    backend = backend_of_device(device)
    return bring(device.measure(backend.asarray(patterns), exposure_s, reference_phase=reference_phase), backend)


class Wrapper:
    """Base class of a device around another device, whose data sheets, clock and exposure it shares."""

    keeps_frames: ClassVar[bool] = False
    """Whether each frame is kept, in the order of their numbers."""

    def __init__(self, opu: Device) -> None:
        self.device = check_device(opu)

    @property
    def backend(self) -> Backend:
        """Library and place of patterns and frames."""
        return backend_of_device(self.device)

    @property
    def laser(self) -> Laser:
        """Data sheet of the laser."""
        return self.device.laser

    @property
    def dmd(self) -> DMD:
        """Data sheet of the mirrors."""
        return self.device.dmd

    @property
    def imaging(self) -> Imaging:
        """Data sheet of the optics before the sensor."""
        return self.device.imaging

    @property
    def camera(self) -> Camera:
        """Data sheet of the camera."""
        return self.device.camera

    @property
    def clock(self) -> Clock:
        """Counts the frames that the device has taken."""
        return self.device.clock

    @property
    def n_in(self) -> int:
        """Number of logical inputs."""
        return self.device.n_in

    @property
    def n_out(self) -> int:
        """Number of pixels in a frame."""
        return self.device.n_out

    @property
    def frame_period_s(self) -> float:
        """Time from one frame to the next, seconds."""
        return self.device.frame_period_s

    @property
    def unit_dn(self) -> float:
        """DN above dark that unit intensity gives at the set exposure."""
        return self.device.unit_dn

    @property
    def exposure_s(self) -> float:
        """Exposure of the camera, seconds."""
        return self.device.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self.device.exposure_s = value

    def to_dict(self) -> dict[str, Any]:
        """Every parameter of the device, in plain types."""
        return self.device.to_dict()
