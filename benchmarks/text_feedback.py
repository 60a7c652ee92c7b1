"""Kinds of feedback on a small character transformer: ``python -m benchmarks.text_feedback``.

Two blocks of width 64, context 32, 300 steps of Adam at 3e-3, tiny Shakespeare: bits per character.
"""

import argparse
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.pages import table_head, table_row
from dfa.data import Text, tiny_shakespeare
from dfa.experiments.runs import format_mean
from dfa.feedback.base import Feedback
from dfa.feedback.encoding import Ternary
from dfa.feedback.fitted import LeastSquares
from dfa.feedback.random import RandomFeedback
from dfa.models import char_transformer
from dfa.rules.direct import DirectFeedback
from dfa.training.language import train_text
from dfa.training.loop import RunOptions

RATE = 3e-3
"""Learning rate of the last layer."""


class Case(NamedTuple):
    """A way to train: the feedback of a seed, where it enters, and the rate of the hidden blocks over `RATE`."""

    build: Callable[[int], Feedback | None]
    through: str | None
    hidden_rate: float


def ternary(seed: int) -> RandomFeedback:
    """Random feedback with the default code."""
    return RandomFeedback(seed, Ternary(seed=seed))


CASES: dict[str, Case | None] = {
    "backpropagation": None,
    "last layer only": Case(lambda seed: None, None, 1.0),
    "fixed, at h, a tenth of the rate": Case(RandomFeedback, None, 0.1),
    "fixed, through the norm, a tenth of the rate": Case(RandomFeedback, "norm", 0.1),
    "fixed, through the norm": Case(RandomFeedback, "norm", 1.0),
    "fixed, through the norm, ternary": Case(ternary, "norm", 1.0),
    "least squares, 128 pixels": Case(lambda seed: LeastSquares(RandomFeedback(seed), 128, rate=0.5), "norm", 1.0),
    "least squares, 16 pixels": Case(lambda seed: LeastSquares(RandomFeedback(seed), 16, rate=0.5), "norm", 1.0),
    "least squares, 128 pixels, ternary": Case(lambda seed: LeastSquares(ternary(seed), 128, rate=0.5), "norm", 1.0),
}


def bits(case: Case | None, text: Text, seed: int) -> float:
    """Bits per character of the validation text."""
    model = char_transformer(text.classes, 32, 64, 2, 4, seed)
    if case is None:
        return text_bits(model, text, None, RATE, seed)
    learner = DirectFeedback(model, feedback=case.build(seed), through=case.through)
    return text_bits(model, text, learner, RATE * case.hidden_rate, seed)


def text_bits(
    model: nn.Module, text: Text, learner: DirectFeedback | None, hidden_rate: float, seed: int,
    steps: int = 300, windows: int = 128,
) -> float:  # fmt: skip
    """Train by Adam, the last layer at `RATE`; return the bits per character of the validation text."""
    last = list(model.get_submodule("output").parameters())
    hidden = [p for p in model.parameters() if all(p is not q for q in last)]

    def two_rates(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam([{"params": hidden, "lr": hidden_rate}, {"params": last, "lr": RATE}])

    options: RunOptions = {"progress": False, "diagnostics": False, "optimiser": two_rates}
    history = train_text(
        model, text, learner, steps=steps, every=steps, context=32, windows=windows, seed=seed, **options
    )
    return history[-1].test


def main() -> None:
    """Print the table, a row for each case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text_feedback", description="Feedback for text.")
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    text = tiny_shakespeare()
    print(table_head(["feedback", "bits per character"]), flush=True)
    for name, case in CASES.items():
        print(table_row([name, format_mean([bits(case, text, seed) for seed in range(given.seeds)], 2)]), flush=True)


if __name__ == "__main__":
    main()
