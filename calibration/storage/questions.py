"""What a measurement asks of a bench that only shows patterns and returns frames: questions, and answers so far."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import scipy.io

from calibration.device import Device, Wrapper, show
from calibration.storage.arrays import about_device
from calibration.storage.files import new_file
from calibration.storage.hdf5 import create_hdf5
from calibration.storage.recorded import RecordedDevice
from calibration.storage.recorder import frame_arrays
from calibration.storage.recording import Recording, join
from photonics.arrays import Array, HostArray
from photonics.backend import HOST, Backend, to_host
from photonics.component import integer
from photonics.patterns.encoding import as_patterns

__all__ = ["Questions", "find_questions", "join_recordings", "write_questions"]

SUFFIXES = (".npz", ".h5", ".hdf5", ".mat")


class Questions(NamedTuple):
    """Frames to take, in order; arrays have an entry for each frame."""

    patterns: HostArray
    """Which inputs are ON, bool, (count, n_in)."""
    exposure_s: HostArray
    reference_phase: HostArray
    """Radians; NaN where the reference's shutter is closed."""
    laser_on: HostArray
    """False in dark frames."""
    frame_number: HostArray
    device: str
    """Description of the device, JSON."""


class Asked(Wrapper):
    """A simulated device that gives the frames of a bench as long as there are any, and notes what is asked further."""

    def __init__(self, opu: Device, answers: Recording | None) -> None:
        super().__init__(opu)
        self._answers = None if answers is None else RecordedDevice(answers)
        self.requests: list[dict[str, HostArray]] = []
        self.has_uniform = self._answers is not None and self._answers.has_uniform

    @property
    def backend(self) -> Backend:
        """The host: frames of a bench are there."""
        return HOST

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> HostArray:
        """Frames of patterns, answered or simulated: (batch, n_in) -> (batch, n_out)."""
        seconds = self.exposure_s if exposure_s is None else exposure_s
        if (answers := self._left()) is not None:
            frames = answers.measure(to_host(patterns), seconds, reference_phase=reference_phase)
            self.clock.frames = answers.clock.frames
            return frames
        shown = as_patterns(to_host(patterns), self.n_in)
        self.requests.append(frame_arrays(shown, seconds, reference_phase, self.clock.frames))
        return to_host(show(self.device, patterns, exposure_s, reference_phase=reference_phase))

    def dark(self, count: int, exposure_s: float | None = None) -> HostArray:
        """Dark frames, answered or simulated: (count, n_out)."""
        seconds = self.exposure_s if exposure_s is None else exposure_s
        if (answers := self._left()) is not None:
            frames = answers.dark(count, seconds)
            self.clock.frames = answers.clock.frames
            return frames
        off = frame_arrays(np.zeros((count, self.n_in), bool), seconds, None, self.clock.frames)
        self.requests.append(off | {"laser_on": np.zeros(count, bool)})
        return to_host(self.device.dark(count, exposure_s))

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> HostArray:
        """Answered frames of uniform light; a bench has no other."""
        if self._answers is None:
            raise ValueError("uniform light must be in the answers, got none")
        return self._answers.uniform(photons, exposure_s, count, pixels)

    def _left(self) -> RecordedDevice | None:
        """The answers, if there is one at the clock's number or later."""
        if self._answers is None or self.requests:
            return None
        self._answers.clock.frames = self.clock.frames
        return None if self._answers.done else self._answers


def find_questions(
    measure: Callable[[Device], object], benches: Sequence[Device], answers: Recording | None = None
) -> Questions | None:
    """Find what a measurement asks next of a bench, as far as it does not follow from frames that are missing.

    The measurement runs on two simulated devices that differ in everything frames show, and agree in everything that is
    known. After the answers, both ask the same until the first request that follows from their frames. An exposure that
    is searched, or a focus, therefore needs a further round of questions.

    Parameters
    ----------
    measure : callable
        Takes a device and measures.
    benches : sequence of Device
        Two or more simulated devices of equal data sheets, sizes and exposure; other media and light.
    answers : Recording, optional
        Frames of all earlier rounds (`join_recordings`).

    Returns
    -------
    Questions or None
        None if no question is left.

    Raises
    ------
    ValueError
        If the answers are those of other questions, or the arguments of the measurement are wrong.
    """
    asked = []
    for bench in benches:
        device = Asked(bench, answers)
        try:
            measure(device)
        except ValueError:
            if not device.requests:  # of the arguments or of the answers
                raise
        asked.append(device.requests)
    common = []
    for requests in zip(*asked, strict=False):
        if any(not equal(requests[0], other) for other in requests[1:]):
            break
        common.append(requests[0])
    if not common:
        return None
    arrays = {name: np.concatenate([request[name] for request in common]) for name in common[0]}
    patterns = np.unpackbits(arrays.pop("patterns"), axis=1, count=benches[0].n_in).astype(bool)
    about = about_device(json.dumps(benches[0].to_dict()), benches[0].n_in, benches[0].exposure_s)
    return Questions(patterns=patterns, device=about["device"], **arrays)


def equal(one: dict[str, HostArray], other: dict[str, HostArray]) -> bool:
    """Whether two requests are the same."""
    return all(np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one)


def write_questions(path: str | Path, questions: Questions) -> Path:
    """Write questions as a new file: NumPy (``.npz``), HDF5 or MATLAB (``.mat``), with arrays of their names.

    Raises
    ------
    ValueError
        If the name has another ending, or the file exists or cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"questions must end in {', '.join(SUFFIXES)}, got {path}")
    arrays = {**questions._asdict(), "patterns": questions.patterns.astype(np.uint8)}
    arrays["device"] = np.frombuffer(questions.device.encode(), np.uint8)
    with new_file(path, "questions") as temporary:
        if path.suffix.lower() == ".npz":
            with open(temporary, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
        elif path.suffix.lower() == ".mat":
            with open(temporary, "wb") as file:
                scipy.io.savemat(
                    file, {name: np.asarray(values) for name, values in arrays.items()}, do_compression=True
                )
        else:
            with create_hdf5(temporary) as file:
                write_arrays(file, arrays)
    return path


def write_arrays(file: h5py.File, arrays: dict[str, HostArray]) -> None:
    """Write arrays as data sets of their names."""
    for name, values in arrays.items():
        file.create_dataset(name, data=values, compression=1)


def join_recordings(records: Sequence[Recording]) -> Recording:
    """One recording of several rounds, in the order of their frame numbers, with the description of the first.

    Raises
    ------
    ValueError
        If sizes differ, or rounds have frames of the same number.
    """
    if integer(len(records), "records", 1) == 1:
        return records[0]
    sizes = {(record.n_in, record.n_out) for record in records}
    if len(sizes) > 1:
        raise ValueError(f"recordings must have the same inputs and pixels, got {sorted(sizes)}")
    return join([(record, np.ones(len(record), bool)) for record in records])
