"""Binary probes with a known, well-conditioned inverse: what a transmission matrix is measured with.

A probe is a row of a 0/1 matrix X; fields ``Z = X T^T`` of all probes give ``T^T = X^-1 Z``. The variance of an
entry is that of a field times the squared length of a row of ``X^-1``, and no 0/1 matrix of order n does better than
``4 n / (n + 1)^2``, that of an S-matrix (M. Harwit and N. J. A. Sloane, *Hadamard Transform Optics*, Academic Press
1979, chapter 3). Both families below are within 1 % of it from n = 64 on. The classical one, ``(1 + H) / 2`` with
Sylvester's H, is not: its first column, all ON, carries as much noise as a quarter of all others together.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

__all__ = ["CyclicS", "Design", "RegularHadamard", "design"]


fft: Any = scipy.fft
"""Declared to return what its dispatcher needs, not arrays."""


class Design(ABC):
    """A square 0/1 matrix X whose rows are the probes, known by its order."""

    order: int

    @abstractmethod
    def patterns(self, index: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
        """First `n` inputs of the probes of these numbers: (len(index), n)."""

    @abstractmethod
    def solve(self, fields: NDArray[Any]) -> NDArray[Any]:
        """``X^-1`` times the fields of all probes: (order, m) -> (order, m), of the same dtype."""

    @abstractmethod
    def gain(self, n: int) -> NDArray[np.float64]:
        """Variance of each of the first `n` entries over that of a field, squared lengths of rows of X^-1: (n,)."""

    def pattern_gain(self, n: int) -> float:
        """Variance of the field of a half-ON pattern of the first `n` inputs over that of a probe's, to 1/n.

        ``(X^T X)^-1`` is ``4 (1 - J / N) / N``, J all ones: what all inputs have in common is known best, so that the
        error of such a pattern is that of a probe, half of what errors of n free entries would make of it.
        """
        return n / self.order * (2.0 - n / self.order)

    @property
    @abstractmethod
    def condition_number(self) -> float:
        """Largest over smallest singular value of X. The largest belongs to the mean of the probes, half ON."""


@dataclass(frozen=True)
class RegularHadamard(Design):
    """``X = (1 + G) / 2``, G a Hadamard matrix of order 2^k whose rows all have (nearly) the same sum.

    G is the Kronecker power of the 4 x 4 matrix ``1 - 2 antidiag`` (rows sum to 2), times ``[[1, 1], [1, -1]]`` if k is
    odd: ``G_ij = (-1)^(number of base-4 digits 3 in i xor j)``. By Sherman and Morrison
    ``X^-1 = 2 [G / N - c c^T / (N^2 + N s)]`` with c the sums of its columns (G is symmetric) and s that of c. Every
    probe has ``(N + sqrt N) / 2`` inputs ON if k is even; none is all ON, which would saturate.
    """

    order: int

    def __post_init__(self) -> None:
        if self.order < 1 or self.order & (self.order - 1):
            raise ValueError(f"order must be a power of 2, got {self.order}")

    @property
    def odd(self) -> bool:
        """Whether the order is twice a power of 4."""
        return self.order.bit_length() % 2 == 0

    def patterns(self, index: NDArray[np.int64], n: int) -> NDArray[np.bool_]:  # noqa: D102
        row, column = np.asarray(index, np.int64)[:, None], np.arange(n)[None, :]
        both = row ^ column
        threes = both & (both >> 1) & 0x5555555555555555
        if self.odd:
            half = self.order // 2
            threes = (threes & (half - 1)) | (row & column & half)
        return np.bitwise_count(threes) % 2 == 0

    def solve(self, fields: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        sums = self.sums().astype(np.real(fields[:0]).dtype)
        mean = (sums @ fields) / (self.order * (self.order + sums.sum()))
        return (2.0 / self.order) * self.transform(fields) - (2.0 * sums)[:, None] * mean[None, :]

    def transform(self, fields: NDArray[Any]) -> NDArray[Any]:
        """``G`` times fields, fast: (order, m) -> (order, m)."""
        n, m = self.order, fields.shape[1]
        if self.odd:
            upper, lower = fields[: n // 2], fields[n // 2 :]
            fields, n = np.stack([upper + lower, upper - lower]), n // 2
        step = 1
        while step < n:  # one base-4 digit at a time: 1 - 2 antidiag
            digits = fields.reshape(-1, 4, step * m)
            fields = digits.sum(axis=1, keepdims=True) - 2 * digits[:, ::-1]
            step *= 4
        return fields.reshape(self.order, m)

    def sums(self) -> NDArray[np.float64]:
        """Sums of the columns of G, which are those of its rows: (order,)."""
        if not self.odd:
            return np.full(self.order, np.sqrt(float(self.order)))
        half = self.order // 2
        return np.where(np.arange(self.order) < half, 2.0 * np.sqrt(half), 0.0)

    def gain(self, n: int) -> NDArray[np.float64]:  # noqa: D102
        share = self.sums() / (self.order + self.sums().sum())  # c_j / (N (1 + s / N))
        length = 1.0 - 2.0 * share + self.order * share**2
        return (4.0 / self.order * length)[:n]

    @property
    def condition_number(self) -> float:  # noqa: D102
        # X^T X = (N + 1 c^T + c 1^T + N 1 1^T) / 4 differs from N / 4 only in the span of 1 and c.
        basis, _ = np.linalg.qr(np.stack([np.ones(self.order), self.sums()], axis=1))
        ones, sums = basis.T @ np.ones(self.order), basis.T @ self.sums()
        inside = np.outer(ones, sums) + np.outer(sums, ones) + self.order * np.outer(ones, ones)
        values = np.append(self.order + np.linalg.eigvalsh(inside), self.order if self.order > 2 else [])
        return float(np.sqrt(values.max() / values.min()))


@dataclass(frozen=True)
class CyclicS(Design):
    """S-matrix of a prime order q = 3 mod 4: ``X_kj = 1`` where ``k - j`` is a square mod q, 0 included.

    ``X^-1 = (2 X^T - J) / ((q + 1) / 2)``, J all ones; products are circular convolutions.
    """

    order: int

    def __post_init__(self) -> None:
        if self.order % 4 != 3 or not is_prime(self.order):
            raise ValueError(f"order must be a prime that leaves 3 when divided by 4, got {self.order}")

    def patterns(self, index: NDArray[np.int64], n: int) -> NDArray[np.bool_]:  # noqa: D102
        return squares(self.order)[(np.asarray(index, np.int64)[:, None] - np.arange(n)[None, :]) % self.order]

    def solve(self, fields: NDArray[Any]) -> NDArray[Any]:  # noqa: D102
        code = fft.fft(squares(self.order).astype(np.real(fields[:0]).dtype))
        spectrum = fft.fft(fields, axis=0) * np.conj(code)[:, None]
        folded = fft.ifft(spectrum, axis=0, overwrite_x=True)
        if not np.iscomplexobj(fields):
            folded = folded.real
        return (2.0 * folded - fields.sum(axis=0)) * (2.0 / (self.order + 1))

    def gain(self, n: int) -> NDArray[np.float64]:  # noqa: D102
        return np.full(n, 4.0 * self.order / (self.order + 1.0) ** 2)

    @property
    def condition_number(self) -> float:  # noqa: D102
        return float(np.sqrt(self.order + 1.0))


def design(n: int) -> Design:
    """Return the design for `n` inputs that takes the fewest probes: none more than n if n is a power of 2.

    Otherwise up to 23 % more from n = 60 on, 10 % from 128, 5 % from 500, as primes lie; they are not lost, since the
    variance of an entry falls as their number grows.

    Examples
    --------
    >>> design(256), design(784)
    (RegularHadamard(order=256), CyclicS(order=787))
    """
    power = 1 << max(n - 1, 0).bit_length()
    prime = n + (3 - n) % 4
    while prime < power and not is_prime(prime):
        prime += 4
    return RegularHadamard(power) if power <= prime else CyclicS(prime)


def is_prime(number: int) -> bool:
    """Whether a number is prime, by trial division: at most 3e4 divisions for the numbers of inputs there are."""
    if number < 4:
        return number > 1
    divisors = np.arange(3, int(number**0.5) + 1, 2)
    return bool(number % 2 and (number % divisors).all())


@lru_cache(maxsize=4)
def squares(order: int) -> NDArray[np.bool_]:
    """Which residues are squares modulo `order`, 0 included: (order,), read-only."""
    found = np.zeros(order, np.bool_)
    found[np.arange(order, dtype=np.int64) ** 2 % order] = True
    found.flags.writeable = False
    return found
