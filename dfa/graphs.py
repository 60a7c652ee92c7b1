"""Training on a graph: all nodes at once, a few of them with labels, judged at the best validation epoch."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from dfa.data import Graph
from dfa.steps import Rule, check_numbers, reproducible, take_step

__all__ = ["GraphEpoch", "GraphRun", "node_accuracy", "train_graph"]


@dataclass(frozen=True)
class GraphEpoch:
    """What is known after an epoch, which is one step."""

    loss: float
    """Cross-entropy of the training nodes before the step, mean, with dropout."""
    validation: float
    """Share of validation nodes classified rightly after it."""
    test: float
    """Share of test nodes classified rightly after it."""


@dataclass(frozen=True)
class GraphRun:
    """One training run."""

    history: tuple[GraphEpoch, ...]
    best: int
    """Position in `history` of the highest validation accuracy, the first of several."""

    @property
    def accuracy(self) -> float:
        """Test accuracy at the best validation epoch: the figure to report."""
        return self.history[self.best].test


def train_graph(
    model: nn.Module,
    graph: Graph,
    learner: Rule | None = None,
    *,
    epochs: int = 250,
    learning_rate: float = 0.01,
    weight_decay: float = 5e-4,
    seed: int = 0,
    progress: bool = True,
) -> GraphRun:
    """Train a graph network with Adam on the cross-entropy of the training nodes.

    The loss is a mean over the training nodes, the output has all of them: the error ``dL/d(output)`` of a training
    node is ``(softmax - onehot) / training nodes`` and that of every other node is 0.

    Parameters
    ----------
    model : nn.Module
        Maps the features of all nodes to logits: (n, d) -> (n, classes). `dfa.models.gcn` makes one. It is left with
        the weights of the best validation epoch.
    graph : Graph
        Trained on its training nodes; the others' labels are only looked at.
    learner : Rule, optional
        Made for `model`; None is plain backpropagation.
    epochs, learning_rate
        As usual; an epoch is one step.
    weight_decay : float
        Added to the gradients, times the weights (Adam's own, 0 for none). By the defaults it is the reference for
        backpropagation with a dropout of 0.5; for DFA 1e-4 with a dropout of 0.1 is better.
    seed : int
        Dropout is a function of it.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        If a number is out of range, a node of a part has no label, a part is empty, or the loss is no longer finite.
    """
    check_numbers(epochs=epochs, learning_rate=learning_rate)
    check_parts(graph)
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    history: list[GraphEpoch] = []
    best, weights = 0, {}
    bar = tqdm(total=epochs, unit=" epochs", leave=False, disable=not progress)
    with reproducible(seed), bar:
        for epoch in range(epochs):
            model.train()
            output = model(graph.features)
            loss = take_step(cross_entropy(output[graph.train], graph.labels[graph.train]), output, optimiser, learner)
            validation, test = node_accuracy(model, graph, graph.validation, graph.test)
            history.append(GraphEpoch(loss, validation, test))
            if epoch == 0 or validation > history[best].validation:
                best, weights = epoch, copy.deepcopy(model.state_dict())
            bar.update()
            bar.set_postfix(loss=f"{loss:.3g}", validation=f"{validation:.1%}", test=f"{history[best].test:.1%}")
    model.load_state_dict(weights)
    return GraphRun(tuple(history), best)


def check_parts(graph: Graph) -> None:
    """Raise a ``ValueError`` if a part of the graph is empty or holds a node without a label."""
    for name in ("train", "validation", "test"):
        labels = graph.labels[getattr(graph, name)]
        if not len(labels) or int(labels.min()) < 0:
            raise ValueError(f"{name} must have nodes, all with labels, got {labels.unique().tolist()} in {graph.name}")


@torch.no_grad()
def node_accuracy(model: nn.Module, graph: Graph, *masks: Tensor) -> list[float]:
    """Share of the nodes of each mask whose largest logit is that of their class, without dropout."""
    model.eval()
    right = model(graph.features).argmax(1) == graph.labels
    return [right[mask].double().mean().item() for mask in masks]
