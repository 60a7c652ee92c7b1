"""Data sets: images, graphs and text.

Files are read from the folder that OPU_DATA names, or downloaded. Each file is checked by its SHA-256.
"""

from dfa.data.cifar import cifar10, cifar100
from dfa.data.dataset import Dataset
from dfa.data.images import digits, fashion_mnist, mnist
from dfa.data.planetoid import Graph, citeseer, cora, pubmed, read_planetoid
from dfa.data.text import Text, tiny_shakespeare
from photonics.component import choose

__all__ = [
    "DATASETS",
    "GRAPHS",
    "TEXTS",
    "Dataset",
    "Graph",
    "Text",
    "cifar10",
    "cifar100",
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

DATASETS = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
}
"""Samples with one label each, for `dfa.train`."""

GRAPHS = {"cora": cora, "citeseer": citeseer, "pubmed": pubmed}
"""Graphs with labelled nodes, for `dfa.training.graphs`."""

TEXTS = {"tiny-shakespeare": tiny_shakespeare}
"""Texts, for `dfa.training.language`."""


def load(name: str) -> Dataset | Graph | Text:
    """Load a data set, a graph or a text by its name.

    Raises
    ------
    ValueError
        If the name is unknown, or a file is missing or corrupt.
    """
    return choose(DATASETS | GRAPHS | TEXTS, name, "data")()
