"""The pixels of a camera: fixed flaws of each, as functions of its place on the chip."""

import math
from functools import lru_cache

import numpy as np

from photonics import draws
from photonics.arrays import Array, FloatArray, HostArray, IntArray
from photonics.backend import Backend
from photonics.parts.chip.maps import read_map
from photonics.parts.chip.parameters import DOUBLING_K, MAPS, CameraParameters
from photonics.parts.chip.readout import Details, bin_pixels, hot_current, line_pattern, map_values
from photonics.parts.sensor import Window
from photonics.random import Stream

__all__ = ["details_on", "first_places", "nonuniformity", "response_on"]


def places(pixels: int, window: Window | None) -> IntArray:
    """Numbers of the pixels on the chip, (pixels,), or raise a ``ValueError`` if the window has another size."""
    numbers = np.arange(pixels) if window is None else window.places()
    if numbers.size != pixels:
        raise ValueError(f"photons must have {numbers.size} pixels, as the window has, got {pixels}")
    return numbers


@lru_cache(maxsize=8)
def nonuniformity(camera: CameraParameters, pixels: int, window: Window | None) -> tuple[FloatArray, FloatArray]:
    """Relative response (PRNU, 0 for dead pixels) and dark offset (DSNU, electrons) of each pixel; read-only."""
    index = places(pixels, window)
    prnu = np.maximum(1.0 + camera.prnu * draws.normals(camera.seed, Stream.PRNU, index), 0.0)
    if camera.dead_pixels:
        prnu = prnu * (draws.uniforms(camera.seed, Stream.DEAD_PIXEL, index) >= camera.dead_pixels)
    if camera.bad_pixel_map is not None:
        prnu = prnu * (
            map_values(camera.bad_pixel_map, "bad_pixel_map", index, chip_width(camera, pixels, window), 0.0) == 0
        )
    dsnu = camera.dsnu_e * draws.normals(camera.seed, Stream.DSNU, index)
    prnu, dsnu = prnu.astype(np.float32), dsnu.astype(np.float32)
    prnu.flags.writeable = dsnu.flags.writeable = False
    return prnu, dsnu


@lru_cache(maxsize=8)
def response_on(
    camera: CameraParameters, pixels: int, window: Window | None, backend: Backend
) -> tuple[Array, Array, Array]:
    """Place (uint32), mean electrons per photon and DSNU (float32) of each pixel, (pixels,) on a backend."""
    prnu, dsnu = nonuniformity(camera, pixels, window)
    response = (camera.quantum_efficiency * prnu).astype(np.float32)
    return backend.asarray(places(pixels, window).astype(np.uint32)), backend.asarray(response), backend.asarray(dsnu)


def chip_width(camera: CameraParameters, pixels: int, window: Window | None) -> int:
    """Pixels in a row of the chip: those of the window, of a map, or of a nearly square chip."""
    if window is not None:
        return window.width
    texts = [text for name in MAPS if (text := getattr(camera, name)) is not None]
    return read_map(texts[0]).shape[1] if texts else max(math.isqrt(pixels), 1)


def lines_of(camera: CameraParameters, pixels: int, window: Window | None) -> tuple[IntArray, IntArray]:
    """Rows and columns of the chip that are read; without a window, as many whole rows as there are."""
    if window is not None:
        return np.arange(window.row, window.row + window.rows), np.arange(window.column, window.column + window.columns)
    width = next(w for w in range(min(chip_width(camera, pixels, window), pixels), 0, -1) if pixels % w == 0)
    return np.arange(pixels // width), np.arange(width)


@lru_cache(maxsize=8)
def details_on(
    camera: CameraParameters, pixels: int, window: Window | None, exposure_s: float, backend: Backend
) -> tuple[Details, Array]:
    """Details of a camera, and the fixed offset of each pixel in electrons, (n_pixels / binning^2,), on a backend."""
    index, width, side = places(pixels, window), chip_width(camera, pixels, window), camera.binning
    rows, columns = lines_of(camera, pixels, window)
    if len(rows) % side or len(columns) % side or (len(rows) and (rows[0] % side or columns[0] % side)):
        raise ValueError(
            f"binning must divide the rows and columns that are read, and their first ones, got {side} for rows "
            f"{rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}"
        )

    def binned(values: HostArray) -> FloatArray:
        return bin_pixels(values[None, :], (len(rows), len(columns)), side, np)[0].astype(np.float32)

    offset_e = nonuniformity(camera, pixels, window)[1].astype(np.float64)
    offset_e = offset_e + line_pattern(camera.seed, Stream.ROW_DSNU, index // width, camera.row_dsnu_e)
    offset_e = offset_e + line_pattern(camera.seed, Stream.COLUMN_DSNU, index % width, camera.column_dsnu_e)
    hot = hot_current(camera.seed, camera.hot_pixels, camera.hot_current_e_per_s, index)
    dark = camera.dark_electrons(exposure_s) / side**2 + hot * 2.0 ** (camera.warming_k / DOUBLING_K) * exposure_s
    gain = map_values(camera.gain_map, "gain_map", index, width, 1.0) * (camera.gain / side**2)
    offset = map_values(camera.offset_map, "offset_map", index, width, 0.0) / side**2
    details = Details(
        dark_e=backend.asarray(binned(dark)),
        gain=backend.asarray(binned(gain)),
        offset_dn=backend.asarray(binned(offset) + np.float32(camera.offset)),
        well_e=camera.full_well_e,
        curvature=camera.nonlinearity,
        row_e=camera.row_noise_e,
        column_e=camera.column_noise_e,
        rows=rows,
        columns=columns,
        binning=side,
    )
    return details, backend.asarray(binned(offset_e))


def first_places(camera: CameraParameters, pixels: int, window: Window | None, backend: Backend) -> Array:
    """Place on the chip of the first pixel of each one of the frame, uint32."""
    rows, columns = lines_of(camera, pixels, window)
    grid = places(pixels, window).reshape(len(rows), len(columns))[:: camera.binning, :: camera.binning]
    return backend.asarray(np.ascontiguousarray(grid.reshape(-1), np.uint32))
