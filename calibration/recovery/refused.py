"""Frames of a recovery that was refused: they are kept, and the error says where."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calibration.recovery.brightness import Saturated
from calibration.storage.files import WrongFile, publish_unused

__all__ = ["keep_refused"]


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
