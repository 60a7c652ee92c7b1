"""Several patterns per vector, whose linear maps add up to that of the vector: ternary pairs and bit planes."""

import numpy as np
from array_api_compat import array_namespace, device

from photonics.arrays import Array, BoolArray
from photonics.component import Field, Integer, component
from photonics.patterns.base import Encoding, finite_numbers, grey_values
from photonics.patterns.encoding import as_ternary

__all__ = ["BitPlanes", "TernaryPair"]


@component
class TernaryPair(Encoding):
    """The two patterns of a ternary vector: its +1 entries and its -1 entries.

    A linear map of the vector is the difference of the maps of the two: exact, for two frames. The used light of both
    patterns is the share of nonzero entries.

    Examples
    --------
    >>> TernaryPair().encode([[1, 0, -1]])
    array([[[ True, False, False],
            [False, False,  True]]])
    """

    def encode(self, values: Array, tick: int = 0) -> BoolArray:
        """Vectors of -1, 0 and 1, shape (batch, n) -> bool (batch, 2, n)."""
        array = np.asarray(values)
        ternary = as_ternary(array, array.shape[-1] if array.ndim else 0, "values")
        return np.stack((ternary > 0, ternary < 0), axis=1)

    def decode(self, shown: Array) -> Array:
        """Difference of the patterns or of their linear projections: (batch, 2, n_out) -> (batch, n_out)."""
        pair = finite_numbers(shown, "shown")
        if pair.ndim != 3 or pair.shape[1] != 2:
            raise ValueError(f"shown must have shape (batch, 2, n_out), got {pair.shape}")
        xp = array_namespace(pair)
        pair = pair if xp.isdtype(pair.dtype, ("real floating", "complex floating")) else xp.astype(pair, xp.float64)
        return pair[:, 0, :] - pair[:, 1, :]


@component
class BitPlanes(Encoding):
    """One pattern per binary digit of the grey value, most significant first.

    The levels are ``j / (2^bits - 1)``, both ends included, so that 0, 1 and -1 are exact and one bit is a threshold.

    Examples
    --------
    >>> planes = BitPlanes(bits=2).encode([[0.0, 0.6, 1.0]])
    >>> planes
    array([[[False,  True,  True],
            [False, False,  True]]])
    >>> BitPlanes(bits=2).decode(planes)
    array([[0.        , 0.66666667, 1.        ]])
    """

    bits: Integer = Field(default=8, ge=1, le=16)
    """Binary digits, and so patterns per value (twice as many frames if signed)."""

    signed: bool = False
    """Whether values may be negative. Planes are then ternary: the digits of the magnitude times the sign, each of
    which `TernaryPair` shows as two patterns."""

    @property
    def max_error(self) -> float:
        """Largest rounding error: half a level, ``1 / (2 (2^bits - 1))``.

        Levels ``j / 2^bits`` would have ``2^-(bits + 1)`` inside the range, and twice that at 1, which they lack.
        """
        return 0.5 / (2**self.bits - 1)

    def encode(self, values: Array, tick: int = 0) -> Array:
        """Values from 0 to 1, or -1 to 1 if signed, shape (batch, n) -> (batch, bits, n) bool, or int8 if signed."""
        grey = grey_values(values, dimensions=(2,), low=-1 if self.signed else 0)
        xp = array_namespace(grey)
        level = xp.astype(xp.floor(xp.abs(xp.astype(grey, xp.float64)) * (2**self.bits - 1) + 0.5), xp.int32)
        place = xp.asarray([2**k for k in reversed(range(self.bits))], dtype=xp.int32, device=device(grey))
        planes = (level[:, None, :] // place[None, :, None]) % 2
        if not self.signed:
            return planes == 1
        return xp.astype(planes, xp.int8) * xp.astype(xp.sign(grey), xp.int8)[:, None, :]

    def decode(self, shown: Array) -> Array:
        """Sum of the planes, or of their linear projections, with weights ``2^-k / (1 - 2^-bits)``, k = 1 to bits.

        Parameters
        ----------
        shown : array of bool, real or complex, shape (batch, bits, n_out)
            A linear map of each plane, most significant first.

        Returns
        -------
        array of real or complex, shape (batch, n_out)
            The linear map of the rounded values. Noise of variance v in each plane leaves
            ``v (2^bits + 1) / (3 (2^bits - 1))``: v at one bit, v/3 at many.

        Raises
        ------
        ValueError
            If the shape is wrong or an entry is not finite.
        """
        planes = finite_numbers(shown, "shown")
        if planes.ndim != 3 or planes.shape[1] != self.bits:
            raise ValueError(f"shown must have shape (batch, {self.bits}, n_out), got {planes.shape}")
        xp = array_namespace(planes)
        weights = [2.0 ** (self.bits - k) / (2**self.bits - 1) for k in range(1, self.bits + 1)]
        dtype = planes.dtype if xp.isdtype(planes.dtype, ("real floating", "complex floating")) else xp.float64
        weight = xp.asarray(weights, dtype=dtype, device=device(planes))
        return xp.sum(xp.astype(planes, dtype) * weight[None, :, None], axis=1)
