"""Training of a classifier whose blocks several processes hold."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from dfa.data import Dataset
from dfa.feedback.base import State
from dfa.rules.parallel import LayerParallel
from dfa.training.diagnostics import write_metrics
from dfa.training.epoch import Epoch
from dfa.training.guards import check_weights
from dfa.training.images import image_task
from dfa.training.loop import CHECKPOINT_S
from dfa.training.rank_checkpoint import RankCheckpoint, told_by_all
from dfa.training.steps import reproducible

__all__ = ["train_ranks"]

AGREE_EVERY = 20
"""Steps after which the processes agree whether a checkpoint is due."""
EVALUATED = 4096
"""Samples that are evaluated together."""


def train_ranks(
    stage: LayerParallel,
    data: Dataset,
    *,
    folder: Path,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    settings: Mapping[str, object],
    tell: Callable[[str], object],
) -> list[Epoch]:
    """Train a classifier in all processes of a stage, as `dfa.train` does in one; resume if there is a checkpoint.

    A checkpoint is written after each epoch and each minute. `tell` receives the line that says why a process ends.

    Returns
    -------
    list of Epoch
        One for each epoch, without angles and gradients; the same in all processes.
    """
    task = image_task(data, epochs, batch_size, seed)
    optimiser = torch.optim.Adam(stage.module.parameters(), lr=learning_rate)
    settings = {**settings, **task.settings, "learning_rate": learning_rate, "seed": seed}
    checkpoint = RankCheckpoint(folder, stage, optimiser, settings, tell)
    with reproducible(seed), checkpoint.watch():
        first = checkpoint.load()
        state = checkpoint.state = {"history": [], "loss": 0.0, "samples": 0, **checkpoint.state}
        saved_at = began = time.monotonic()
        for step in range(first + 1, task.steps + 1):
            x, target = (stage.shard(part) for part in task.batch(step))
            output = stage(x)
            loss = None if output is None else task.loss(output, target)
            optimiser.zero_grad()
            stage.backward(loss)
            optimiser.step()
            if loss is not None:
                state["loss"] += loss.item() * len(target)
                state["samples"] += len(target)
            if step % task.epoch_steps == 0:
                state["history"].append(asdict(evaluate(stage, data, step, step // task.epoch_steps, state, began)))
                began = time.monotonic()
            late = step % AGREE_EVERY == 0 and max(told_by_all(time.monotonic() - saved_at > CHECKPOINT_S))
            if late or step % task.epoch_steps == 0:
                checkpoint.save(step)
                saved_at = time.monotonic()
    history = [Epoch(**record) for record in state["history"]]
    if checkpoint.rank == 0:
        write_metrics(folder, history, settings)
    return history


def evaluate(stage: LayerParallel, data: Dataset, step: int, epoch: int, state: State, began: float) -> Epoch:
    """Return the record of an epoch, the same in all processes; the sum of the loss starts again."""
    check_weights(stage.module)
    stage.module.eval()
    scores = [accuracy(stage, *part) for part in (data.validation, data.test)]
    stage.module.train()
    loss = stage.replication.total(state["loss"]) / max(stage.replication.total(state["samples"]), 1.0)
    state["loss"], state["samples"] = 0.0, 0
    loss, *scores = stage.replication.from_last([loss, *scores])
    return Epoch(
        epoch=epoch,
        step=step,
        loss=loss,
        validation=scores[0],
        test=scores[1],
        frames=0 if stage.feedback is None else stage.feedback.frames,
        seconds=time.monotonic() - began,
    )


@torch.no_grad()
def accuracy(stage: LayerParallel, x: Tensor, y: Tensor) -> float:
    """Share of samples that are classified correctly, in the last process; NaN elsewhere, and without samples."""
    outputs = [stage(part) for part in x.split(EVALUATED)] if len(x) else []
    found = [output for output in outputs if output is not None]
    return int((torch.cat(found).argmax(1) == y).sum()) / len(y) if found else float("nan")
