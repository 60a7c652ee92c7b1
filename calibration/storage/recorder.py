"""A device that records its frames, and recordings from arrays measured on a bench."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from tqdm import tqdm

from calibration.camera.photon_transfer import UniformLight, uniform_light
from calibration.device import Device, Wrapper
from calibration.fields.sequence import SequenceCheck, refuse
from calibration.storage.arrays import about_device
from calibration.storage.descriptions import Description, check_same
from calibration.storage.frame_order import check_unasked, warn_of_order
from calibration.storage.journal import Arrays, Journal, create_journal
from calibration.storage.recorded import RecordedDevice, photometry
from calibration.storage.recording import Recording, write_hdf5
from photonics.arrays import Array, BoolArray, HostArray
from photonics.backend import to_host
from photonics.opu import OPU
from photonics.parts.reference import as_phases
from photonics.patterns.encoding import as_patterns

__all__ = ["Recorder", "write_recording"]


class Recorder(Wrapper):
    """A device that forwards requests to another one, and appends each frame to a file.

    Parameters
    ----------
    opu : Device
        The device that takes the frames.
    path : str or Path
        The new HDF5 file (see `calibration.storage.recording` for its layout). Until `close`, frames are in
        ``<path>.part``, to which each call writes its frames before it returns. They remain there if the process is
        killed, and `RecordedDevice` can read them.
    resume : bool
        Resume ``<path>.part`` of the same device, if it exists. Its frames are replayed, provided that the requests are
        the same and in the same order; then the device takes new ones. In this way any measurement can be resumed.
    progress : bool
        Count the recorded frames in a progress bar.

    Raises
    ------
    ValueError
        If the file exists or cannot be written, or the part belongs to another device.

    Notes
    -----
    As a context manager it closes the file at the end of the block. After an exception the part is kept.

    Several threads may use a recorder: it takes the frames of one request after the other. Frames that a thread takes
    from `opu` directly are not in the recording, and their numbers are missing.

    `close` checks whether the frames belong to their patterns: lost, repeated, shifted and late frames are named by a
    warning, and are in `order`. Frames of a simulated device belong to their patterns and are not checked.

    Frames that cannot be written, for instance because the disk is full, end the recording with an ``OSError``: later
    calls and `close` raise it again, so that no file with missing frames appears.
    """

    keeps_frames = True

    def __init__(self, opu: Device, path: str | Path, resume: bool = False, progress: bool = False) -> None:
        super().__init__(opu)
        self._bar = tqdm(unit="frame", desc="recorded", disable=not progress)
        self.path, part = new_recording(path, resume)
        self._light, about = uniform_light(opu), attributes(opu)
        self._earlier: RecordedDevice | None = None
        self._lock = Lock()
        self._open = True
        self._complete = True
        self.order = not_checked("the recording is not finished")
        if not part.exists():
            self._journal = create_journal(part, about, no_frames(opu))
            return
        self._journal = Journal(part, writable=True)
        try:
            if not self._journal.arrays:  # cut off after its description
                self._journal.append(no_frames(opu))
            self._earlier = open_part(part, about)
        except ValueError:
            self._journal.close()
            raise
        if not self._earlier.done:
            self.clock.frames = self._earlier.clock.frames
        if isinstance(self._light, UniformLight):
            self._light.ticks = self._earlier.uniform_left

    def __reduce__(self) -> str:
        """Refuse to be copied: two recorders would append to one file."""
        raise TypeError(f"Recorder must not be copied or pickled, two would write to {self.path}; copy its .device")

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> Array:
        """Frames of patterns from the device: (batch, n_in) -> (batch, n_out)."""
        with self._lock:
            start, set_s = self.clock.frames, self.exposure_s if exposure_s is None else exposure_s
            if (held := self._replay_part()) is not None:
                frames = held.measure(to_host(patterns), set_s, reference_phase=reference_phase)
                self.clock.frames = held.clock.frames
                return self.backend.asarray(frames)
            frames = self.device.measure(patterns, exposure_s, reference_phase=reference_phase)
            shown = as_patterns(to_host(patterns), self.n_in)
            self._keep(frame_arrays(shown, set_s, reference_phase, start) | {"frames": to_host(frames)})
            return frames

    def dark(self, count: int, exposure_s: float | None = None) -> Array:
        """Frames with the laser's shutter closed: (count, n_out)."""
        with self._lock:
            start, set_s = self.clock.frames, self.exposure_s if exposure_s is None else exposure_s
            if (held := self._replay_part()) is not None:
                frames = held.dark(count, set_s)
                self.clock.frames = held.clock.frames
                return self.backend.asarray(frames)
            frames = self.device.dark(count, exposure_s)
            shown = np.zeros((count, self.n_in), bool)
            kept = frame_arrays(shown, set_s, None, start) | {"laser_on": np.zeros(count, bool)}
            self._keep(kept | {"frames": to_host(frames)})
            return frames

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> HostArray:
        """Frames of uniform light for the camera's photon transfer: (count, pixels)."""
        with self._lock:
            if self._earlier is not None and self._earlier.uniform_left:
                return self._earlier.uniform(photons, exposure_s, count, pixels)
            frames = self._light.uniform(photons, exposure_s, count, pixels)
            light, seconds = np.full(count, photons, np.float64), np.full(count, exposure_s, np.float64)
            self._keep({"uniform/frames": frames, "uniform/photons": light, "uniform/exposure_s": seconds})
            return frames

    def _keep(self, arrays: Arrays) -> None:
        """Append frames to the part. An error ends the recording, because later frames would leave a gap."""
        if not self._open:
            raise ValueError(f"path must be a recording under way, got {self.path}, which is closed")
        self._check_complete()
        self._complete = False
        self._journal.append(arrays)
        self._complete = True
        self._bar.update(max(map(len, arrays.values())))

    def _check_complete(self) -> None:
        """Raise an ``OSError`` if frames are missing in the file."""
        if not self._complete:
            raise OSError(f"{self._journal.path} lacks frames that could not be written: make room and resume")

    def _replay_part(self) -> RecordedDevice | None:
        """The earlier part of the recording, if it has a frame at the clock's number or later."""
        if self._earlier is None:
            return None
        self._earlier.clock.frames = self.clock.frames
        return None if self._earlier.done else self._earlier

    def close(self) -> Path:
        """Convert the part to the finished file and return its path.

        Raises
        ------
        OSError
            If frames are missing because the part could not be written. The part is kept, to resume.
        ValueError
            If the file cannot be written, or lacks frames. The part is kept.
        """
        with self._lock:  # not before the frames of another thread are in the part
            if self._open:
                try:
                    self._check_complete()
                    write_hdf5(self.path, self._journal.header, self._journal.arrays, self._check_count)
                finally:
                    self._leave()
                self._journal.path.unlink(missing_ok=True)
                self._check_order()
        return self.path

    def _check_order(self) -> None:
        """Check the finished file, and warn of frames that do not belong to their patterns."""
        if isinstance(self.device, OPU):
            self.order = not_checked("a simulated device takes each frame of its pattern")
            return
        with closing(Recording(self.path)) as record:
            self.order = check_unasked(record, self.camera.offset)
        warn_of_order(self.path, self.order, stacklevel=3)

    def _check_count(self, file: Path) -> None:
        """Raise a ``ValueError`` if a finished file has fewer frames than the part."""
        with closing(Recording(file)) as written:
            found = {"frames": len(written), "uniform/frames": written.uniform_count}
        for name, count in found.items():
            values = self._journal.arrays.get(name)
            if count != (wanted := 0 if values is None else len(values)):
                raise ValueError(f"{file} must have {wanted} {name}, got {count}: the part is kept")

    def _leave(self) -> None:
        """Stop writing. The part is kept unless it has no frames."""
        self._open = False
        self._bar.close()
        if self._earlier is not None:
            self._earlier.close()
        empty = not any(len(values) for values in self._journal.arrays.values())
        self._journal.close()
        if empty:
            self._journal.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        with self._lock:
            if self._open:
                self._leave()


