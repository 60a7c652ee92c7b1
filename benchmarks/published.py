"""Two published codes of this rule against this package, at equal budgets: ``python -m benchmarks.published tinydfa``.

The rules of the others are stated as equations and computed in a few lines of plain torch, without the package `dfa`.
Initial weights, batches and optimiser are the same for both. The matrices are drawn by the law of each code.

References
----------
TinyDFA, the code of J. Launay et al., NeurIPS 2020 (arXiv:2006.12878), and its MNIST example; BioTorch, the code of A.
Sanfiz and M. Akrout, arXiv:2108.13446, and its LeNet for MNIST.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from statistics import mean, stdev

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, cross_entropy, pad

from benchmarks.pages import table_row
from dfa.data import mnist
from dfa.experiments.runs import format_mean
from dfa.feedback.random import RandomFeedback
from dfa.models import mlp
from dfa.models.chain import Chain
from dfa.rules.direct import DirectFeedback
from dfa.training.images import accuracy

Signals = Callable[[Tensor], list[Tensor]]
"""From the error of a batch, (batch, classes), to the signals of the hidden layers."""
Step = Callable[[Tensor, Tensor], None]
"""Adds the gradients of a batch of images and labels."""
Rule = Callable[[nn.Sequential, int], Step]
"""Step of a rule for a model and a seed."""
BATCH = 128


def uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    """Matrix with entries that are uniform in +-bound."""
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def tinydfa_signals(seed: int) -> Signals:
    """``U e / sqrt(256)``, entries of U uniform in +-1; layers of the same width share U."""
    matrix = uniform((10, 256), 1.0, torch.Generator().manual_seed(seed))
    return lambda error: [error @ matrix / 16.0] * 2


def biotorch_signals(seed: int) -> Signals:
    """The next layer's transposed derivative, with fixed weights from the error instead of its own.

    The weights have the law of Xavier, uniform in ``+-sqrt(6 / (fan_in + fan_out))``. A convolution takes the error at
    each place of its output.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [(6, 10, 25), (16, 1, 25), (120, 0, 1), (84, 0, 1)]  # channels, places along a side of the output, kernel
    weights = [
        uniform((10, c, 5, 5) if k > 1 else (10, c), (6 / (k * (c + 10))) ** 0.5, generator) for c, _, k in sizes
    ]

    def signals(error: Tensor) -> list[Tensor]:
        found = []
        for (_, side, kernel), weight in zip(sizes, weights, strict=True):
            places = error[:, :, None, None].expand(-1, -1, side, side)
            found.append(conv_transpose2d(places, weight) if kernel > 1 else error @ weight)
        return found

    return signals


def tinydfa_mlp(seed: int) -> nn.Sequential:
    """TinyDFA's network for MNIST."""
    return mlp([784, 256, 256, 10], seed, nn.ReLU)


def lenet(seed: int) -> Chain:
    """BioTorch's LeNet for images of 32 x 32: Xavier's weights, biases of 0, no activation before the last layer."""
    generator = torch.Generator().manual_seed(seed)
    model = Chain(
        nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten()),
        nn.Linear(120, 84),
        nn.Linear(84, 10),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            module.bias = nn.Parameter(torch.zeros(len(module.weight)))
    return model


def plain_step(layers: list[nn.Module], signals: Signals) -> Step:
    """Step of the rule: each layer learns from its signal, the last one from the loss."""

    def step(x: Tensor, y: Tensor) -> None:
        outputs = [x]
        for layer in layers:
            outputs.append(layer(outputs[-1].detach()))
        loss = cross_entropy(outputs[-1], y)
        [error] = torch.autograd.grad(loss, outputs[-1], retain_graph=True)
        torch.autograd.backward([loss, *outputs[1:-1]], [None, *signals(error)])

    return step


def learner_step(model: nn.Module, learner: DirectFeedback | None) -> Step:
    """Step of this package; without a learner, of backpropagation."""

    def step(x: Tensor, y: Tensor) -> None:
        output = model(x)
        loss = cross_entropy(output, y)
        if learner is None:
            loss.backward()
        else:
            learner.backward(loss, output)

    return step


def score(
    build: Callable[[int], nn.Sequential], optimise: Callable[..., torch.optim.Optimizer], data: list[Tensor],
    rule: Rule, epochs: int, seed: int,
) -> float:  # fmt: skip
    """Test accuracy in % of a network trained by a rule."""
    model = build(seed)
    step, optimiser = rule(model, seed), optimise(model.parameters())
    x, y, test_x, test_y = data
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for picked in torch.randperm(len(x), generator=generator).split(BATCH):
            optimiser.zero_grad()
            step(x[picked], y[picked])
            optimiser.step()
    return 100 * accuracy(model, test_x, test_y, 1024)


def plain(signals: Callable[[int], Signals], model: nn.Sequential, seed: int) -> Step:
    """Their rule."""
    return plain_step(layers_of(model), signals(seed))


def layers_of(model: nn.Sequential) -> list[nn.Module]:
    """Layers, each with its activation."""
    return list(model) if isinstance(model, Chain) else [model[:2], model[2:4], model[4]]


def ours(spread: str, model: nn.Sequential, seed: int) -> Step:
    """Rule of this package with its default scale."""
    return learner_step(model, DirectFeedback(model, feedback=RandomFeedback(seed), spread=spread))


def backpropagation(model: nn.Sequential, seed: int) -> Step:
    """Plain backpropagation."""
    return learner_step(model, None)


def format_gap(differences: list[float]) -> str:
    """Mean of paired differences and its standard error."""
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
    return f"{mean(differences):+.1f} ± {error:.1f}"


def main() -> None:
    """Print a row for each network and rule: accuracy, and its difference from their rule's, seed by seed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description="Published codes of DFA.")
    parser.add_argument("network", choices=("tinydfa", "lenet"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rate", type=float, help="learning rate; 0.01 (SGD) for tinydfa, 1e-4 (Adam) for lenet")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "3 blocks of convolutions without a norm")
    found = mnist(validation=0)
    data = [found.train[0][: given.samples], found.train[1][: given.samples], *found.test]
    rules: dict[str, Rule] = {"their rule": partial(plain, tinydfa_signals), "this package": partial(ours, "each")}
    build, optimise = tinydfa_mlp, partial(torch.optim.SGD, lr=given.rate or 0.01, momentum=0.9)
    if given.network == "lenet":
        rules = {
            "their rule": partial(plain, biotorch_signals),
            "this package": partial(ours, "each"),
            'this package, spread="channels"': partial(ours, "channels"),
        }
        build, optimise = lenet, partial(torch.optim.Adam, lr=given.rate or 1e-4, weight_decay=1e-4)
        data[0], data[2] = (pad(part.view(-1, 1, 28, 28), (2, 2, 2, 2), value=float(part.min())) for part in data[::2])
    theirs: list[float] = []
    for name, rule in (rules | {"backpropagation": backpropagation}).items():
        values = [score(build, optimise, data, rule, given.epochs, seed) for seed in range(given.seeds)]
        theirs = theirs or values
        gap = format_gap([a - b for a, b in zip(values, theirs, strict=True)])
        print(table_row([given.network, name, format_mean(values, 1), gap]), flush=True)


if __name__ == "__main__":
    main()
