"""What every scattering medium answers, and the product that they share."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from photonics.backend import backend_of
from photonics.threads import for_blocks

__all__ = ["ScatteringMedium", "interleave", "product"]

FRAMES = 16
"""Frames in every product: a frame is summed in the same order whoever its neighbours are."""
OUTPUTS = 256
"""Outputs of the product that one thread computes at a time."""
MACS_PER_S = 4e10
"""Multiplications of a product in a second, to tell small ones: the right order for a core with AVX2."""


class ScatteringMedium(ABC):
    """A linear medium with transmission matrix T of shape (n_out, n_in), ``E|t_ij|^2 = 1/n_in``.

    Fields may be arrays of any library that `photonics.backend` knows; the answer is of the same.
    """

    modes: int = 1
    """Fields that a sensor sees independently of each other (polarisations, wavelengths). A medium of several stacks
    them along its outputs, mode after mode, each scaled so that a pixel's intensity is the sum over its modes."""

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

    @abstractmethod
    def fresh(self, seed: int) -> "ScatteringMedium":
        """Return another medium with the same statistics that has nothing in common with this one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain description; `photonics.medium.from_dict` makes the same medium from it, if it is not from memory."""
        raise NotImplementedError


def check_field(field: Any, width: int, name: str = "field") -> Any:
    """Return `field` as a (batch, width) float32 or complex64 array of its own library, or say what is wrong."""
    backend = backend_of(field)
    xp = backend.xp
    array = np.asarray(field) if backend.on_host else field
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"{name} must have shape (batch, {width}), got {tuple(array.shape)}")
    if backend.on_host and array.dtype.kind not in "biufc":
        raise ValueError(f"{name} must be bool, real or complex, got dtype {array.dtype}")
    complex_ = xp.isdtype(array.dtype, "complex floating")
    array = xp.astype(array, xp.complex64 if complex_ else xp.float32, copy=False)
    # A check that reads values would wait for a GPU and bring a number back to the host: it is the host's alone.
    if backend.on_host and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def interleave(matrix: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Real form of T, shape (2 n_out, n_in): row 2i is Re t_i and row 2i + 1 is Im t_i.

    A product with it gives real and imaginary parts side by side, which is complex64 without a copy.
    """
    n_out, n_in = matrix.shape
    rows = np.empty((n_out, 2, n_in), np.float32)
    rows[:, 0], rows[:, 1] = matrix.real, matrix.imag
    return rows.reshape(2 * n_out, n_in)


def real_product(x: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """``x @ matrix.T`` with a result for each row of x that does not depend on the other rows or on the threads.

    BLAS chooses its order of summation by the shape of the call and, with some kernels, by the place in it. So every
    call here has `FRAMES` frames (zeros fill the last one) along the lanes of one vector register, where all go through
    the same instructions, covers the same outputs, and runs on one BLAS thread. That costs a fifth of the speed of one
    large product; widths of 32 and more were seen to differ by place on the AVX2 kernel.
    """
    batch, outputs = x.shape[0], matrix.shape[0]
    padded = -(-batch // FRAMES) * FRAMES
    if padded != batch:
        x = np.concatenate([x, np.zeros((padded - batch, x.shape[1]), np.float32)])
    out = np.empty((padded, outputs), np.float32)

    def work(start: int, stop: int) -> None:
        for frame in range(0, padded, FRAMES):
            frames = slice(frame, frame + FRAMES)
            out[frames, start:stop] = (matrix[start:stop] @ x[frames].T).T

    with BLAS.limit(limits=1, user_api="blas"):
        for_blocks(work, outputs, OUTPUTS, x.shape[1] * padded * outputs / MACS_PER_S)
    return out[:batch]


def product(x: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[np.complex64]:
    """``x @ T.T`` from the interleaved real form of T: one real product for real x, two for complex."""
    out = real_product(np.ascontiguousarray(np.real(x)), rows).view(np.complex64)
    if x.dtype.kind == "c":
        out += 1j * real_product(np.ascontiguousarray(np.imag(x)), rows).view(np.complex64)
    return out


def adjoint_product(y: NDArray[Any], rows: NDArray[np.float32]) -> NDArray[np.complex64]:
    """``y @ conj(T)`` from the interleaved real form of T."""
    y = np.ascontiguousarray(y.astype(np.complex64, copy=False))
    out = np.empty((len(y), rows.shape[1]), np.complex64)
    out.real = real_product(y.view(np.float32), rows.T)
    out.imag = real_product((-1j * y).astype(np.complex64, copy=False).view(np.float32), rows.T)
    return out


BLAS = ThreadpoolController()
