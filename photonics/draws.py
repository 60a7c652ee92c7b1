"""Arrays of random draws from the compiled generator."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from photonics import kernels
from photonics.arrays import FloatArray, IntArray
from photonics.random import check_seed

__all__ = ["further_seed", "key", "normals", "ornstein_uhlenbeck", "uniforms", "words"]

MAX_INDEX = 2**32
"""Upper bound of indices: they are smaller than this number."""
MAX_TICK = 2**48
"""Upper bound of ticks: they are smaller than this number."""


def key(seed: int) -> tuple[int, int]:
    """Philox key of a seed: its low and its high 32 bits.

    As Python's integers, which numba takes for int64: with a key of two uint32, LLVM packs and unpacks the words of a
    vector in each round, and normals take 1.6 times as long.
    """
    seed = check_seed(seed)
    return seed & 0xFFFFFFFF, seed >> 32


def further_seed(seed: int, stream: int, number: int) -> int:
    """Seed number `number`, 0 to 2**64 - 1, of a stream of a seed: independent of it and of the others."""
    low, high = words(seed, stream, number & 0xFFFFFFFF, number >> 32)[0, :2]
    return int(low) | int(high) << 32


def words(seed: int, stream: int, index: ArrayLike, tick: ArrayLike = 0) -> NDArray[np.uint32]:
    """Four words for each ``(index, tick)``, shape (n, 4); `index` and `tick` broadcast to (n,)."""
    where, when = places(index, tick)
    out = np.empty((where.size, 4), np.uint32)
    kernels.cpu.fill_words(where, when, int(stream), *key(seed), out)
    return out


def uniforms(seed: int, stream: int, index: ArrayLike, tick: ArrayLike = 0) -> NDArray[np.float64]:
    """One uniform between 0 and 1 for each ``(index, tick)``, shape (n,)."""
    where, when = places(index, tick)
    out = np.empty(where.size)
    kernels.cpu.fill_uniforms(where, when, int(stream), *key(seed), out)
    return out


def normals(seed: int, stream: int, index: ArrayLike, tick: ArrayLike = 0) -> FloatArray:
    """One standard normal for each ``(index, tick)``, shape (n,)."""
    where, when = places(index, tick)
    out = np.empty(where.size, np.float32)
    kernels.cpu.fill_normals(where, when, int(stream), *key(seed), out)
    return out


def places(index: ArrayLike, tick: ArrayLike) -> tuple[IntArray, IntArray]:
    """Broadcast `index` and `tick` to flat arrays; they are copies, because numba rejects read-only views.

    Raises
    ------
    ValueError
        If an index is negative, or 2**32 or more: the counter has 32 bits for it, so the draws would repeat.
    """
    index = np.asarray(index, np.int64)
    if index.size and not (index.min() >= 0 and index.max() < MAX_INDEX):
        raise ValueError(f"index must be from 0 to 2**32 - 1, got {index.min()} to {index.max()}")
    where, when = np.broadcast_arrays(index, np.asarray(tick, np.int64))
    return where.flatten(), when.flatten()


def ornstein_uhlenbeck(seed: int, stream: int, ticks: IntArray, step: float) -> NDArray[np.float64]:
    """Unit-variance stationary process with correlation ``exp(-step |i - j|)``, at any frame numbers.

    Raises
    ------
    ValueError
        If a frame number is negative or 2**48 or more.
    """
    if ticks.size and not (ticks.min() >= 0 and ticks.max() < MAX_TICK):
        raise ValueError(f"ticks must be from 0 to 2**48 - 1, got {ticks.min()} to {ticks.max()}")
    out = np.empty(ticks.size)
    starts, (lefts, rights) = np.empty(kernels.cpu.LEVELS, np.int64), np.empty((2, kernels.cpu.LEVELS))
    kernels.cpu.ornstein_uhlenbeck(ticks, int(stream), *key(seed), float(step), starts, lefts, rights, out)
    return out
