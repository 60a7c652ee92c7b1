"""Convolutional networks."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from dfa.models.chain import Chain, draw_uniform

__all__ = ["cnn"]


def cnn(
    side: int = 28,
    channels: Sequence[int] = (16, 32),
    hidden: int = 128,
    classes: int = 10,
    seed: int = 0,
    activation: type[nn.Module] = nn.Tanh,
    colours: int = 1,
    norm: bool = False,
) -> Chain:
    """Convolutional network for square images: (batch, colours side^2) -> logits (batch, classes).

    Blocks ``conv1, conv2, ...``: 3 x 3 convolution with zero padding, activation, 2 x 2 max pooling. Their outputs are
    (batch, channels, side / 2, side / 2) and so on, an odd side rounded down. Block ``hidden``: fully connected layer
    with an activation, (batch, hidden). Block ``output``: linear layer.

    Parameters
    ----------
    side : int
        Pixels along a side of the image; samples have ``colours side^2`` entries, as in `dfa.data`.
    channels : sequence of int
        Channels of each convolution, at least one. Each convolution halves the side.
    hidden, classes : int
        Units of the last two blocks.
    seed : int
        Seed of weights and biases, which are uniform in ``+-1/sqrt(fan_in)``.
    activation : type
        Class of the activation module.
    colours : int
        Channels of the image, which lie one after the other in a sample.
    norm : bool
        Put a batch norm before each activation. Three or more convolutions need it to learn from fixed feedback.

    Raises
    ------
    ValueError
        If a number is not positive, or the side is too small for the number of convolutions.

    Examples
    --------
    >>> import torch
    >>> model = cnn(side=8, channels=(4, 8), hidden=16)
    >>> model.blocks
    ('conv1', 'conv2', 'hidden', 'output')
    >>> model(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """
    if not channels or min(*channels, hidden, classes) < 1:
        raise ValueError(f"channels, hidden and classes must be positive, got {list(channels)}, {hidden}, {classes}")
    if colours < 1:
        raise ValueError(f"colours must be positive, got {colours}")
    if side < 2 ** len(channels):
        raise ValueError(f"side must be at least {2 ** len(channels)} for {len(channels)} convolutions, got {side}")

    def norms(kind: type[nn.Module], width: int) -> list[nn.Module]:
        return [kind(width)] if norm else []

    generator = torch.Generator().manual_seed(seed)
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    width, edge = colours, side
    for k, count in enumerate(channels, start=1):
        conv = nn.Conv2d(width, count, 3, padding=1)
        start = [nn.Unflatten(1, (colours, side, side))] if k == 1 else []
        blocks[f"conv{k}"] = nn.Sequential(*start, conv, *norms(nn.BatchNorm2d, count), activation(), nn.MaxPool2d(2))
        draw_uniform(conv, generator)
        width, edge = count, edge // 2
    full, last = nn.Linear(width * edge * edge, hidden), nn.Linear(hidden, classes)
    for layer in (full, last):
        draw_uniform(layer, generator)
    blocks["hidden"] = nn.Sequential(nn.Flatten(), full, *norms(nn.BatchNorm1d, hidden), activation())
    blocks["output"] = last
    return Chain(blocks)
