"""The file of a recorded bench (HDF5): the requests, frame by frame, and the frames.

Layout, version 2. The first axis of every array counts frames in the order in which they were taken.

===================== ==================== ==========================================================
``/`` (attributes)    ``format``           "opu-recording"
                      ``version``          2; in version 1 ``imaging.throughput`` was that of all inputs together
                      ``device``           JSON: the tables laser, dmd, imaging and camera of the device
                                           (`OPU.to_dict`); a table left out takes its defaults
                      ``n_in``             number of inputs of the device
                      ``exposure_s``       exposure that was set when the recording began, seconds
                      ``not_shown``        JSON, optional: numbers of the patterns whose frames are missing
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

During a recording, the same attributes and arrays are in a journal (`calibration.storage.journal`). Nothing in such a
file is ever unpickled or executed.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from calibration.storage.arrays import FORMAT, VERSION, MemoryFile, arrange
from calibration.storage.checks import KINDS, check_kind, check_values, read_positive, read_text
from calibration.storage.descriptions import Description
from calibration.storage.files import new_file
from calibration.storage.hdf5 import check_room, create_hdf5, dataset, get_attributes, set_attributes
from calibration.storage.journal import Journal, StoredArray, is_journal
from photonics.arrays import Array, BoolArray, HostArray

__all__ = ["FORMAT", "VERSION", "Recording", "join", "write_hdf5"]

CHUNK_BYTES = 2**19
"""Bytes of a compressed chunk of a data set: a few frames, so that little more than the request is read."""


def write_hdf5(
    path: Path,
    attributes: Description,
    arrays: Mapping[str, StoredArray | h5py.Dataset | HostArray],
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write a recording as an HDF5 file, atomically.

    Parameters
    ----------
    path : Path
        A new file.
    attributes, arrays : mapping
        As in the layout above. Arrays are read and written a chunk at a time.
    check : callable, optional
        Called with the path of the finished file before it appears; raises a ``ValueError`` to reject the file.
    """
    with new_file(path) as temporary:
        check_room(path, sum(values.dtype.itemsize * math.prod(values.shape) for values in arrays.values()))
        with create_hdf5(temporary) as file:
            set_attributes(file.attrs, attributes)
            for name, values in arrays.items():
                row = values.dtype.itemsize * int(np.prod(values.shape[1:]))
                step = max(min(CHUNK_BYTES // max(row, 1), 4096), 1)
                chunk = (step, *values.shape[1:])
                most = (None, *values.shape[1:])
                data = file.create_dataset(
                    name, values.shape, values.dtype, maxshape=most, chunks=chunk, compression=1, shuffle=True
                )
                for start in range(0, len(values), step):
                    data[start : start + step] = values[start : start + step]
        if check is not None:
            try:
                check(temporary)
            except ValueError as error:
                raise ValueError(str(error).replace(str(temporary), str(path))) from None


def per_input(device: Mapping[str, Any], n_in: int) -> dict[str, Any]:
    """Return the device of a recording of version 1, in which all inputs shared the throughput, as of version 2."""
    imaging = device.get("imaging", {})
    if not isinstance(imaging, Mapping):
        return dict(device)  # refused later
    return {**device, "imaging": {**imaging, "throughput": imaging.get("throughput", 6.4e-7) / n_in}}


class Recording:
    """Frames of a bench with their patterns, exposures and phases: a file, or arrays in memory (`from_arrays`).

    Parameters
    ----------
    path : str or Path
        A recording of this package, finished (HDF5) or unfinished (a journal). `calibration.open_recording` reads other
        files.

    Raises
    ------
    ValueError
        If the file cannot be read, has another format, or is inconsistent.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._file: Journal | h5py.File | MemoryFile
        try:
            self._file = Journal(self.path) if is_journal(self.path) else h5py.File(self.path, "r")
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "not HDF5, or truncated"
            raise ValueError(f"path must be a readable recording (HDF5), got {path} ({reason})") from None
        try:
            self._check()
        except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
            self._file.close()
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
        except BaseException:
            self._file.close()
            raise

    @classmethod
    def from_arrays(
        cls,
        patterns: Array,
        frames: Array,
        exposure_s: Array = None,
        *,
        device: Mapping[str, Any] | None = None,
        reference_phase: Array = None,
        laser_on: Array = True,
        frame_number: Array = None,
        shown: Array = None,
        uniform: Mapping[str, Array] | None = None,
        unit_dn_per_s: float | None = None,
    ) -> Self:
        """Return a recording in memory from arrays as a bench gives them.

        Parameters
        ----------
        patterns : array_like of bool, 0/1 or 0/255, shape (M, n_in) or (M, rows, columns)
            Patterns on the mirrors, in any order, also random ones.
        frames : array_like of whole numbers, shape (N, n_out) or (N, rows, columns)
            Raw frames, of any integer type, or floats with whole values.
        exposure_s : float or array_like, shape (N,), optional
            Exposure of each frame, seconds. 1 ms for all if not given: then only ratios of levels have a meaning.
        device : mapping, optional
            Tables laser, dmd, imaging and camera, as in a device's TOML file. If not given, all parts have their
            defaults, and the camera's bits are taken from the frames.
        reference_phase : array_like, shape (N,), optional
            Phase of the reference beam, radians; NaN where its shutter was closed (by default everywhere).
        laser_on : bool or array_like of bool, shape (N,)
            False in dark frames, whose patterns do not matter.
        frame_number : array_like of int, shape (N,), optional
            When each frame was taken, in frame periods, or the number in its file's name; gaps and any order are
            allowed. Frames are sorted by it. By default one after the other.
        shown : array_like of int, shape (N,), optional
            Row of `patterns` that each frame shows; -1 in dark frames. By default the order is the same, or, if frames
            are missing, `frame_number` is the number of the pattern, counted from 0 or 1.
        uniform : mapping, optional
            frames (K, pixels), photons (K,) and exposure_s (K,) of uniform light, for the camera.
        unit_dn_per_s : float, optional
            DN of unit intensity per second of exposure; by default by photometry from the description.

        Raises
        ------
        ValueError
            If an array has the wrong shape, type or values, or the patterns of the frames are not determined.

        Examples
        --------
        >>> import numpy as np
        >>> masks = np.array([[255, 0], [0, 255], [255, 255]], np.uint8)
        >>> frames = np.array([[[9, 2], [4, 3]], [[7, 1], [8, 5]]], np.uint8)  # the second of three is missing
        >>> record = Recording.from_arrays(masks, frames, 2e-3, frame_number=[1, 3])
        >>> len(record), record.n_out, record.not_shown
        (2, 4, (1,))
        """
        self = cls.__new__(cls)
        self.path = Path("arrays")
        self._file = arrange(
            patterns, frames, exposure_s, device, reference_phase, laser_on, frame_number, shown, uniform, unit_dn_per_s
        )
        self._check()
        return self

    def select(self, kept: BoolArray) -> "Recording":
        """Return the frames that are marked, (N,), as a recording in memory."""
        return join([(self, kept)])

    def save(self, path: str | Path) -> Path:
        """Write the recording as a new HDF5 file, and return its path.

        Raises
        ------
        ValueError
            If the file exists or cannot be written.
        """
        path = Path(path).expanduser()
        write_hdf5(path, self._attributes, self._arrays)
        return path

    def _check(self) -> None:
        file = self._file
        self._attributes = attributes = get_attributes(file.attrs) if isinstance(file, h5py.File) else dict(file.header)
        form, version = attributes.get("format"), attributes.get("version")
        if form != FORMAT or version not in (1, VERSION):
            raise ValueError(f"format must be {FORMAT!r} version 1 or {VERSION}, got {form!r} version {version}")
        self.device: dict[str, Any] = json.loads(read_text(attributes, "device"))
        if not isinstance(self.device, dict):
            raise ValueError("device must be a JSON object with the tables of the parts")
        self.n_in = int(attributes["n_in"])
        if version == 1:
            self.device = per_input(self.device, self.n_in)
        self.exposure_s = read_positive(attributes["exposure_s"], "exposure_s")
        unit = attributes.get("unit_dn_per_s")
        self.unit_dn_per_s = None if unit is None else read_positive(unit, "unit_dn_per_s")
        self.not_shown: tuple[int, ...] = tuple(json.loads(attributes.get("not_shown", "[]")))
        self._arrays: dict[str, StoredArray | h5py.Dataset | HostArray]
        if isinstance(file, h5py.File):
            self._arrays = {name: dataset(file, name) for name in KINDS if name in file}
        else:
            self._arrays = {name: values for name, values in file.arrays.items() if name in KINDS}
        missing = [name for name in KINDS if name not in self._arrays and not name.startswith("uniform/")]
        if missing:
            raise ValueError(f"data set {missing[0]} is missing")
        for name, values in self._arrays.items():
            check_kind(name, values)
        self.n_out = self._arrays["frames"].shape[1]
        self._check_shapes()
        self.columns = {name: values[:] for name, values in self._arrays.items() if values.ndim == 1}
        if (np.diff(self.columns["frame_number"]) <= 0).any():
            raise ValueError("frame_number must increase from frame to frame")
        for name, values in self.columns.items():
            check_values(name, values)

    def _check_shapes(self) -> None:
        """Check that all arrays have the same number of frames, and patterns the right width."""
        for uniform in (False, True):
            lengths = {n: len(values) for n, values in self._arrays.items() if n.startswith("uniform/") == uniform}
            if len(set(lengths.values())) > 1:
                raise ValueError(f"all data sets must have one entry for each frame, got {lengths}")
        width, found = -(-self.n_in // 8), self._arrays["patterns"].shape[1]
        if self.n_in < 1 or found != width:
            raise ValueError(f"patterns must have {width} bytes for n_in {self.n_in}, got {found}")

    def __len__(self) -> int:
        return len(self._arrays["frames"])

    def rows(self, name: str, start: int, stop: int) -> HostArray:
        """Entries of an array.

        Raises
        ------
        ValueError
            If the requested part of the file is damaged.
        """
        try:
            return np.asarray(self._arrays[name][start:stop])
        except OSError:
            raise ValueError(f"{self.path}: entries {start} to {stop} of {name} are damaged") from None

    @property
    def in_memory(self) -> bool:
        """Whether the recording is in memory, without a file."""
        return isinstance(self._file, MemoryFile)

    @property
    def patterns(self) -> BoolArray:
        """Which inputs were ON in each frame, (N, n_in)."""
        return np.unpackbits(self.rows("patterns", 0, len(self)), axis=1, count=self.n_in).astype(bool)

    @property
    def frames(self) -> HostArray:
        """All frames, (N, n_out), read into memory."""
        return self.rows("frames", 0, len(self))

    @property
    def uniform_count(self) -> int:
        """Number of frames of uniform light."""
        return len(self._arrays["uniform/frames"]) if "uniform/frames" in self._arrays else 0

    @property
    def uniform_pixels(self) -> int:
        """Pixels in a frame of uniform light; 0 if there is none."""
        return self._arrays["uniform/frames"].shape[1] if self.uniform_count else 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def join(parts: Sequence[tuple[Recording, BoolArray]]) -> Recording:
    """Join the marked frames of recordings of one device, and all their frames of uniform light, in memory."""
    first = parts[0][0]

    def column(name: str) -> HostArray:
        return np.concatenate([record.columns[name][kept] for record, kept in parts])

    lit = [record for record, _ in parts if record.uniform_count]
    uniform = {
        name: np.concatenate([record.rows(f"uniform/{name}", 0, record.uniform_count) for record in lit])
        for name in ("frames", "photons", "exposure_s")
        if lit
    }
    return Recording.from_arrays(
        np.concatenate([record.patterns[kept] for record, kept in parts]),
        np.concatenate([record.frames[kept] for record, kept in parts]),
        column("exposure_s"),
        device=first.device,
        reference_phase=column("reference_phase"),
        laser_on=column("laser_on"),
        frame_number=column("frame_number"),
        uniform=uniform or None,
        unit_dn_per_s=first.unit_dn_per_s,
    )
