"""Read a matrix from a NumPy, HDF5 or MATLAB file, without trusting the sizes that the file declares.

Nothing is ever unpickled, no other file is opened, and no memory is allocated for an array larger than the file allows.
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
import psutil
import scipy
from numpy.lib import format as npy
from numpy.typing import DTypeLike

from photonics.arrays import HostArray

__all__ = ["MAX_COMPRESSION", "READERS", "array_names", "check_memory", "free_bytes", "read_array"]

MAX_COMPRESSION = 1100
"""Largest ratio of an array to its compressed bytes; deflate reaches 1032."""
MATLAB_NUMBERS = "double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def read_array(content: bytes, path: Path, key: str | None) -> HostArray:
    """Return the array `key`, or the only one, from the content of a file; `READERS` lists the suffixes.

    Raises
    ------
    ValueError
        If the content is damaged, has no such array, or declares an array larger than its data.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        *most, last = READERS
        raise ValueError(f"the name must end in {', '.join(most)} or {last}")
    try:
        return reader(content, key)
    except Exception as error:  # the readers of these formats raise many kinds of errors
        text = str(error).splitlines()
        raise ValueError(text[0] if text else type(error).__name__) from None


def array_names(content: bytes, path: Path) -> list[str]:
    """Names of the arrays of an ``.npz``, HDF5 or MATLAB file; a ``ValueError`` if it is damaged."""
    try:
        if path.suffix.lower() == ".npz":
            with ZipFile(io.BytesIO(content)) as archive:
                return list(members_of(archive))
        if path.suffix.lower() == ".mat" and not is_hdf5(content):
            return [name for name, _, _ in scipy.io.whosmat(io.BytesIO(content))]
        import h5py

        with h5py.File(io.BytesIO(content), "r") as tree:
            return dataset_names(tree)
    except Exception as error:  # the readers of these formats raise many kinds of errors
        raise ValueError(
            f"it is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None


def members_of(archive: ZipFile) -> dict[str, str]:
    """Members of a ``.npz`` file by the names of their arrays."""
    return {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}


def dataset_names(tree: Any) -> list[str]:
    """Names of the data sets of an HDF5 file, without MATLAB's references, which are under ``#``."""
    import h5py

    names: list[str] = []
    tree.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
    return [name for name in names if not name.startswith("#")]


def is_hdf5(content: bytes) -> bool:
    """Whether a file is HDF5, also behind the header of MATLAB 7.3."""
    return b"\x89HDF\r\n\x1a\n" in (content[:8], content[512:520])


def read_npy(content: bytes, key: str | None) -> HostArray:
    """Array of a ``.npy`` file."""
    return read_stream(lambda: io.BytesIO(content), len(content))


def read_npz(content: bytes, key: str | None) -> HostArray:
    """One array of a ``.npz`` file."""
    with ZipFile(io.BytesIO(content)) as archive:
        members = members_of(archive)
        member = archive.getinfo(members[choose_name(list(members), key)])
        if member.file_size > MAX_COMPRESSION * len(content):
            raise ValueError(f"{member.filename} declares {member.file_size} bytes in a file of {len(content)}")
        return read_stream(lambda: archive.open(member), member.file_size)


def read_stream(start: Callable[[], IO[bytes]], size: int) -> HostArray:
    """Array in NumPy's format from a stream of at most `size` bytes, read once for its header and once whole."""
    with start() as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"the format of NumPy must be 1.0 or 2.0, got {version}")
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(stream)
    check_size(shape, dtype, size, 1)
    with start() as stream:
        return npy.read_array(stream, allow_pickle=False)


def read_hdf5(content: bytes, key: str | None) -> HostArray:
    """One dataset of an HDF5 file."""
    import h5py  # takes longer to load than the rest of this package's files

    with h5py.File(io.BytesIO(content), "r") as tree:
        name = choose_name(dataset_names(tree), key)
        dataset = tree[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.hasobject:
            raise ValueError(f"{name} must be a matrix of numbers, got another kind of data")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{name} must be in the file itself, got a dataset whose data are in another file")
        stored = dataset.id.get_storage_size()
        for shape in (dataset.shape or (), dataset.chunks or ()):
            check_size(shape, dataset.dtype, stored, MAX_COMPRESSION if dataset.chunks else 1)
        return np.asarray(dataset)


def read_mat(content: bytes, key: str | None) -> HostArray:
    """One matrix of a MATLAB file: level 5, or 7.3, which is HDF5 with the dimensions in reverse."""
    if is_hdf5(content):
        return read_hdf5(content, key).T
    found = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(io.BytesIO(content))}
    name = choose_name(list(found), key)
    shape, kind = found[name]
    if kind not in MATLAB_NUMBERS:
        raise ValueError(f"{name} must be a full numeric matrix, got a {kind} one")
    check_size(shape, np.uint8, len(content), MAX_COMPRESSION)  # whole numbers may be stored in one byte each
    check_memory(16 * math.prod(shape))
    return scipy.io.loadmat(io.BytesIO(content), variable_names=[name])[name]


READERS: dict[str, Callable[[bytes, str | None], HostArray]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".mat": read_mat,
}
"""Readers by file suffix."""


def choose_name(names: Sequence[str], key: str | None) -> str:
    """Return the name of the array to read: `key`, or the only name."""
    if key is None and len(names) == 1:
        return names[0]
    wanted = "" if key is None else key.strip("/")
    if wanted not in names:
        raise ValueError(f"key must be one of {list(names)}, got {key!r}")
    return wanted


def check_size(shape: Sequence[int], dtype: DTypeLike, stored: int, compression: int) -> None:
    """Raise a ``ValueError`` if an array exceeds its stored bytes times the compression, or the free memory."""
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed > compression * stored:
        raise ValueError(f"an array of shape {tuple(shape)} takes {needed} bytes, but only {stored} are stored")
    check_memory(needed)


def check_memory(needed: int) -> None:
    """Raise a ``ValueError`` if more memory is needed than is free."""
    free = free_bytes()
    if needed > free:
        raise ValueError(f"{needed / 1e9:.3g} GB of memory are needed, {free / 1e9:.3g} GB are free")


def free_bytes() -> int:
    """Return the free memory in bytes."""
    return psutil.virtual_memory().available
