"""Which row of the error teaches which row of a block's output."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["SPREADS", "features_dim", "joined", "per_sample", "rows_of", "spread_over", "taught_rows", "width_of"]

SPREADS = ("each", "channels", "features")


def joined(errors: Sequence[Tensor], class_dim: int) -> Tensor:
    """Errors of all heads side by side, (*rows, classes); if their rows differ, summed to one row for each sample."""
    parts = [error.unsqueeze(-1) if error.ndim == 1 else error.movedim(class_dim, -1) for error in errors]
    if any(part.shape[:-1] != parts[0].shape[:-1] for part in parts):
        if any(len(part) != len(parts[0]) for part in parts):
            shapes = [tuple(error.shape) for error in errors]
            raise ValueError(f"output must have as many samples in every tensor, got shapes {shapes}")
        parts = [per_sample(part) for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0].dtype) for part in parts], dim=-1)


def per_sample(error: Tensor) -> Tensor:
    """Sum over everything between sample and class: (batch, ..., classes) -> (batch, classes)."""
    return error if error.ndim == 2 else error.flatten(1, -2).sum(dim=1)


def features_dim(error: Tensor, output: Tensor, class_dim: int) -> int:
    """Return the dimension of a block's features: `class_dim` if that leaves it all rows of the error, or the last."""
    if output.ndim == error.ndim and output.movedim(class_dim, -1).shape[:-1] == error.shape[:-1]:
        return class_dim
    return -1


def taught_rows(error: Tensor) -> int:
    """Rows of (n_rows, classes) that have an error, at least 1: by how many a mean over rows was divided."""
    return max(int((error != 0).any(dim=1).sum()), 1)


def rows_of(error: Tensor, output: Tensor) -> int | None:
    """How many leading dimensions of a block's output are rows of the error; None if the two share no rows.

    If the shapes agree in all of the error's rows, each row (a token, a node) learns from its own error; if only in
    the first (pooling inside the network), the rows of a sample learn from the sum of its errors.
    """
    rows = error.shape[:-1]
    if output.ndim > len(rows) and output.shape[: len(rows)] == rows:
        return len(rows)
    return 1 if output.ndim > 1 and len(output) == rows[0] else None


def width_of(output: Tensor, rows: int, spread: str) -> int:
    """Entries of the teaching signal of a row."""
    rest = output.shape[rows:]
    if spread == "each":
        return math.prod(rest)
    return rest[0] if spread == "channels" else rest[-1]


def spread_over(signal: Tensor, output: Tensor, rows: int, spread: str) -> Tensor:
    """Signal of each row, (n_rows, width), in the shape of the block's output."""
    if spread == "each":
        return signal.reshape(output.shape)
    ones = [1] * (output.ndim - rows - 1)
    shape = [signal.shape[1], *ones] if spread == "channels" else [*ones, signal.shape[1]]
    return signal.reshape(*output.shape[:rows], *shape).expand_as(output)
