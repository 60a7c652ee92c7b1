"""Rows of the error (samples, tokens, nodes) and the rows of a block's output that they teach."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "SPREADS", "Rows", "count_taught", "features_dim", "join_heads", "rows_of", "spread_over", "sum_samples",
    "width_of",
]  # fmt: skip


class Rows(NamedTuple):
    """Rows that a block's output shares with the error."""

    dims: int
    """Number of leading dimensions of the output that are rows."""
    each: bool
    """Whether each row has its own error; False if the rows of a sample share the sum of its errors."""


SPREADS = ("each", "channels", "features")
"""Which entries of an output have their own entry in the signal; see `dfa.DirectFeedback`."""


def join_heads(errors: Sequence[Tensor], class_dim: int) -> Tensor:
    """Concatenate the errors of all heads along the classes: (*rows, classes).

    If the heads have different rows, their errors are summed to one row for each sample first.
    """
    parts = [error.unsqueeze(-1) if error.ndim == 1 else error.movedim(class_dim, -1) for error in errors]
    if any(part.shape[:-1] != parts[0].shape[:-1] for part in parts):
        if any(len(part) != len(parts[0]) for part in parts):
            shapes = [tuple(error.shape) for error in errors]
            raise ValueError(f"output must have as many samples in every tensor, got shapes {shapes}")
        parts = [sum_samples(part) for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0].dtype) for part in parts], dim=-1)


def sum_samples(error: Tensor) -> Tensor:
    """Sum over all dimensions between sample and class: (batch, ..., classes) -> (batch, classes)."""
    return error if error.ndim == 2 else error.flatten(1, -2).sum(dim=1)


def features_dim(error: Tensor, output: Tensor, class_dim: int) -> int:
    """Dimension of a block's features: `class_dim` if the other dimensions equal the rows of the error, else -1."""
    if class_dim != -1 and output.ndim == error.ndim and output.movedim(class_dim, -1).shape[:-1] == error.shape[:-1]:
        return class_dim
    return -1


def count_taught(error: Tensor) -> int:
    """Number of rows of (n_rows, classes) with an error, at least 1: the divisor of a mean over rows."""
    return max(int((error != 0).any(dim=1).sum()), 1)


def rows_of(error: Tensor, output: Tensor) -> Rows | None:
    """Rows of the error that a block's output shares; None if it shares none.

    If the shapes agree in all rows of the error, each row (a token, a node) learns from its own error. If they agree
    only in the first (pooling inside the network), the rows of a sample learn from the sum of its errors. One of the
    two may have its rows in one dimension, (tokens batch, classes) for (tokens, batch, width), in the same order.
    """
    rows = error.shape[:-1]
    if output.ndim > len(rows) and output.shape[: len(rows)] == rows:
        return Rows(len(rows), True)
    if output.ndim < 2:
        return None
    if len(output) == rows[0]:
        return Rows(1, False)
    flat = output.ndim == 2 or (output.ndim == 3 and len(rows) == 1)
    return Rows(output.ndim - 1, True) if flat and output.shape[:-1].numel() == rows.numel() else None


def width_of(output: Tensor, rows: int, spread: str) -> int:
    """Number of entries of the teaching signal of a row."""
    rest = output.shape[rows:]
    if spread == "each":
        return math.prod(rest)
    return rest[0] if spread == "channels" else rest[-1]


def spread_over(signal: Tensor, output: Tensor, rows: int, spread: str) -> Tensor:
    """Expand the signals of the rows, (n_rows, width), to the shape of the block's output."""
    if spread == "each":
        return signal.reshape(output.shape)
    ones = [1] * (output.ndim - rows - 1)
    shape = [signal.shape[1], *ones] if spread == "channels" else [*ones, signal.shape[1]]
    return signal.reshape(*output.shape[:rows], *shape).expand_as(output)
