"""A transmission matrix supplied by the user, from memory or from a file."""

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import InitVar
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from photonics import draws
from photonics.arrays import ComplexArray, HostArray, shape_text
from photonics.component import Field, component
from photonics.kernels.panels import Panels
from photonics.matrix_files import free_bytes, read_array
from photonics.medium.stored import StoredMedium, StoredRows
from photonics.random import Stream

__all__ = ["MatrixMedium"]

MIN_MODULUS, MAX_MODULUS = 1e-18, 1e9
"""Range of the largest modulus of an entry: beyond it, intensities are 0 or infinite in single precision."""
ALL = slice(None)
MAX_VALUES = 2**18
"""Entries that are copied together."""
MAX_DRAWN = 2**16
"""Entries whose phases are drawn together: some 80 bytes each."""
PAIRS = {("r", "i"), ("re", "im"), ("real", "imag")}
"""Names, in lower case, of the two fields of a complex number that a file holds as a record."""


@component(kw_only=False, eq=False)
class MatrixMedium(StoredMedium):
    """A medium given by its transmission matrix, which is rescaled only if `normalise` is set.

    This package's normalisation is ``E|t_ij|^2 = 1/n_in``: all inputs ON at unit amplitude then give unit mean
    intensity. A matrix of another scale sends more or less light to the camera; a longer exposure compensates for less
    light only within the camera's limits.

    Either `matrix` or `path` is given.

    Raises
    ------
    ValueError
        If the matrix is not a finite, numeric matrix of at least 1 x 1, its entries vanish in single precision, or the
        file cannot be read, has another digest or holds no such matrix.
    """

    matrix: InitVar[Any] = None
    """Transmission matrix, array_like of real or complex, shape (n_out, n_in). It is copied. Records of a real and an
    imaginary part count as complex."""

    path: str | None = None
    """File that holds the matrix: ``.npy``, ``.npz``, HDF5 (``.h5``, ``.hdf5``) or MATLAB (``.mat``). Nothing is ever
    unpickled, and no other file is read."""

    sha256: str | None = None
    """Digest that the file must have; the digest of the file if not given."""

    key: str | None = None
    """Name of the array in an ``.npz``, HDF5 or MATLAB file; not needed if the file holds a single array."""

    normalise: bool = False
    """Whether to scale the matrix to ``E|t_ij|^2 = 1/n_in``, the mean over all entries."""

    _matrix: Panels = Field(init=False, repr=False)

    def __post_init__(self, matrix: Any) -> None:
        if (matrix is None) == (self.path is None):
            raise ValueError("either matrix or path must be given, got " + ("neither" if matrix is None else "both"))
        if self.path is None:
            panels = matrix if isinstance(matrix, Panels) else as_panels(matrix, self.normalise)  # Panels of `fresh`
            digest = None
        else:
            panels, digest = read_matrix(Path(self.path), self.key, self.sha256, self.normalise)
        object.__setattr__(self, "_matrix", panels)
        object.__setattr__(self, "sha256", digest)

    @classmethod
    def load(
        cls, path: str | Path, key: str | None = None, sha256: str | None = None, normalise: bool = False
    ) -> "MatrixMedium":
        """Read a matrix from a NumPy, HDF5 or MATLAB file; see the fields for the arguments.

        The file is read whole, so that its digest and its content are those of one moment: for a while the memory
        holds the file and the matrix, of a ``.mat`` file before MATLAB 7.3 and the matrix twice.
        """
        return cls(path=str(path), key=key, sha256=sha256, normalise=normalise)

    def __repr__(self) -> str:
        source = "" if self.path is None else f", path={self.path!r}, sha256={self.sha256!r}, key={self.key!r}"
        return f"MatrixMedium({self.shape[0]} x {self.shape[1]}{source})"

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self._matrix.n_out, self._matrix.n_in

    @property
    def _panels(self) -> Panels:
        return self._matrix

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return int(self._digest[:16], 16)

    @cached_property
    def transmission(self) -> float:
        """Mean of ``n_in |t_ij|^2`` over all entries: 1 for a normalised matrix."""
        energy = sum(float(np.sum(np.abs(part) ** 2, dtype=np.float64)) for part in self._parts())
        return energy / self.shape[0]

    @cached_property
    def _digest(self) -> str:
        """SHA-256 of the transposed matrix, complex64 in C order."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part.data)
        return digest.hexdigest()

    def _parts(self) -> Iterator[ComplexArray]:
        """Copies of the transposed matrix, some inputs at a time."""
        n_out, n_in = self.shape
        together = max(MAX_VALUES // n_out, 1)
        return (self._matrix.read(slice(first, first + together), ALL) for first in range(0, n_in, together))

    def rows(self, start: int, stop: int) -> StoredRows:
        """Medium of some outputs; the whole matrix stays in memory, and the share is a copy."""
        return StoredRows(self, start, stop)

    def fresh(self, seed: int) -> "MatrixMedium":
        """Return the matrix with an independent random phase on every entry: equal magnitudes, but uncorrelated."""
        (n_out, n_in), panels = self.shape, Panels(*self.shape[::-1])
        together = max(MAX_DRAWN // n_out, 1)
        for first in range(0, n_in, together):
            part = self._matrix.read(slice(first, first + together), ALL)
            index = np.arange(n_out) * n_in + np.arange(first, first + len(part))[:, None]
            phase = 2.0 * np.pi * draws.uniforms(seed, Stream.MATRIX_PHASE, index).reshape(part.shape)
            panels.write(first, (part * np.exp(1j * phase)).astype(np.complex64).view(np.float32))
        return MatrixMedium(panels)

    def to_dict(self) -> dict[str, Any]:
        """Plain description: the file, or shape and digest of a matrix from memory, which cannot be restored."""
        if self.path is None:
            return {"type": "MatrixMedium", "shape": list(self.shape), "sha256": self._digest}
        source = {"type": "MatrixMedium", "path": self.path, "sha256": self.sha256}
        source |= {} if self.key is None else {"key": self.key}
        return source | {"normalise": True} if self.normalise else source


def as_panels(matrix: Any, normalise: bool) -> Panels:
    """Return a copy of a matrix, in the order in which products read it.

    Raises
    ------
    ValueError
        If it is not a finite, numeric matrix of at least 1 x 1, or vanishes or overflows in single precision.
    """
    array = as_numbers(np.asarray(matrix))
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"matrix must have shape (n_out, n_in), got {shape_text(matrix, array)}")
    if array.dtype.kind not in "biufc":
        raise ValueError(f"matrix must be real or complex, got dtype {array.dtype}")
    array = array.astype(np.float64) if array.dtype.kind in "biu" else array
    largest = float(np.abs(array).max())
    if not np.isfinite(largest):
        raise ValueError("matrix must be finite, got NaN or infinity")
    if normalise:
        if not largest:
            raise ValueError("matrix must not be zero everywhere to be normalised, got zeros")
        array = array / largest
        array *= (array.shape[1] * np.mean(np.abs(array) ** 2, dtype=np.float64)) ** -0.5
    elif largest and not MIN_MODULUS <= largest <= MAX_MODULUS:
        raise ValueError(
            f"matrix must have a largest modulus from {MIN_MODULUS:g} to {MAX_MODULUS:g}, or be scaled by "
            f"normalise=True, got {largest:.3g}"
        )
    n_out, n_in = array.shape
    panels, together = Panels(n_in, n_out), max(MAX_VALUES // n_out, 1)
    for first in range(0, n_in, together):
        columns = array[:, first : first + together].T.astype(np.complex64, order="C")
        panels.write(first, columns.view(np.float32))
    return panels


def as_numbers(array: HostArray) -> HostArray:
    """Return records of a real and an imaginary part as complex numbers, and any other array unchanged."""
    names = array.dtype.names or ()
    if tuple(name.lower() for name in names) not in PAIRS:
        return array
    real, imaginary = (array[name] for name in names)
    return real + 1j * imaginary


def read_matrix(path: Path, key: str | None, sha256: str | None, normalise: bool) -> tuple[Panels, str]:
    """Read a file and check its digest; return the transposed matrix and the digest.

    Raises
    ------
    ValueError
        If the file cannot be read, has another digest, or holds no such matrix.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        if status.st_size > free_bytes():
            raise OSError(0, f"{status.st_size / 1e9:.3g} GB, which is more than the free memory")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"path must be a readable file, got {path} ({error.strerror})") from None
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        raise ValueError(f"{path} must have SHA-256 {sha256}, got {digest}")
    try:
        array = read_array(content, path, key)
        del content  # the matrix takes its place
        return as_panels(array, normalise), digest
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
