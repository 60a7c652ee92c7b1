"""Bad pixels: hot ones are bright in the dark or blink, dead ones do not respond to light."""

from calibration.arrays import mean
from calibration.camera.pixels import is_bad_in_dark
from photonics.arrays import Array, BoolArray, HostArray
from photonics.backend import backend_of, to_host

__all__ = ["is_dead", "is_hot", "replace_bad_pixels"]


def is_hot(dark: HostArray, saturation_dn: int) -> BoolArray:
    """Whether a pixel is saturated, much brighter than the others or blinks in dark frames: (..., n_out) -> (n_out,).

    False for all if every pixel is saturated.
    """
    dark = dark.reshape(-1, dark.shape[-1])
    full = (dark >= saturation_dn).mean(axis=0) >= 0.5
    return (full & ~full.all()) | is_bad_in_dark(dark, saturation_dn)


def is_dead(readings: Array, dark_dn: float) -> BoolArray:
    """Whether all readings of a pixel are equal, or on average not above dark: (frames, n_rows) -> (n_rows,)."""
    xp = backend_of(readings).xp
    return to_host(xp.all(readings == readings[:1, :], axis=0) | (mean(readings, axis=0) <= dark_dn))


def replace_bad_pixels(readings: Array, bad: BoolArray, donor: Array) -> Array:
    """Replace readings of bad pixels, (frames, n_rows), by those of a good one, (frames,), so that sums stay valid."""
    if not bad.any():
        return readings
    backend = backend_of(readings)
    return backend.xp.where(backend.asarray(bad), donor[:, None], readings)
