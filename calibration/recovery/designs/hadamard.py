"""Hadamard matrices, and the quadratic residues from which they and S-matrices are built."""

from functools import lru_cache

import numpy as np
import scipy.linalg

from photonics.arrays import BoolArray, FloatArray

__all__ = ["hadamard", "hadamard_factors", "is_prime", "quadratic_residues"]


@lru_cache(maxsize=8)
def hadamard(least: int) -> FloatArray:
    """Hadamard matrix of the smallest order, `least` or more, available by doubling Paley's first construction.

    Orders ``2^a (q + 1)``, q = 1 or a prime with q = 3 mod 4. The rows are orthogonal, their entries +-1.

    References
    ----------
    R. E. A. C. Paley, J. Math. and Phys. 12, 311 (1933).

    Examples
    --------
    >>> h = hadamard(10)
    >>> h.shape, bool((h @ h.T == 12 * np.eye(12)).all())
    ((12, 12), True)
    """
    return np.kron(*hadamard_factors(least))


@lru_cache(maxsize=8)
def hadamard_factors(least: int) -> tuple[FloatArray, FloatArray]:
    """Factors of `hadamard`, their Kronecker product: a small one by doubling, and Paley's."""
    order = max(least, 1)
    while not (core := paley_order(order)):
        order += 1
    doublings = scipy.linalg.hadamard(order // core).astype(np.float32)
    return doublings, paley(core) if core > 1 else np.ones((1, 1), np.float32)


def paley_order(order: int) -> int:
    """Largest ``q + 1`` from which doubling gives `order`, or 1 if `order` is a power of two; 0 if there is none."""
    while order % 2 == 0 and order > 2:
        q = order - 1
        if order % 4 == 0 and q > 3 and is_prime(q):
            return order
        order //= 2
    return 1 if order in (1, 2) else 0


def paley(order: int) -> FloatArray:
    """Hadamard matrix of order q + 1 from the quadratic residues of a prime q = 3 mod 4."""
    q = order - 1
    character = np.where(quadratic_residues(q), np.float32(1.0), np.float32(-1.0))
    character[0] = 0.0
    skew = np.zeros((order, order), np.float32)
    skew[0, 1:], skew[1:, 0] = 1.0, -1.0
    skew[1:, 1:] = character[(np.arange(q)[:, None] - np.arange(q)) % q]
    return skew + np.eye(order, dtype=np.float32)


def is_prime(number: int) -> bool:
    """Whether a number is prime, by trial division: at most 3e4 divisions for the largest number of inputs."""
    if number < 4:
        return number > 1
    divisors = np.arange(3, int(number**0.5) + 1, 2)
    return bool(number % 2 and (number % divisors).all())


@lru_cache(maxsize=4)
def quadratic_residues(order: int) -> BoolArray:
    """Which numbers are squares modulo `order`, 0 included: (order,), read-only."""
    found = np.zeros(order, np.bool_)
    found[np.arange(order, dtype=np.int64) ** 2 % order] = True
    found.flags.writeable = False
    return found
