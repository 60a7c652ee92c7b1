"""Blocks in a row."""

import math

import torch
from torch import nn

__all__ = ["Chain", "uniform"]


class Chain(nn.Sequential):
    """A network whose children are the blocks that Direct Feedback Alignment trains, each on its own signal."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Dotted names of the blocks, from input to output."""
        return tuple(self._modules)


def uniform(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights and biases of a linear or convolutional layer uniform in ``+-1/sqrt(fan_in)``."""
    bound = 1.0 / math.sqrt(module.weight[0].numel())  # type: ignore[union-attr, index]
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
