"""A small graph to train on."""

import numpy as np
import torch

from dfa.data import Graph
from dfa.data.planetoid import mask, normalised_adjacency


def three_kinds():
    """Return 60 nodes of three kinds with edges within each kind."""
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 3
    edges = np.argwhere(rng.random((60, 60)) < np.where(labels[:, None] == labels, 0.2, 0.03))
    words = torch.from_numpy((rng.random((60, 12)) < 0.3).astype(np.float32)).to_sparse()
    parts = mask(range(9), 60), mask(range(9, 30), 60), mask(range(30, 60), 60)
    return Graph("three", words, torch.from_numpy(labels), normalised_adjacency(edges, 60), *parts, classes=3)
