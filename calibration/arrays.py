"""Statistics of arrays of any library by the array API.

It has no masks in reductions, no medians and no masks beside slices. Numpy has a path of its own where the array API is
slower on it (sums of squares, differences, places, complex numbers of two parts), less exact (special functions), or
adds in another order (medians, columns, least squares). Results stay where the arrays are; ``float(...)`` of one brings
a single number to the host.
"""

import math
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import is_array_api_obj
from scipy.special import i0e, i1e, log_ndtr

from photonics.arrays import Array
from photonics.backend import Backend, backend_of, to_host

__all__ = [
    "as_complex",
    "at_places",
    "bessel_sum",
    "bring",
    "columns",
    "count",
    "difference",
    "entries",
    "equal_rows",
    "fft",
    "host_fft",
    "ifft",
    "irfft2",
    "least_squares",
    "located",
    "log_normal_cdf",
    "mean",
    "median",
    "nanquantile",
    "put",
    "rfft2",
    "squares_of_columns",
    "squares_of_each",
    "sum_squares",
    "total",
]

I0_NEAR = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
I1_NEAR = (0.5, 0.87890594, 0.51498869, 0.15084934, 0.02658733, 0.00301532, 0.00032411)
I0_FAR = (0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281, -0.02057706, 0.02635537, -0.01647633, 0.00392377)
I1_FAR = 0.39894228, -0.03988024, -0.00362018, 0.00163801, -0.01031555, 0.02282967, -0.02895312, 0.01787654, -0.00420059
"""Coefficients of `bessel_sum`."""
ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip
"""Coefficients of `log_normal_cdf`."""

host_fft: Any = scipy.fft
"""Typed as Any because scipy's stubs do not declare arrays as the results."""
FIRST = 64
"""Entries that `equal_rows` compares first."""
PLANE = -2, -1
"""Axes of an image."""
Axis = int | tuple[int, ...] | None


def mean(values: Array, axis: Axis = None, dtype: str | None = None, where: Array = None) -> Array:
    """Mean over an axis, in `dtype` if given, where a mask is true; that of integers is float64."""
    found = total(values, axis, dtype, where)
    if where is None:
        return found / (math.prod(values.shape) / max(math.prod(found.shape), 1))
    xp = backend_of(values).xp
    return found / xp.astype(count(xp.broadcast_to(where, values.shape), axis), found.dtype)


def total(values: Array, axis: Axis = None, dtype: str | None = None, where: Array = None) -> Array:
    """Sum over an axis, in `dtype` if given, where a mask is true; that of bool and integers is float64."""
    xp = backend_of(values).xp
    if where is not None:
        values = xp.where(where, values, xp.zeros_like(values))
    if xp.isdtype(values.dtype, ("bool", "integral")):
        dtype = dtype or "float64"
    kind = None if dtype is None else getattr(xp, dtype)
    if xp.isdtype(values.dtype, "bool"):
        return xp.astype(count(values, axis), kind)
    return xp.sum(values, axis=axis, dtype=kind)


def sum_squares(values: Array) -> Array:
    """Sum of the squared moduli of all entries, real or complex."""
    if isinstance(values, np.ndarray):
        return np.vdot(values, values).real
    xp = backend_of(values).xp
    return xp.sum(xp.abs(values) ** 2)


def squares_of_columns(values: Array) -> Array:
    """Sum of the squared moduli of each column, real or complex: (batch, n) -> (n,)."""
    if isinstance(values, np.ndarray):
        parts = np.ascontiguousarray(values).view(values.real.dtype)
        return np.einsum("bp,bp->p", parts, parts).reshape(values.shape[1], -1).sum(axis=1)
    xp = backend_of(values).xp
    return xp.sum(xp.abs(values) ** 2, axis=0)


def squares_of_each(images: Array) -> Array:
    """Sum of the squared moduli of each image, float64: (batch, rows, columns) -> (batch,)."""
    if isinstance(images, np.ndarray):
        parts = images.view(np.float32) if np.iscomplexobj(images) else images
        return np.einsum("bxy,bxy->b", parts, parts, dtype=np.float64)
    xp = backend_of(images).xp
    return xp.sum(xp.abs(images) ** 2, axis=(1, 2), dtype=xp.float64)


def fft(values: Array, axes: tuple[int, ...] = PLANE) -> Array:
    """Fourier transform over axes, by default the last two; of real values complex64 except in numpy."""
    xp = backend_of(values).xp
    if isinstance(values, np.ndarray) or xp.isdtype(values.dtype, "complex floating"):
        return transforms(values).fftn(values, axes=axes)
    return transforms(values).fftn(xp.astype(values, xp.complex64), axes=axes)


def ifft(spectrum: Array, axes: tuple[int, ...] = PLANE) -> Array:
    """Undo `fft`."""
    return transforms(spectrum).ifftn(spectrum, axes=axes)


def rfft2(images: Array) -> Array:
    """Fourier transform of real images over the last two axes, half of the spectrum."""
    return transforms(images).rfftn(images, axes=PLANE)


def irfft2(spectrum: Array, shape: tuple[int, int]) -> Array:
    """Undo `rfft2` of images of this shape."""
    return transforms(spectrum).irfftn(spectrum, s=shape, axes=PLANE)


def transforms(values: Array) -> Any:
    """Fourier transforms of an array's library; on the host those of scipy, 2 to 9 times faster than those of numpy."""
    return host_fft if isinstance(values, np.ndarray) else backend_of(values).xp.fft


def count(mask: Array, axis: Axis = None) -> Array:
    """Number of true entries along an axis."""
    return backend_of(mask).xp.count_nonzero(mask, axis=axis)


