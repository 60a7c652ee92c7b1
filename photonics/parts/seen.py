"""The share of the field that a region of interest needs."""

from dataclasses import replace

from photonics.parts.imaging import Imaging

__all__ = ["seen_by"]


def seen_by(imaging: Imaging, n_field: int, modes: int = 1) -> tuple[slice | None, Imaging]:
    """Field samples of each mode that a frame needs, and the optics for these alone; None for all samples.

    They are the rows of the region, or the pixels of a region of one row; None if these are all rows. Behind a pupil,
    and if the pattern creeps, the transform takes the field on the whole sensor.

    Parameters
    ----------
    imaging : Imaging
        The optics.
    n_field, modes : int
        Outputs of the medium (all modes together), and its modes.
    """
    if imaging.region is None or imaging.numerical_aperture is not None or imaging.creeps:
        return None, imaging
    (height, width), (row, rows, column, columns) = imaging.sensor_of(n_field, modes), imaging.region
    if rows == height > 1 or (rows, columns) == (height, width):
        return None, imaging
    if rows == 1:
        first = row * width + column
        return slice(first, first + columns), replace(imaging, sensor=(1, columns), region=(0, 1, 0, columns))
    optics = replace(imaging, sensor=(rows, width), region=(0, rows, column, columns))
    return slice(row * width, (row + rows) * width), optics
