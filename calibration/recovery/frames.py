"""The frames of a recovery: taken in parts, kept in a file or where the device computes, and read by rows.

Frames of a recovery that is refused are kept, and faults in the order of frames that do not fit are named.
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tqdm import tqdm

from calibration.arrays import bring
from calibration.device import Device, backend_of_device
from calibration.fields.bad_pixels import is_hot
from calibration.fields.drift import sample
from calibration.fields.readings import RawFrames
from calibration.fields.sequence import check_sequence
from calibration.recovery.base import RecoveryMethod
from calibration.recovery.brightness import Saturated, check_first_frames
from calibration.recovery.methods import take_frames
from calibration.storage.files import WrongFile, publish_unused
from calibration.storage.journal import Journal
from photonics.arrays import Array
from photonics.backend import Backend, to_host

__all__ = [
    "DARK_FRAMES",
    "FrameStore",
    "FramesOnDevice",
    "MethodFrames",
    "blocks",
    "check_kept",
    "explain_order",
    "frames_at_a_time",
    "keep_refused",
    "slices",
    "take_missing_frames",
]

DARK_FRAMES = 8
"""Frames with the laser's shutter closed, before the others."""
FIRST_FRAMES = DARK_FRAMES + 64
"""Frames after which a run that saturates ends."""
CHUNK_PIXELS = 2**22
"""Pixels (or mirrors) of the frames taken and written at a time."""
CHUNK_FRAMES = 256
"""Maximum number of frames taken at a time: a killed run loses at most this many."""
BLOCK_VALUES, DEVICE_BLOCK_VALUES = 2**21, 2**26
"""Frames times rows solved at a time, on the host and elsewhere; a method needs some 50 bytes for each."""
MAX_BITS = 2**28
"""Largest number of mirrors times frames whose order is checked."""
PANEL_BLOCKS = 8
"""Blocks of rows whose frames are read at a time, so that a disk reads long pieces of each frame."""


class FramesOnDevice:
    """The frames of a run in the memory of the device that computes them, which is not the host.

    A run that is killed loses them.
    """

    def __init__(self, header: Mapping[str, Any], device: Device, count: int) -> None:
        backend = backend_of_device(device)
        self.header = header
        self._frames = backend.empty((count, device.n_out), np.dtype(device.camera.dtype).name)
        self._count = 0

    @property
    def arrays(self) -> Mapping[str, Array]:
        """The frames so far, as "frames"."""
        return {"frames": self._frames[: self._count, :]}

    def append(self, arrays: Mapping[str, Array]) -> None:
        """Keep further frames."""
        frames = arrays["frames"]
        stop = self._count + frames.shape[0]
        self._frames[self._count : stop, :] = frames
        self._count = stop


FrameStore: TypeAlias = Journal | FramesOnDevice
"""Where the frames of a run are kept: in a file, or in the memory of the device."""


class MethodFrames:
    """The frames of a run without the dark ones at its beginning (`calibration.fields.readings.RawFrames`).

    They are read on `backend`, wherever they are kept.
    """

    def __init__(self, frames: Array, backend: Backend) -> None:
        self._frames, self.backend = frames, backend

    @property
    def count(self) -> int:
        """Number of frames."""
        return self._frames.shape[0] - DARK_FRAMES

    def rows(self, rows: slice) -> Array:
        """All frames of some pixels: (count, n_rows)."""
        return bring(self._frames[DARK_FRAMES:, rows], self.backend)

    def frames(self, start: int, stop: int) -> Array:
        """All pixels of some frames: (stop - start, n_out)."""
        return bring(self._frames[DARK_FRAMES + start : DARK_FRAMES + stop, :], self.backend)


def slices(start: int, stop: int, size: int) -> list[slice]:
    """Ranges of `size` from `start` to `stop`; the last one may be shorter."""
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


def blocks(raw: MethodFrames, n_out: int) -> Iterator[tuple[slice, Array]]:
    """Rows to solve at a time, with all frames of their pixels."""
    values = BLOCK_VALUES if raw.backend.on_host else DEVICE_BLOCK_VALUES
    width = min(max(values // (raw.count + DARK_FRAMES), 8), n_out)
    for panel in slices(0, n_out, PANEL_BLOCKS * width):
        readings = raw.rows(panel)
        for rows in slices(panel.start, panel.stop, width):
            part = readings[:, rows.start - panel.start : rows.stop - panel.start]
            yield rows, np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part


def frames_at_a_time(device: Device) -> int:
    """Number of frames to take or to read at a time, limited by memory."""
    return min(max(CHUNK_PIXELS // max(device.n_out, device.n_in), 1), CHUNK_FRAMES)


def take_missing_frames(device: Device, plan: RecoveryMethod, store: FrameStore, progress: bool) -> None:
    """Take the frames that are not kept yet, with the frame numbers of an uninterrupted run."""
    size, count = frames_at_a_time(device), DARK_FRAMES + plan.frames
    done = store.arrays["frames"].shape[0]
    device.clock.frames = store.header["start_frame"] + done
    keep = (lambda frames: frames) if isinstance(store, FramesOnDevice) else to_host
    with tqdm(total=count, initial=done, unit="frame", desc=plan.name, disable=not progress) as bar:
        while done < count:
            if done < DARK_FRAMES:
                frames = bring(device.dark(DARK_FRAMES - done), backend_of_device(device))
            else:
                stop = min(done + size, count, FIRST_FRAMES if done < FIRST_FRAMES else count)
                frames = take_frames(device, plan.shots(done - DARK_FRAMES, stop - DARK_FRAMES))
            store.append({"frames": keep(frames)})
            done += frames.shape[0]
            bar.update(frames.shape[0])
            if done == FIRST_FRAMES < count:
                first = store.arrays["frames"]
                hot = is_hot(to_host(first[:DARK_FRAMES, :]), device.camera.saturation_dn)
                check_first_frames(device, hot, first[DARK_FRAMES:, :])
    if done < count + plan.closing_frames:
        closing = take_closing_frames(device, plan, done - DARK_FRAMES)
        if closing is not None:
            store.append({"frames": keep(closing)})


def take_closing_frames(device: Device, plan: RecoveryMethod, start: int) -> Array | None:
    """Take the last frames, which show how far the medium has moved; None from older recordings, with a warning."""
    try:
        return take_frames(device, plan.shots(start, plan.frames + plan.closing_frames))
    except WrongFile:
        warnings.warn(
            f"opu is a recording without the {plan.closing_frames} last frames of {plan.name}, which show whether the "
            "medium has moved: the stated errors are those of a medium that is still",
            stacklevel=4,
        )
        return None


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
        if not part.exists():  # the frames are in the memory of a device
            raise
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
    if plan.frames * plan.n_in > MAX_BITS:
        return "The order of the frames was not judged: they are too many"
    shots = plan.shots(0, plan.frames)
    found = check_sequence(shots.patterns, sample(raw, n_out)[: plan.frames, :], reference_phase=shots.reference_phase)
    if not found.judged:
        return f"The order of the frames was {found}"
    return f"Counted after the dark frames: {found}"
