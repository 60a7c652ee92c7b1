"""The state of a training run in one file, which is always replaced as a whole."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from calibration.storage.files import replace_file
from dfa.feedback.base import State

__all__ = ["Checkpoint", "random_state", "restore_random_state"]


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
        content = io.BytesIO()
        torch.save({"settings": json.dumps(self.settings), **state}, content)
        replace_file(self.path, content.getvalue())
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
            state = torch.load(self.path, weights_only=True)
            saved, self.step = json.loads(state.pop("settings")), int(state["step"])
        except Exception as error:  # damaged and foreign files raise errors of many types
            raise ValueError(f"{self.path} must be a checkpoint of this package ({type(error).__name__})") from None
        for name, value in self.settings.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{self.path} belongs to a run with {name} {saved.get(name)!r}, this run has {value!r}"
                )
        return state


def random_state() -> State:
    """State of torch's own generators, including that of every GPU."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: State) -> None:
    """Restore the result of `random_state`. States of GPUs that this machine lacks are ignored."""
    torch.set_rng_state(state["cpu"])
    for device, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)
