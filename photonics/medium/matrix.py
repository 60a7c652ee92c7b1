"""A transmission matrix that the user brings, from memory or from a file."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import InitVar
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import h5py
import numpy as np

from photonics import draws
from photonics.arrays import ComplexArray, HostArray
from photonics.component import Field, component
from photonics.medium.stored import StoredMedium
from photonics.random import Stream

__all__ = ["MatrixMedium"]


@component(kw_only=False, eq=False)
class MatrixMedium(StoredMedium):
    """A medium given by its transmission matrix, which is used as it is (not rescaled).

    This package's normalisation is ``E|t_ij|^2 = 1/n_in``: all inputs ON at unit amplitude then give unit mean
    intensity. Another scale only changes the exposure that the camera needs.

    Either `matrix` or `path` is given.

    Raises
    ------
    ValueError
        If the matrix is not a finite, numeric matrix of at least 1 x 1, or the file cannot be read, has another digest
        or holds no such matrix.
    """

    matrix: InitVar[Any] = None
    """Transmission matrix, array_like of real or complex, shape (n_out, n_in). It is copied."""

    path: str | None = None
    """File that holds the matrix: ``.npy``, ``.npz`` or HDF5 (``.h5``, ``.hdf5``). Nothing is ever unpickled."""

    sha256: str | None = None
    """Digest that the file must have; the digest of the file if not given."""

    key: str | None = None
    """Name of the array in an ``.npz`` or HDF5 file; not needed if the file holds a single array."""

    _matrix: ComplexArray = Field(init=False, repr=False)

    def __post_init__(self, matrix: Any) -> None:
        if (matrix is None) == (self.path is None):
            raise ValueError("either matrix or path must be given, got " + ("neither" if matrix is None else "both"))
        if self.path is None:
            columns, digest = as_columns(matrix), None
        else:
            columns, digest = read_matrix(Path(self.path), self.key, self.sha256)
        object.__setattr__(self, "_matrix", columns)
        object.__setattr__(self, "sha256", digest)

    @classmethod
    def load(cls, path: str | Path, key: str | None = None, sha256: str | None = None) -> "MatrixMedium":
        """Read a matrix from ``.npy``, ``.npz`` or HDF5 (``.h5``, ``.hdf5``); see the fields for the arguments.

        The file is read whole, so that its digest and its content are those of one moment: for a while the memory
        holds the file and the matrix.
        """
        return cls(path=str(path), key=key, sha256=sha256)

    def __repr__(self) -> str:
        source = "" if self.path is None else f", path={self.path!r}, sha256={self.sha256!r}, key={self.key!r}"
        return f"MatrixMedium({self.shape[0]} x {self.shape[1]}{source})"

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self._matrix.shape[1], self._matrix.shape[0]

    @property
    def _columns(self) -> ComplexArray:
        return self._matrix

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return int(self._digest[:16], 16)

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of the matrix in memory."""
        return hashlib.sha256(self._matrix.tobytes()).hexdigest()

    def fresh(self, seed: int) -> "MatrixMedium":
        """Return the matrix with an independent random phase on every entry: the same magnitudes, nothing in common."""
        index = np.arange(self.shape[0] * self.shape[1])
        phase = 2.0 * np.pi * draws.uniforms(seed, Stream.MATRIX_PHASE, index).reshape(self.shape)
        return MatrixMedium(self.block(slice(None), slice(None)) * np.exp(1j * phase))

    def to_dict(self) -> dict[str, Any]:
        """Plain description: the file, or shape and digest of a matrix from memory, which cannot be made again."""
        if self.path is None:
            return {"type": "MatrixMedium", "shape": list(self.shape), "sha256": self._digest}
        source = {"type": "MatrixMedium", "path": self.path, "sha256": self.sha256}
        return source if self.key is None else source | {"key": self.key}


def as_columns(matrix: Any) -> ComplexArray:
    """Return a copy of the transposed matrix, complex64 in C order: (n_in, n_out).

    Raises
    ------
    ValueError
        If it is not a finite, numeric matrix of at least 1 x 1.
    """
    array = np.asarray(matrix)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"matrix must have shape (n_out, n_in), got {array.shape}")
    if array.dtype.kind not in "biufc":
        raise ValueError(f"matrix must be real or complex, got dtype {array.dtype}")
    with np.errstate(over="ignore"):
        array = array.astype(np.complex64, copy=False)
    if not np.isfinite(array).all():
        raise ValueError("matrix must be finite in single precision, got NaN or infinity")
    return np.array(array.T, order="C")


def read_matrix(path: Path, key: str | None, sha256: str | None) -> tuple[ComplexArray, str]:
    """Read a file and check its digest; return the transposed matrix and the digest.

    Raises
    ------
    ValueError
        If the file cannot be read, has another digest, or holds no such matrix.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"path must be a readable file, got {path} ({error.strerror})") from None
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ValueError(f"{path} must have SHA-256 {sha256}, got {digest}")
    try:
        return as_columns(read_array(content, path, key)), digest
    except (ValueError, OSError, EOFError, KeyError, TypeError, BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from None


def read_array(content: bytes, path: Path, key: str | None) -> HostArray:
    """Return the array of that name, or the only one, from the content of a .npy, .npz or HDF5 file."""
    suffix, file = path.suffix.lower(), io.BytesIO(content)
    if suffix in (".npy", ".npz"):
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray) != (suffix == ".npy"):
            raise ValueError(f"the content must be that of a {suffix} file")
        return loaded if isinstance(loaded, np.ndarray) else loaded[choose_name(loaded.files, key)]
    if suffix in (".h5", ".hdf5"):
        with h5py.File(file, "r") as tree:
            names: list[str] = []
            tree.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
            return np.asarray(tree[choose_name(names, key)])
    raise ValueError("the name must end in .npy, .npz, .h5 or .hdf5")


def choose_name(names: Sequence[str], key: str | None) -> str:
    """Return the name of the array to read: the one asked for, or the only one there is."""
    if key is None and len(names) == 1:
        return names[0]
    wanted = "" if key is None else key.strip("/")
    if wanted not in names:
        raise ValueError(f"key must be one of {list(names)}, got {key!r}")
    return wanted
