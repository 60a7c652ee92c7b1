"""Networks that are a chain of blocks."""

import math

import torch
from torch import nn

__all__ = ["Chain", "draw_uniform"]


class Chain(nn.Sequential):
    """Network whose children are the blocks that Direct Feedback Alignment trains."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Dotted names of the blocks, from input to output."""
        return tuple(self._modules)


def draw_uniform(module: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    """Draw weights and biases of a layer uniformly in ``+-1/sqrt(fan_in)``."""
    bound = 1.0 / math.sqrt(module.weight[0].numel())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