def columns(values: Array, chosen: Array) -> Array:
    """Entries of the last axis where a mask is true, or at these indices: (..., n) -> (..., count)."""
    if isinstance(values, np.ndarray):
        return values[..., chosen]
    xp = backend_of(values).xp
    return xp.take(values, xp.nonzero(chosen)[0] if xp.isdtype(chosen.dtype, "bool") else chosen, axis=-1)


def at_places(values: Array, batch: Array, row: Array) -> Array:
    """Entries of an array (batch, k, n) at places of its first and last axis: (m,), (m,) -> (m, k)."""
    if isinstance(values, np.ndarray):
        return values[batch, :, row]
    xp = backend_of(values).xp
    columns_last = xp.reshape(xp.permute_dims(values, (0, 2, 1)), (-1, values.shape[1]))
    return xp.take(columns_last, batch * values.shape[2] + row, axis=0)


def entries(values: Array, row: Array) -> Array:
    """One entry of each column: (k, n) and (n,) -> (n,)."""
    return backend_of(values).xp.take_along_axis(values, row[None, :], axis=0)[0, :]


def put(values: Array, places: tuple[Array, ...], new: Array) -> None:
    """Replace entries of an array in place; their indices, one array for each axis, ascend."""
    if isinstance(values, np.ndarray):
        values[places] = new
        return
    backend = backend_of(values)
    index = places[0]
    for size, place in zip(values.shape[1:], places[1:], strict=True):
        index = index * size + place
    every = backend.xp.arange(values.size, device=backend.device)
    values[backend.xp.reshape(backend.xp.isin(every, index), values.shape)] = new


def difference(one: Array, other: Array) -> Array:
    """Difference of frames, in float32."""
    if isinstance(one, np.ndarray):
        return np.subtract(one, other, dtype=np.float32)
    xp = backend_of(one).xp
    return xp.astype(one, xp.float32) - xp.astype(other, xp.float32)


def equal_rows(one: Array, other: Array) -> Array:
    """Whether rows are equal entry by entry: (..., n), (..., n) -> (...); fast if their first entries differ."""
    xp, first = backend_of(one).xp, min(FIRST, one.shape[-1])
    same = xp.all(one[..., :first] == other[..., :first], axis=-1)
    return xp.all(one == other, axis=-1) if bool(xp.any(same)) else same


def least_squares(known: Array, seen: Array) -> tuple[Array, int]:
    """Least-squares solution x of ``known x = seen``, both float64, and the rank of `known`."""
    if isinstance(known, np.ndarray):
        found, _, rank, _ = np.linalg.lstsq(known, seen, rcond=None)
        return found, int(rank)
    linalg = backend_of(known).xp.linalg
    return linalg.pinv(known) @ seen, int(linalg.matrix_rank(known))


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


def median(values: Array) -> float:
    """Median of all values, which are finite."""
    if isinstance(values, np.ndarray):
        return float(np.median(values))
    return float(nanquantile(backend_of(values).xp.reshape(values, (-1,)), 0.5, 0))


def as_complex(real: Array, imaginary: Array) -> Array:
    """Complex64 array of two float32 arrays."""
    if isinstance(real, np.ndarray):
        found = np.empty(real.shape, np.complex64)
        found.real, found.imag = real, imaginary
        return found
    return real + 1j * imaginary


def bessel_sum(x: Array) -> Array:
    """Modified Bessel functions ``exp(-x) (I0(x) + I1(x))`` for x from 0 on; elsewhere than in numpy to 3e-7.

    References
    ----------
    M. Abramowitz and I. A. Stegun, Handbook of Mathematical Functions (1964), 9.8.1 to 9.8.4.
    """
    if isinstance(x, np.ndarray):
        return i0e(x) + i1e(x)
    xp = backend_of(x).xp
    t, u = xp.minimum(x / 3.75, 1.0) ** 2, 3.75 / xp.maximum(x, 3.75)
    near = xp.exp(-xp.minimum(x, 3.75)) * (polynomial(I0_NEAR, t) + x * polynomial(I1_NEAR, t))
    far = (polynomial(I0_FAR, u) + polynomial(I1_FAR, u)) / xp.sqrt(xp.maximum(x, 3.75))
    return xp.where(x < 3.75, near, far)


def log_normal_cdf(x: Array) -> Array:
    """Logarithm of the standard normal distribution function; elsewhere than in numpy its relative error is 2e-7.

    References
    ----------
    W. H. Press et al., Numerical Recipes, 2nd ed. (1992), 6.2: Chebyshev fit of the complementary error function.
    """
    if isinstance(x, np.ndarray):
        return log_ndtr(x)
    xp = backend_of(x).xp
    z = xp.abs(x) / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * z)
    tail = xp.log(0.5 * t) - z**2 + polynomial(ERFC, t)
    return xp.where(x < 0, tail, xp.log1p(-xp.exp(tail)))


def polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Value of a polynomial, its coefficients in ascending order."""
    value = coefficients[-1] + 0.0 * x
    for one in coefficients[-2::-1]:
        value = one + x * value
    return value


def bring(array: Array, backend: Backend) -> Array:
    """Array, or nested lists of numbers, on a backend; an array is copied only if it is elsewhere."""
    if is_array_api_obj(array) and backend_of(array) == backend:
        return array
    return backend.asarray(to_host(array))


def located(value: Array, backend: Backend) -> Array:
    """The same array, or collection or dataclass of arrays, on `backend`; any other value is returned unchanged."""
    if is_array_api_obj(value):
        return to_host(value) if backend.on_host else backend.asarray(value)
    if isinstance(value, dict):
        return {name: located(one, backend) for name, one in value.items()}
    if isinstance(value, list):
        return [located(one, backend) for one in value]
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
