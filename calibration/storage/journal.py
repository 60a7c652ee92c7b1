"""A recording under way: a plain file that grows by whole records, so that a process that is killed loses none.

The file begins with `MAGIC`. A record is the length and the CRC-32 of what follows, a line of JSON, and the bytes of
arrays; the first one has no arrays and says what the recording is of. A record that was cut off ends the file.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from calibration.storage.frames import lock

__all__ = ["MAGIC", "Columns", "Journal", "is_journal", "read_journal"]

MAGIC = b"opu-sim recording under way 1\n"
MAGIC_END = len(MAGIC)
HEAD = struct.Struct("<QI")

Columns = Mapping[str, NDArray[Any]]
"""Arrays by the name of their data set, one entry per frame."""


class Journal:
    """Appends records to a new file, or to one that a killed process left.

    Raises
    ------
    ValueError
        If the file cannot be written, is no journal, or another process writes to it.
    """

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise ValueError(f"path must be in a folder that can be written, got {path} ({error.strerror})") from None
        try:
            lock(self._file, path)
            if os.fstat(self._file.fileno()).st_size:
                self._file.truncate(max((end for _, end in records(self._file, path)), default=MAGIC_END))
            else:
                self._file.write(MAGIC)
                self._write(dict(attributes), [])
        except ValueError:
            self._file.close()
            raise

    def append(self, columns: Columns) -> None:
        """Add a record; it is on disk when this returns."""
        arrays = {name: np.ascontiguousarray(values) for name, values in columns.items()}
        self._write(
            {name: [a.dtype.str, a.shape] for name, a in arrays.items()}, [a.tobytes() for a in arrays.values()]
        )

    def _write(self, about: Mapping[str, Any], parts: list[bytes]) -> None:
        content = b"".join([json.dumps(about).encode() + b"\n", *parts])
        self._file.write(HEAD.pack(len(content), zlib.crc32(content)) + content)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()


def is_journal(path: Path) -> bool:
    """Whether the file begins as a journal does."""
    try:
        with open(path, "rb") as file:
            return file.read(MAGIC_END) == MAGIC
    except OSError:
        return False


def read_journal(path: Path) -> tuple[dict[str, Any], Iterator[Columns]]:
    """What a journal is of, and its records one after the other; a last one that was cut off is left out."""
    with open(path, "rb") as file:
        first = next((content for content, _ in records(file, path)), None)
    if first is None:
        raise ValueError(f"path must be a recording, got {path}, which was cut off before its first record")
    return json.loads(first), arrays_of(path)


def arrays_of(path: Path) -> Iterator[Columns]:
    """The arrays of all records but the first."""
    with open(path, "rb") as file:
        for number, (content, _) in enumerate(records(file, path)):
            if number:
                yield arrays(content)


def arrays(content: bytes) -> Columns:
    """The arrays of a record."""
    line, at = content.split(b"\n", 1)[0], 0
    found, data = {}, memoryview(content)[len(line) + 1 :]
    for name, (kind, shape) in json.loads(line).items():
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        found[name] = np.frombuffer(data[at : at + size], kind).reshape(shape)
        at += size
    return found


def records(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int]]:
    """Whole records from the start of the file, and where each ends."""
    file.seek(0)
    if file.read(MAGIC_END) != MAGIC:
        raise ValueError(f"path must be a recording under way, got {path}, which is not one")
    while len(head := file.read(HEAD.size)) == HEAD.size:
        length, checksum = HEAD.unpack(head)
        content = file.read(min(length, os.fstat(file.fileno()).st_size))
        if len(content) < length or zlib.crc32(content) != checksum:
            return
        yield content, file.tell()
