"""Data of a real bench for ``opu calibrate``: files of frames, and the questions that a bench is asked."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from calibration import Recording
    from calibration.device import Device
    from photonics import OPU

__all__ = ["ask", "open_answers", "was_asked"]

OTHER_SEED, OTHER_LIGHT = 0x5EED, 0.4
"""Seed and light of the medium of a second simulated bench, whose frames differ from those of the first."""


def open_answers(recorded: list[Path], patterns: list[Path], device: str) -> "Recording":
    """Open the files of one or several rounds; a device that is a TOML file describes frames without a description."""
    from calibration import open_recording
    from calibration.storage.questions import join_recordings
    from photonics import OPU
    from photonics.presets import is_file

    if len(patterns) not in (0, 1, len(recorded)):
        raise ValueError(f"patterns must be given once, or for each of {len(recorded)} recordings, got {len(patterns)}")
    tables = None
    if is_file(device):
        known = OPU.from_toml(device).to_dict()
        tables = {name: known[name] for name in ("laser", "dmd", "imaging", "camera")}
    every = patterns * len(recorded) if len(patterns) == 1 else patterns or [None] * len(recorded)
    return join_recordings([open_recording(p, q, device=tables) for p, q in zip(recorded, every, strict=True)])


def was_asked(record: "Recording") -> bool:
    """Whether frames answer questions of this package, whose device they describe, or are a recording of it."""
    return "medium" in record.device or not record.in_memory


def ask(path: Path, opu: "OPU | None", answers: "Recording | None", measure: Callable[["Device"], object]) -> bool:
    """Write the next questions of a measurement; return whether there are any.

    Raises
    ------
    ValueError
        If the answers lack the description of their questions, or are those of others.
    """
    from calibration.storage.questions import find_questions, write_questions
    from photonics import OPU, GaussianMedium, Lossy

    if opu is None:
        if answers is None or "medium" not in answers.device:
            raise ValueError("recorded must answer questions of opu calibrate --questions to be continued (--patterns)")
        opu = OPU.from_dict(answers.device)
    n_out, n_in = opu.medium.shape
    other = opu.replace(medium=Lossy(GaussianMedium(n_in, n_out, seed=OTHER_SEED), OTHER_LIGHT))
    other.clock.frames, other.exposure_s = opu.clock.frames, opu.exposure_s
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about frames that are simulated
        found = find_questions(measure, [copy.deepcopy(opu), other], answers)
    if found is None:
        return False
    write_questions(path, found)
    typer.echo(f"{len(found.patterns)} frames to take: {path}")
    return True
