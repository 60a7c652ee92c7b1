"""Grey images on mirrors that are ON or OFF: random (Bernoulli), error diffusion, and bit planes.

A binary image b of a grey image g that is right on average, ``E b = g``, errs by ``E (b - g)^2 = g (1 - g)`` at each
mirror, whatever the method: b is 0 or 1, so ``b^2 = b``. The methods differ in where that noise goes. Bernoulli
spreads it over all spatial frequencies; error diffusion pushes it to high ones, which an aperture stops. Bit planes
have no such noise: they cost one frame per bit, projected and then added up by the computer.

References
----------
R. W. Floyd, L. Steinberg, "An adaptive algorithm for spatial greyscale", Proc. Soc. Inf. Disp. 17, 75 (1976).
R. A. Ulichney, "Dithering with blue noise", Proc. IEEE 76, 56 (1988).
"""

import math
from typing import Any

import numba
import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_numpy_array
from numpy.typing import NDArray

from photonics import draws
from photonics import random as specification
from photonics.component import integer
from photonics.random import Stream, check_seed

__all__ = [
    "bernoulli",
    "bit_planes",
    "decode_planes",
    "dither_efficiency",
    "dither_error",
    "floyd_steinberg",
    "plane_error",
]


def bernoulli(values: Any, seed: int, tick: int = 0) -> Any:
    """Each mirror ON with probability equal to its grey value, independently.

    Parameters
    ----------
    values : array of real, shape (batch, n) or (batch, rows, columns)
        Grey values, 0 to 1.
    seed : int
        Key of the generator.
    tick : int
        Frame number of the first image; the next images have the next numbers.

    Returns
    -------
    array of bool, shape of `values`
        A function of ``(values, seed, frame number)``: the same in any batch split and on any device.

    Notes
    -----
    Error `dither_error`, flat over spatial frequency; efficiency `dither_efficiency`.

    Examples
    --------
    >>> bernoulli([[0.0, 1.0, 0.0]], seed=1)
    array([[False,  True, False]])
    """
    grey = grey_values(values, dimensions=(2, 3))
    seed, tick = check_seed(seed), integer(tick, "tick", 0, 2**48 - 1)
    xp, batch, size = array_namespace(grey), grey.shape[0], math.prod(grey.shape[1:])
    # One block of the generator serves four neighbours.
    index, row = np.arange(-(-size // 4))[None, :], tick + np.arange(batch)[:, None]
    if is_numpy_array(grey):
        random = draws.words(seed, Stream.BERNOULLI, index, row)
    else:
        index, row = xp.asarray(index, device=device(grey)), xp.asarray(row, device=device(grey))
        random = xp.stack(specification.words(seed, Stream.BERNOULLI, index, row), axis=-1)
    random = xp.reshape(random, (batch, 4 * index.shape[1]))[:, :size]
    return xp.reshape(specification.uniform(random), grey.shape) < xp.astype(grey, xp.float64)


def floyd_steinberg(values: Any) -> NDArray[np.bool_]:
    """Error diffusion: each mirror's rounding error is handed to its neighbours that come later.

    Parameters
    ----------
    values : numpy array of real, shape (batch, rows, columns) or (rows, columns)
        Grey values, 0 to 1.

    Returns
    -------
    numpy array of bool, shape of `values`
        No randomness in it, and no image depends on another.

    Raises
    ------
    ValueError
        If a value is not in 0 to 1, or the array is not numpy's: a mirror needs the one before it, so there is no
        array form of this method. Move the images with ``.get()`` or ``numpy.asarray``, or use `bernoulli`.

    Notes
    -----
    The scan is serpentine (even rows rightwards, odd rows leftwards), weights 7, 3, 5, 1 of 16 (ahead; behind, under
    and ahead in the next row), threshold 1/2. What would leave the image is dropped. The error is about
    `dither_error`, as for `bernoulli`, but its power below 1/16 cycle per mirror is more than 50 times smaller (80 to
    180 times, measured on images that vary over 30 mirrors).

    Examples
    --------
    >>> floyd_steinberg([[0.5, 0.5, 0.5, 0.5]])
    array([[False,  True, False,  True]])
    """
    if is_array_api_obj(values) and not is_numpy_array(values):
        kind = f"{type(values).__module__}.{type(values).__qualname__}"
        raise ValueError(f"values must be a numpy array (error diffusion is sequential, CPU only), got {kind}")
    grey = grey_values(values, dimensions=(2, 3))
    images = np.ascontiguousarray(grey if grey.ndim == 3 else grey[None], np.float64)
    out = np.empty(images.shape, np.bool_)
    diffuse(images, out)
    return out.reshape(grey.shape)


@numba.njit(nogil=True, cache=True)
def diffuse(images: NDArray[np.float64], out: NDArray[np.bool_]) -> None:
    """Serpentine Floyd-Steinberg of images (batch, rows, columns) into `out`."""
    batch, rows, columns = images.shape
    # Errors handed to this row and the next, with one column of margin on either side for what leaves the image.
    here, below = np.zeros(columns + 2), np.zeros(columns + 2)
    for b in range(batch):
        below[:] = 0.0
        for r in range(rows):
            here, below = below, here
            below[:] = 0.0
            step = 1 - 2 * (r % 2)
            for i in range(columns):
                c = i if step > 0 else columns - 1 - i
                wanted = images[b, r, c] + here[c + 1]
                on = wanted > 0.5
                out[b, r, c] = on
                error = (wanted - on) / 16.0
                here[c + 1 + step] += 7.0 * error
                below[c + 1 - step] += 3.0 * error
                below[c + 1] += 5.0 * error
                below[c + 1 + step] += error


def dither_error(values: Any) -> Any:
    """Mean-squared error of a binary image that is right on average: ``mean(g (1 - g))``.

    Exact in expectation for `bernoulli`; within 1 % for `floyd_steinberg` of images that vary slowly (of white noise
    it errs by a third less, because it looks at each value).

    Parameters
    ----------
    values : array of real, shape (batch, n) or (batch, rows, columns)
        Grey values, 0 to 1.

    Returns
    -------
    array of real, shape (batch,)

    Examples
    --------
    >>> dither_error([[0.0, 0.5, 1.0, 0.5]])
    array([0.125])
    """
    grey = grey_values(values, dimensions=(2, 3))
    return array_namespace(grey).mean(grey * (1.0 - grey), axis=tuple(range(1, grey.ndim)))


def dither_efficiency(values: Any) -> Any:
    """Share of the power on the mirrors that carries the grey image: ``mean(g^2)``.

    The grey image is a field amplitude, and the ON mirrors send ``mean(g) = mean(g^2) + mean(g (1 - g))``: the image
    and its noise (`dither_error`).

    Parameters
    ----------
    values : array of real, shape (batch, n) or (batch, rows, columns)
        Grey values, 0 to 1.

    Returns
    -------
    array of real, shape (batch,)

    Examples
    --------
    >>> dither_efficiency([[0.0, 0.5, 1.0, 0.5]])
    array([0.375])
    """
    grey = grey_values(values, dimensions=(2, 3))
    return array_namespace(grey).mean(grey * grey, axis=tuple(range(1, grey.ndim)))


def bit_planes(values: Any, bits: int, signed: bool = False) -> Any:
    """Round grey values to `bits` binary digits and return one pattern per digit, most significant first.

    Parameters
    ----------
    values : array of real, shape (batch, n)
        0 to 1, or -1 to 1 if `signed`.
    bits : int
        1 to 16.
    signed : bool
        Planes are ternary: the digits of the magnitude times the sign. `photonics.patterns.encoding.ternary_pair` shows
        each as two frames.

    Returns
    -------
    array, shape (batch, bits, n)
        bool, or int8 with entries -1, 0, 1 if `signed`. `decode_planes` puts them, or their linear projections,
        together again.

    Notes
    -----
    The levels are ``j / (2^bits - 1)``, both ends included, so that 0, 1 and -1 are exact and one bit is a threshold.
    The error is at most `plane_error`, at any value. An image costs `bits` frames (twice that if signed).

    Examples
    --------
    >>> bit_planes([[0.0, 0.6, 1.0]], bits=2)
    array([[[False,  True,  True],
            [False, False,  True]]])
    """
    grey = grey_values(values, dimensions=(2,), low=-1 if signed else 0)
    bits, xp = integer(bits, "bits", 1, 16), array_namespace(grey)
    level = xp.astype(xp.floor(xp.abs(xp.astype(grey, xp.float64)) * (2**bits - 1) + 0.5), xp.int32)
    place = xp.asarray([2**k for k in reversed(range(bits))], dtype=xp.int32, device=device(grey))
    planes = (level[:, None, :] // place[None, :, None]) % 2
    if not signed:
        return planes == 1
    return xp.astype(planes, xp.int8) * xp.astype(xp.sign(grey), xp.int8)[:, None, :]


def decode_planes(projected: Any) -> Any:
    """Sum of the planes, or of their linear projections, with weights ``2^-k / (1 - 2^-bits)``, k = 1 to bits.

    Parameters
    ----------
    projected : array of bool, real or complex, shape (batch, bits, n_out)
        What a linear map made of each plane of `bit_planes`, most significant first.

    Returns
    -------
    array of real or complex, shape (batch, n_out)
        The linear map of the rounded values. Noise of variance v in each plane leaves
        ``v (2^bits + 1) / (3 (2^bits - 1))``: v at one bit, v/3 at many.

    Raises
    ------
    ValueError
        If the shape is not (batch, bits, n_out) with 1 to 16 bits, or an entry is not finite.

    Examples
    --------
    >>> decode_planes([[[0, 1, 1], [0, 0, 1]]])
    array([[0.        , 0.66666667, 1.        ]])
    """
    planes = finite_numbers(projected, "projected")
    if planes.ndim != 3 or not 1 <= planes.shape[1] <= 16:
        raise ValueError(f"projected must have shape (batch, bits, n_out) with 1 to 16 bits, got {planes.shape}")
    xp, bits = array_namespace(planes), planes.shape[1]
    weights = [2.0 ** (bits - k) / (2**bits - 1) for k in range(1, bits + 1)]
    dtype = planes.dtype if xp.isdtype(planes.dtype, ("real floating", "complex floating")) else xp.float64
    weight = xp.asarray(weights, dtype=dtype, device=device(planes))
    return xp.sum(xp.astype(planes, dtype) * weight[None, :, None], axis=1)


def plane_error(bits: int) -> float:
    """Largest rounding error of `bit_planes`: half a level, ``1 / (2 (2^bits - 1))``.

    This is ``2^-(bits + 1)`` times ``1 / (1 - 2^-bits)``. Levels ``j / 2^bits`` would reach ``2^-(bits + 1)`` inside
    the range and twice that at 1, which they do not contain.

    >>> plane_error(1)
    0.5
    """
    return 0.5 / (2 ** integer(bits, "bits", 1, 16) - 1)


def finite_numbers(values: Any, name: str) -> Any:
    """Return `values` as an array of finite bool, integer, real or complex numbers (lists become numpy arrays)."""
    try:
        array: Any = values if is_array_api_obj(values) else np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must be an array, got rows of several lengths") from None
    xp = array_namespace(array)
    # numpy has types outside the standard (text, objects, dates), and they have no isdtype.
    if is_numpy_array(array) and array.dtype.kind not in "biufc":
        raise ValueError(f"{name} must be numbers, got dtype {array.dtype}")
    if xp.isdtype(array.dtype, ("real floating", "complex floating")) and not bool(xp.all(xp.isfinite(array))):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def grey_values(values: Any, dimensions: tuple[int, ...], low: int = 0) -> Any:
    """Return `values` as a real array from `low` to 1 with one of the given numbers of dimensions."""
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
