"""The file of a running measurement. It grows by whole records, so a killed process loses none of them.

The file begins with `MAGIC`; records follow. A record consists of a head (`HEAD`), a line of JSON, and the bytes of
arrays. The first record has no arrays; its line describes the measurement. The line of every other record gives the
type and shape of its arrays by name. Arrays of the same name are parts of one long array, whose first axis grows.

A truncated record may end the file, if the process was killed while writing. A wrong checksum means that the file is
damaged; reading it raises an error.
"""

import errno
import json
import math
import mmap
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from calibration.storage.descriptions import Description
from calibration.storage.files import WrongFile, new_file
from calibration.storage.folders import lock
from photonics.arrays import HostArray

__all__ = ["Arrays", "Journal", "StoredArray", "create_journal", "is_journal"]

MAGIC = b"opu-sim measurement under way 2\n"
HEAD = struct.Struct("<IQII")
"""Bytes of the JSON, bytes of the arrays, CRC-32 of both, and CRC-32 of these three numbers."""
HEAD_SUMMED = HEAD.size - 4

Arrays = Mapping[str, HostArray]
"""Arrays by name; their first axes count the same frames."""


class StoredArray:
    """An array in a journal. Indexing reads only the requested part from the file.

    Parameters
    ----------
    content
        Returns the content of the file.
    dtype
        Type of the entries.
    row
        Shape of an entry of the first axis.
    """

    def __init__(self, content: Callable[[], mmap.mmap], dtype: np.dtype[Any], row: tuple[int, ...]) -> None:
        self.dtype = dtype
        self._content, self._row = content, row
        self._starts: list[int] = []
        self._places: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of entries so far, and the shape of an entry."""
        return (self._length, *self._row)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 1 + len(self._row)

    def grow(self, count: int, place: int) -> None:
        """Add `count` entries, which begin at byte `place` of the file."""
        if count:
            self._starts.append(self._length)
            self._places.append(place)
            self._length += count

    def __getitem__(self, index: slice | tuple[slice, ...]) -> HostArray:
        """Copy of a range of entries; a second slice selects from the next axis, such as some pixels of frames."""
        entries, *rest = index if isinstance(index, tuple) else (index,)
        start, stop, _ = entries.indices(self._length)
        parts = [np.empty((0, *self._row), self.dtype)[(slice(None), *rest)]]
        number = bisect_right(self._starts, start) - 1
        while 0 <= number < len(self._starts) and self._starts[number] < stop:
            first, part = self._starts[number], self._part(number)
            parts.append(part[(slice(max(start - first, 0), stop - first), *rest)])
            number += 1
        return np.concatenate(parts)

    def _part(self, number: int) -> HostArray:
        """The entries of a record, not copied."""
        ends = [*self._starts[number + 1 : number + 2], self._length]
        count = ends[0] - self._starts[number]
        return np.ndarray((count, *self._row), self.dtype, self._content(), self._places[number])


class Journal:
    """The file of a running measurement, open for reading, or for reading and writing.

    Parameters
    ----------
    path : Path
        The file, which exists; `create_journal` makes a new one.
    writable : bool
        Open it to add records. A truncated record is removed, and no other process can write at the same time.
    name : str
        Name of the path in messages.

    Raises
    ------
    WrongFile
        If the file is not a journal, is damaged, or another process writes to it.
    """

    def __init__(self, path: Path, writable: bool = False, name: str = "path") -> None:
        self.path, self._name = path, name
        self._arrays: dict[str, StoredArray] = {}
        self._mapped: mmap.mmap | None = None
        try:
            self._file: BinaryIO = open(path, "r+b" if writable else "rb", buffering=0)  # noqa: SIM115 (see close)
        except OSError as error:
            raise WrongFile(f"{name} must be a readable file, got {path} ({error.strerror})") from None
        try:
            if writable:
                lock(self._file.fileno(), path, name)
            self._read()
            if writable:
                self._mapped = None  # Windows cannot truncate a mapped file
                self._file.truncate(self._end)
            else:
                self._file.close()  # a reader needs only the mapped content
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        """Check every record and store the positions of its arrays."""
        size = os.fstat(self._file.fileno()).st_size
        content = self._content() if size >= len(MAGIC) else b""
        if content[: len(MAGIC)] != MAGIC:
            raise self._error("is not a measurement of this version")
        header: Description | None = None
        at = self._end = len(MAGIC)
        with memoryview(content) as view:
            while at + HEAD.size <= size:
                line, data, checksum, own = HEAD.unpack_from(view, at)
                if zlib.crc32(view[at : at + HEAD_SUMMED]) != own:
                    raise self._error(f"is damaged at byte {at}")
                start, stop = at + HEAD.size, at + HEAD.size + line + data
                if stop > size:
                    break
                if zlib.crc32(view[start:stop]) != checksum:
                    raise self._error(f"is damaged at byte {start}")
                try:
                    about = json.loads(bytes(view[start : start + line]))
                    if header is None:
                        header = dict(about)
                    else:
                        self._register(about, start + line, stop)
                except (ValueError, TypeError, AttributeError, RecursionError):
                    raise self._error(f"has a record of another type at byte {at}") from None
                at = self._end = stop
        if header is None:
            raise self._error("is truncated before the end of its first record")
        self.header: Description = header

    def _error(self, reason: str) -> WrongFile:
        return WrongFile(
            f"{self._name} must be an unfinished measurement, got {self.path}, which {reason}: the file is unchanged, "
            f"choose another {self._name}"
        )

    def _register(self, about: Mapping[str, tuple[str, list[int]]], place: int, stop: int) -> None:
        """Register the arrays of a record, from byte `place` to `stop`; a ``ValueError`` if their types differ."""
        for name, (kind, (count, *row)) in about.items():
            dtype = np.dtype(kind)
            stored = self._arrays.setdefault(name, StoredArray(self._content, dtype, tuple(row)))
            if dtype.hasobject or (dtype, tuple(row)) != (stored.dtype, stored.shape[1:]) or min(count, *row, 0) < 0:
                raise ValueError(f"{name} must be {stored.dtype} of rows {stored.shape[1:]}, got {dtype} of {row}")
            stored.grow(count, place)
            place += dtype.itemsize * math.prod((count, *row))
        if place != stop:
            raise ValueError(f"arrays must end at byte {stop}, got {place}")

    def _content(self) -> mmap.mmap:
        """The file, mapped into memory; pages are read as they are used."""
        if self._mapped is None:
            self._mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._mapped

    @property
    def arrays(self) -> Mapping[str, StoredArray]:
        """The arrays, by name."""
        return self._arrays

    def append(self, arrays: Arrays) -> None:
        """Add entries to the arrays of these names. On return they are on disk; after an error none of them is.

        Raises
        ------
        ValueError
            If entries differ in type or shape from the earlier ones.
        OSError
            If the file cannot be written, for instance because the disk is full. Earlier records are kept.
        """
        for name, values in arrays.items():
            there = self._arrays.get(name)
            if there is not None and (there.dtype, there.shape[1:]) != (values.dtype, values.shape[1:]):
                shape = ", ".join(["count", *map(str, there.shape[1:])])
                raise ValueError(
                    f"{name} must be {there.dtype} of shape ({shape}), got {values.dtype} of {values.shape}"
                )
        about, parts = encode_record(arrays)
        try:
            if not os.fstat(self._file.fileno()).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "it was deleted")
            self._file.seek(self._end)
            for part in parts:
                write_all(self._file, part)
            os.fsync(self._file.fileno())
        except BaseException as error:
            with suppress(OSError):  # the next record, or the next start, replaces a part that stays
                self._file.truncate(self._end)
            if isinstance(error, OSError):
                raise OSError(
                    f"{self.path} cannot be written ({error.strerror or error}): earlier frames are kept; "
                    "make room and resume"
                ) from None
            raise
        self._mapped = None
        start, self._end = self._end + HEAD.size + len(parts[1]), self._end + sum(len(part) for part in parts)
        self._register(about, start, self._end)

    def close(self) -> None:
        """Close the file; its records are kept."""
        self._mapped = None
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def create_journal(path: Path, header: Description, arrays: Arrays, name: str = "path") -> Journal:
    """Create the file of a new measurement and open it for writing.

    Parameters
    ----------
    path : Path
        The file, which must not exist.
    header : mapping
        Description of the measurement, in plain types.
    arrays : mapping
        The first entries of arrays. They may be empty; they then define the type and the shape of an entry.
    name : str
        Name of the path in messages.

    Raises
    ------
    ValueError
        If the file exists, or its folder cannot be written.
    """
    with new_file(path, name) as temporary:
        line = json.dumps(header, allow_nan=False).encode()
        temporary.write_bytes(b"".join([MAGIC, encode_head([line], 0), line, *encode_record(arrays)[1]]))
    return Journal(path, True, name)


def is_journal(path: Path) -> bool:
    """Whether the file begins with the `MAGIC` bytes of a journal."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def encode_record(arrays: Arrays) -> tuple[dict[str, tuple[str, list[int]]], list[bytes | memoryview]]:
    """Description of a record and its bytes: head, line, arrays."""
    kept = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    about = {name: (values.dtype.str, list(values.shape)) for name, values in kept.items()}
    line = json.dumps(about).encode()
    data = [values.reshape(-1).view(np.uint8).data for values in kept.values()]
    return about, [encode_head([line, *data], sum(len(part) for part in data)), line, *data]


def encode_head(parts: Iterable[bytes | memoryview], data: int) -> bytes:
    """Head of a record whose line and arrays are `parts`, with `data` bytes of arrays."""
    checksum, size = 0, -data
    for part in parts:
        checksum, size = zlib.crc32(part, checksum), size + len(part)
    summed = HEAD.pack(size, data, checksum, 0)[:HEAD_SUMMED]
    return summed + struct.pack("<I", zlib.crc32(summed))


def write_all(file: BinaryIO, part: bytes | memoryview) -> None:
    """Write to an unbuffered file, which may accept only a part at a time."""
    rest = memoryview(part)
    while len(rest):
        rest = rest[file.write(rest) :]
