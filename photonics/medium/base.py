"""What every scattering medium answers, and the product that they share."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.backend import backend_of

__all__ = ["ScatteringMedium", "check_field"]


class ScatteringMedium(ABC):
    """A linear medium with transmission matrix T of shape (n_out, n_in), ``E|t_ij|^2 = 1/n_in``.

    Fields may be arrays of any library that `photonics.backend` knows; the answer is of the same.
    """

    modes: int = 1
    """Fields that a sensor sees independently of each other (polarisations, wavelengths). A medium of several stacks
    them along its outputs, mode after mode, each scaled so that a pixel's intensity is the sum over its modes."""

    path_time_s: float = 0.0
    """Spread of the times that light takes through the medium, seconds: only a laser of finite linewidth notices."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(n_out, n_in)."""

    @abstractmethod
    def propagate(self, field: Any, ticks: Any = None) -> Any:
        """Field behind the medium, ``T @ x`` for each row: (batch, n_in) -> (batch, n_out).

        Parameters
        ----------
        field : array of bool, real or complex, shape (batch, n_in)
            A real field costs half of a complex one.
        ticks : ndarray of int64, shape (batch,), optional
            Frame numbers, which only a medium that changes in time looks at; frame 0 if not given.

        Returns
        -------
        array of complex64, shape (batch, n_out)

        Raises
        ------
        ValueError
            If the shape is wrong or an entry is not finite.
        """

    @abstractmethod
    def adjoint(self, field: Any, ticks: Any = None) -> Any:
        """Conjugate transpose, ``T^H @ y`` for each row: (batch, n_out) -> (batch, n_in)."""

    @abstractmethod
    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:
        """Dense copy of ``T[rows, cols]`` as it is in frame `tick`, complex64."""

    @property
    @abstractmethod
    def identity(self) -> int:
        """64-bit number that tells this medium from others of its kind; what is derived from it follows it."""

    @abstractmethod
    def fresh(self, seed: int) -> "ScatteringMedium":
        """Return another medium with the same statistics that has nothing in common with this one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain description; `photonics.medium.from_dict` makes the same medium from it, if it is not from memory."""
        raise NotImplementedError


def check_field(field: Any, width: int, name: str = "field", binary: bool = False) -> Any:
    """Return `field` as a (batch, width) float32 or complex64 array of its own library, or say what is wrong.

    With `binary`, bools that are not on the host stay what they are: a quarter of the memory, and exact.
    """
    backend = backend_of(field)
    xp = backend.xp
    array = np.asarray(field) if backend.on_host else field
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} must have shape (batch, {width}), got {tuple(array.shape)}")
    if backend.on_host and array.dtype.kind not in "biufc":
        raise ValueError(f"{name} must be bool, real or complex, got dtype {array.dtype}")
    if binary and not backend.on_host and array.dtype == xp.bool:
        return array
    complex_ = xp.isdtype(array.dtype, "complex floating")
    array = xp.astype(array, xp.complex64 if complex_ else xp.float32, copy=False)
    # A check that reads values would wait for a GPU and bring a number back to the host: it is the host's alone.
    if backend.on_host and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array
