"""One training loop: seeds, checkpoints, resume, progress bar, alignment."""

import io
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from calibration.files import replace_file
from dfa.angles import alignment
from dfa.data import Dataset
from dfa.learner import Learner
from dfa.steps import take_step

__all__ = ["Epoch", "accuracy", "train"]


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch."""

    epoch: int
    """Epochs done, from 1."""
    loss: float
    """Mean training loss over the epoch."""
    validation: float
    """Share of validation samples classified rightly; NaN if there are none."""
    test: float
    """Share of test samples classified rightly."""
    angles: tuple[float, ...]
    """Degrees between the update of each block and the true gradient; empty for backpropagation."""
    frames: int
    """Frames that the device has taken so far, calibration included."""
    seconds: float
    """Wall time of the epoch, evaluation excluded."""


def train(
    model: nn.Module,
    data: Dataset,
    learner: Learner | None = None,
    *,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    align: int = 256,
    settings: Mapping[str, Any] | None = None,
) -> list[Epoch]:
    """Train a classifier with Adam on the cross-entropy, by Direct Feedback Alignment or backpropagation.

    Parameters
    ----------
    model : nn.Module
        Returns logits, (batch, classes).
    data : Dataset
        Trained on its first part; the other two are only looked at.
    learner : Learner, optional
        Made for `model` (`DirectFeedback`, `LayerFeedback`); None is plain backpropagation.
    epochs, batch_size, learning_rate
        As usual; the last, smaller batch of an epoch is used, too.
    seed : int
        Order of the samples: a function of seed and epoch.
    folder : path, optional
        Where the checkpoint ``last.pt`` is kept, rewritten whole after each epoch.
    resume : bool
        Go on from the checkpoint if there is one. The result is that of a run that was never stopped.
    progress : bool
        Show a progress bar.
    align : int
        Training samples on which the alignment is measured after each epoch; 0 for none.
    settings : mapping, optional
        Whatever else a checkpoint must have been made with to be gone on with (the device, say), in plain types.

    Returns
    -------
    list of Epoch

    Raises
    ------
    ValueError
        If a number is out of range, the folder cannot be written, the checkpoint is of other settings, or the loss
        is no longer finite (the last good checkpoint stays).
    """
    check_positive(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    own = {"data": [data.name, len(data.train[0])], "batch_size": batch_size, "learning_rate": learning_rate}
    settings = {**(settings or {}), **own, "seed": seed, "feedback": learner is not None}
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    run = Checkpoint(folder, settings, model, optimiser, learner)
    history = run.load() if resume else []
    x, y = data.train
    bar = tqdm(total=epochs * len(x), initial=len(history) * len(x), unit=" samples", leave=False, disable=not progress)
    for epoch in range(len(history), epochs):
        start = time.perf_counter()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        total = 0.0
        model.train()
        for batch in order.split(batch_size):
            total += step(model, x[batch], y[batch], optimiser, learner) * len(batch)
            bar.update(len(batch))
        seconds = time.perf_counter() - start
        model.eval()
        few = slice(0, align)
        angles = alignment(learner, cross_entropy, x[few], y[few]) if learner and align else []
        history.append(
            Epoch(
                epoch=epoch + 1,
                loss=total / len(x),
                validation=accuracy(model, *data.validation),
                test=accuracy(model, *data.test),
                angles=tuple(angles),
                frames=feedback_state(learner).get("frames", 0),
                seconds=seconds,
            )
        )
        bar.set_postfix(epoch=f"{epoch + 1}/{epochs}", loss=f"{total / len(x):.3g}", test=f"{history[-1].test:.2%}")
        run.save(history)
    bar.close()
    return history


def check_positive(**values: float) -> None:
    """Raise a ``ValueError`` that names the first value that is not positive."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")


def step(model: nn.Module, x: Tensor, y: Tensor, optimiser: torch.optim.Optimizer, learner: Learner | None) -> float:
    """One step of the optimiser; returns the loss."""
    output = model(x)
    return take_step(cross_entropy(output, y), output, optimiser, learner)


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 4096) -> float:
    """Share of samples whose largest logit is that of their class; NaN without samples."""
    if not len(x):
        return float("nan")
    right = sum(
        int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True)
    )
    return right / len(x)


def feedback_state(learner: Learner | None) -> dict[str, Any]:
    """State of the feedback, if it has one."""
    return learner.feedback.state_dict() if learner and hasattr(learner.feedback, "state_dict") else {}


class Checkpoint:
    """Everything that a run needs to go on, in one file that is replaced whole."""

    def __init__(
        self,
        folder: str | Path | None,
        settings: Mapping[str, Any],
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        learner: Learner | None,
    ) -> None:
        self.path = None if folder is None else Path(folder) / "last.pt"
        self.settings = json.dumps(settings, sort_keys=True)
        self.model, self.optimiser, self.learner = model, optimiser, learner

    def save(self, history: list[Epoch]) -> None:
        """Write the state after the last epoch of `history`."""
        if self.path is None:
            return
        state = {
            "settings": self.settings,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "feedback": feedback_state(self.learner),
            "random": torch.get_rng_state(),
            "history": [asdict(epoch) for epoch in history],
        }
        content = io.BytesIO()
        torch.save(state, content)
        replace_file(self.path, content.getvalue())

    def load(self) -> list[Epoch]:
        """Put the saved state back and return its history; an empty one if there is no checkpoint.

        Only tensors and plain values are read (``weights_only``): a checkpoint cannot run code.
        """
        if self.path is None or not self.path.exists():
            return []
        try:
            state = torch.load(self.path, weights_only=True)
            history = [Epoch(**(epoch | {"angles": tuple(epoch["angles"])})) for epoch in state["history"]]
            saved = json.loads(state["settings"])
        except Exception as error:  # a damaged or foreign file fails in many ways, none of which is ours to tell apart
            raise ValueError(f"{self.path} must be a checkpoint of this program ({type(error).__name__})") from None
        for name, value in json.loads(self.settings).items():
            if saved.get(name) != value:
                raise ValueError(f"{self.path} is of a run with {name} {saved.get(name)!r}, this one has {value!r}")
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError:
            raise ValueError(f"{self.path} is of a network with other layers") from None
        self.optimiser.load_state_dict(state["optimiser"])
        if state["feedback"] and self.learner is not None:
            self.learner.feedback.load_state_dict(state["feedback"])  # type: ignore[union-attr]
        torch.set_rng_state(state["random"])
        return history
