"""The four networks of a study: how each is built, trained and judged."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dfa.data import Dataset, Graph, Text
from dfa.experiments.plans import Plan
from dfa.models import char_transformer, cnn, gcn, mlp
from dfa.rules.learner import Learner
from dfa.training.diagnostics import Diagnostics
from dfa.training.graphs import train_graph
from dfa.training.images import train
from dfa.training.language import train_text

__all__ = ["Point", "first", "model_for", "signal_width", "train_plan"]

Data = Dataset | Graph | Text
NATS = math.log(2.0)
"""Nats in a bit."""


@dataclass(frozen=True)
class Point:
    """What is known after an epoch, or after a number of steps on text."""

    at: int
    """Epochs or steps done, from 1."""
    loss: float
    """Mean training loss since the last point, nats."""
    validation: float
    """Score on the validation part: share of right answers, or bits per character."""
    test: float
    """Score on the test part; text has one part that is held out, and the same figure in both."""
    diagnostics: Diagnostics | None = None
    """Angles, gradients, codes, noise and saturation of the feedback, where they were measured."""

    @property
    def angles(self) -> tuple[float, ...]:
        """Degrees between the update of each block and the true gradient; empty where it was not measured."""
        return tuple(self.diagnostics.angles.values()) if self.diagnostics else ()

    @property
    def frames(self) -> int:
        """Frames that the device had taken by then, calibration included; 0 where nothing was measured."""
        return self.diagnostics.frames if self.diagnostics else 0


def first(data: Data, samples: int | None) -> Data:
    """The data with the first so many training samples, nodes or characters alone."""
    if samples is None:
        return data
    if isinstance(data, Graph):
        count = int(data.train.sum())
        part = data.train & (data.train.cumsum(0) <= samples)
    elif isinstance(data, Text):
        count, part = len(data.train), data.train[:samples]
    else:
        count, part = len(data.train[0]), (data.train[0][:samples], data.train[1][:samples])
    if samples > count:
        raise ValueError(f"samples must be at most {count} for {data.name}, got {samples}")
    return replace(data, train=part)  # type: ignore[arg-type]


def model_for(method: str, plan: Plan, data: Data, seed: int) -> nn.Module:
    """Build the network of a plan for its data."""
    hidden = plan.hidden or ()
    if isinstance(data, Graph):
        sizes = [data.features.shape[1], *hidden, data.classes]
        return gcn(sizes, data.adjacency, plan.regularisation(method)[0], seed)
    if isinstance(data, Text):
        return char_transformer(data.classes, plan.context, hidden[0], len(hidden), plan.heads, seed)
    if plan.network == "cnn":
        return cnn(side(data), hidden[:-1], hidden[-1], data.classes, seed)
    return mlp([data.features, *hidden, data.classes], seed)


def side(data: Dataset) -> int:
    """Pixels along the edge of an image."""
    return round(data.features**0.5)


def signal_width(plan: Plan, data: Data) -> int:
    """Entries of the teaching signals of all hidden blocks together: pixels that the device must have."""
    hidden = plan.hidden or ()
    if plan.network != "cnn" or plan.spread == "channels" or not isinstance(data, Dataset):
        return sum(hidden)
    edges = [side(data) // 2**k for k in range(1, len(hidden))]
    maps = sum(count * edge * edge for count, edge in zip(hidden[:-1], edges, strict=True))
    return (maps if plan.spread == "each" else sum(edges)) + hidden[-1]


def train_plan(
    method: str,
    plan: Plan,
    model: nn.Module,
    data: Data,
    learner: Learner | None,
    seed: int,
    **keeping: Any,
) -> tuple[list[Point], int]:
    """Train a model; returns its history, and the position there of the point that is reported.

    `keeping` are keywords that all training functions have: ``folder``, ``resume``, ``settings``, ``progress``,
    ``tensorboard``.
    """
    assert plan.learning_rate is not None
    decay = plan.regularisation(method)[1] if isinstance(data, Graph) else 0.0
    common: dict[str, Any] = {"learning_rate": plan.learning_rate, "seed": seed, **keeping}
    if learner is not None and learner.feedback is not None and plan.hidden_rate != 1.0:
        common["optimiser"] = two_rates(learner, plan, decay)
    if isinstance(data, Graph):
        assert plan.epochs is not None
        run = train_graph(model, data, learner, epochs=plan.epochs, weight_decay=decay, **common)
        nodes = [Point(i, e.loss, e.validation, e.test, e.diagnostics) for i, e in enumerate(run.history, 1)]
        return nodes, run.best
    assert plan.batch_size is not None
    common["batch_size"] = plan.batch_size
    if isinstance(data, Text):
        assert plan.steps is not None
        spoken = train_text(model, data, learner, steps=plan.steps, context=plan.context, **common)
        points = [
            Point(e.step, e.train_bits * NATS, e.validation_bits, e.validation_bits, e.diagnostics) for e in spoken
        ]
    else:
        assert plan.epochs is not None
        seen = train(model, data, learner, epochs=plan.epochs, **common)
        points = [Point(e.epoch, e.loss, e.validation, e.test, e.diagnostics) for e in seen]
    return points, len(points) - 1


def two_rates(
    learner: Learner, plan: Plan, weight_decay: float
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Make Adam with a rate of its own for the blocks that are taught by fixed feedback: all but the last."""
    assert plan.learning_rate is not None and plan.hidden_rate is not None
    last = {id(parameter) for parameter in learner.parameters(len(learner.names) - 1)}
    rates = {True: plan.learning_rate, False: plan.hidden_rate * plan.learning_rate}

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        known = list(parameters)
        groups = [{"params": [p for p in known if (id(p) in last) == kind], "lr": rates[kind]} for kind in rates]
        return torch.optim.Adam(groups, weight_decay=weight_decay)

    return make
