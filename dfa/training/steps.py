"""One step of training, by backpropagation or by a learner, and checks of arguments."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from dfa.errors import check_loss
from dfa.rules.learner import Learner
from photonics.component import number

__all__ = ["Rule", "check_counts", "check_data", "check_numbers", "check_options", "reproducible", "take_step"]


class Rule(Protocol):
    """Anything that fills ``.grad`` instead of ``loss.backward()``, such as `dfa.DirectFeedback`.

    A checkpoint keeps the state of a rule only if it is a `dfa.rules.learner.Learner`.
    """

    def backward(self, loss: Tensor, output: Tensor) -> None:
        """Add to the gradients, given the loss and the output of the model."""
        ...


def take_step(
    loss: Tensor,
    output: Tensor,
    optimiser: torch.optim.Optimizer,
    learner: Rule | None,
    clip_norm: float | None = None,
) -> float:
    """Take one step of the optimiser and return the loss.

    Parameters
    ----------
    loss : Tensor, scalar
        Computed from `output`.
    output : Tensor
        Output of the model.
    optimiser : Optimizer
        Its gradients are set to zero first.
    learner : Rule, optional
        None is plain backpropagation.
    clip_norm : float, optional
        Maximum norm of the gradient of all parameters together; a longer gradient is shortened to it.

    Raises
    ------
    Diverged
        If the loss is not finite. The weights are not changed.
    """
    check_loss(loss)
    optimiser.zero_grad()
    if learner is None:
        loss.backward()
    else:
        learner.backward(loss, output)
    if clip_norm is not None:
        clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip_norm)
    update(optimiser, learner)
    return loss.item()


def update(optimiser: torch.optim.Optimizer, learner: Rule | None) -> None:
    """Take a step of the optimiser, in which hidden blocks learn at the rate that the feedback allows.

    Their change is multiplied by `dfa.feedback.base.Feedback.hidden_rate`. For any optimiser this is the learning rate
    of these blocks; a factor on their gradient would change nothing with Adam.
    """
    feedback = learner.feedback if isinstance(learner, Learner) else None
    factor = 1.0 if feedback is None else feedback.hidden_rate
    if factor == 1.0 or not isinstance(learner, Learner):
        optimiser.step()
        return
    hidden = [p for k in range(len(learner.names) - 1) for p in learner.parameters(k)]
    before = [p.detach().clone() for p in hidden]
    optimiser.step()
    with torch.no_grad():
        for parameter, old in zip(hidden, before, strict=True):
            parameter.copy_(torch.lerp(old, parameter, factor))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Context in which torch's own draws (dropout) are a function of the seed. torch's state is restored afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def check_counts(**values: int) -> None:
    """Raise a ``ValueError`` that names the first value that is not a positive integer."""
    check_numbers(**values)
    for name, value in values.items():
        if not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number, got {value!r}")


def check_data(wanted: type, **given: object) -> None:
    """Raise a ``ValueError`` if an argument is not an instance of the class of `dfa.data` that is needed."""
    for name, value in given.items():
        if not isinstance(value, wanted):
            raise ValueError(
                f"{name} must be a dfa.data.{wanted.__name__}, got {type(value).__name__}: dfa.train takes a Dataset, "
                "dfa.training.graphs.train_graph a Graph, dfa.training.language.train_text a Text"
            )


def check_options(function: Callable[..., object], options: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise a ``ValueError`` with the parameters of a training function if one of its other options is unknown."""
    if unknown := options.keys() - known:
        own = [one.name for one in signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
        names, allowed = ", ".join(sorted(unknown)), ", ".join([*own, *known])
        raise ValueError(f"{function.__name__}: {names} is not a parameter; those are {allowed}")


def check_numbers(**values: float) -> None:
    """Raise a ``ValueError`` that names the first value that is not positive and finite."""
    for name, value in values.items():
        if not 0 < number(value) < math.inf:
            raise ValueError(f"{name} must be positive, got {value!r}")
