"""Training on samples with a label each: epochs, accuracy, alignment."""

import math
from functools import lru_cache
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dfa.data import Dataset
from dfa.rules.learner import Learner
from dfa.training.epoch import Epoch
from dfa.training.loop import Options, RunOptions, Task, run_loop
from dfa.training.steps import check_counts, check_data

__all__ = ["accuracy", "train"]


def train(
    model: nn.Module,
    data: Dataset,
    learner: Learner | None = None,
    *,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    align: int = 256,
    **options: Unpack[RunOptions],
) -> list[Epoch]:
    """Train a classifier on the cross-entropy, by Direct Feedback Alignment or backpropagation.

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
        Order of the samples and dropout: functions of the seed.
    align : int
        Training samples on which the alignment is measured after each epoch; 0 for none.
    **options
        How the run is kept and watched, see the other parameters; other training functions take them, too.

    Returns
    -------
    list of Epoch

    Other Parameters
    ----------------
    folder : path, optional
        Where the run is kept, and no other: the checkpoint ``last.pt``, rewritten whole after each epoch and each
        minute, and with it ``metrics.csv`` and ``metrics.json``, a row for each epoch
    (`dfa.training.diagnostics.Diagnostics`). resume : bool
        Go on from the checkpoint if there is one, at any step. The result is that of a run that was never stopped.
    progress : bool, default True
        Show a progress bar.
    settings : mapping, optional
        Whatever else a checkpoint must have been made with to be gone on with (the device, say), in plain types.
    checkpoint_every : int
        Steps after which there is another checkpoint; 0 for those alone that `folder` describes.
    diagnostics : bool, default True
        Watch every 20th step, measure angles, and stop a run whose feedback is dead or whose camera is saturated.
        Without, only a loss or weights that are not finite stop it. The weights do not depend on it.
    tensorboard : bool
        Write the diagnostics as events, too, into ``tensorboard`` in the folder; needs the package of that name.
    optimiser : callable, optional
        Makes the optimiser of the parameters, such as ``functools.partial(torch.optim.SGD, lr=0.1)``; by default Adam
        at `learning_rate`.
    clip_norm : float, optional
        Largest norm of the gradient of all parameters together.

    Raises
    ------
    ValueError
        If a number is out of range, the folder cannot be written or holds another run, or the checkpoint is of other
        settings.
    Diverged
        A ``ValueError``, too: if the loss or the weights are not finite, or the feedback is dead
        (`dfa.training.guards`). The last good checkpoint stays, and the message names it.
    """
    check_data(Dataset, data=data)
    check_counts(epochs=epochs, batch_size=batch_size)
    x, y = data.train
    per_epoch = math.ceil(len(x) / batch_size)

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        return torch.randperm(len(x), generator=torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**64))

    def batch(step: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(step - 1, per_epoch)
        picked = order(epoch)[place * batch_size : (place + 1) * batch_size]
        return x[picked], y[picked]

    def evaluate(model: nn.Module) -> tuple[float, float]:
        return accuracy(model, *data.validation), accuracy(model, *data.test)

    task = Task(
        steps=epochs * per_epoch,
        epoch_steps=per_epoch,
        evaluate_every=per_epoch,
        record_every=per_epoch,
        batch=batch,
        loss=cross_entropy,
        evaluate=evaluate,
        probe=(x[:align], y[:align]) if align else None,
        seed=seed,
        settings={"data": [data.name, len(x)], "batch_size": batch_size},
    )
    return run_loop(task, model, learner, Options(learning_rate=learning_rate, **options)).history


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 4096) -> float:
    """Share of samples whose largest logit is that of their class; NaN without samples."""
    if not len(x):
        return float("nan")
    right = sum(
        int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True)
    )
    return right / len(x)
