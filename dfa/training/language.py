"""Training on text: predict the next character at every position of random contexts."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dfa.data import Text
from dfa.training.epoch import Epoch
from dfa.training.loop import Options, RunOptions, Task, run_loop
from dfa.training.steps import Rule, check_counts, check_data, check_options

__all__ = ["bits_per_character", "sample_contexts", "train_text"]

EVALUATED = 64
"""Contexts that are evaluated together."""


def train_text(
    model: nn.Module,
    text: Text,
    learner: Rule | None = None,
    *,
    steps: int = 600,
    batch_size: int = 32,
    context: int = 64,
    learning_rate: float = 1e-3,
    every: int = 100,
    windows: int = 256,
    seed: int = 0,
    **options: Unpack[RunOptions],
) -> list[Epoch]:
    """Train a language model on the cross-entropy of the next character.

    Parameters
    ----------
    model : nn.Module
        Maps characters to logits of the next characters: (batch, context) int64 -> (batch, context, classes), such as
        `dfa.models.char_transformer`.
    text : Text
        Trained on its training part. The validation part is only evaluated.
    learner : Rule, optional
        Learning rule of `model`; None is plain backpropagation.
    steps, batch_size, learning_rate
        As usual.
    context : int
        Number of characters in an input.
    every : int
        Steps between evaluations, with angles, metrics files and a checkpoint. The last step also has one.
    windows : int
        Number of contexts of the validation text that an evaluation reads, evenly spaced. With 256 contexts of 64
        characters (16 384 predictions) the standard error is about 0.02 bits.
    seed : int
        Seed of the contexts and of dropout.
    **options
        How the run is optimised, saved and watched, as for `dfa.train`.

    Returns
    -------
    list of Epoch
        One record for each evaluation. Validation and test score are the bits per character of the validation text.

    Raises
    ------
    ValueError
        If an option is unknown, a number is not positive, the text is shorter than a context, the folder cannot be
        written, or the checkpoint has other settings.
    Diverged
        As for `dfa.train`.
    """
    check_options(train_text, options, RunOptions.__annotations__)
    check_data(Text, text=text)
    check_counts(steps=steps, batch_size=batch_size, every=every)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        return sample_contexts(text.train, context, batch_size, seed, step)

    def evaluate(model: nn.Module) -> tuple[float, float]:
        bits = bits_per_character(model, text.validation, context, windows)
        return bits, bits

    task = Task(
        steps=steps,
        evaluate_every=every,
        record_every=every,
        batch=batch,
        loss=lambda output, target: cross_entropy(output.flatten(0, 1), target.flatten()),
        evaluate=evaluate,
        probe=batch(0),
        seed=seed,
        settings={"data": [text.name, len(text.train)], "batch_size": batch_size, "context": context},
    )
    return run_loop(task, model, learner, Options(learning_rate=learning_rate, **options)).history


def sample_contexts(numbers: Tensor, context: int, batch_size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Random pieces of a text, and the next character at every position: two tensors (batch, context).

    They are a function of seed and step, so that a run can resume at any step.
    """
    check_length(numbers, context)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**64)
    starts = torch.randint(len(numbers) - context, (batch_size, 1), generator=generator)
    pieces = numbers[starts + torch.arange(context + 1)]
    return pieces[:, :-1], pieces[:, 1:]


@torch.no_grad()
def bits_per_character(model: nn.Module, numbers: Tensor, context: int, windows: int = 256) -> float:
    """Mean of ``-log2 p(next character)`` over all positions of evenly spaced pieces of a text.

    The first positions of a piece have little context, so this is an upper bound of the value for longer contexts.
    """
    check_counts(windows=windows)
    check_length(numbers, context)
    model.eval()
    count = min(windows, len(numbers) // (context + 1))
    starts = torch.linspace(0, len(numbers) - context - 1, count).long()
    pieces = numbers[starts[:, None] + torch.arange(context + 1)]
    total = sum(
        cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
        for part in pieces.split(EVALUATED)
    )
    return total / (count * context) / math.log(2.0)


def check_length(numbers: Tensor, context: int) -> None:
    """Raise a ``ValueError`` if a text is shorter than a context and the character after it."""
    if not 1 <= context < len(numbers):
        raise ValueError(f"context must be 1 to {len(numbers) - 1} for a text of {len(numbers)}, got {context}")
