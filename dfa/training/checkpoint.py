"""The state of a training run in one file, which is always replaced as a whole."""

import io
import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from calibration.storage.files import replace_file
from dfa.feedback.base import State
from dfa.rules.learner import Learner

__all__ = ["Checkpoint", "describe_learner", "describe_optimiser", "random_state", "restore_random_state"]


LAST_LINE = "opu-sim checkpoint, CRC-32 {:08x}\n"
"""Last line of the file, with the checksum of everything before it. `torch.load` ignores the line."""

PLAIN = (bool, int, float, str, type(None))
"""Types of optimiser options that JSON can represent; other values are described by their ``repr``."""
FIXED = ("rule", "weights", "variant", "encoder", "seed", "shared", "matrix")
"""Entries of the state of a learner or of feedback that do not change during a run."""


class Checkpoint:
    """The file ``last.pt`` of a folder.

    Parameters
    ----------
    folder : path, optional
        Created if it does not exist; None saves nothing.
    settings : mapping
        Settings of the run, in plain types. A state can be loaded only if its settings are equal.

    Attributes
    ----------
    step : int or None
        Step of the saved state; None if nothing of this run has been saved or loaded.
    """

    def __init__(self, folder: str | Path | None, settings: Mapping[str, object]) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.path = None if self.folder is None else self.folder / "last.pt"
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.step: int | None = None

    def save(self, state: State) -> None:
        """Replace the file by a state: tensors and plain values, including ``step``."""
        if self.path is None:
            return
        if self.step is not None and not self.path.exists():
            warnings.warn(
                f"{self.path} was deleted during the run: it is written again, other files are lost", stacklevel=2
            )
        content = io.BytesIO()
        torch.save({"settings": json.dumps(self.settings), **state}, content)
        saved = content.getvalue()
        replace_file(self.path, saved + LAST_LINE.format(zlib.crc32(saved)).encode())
        self.step = state["step"]

    def load(self) -> State | None:
        """Read the state; None if there is no file.

        Only tensors and plain values are read (``weights_only``), so that a checkpoint cannot run code.

        Raises
        ------
        ValueError
            If the file is damaged, is not a checkpoint of this package, or has other settings.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(io.BytesIO(check_sum(self.path.read_bytes())), weights_only=True)
            saved, self.step = json.loads(state.pop("settings")), int(state["step"])
        except Exception as error:  # files of other programs raise errors of many types
            reason = str(error) if isinstance(error, (Damaged, OSError)) else type(error).__name__
            raise ValueError(
                f"{self.path} must be a checkpoint of this package ({reason}): the file is not changed, remove it to "
                "start again"
            ) from None
        for name, value in self.settings.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{self.path} must be of a run with {name} {value!r}, got one with {saved.get(name)!r}"
                )
        return state


def describe_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, object]:
    """Return kind and options of an optimiser, for each group of parameters, in plain types, as settings of a run."""
    groups = [
        {name: value if isinstance(value, PLAIN) else repr(value) for name, value in group.items() if name != "params"}
        for group in optimiser.param_groups
    ]
    return {"optimiser": type(optimiser).__name__, "optimiser_options": groups}


def describe_learner(learner: Learner) -> dict[str, object]:
    """Return rule, seed and matrices of a learner and of its feedback, in plain types, as settings of a run."""
    state = learner.state_dict()
    found = {name: state[name] for name in FIXED if name in state}
    feedback = state.get("feedback", {})
    return found | {f"feedback.{name}": feedback[name] for name in FIXED if name in feedback}


class Damaged(ValueError):
    """The checksum of a file is missing or wrong."""


def check_sum(content: bytes) -> bytes:
    """Return the content of a checkpoint without its last line, or raise `Damaged`."""
    size = len(LAST_LINE.format(0))
    saved, last = content[:-size], content[-size:]
    if last != LAST_LINE.format(zlib.crc32(saved)).encode():
        raise Damaged("its checksum is missing or wrong: it is damaged, incomplete or of another version")
    return saved


def random_state() -> State:
    """State of torch's own generators, including that of every GPU."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: State) -> None:
    """Restore the result of `random_state`. States of GPUs that this machine lacks are ignored."""
    torch.set_rng_state(state["cpu"])
    for device, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)
