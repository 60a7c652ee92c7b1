"""The data and the network of a planned run: how the network is built and trained."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Unpack

import torch
from torch import nn

from dfa.data import Dataset, Graph, Text
from dfa.experiments.plans import Plan
from dfa.models import char_transformer, cnn, gcn, mlp
from dfa.rules.learner import Learner
from dfa.training.epoch import Epoch
from dfa.training.graphs import train_graph
from dfa.training.images import train
from dfa.training.language import train_text
from dfa.training.loop import RunOptions

__all__ = ["Data", "build_model", "limit_samples", "signal_width", "train_plan"]

Data = Dataset | Graph | Text
CONVOLUTIONAL = ("cnn", "norm-cnn")
"""Networks whose hidden widths are channels, and then units."""


def limit_samples(data: Data, samples: int | None) -> Data:
    """Return the data with only the first `samples` training samples, nodes or characters; None keeps all."""
    if samples is None:
        return data
    if isinstance(data, Graph):
        check_samples(samples, int(data.train.sum()), data.name)
        return replace(data, train=data.train & (data.train.cumsum(0) <= samples))
    if isinstance(data, Text):
        check_samples(samples, len(data.train), data.name)
        return replace(data, train=data.train[:samples])
    check_samples(samples, len(data.train[0]), data.name)
    return replace(data, train=(data.train[0][:samples], data.train[1][:samples]))


def check_samples(samples: int, available: int, name: str) -> None:
    """Raise a ``ValueError`` if the data has fewer training samples."""
    if samples > available:
        raise ValueError(f"samples must be at most {available} for {name}, got {samples}")


def build_model(method: str, plan: Plan, data: Data, seed: int) -> nn.Module:
    """Build the network of a plan for its data."""
    assert plan.hidden is not None
    if isinstance(data, Graph):
        sizes = [data.features.shape[1], *plan.hidden, data.classes]
        return gcn(sizes, data.adjacency, plan.regularisation(method)[0], seed)
    if isinstance(data, Text):
        return char_transformer(data.classes, plan.context, plan.hidden[0], len(plan.hidden), plan.heads, seed)
    if plan.network in CONVOLUTIONAL:
        kind, norm = (nn.ReLU, True) if plan.network == "norm-cnn" else (nn.Tanh, False)
        *channels, units = plan.hidden
        return cnn(image_side(data), channels, units, data.classes, seed, kind, data.colours, norm)
    return mlp([data.features, *plan.hidden, data.classes], seed)


def image_side(data: Dataset) -> int:
    """Pixels along the side of a square image."""
    return round((data.features / data.colours) ** 0.5)


def signal_width(plan: Plan, data: Data) -> int:
    """Entries of the teaching signals of all hidden blocks together: the pixels that the device must have."""
    assert plan.hidden is not None
    if plan.network not in CONVOLUTIONAL or plan.spread == "channels" or not isinstance(data, Dataset):
        return sum(plan.hidden)
    *channels, units = plan.hidden
    sides = [image_side(data) // 2**k for k in range(1, len(plan.hidden))]
    if plan.spread == "each":
        return sum(count * side * side for count, side in zip(channels, sides, strict=True)) + units
    return sum(sides) + units


def train_plan(
    method: str,
    plan: Plan,
    model: nn.Module,
    data: Data,
    learner: Learner | None,
    seed: int,
    **options: Unpack[RunOptions],
) -> tuple[list[Epoch], int]:
    """Train a model.

    Parameters
    ----------
    method, plan, data, seed
        What is trained.
    model : nn.Module
        The network that `build_model` returned for them.
    learner : Learner, optional
        The learning rule; None is backpropagation.
    **options
        Options of the training function (`dfa.training.loop.RunOptions`): folder, resume, progress and others.

    Returns
    -------
    history : list of Epoch
    best : int
        Position in `history` of the point to report.
    """
    assert plan.learning_rate is not None
    decay = plan.regularisation(method)[1] if isinstance(data, Graph) else 0.0
    if learner is not None and learner.feedback is not None and plan.hidden_rate != 1.0:
        options["optimiser"] = adam_with_two_rates(learner, plan, decay)
    rate, batch_size = plan.learning_rate, plan.batch_size
    if isinstance(data, Graph):
        assert plan.epochs is not None
        run = train_graph(
            model, data, learner, epochs=plan.epochs, weight_decay=decay, learning_rate=rate, seed=seed, **options
        )
        return list(run.history), run.best
    assert batch_size is not None
    if isinstance(data, Text):
        assert plan.steps is not None
        history = train_text(
            model, data, learner, steps=plan.steps, context=plan.context, batch_size=batch_size, learning_rate=rate,
            seed=seed, **options,
        )  # fmt: skip
    else:
        assert plan.epochs is not None
        history = train(
            model, data, learner, epochs=plan.epochs, batch_size=batch_size, learning_rate=rate, seed=seed, **options
        )
    return history, len(history) - 1


def adam_with_two_rates(
    learner: Learner, plan: Plan, weight_decay: float
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Return a function that builds Adam with the plan's `hidden_rate` for all blocks except the last."""
    assert plan.learning_rate is not None and plan.hidden_rate is not None
    last = {id(parameter) for parameter in learner.parameters(len(learner.names) - 1)}
    rates = {True: plan.learning_rate, False: plan.hidden_rate * plan.learning_rate}

    def build(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        known = list(parameters)
        groups = [{"params": [p for p in known if (id(p) in last) == kind], "lr": rates[kind]} for kind in rates]
        return torch.optim.Adam(groups, weight_decay=weight_decay)

    return build
