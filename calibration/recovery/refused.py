"""Frames of a recovery that was refused, or that do not fit: they are kept, and faults in their order are named."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from calibration.device import Device
from calibration.fields.drift import sample
from calibration.fields.readings import RawFrames
from calibration.fields.sequence import check_sequence
from calibration.recovery.base import RecoveryMethod
from calibration.recovery.brightness import Saturated
from calibration.storage.files import WrongFile, publish_unused
from calibration.storage.journal import Journal

__all__ = ["check_kept", "explain_order", "keep_refused"]

MAX_BITS = 2**28
"""Largest number of mirrors times frames whose order is checked."""


def check_kept(device: Device, journal: Journal) -> None:
    """Raise a `WrongFile` if the frames of a run to resume are not of this device's camera."""
    if not journal.arrays:  # cut off after its description
        journal.append({"frames": np.empty((0, device.n_out), device.camera.dtype)})
    frames = journal.arrays.get("frames")
    if frames is None or (frames.dtype, frames.shape[1:]) != (device.camera.dtype, (device.n_out,)):
        raise WrongFile(
            f"out must have frames of {device.n_out} pixels, got {journal.path}: remove it, or take another out"
        )


@contextmanager
def keep_refused(part: Path, target: Path | None) -> Iterator[None]:
    """Keep the frames in `part` if the block raises a ``ValueError``, and add their path to its message.

    Parameters
    ----------
    part : Path
        Frames of the run; the file is in a temporary folder if `target` is None.
    target : Path, optional
        The file of the result. Saturated frames move to ``<target>.refused``, so that a run at another exposure can use
        the same `target`. Other frames stay in `part`, to resume.
    """
    try:
        yield
    except WrongFile:  # a recording has its frames
        raise
    except ValueError as error:
        if target is None:
            kept = part.replace(Path(tempfile.mkdtemp(prefix="opu-refused-")) / part.name)
        elif isinstance(error, Saturated):
            kept = publish_unused(part, target.with_name(f"{target.name}.refused"))
        else:
            kept = part
        raise ValueError(f"{error}; the frames are kept in {kept}") from error


def explain_order(raw: RawFrames, plan: RecoveryMethod, n_out: int) -> str:
    """Name the frames of a run that do not show their patterns, or say why their order is not judged.

    Frames are counted from 0, after the dark frames.
    """
    if raw.count * plan.n_in > MAX_BITS:
        return "The order of the frames was not judged: they are too many"
    shots = plan.shots(0, raw.count)
    found = check_sequence(shots.patterns, sample(raw, n_out), reference_phase=shots.reference_phase)
    if not found.judged:
        return f"The order of the frames was {found}"
    return f"Counted after the dark frames: {found}"
