"""Complex fields on mirrors that are ON or OFF: the Lee hologram and the superpixel.

Both work off axis. In the direction of one diffraction order, neighbouring mirrors differ in phase. A lens collects the
light, and an aperture in its Fourier plane keeps the order and is too small to resolve single mirrors. So the field
behind it is a local sum of the ON mirrors, each with its phase. The Lee hologram draws fringes whose position sets the
phase and whose width sets the amplitude. The superpixel chooses the sum nearest the target among those that 16 mirrors
can make.

Fields are in units of the field on a mirror: all the light on the chip is ``mean |field|^2 = 1`` before the mirrors.
Mirrors are squares that fill their cells, so that the field far away has their envelope ``sinc(f_row) sinc(f_column)``
at f cycles per mirror. The order lies at ``1/period`` and ``1/period^2``, where the envelope leaves 0.80 of the power
at period 4 and 0.95 at period 8. The surround of the chip is dark.

References
----------
W. H. Lee, "Binary computer-generated holograms", Appl. Opt. 18, 3661 (1979).
D. B. Conkey, A. M. Caravaca-Aguirre, R. Piestun, "High-speed scattering medium characterization with application to
focusing light through turbid media", Opt. Express 20, 1733 (2012).
S. A. Goorden, J. Bertolotti, A. P. Mosk, "Superpixel-based spatial amplitude and phase modulation using a digital
micromirror device", Opt. Express 22, 17999 (2014).
"""

import functools
import math
from typing import Literal

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray
from pydantic import model_validator

from photonics.arrays import Array, BoolArray, IntArray
from photonics.component import Field, component
from photonics.patterns.base import Encoding, finite_numbers

__all__ = ["LeeHologram", "Superpixel", "fidelity", "superpixel_fields"]

SIDE = 4
"""Mirrors along a side of a superpixel; 16 mirrors have the phases of the 16th roots of unity."""
CELLS = 512
"""Cells along a side of the table that finds the nearest of the superpixel's fields."""
NEAREST_RMS = 0.0281
"""Distance from a point of the unit disc to the field that `lookup` finds, rms (integrated numerically)."""
ROUNDING = 1e-6
"""Tolerance for amplitudes above 1 due to rounding: ``|exp(i phi)|`` in complex64 exceeds 1 by up to 6e-8."""


