"""Power of a field on samples and on pixels."""

import numpy as np

from photonics import kernels
from photonics.arrays import Array
from photonics.backend import Backend

__all__ = ["pixel_sums", "scale_in_place", "square_modulus"]


def square_modulus(field: Array, backend: Backend, first: float = 1.0, second: float = 1.0) -> Array:
    """``|E|^2 first second``, float32, of any shape; on the host in one pass."""
    if not backend.on_host:
        rate = backend.xp.real(field) ** 2 + backend.xp.imag(field) ** 2
        for factor in (first, second):
            rate = rate if factor == 1.0 else scale_in_place(rate, factor)
        return rate
    parts, rate = np.ascontiguousarray(field).reshape(-1).view(np.float32), np.empty(field.shape, np.float32)
    kernels.cpu.square_modulus(parts, np.float32(first), np.float32(second), rate.reshape(-1))
    return rate


def scale_in_place(rate: Array, factor: float) -> Array:
    """Multiply `rate` by a factor in place, and return it."""
    rate *= factor
    return rate


def pixel_sums(power: Array, k: int) -> Array:
    """Sum of ``k`` x ``k`` samples: (batch, k rows, k columns) -> (batch, rows, columns).

    It adds slices, because a reduction over an axis might add in another order in another batch.
    """
    down = power[:, ::k, :]
    for i in range(1, k):
        down = down + power[:, i::k, :]
    across = down[:, :, ::k]
    for j in range(1, k):
        across = across + down[:, :, j::k]
    return across
