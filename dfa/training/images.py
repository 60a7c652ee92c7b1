"""Training on samples with one label each."""

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
from dfa.training.steps import check_counts, check_data, check_options

__all__ = ["accuracy", "image_task", "train"]


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
        Trained on its training part. The other two parts are only evaluated.
    learner : Learner, optional
        Learning rule of `model` (`DirectFeedback`, `LayerFeedback`); None is plain backpropagation.
    epochs, batch_size, learning_rate
        As usual. The last, smaller batch of an epoch is also used.
    seed : int
        Seed of the order of the samples and of dropout.
    align : int
        Number of training samples on which the alignment is measured after each epoch; 0 for none.
    **options
        How the run is optimised, saved and watched: see the other parameters, which every training function has.

    Returns
    -------
    list of Epoch
        One `dfa.training.epoch.Epoch` for each epoch.

    Other Parameters
    ----------------
    folder : path, optional
        Folder of this run: the checkpoint ``last.pt``, written after each epoch and each minute, and ``metrics.csv``
        and ``metrics.json`` with one row for each epoch (`dfa.training.epoch.Epoch.row`).
    resume : bool
        Continue from the checkpoint if there is one, at any step. The result is the same as that of an unbroken run.
    progress : bool, default True
        Show a progress bar.
    settings : mapping, optional
        Other settings, in plain types, that must agree with those of the checkpoint (such as the device).
    checkpoint_every : int
        Steps between additional checkpoints; 0 for none.
    diagnostics : bool, default True
        Watch every 20th step, measure angles, and stop a run whose feedback is always zero or whose camera is
        saturated. If False, only a loss or weights that are not finite stop it. The weights do not depend on it.
    tensorboard : bool
        Also write the records as events into the subfolder ``tensorboard``; needs the package tensorboard.
    optimiser : callable, optional
        Returns the optimiser of the parameters, such as ``functools.partial(torch.optim.SGD, lr=0.1)``; by default
        Adam with `learning_rate`.
    clip_norm : float, optional
        Maximum norm of the gradient of all parameters together.

    Raises
    ------
    ValueError
        If an option is unknown, a number is out of range, the folder cannot be written or contains another run, or the
        checkpoint has other settings.
    Diverged
        If the loss or the weights are not finite, or the feedback teaches nothing (`dfa.training.guards`); a subclass
        of ``ValueError``. The last good checkpoint is kept, and the message names it.
    """
    check_options(train, options, RunOptions.__annotations__)
    task = image_task(data, epochs, batch_size, seed, align)
    return run_loop(task, model, learner, Options(learning_rate=learning_rate, **options)).history


def image_task(data: Dataset, epochs: int, batch_size: int, seed: int, align: int = 0) -> Task:
    """Return batches, loss and scores of a run; the parameters are those of `train`."""
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

    return Task(
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


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 256) -> float:
    """Share of samples that are classified correctly; NaN without samples."""
    if not len(x):
        return float("nan")
    right = sum(
        int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(batch_size), y.split(batch_size), strict=True)
    )
    return right / len(x)