@component
class LeeHologram(Encoding):
    """Fringes that carry the phase in their position and the amplitude in their width (Lee 1979).

    A mirror of carrier phase theta is ON where ``|theta - arg f| < pi q``, with duty cycle ``q = asin(|f|)/pi``. The
    order then has amplitude ``sin(pi q)/pi = |f|/pi``, times the mirror's envelope, and phase ``arg f``. The carrier
    advances by ``1/period`` of a turn per row and ``1/period^2`` per column, so that its ``period^2`` phases serve as
    grey levels.
    """

    period: int = Field(default=4, ge=3, le=64)
    """Mirrors per fringe, along the rows."""

    order: Literal[-1, 1] = 1
    """Diffraction order that the aperture keeps; the opposite order holds the conjugate field."""

    pixel: int = Field(default=4, ge=1, le=64)
    """Mirrors along a side of a logical pixel."""

    spot: float = Field(default=16.0, ge=1, le=1024)
    """Diffraction-limited spot behind the aperture, mirrors: the aperture is ``1/spot`` cycles per mirror wide."""

    aperture: Literal["circle", "square"] = "circle"
    """Shape of the aperture; a circle's diameter or a square's side is its width."""

    @model_validator(mode="after")
    def _check_spot(self) -> "LeeHologram":
        if self.spot < self.period:
            raise ValueError(f"spot must be at least the period, {self.period}, to stop order 0, got {self.spot}")
        return self

    @property
    def amplitude(self) -> float:
        """Field of a target of 1, relative to the field on a mirror: 1/pi times the mirror's envelope, 0.285."""
        return envelope(self.period) / math.pi

    @property
    def efficiency(self) -> float:
        """Largest share of the power on the mirrors that the order can hold: 0.0811 at period 4, 0.0961 at 8."""
        return self.amplitude**2

    @property
    def error(self) -> float:
        """Rounding of a uniform target, rms in units of the target: ``pi / (sqrt(6) period^2)``.

        Each end of the ON arc moves to the nearest of the ``period^2`` phases, independently. The largest error is
        ``pi / period^2``. For a target that varies, much of the error averages out within a spot.
        """
        return math.pi / (math.sqrt(6.0) * self.period**2)

    def encode(self, values: Array, tick: int = 0) -> Array:
        """Mirrors that show a complex field.

        Parameters
        ----------
        values : array of real or complex, shape (batch, rows, columns)
            Target field at the logical pixels, ``|field| <= 1``.
        tick : int
            Not used: the hologram is not random.

        Returns
        -------
        array of bool, shape (batch, rows * pixel, columns * pixel)
        """
        target = spread(target_field(values), self.pixel)
        xp = array_namespace(target)
        fringe = target * carrier(target, self.period, -self.order)
        size = xp.abs(target)
        # cos(theta - arg f) > cos(pi q) = sqrt(1 - |f|^2), both sides times |f|: no angle is needed, and 0 is OFF.
        return xp.real(fringe) > size * xp.sqrt(xp.where(size < 1.0, 1.0 - size * size, 0.0))

    def decode(self, shown: Array, full: bool = False) -> Array:
        """Field behind an ideal aperture: ``amplitude * target``, apart from the method's error and dark edges.

        Parameters
        ----------
        shown : array of bool, real or complex, shape (batch, rows * pixel, columns * pixel)
            Mirrors, or the field just behind them.
        full : bool
            Whether to return the field at every mirror instead of its mean over each logical pixel.

        Returns
        -------
        array of complex, shape (batch, rows, columns), or that of `shown` if `full`
        """
        return filter_order(shown, self.period, self.order, self.spot, self.aperture, self.pixel, full)


@component
class Superpixel(Encoding):
    """Four by four mirrors whose 16 phases add up to one of 6561 fields (Goorden 2014).

    The aperture sits where the phase advances by 1/4 of a turn per row and 1/16 per column, so that the mirrors of a
    superpixel have the phases ``2 pi (k + 1/2)/16``. Opposite phases cancel. Each of the 8 opposite pairs adds -1, 0
    or 1 times its own root of unity, and no two of the ``3^8`` sums are equal.

    Notes
    -----
    The nearest of the 6561 fields is 0.012 (rms) and at most 0.04 from the target where ``|field| <= 0.8``. Towards 1
    the fields become sparse, with 16 of them on the unit circle, and the distance reaches 0.10.
    """

    spot: float = Field(default=16.0, ge=SIDE, le=1024)
    """Diffraction-limited spot behind the aperture, mirrors: the aperture is ``1/spot`` cycles per mirror wide."""

    aperture: Literal["circle", "square"] = "circle"
    """Shape of the aperture; a circle's diameter or a square's side is its width."""

    @property
    def amplitude(self) -> float:
        """Field of a target of 1, relative to that on a mirror: 8 phases of 16 times the mirror's envelope, 0.2866."""
        return envelope(SIDE) / (SIDE**2 * math.sin(math.pi / SIDE**2))

    @property
    def efficiency(self) -> float:
        """Largest share of the power on the mirrors that the field can hold: 0.0821."""
        return self.amplitude**2

    @property
    def error(self) -> float:
        """Distance of a target to the nearest field, rms over the unit disc, in units of the target: 0.028."""
        return NEAREST_RMS

    def encode(self, values: Array, tick: int = 0) -> Array:
        """Mirrors that show a complex field.

        Parameters
        ----------
        values : array of real or complex, shape (batch, rows, columns)
            Target field at the superpixels, ``|field| <= 1``.
        tick : int
            Not used: the choice is not random.

        Returns
        -------
        array of bool, shape (batch, 4 * rows, 4 * columns)
        """
        target = target_field(values)
        xp, (batch, rows, columns) = array_namespace(target), target.shape
        # Neighbouring superpixels of a row differ by a quarter turn, which is removed from the target.
        back = np.asarray([1, -1j, -1, 1j])[np.arange(columns) % SIDE]
        turned = target * xp.asarray(back, device=device(target))
        x, y = (xp.astype((part(turned) + 1.0) * (CELLS / 2), xp.int64) for part in (xp.real, xp.imag))
        cell = xp.reshape(xp.clip(x, 0, CELLS - 1) * CELLS + xp.clip(y, 0, CELLS - 1), (-1,))
        nearest, choices = (xp.asarray(table, device=device(target)) for table in lookup())
        mirrors = xp.take(choices, xp.take(nearest, cell), axis=0)
        mirrors = xp.permute_dims(xp.reshape(mirrors, (batch, rows, columns, SIDE, SIDE)), (0, 1, 3, 2, 4))
        return xp.reshape(mirrors, (batch, rows * SIDE, columns * SIDE))

    def decode(self, shown: Array, full: bool = False) -> Array:
        """Field behind an ideal aperture: ``amplitude * target``, apart from the method's error and dark edges.

        Parameters
        ----------
        shown : array of bool, real or complex, shape (batch, 4 * rows, 4 * columns)
            Mirrors, or the field just behind them.
        full : bool
            Whether to return the field at every mirror instead of its mean over each superpixel.

        Returns
        -------
        array of complex, shape (batch, rows, columns), or that of `shown` if `full`
        """
        return filter_order(shown, SIDE, 1, self.spot, self.aperture, SIDE, full)


