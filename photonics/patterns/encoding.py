"""Checks of binary patterns and ternary vectors, and random patterns."""

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import Array, BoolArray, HostArray, shape_text
from photonics.backend import HOST, Backend, require
from photonics.random import Stream, words

__all__ = ["as_patterns", "as_rows", "as_ternary", "half_on"]


def as_patterns(patterns: Array, n_in: int, name: str = "patterns", backend: Backend = HOST) -> Array:
    """Check binary patterns and return them as bool, shape (batch, n_in), on `backend`.

    On a device other than the host they must already be bool: reading values would wait for the device.

    Raises
    ------
    ValueError
        If they are of another library or device, the shape is wrong, or an entry is neither 0 nor 1 (NaN included).
    """
    require(backend, patterns, name)
    if not backend.on_host:
        if patterns.ndim != 2 or patterns.shape[1] != n_in:
            raise ValueError(f"{name} must have shape (batch, {n_in}), got {tuple(patterns.shape)}")
        if patterns.dtype != backend.xp.bool:
            raise ValueError(f"{name} must be bool on {backend.device}, got dtype {patterns.dtype}")
        return patterns
    array = as_rows(patterns, n_in, name)
    if array.dtype == np.bool_:
        return array
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name} must be binary (False/True or 0/1), got {first_invalid(array, (0, 1))}")
    return array.astype(np.bool_)


def as_ternary(vectors: Array, n_in: int, name: str = "x") -> NDArray[np.int8]:
    """Check vectors with entries -1, 0, 1 (or bool) and return them as int8, shape (batch, n_in).

    Raises
    ------
    ValueError
        If the shape is wrong, or an entry is another number (NaN included).
    """
    array = as_rows(vectors, n_in, name)
    if array.dtype != np.bool_ and not ((array == 0) | (array == 1) | (array == -1)).all():
        raise ValueError(f"{name} must be ternary (-1, 0 or 1), got {first_invalid(array, (-1, 0, 1))}")
    return array.astype(np.int8)


def half_on(count: int, n_in: int, seed: int, tick: int = 0) -> BoolArray:
    """Random patterns with each input ON with probability one half, a function of the seed: (count, n_in)."""
    index, row = np.arange(n_in)[None, :], tick + np.arange(count)[:, None]
    return words(seed, Stream.PROBES, index, row)[0] % 2 == 0


def as_rows(values: Array, n_in: int, name: str, backend: Backend = HOST) -> Array:
    """Return a numeric or bool array of shape (batch, n_in), on `backend`.

    Raises
    ------
    ValueError
        If the shape or the type is wrong, or the array is of another library or device than the host.
    """
    try:
        array = np.asarray(values) if backend.on_host else backend.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must have shape (batch, {n_in}), got rows of several lengths") from None
    if array.ndim != 2 or array.shape[1] != n_in:
        raise ValueError(f"{name} must have shape (batch, {n_in}), got {shape_text(values, array)}")
    if not backend.xp.isdtype(array.dtype, ("bool", "integral", "real floating")):
        raise ValueError(f"{name} must be bool, integer or real, got dtype {array.dtype}")
    return array


def first_invalid(array: HostArray, allowed: tuple[int, ...]) -> str:
    """First entry that is not allowed, with its index."""
    place = tuple(int(i) for i in np.argwhere(~np.isin(array, allowed))[0])
    return f"{array[place]} at {place}"
