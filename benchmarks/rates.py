"""Direct Feedback Alignment with SGD at a large learning rate, and remedies: ``python -m benchmarks.rates``.

A small convolutional network with ReLU learns the digits. The table has the test accuracy, and the runs that a warning
of the learner has told.
"""

import argparse
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d, relu

from benchmarks.pages import table_row
from dfa.data import digits
from dfa.experiments.runs import format_mean
from dfa.feedback.random import RandomFeedback
from dfa.rules.direct import DirectFeedback
from dfa.training.images import accuracy
from dfa.training.steps import take_step

BATCH, EPOCHS = 32, 10


class Case(NamedTuple):
    """A row of the table."""

    name: str
    rate: float
    feedback: bool = True
    scale: float | None = None
    clip: float | None = None
    norm: bool = False
    through: str | None = None


CASES = [
    Case("backpropagation", 0.05, feedback=False),
    Case("backpropagation", 0.2, feedback=False),
    Case("DFA", 0.05),
    Case("DFA", 0.01),
    Case("DFA, `scale=0.1`", 0.05, scale=0.1),
    Case("DFA, gradients clipped at a norm of 1", 0.05, clip=1.0),
    Case("DFA, batch norm after the convolutions", 0.05, norm=True),
    Case('DFA, `through="norm"`', 0.05, through="norm"),
]


class Net(nn.Module):
    """Two convolutions and a hidden layer, with activation and pooling as functions."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if norm else nn.Identity() for c in (16, 32))
        self.hidden, self.head = nn.Linear(128, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 64) to logits."""
        x = x.view(-1, 1, 8, 8)
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            x = max_pool2d(relu(norm(layer(x))), 2)
        return self.head(relu(self.hidden(x.flatten(1))))


def build_learner(model: nn.Module, case: Case, seed: int) -> DirectFeedback | None:
    """Learner of a case; None for backpropagation."""
    if not case.feedback:
        return None
    blocks = ["first", "second", "hidden"]
    return DirectFeedback(model, blocks, RandomFeedback(seed), scale=case.scale, through=case.through)


def score(case: Case, seed: int) -> tuple[float, bool]:
    """Test accuracy in %, and whether the learner warned."""
    data, generator = digits(), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Net(case.norm)
    optimiser = torch.optim.SGD(model.parameters(), case.rate, momentum=0.9)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        learner = build_learner(model, case, seed)
        for _ in range(EPOCHS):
            for picked in torch.randperm(len(data.train[1]), generator=generator).split(BATCH):
                output = model(data.train[0][picked])
                loss = cross_entropy(output, data.train[1][picked])
                take_step(loss, output, optimiser, learner, case.clip)
    return 100 * accuracy(model.eval(), *data.test, 1024), bool(told)


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rates", description="DFA with SGD at a large rate.")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        found = [score(case, seed) for seed in range(given.seeds)]
        told = sum(warned for _, warned in found)
        scores = format_mean([value for value, _ in found], 1)
        print(table_row([case.name, case.rate, scores, f"{told} of {len(found)}"]), flush=True)


if __name__ == "__main__":
    main()
