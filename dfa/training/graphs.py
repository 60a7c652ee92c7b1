"""Training on a graph: all nodes at once, some of them with labels; the best validation epoch is reported."""

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dfa.data import Graph
from dfa.training.epoch import Epoch
from dfa.training.loop import Options, RunOptions, Task, run_loop
from dfa.training.steps import Rule, check_counts, check_data, check_options

__all__ = ["GraphRun", "node_accuracy", "train_graph"]


@dataclass(frozen=True)
class GraphRun:
    """One training run."""

    history: tuple[Epoch, ...]
    best: int
    """Position in `history` of the highest validation accuracy; the first if there are several."""

    @property
    def accuracy(self) -> float:
        """Test accuracy at the best validation epoch. Report this one."""
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
    every: int = 25,
    **options: Unpack[RunOptions],
) -> GraphRun:
    """Train a graph network on the cross-entropy of the training nodes.

    The output has all nodes, and the loss is the mean over the training nodes. The error ``dL/d(output)`` is
    ``(softmax - onehot) / training nodes`` for a training node, and 0 for any other node.

    Parameters
    ----------
    model : nn.Module
        Maps the features of all nodes to logits: (n, d) -> (n, classes), such as `dfa.models.gcn`. At the end it has
        the weights of the best validation epoch.
    graph : Graph
        Trained on its training nodes. The labels of the others are only used for evaluation.
    learner : Rule, optional
        Learning rule of `model`; None is plain backpropagation.
    epochs, learning_rate
        As usual. An epoch is one step.
    weight_decay : float
        Weight decay of Adam, 0 for none; not used with an `optimiser`. The default is the usual one for backpropagation
        with a dropout of 0.5. For DFA, 1e-4 with a dropout of 0.1 is better.
    seed : int
        Seed of dropout.
    every : int
        Epochs between records with angles, metrics files and checkpoints. The last epoch also has them.
    **options
        How the run is optimised, saved and watched, as for `dfa.train`.

    Raises
    ------
    ValueError
        If an option is unknown, a number is out of range, a node of a part has no label, a part is empty, the folder
        cannot be written, or the checkpoint has other settings.
    Diverged
        As for `dfa.train`.
    """
    check_options(train_graph, options, RunOptions.__annotations__)
    check_data(Graph, graph=graph)
    check_counts(epochs=epochs, every=every)
    check_parts(graph)

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(output[graph.train], labels[graph.train])

    def evaluate(model: nn.Module) -> tuple[float, float]:
        validation, test = node_accuracy(model, graph, graph.validation, graph.test)
        return validation, test

    everything = graph.features, graph.labels
    task = Task(
        steps=epochs,
        evaluate_every=1,
        record_every=every,
        batch=lambda step: everything,
        loss=loss,
        evaluate=evaluate,
        probe=everything,
        seed=seed,
        settings={"data": [graph.name, len(graph.labels)], "weight_decay": weight_decay},
        keep_best=True,
    )
    found = run_loop(task, model, learner, Options(learning_rate=learning_rate, weight_decay=weight_decay, **options))
    model.load_state_dict(found.weights)
    return GraphRun(tuple(found.history), found.best)


def check_parts(graph: Graph) -> None:
    """Raise a ``ValueError`` if a part of the graph is empty or contains a node without a label."""
    for name, part in {"train": graph.train, "validation": graph.validation, "test": graph.test}.items():
        labels = graph.labels[part]
        if not len(labels) or int(labels.min()) < 0:
            raise ValueError(f"{name} must have nodes, all with labels, got {labels.unique().tolist()} in {graph.name}")


@torch.no_grad()
def node_accuracy(model: nn.Module, graph: Graph, *masks: Tensor) -> list[float]:
    """Share of the nodes of each mask that are classified correctly, without dropout."""
    model.eval()
    right = model(graph.features).argmax(1) == graph.labels
    return [right[mask].double().mean().item() for mask in masks]
