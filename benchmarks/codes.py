"""Codes of the error, compared on networks with different activations: ``python -m benchmarks.codes``.

Each network is short and small. The table says which code holds on all of them, not how well a network can learn.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from benchmarks.pages import table_head, table_row
from benchmarks.text_feedback import text_bits
from dfa.data import Dataset, Graph, Text, cora, mnist, tiny_shakespeare
from dfa.experiments.runs import format_mean
from dfa.experiments.tasks import limit_samples
from dfa.feedback.encoding import Ternary
from dfa.feedback.random import RandomFeedback
from dfa.models import char_transformer, cnn, gcn, mlp
from dfa.models.chain import Chain
from dfa.rules.direct import DirectFeedback
from dfa.training.graphs import train_graph
from dfa.training.images import train

CODES: dict[str, Ternary | None] = {
    "no code": None,
    "deviations=1": Ternary(deviations=1.0),
    "stochastic=1": Ternary(stochastic=1.0),
    "stochastic=1, pairs": Ternary(stochastic=1.0, pairs=True),
    "stochastic=1, pairs, restore": Ternary(stochastic=1.0, pairs=True, restore=True),
}
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
Score = Callable[[Ternary | None, int], float]


def lenet(seed: int) -> Chain:
    """LeNet with ReLU: two 5 x 5 convolutions of 6 and 16 channels, layers of 120 and 84, the output."""
    torch.manual_seed(seed)
    return Chain(
        nn.Sequential(nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        nn.Sequential(nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, 10),
    )


def normed(seed: int) -> nn.Sequential:
    """The fully connected network with ReLU, and batch norms before it."""
    first, one, second, two, last = mlp([784, 256, 256, 10], seed, nn.ReLU)
    return nn.Sequential(first, nn.BatchNorm1d(256), one, second, nn.BatchNorm1d(256), two, last)


def feedback(code: Ternary | None, seed: int) -> RandomFeedback:
    """Feedback by a random matrix with a code."""
    return RandomFeedback(seed, None if code is None else replace(code, seed=seed))


def image_score(
    build: Callable[[int], nn.Sequential], data: Dataset, sgd: bool, code: Ternary | None, seed: int
) -> float:
    """Test accuracy in % after 5 epochs."""
    model = build(seed)
    learner = DirectFeedback(model, feedback=feedback(code, seed))
    history = train(
        model, data, learner, epochs=5, batch_size=32, seed=seed, align=0, progress=False, diagnostics=False,
        optimiser=SGD if sgd else None,
    )  # fmt: skip
    return 100 * history[-1].test


def graph_score(graph: Graph, code: Ternary | None, seed: int) -> float:
    """Test accuracy in % at the best validation epoch of 100."""
    model = gcn([graph.features.shape[1], 16, graph.classes], graph.adjacency, 0.1, seed)
    learner = DirectFeedback(model, feedback=feedback(code, seed), diffuse=graph.adjacency)
    run = train_graph(
        model, graph, learner, epochs=100, weight_decay=1e-4, seed=seed, progress=False, diagnostics=False
    )
    return 100 * run.accuracy


def text_score(text: Text, code: Ternary | None, seed: int) -> float:
    """Bits per character after 150 steps."""
    model = char_transformer(text.classes, 32, 64, 2, 4, seed)
    return text_bits(
        model, text, DirectFeedback(model, feedback=feedback(code, seed)), 3e-4, seed, steps=150, windows=64
    )


def networks() -> dict[str, Score]:
    """A score for each network."""
    data = limit_samples(mnist(validation=0), 2000)
    assert isinstance(data, Dataset)
    data = replace(data, test=(data.test[0][:2000], data.test[1][:2000]))
    sizes = [784, 256, 256, 10]
    images: dict[str, tuple[Callable[[int], nn.Sequential], bool]] = {
        "MLP, tanh": (lambda seed: mlp(sizes, seed), False),
        "MLP, ReLU": (lambda seed: mlp(sizes, seed, nn.ReLU), False),
        "MLP, ReLU, SGD": (lambda seed: mlp(sizes, seed, nn.ReLU), True),
        "MLP, ReLU, batch norms": (normed, False),
        "MLP of 32 units, tanh": (lambda seed: mlp([784, 32, 32, 10], seed), False),
        "CNN, tanh": (lambda seed: cnn(channels=(8, 16), hidden=64, seed=seed), False),
        "CNN, ReLU": (lambda seed: cnn(channels=(8, 16), hidden=64, seed=seed, activation=nn.ReLU), False),
        "LeNet, ReLU": (lenet, False),
    }
    scores: dict[str, Score] = {name: partial(image_score, build, data, sgd) for name, (build, sgd) in images.items()}
    return scores | {
        "GCN on Cora, ReLU": partial(graph_score, cora()),
        "transformer, GELU, bits": partial(text_score, tiny_shakespeare()),
    }


def main() -> None:
    """Print a row of the table for each network as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codes", description="Codes on several networks.")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", action="append", help="name of a network; may be repeated")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(table_head(["network", *CODES]), flush=True)
    for name, score in networks().items():
        if given.only and name not in given.only:
            continue
        cells = []
        for code in CODES.values():
            values = [score(code, seed) for seed in range(given.seeds)]
            digits = 2 if statistics.fmean(values) < 10 else 1
            cells.append(format_mean(values, digits))
        print(table_row([name, *cells]), flush=True)


if __name__ == "__main__":
    main()
