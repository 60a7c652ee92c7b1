"""Names for the types of arrays.

The array API standard has no static type that numpy, cupy and the other libraries satisfy, so an array of any of these
libraries is typed as `Array`, which type checkers do not inspect. Arrays on the host have numpy's types.
"""

from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "BoolArray",
    "ComplexArray",
    "FloatArray",
    "HostArray",
    "IntArray",
    "RealArray",
    "Shapes",
    "real_numbers",
    "shape_text",
    "unread_text",
]

Array: TypeAlias = Any
"""An array of the library that computes: numpy, cupy, or another of the array API standard."""
HostArray: TypeAlias = NDArray[Any]
"""A numpy array of any type, such as frames, which are uint8 or uint16."""
BoolArray: TypeAlias = NDArray[np.bool_]
IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float32]
ComplexArray: TypeAlias = NDArray[np.complex64]
RealArray: TypeAlias = NDArray[np.floating[Any]]
"""Of float32 or float64; products of float32 and Python floats have this type for a type checker."""


@dataclass(frozen=True)
class Shapes:
    """Base of dataclasses (``repr=False``) that print the type and shape of an array in place of its values."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{one.name}={outline(getattr(self, one.name))}" for one in fields(self) if one.repr)
        return f"{type(self).__name__}({shown})"


def outline(value: object) -> str:
    """Type and shape of an array; a number to four digits; any other value in full."""
    if isinstance(value, float):
        return f"{value:.4g}"
    shape, dtype = getattr(value, "shape", ()), getattr(value, "dtype", None)
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}" if shape else repr(value)


def shape_text(value: object, array: HostArray) -> str:
    """Shape of the array that numpy made from a value, or the type of a value that numpy does not read."""
    return str(array.shape) if array.ndim or array.dtype.kind != "O" else unread_text(value)


def real_numbers(values: Array, name: str) -> NDArray[np.float64]:
    """Array of real numbers as float64; a ``ValueError`` for complex ones, which numpy would cut, text and objects."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        found = f"shape {shape_text(values, array)}, dtype {array.dtype}"
        advice = ": take the real part or the modulus" if array.dtype.kind == "c" else ""
        raise ValueError(f"{name} must be real numbers, got {found}{advice}")
    return array.astype(np.float64, copy=False)


def unread_text(value: object) -> str:
    """Type of a value that numpy does not read as an array, and what to do about it."""
    return f"{type(value).__name__}, which numpy does not read (use .toarray() on a sparse matrix)"