def fidelity(target: Array, field: Array) -> Array:
    """Overlap ``|<target, field>|^2 / (|target|^2 |field|^2)`` of each pair, 1 if they are proportional.

    Parameters
    ----------
    target, field : arrays of real or complex, shape (batch, rows, columns)

    Returns
    -------
    array of real, shape (batch,)

    Raises
    ------
    ValueError
        If the shapes differ, an entry is not finite, or a field is zero everywhere.

    Examples
    --------
    >>> fidelity([[[1, 1j]]], [[[2j, -2]]])
    array([1.])
    """
    a, b = (as_complex(images(array, name)) for array, name in ((target, "target"), (field, "field")))
    if a.shape != b.shape:
        raise ValueError(f"field must have the target's shape, {a.shape}, got {b.shape}")
    xp = array_namespace(a, b)
    powers = [xp.sum(xp.abs(array) ** 2, axis=(1, 2)) for array in (a, b)]
    for power, name in zip(powers, ("target", "field"), strict=True):
        if bool(xp.any(power == 0)):
            raise ValueError(f"{name} must not be zero everywhere, got an image of power 0")
    return xp.abs(xp.sum(xp.conj(a) * b, axis=(1, 2))) ** 2 / (powers[0] * powers[1])


def superpixel_fields() -> NDArray[np.complex128]:
    """Fields that a superpixel can make, relative to the largest: (6561,), all different."""
    return (pair_states() * opposite_roots()).sum(-1) * math.sin(math.pi / SIDE**2)


def pair_states() -> IntArray:
    """Every choice of -1, 0, 1 for the 8 pairs of opposite phases, (6561, 8)."""
    pairs = SIDE**2 // 2
    return np.arange(3**pairs)[:, None] // 3 ** np.arange(pairs) % 3 - 1


