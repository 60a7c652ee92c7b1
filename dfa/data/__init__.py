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
    "TEXTS",
    "Dataset",
    "Graph",
    "Text",
    "citeseer",
    "cora",
    "digits",
    "fashion_mnist",
    "load",
    "mnist",
    "pubmed",
    "read_planetoid",
    "tiny_shakespeare",
]

DATASETS = {"digits": digits, "mnist": mnist, "fashion-mnist": fashion_mnist}
"""Samples with a label each: what `dfa.train` trains on."""

GRAPHS = {"cora": cora, "citeseer": citeseer, "pubmed": pubmed}
"""One graph with labelled nodes: what `dfa.training.graphs` trains on."""

TEXTS = {"tiny-shakespeare": tiny_shakespeare}
"""Characters in a row: what `dfa.training.language` trains on."""


def load(name: str) -> Dataset | Graph | Text:
    """Load a data set, a graph or a text by its name.

    Raises
    ------
    ValueError
        If there is none of that name, or its files are missing or corrupt.
    """
    known = DATASETS | GRAPHS | TEXTS
    if name not in known:
        raise ValueError(f"data must be one of {', '.join(known)}, got {name!r}")
    return known[name]()
