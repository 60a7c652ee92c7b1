"""Statistics of arrays of any library: numpy's own on numpy arrays, bit for bit, and the array API's elsewhere.

The array API has no masks in reductions, no medians and no masks beside slices. Results stay where the arrays are;
``float(...)`` of one brings a single number to the host.
"""

from dataclasses import fields, is_dataclass, replace

import numpy as np

from photonics.arrays import Array
from photonics.backend import Backend, backend_of

__all__ = ["as_complex", "columns", "count", "located", "mean", "nanquantile", "total"]

Axis = int | tuple[int, ...] | None


def mean(values: Array, axis: Axis = None, dtype: str | None = None, where: Array = None) -> Array:
    """Mean over an axis, in `dtype` if given, where a mask is true; that of integers is float64."""
    if isinstance(values, np.ndarray):
        return np.mean(values, axis, dtype, where=True if where is None else where)
    xp, values = as_real(values, dtype)
    if where is None:
        return xp.mean(values, axis=axis)
    known = xp.astype(xp.broadcast_to(where, values.shape), values.dtype)
    return total(values, axis, where=where) / xp.sum(known, axis=axis)


def total(values: Array, axis: Axis = None, dtype: str | None = None, where: Array = None) -> Array:
    """Sum over an axis, in `dtype` if given, where a mask is true."""
    if isinstance(values, np.ndarray):
        return np.sum(values, axis, dtype, where=True if where is None else where)
    xp, values = as_real(values, dtype)
    return xp.sum(values if where is None else xp.where(where, values, xp.zeros_like(values)), axis=axis)


def count(mask: Array, axis: Axis = None) -> Array:
    """Number of true entries along an axis."""
    if isinstance(mask, np.ndarray):
        return np.count_nonzero(mask, axis)
    return backend_of(mask).xp.count_nonzero(mask, axis=axis)


def columns(values: Array, chosen: Array) -> Array:
    """Entries of the last axis where a mask is true: (..., n) and (n,) -> (..., count)."""
    if isinstance(values, np.ndarray):
        return values[..., chosen]
    xp = backend_of(values).xp
    return xp.take(values, xp.nonzero(chosen)[0], axis=-1)


def nanquantile(values: Array, share: float, axis: int) -> Array:
    """Quantile along an axis of the entries that are not NaN, interpolated between neighbours; NaN if all are."""
    if isinstance(values, np.ndarray):
        return np.nanmedian(values, axis) if share == 0.5 else np.nanquantile(values, share, axis)
    xp = backend_of(values).xp
    known = xp.isfinite(values)
    size = count(known, axis)
    ordered = xp.sort(xp.where(known, values, xp.inf), axis=axis)
    place = share * xp.astype(xp.maximum(size - 1, 0), values.dtype)
    low = xp.astype(xp.floor(place), xp.int64)
    high = xp.minimum(low + 1, xp.maximum(size - 1, 0))
    below, above = (
        xp.squeeze(xp.take_along_axis(ordered, xp.expand_dims(at, axis=axis), axis=axis), axis=axis)
        for at in (low, high)
    )
    found = below + (above - below) * (place - xp.astype(low, values.dtype))
    return xp.where(size > 0, found, xp.nan)


def as_complex(real: Array, imaginary: Array) -> Array:
    """Complex64 array of two float32 arrays."""
    if isinstance(real, np.ndarray):
        found = np.empty(real.shape, np.complex64)
        found.real, found.imag = real, imaginary
        return found
    return real + 1j * imaginary


def located(value: Array, backend: Backend) -> Array:
    """The same array, or tuple or dataclass of arrays, on `backend`; any other value is returned unchanged."""
    if isinstance(value, np.ndarray):
        return backend.asarray(value)
    if isinstance(value, tuple):
        parts = [located(one, backend) for one in value]
        make = getattr(value, "_make", tuple)  # that of a named tuple
        return make(parts)
    if is_dataclass(value) and not isinstance(value, type):
        found = {field.name: getattr(value, field.name) for field in fields(value)}
        moved = {name: located(one, backend) for name, one in found.items()}
        changed = {name: one for name, one in moved.items() if one is not found[name]}
        return replace(value, **changed) if changed else value
    return value


def as_real(values: Array, dtype: str | None) -> tuple[Array, Array]:
    """Namespace of an array, and the array in `dtype`; if none is given, bool and integers in float64."""
    xp = backend_of(values).xp
    if dtype is None:
        exact = xp.isdtype(values.dtype, ("bool", "integral"))
        return xp, xp.astype(values, xp.float64) if exact else values
    return xp, xp.astype(values, getattr(xp, dtype))
