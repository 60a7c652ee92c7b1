"""Everything that a training run needs to go on, in one file that is replaced whole."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from calibration.storage.files import replace_file

__all__ = ["Checkpoint", "random_state", "restore_random_state"]


class Checkpoint:
    """The file ``last.pt`` of a folder.

    Parameters
    ----------
    folder : path, optional
        Made if it is not there; None keeps nothing.
    settings : mapping
        What a state must have been made with to be gone on with, in plain types.

    Attributes
    ----------
    step : int or None
        Step of the state that the file holds; None if it holds none of this run.
    """

    def __init__(self, folder: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if folder is None else Path(folder).expanduser() / "last.pt"
        self.settings = json.loads(json.dumps(settings))
        self.step: int | None = None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file by a state: tensors and plain values, with ``step`` among them."""
        if self.path is None:
            return
        content = io.BytesIO()
        torch.save({"settings": json.dumps(self.settings), **state}, content)
        replace_file(self.path, content.getvalue())
        self.step = state["step"]

    def load(self) -> dict[str, Any] | None:
        """Read the state, or None if there is no file.

        Only tensors and plain values are read (``weights_only``): a checkpoint cannot run code.

        Raises
        ------
        ValueError
            If the file is none of ours, damaged, or of other settings.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
            saved, self.step = json.loads(state.pop("settings")), int(state["step"])
        except Exception as error:  # a damaged or foreign file fails in many ways, none of which is ours to tell apart
            raise ValueError(f"{self.path} must be a checkpoint of this program ({type(error).__name__})") from None
        for name, value in self.settings.items():
            if saved.get(name) != value:
                raise ValueError(f"{self.path} is of a run with {name} {saved.get(name)!r}, this one has {value!r}")
        return state


def random_state() -> dict[str, Any]:
    """State of torch's own generators, that of every GPU included."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put `random_state` back; GPUs that are not there are left out."""
    torch.set_rng_state(state["cpu"])
    for device, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)