def write_recording(
    path: str | Path,
    device: Description,
    patterns: Array,
    frames: Array,
    exposure_s: Array,
    *,
    reference_phase: Array = None,
    laser_on: Array = True,
    frame_number: Array = None,
    shown: Array = None,
    uniform: Mapping[str, Array] | None = None,
    unit_dn_per_s: float | None = None,
) -> Path:
    """Write the measurements of a real bench as a recording.

    Parameters
    ----------
    path : str or Path
        A new file.
    device : mapping
        Tables laser, dmd, imaging and camera, as in a device's TOML file.
    patterns, frames, exposure_s, reference_phase, laser_on, frame_number, shown, uniform, unit_dn_per_s
        As for `Recording.from_arrays`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If an array has the wrong shape or type, `RecordedDevice` could not read the file, or the file exists.
    """
    if not isinstance(device, Mapping):
        raise ValueError(f"device must be a table of the parts' parameters, got {device!r}")
    record = Recording.from_arrays(
        patterns, frames, exposure_s, device=device, reference_phase=reference_phase, laser_on=laser_on,
        frame_number=frame_number, shown=shown, uniform=uniform, unit_dn_per_s=unit_dn_per_s,
    )  # fmt: skip
    with RecordedDevice(record) as replayed:
        for name, count in (("frames", len(record)), ("uniform/frames", record.uniform_count)):
            if count:
                replayed.check_codes(record.rows(name, 0, count))
    path, _ = new_recording(path)
    return record.save(path)


