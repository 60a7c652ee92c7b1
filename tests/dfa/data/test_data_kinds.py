"""Errors of the training functions for data and numbers of the wrong kind."""

import pytest
import torch
from torch.utils.data import TensorDataset

from dfa import train
from dfa.data import Dataset
from dfa.data.text import split_text
from dfa.models import mlp
from dfa.training.graphs import train_graph
from dfa.training.language import train_text
from tests.dfa.citations import three_kinds

X, Y = torch.ones(8, 4), torch.zeros(8, dtype=torch.int64)
FEW, GRAPH, TEXT = Dataset("few", (X, Y), (X, Y), (X, Y), classes=2), three_kinds(), split_text("a", "ab" * 200)


@pytest.mark.parametrize(
    ("call", "wanted", "data"),
    [(train, "data must be a dfa.data.Dataset", data) for data in (TensorDataset(X, Y), GRAPH, None)]
    + [(train_graph, "graph must be a dfa.data.Graph", data) for data in (TEXT, GRAPH.adjacency)]
    + [(train_text, "text must be a dfa.data.Text", data) for data in (FEW, "abab")],
)
def test_data_of_another_kind_are_refused(call, wanted, data):
    """The error names the function that takes each kind of data. Catches: torch's own error."""
    homes = "dfa.training.graphs.train_graph a Graph, dfa.training.language.train_text a T"
    message = rf"{wanted}, got {type(data).__name__}: .* Dataset, {homes}"
    with pytest.raises(ValueError, match=message):
        call(mlp([4, 2]), data, progress=False)


@pytest.mark.parametrize(
    ("call", "data", "names"),
    [
        (train, FEW, ("epochs", "batch_size")),
        (train_graph, GRAPH, ("epochs", "every")),
        (train_text, TEXT, ("steps", "batch_size", "every")),
    ],
)
def test_counts_are_whole(call, data, names):
    for name in names:
        for value, message in (
            (1.5, "a whole number, got 1.5"),
            (2.0, "a whole number, got 2.0"),
            (0, "positive, got 0"),
        ):
            with pytest.raises(ValueError, match=f"{name} must be {message}"):
                call(mlp([4, 2]), data, progress=False, **{name: value})
