"""A device that writes down what it does, and the same file from arrays that a bench has measured."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.camera.photon_transfer import UniformLight, uniform_light
from calibration.device import Device, Wrapper
from calibration.storage.frames import check_same
from calibration.storage.recorded import RecordedDevice, photometry
from calibration.storage.recording import RecordingWriter
from photonics.backend import to_host
from photonics.parts.reference import as_phases
from photonics.patterns.encoding import as_patterns

__all__ = ["Recorder", "write_recording"]


class Recorder(Wrapper):
    """A device that passes everything on to another one, and appends each frame to a file.

    Parameters
    ----------
    opu : Device
        The device that does the work.
    path : str or Path
        The file, HDF5 (`calibration.storage.recording` has its layout). Until `close` the frames are in
        ``<path>.part``, each call's as soon as it returns; a process that is killed leaves them there, and
    `RecordedDevice` reads them. resume : bool
        Go on with ``<path>.part`` of the same device, if there is one: frames that it holds are given again, as long as
        the same is asked for in the same order, then the device takes new ones. So any measurement goes on.

    Raises
    ------
    ValueError
        If the file exists or cannot be written, or the part is of another device.

    Notes
    -----
    A context manager: leaving it closes the file; if an exception is on its way, the part is left as it is.
    """

    def __init__(self, opu: Device, path: str | Path, resume: bool = False) -> None:
        super().__init__(opu)
        self._light, about = uniform_light(opu), attributes(opu)
        part = Path(path).expanduser()
        part = part.with_name(part.name + ".part")
        self._earlier = earlier(part, about) if resume and part.exists() else None
        self._writer = RecordingWriter(path, about, resume)
        if self._earlier is not None:
            if not self._earlier.done:
                self.clock.frames = self._earlier.clock.frames
            if isinstance(self._light, UniformLight):
                self._light.ticks = self._earlier.uniform_left
            return
        self._writer.append(columns(np.zeros((0, opu.n_in), bool), opu.exposure_s, None, opu.clock.frames))
        self._writer.append({"frames": np.zeros((0, opu.n_out), opu.camera.dtype)})

    def measure(self, patterns: Any, exposure_s: float | None = None, *, reference_phase: Any = None) -> Any:
        """Frames of patterns, as the device gives them: (batch, n_in) -> (batch, n_out)."""
        start, set_s = self.clock.frames, self.exposure_s if exposure_s is None else exposure_s
        if (held := self._held()) is not None:
            frames = held.measure(to_host(patterns), set_s, reference_phase=reference_phase)
            self.clock.frames = held.clock.frames
            return frames
        frames = self.device.measure(patterns, exposure_s, reference_phase=reference_phase)
        shown = as_patterns(to_host(patterns), self.n_in)
        self._writer.append(columns(shown, set_s, reference_phase, start) | {"frames": to_host(frames)})
        return frames

    def dark(self, count: int, exposure_s: float | None = None) -> Any:
        """Frames with the laser's shutter closed: (count, n_out)."""
        start, set_s = self.clock.frames, self.exposure_s if exposure_s is None else exposure_s
        if (held := self._held()) is not None:
            frames = held.dark(count, set_s)
            self.clock.frames = held.clock.frames
            return frames
        frames = self.device.dark(count, exposure_s)
        shown = np.zeros((count, self.n_in), bool)
        kept = columns(shown, set_s, None, start) | {"laser_on": np.zeros(count, bool)}
        self._writer.append(kept | {"frames": to_host(frames)})
        return frames

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> NDArray[Any]:
        """Frames of uniform light for the camera's photon transfer: (count, pixels)."""
        if self._earlier is not None and self._earlier.uniform_left:
            return self._earlier.uniform(photons, exposure_s, count, pixels)
        frames = self._light.uniform(photons, exposure_s, count, pixels)
        light, seconds = np.full(count, photons, np.float64), np.full(count, exposure_s, np.float64)
        self._writer.append({"uniform/frames": frames, "uniform/photons": light, "uniform/exposure_s": seconds})
        return frames

    def _held(self) -> RecordedDevice | None:
        """The earlier part of the recording, at the clock, if it holds frames from there on."""
        if self._earlier is None:
            return None
        self._earlier.clock.frames = self.clock.frames
        return None if self._earlier.done else self._earlier

    def close(self) -> Path:
        """Finish the file and give it its name, which is returned."""
        self._writer.close()
        return self._writer.path

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.leave()


