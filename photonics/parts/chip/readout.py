"""What cameras add to the linear model: maps, hot pixels, row and column noise, non-linearity, binning."""

from typing import NamedTuple

import numpy as np

from photonics import draws
from photonics.arrays import Array, FloatArray, IntArray
from photonics.backend import Backend
from photonics.parts.chip.maps import read_map
from photonics.parts.power import pixel_sums
from photonics.parts.sensor import Sensor, expose
from photonics.random import Stream

__all__ = ["Details", "bin_pixels", "expose_detailed", "hot_current", "line_pattern", "map_values"]

STEPS, SHIFT_E = 256.0, 2.0**14
"""Steps in which the kernels return electrons, per electron, and electrons added so that none is negative."""


class Details(NamedTuple):
    """Details of a camera; arrays have an entry for each pixel of the frame."""

    dark_e: Array
    """Mean dark electrons, hot pixels included."""
    gain: Array
    """DN per electron."""
    offset_dn: Array
    well_e: float
    curvature: float
    """Relative deviation from a straight line at the full well."""
    row_e: float
    column_e: float
    rows: IntArray
    """Rows on the chip that are read."""
    columns: IntArray
    binning: int


def map_values(text: str | None, name: str, places: IntArray, width: int, whole: float) -> FloatArray:
    """Entries of a map at places on a chip of a width, float32; `whole` everywhere if there is no map.

    Raises
    ------
    ValueError
        If the map is not that of the chip.
    """
    if text is None:
        return np.full(places.shape, whole, np.float32)
    chip = read_map(text)
    if chip.shape[1] != width or (places.size and places.max() >= chip.size):
        raise ValueError(
            f"{name} must have the rows and columns of the chip, {width} columns and at least "
            f"{int(places.max(initial=0)) // width + 1} rows, got {chip.shape[0]} x {chip.shape[1]}"
        )
    return chip.reshape(-1)[places]


def hot_current(seed: int, share: float, mean_e_per_s: float, places: IntArray) -> FloatArray:
    """Dark current of hot pixels above that of the others, electrons per second: 0 or an exponential law."""
    if not share:
        return np.zeros(places.shape, np.float32)
    hot = draws.uniforms(seed, Stream.HOT_PIXEL, places) < share
    return (-mean_e_per_s * np.log(draws.uniforms(seed, Stream.HOT_CURRENT, places)) * hot).astype(np.float32)


def line_pattern(seed: int, stream: Stream, lines: IntArray, size_e: float) -> FloatArray:
    """Fixed offset of rows or columns, electrons."""
    if not size_e:
        return np.zeros(lines.shape, np.float32)
    return size_e * draws.normals(seed, stream, lines)


def bin_pixels(values: Array, shape: tuple[int, int], binning: int, xp: Array) -> Array:
    """Sum of `binning` x `binning` pixels: (batch, rows * columns) -> (batch, rows * columns / binning^2)."""
    if binning == 1:
        return values
    return xp.reshape(pixel_sums(xp.reshape(values, (-1, *shape)), binning), (values.shape[0], -1))


def expose_detailed(
    backend: Backend, photons: Array, ticks: IntArray, seed: int, sensor: Sensor, details: Details, dtype: str
) -> Array:
    """Frames of a camera with details; `sensor.response` and the photons are those of the pixels of the chip.

    Electrons are drawn by the same kernels, in steps of 1/256.
    """
    xp, shape = backend.xp, (len(details.rows), len(details.columns))
    means = bin_pixels(photons * sensor.response[None, :], shape, details.binning, xp) + details.dark_e[None, :]
    none, inf = np.float32(0.0), np.float32(np.inf)
    ones = xp.ones_like(details.dark_e)
    drawn = sensor._replace(
        response=ones, dark_e=none, well_e=inf, gain=np.float32(STEPS), offset=np.float32(STEPS * SHIFT_E), top=inf
    )
    electrons = expose(backend, means, ticks, seed, drawn, "float32") * (1.0 / STEPS) - SHIFT_E
    electrons = electrons + line_noise(backend, ticks, seed, details)
    electrons = xp.where(electrons > details.well_e, details.well_e, electrons)
    electrons = electrons + electrons * electrons * (details.curvature / details.well_e)
    dn = xp.round(electrons * details.gain[None, :] + details.offset_dn[None, :])
    top = float(sensor.top)
    dn = xp.where(dn > top, top, xp.where(dn < 0.0, 0.0, dn))
    return xp.astype(dn, getattr(xp, dtype))


def line_noise(backend: Backend, ticks: IntArray, seed: int, details: Details) -> Array:
    """Noise that is common to a row, and to a column, of each frame, electrons: (batch, n_pixels) or (batch, 1)."""
    rows, columns = (lines[:: details.binning] for lines in (details.rows, details.columns))
    noise = np.zeros((len(ticks), 1, 1), np.float32)
    for size, stream, lines, axes in (
        (details.row_e, Stream.ROW_NOISE, rows, (0, 2)),
        (details.column_e, Stream.COLUMN_NOISE, columns, (0, 1)),
    ):
        if size:
            drawn = draws.normals(seed, stream, lines[None, :], ticks[:, None]).reshape(len(ticks), len(lines))
            part = np.float32(size) * drawn
            noise = noise + (part[:, :, None] if axes == (0, 2) else part[:, None, :])
    if noise.shape[1:] != (1, 1):
        noise = np.broadcast_to(noise, (len(ticks), len(rows), len(columns)))
    return backend.asarray(np.ascontiguousarray(noise.reshape(len(ticks), -1)))
