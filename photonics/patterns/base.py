"""The interface of all encodings, and checks of the values to encode."""

from abc import ABC, abstractmethod

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_numpy_array

from photonics.arrays import Array, unread_text

__all__ = ["Encoding", "finite_numbers", "grey_values"]


class Encoding(ABC):
    """A way to show values on mirrors that are ON or OFF."""

    @abstractmethod
    def encode(self, values: Array, tick: int = 0) -> Array:
        """Binary patterns that show values.

        Parameters
        ----------
        values : array, first axis batch
            What to show; each encoding states shape and range.
        tick : int
            Frame number of the first pattern; only a random encoding uses it.

        Returns
        -------
        array of bool, first axis batch
            A second axis counts the patterns of a value if it takes several.
        """

    def decode(self, shown: Array) -> Array:
        """Decode patterns to values, or the linear maps of the patterns to the linear map of the values.

        An encoding with one pattern per value returns `shown` itself.
        """
        return shown


def finite_numbers(values: Array, name: str) -> Array:
    """Return `values` as an array of finite bool, integer, real or complex numbers (lists become numpy arrays).

    Raises
    ------
    ValueError
        If they cannot be converted to such an array.
    """
    try:
        array: Array = values if is_array_api_obj(values) else np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of several lengths") from None
    xp = array_namespace(array)
    # numpy has types outside the standard (text, objects, dates), which isdtype does not take.
    if is_numpy_array(array) and array.dtype.kind not in "biufc":
        got = f"dtype {array.dtype}" if array.ndim or array.dtype.kind != "O" else unread_text(values)
        raise ValueError(f"{name} must be numbers, got {got}")
    if xp.isdtype(array.dtype, ("real floating", "complex floating")) and not bool(xp.all(xp.isfinite(array))):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def grey_values(values: Array, dimensions: tuple[int, ...], low: int = 0) -> Array:
    """Return `values` as a real array from `low` to 1 with one of the given numbers of dimensions.

    Raises
    ------
    ValueError
        If they cannot be converted to such an array.
    """
    array = finite_numbers(values, "values")
    xp = array_namespace(array)
    if xp.isdtype(array.dtype, "complex floating"):
        raise ValueError(f"values must be real, got dtype {array.dtype}")
    if array.ndim not in dimensions:
        allowed = " or ".join(str(n) for n in dimensions)
        raise ValueError(f"values must have {allowed} dimensions, got shape {array.shape}")
    grey = array if xp.isdtype(array.dtype, "real floating") else xp.astype(array, xp.float64)
    if bool(xp.any((grey < low) | (grey > 1))):
        raise ValueError(f"values must be from {low} to 1, got {float(xp.min(grey))} to {float(xp.max(grey))}")
    return grey
