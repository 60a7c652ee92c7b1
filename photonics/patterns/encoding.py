"""How numbers become mirrors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.backend import HOST, Backend, require
from photonics.random import Stream, words

__all__ = ["as_patterns", "as_ternary", "half_on", "ternary_pair", "threshold"]


def as_patterns(patterns: Any, n_in: int, name: str = "patterns", backend: Backend = HOST) -> Any:
    """Check binary patterns and return them as bool, shape (batch, n_in), on `backend`.

    Elsewhere than on the host they must be bool already: looking at values would wait for the device.

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
    array = checked(patterns, n_in, name)
    if array.dtype == np.bool_:
        return array
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name} must be binary (False/True or 0/1), got {strangest(array, (0, 1))}")
    return array.astype(np.bool_)


def as_ternary(vectors: Any, n_in: int, name: str = "x") -> NDArray[np.int8]:
    """Check vectors with entries -1, 0, 1 (or bool) and return them as int8, shape (batch, n_in).

    Raises
    ------
    ValueError
        If the shape is wrong, or an entry is another number (NaN included).
    """
    array = checked(vectors, n_in, name)
    if array.dtype != np.bool_ and not ((array == 0) | (array == 1) | (array == -1)).all():
        raise ValueError(f"{name} must be ternary (-1, 0 or 1), got {strangest(array, (-1, 0, 1))}")
    return array.astype(np.int8)


def threshold(values: Any, level: float = 0.5) -> NDArray[np.bool_]:
    """Mirrors ON where the value exceeds `level`: real (batch, n) -> bool (batch, n).

    Exact for binary values. For values g between 0 and 1 and level 1/2 the mean squared error is
    ``mean(min(g, 1 - g)^2)``, the least that one binary frame leaves, and coarse: see `photonics.patterns.halftone`.
    The light used is the share of mirrors ON.

    Raises
    ------
    ValueError
        If a value is not finite.

    Examples
    --------
    >>> threshold([[0.2, 0.7]])
    array([[False,  True]])
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError("values must be finite real numbers, got NaN, infinity or another type")
    return array > level


def ternary_pair(vectors: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The two binary patterns of a ternary vector: where it is 1, and where it is -1.

    A linear map of the vector is the difference of the maps of the two: exact, for two frames. The light used in
    the two together is the share of entries that are not zero.

    Examples
    --------
    >>> ternary_pair([[1, 0, -1]])
    (array([[ True, False, False]]), array([[False, False,  True]]))
    """
    array = np.asarray(vectors)
    ternary = as_ternary(array, array.shape[-1] if array.ndim else 0, "vectors")
    return ternary > 0, ternary < 0


def half_on(count: int, n_in: int, seed: int, tick: int = 0) -> NDArray[np.bool_]:
    """Random patterns with each input ON with probability one half, a function of the seed: (count, n_in)."""
    index, row = np.arange(n_in)[None, :], tick + np.arange(count)[:, None]
    return words(seed, Stream.PROBES, index, row)[0] % 2 == 0


def checked(values: Any, n_in: int, name: str) -> NDArray[Any]:
    """Return a numeric or bool array of shape (batch, n_in), or say what came instead."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must have shape (batch, {n_in}), got rows of several lengths") from None
    if array.ndim != 2 or array.shape[1] != n_in:
        raise ValueError(f"{name} must have shape (batch, {n_in}), got {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be bool, integer or real, got dtype {array.dtype}")
    return array


def strangest(array: NDArray[Any], allowed: tuple[int, ...]) -> str:
    """First entry that is not allowed, with its place."""
    place = tuple(int(i) for i in np.argwhere(~np.isin(array, allowed))[0])
    return f"{array[place]} at {place}"
