"""One step of training, by backpropagation or by a learner, and the random state around it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Rule", "check_numbers", "reproducible", "take_step"]


class Rule(Protocol):
    """Whatever fills ``.grad`` instead of ``loss.backward()``: `dfa.DirectFeedback` does."""

    def backward(self, loss: Tensor, output: Tensor) -> None:
        """Add to the gradients, given the loss and what the model returned."""
        ...


def take_step(loss: Tensor, output: Tensor, optimiser: torch.optim.Optimizer, learner: Rule | None) -> float:
    """Take one step of the optimiser and return the loss.

    Parameters
    ----------
    loss : Tensor, scalar
        Computed from `output`, which is what the model returned.
    learner : Rule, optional
        None is plain backpropagation.

    Raises
    ------
    ValueError
        If the loss is not finite; the weights are left as they are.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise ValueError(f"loss must be finite, got {value}: training has diverged, lower the learning rate")
    optimiser.zero_grad()
    if learner is None:
        loss.backward()
    else:
        learner.backward(loss, output)
    optimiser.step()
    return value


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Inside, torch's own draws (dropout) are a function of the seed; outside, they go on as if nothing had been."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def check_numbers(**values: float) -> None:
    """Raise a ``ValueError`` that names the first value that is not positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value!r}")