def not_checked(reason: str) -> SequenceCheck:
    """Result for a recording whose order nobody checked."""
    return refuse(0, reason)


def new_recording(path: str | Path, resume: bool = False) -> tuple[Path, Path]:
    """Paths of a new recording and of its part; raise a ``ValueError`` if one exists that must not."""
    path = Path(path).expanduser()
    part = path.with_name(path.name + ".part")
    if path.exists():
        raise ValueError(f"path must be new, got {path}, which exists: recordings are never overwritten")
    if part.exists() and not resume:
        raise ValueError(f"path must have no unfinished recording, got {part}: use resume=True, or remove the file")
    return path, part


def open_part(part: Path, about: Description) -> RecordedDevice:
    """Open the part of a recording to resume, which must belong to the device described by `about`."""
    found = RecordedDevice(part)
    wanted = {"device": json.loads(about["device"]), "exposure_s": about["exposure_s"], "n_in": about["n_in"]}
    try:
        check_same(
            part,
            {"device": found.to_dict(), "exposure_s": found.exposure_s, "n_in": found.n_in},
            wanted,
            name="path",
        )
    except ValueError:
        found.close()
        raise
    return found


def attributes(opu: Device) -> dict[str, Any]:
    """Attributes of a recording of this device."""
    about = about_device(json.dumps(opu.to_dict()), opu.n_in, opu.exposure_s)
    if opu.unit_dn != photometry(opu):
        about["unit_dn_per_s"] = opu.unit_dn / opu.exposure_s
    return about


def no_frames(opu: Device) -> dict[str, HostArray]:
    """The arrays of a recording without frames, which define their types."""
    first = frame_arrays(np.zeros((0, opu.n_in), bool), opu.exposure_s, None, opu.clock.frames)
    return first | {"frames": np.zeros((0, opu.n_out), opu.camera.dtype)}


def frame_arrays(shown: BoolArray, exposure_s: float, phase: Array, start: int) -> dict[str, HostArray]:
    """Arrays of a recording that describe how frames were taken; `start` is the number of the first frame."""
    count = len(shown)
    return {
        "patterns": np.packbits(shown, axis=1),
        "exposure_s": np.full(count, exposure_s, np.float64),
        "reference_phase": np.full(count, np.nan) if phase is None else as_phases(phase, count).copy(),
        "laser_on": np.ones(count, bool),
        "frame_number": np.arange(start, start + count, dtype=np.int64),
    }