def opposite_roots() -> NDArray[np.complex128]:
    """Fields of the first mirror of each pair, (8,)."""
    return np.exp(2j * math.pi * (np.arange(SIDE**2 // 2) + 0.5) / SIDE**2)


@functools.cache
def lookup() -> tuple[IntArray, BoolArray]:
    """Nearest choice for each cell of the target plane, (CELLS^2,), and mirrors of each choice, (6561, 16).

    The choice found for a target is farther than the nearest one by at most a cell's diagonal, 0.0055 of the largest
    field. A pair that adds nothing is OFF; both ON would send more light to the other orders.
    """
    from scipy.spatial import KDTree  # takes longer to load than all of this package

    centre = (np.arange(CELLS) + 0.5) * (2.0 / CELLS) - 1.0
    cells = np.stack(np.broadcast_arrays(centre[:, None], centre[None, :]), axis=-1).reshape(-1, 2)
    fields = superpixel_fields()
    _, nearest = KDTree(np.stack((fields.real, fields.imag), axis=-1)).query(cells)
    states = pair_states()
    return np.asarray(nearest, np.int64), np.concatenate((states > 0, states < 0), axis=1)


def filter_order(mirrors: Array, period: int, order: int, spot: float, aperture: str, pixel: int, full: bool) -> Array:
    """Complex field of one order through an aperture, at each mirror or averaged over pixels."""
    field = as_complex(images(mirrors, "shown"))
    xp, (batch, rows, columns) = array_namespace(field), field.shape
    if rows % pixel or columns % pixel or not rows * columns:
        raise ValueError(f"shown must have rows and columns in multiples of {pixel}, got {rows} x {columns}")
    # Zero padding to twice the size, so that light that leaves the grid on one side does not enter on the other.
    grid = 2 * rows, 2 * columns
    spectrum = xp.fft.fftn(field * carrier(field, period, order), s=grid, axes=(1, 2))
    # In numpy, since the fftfreq of array_api_compat works on the CPU only.
    y, x = np.fft.fftfreq(grid[0])[:, None], np.fft.fftfreq(grid[1])[None, :]
    distance = np.hypot(y, x) if aperture == "circle" else np.maximum(abs(y), abs(x))
    passes = np.clip((0.5 / spot - distance) * min(grid) + 0.5, 0.0, 1.0)  # share of a bin on the rim
    through = passes * np.sinc(y - order / period) * np.sinc(x - order / period**2)
    field = xp.fft.ifftn(spectrum * xp.asarray(through, device=device(field))[None, :, :], axes=(1, 2))
    field = field[:, :rows, :columns]
    if full:
        return field
    return xp.mean(xp.reshape(field, (batch, rows // pixel, pixel, columns // pixel, pixel)), axis=(2, 4))


def envelope(period: int) -> float:
    """Amplitude of a square mirror in the direction of the order: ``sinc(1/period) sinc(1/period^2)``."""
    return float(np.sinc(1.0 / period) * np.sinc(1.0 / period**2))


def carrier(like: Array, period: int, order: int) -> Array:
    """Phase factor of each mirror towards the order, (rows, columns) of `like`.

    ``exp(2 pi i order (period row + column + 1/2) / period^2)``. With the half step no mirror lies on an end of the ON
    arc of a real target, and a target of 1 is one of the superpixel's fields.
    """
    xp, rows, columns = array_namespace(like), like.shape[1], like.shape[2]
    step = (period * np.arange(rows)[:, None] + np.arange(columns)[None, :]) % period**2
    turn = np.exp(2j * math.pi * order * (np.arange(period**2) + 0.5) / period**2)
    return xp.asarray(turn[step], device=device(like))


def spread(field: Array, pixel: int) -> Array:
    """Repeat each logical pixel over its mirrors: (batch, rows, columns) to (batch, rows pixel, columns pixel)."""
    xp, (batch, rows, columns) = array_namespace(field), field.shape
    wide = xp.broadcast_to(field[:, :, None, :, None], (batch, rows, pixel, columns, pixel))
    return xp.reshape(wide, (batch, rows * pixel, columns * pixel))


def target_field(field: Array) -> Array:
    """Check a target and return it as complex128: finite, three-dimensional, of amplitude 1 at most."""
    target = as_complex(images(field, "field"))
    xp = array_namespace(target)
    size = xp.abs(target)
    if bool(xp.any(size > 1.0 + ROUNDING)):
        raise ValueError(f"field must have |field| <= 1, got {float(xp.max(size))}")
    return target


def images(values: Array, name: str) -> Array:
    """Return `values` as an array of finite numbers, shape (batch, rows, columns)."""
    array = finite_numbers(values, name)
    if array.ndim != 3:
        raise ValueError(f"{name} must have shape (batch, rows, columns), got {array.shape}")
    return array


def as_complex(array: Array) -> Array:
    """Return `array` as complex128 (the array API has no cast from integers to complex)."""
    xp = array_namespace(array)
    return xp.astype(array if xp.isdtype(array.dtype, "numeric") else xp.astype(array, xp.float64), xp.complex128)
