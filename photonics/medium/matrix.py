"""A transmission matrix that the user brings, from memory or from a file."""

import hashlib
import io
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import h5py
import numpy as np
from numpy.typing import NDArray

from photonics import draws
from photonics.medium.stored import StoredMedium
from photonics.random import Stream

__all__ = ["MatrixMedium"]


class MatrixMedium(StoredMedium):
    """A medium given by its transmission matrix, used as it is (it is not rescaled).

    Parameters
    ----------
    matrix : array_like of real or complex, shape (n_out, n_in)
        The house's convention is ``E|t_ij|^2 = 1/n_in``: all inputs ON at unit amplitude then give unit mean
        intensity. Another scale only changes the exposure that the camera needs.

    Raises
    ------
    ValueError
        If it is not a finite, numeric matrix of at least 1 x 1.
    """

    def __init__(self, matrix: Any) -> None:
        array = np.asarray(matrix)
        if array.ndim != 2 or array.size == 0:
            raise ValueError(f"matrix must have shape (n_out, n_in), got {array.shape}")
        if array.dtype.kind not in "biufc":
            raise ValueError(f"matrix must be real or complex, got dtype {array.dtype}")
        with np.errstate(over="ignore"):
            array = array.astype(np.complex64, copy=False)
        if not np.isfinite(array).all():
            raise ValueError("matrix must be finite in single precision, got NaN or infinity")
        self._matrix = np.array(array.T, order="C")  # a copy: what the user does to theirs changes nothing here
        self._source: dict[str, str] | None = None

    @classmethod
    def load(cls, path: str | Path, key: str | None = None, sha256: str | None = None) -> "MatrixMedium":
        """Read a matrix from ``.npy``, ``.npz`` or HDF5 (``.h5``, ``.hdf5``).

        Parameters
        ----------
        path : str or Path
            The file. Object arrays are refused: nothing is ever unpickled.
        key : str, optional
            Name of the array in an ``.npz`` or HDF5 file; not needed if it holds a single one.
        sha256 : str, optional
            Digest that the file must have.

        Raises
        ------
        ValueError
            If the file cannot be read, has another digest, or holds no such matrix.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"path must be a readable file, got {path} ({error.strerror})") from None
        digest = hashlib.sha256(content).hexdigest()
        if sha256 is not None and digest != sha256:
            raise ValueError(f"{path} must have SHA-256 {sha256}, got {digest}")
        try:
            medium = cls(read_array(content, path, key))
        except (ValueError, OSError, EOFError, KeyError, TypeError, BadZipFile) as error:
            raise ValueError(f"{path}: {error}") from None
        medium._source = {"path": str(path), "sha256": digest} | ({"key": key} if key else {})
        return medium

    def __repr__(self) -> str:
        return f"MatrixMedium({self.shape[0]} x {self.shape[1]}, source={self._source})"

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self._matrix.shape[1], self._matrix.shape[0]

    @property
    def _columns(self) -> NDArray[np.complex64]:
        return self._matrix

    @cached_property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return int(hashlib.sha256(self._matrix.tobytes()).hexdigest()[:16], 16)

    def fresh(self, seed: int) -> "MatrixMedium":
        """Return the matrix with an independent random phase on every entry: the same magnitudes, nothing in common."""
        index = np.arange(self.shape[0] * self.shape[1])
        phase = 2.0 * np.pi * draws.uniforms(seed, Stream.MATRIX_PHASE, index).reshape(self.shape)
        return MatrixMedium(self.block(slice(None), slice(None)) * np.exp(1j * phase))

    def to_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        if self._source is None:  # says which matrix it was, from which none can be made
            digest = hashlib.sha256(self._matrix.tobytes()).hexdigest()
            return {"type": "MatrixMedium", "shape": list(self.shape), "sha256": digest}
        return {"type": "MatrixMedium", **self._source}


def read_array(content: bytes, path: Path, key: str | None) -> NDArray[Any]:
    """Return the array of that name, or the only one, from the content of a .npy, .npz or HDF5 file."""
    suffix, file = path.suffix.lower(), io.BytesIO(content)
    if suffix == ".npy":
        return np.lib.format.read_array(file, allow_pickle=False)
    if suffix == ".npz":
        with ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            with archive.open(f"{choose(names, key)}.npy") as member:
                return np.lib.format.read_array(member, allow_pickle=False)
    if suffix in (".h5", ".hdf5"):
        with h5py.File(file, "r") as tree:
            names = []
            tree.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Dataset) else None)
            return np.asarray(tree[choose(names, key)])
    raise ValueError("the name must end in .npy, .npz, .h5 or .hdf5")


def choose(names: list[str], key: str | None) -> str:
    """Pick the array to read: the one asked for, or the only one there is."""
    if key is None and len(names) == 1:
        return names[0]
    wanted = None if key is None else key.strip("/")
    if wanted not in names:
        raise ValueError(f"key must be one of {names}, got {key!r}")
    return wanted
