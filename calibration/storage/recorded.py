"""A device that replays recorded frames: data of a real bench in the same code."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from calibration.device import Device
from calibration.fields.sequence import SequenceCheck
from calibration.storage.files import WrongFile
from calibration.storage.frame_order import check_recording, check_unasked, is_long, warn_of_order
from calibration.storage.recording import Recording
from photonics.arrays import Array, BoolArray, HostArray
from photonics.chain import Clock
from photonics.component import integer, number
from photonics.description import parts_of
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.parts.reference import as_phases
from photonics.patterns.encoding import as_patterns

__all__ = ["RecordedDevice", "photometry"]

TOLERANCE = 1e-9
"""Relative tolerance for light, and absolute tolerance for phases (radians)."""
EXPOSURE_TOLERANCE = 1e-5
"""Relative tolerance for exposures, under one code of 16 bits. An exposure that follows from a recovered matrix, in
single precision, differs by its rounding between processors and versions."""


class RecordedDevice:
    """A device that replays recorded frames for the same requests as in the recording.

    Its parts are built from the description in the file; it has no medium. Frames must be requested in the recorded
    order, but batches may differ. The next frame is the first one taken at the clock's frame number or later, so that a
    measurement that advances the clock, such as a resumed recovery, continues from there. The file of an interrupted
    recording (``<path>.part``) can be replayed, too. A copy or pickle has the path, not the frames, and continues from
    the same place.

    The first request checks whether the frames belong to their patterns (`order`), and a warning names those that do
    not.

    Parameters
    ----------
    path : str or Path or Recording
        The file, or an open recording, such as `Recording.from_arrays` returns.

    Raises
    ------
    ValueError
        If the file is not a recording, or its description is not valid for a device.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from calibration import Recorder
    >>> from photonics import presets
    >>> path = Path(tempfile.mkdtemp()) / "bench.h5"
    >>> with Recorder(presets.lab_bench(8, 16), path) as opu:
    ...     frames = opu.measure(np.eye(8, dtype=bool))
    >>> bool((RecordedDevice(path).measure(np.eye(8, dtype=bool)) == frames).all())
    True
    """

    def __init__(self, path: str | Path | Recording) -> None:
        self._recording = record = path if isinstance(path, Recording) else Recording(path)
        self.path = record.path
        try:
            self._parts = parts_of(record.device)
        except (ValueError, TypeError) as error:
            record.close()
            raise ValueError(f"{self.path}: device: {error}") from None
        self.exposure_s = record.exposure_s
        self.clock = Clock(int(record.columns["frame_number"][0]) if len(record) else 0)
        self._next_uniform = 0
        self._order: SequenceCheck | None = None
        self._told = False

    def __getstate__(self) -> dict[str, Any]:
        """Path and place in the recording: a copy, or a process that gets a pickle, opens the file again."""
        place = {"exposure_s": self.exposure_s, "frames": self.clock.frames, "next_uniform": self._next_uniform}
        place |= {"order": self._order, "told": self._told}
        return {"path": self._recording if self._recording.in_memory else self.path.absolute(), **place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the recording at its place. The copy has a clock of its own."""
        self.__init__(state["path"])
        self.exposure_s, self._next_uniform = state["exposure_s"], state["next_uniform"]
        self.clock.frames, self._order, self._told = state["frames"], state["order"], state["told"]

    @property
    def _next(self) -> int:
        """Index of the next frame of the recording, by the clock."""
        return int(np.searchsorted(self._recording.columns["frame_number"], self.clock.frames))

    @property
    def done(self) -> bool:
        """Whether no frame is left at the clock's number or later."""
        return self._next == len(self._recording)

    @property
    def frames_left(self) -> int:
        """Number of frames at the clock's number or later."""
        return len(self._recording) - self._next

    @property
    def uniform_left(self) -> int:
        """Number of frames of uniform light that were not requested yet."""
        return self._recording.uniform_count - self._next_uniform

    def __repr__(self) -> str:
        return f"RecordedDevice({str(self.path)!r}, frame {self._next} of {len(self._recording)})"

    @property
    def laser(self) -> Laser:
        """The laser's data sheet."""
        return self._parts.laser

    @property
    def dmd(self) -> DMD:
        """The mirrors' data sheet."""
        return self._parts.dmd

    @property
    def imaging(self) -> Imaging:
        """The optics before the sensor."""
        return self._parts.imaging

    @property
    def camera(self) -> Camera:
        """The camera's data sheet."""
        return self._parts.camera

    @property
    def n_in(self) -> int:
        """Number of logical inputs."""
        return self._recording.n_in

    @property
    def n_out(self) -> int:
        """Number of pixels in a frame."""
        return self._recording.n_out

    @property
    def frame_period_s(self) -> float:
        """Seconds from one frame to the next."""
        return 1.0 / min(self.dmd.frame_rate_hz, self.camera.frame_rate_hz)

    @property
    def unit_dn(self) -> float:
        """DN above dark that unit intensity gives at the set exposure: as recorded, or from photometry."""
        if self._recording.unit_dn_per_s is not None:
            return self._recording.unit_dn_per_s * self.exposure_s
        return photometry(self)

    @property
    def has_uniform(self) -> bool:
        """Whether frames of uniform light were recorded, from which the camera can be characterised."""
        return self._recording.uniform_count > 0

    def to_dict(self) -> dict[str, Any]:
        """All parameters of the device, as described in the file."""
        return dict(self._recording.device)

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> HostArray:
        """Recorded frames of these patterns: (batch, n_in) -> (batch, n_out).

        Raises
        ------
        WrongFile
            If the next recorded frames have other patterns, another exposure or another reference phase, or if too few
            frames are left.
        """
        shown = as_patterns(patterns, self.n_in)
        phases = np.full(len(shown), np.nan) if reference_phase is None else as_phases(reference_phase, len(shown))
        return self._replay(np.packbits(shown, axis=1), exposure_s, phases, True)

    def dark(self, count: int, exposure_s: float | None = None) -> HostArray:
        """Recorded frames with the laser's shutter closed: (count, n_out). Raises as `measure` does."""
        count = integer(count, "count", 0)
        packed = np.zeros((count, -(-self.n_in // 8)), np.uint8)
        return self._replay(packed, exposure_s, np.full(count, np.nan), False)

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> HostArray:
        """Recorded frames of uniform light: (count, pixels). Raises as `measure` does."""
        record, start = self._recording, self._next_uniform
        stop = start + count
        if stop > record.uniform_count or pixels != record.uniform_pixels:
            raise WrongFile(
                f"{self.path}: {count} more frames of uniform light on {pixels} pixels were not recorded, "
                f"frame {start} of {record.uniform_count} is next, on {record.uniform_pixels} pixels"
            )
        for name, asked, most in (("photons", photons, TOLERANCE), ("exposure_s", exposure_s, EXPOSURE_TOLERANCE)):
            found = record.columns[f"uniform/{name}"][start:stop]
            close = np.isclose(found, asked, rtol=most, atol=0.0)
            self._check_same(f"uniform frame, {name}", close, found, asked, start)
        self._next_uniform = stop
        return self.check_codes(record.rows("uniform/frames", start, stop))

    def _replay(self, packed: HostArray, exposure_s: float | None, phases: HostArray, laser_on: bool) -> HostArray:
        if not self._told:
            self._told = True
            warn_of_order(self.path, self.order, stacklevel=3)
        record, start = self._recording, self._next
        stop, seconds = start + len(packed), number(self.exposure_s if exposure_s is None else exposure_s)
        if stop > len(record):
            raise WrongFile(f"{self.path}: the recording has {len(record)} frames, but frame {stop - 1} was requested")
        part = slice(start, stop)
        kept = {name: record.columns[name][part] for name in ("laser_on", "exposure_s", "reference_phase")}
        self._check_same("laser_on", kept["laser_on"] == laser_on, kept["laser_on"], laser_on, start)
        found = record.rows("patterns", start, stop)
        differ = np.unpackbits(np.bitwise_xor(found, packed), axis=1).sum(axis=1)
        self._check_same("inputs that differ", differ == 0, differ, 0, start)
        close = np.isclose(kept["exposure_s"], seconds, rtol=EXPOSURE_TOLERANCE, atol=0.0)
        self._check_same("exposure_s", close, kept["exposure_s"], seconds, start)
        close = np.isclose(kept["reference_phase"], phases, rtol=0.0, atol=TOLERANCE, equal_nan=True)
        self._check_same("reference_phase", close, kept["reference_phase"], phases, start)
        if stop > start:
            self.clock.frames = int(record.columns["frame_number"][stop - 1]) + 1
        return self.check_codes(record.rows("frames", start, stop))

    @property
    def order(self) -> SequenceCheck:
        """Whether the frames belong to their patterns; a long recording is not judged until `check_sequence`."""
        if self._order is not None:
            return self._order
        found = check_unasked(self._recording, self.camera.offset)
        self._order = None if is_long(self._recording) else found
        return found

    def check_sequence(self) -> SequenceCheck:
        """Find lost, repeated, shifted and late frames of the recording, from its frames alone.

        See `calibration.check_sequence`. Frames have their numbers in the file, from 0, dark frames included.
        """
        if self._order is None:
            self._order = check_recording(self._recording, self.camera.offset)
        return self._order

    def check_codes(self, frames: HostArray) -> HostArray:
        """Return the frames; raise a ``ValueError`` if the described camera cannot give such codes."""
        top = self.camera.top
        if frames.size and frames.max() > top:
            raise ValueError(
                f"{self.path}: frames must have codes up to {top}, from the {self.camera.bit_depth} bits of "
                f"device.camera, got {frames.max()}"
            )
        return frames

    def _check_same(self, name: str, same: BoolArray, found: HostArray, asked: HostArray | float, start: int) -> None:
        """Raise a `WrongFile` that names the first frame that differs."""
        if not same.all():
            first = int(np.argmin(same))
            wanted = asked[first] if isinstance(asked, np.ndarray) else asked
            raise WrongFile(
                f"{self.path}: the recording differs from the request at frame {start + first}: {name} is "
                f"{found[first]} in the file, but {wanted} was requested{self._missing()}"
            )

    def _missing(self) -> str:
        """Name the patterns without a frame, which shift the others."""
        missing = self._recording.not_shown
        if not missing:
            return ""
        return f" (no frame shows pattern {', '.join(map(str, missing[:8]))}{', ...' * (len(missing) > 8)})"

    def close(self) -> None:
        """Close the file."""
        self._recording.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def photometry(opu: Device) -> float:
    """DN of unit intensity at the set exposure, from data sheets alone, by the formula of `OPU.unit_dn`."""
    laser, dmd, camera = opu.laser, opu.dmd, opu.camera
    rate = laser.photon_rate * float(laser.power_share(dmd.cells(opu.n_in)).mean()) * dmd.efficiency(laser.wavelength_m)
    share = opu.n_in * opu.imaging.throughput * camera.binning**2
    return camera.gain * camera.quantum_efficiency * share * rate * opu.exposure_s
