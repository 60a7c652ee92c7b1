"""Array libraries and devices: an array determines which library computes, and no array moves implicitly."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import array_api_compat
import array_api_compat.numpy
import numpy as np

from opu_sim import install_line
from photonics.arrays import Array, HostArray

__all__ = ["HOST", "Backend", "backend_of", "find_backend", "to_host"]


class Backend(NamedTuple):
    """An array library, given by its array-API namespace, and one of its devices."""

    xp: Any
    device: Any

    def __hash__(self) -> int:  # cupy's devices can be compared, but not hashed
        return hash((self.xp, str(self.device)))

    def __reduce__(
        self,
    ) -> tuple[Callable[[str], "Backend"], tuple[str]]:  # a namespace is a module, which cannot be pickled
        if self.on_host:
            return find_backend, ("cpu",)
        return find_backend, (f"cuda:{self.device.id}",)

    @property
    def name(self) -> str:
        """Name of the library: "numpy", "cupy" or another that follows the array API."""
        return self.xp.__name__.rpartition("array_api_compat.")[2]

    @property
    def on_host(self) -> bool:
        """Whether this is numpy."""
        return self.xp is array_api_compat.numpy

    def selected(self) -> AbstractContextManager[Any]:
        """Return a context in which cupy and numba use this GPU; it does nothing for other libraries."""
        return self.device if self.name == "cupy" else nullcontext()

    def check_selected(self) -> None:
        """Raise a ``ValueError`` if this is a GPU, and not the current one: cupy and numba would use that instead."""
        if self.name != "cupy":
            return
        import cupy  # pyright: ignore[reportMissingImports]

        mine, current = self.device.id, cupy.cuda.runtime.getDevice()
        if mine != current:
            raise ValueError(
                f"device 'cuda:{mine}' must be the current GPU, got {current}: call cupy.cuda.Device({mine}).use() "
                "before, in each thread"
            )

    def asarray(self, array: Array, dtype: str | None = None) -> Array:
        """Bring a host array or a number to this backend, with another dtype if given.

        An array that is already on this backend with that dtype is returned unchanged.

        Raises
        ------
        ValueError
            If the array belongs to another library or device, or this is not the current GPU.
        """
        self.check_selected()
        kind = None if dtype is None else getattr(self.xp, dtype)
        if self.on_host:
            require(self, array, "array")  # numpy would silently convert arrays of other libraries in host memory
            return np.asarray(array, kind)
        if array_api_compat.is_array_api_obj(array) and not array_api_compat.is_numpy_array(array):
            require(self, array, "array")
            return array if kind is None else self.xp.astype(array, kind, copy=False)
        if isinstance(array, np.ndarray):
            array = array if array.flags.writeable else array.copy()  # some libraries reject read-only arrays
        return self.xp.asarray(array, dtype=kind, device=self.device)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an uninitialised array on this backend."""
        self.check_selected()
        return self.xp.empty(shape, dtype=getattr(self.xp, dtype), device=self.device)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array of zeros on this backend."""
        self.check_selected()
        return self.xp.zeros(shape, dtype=getattr(self.xp, dtype), device=self.device)


HOST = Backend(array_api_compat.numpy, "cpu")
"""Backend of numpy."""


def backend_of(array: Array) -> Backend:
    """Return the backend of an array; that of numbers, lists and tuples is `HOST`.

    Raises
    ------
    ValueError
        If the array is on a GPU that is not the current one.
    """
    if isinstance(array, np.ndarray) or not array_api_compat.is_array_api_obj(array):
        return HOST
    backend = Backend(array_api_compat.array_namespace(array), array_api_compat.device(array))
    backend.check_selected()
    return backend


def require(backend: Backend, array: Array, name: str) -> None:
    """Raise a ``ValueError`` if an array is not of this backend."""
    other = backend_of(array)
    if other != backend:
        raise ValueError(
            f"{name} must be a {backend.name} array on {backend.device}, got a {other.name} array on {other.device}"
        )


def find_backend(device: str) -> Backend:
    """Return the backend of a device: "cpu", "cuda", or one of several GPUs, such as "cuda:1".

    Raises
    ------
    ValueError
        If the name is unknown, cupy is not installed, or there is no such GPU.
    """
    if device == "cpu":
        return HOST
    kind, colon, number = str(device).partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:<number>', got {device!r}")
    try:
        import array_api_compat.cupy as xp
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"device 'cuda' needs cupy: {install_line('cuda13')} (or cuda12)") from None
    count = cupy.cuda.runtime.getDeviceCount() if cupy.cuda.is_available() else 0  # cupy imports without a GPU, too
    if int(number or 0) >= count:
        raise ValueError(f"device must be one of {count} GPUs, got {device!r}")
    return Backend(xp, cupy.cuda.Device(int(number or 0)))


def to_host(array: Array) -> HostArray:
    """Copy an array of any library to numpy; a numpy array is returned unchanged.

    This is the only function of the package that moves data off a device.
    """
    if isinstance(array, np.ndarray):
        return array
    if array_api_compat.is_cupy_array(array):
        return array.get()
    if array_api_compat.is_array_api_obj(array):
        cpu = getattr(array_api_compat.array_namespace(array), "Device", lambda name: "cpu")("CPU_DEVICE")
        return np.from_dlpack(array_api_compat.to_device(array, cpu)).copy()
    return np.asarray(array)
