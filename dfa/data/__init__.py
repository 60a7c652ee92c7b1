"""Data sets: images, graphs and text.

Files are those in the folder that OPU_DATA names, or downloaded; each is checked by its SHA-256.
"""

from dfa.data.images import digits, fashion_mnist, mnist
from dfa.data.parts import Dataset
from dfa.data.planetoid import Graph, citeseer, cora, pubmed, read_planetoid
from dfa.data.text import Text, tiny_shakespeare

__all__ = [
    "DATASETS",
    "GRAPHS",
    "Dataset",
    "Graph",
    "Text",
    "citeseer",
    "cora",
    "digits",
    "fashion_mnist",
    "load",
    "load_graph",
    "mnist",
    "pubmed",
    "read_planetoid",
    "tiny_shakespeare",
]

DATASETS = {"digits": digits, "mnist": mnist, "fashion-mnist": fashion_mnist}
"""Samples with a label each: what `dfa.train` trains on."""

GRAPHS = {"cora": cora, "citeseer": citeseer, "pubmed": pubmed}
"""One graph with labelled nodes: what `dfa.graphs` trains on."""


def load(name: str) -> Dataset:
    """Load a data set by its name.

    Raises
    ------
    ValueError
        If there is none of that name, or its files are missing or corrupt.
    """
    if name not in DATASETS:
        raise ValueError(f"data must be one of {sorted(DATASETS)}, got {name!r}")
    return DATASETS[name]()


def load_graph(name: str) -> Graph:
    """Load a graph by its name.

    Raises
    ------
    ValueError
        If there is none of that name, or its files are missing or corrupt.
    """
    if name not in GRAPHS:
        raise ValueError(f"graph must be one of {sorted(GRAPHS)}, got {name!r}")
    return GRAPHS[name]()
