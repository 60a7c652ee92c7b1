"""Fully connected networks."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from dfa.models.chain import draw_uniform

__all__ = ["mlp"]


def mlp(sizes: Sequence[int], seed: int = 0, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Fully connected network with an activation after every layer except the last.

    Parameters
    ----------
    sizes : sequence of int
        Units of each layer, from input to output, at least two.
    seed : int
        Seed of weights and biases, which are uniform in ``+-1/sqrt(fan_in)``.
    activation : type
        Class of the activation module.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or one is not positive.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be two or more positive numbers, got {list(sizes)}")
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        draw_uniform(linear, generator)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])
