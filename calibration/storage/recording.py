"""The file of a recorded bench: what was asked of the device, frame by frame, and what it answered (HDF5).

Layout, version 1. Every array's first axis counts frames, in the order in which they were taken.

===================== ==================== ==========================================================
``/`` (attributes)    ``format``           "opu-recording"
                      ``version``          1
                      ``device``           JSON: the tables laser, dmd, imaging and camera of the device
                                           (`OPU.to_dict`); a table left out takes its defaults
                      ``n_in``             number of inputs of the device
                      ``exposure_s``       exposure that was set when the recording began, seconds
                      ``unit_dn_per_s``    DN of unit intensity per second of exposure, if it was measured;
                                           left out: by photometry from the device's description
``/frames``           (N, n_out)           uint8 or uint16, digital numbers
``/patterns``         (N, ceil(n_in / 8))  uint8, mirrors packed as by `numpy.packbits` (first = highest bit)
``/exposure_s``       (N,)                 float64, seconds
``/reference_phase``  (N,)                 float64, radians; NaN where the reference arm's shutter was closed
``/laser_on``         (N,)                 bool; false in dark frames (their patterns are zero)
``/frame_number``     (N,)                 int64, rising: the device's clock, in frame periods
``/uniform/frames``   (M, pixels)          frames of uniform light, for the camera's photon transfer; M may be 0
``/uniform/photons``  (M,)                 float64, mean photons per pixel in the exposure
``/uniform/exposure_s`` (M,)               float64, seconds
===================== ==================== ==========================================================

Nothing in such a file is ever unpickled or executed.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.storage.files import new_file
from calibration.storage.journal import Columns, Journal, is_journal, read_journal

__all__ = ["Recording", "RecordingWriter"]

FORMAT, VERSION = "opu-recording", 1
CHUNK_BYTES = 2**19
"""Bytes of a compressed piece of a file: a few frames, so that a call reads little more than it asks for."""

KINDS = {
    "frames": "u", "patterns": "u", "exposure_s": "f", "reference_phase": "f", "laser_on": "b", "frame_number": "i",
    "uniform/frames": "u", "uniform/photons": "f", "uniform/exposure_s": "f",
}  # fmt: skip
"""Data sets of a file and the kind of their numbers, as numpy abbreviates it."""


LEAST = {
    "exposure_s": 1e-9, "reference_phase": -np.inf, "uniform/photons": 0.0, "uniform/exposure_s": 0.0,
}  # fmt: skip
"""Columns of real numbers, and the least that they may be."""


class RecordingWriter:
    """Appends frames to ``<path>.part`` (`calibration.storage.journal`) and makes the recording of it when closed.

    Raises
    ------
    ValueError
        If the file exists, its folder cannot be written, or there is a part and `resume` does not say to go on with it.
    """

    def __init__(self, path: str | Path, attributes: Mapping[str, Any], resume: bool = False) -> None:
        self.path = Path(path).expanduser()
        self.part = self.path.with_name(self.path.name + ".part")
        if self.path.exists():
            raise ValueError(f"path must be new, got {self.path}, which exists: recordings are never overwritten")
        if self.part.exists() and not resume:
            raise ValueError(f"path has a recording under way, {self.part}: go on with resume=True, or remove the file")
        self._journal = Journal(self.part, {"format": FORMAT, "version": VERSION, **attributes})
        self._open = True

    def append(self, columns: Columns) -> None:
        """Add entries to the data sets of these names; they are on disk when this returns."""
        self._journal.append(columns)

    def close(self, check: Callable[[Path], None] | None = None) -> None:
        """Make the recording of the part, unless `check` raises a ``ValueError`` that names the path it is given."""
        if self._open:
            self.leave()
            with new_file(self.path) as temporary:
                with h5py.File(temporary, "w") as file:
                    fill(file, self.part)
                if check is not None:
                    try:
                        check(Path(temporary))
                    except ValueError as error:
                        raise ValueError(str(error).replace(str(temporary), str(self.path))) from None
            self.part.unlink()

    def leave(self) -> None:
        """Stop writing; the part stays, unless there is not a frame in it."""
        if self._open:
            self._open = False
            self._journal.close()
            if not any(len(values) for columns in read_journal(self.part)[1] for values in columns.values()):
                self.part.unlink()


def from_part(part: Path) -> h5py.File:
    """The recording that a part would become, in a file that goes when it is closed."""
    handle, name = tempfile.mkstemp(prefix="opu-")
    os.close(handle)
    file = h5py.File(name, "w")
    with suppress(PermissionError):  # Windows keeps what is open
        os.unlink(name)
    try:
        fill(file, part)
    except BaseException:
        file.close()
        raise
    return file


def fill(file: h5py.File, part: Path) -> None:
    """Write what a journal holds in the layout above."""
    attributes, records = read_journal(part)
    file.attrs.update(attributes)
    for columns in records:
        for name, values in columns.items():
            if name in file:
                data: Any = file[name]
                data.resize(len(data) + len(values), axis=0)
                data[len(data) - len(values) :] = values
            else:
                row = max(values[:1].nbytes, values.itemsize)
                chunk = (max(min(CHUNK_BYTES // row, 4096), 1), *values.shape[1:])
                file.create_dataset(
                    name, data=values, maxshape=(None, *values.shape[1:]), chunks=chunk, compression=1, shuffle=True
                )


class Recording:
    """A file of this format, or the part of one under way, checked and open for reading.

    Raises
    ------
    ValueError
        If the file cannot be read, is of another format, or does not agree with itself.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        try:
            self._file = from_part(self.path) if is_journal(self.path) else h5py.File(self.path, "r")
        except OSError as error:
            reason = error.strerror or "not HDF5, or cut off"
            raise ValueError(f"path must be a readable recording (HDF5), got {path} ({reason})") from None
        try:
            self._check()
        except BaseException as error:
            self._file.close()
            if isinstance(error, (ValueError, KeyError, TypeError, OSError, RuntimeError)):
                raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
            raise

    def _check(self) -> None:
        attributes: Any = self._file.attrs
        form, version = attributes.get("format"), attributes.get("version")
        if form != FORMAT or version != VERSION:
            raise ValueError(f"format must be {FORMAT!r} version {VERSION}, got {form!r} version {version}")
        self.device: dict[str, Any] = json.loads(text(attributes, "device"))
        if not isinstance(self.device, dict):
            raise ValueError("device must be a JSON object with the tables of the parts")
        self.n_in = int(attributes["n_in"])
        self.exposure_s = positive(attributes["exposure_s"], "exposure_s")
        unit = attributes.get("unit_dn_per_s")
        self.unit_dn_per_s = None if unit is None else positive(unit, "unit_dn_per_s")
        self._sets = {name: self._data_set(name, kind) for name, kind in KINDS.items() if name in self._file}
        if "frames" not in self._sets:
            raise ValueError("frames must be there, got none")
        missing = [name for name in KINDS if name not in self._sets and not name.startswith("uniform/")]
        if missing:
            raise ValueError(f"data set {missing[0]} must be there, got none")
        self.n_out = self._sets["frames"].shape[1]
        self._check_shapes()

    def _data_set(self, name: str, kind: str) -> h5py.Dataset:
        data = self._file[name]
        axes = 2 if name.endswith(("frames", "patterns")) else 1
        if not isinstance(data, h5py.Dataset) or data.dtype.kind != kind or data.ndim != axes:
            found = f"{data.dtype}, {data.ndim} axes" if isinstance(data, h5py.Dataset) else "a group"
            raise ValueError(f"data set {name} must hold numbers of kind {kind!r} on {axes} axes, got {found}")
        return data

    def _check_shapes(self) -> None:
        for part in ("", "uniform/"):
            lengths = {
                name: len(data) for name, data in self._sets.items() if name.startswith("uniform/") == bool(part)
            }
            if len(set(lengths.values())) > 1:
                raise ValueError(f"all data sets must have one entry for each frame, got {lengths}")
        width = -(-self.n_in // 8)
        if self.n_in < 1 or self._sets["patterns"].shape[1] != width:
            raise ValueError(
                f"patterns must have {width} bytes for n_in {self.n_in}, got {self._sets['patterns'].shape[1]}"
            )
        self.columns = {name: data[:] for name, data in self._sets.items() if data.ndim == 1}
        if (np.diff(self.columns["frame_number"]) <= 0).any():
            raise ValueError("frame_number must rise from frame to frame")
        for name, least in LEAST.items():
            values = self.columns.get(name, np.zeros(0))
            good = np.isnan(values) | np.isfinite(values) if name == "reference_phase" else np.isfinite(values)
            good &= ~(values < least)
            if not good.all():
                first = int(np.argmin(good))
                raise ValueError(f"{name} must be a number that makes sense, got {values[first]:g} in frame {first}")

    def __len__(self) -> int:
        return len(self._sets["frames"])

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Entries of a data set."""
        return self._sets[name][start:stop]

    @property
    def uniform_count(self) -> int:
        """Number of frames of uniform light."""
        return len(self._sets["uniform/frames"]) if "uniform/frames" in self._sets else 0

    @property
    def uniform_pixels(self) -> int:
        """Pixels in a frame of uniform light; 0 if there is none."""
        return self._sets["uniform/frames"].shape[1] if self.uniform_count else 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def positive(value: Any, name: str) -> float:
    """A finite number above zero."""
    if not 0.0 < float(value) < np.inf:
        raise ValueError(f"attribute {name} must be positive, got {value!r}")
    return float(value)


def text(attributes: Any, name: str) -> str:
    """A text attribute."""
    value = attributes.get(name)
    if not isinstance(value, str):
        raise ValueError(f"attribute {name} must be text, got {type(value).__name__}")
    return value
