"""HDF5 files of finished results."""

import errno
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import DTypeLike

from calibration.storage.files import new_file, reason_of
from photonics.matrix_files import MAX_COMPRESSION

__all__ = [
    "LIBRARY_VERSIONS",
    "check_room",
    "create_hdf5",
    "dataset",
    "get_attributes",
    "lay_out",
    "new_hdf5",
    "set_attributes",
]

LIBRARY_VERSIONS = ("v110", "v110")
"""Oldest and newest HDF5 file format that is written. Since 1.10 its metadata have checksums."""

SPARE_BYTES = 2**18
"""Room that a file needs beside its large arrays."""


@contextmanager
def new_hdf5(path: str | Path, name: str = "out") -> Iterator[h5py.File]:
    """Open an HDF5 file that appears at `path` when the block ends without an error, and never replaces another.

    Raises
    ------
    ValueError
        If `path` exists at the start or at the end of the block, or its folder cannot be written. The message calls the
        path `name`.
    """
    with new_file(path, name) as temporary, create_hdf5(temporary) as file:
        yield file


@contextmanager
def create_hdf5(path: Path) -> Iterator[h5py.File]:
    """Create an HDF5 file; an ``OSError`` if the disk is full, also when the file is closed."""
    file = h5py.File(path, "w", libver=LIBRARY_VERSIONS)
    try:
        yield file
    except BaseException:
        with suppress(RuntimeError, OSError):  # of the rest that cannot be written either
            file.close()
        raise
    try:
        file.close()
    except RuntimeError as error:
        raise OSError(reason_of(OSError(str(error)))) from None


def check_room(path: Path, size: int) -> None:
    """Raise an ``OSError`` if the disk has no room for `size` bytes more. HDF5 may crash on a disk that gets full."""
    if shutil.disk_usage(path.parent).free < size + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set by name.

    Raises
    ------
    ValueError
        If it is a group, its data are in another file, or it declares more than the file can hold.
    """
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name} must be a data set in {file.filename}, got a {type(found).__name__}")
    if found.external or found.is_virtual or found.file.filename != file.filename:
        raise ValueError(f"{name} must be in {file.filename} itself, got a data set whose data are in another file")
    stored = found.id.get_storage_size() * (MAX_COMPRESSION if found.chunks else 1)
    if found.nbytes > stored:
        raise ValueError(f"{name} must be stored in {file.filename}, got a shape of {found.shape} without its data")
    return found


def set_attributes(attributes: h5py.AttributeManager, values: Mapping[str, str | float]) -> None:
    """Set attributes. Strings get a fixed length, because HDF5 has no checksum for strings of variable length."""
    for name, value in values.items():
        attributes[name] = np.bytes_(value.encode("ascii")) if isinstance(value, str) else value


def get_attributes(attributes: h5py.AttributeManager) -> dict[str, Any]:
    """Attributes by name; strings of either kind as `str`."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}


def lay_out(file: h5py.File, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> h5py.Dataset:
    """Make a contiguous data set, so that it can be mapped into memory; it is zero until written."""
    check_room(Path(file.filename), math.prod(shape) * np.dtype(dtype).itemsize)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, properties)
    return dataset(file, name)
