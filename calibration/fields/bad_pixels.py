"""Pixels that do not measure light: hot ones, saturated in the dark, and dead ones, no brighter in light."""

import numpy as np

from photonics.arrays import BoolArray, HostArray

__all__ = ["is_dead", "is_hot", "without"]


def is_hot(dark: HostArray, saturation_dn: int) -> BoolArray:
    """Whether a pixel is saturated in dark frames, (..., n_out) -> (n_out,); nowhere if all are, which is a fault."""
    full = (dark.reshape(-1, dark.shape[-1]) >= saturation_dn).mean(axis=0) >= 0.5
    return full & ~full.all()


def is_dead(readings: HostArray, dark_dn: float) -> BoolArray:
    """Whether all readings of a pixel are equal, or on average not above dark: (frames, n_rows) -> (n_rows,)."""
    return np.asarray((readings == readings[:1]).all(axis=0) | (readings.mean(axis=0) <= dark_dn))


def without(readings: HostArray, bad: BoolArray, donor: HostArray) -> HostArray:
    """Readings (frames, n_rows) in which a bad pixel has those of a good one, (frames,), so that it spoils no other."""
    if not bad.any():
        return readings
    return np.where(bad, donor[:, None], readings)
