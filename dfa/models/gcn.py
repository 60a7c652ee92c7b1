"""Graph convolutional networks."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from dfa.arrays import as_sparse
from dfa.models.chain import Chain

__all__ = ["GraphConvolution", "gcn"]


class GraphConvolution(nn.Module):
    """``h -> activation(A dropout(h) W + b)``: (n, fan_in) -> (n, fan_out), for the n nodes of one graph.

    The features h may be dense or sparse (of torch or scipy).

    Parameters
    ----------
    adjacency : Tensor, shape (n, n), sparse
        Normalised adjacency A. It moves with the module but is no part of its state.
    fan_in, fan_out : int
        Features of a node before and after.
    dropout : float
        Share of the inputs that is zeroed in training, the others scaled up.
    activation : nn.Module
        Applied to the result.
    generator : torch.Generator
        W is uniform in ``+-sqrt(6 / (fan_in + fan_out))`` (Glorot and Bengio 2010) and drawn from it; b is 0.
    """

    adjacency: Tensor

    def __init__(
        self,
        adjacency: Tensor,
        fan_in: int,
        fan_out: int,
        dropout: float,
        activation: nn.Module,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency, persistent=False)
        bound = math.sqrt(6.0 / (fan_in + fan_out))
        self.weight = nn.Parameter(torch.empty(fan_in, fan_out).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.dropout, self.activation = nn.Dropout(dropout), activation

    def forward(self, h: Any) -> Tensor:  # noqa: D102 (torch's name)
        if not isinstance(h, Tensor):
            h = as_sparse(h, "features").to(self.weight)
        if h.layout != torch.strided:
            # Dropout of the entries that are not 0 is dropout, and 80 times less work on Cora.
            h = h.to_sparse_coo().coalesce()
            kept = self.dropout(h.values())
            h = torch.sparse_coo_tensor(h.indices(), kept, h.shape, check_invariants=False, is_coalesced=True)
            messages = torch.sparse.mm(h, self.weight)
        else:
            messages = self.dropout(h) @ self.weight  # (n, fan_out): fewer numbers to pass on than before the product
        return self.activation(torch.sparse.mm(self.adjacency, messages) + self.bias)


def gcn(
    sizes: Sequence[int],
    adjacency: Any,
    dropout: float = 0.5,
    seed: int = 0,
    activation: type[nn.Module] = nn.ReLU,
) -> Chain:
    """Graph convolutional network of one layer for each step in `sizes`: (n, sizes[0]) -> logits (n, sizes[-1]).

    Each layer is a block, named by its number; a hidden one gives (n, size).

    Parameters
    ----------
    sizes : sequence of int
        Features of a node, hidden sizes, classes: three of them make a 2-layer network.
    adjacency : sparse Tensor or scipy matrix, shape (n, n)
        The graph, normalised: `dfa.data.Graph.adjacency`.
    dropout : float
        Share of each layer's inputs zeroed in training.
    seed : int
        The weights are a function of it (Glorot, see `GraphConvolution`); biases start at 0.
    activation : type
        Module class of the activation after every layer but the last.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, one is not positive, the adjacency is no sparse matrix, or the dropout is not
        in [0, 1).

    References
    ----------
    T. Kipf, M. Welling, ICLR 2017 (arXiv:1609.02907).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from dfa.data.planetoid import normalised_adjacency
    >>> model = gcn([5, 4, 3], normalised_adjacency(np.array([[0, 1], [1, 2]]), 3))
    >>> model.blocks, model(torch.ones(3, 5)).shape
    (('0', '1'), torch.Size([3, 3]))
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be two or more positive numbers, got {list(sizes)}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
    generator = torch.Generator().manual_seed(seed)
    matrix = as_sparse(adjacency, "adjacency").to(torch.get_default_dtype())
    last = len(sizes) - 2
    return Chain(
        *(
            GraphConvolution(matrix, fan_in, fan_out, dropout, nn.Identity() if k == last else activation(), generator)
            for k, (fan_in, fan_out) in enumerate(pairwise(sizes))
        )
    )
