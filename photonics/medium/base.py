"""The interface of all scattering media, a share of their outputs, and the checks of fields and frame numbers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from photonics.arrays import Array, ComplexArray, IntArray, shape_text
from photonics.backend import backend_of
from photonics.component import integer
from photonics.draws import MAX_TICK

__all__ = ["Rows", "ScatteringMedium", "Wrapper", "check_field", "check_rows", "check_ticks"]


class ScatteringMedium(ABC):
    """A linear medium with transmission matrix T of shape (n_out, n_in), ``E|t_ij|^2 = 1/n_in``.

    All inputs ON at unit amplitude give unit mean intensity in this unit; `photonics.Imaging` takes it back to light.

    Fields may be arrays of any library that `photonics.backend` knows; the result is an array of the same library.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n_out, n_in)."""

    @property
    def modes(self) -> int:
        """Number of fields that do not interfere on the sensor (polarisations, wavelengths).

        A medium of several modes stacks them along its outputs, mode after mode, each scaled so that a pixel's
        intensity is the sum over its modes.
        """
        return 1

    @property
    def path_time_spread_s(self) -> float:
        """Spread of transit times through the medium, seconds; it matters only for a finite linewidth."""
        return 0.0

    @property
    def holds_matrix(self) -> bool:
        """Whether the medium keeps its matrix in memory."""
        return False

    @property
    def holds_ballistic(self) -> bool:
        """Whether some light is not scattered; this light is the same in all fresh copies of the medium."""
        return False

    @abstractmethod
    def propagate(self, field: Array, ticks: Array = None) -> Array:
        """Field behind the medium, ``T @ x`` for each row: (batch, n_in) -> (batch, n_out).

        Parameters
        ----------
        field : array of bool, real or complex, shape (batch, n_in)
            A real field costs half as much as a complex one.
        ticks : ndarray of int64, shape (batch,), optional
            Frame numbers; only a medium that changes in time uses them. Frame 0 by default.

        Returns
        -------
        array of complex64, shape (batch, n_out)

        Raises
        ------
        ValueError
            If the shape is wrong or an entry is not finite.
        """

    @abstractmethod
    def adjoint(self, field: Array, ticks: Array = None) -> Array:
        """Conjugate transpose, ``T^H @ y`` for each row: (batch, n_out) -> (batch, n_in)."""

    @abstractmethod
    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:
        """Dense copy of ``T[rows, cols]`` in frame `tick`, complex64."""

    @property
    @abstractmethod
    def identity(self) -> int:
        """64-bit number that distinguishes this medium from others of its kind; derived media depend on it."""

    @abstractmethod
    def fresh(self, seed: int) -> "ScatteringMedium":
        """Return an independent medium with the same statistics."""

    def with_fixed_storage(self) -> "ScatteringMedium":
        """Return the same medium, with nothing left that depends on the memory of the machine."""
        return self

    @property
    def first_row(self) -> int:
        """Number of the first output in the whole medium, of which this one may be a share."""
        return 0

    def rows(self, start: int, stop: int) -> "ScatteringMedium":
        """Medium of the outputs from `start` to before `stop` of each mode, bit for bit those of this medium.

        By default all outputs are computed, and a slice is read: the memory and time of the whole medium. A medium
        whose rows can be computed alone replaces this method.

        Raises
        ------
        ValueError
            If the medium has no such outputs, or none is left.
        """
        return Rows(self, start, stop)

    def to_dict(self) -> dict[str, Any]:
        """Plain description; `photonics.medium.from_dict` makes the same medium from it.

        Raises
        ------
        NotImplementedError
            If the medium is not a component.
        """
        if not is_dataclass(self):
            raise NotImplementedError(f"{type(self).__name__} is not a component, so it has no description")
        return {"type": type(self).__name__} | {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    def __getstate__(self) -> dict[str, Any]:
        """Only the parameters; derived values are recomputed when needed."""
        return {f.name: getattr(self, f.name) for f in fields(self)} if is_dataclass(self) else vars(self)


class Wrapper(ScatteringMedium):
    """A medium around another one, `medium`. It passes everything through; subclasses override methods."""

    medium: ScatteringMedium
    """The medium inside."""

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.medium.shape

    @property
    def modes(self) -> int:  # noqa: D102 (inherited)
        return self.medium.modes

    @property
    def path_time_spread_s(self) -> float:  # noqa: D102 (inherited)
        return self.medium.path_time_spread_s

    @property
    def holds_ballistic(self) -> bool:  # noqa: D102 (inherited)
        return self.medium.holds_ballistic

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self.medium.propagate(field, ticks)

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self.medium.adjoint(field, ticks)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        return self.medium.block(rows, cols, tick)

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return self.medium.identity

    @property
    def first_row(self) -> int:  # noqa: D102 (inherited)
        return self.medium.first_row


@dataclass(frozen=True, eq=False)
class Rows(Wrapper):
    """The outputs from `start` to before `stop` of each mode of a medium that computes all of them."""

    medium: ScatteringMedium
    start: int
    stop: int

    def __post_init__(self) -> None:
        check_rows(self.medium, self.start, self.stop)

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.modes * (self.stop - self.start), self.medium.shape[1]

    @property
    def first_row(self) -> int:  # noqa: D102 (inherited)
        return self.medium.first_row + self.start

    @property
    def _kept(self) -> IntArray:
        """Outputs of the whole medium that are kept, mode after mode."""
        first = np.arange(self.modes)[:, None] * (self.medium.shape[0] // self.modes)
        return (first + np.arange(self.start, self.stop)).ravel()

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        whole = self.medium.propagate(field, ticks)
        backend = backend_of(whole)
        return backend.xp.take(whole, backend.asarray(self._kept), axis=1)

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        field = check_field(field, self.shape[0])
        whole = backend_of(field).zeros((field.shape[0], self.medium.shape[0]), "complex64")
        share, n = self.stop - self.start, self.medium.shape[0] // self.modes
        for mode in range(self.modes):
            whole[:, mode * n + self.start : mode * n + self.stop] = field[:, mode * share : (mode + 1) * share]
        return self.medium.adjoint(whole, ticks)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        return self.medium.block(slice(None), cols, tick)[self._kept[rows]]

    def fresh(self, seed: int) -> ScatteringMedium:  # noqa: D102 (inherited)
        return self.medium.fresh(seed).rows(self.start, self.stop)

    def with_fixed_storage(self) -> ScatteringMedium:  # noqa: D102 (inherited)
        return self.medium.with_fixed_storage().rows(self.start, self.stop)


def plain(value: object) -> object:
    """Return a parameter in a type of JSON and TOML."""
    if isinstance(value, ScatteringMedium):
        return value.to_dict()
    return list(value) if isinstance(value, tuple) else value


def check_rows(medium: ScatteringMedium, start: int, stop: int) -> None:
    """Raise a ``ValueError`` unless a mode of a medium has outputs from `start` to before `stop`, at least one."""
    n_out = medium.shape[0] // medium.modes
    integer(stop, "stop", integer(start, "start", 0, n_out - 1) + 1, n_out)


def check_field(field: Array, width: int, binary: bool = False) -> Array:
    """Return `field` as a (batch, width) float32 or complex64 array of its own library.

    With `binary`, bools on a device other than the host remain bools: a quarter of the memory, and exact.

    Raises
    ------
    ValueError
        If the shape or the type is wrong, or an entry is not finite.
    """
    backend = backend_of(field)
    xp = backend.xp
    array = np.asarray(field) if backend.on_host else field
    if array.ndim != 2 or array.shape[1] != width:
        shape = shape_text(field, array) if backend.on_host else tuple(array.shape)
        raise ValueError(f"field must have shape (batch, {width}), got {shape}")
    if backend.on_host and array.dtype.kind not in "biufc":
        raise ValueError(f"field must be bool, real or complex, got dtype {array.dtype}")
    if binary and not backend.on_host and array.dtype == xp.bool:
        return array
    complex_ = xp.isdtype(array.dtype, "complex floating")
    given, array = array, xp.astype(array, xp.complex64 if complex_ else xp.float32, copy=False)
    # Reading values would wait for a GPU and bring a number back to the host, so the host alone makes these checks.
    if backend.on_host and not np.isfinite(array).all():
        raise ValueError("field must be finite, got NaN or infinity")
    if backend.on_host and given.dtype.itemsize > array.dtype.itemsize and not array.any() and given.any():
        raise ValueError(f"field must not vanish in single precision, got at most {np.abs(given).max():.3g}")
    return array


def check_ticks(ticks: Array, batch: int) -> IntArray:
    """Return frame numbers as int64 of shape (batch,), 0 by default.

    Raises
    ------
    ValueError
        If they are not integers, of another shape or out of range.
    """
    if ticks is None:
        return np.zeros(batch, np.int64)
    array = np.asarray(ticks)
    if array.shape != (batch,) or (batch and array.dtype.kind not in "iu"):
        raise ValueError(f"ticks must be integers of shape ({batch},), got {array.dtype} of shape {array.shape}")
    if batch and not (array.min() >= 0 and array.max() < MAX_TICK):
        raise ValueError(f"ticks must be from 0 to 2**48 - 1, got {array.min()} to {array.max()}")
    return array.astype(np.int64)
