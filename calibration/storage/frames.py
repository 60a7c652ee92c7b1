"""Frames of a long measurement on disk, so that a run that is killed goes on where it stopped."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import DTypeLike, NDArray

from calibration.storage.files import new_file

__all__ = ["FrameStore", "Part", "WrongStore", "check_same", "create_store", "new_hdf5", "open_store"]

FORMAT = "opu-sim frames 1"
ABSENT = "absent"


class WrongStore(ValueError):
    """A file is not the one of the measurement to go on with, or cannot be used."""


@contextmanager
def new_hdf5(path: str | Path, name: str = "out") -> Iterator[h5py.File]:
    """Open an HDF5 file that appears under `path` when the block ends well, and never replaces another.

    Raises
    ------
    ValueError
        If `path` exists, before or when the file is done, or its folder cannot be written.
    """
    with new_file(path, name) as temporary, h5py.File(temporary, "w") as file:
        yield file


class FrameStore:
    """Frames of a run in an HDF5 file, written in order, read by blocks of pixels or by frames.

    The data set ``frames`` has shape (n_blocks, count, width), pixel ``p`` at ``[p // width, :, p % width]``, so that a
    block of pixels lies in one piece; ``done`` counts the frames that are there. Both are laid out when the file is
    made and later written in place, past the HDF5 library: its own tables never change again, and a process that is
    killed cannot leave them broken. ``done`` follows the frames that it counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = open(path, "r+b", buffering=0)  # noqa: SIM115 (closed by close)
        try:
            lock(self._file, path)
            self._look()
        except ValueError:
            self._file.close()
            raise

    def _look(self) -> None:
        """Read what the file is, and where in it the frames are."""
        try:
            with h5py.File(self.path, "r", locking=False) as file:  # the lock is ours
                if file.attrs.get("format") != FORMAT:
                    raise OSError
                frames = dataset(file, "frames")
                self.header: dict[str, Any] = json.loads(str(file.attrs["header"]))
                self.n_out = int(str(file.attrs["n_out"]))
                self.dtype = frames.dtype
                self.n_blocks, self.count, self.width = frames.shape
                self._frames_at, self._done_at = frames.id.get_offset(), dataset(file, "done").id.get_offset()
        except (OSError, KeyError, TypeError, ValueError, RuntimeError):
            raise WrongStore(f"out must name a measurement to resume, got {self.path}, which is not one") from None
        end = None if self._frames_at is None else self._frames_at + frames_bytes(self)
        if end is None or self._done_at is None or self.path.stat().st_size < end or not 0 <= self.done <= self.count:
            raise WrongStore(f"out must name a measurement to resume, got {self.path}, which is damaged")

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; its frames stay."""
        self._file.close()

    @property
    def done(self) -> int:
        """Frames that are there."""
        self._file.seek(self._done_at)
        return int(np.frombuffer(self._file.read(8), np.int64)[0])

    def append(self, frames: NDArray[Any]) -> None:
        """Add the next frames, (batch, n_out) of the store's type.

        Raises
        ------
        ValueError
            If they have another shape or type, or there are too many.
        """
        start, stop = self.done, self.done + len(frames)
        if frames.shape[1:] != (self.n_out,) or frames.dtype != self.dtype or stop > self.count:
            raise ValueError(
                f"frames must be {self.dtype} of shape (up to {self.count - start}, {self.n_out}), "
                f"got {frames.dtype} of {frames.shape}"
            )
        for block in range(self.n_blocks):
            part = frames[:, block * self.width : (block + 1) * self.width]
            if part.shape[1] < self.width:
                part = np.pad(part, ((0, 0), (0, self.width - part.shape[1])))
            self._file.seek(self._place(block, start))
            self._file.write(np.ascontiguousarray(part).data)
        os.fsync(self._file.fileno())
        self._file.seek(self._done_at)
        self._file.write(np.int64(stop).tobytes())

    def rows(self, rows: slice, skip: int = 0) -> NDArray[Any]:
        """All frames but the first `skip`, of the pixels `rows`: (count - skip, n_rows)."""
        start, stop, _ = rows.indices(self.n_out)
        parts = []
        for block in range(start // self.width, -(-stop // self.width)):
            part = self._read(block, skip, self.count)
            low = block * self.width
            parts.append(part[:, max(start - low, 0) : stop - low])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def frames(self, start: int, stop: int) -> NDArray[Any]:
        """All pixels of the frames `start` to `stop`: (stop - start, n_out)."""
        parts = [self._read(block, start, stop) for block in range(self.n_blocks)]
        return np.concatenate(parts, axis=1)[:, : self.n_out]

    def blocks(self) -> Iterator[slice]:
        """The pixels, block by block."""
        for start in range(0, self.n_out, self.width):
            yield slice(start, min(start + self.width, self.n_out))

    def _place(self, block: int, frame: int) -> int:
        return self._frames_at + (block * self.count + frame) * self.width * self.dtype.itemsize

    def _read(self, block: int, start: int, stop: int) -> NDArray[Any]:
        self._file.seek(self._place(block, start))
        values = np.fromfile(self._file, self.dtype, (stop - start) * self.width)
        return values.reshape(stop - start, self.width)


def frames_bytes(store: FrameStore) -> int:
    """Length of the frames of a store, whether they are there yet or not."""
    return store.n_blocks * store.count * store.width * store.dtype.itemsize


class Part:
    """The frames of a store from one on: what a method sees, without the dark ones before its own."""

    def __init__(self, store: FrameStore, skip: int) -> None:
        self._store, self._skip = store, skip

    @property
    def count(self) -> int:
        """Number of frames."""
        return self._store.count - self._skip

    def rows(self, rows: slice) -> NDArray[Any]:
        """All frames of some pixels: (count, n_rows)."""
        return self._store.rows(rows, self._skip)

    def frames(self, start: int, stop: int) -> NDArray[Any]:
        """All pixels of some frames: (stop - start, n_out)."""
        return self._store.frames(start + self._skip, stop + self._skip)


def create_store(
    path: Path, header: Mapping[str, Any], count: int, n_out: int, dtype: DTypeLike, width: int
) -> FrameStore:
    """Lay out an empty store; `header` (plain types) says of which measurement it is.

    Blocks are `width` pixels wide.
    """
    width = min(width, n_out)
    with new_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["state"] = "measurement under way: `done` of the frames are there"
        file.attrs["header"] = json.dumps(header, allow_nan=False)
        file.attrs["n_out"] = n_out
        lay_out(file, "frames", (-(-n_out // width), count, width), dtype)
        lay_out(file, "done", (1,), np.int64)
    return FrameStore(path)


def open_store(path: Path, header: Mapping[str, Any]) -> FrameStore:
    """Open a store to go on with it.

    Raises
    ------
    ValueError
        If it is not a store, belongs to another measurement than `header` describes, or another process has it.
    """
    store = FrameStore(path)
    try:
        check_same(path, store.header, json.loads(json.dumps(header, allow_nan=False)), ("start_frame",))
    except ValueError:
        store.close()
        raise
    return store


def check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], free: Sequence[str]) -> None:
    """Raise a ``ValueError`` that names what two descriptions of a measurement differ in; `free` names may differ."""
    there, asked = flat(found), flat(wanted)
    for name in there | asked:
        if name not in free and asked.get(name, ABSENT) != there.get(name, ABSENT):
            raise WrongStore(
                f"out must be of this measurement to be resumed, got {path}, "
                f"whose {name} is {there.get(name, ABSENT)!r}, not {asked.get(name, ABSENT)!r}: take another out, or "
                "remove the file"
            )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names and values of a nested description."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """The data set of that name."""
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name} must be a data set in {file.filename}, got a {type(found).__name__}")
    return found


def lay_out(file: h5py.File, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """A data set in one piece, its place in the file taken at once, zeros until written."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, properties)


def lock(file: BinaryIO, path: Path) -> None:
    """Let no other process write to the file while this one does; the lock goes with the process."""
    try:
        import fcntl
    except ImportError:  # Windows, whose open files cannot be replaced by others anyway
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise WrongStore(f"out must not be in use, got {path}, which another process is writing") from None
