"""Whether the frames of a recording belong to their patterns."""

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from calibration.fields.sequence import MAX_PIXELS, FrameFault, SequenceCheck, check_sequence, refuse
from calibration.storage.recording import Recording
from photonics.arrays import FloatArray

__all__ = ["check_recording", "check_unasked", "is_long", "warn_of_order"]

MAX_BITS = 2**28
"""Largest number of mirrors times frames that is checked."""
MIN_COMPARED = 8
"""Number of frames from which on the light of one is compared with the others."""
MIN_LIGHT_DN = 3.0
"""Smallest expected light of a frame that is judged, DN."""
BLACK_SHARE = 0.02
"""Share of the expected light below which a frame has none."""
UNASKED_BITS = 2**22
"""Largest number of mirrors times frames that is checked without being asked: 4096 frames of 1024 mirrors, 2 s."""
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
    black = find_black(record, light.mean(axis=1), lit, packed)
    faults = [*(replace(fault, frame=int(lit[fault.frame])) for fault in check.faults), *black]
    return replace(check, shown=shown, faults=tuple(sorted(faults, key=lambda fault: fault.frame)))


def find_black(
    record: Recording, level: FloatArray, lit: NDArray[np.intp], packed: NDArray[np.uint8]
) -> list[FrameFault]:
    """Frames without light although mirrors are ON, by the light for each mirror in the other frames.

    `level` is the mean light of the frames `lit`, DN, and `packed` are their patterns. Frames of the reference beam
    are compared with each other.
    """
    on = np.bitwise_count(packed).sum(axis=1)
    weight = on * record.columns["exposure_s"][lit]
    beam = np.isfinite(record.columns["reference_phase"][lit])
    found: list[int] = []
    if (level[~beam & (on == 0)] > MIN_LIGHT_DN).any():
        return []  # frames of no mirrors have light: the patterns are those of other frames
    for group in (np.flatnonzero(beam), np.flatnonzero(~beam & (on > 0))):
        if len(group) >= MIN_COMPARED:
            scale = record.columns["exposure_s"][lit[group]] if beam[group[0]] else weight[group]
            expected = np.median(level[group] / scale) * scale
            found += lit[group[(expected > MIN_LIGHT_DN) & (level[group] < BLACK_SHARE * expected)]].tolist()
    runs: list[FrameFault] = []
    for frame in sorted(found):
        if runs and frame == runs[-1].frame + runs[-1].count:
            runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
        else:
            runs.append(FrameFault("black", frame, 1, 0, 1.0))
    return runs


def is_long(record: Recording) -> bool:
    """Whether a recording is checked only if someone asks for it."""
    return len(record) * record.n_in > UNASKED_BITS


def check_unasked(record: Recording, dark_dn: float) -> SequenceCheck:
    """Do what `check_recording` does, unless the recording is so long that nobody should wait for it unasked."""
    if is_long(record):
        return refuse(len(record), "the recording is long: ask for it by RecordedDevice.check_sequence")
    return check_recording(record, dark_dn)


def warn_of_order(path: object, found: SequenceCheck, stacklevel: int) -> None:
    """Warn of frames that do not show their patterns, with their numbers."""
    if found.faults:
        warnings.warn(
            f"{path}: frames do not belong to their patterns: {found}; record again, or write the recording with the "
            f"patterns that RecordedDevice.check_sequence gives",
            stacklevel=stacklevel + 1,
        )


def some_pixels(record: Recording) -> FloatArray:
    """All frames on pixels that are spread over the sensor: (n_frames, n_pixels)."""
    step = -(-record.n_out // MAX_PIXELS)
    starts = range(0, len(record), CHUNK_FRAMES)
    parts = [record.rows("frames", start, start + CHUNK_FRAMES)[:, ::step].astype(np.float32) for start in starts]
    return np.concatenate([np.zeros((0, -(-record.n_out // step)), np.float32), *parts])
