"""Frames of a recovery that are kept: of one that was refused, and of one to resume."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calibration.device import Device
from calibration.recovery.brightness import Saturated
from calibration.storage.files import WrongFile, publish_unused
from calibration.storage.journal import Journal

__all__ = ["check_kept", "keep_refused"]


def check_kept(device: Device, journal: Journal) -> None:
    """Raise a `WrongFile` if the frames of a run to resume are not of this device's camera."""
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
