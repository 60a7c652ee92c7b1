"""The transmission matrix of a bench as the medium of its twin."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from calibration.fields.sideband_place import MAX_BAND, max_disc_radius
from calibration.pairs.matrix import fit_matrix
from calibration.recovery.estimate import TransmissionEstimate
from calibration.storage.recording import Recording
from calibration.twin.evidence import Evidence
from calibration.twin.pixels import PixelMaps
from photonics import DMD, OPU, Imaging, Laser, Reference, draws
from photonics.arrays import ComplexArray, IntArray
from photonics.random import Stream

__all__ = ["beam_beside_rows", "chosen_frames", "medium_of", "recover_matrix", "relative_levels"]

MAX_LOSS = 0.05
"""Largest share of the field's correlation time that the frames of the matrix may last."""
PATTERNS_PER_INPUT = 24
"""Wanted number of patterns for each input: the error is then 0.4 of that of a frame."""
ENOUGH = 0.7
"""Share of the patterns within `MAX_LOSS` that is taken if there are fewer: the others may be far away in time."""
HELD_OUT = 10
"""One frame in so many is not fitted: `calibration.check_twin` predicts it."""

ADVICE = "leave it out, or use a polariser and an aperture that resolves the speckle"


class Chosen(NamedTuple):
    """Frames of a matrix."""

    fitted: IntArray
    """Numbers of the frames to which it is fitted."""
    tested: IntArray
    """Numbers of the frames that are left out."""


def chosen_frames(seen: Evidence, correlation_frames: float) -> Chosen:
    """Frames of many patterns in a short time: the medium and the laser change meanwhile.

    They are those of half-ON patterns at the main exposure. Frames with the reference are added if their patterns
    determine the fields.
    """
    opened = seen.laser_on & ~np.isnan(seen.phase) & (seen.on > 0)
    enough = len(np.unique(seen.name[opened])) > seen.n_in
    lit = np.flatnonzero((seen.half & seen.at(seen.main_s)) | (opened & enough))
    number, new = seen.number[lit], np.cumsum(np.diff(seen.name[lit], prepend=-1) != 0)
    most = int((new[np.searchsorted(number, number + MAX_LOSS * correlation_frames) - 1] - new).max()) + 1
    wanted = min(PATTERNS_PER_INPUT * seen.n_in, int(ENOUGH * most))
    stop = np.searchsorted(new, new + wanted)  # `wanted` patterns later
    whole = np.flatnonzero(stop < len(lit))
    first = int(whole[np.argmin(number[stop[whole]] - number[whole])]) if len(whole) else 0
    index = lit[first : stop[first]]
    closed = index[np.isnan(seen.phase[index])]
    tested = (closed if len(closed) >= HELD_OUT else index)[HELD_OUT // 2 :: HELD_OUT]
    return Chosen(index[~np.isin(seen.name[index], seen.name[tested])], tested)


def recover_matrix(seen: Evidence, device: OPU, correlation_frames: float) -> TransmissionEstimate:
    """Fit the matrix, in the unit of the twin `device`, whose parameters take the place of the data sheet.

    Rows contain the response of their pixels, so that the device must not have one.

    Raises
    ------
    ValueError
        If the frames do not determine it, or no row fits, as where a pixel sees several fields.
    """
    if device.imaging.polarisations > 1:
        raise ValueError(f"matrix must be that of pixels that see one field, got two polarisations: {ADVICE}")
    fitted, _ = chosen_frames(seen, correlation_frames)
    exposures = [time for time, _ in seen.dark()]
    dark = seen.dark()[int(np.argmin(np.abs(np.log(np.array(exposures) / seen.main_s))))][1]
    rows = np.sort(np.concatenate([dark, fitted]))
    if device.imaging.numerical_aperture is not None:
        device = device.replace(**{"imaging.reference": beam_beside_rows(device.imaging, device.laser.wavelength_m)})
    flat = device.replace(**{"camera.prnu": 0.0, "camera.gain_map": None, "laser.drift_rms": 0.0})
    record = Recording.from_arrays(
        seen.patterns[rows],
        seen.frames[rows],
        seen.exposure_s[rows],
        device={name: table for name, table in flat.to_dict().items() if name != "medium"},
        reference_phase=seen.phase[rows],
        laser_on=seen.laser_on[rows],
        frame_number=seen.number[rows],
    )
    estimate = fit_matrix(record)
    if not estimate.valid.any():
        raise ValueError(f"matrix must be that of pixels that see one field, got frames that no matrix fits: {ADVICE}")
    return estimate


def beam_beside_rows(imaging: Imaging, wavelength_m: float) -> Reference:
    """Reference beam of a device whose medium is a fitted matrix.

    Rows that frames at several phases give have the phase relative to the beam on their pixel, with its tilt in them:
    the beam is upright. A sideband that is apart from the rest of the spectrum gives rows without the tilt.
    """
    beam, scale = imaging.reference, imaging.pixel_m / wavelength_m
    band = scale * (imaging.numerical_aperture or 1.0)
    if band <= MAX_BAND and max_disc_radius(beam.carrier(wavelength_m, imaging.pixel_m), band) >= band:
        return beam
    return replace(beam, angle_x_rad=0.0, angle_y_rad=0.0)


def relative_levels(laser: Laser, dmd: DMD, n_in: int) -> ComplexArray:
    """Field that each input adds when it turns ON, relative to their rms: (n_in,)."""
    off, on = dmd.levels(n_in)
    weight = np.sqrt(laser.power_share(dmd.cells(n_in))) * (on - off)
    return (weight / np.sqrt(np.mean(np.abs(weight) ** 2))).astype(np.complex64)


def medium_of(estimate: TransmissionEstimate, weight: ComplexArray, maps: PixelMaps, seed: int) -> ComplexArray:
    """Matrix of a medium that gives the fields of the estimate, (n_out, n_in), for inputs with these levels.

    The response of the pixels is divided out if there is a map of it. Rows that could not be measured are drawn.
    """
    found = np.asarray(estimate.matrix) / weight
    if maps.gain is not None:
        found /= np.sqrt(maps.gain)[:, None]
    real, imag = (draws.normals(seed, Stream.MATRIX, np.arange(found.size), k).reshape(found.shape) for k in (0, 1))
    drawn = (real + 1j * imag) / np.sqrt(2.0 * len(weight))
    return np.where(estimate.valid[:, None], found, drawn).astype(np.complex64)
