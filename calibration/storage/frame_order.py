"""Whether the frames of a recording belong to their patterns."""

from dataclasses import replace

import numpy as np

from calibration.fields.sequence import MAX_PIXELS, SequenceCheck, check_sequence, refuse
from calibration.storage.recording import Recording
from photonics.arrays import FloatArray

__all__ = ["check_recording"]

MAX_BITS = 2**28
"""Largest number of mirrors times frames that is checked."""
CHUNK_FRAMES = 256
"""Frames that are read at a time."""


def check_recording(record: Recording, dark_dn: float) -> SequenceCheck:
    """Find frames of a recording that do not show their patterns (`calibration.check_sequence`).

    Parameters
    ----------
    record : Recording
    dark_dn : float
        Dark level if the recording has no dark frames, DN.

    Returns
    -------
    SequenceCheck
        Frames have their numbers in the file.
    """
    count, lit = len(record), np.flatnonzero(record.columns["laser_on"])
    if count * record.n_in > MAX_BITS:
        return refuse(count, f"the recording has {count} patterns of {record.n_in} mirrors, too many to compare")
    frames = some_pixels(record)
    dark = frames[~record.columns["laser_on"]]
    light = frames[lit] - (dark.mean(axis=0) if len(dark) else np.float32(dark_dn))
    packed = record.rows("patterns", 0, count)[lit]
    check = check_sequence(
        np.unpackbits(packed, axis=1, count=record.n_in),
        light / record.columns["exposure_s"][lit, None],
        reference_phase=record.columns["reference_phase"][lit],
    )
    shown = np.full(count, -1)
    shown[lit] = np.where(check.shown < 0, -1, lit[check.shown])
    return replace(check, shown=shown, faults=tuple(replace(f, frame=int(lit[f.frame])) for f in check.faults))


def some_pixels(record: Recording) -> FloatArray:
    """All frames on pixels that are spread over the sensor: (n_frames, n_pixels)."""
    step = -(-record.n_out // MAX_PIXELS)
    starts = range(0, len(record), CHUNK_FRAMES)
    parts = [record.rows("frames", start, start + CHUNK_FRAMES)[:, ::step].astype(np.float32) for start in starts]
    return np.concatenate([np.zeros((0, -(-record.n_out // step)), np.float32), *parts])