def write_recording(
    path: str | Path,
    device: Mapping[str, Any],
    patterns: Any,
    frames: Any,
    exposure_s: Any,
    *,
    reference_phase: Any = None,
    laser_on: Any = True,
    frame_number: Any = None,
    uniform: Mapping[str, Any] | None = None,
    unit_dn_per_s: float | None = None,
) -> Path:
    """Write what a real bench measured as a recording.

    Parameters
    ----------
    path : str or Path
        A new file.
    device : mapping
        Tables laser, dmd, imaging and camera, as in a device's TOML file.
    patterns : array_like of bool or 0/1, shape (N, n_in)
        What the mirrors showed.
    frames : array_like of uint8 or uint16, shape (N, n_out)
        What the camera answered.
    exposure_s : float or array_like, shape (N,)
        Exposure, seconds.
    reference_phase : array_like, shape (N,), optional
        Radians; NaN where the shutter of the reference arm was closed (by default everywhere).
    laser_on : bool or array_like of bool, shape (N,)
        False in dark frames.
    frame_number : array_like of int, shape (N,), optional
        When, in frame periods; by default one after the other.
    uniform : mapping, optional
        frames (M, pixels), photons (M,) and exposure_s (M,) of uniform light, for the camera.
    unit_dn_per_s : float, optional
        DN of unit intensity per second of exposure; by default by photometry from the description.

    Raises
    ------
    ValueError
        If an array has another shape or type, `RecordedDevice` would refuse the file, or the file exists.
    """
    if not isinstance(device, Mapping):
        raise ValueError(f"device must be a table of the parts' parameters, got {device!r}")
    frames = np.asarray(frames)
    if frames.ndim != 2 or frames.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"frames must be uint8 or uint16, (N, n_out), got {frames.dtype}, shape {frames.shape}")
    count = len(frames)
    if not count and uniform is None:
        raise ValueError("frames must hold one at least where there is no uniform light, got none")
    patterns = as_patterns(patterns, np.shape(patterns)[-1] if np.ndim(patterns) else 0)
    given = {
        "exposure_s": np.asarray(exposure_s, np.float64),
        "reference_phase": np.asarray(np.nan if reference_phase is None else reference_phase, np.float64),
        "laser_on": np.asarray(laser_on, bool),
        "frame_number": np.arange(count) if frame_number is None else np.asarray(frame_number, np.int64),
    }
    for name, values in (given | {"patterns": patterns[:, 0]}).items():
        if values.shape not in ((), (count,)):
            raise ValueError(f"{name} must have {count} entries, one for each frame, got shape {values.shape}")
    spread = {name: np.broadcast_to(values, (count,)) for name, values in given.items()}
    about = {"device": json.dumps(dict(device)), "n_in": patterns.shape[1]}
    about["exposure_s"] = float(spread["exposure_s"][0]) if count else 1e-3
    if unit_dn_per_s is not None:
        about["unit_dn_per_s"] = float(unit_dn_per_s)

    def readable(file: Path) -> None:
        with RecordedDevice(file) as replayed:
            for codes in (frames, () if uniform is None else uniform["frames"]):
                replayed.codes(np.asarray(codes))

    writer = RecordingWriter(path, about)
    try:
        writer.append({"frames": frames, "patterns": np.packbits(patterns, axis=1), **spread})
        if uniform is not None:
            light = {name: np.asarray(uniform[name], np.float64) for name in ("photons", "exposure_s")}
            arrays = light | {"frames": np.asarray(uniform["frames"])}
            writer.append({f"uniform/{name}": values for name, values in arrays.items()})
        writer.close(readable)
    except BaseException:
        writer.leave()
        writer.part.unlink(missing_ok=True)
        raise
    return writer.path


def earlier(part: Path, about: Mapping[str, Any]) -> RecordedDevice:
    """The part of a recording to go on with, which must be of the device that `about` describes."""
    found = RecordedDevice(part)
    wanted = {"device": json.loads(about["device"]), "exposure_s": about["exposure_s"], "n_in": about["n_in"]}
    there = {"device": found.to_dict(), "exposure_s": found.exposure_s, "n_in": found.n_in}
    check_same(part, there, wanted, ())
    return found


def attributes(opu: Device) -> dict[str, Any]:
    """What a file says about a device."""
    about = {"device": json.dumps(opu.to_dict()), "n_in": opu.n_in, "exposure_s": opu.exposure_s}
    if opu.unit_dn != photometry(opu):
        about["unit_dn_per_s"] = opu.unit_dn / opu.exposure_s
    return about


def columns(shown: NDArray[np.bool_], exposure_s: float, phase: Any, start: int) -> dict[str, NDArray[Any]]:
    """What is written about frames, but for the frames themselves."""
    count = len(shown)
    return {
        "patterns": np.packbits(shown, axis=1),
        "exposure_s": np.full(count, exposure_s, np.float64),
        "reference_phase": np.full(count, np.nan) if phase is None else as_phases(phase, count).copy(),
        "laser_on": np.ones(count, bool),
        "frame_number": np.arange(start, start + count, dtype=np.int64),
    }
