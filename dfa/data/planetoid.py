"""Citation graphs from the Planetoid files: Cora, Citeseer, Pubmed. Only pickles with a known SHA-256 are opened."""

import io
import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dfa.arrays import as_sparse
from dfa.data.files import read_published
from photonics.arrays import IntArray

__all__ = ["PLANETOID_SHA256", "Graph", "citeseer", "cora", "normalised_adjacency", "pubmed", "read_planetoid"]

URL = "https://github.com/kimiyoung/planetoid/raw/master/data/"
"""The authors' repository, which PyTorch Geometric also uses."""
PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
"""Endings of the names of the eight files."""
VALIDATION = 500
"""Number of validation nodes, which follow the training nodes (Yang et al. 2016)."""

PLANETOID_SHA256 = {
    "ind.cora.x": "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
    "ind.cora.y": "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
    "ind.cora.tx": "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
    "ind.cora.ty": "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
    "ind.cora.allx": "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
    "ind.cora.ally": "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
    "ind.cora.graph": "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
    "ind.cora.test.index": "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    "ind.citeseer.x": "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
    "ind.citeseer.y": "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
    "ind.citeseer.tx": "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
    "ind.citeseer.ty": "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
    "ind.citeseer.allx": "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
    "ind.citeseer.ally": "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
    "ind.citeseer.graph": "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
    "ind.citeseer.test.index": "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    "ind.pubmed.x": "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
    "ind.pubmed.y": "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
    "ind.pubmed.tx": "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
    "ind.pubmed.ty": "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
    "ind.pubmed.allx": "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
    "ind.pubmed.ally": "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
    "ind.pubmed.graph": "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
    "ind.pubmed.test.index": "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
}
"""Digests of the files. Those of Cora were computed from the files. Those of Citeseer and Pubmed are published by three
independent projects, for commit af6abf4 of the repository, and agree. Two of these projects also publish those of Cora,
which agree with the files."""

Parts: TypeAlias = Mapping[str, Any]
"""Unpickled contents of the files, by their names in `PARTS`: arrays, CSR matrices, and neighbours by node."""


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph whose nodes have features and labels."""

    name: str
    features: Tensor
    """(n, d) sparse float32: the words of each document, divided by their number."""
    labels: Tensor
    """(n,) int64; -1 if unknown."""
    adjacency: Tensor
    """(n, n) sparse float32, normalised (`normalised_adjacency`)."""
    train: Tensor
    """Training nodes, (n,) bool. The three parts have no common nodes."""
    validation: Tensor
    """Validation nodes, (n,) bool."""
    test: Tensor
    """Test nodes, (n,) bool."""
    classes: int
    """Number of classes."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {int(getattr(self, name).sum())}" for name in ("train", "validation", "test"))
        nodes, features = self.features.shape
        return f"Graph({self.name}: {nodes} nodes, {counts}; {features} features, {self.classes} classes)"


def cora() -> Graph:
    """2708 papers on machine learning, 5278 citations, 1433 words, 7 classes.

    140 nodes are for training, 500 for validation, 1000 for testing.

    Z. Yang, W. Cohen, R. Salakhutdinov, ICML 2016 (arXiv:1603.08861), files ``planetoid/ind.cora.*``.

    Raises
    ------
    ValueError
        If a file is missing and cannot be downloaded, or its SHA-256 is wrong. Such a file is not unpickled.
    """
    return read_planetoid("cora")


def citeseer() -> Graph:
    """3327 papers, 4552 citations, 3703 words, 6 classes.

    120 nodes are for training, 500 for validation, 1000 for testing. 15 nodes have neither features nor a label: their
    features are 0, and their label is -1. Source and errors are as for `cora`.
    """
    return read_planetoid("citeseer")


def pubmed() -> Graph:
    """19717 papers on diabetes, 44324 citations, 500 words, 3 classes.

    60 nodes are for training, 500 for validation, 1000 for testing. Source and errors are as for `cora`.
    """
    return read_planetoid("pubmed")


def read_planetoid(name: str, sha256: Mapping[str, str] | None = None) -> Graph:
    """Read the eight files ``planetoid/ind.<name>.*`` of a graph.

    All files are hashed before the first one is unpickled. A pickle may contain only numpy arrays, CSR matrices of
    scipy, lists and dictionaries.

    Parameters
    ----------
    name : str
        Name of the graph in the file names.
    sha256 : mapping of str to str, optional
        Digests of the eight files by file name, ``{"ind.<name>.x": "...", ...}``, for a graph that is not in
        `PLANETOID_SHA256`.

    Raises
    ------
    ValueError
        If a digest is unknown, a file is missing or has another digest, or the files are inconsistent.
    """
    digests = PLANETOID_SHA256 if sha256 is None else sha256
    files = [f"ind.{name}.{part}" for part in PARTS]
    for file in files:
        if file not in digests:
            raise ValueError(
                f"{file} has no known SHA-256, so it is not unpickled; give one for each file: "
                f'read_planetoid({name!r}, sha256={{"{file}": ...}})'
            )
    *pickles, listed = [read_published("planetoid", file, URL + file, digests[file]) for file in files]
    parts = {part: unpickle(pickled, file) for part, pickled, file in zip(PARTS, pickles, files, strict=False)}
    try:
        return assemble(name, parts, np.array(listed.split(), np.int64))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"the files ind.{name}.* must be consistent ({error})") from None


def assemble(name: str, parts: Parts, test_index: IntArray) -> Graph:
    """Make a graph of the contents of the Planetoid files.

    Nodes 0 to len(allx) - 1 are in allx, and the first len(y) of them are for training. Row i of tx is node
    test_index[i]. Test nodes that are not in test_index (Citeseer) are in no part: their features are 0, and their
    label is -1.
    """
    y, tx, ty, allx, ally, graph = parts["y"], parts["tx"], parts["ty"], parts["allx"], parts["ally"], parts["graph"]
    n = int(max(len(graph), allx.shape[0], test_index.max() + 1))
    if allx.shape[0] < len(y) + VALIDATION:
        raise ValueError(f"{allx.shape[0]} nodes are too few for {len(y)} training and {VALIDATION} validation nodes")
    if len(np.unique(test_index)) != tx.shape[0]:
        raise ValueError(f"{len(np.unique(test_index))} different test nodes need as many features, got {tx.shape[0]}")
    if test_index.min() < allx.shape[0]:
        raise ValueError(f"test node {test_index.min()} is one of the first {allx.shape[0]} nodes")
    words = sparse.lil_array((n, allx.shape[1]))
    words[: allx.shape[0]] = allx
    words[test_index] = tx
    one_hot = np.zeros((n, ally.shape[1]))
    one_hot[: len(ally)] = ally
    one_hot[test_index] = ty
    labels = np.where(one_hot.any(axis=1), one_hot.argmax(axis=1), -1)
    totals = words.sum(axis=1)
    features = sparse.diags_array(1.0 / np.where(totals > 0, totals, 1.0)) @ words
    edges = np.array([(i, j) for i, neighbours in graph.items() for j in neighbours], np.int64).reshape(-1, 2)
    return Graph(
        name,
        as_sparse(features, "features").float(),
        torch.from_numpy(labels),
        normalised_adjacency(edges, n),
        mask(range(len(y)), n),
        mask(range(len(y), len(y) + VALIDATION), n),
        mask(test_index, n),
        classes=ally.shape[1],
    )


def mask(nodes: Iterable[int], n: int) -> Tensor:
    """Mask that is True at the nodes: (n,) bool."""
    result = torch.zeros(n, dtype=torch.bool)
    result[torch.as_tensor(np.asarray(nodes), dtype=torch.int64)] = True
    return result


def normalised_adjacency(edges: IntArray, n: int) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2``, with D the row sums of ``A + I``: its largest eigenvalue is 1.

    Parameters
    ----------
    edges : ndarray, shape (edges, 2)
        Pairs of nodes in any order. Duplicates count once, and loops do not count in addition to I.
    n : int
        Number of nodes.

    Returns
    -------
    Tensor, shape (n, n), sparse COO float32, symmetric

    References
    ----------
    T. Kipf, M. Welling, ICLR 2017 (arXiv:1609.02907), equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> normalised_adjacency(np.array([[0, 1]]), 3).to_dense().tolist()
    [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    ones = np.ones(len(edges))
    matrix = sparse.coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()
    matrix = ((matrix + matrix.T + sparse.eye_array(n)) > 0).astype(np.float64)
    scale = sparse.diags_array(1.0 / np.sqrt(matrix.sum(axis=1)))
    return as_sparse(scale @ matrix @ scale, "adjacency").float()


RECONSTRUCT = np.ndarray(0).__reduce__()[0]
ALLOWED = {
    "__builtin__.list": list,
    "builtins.list": list,
    "collections.defaultdict": defaultdict,
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
    "numpy.core.multiarray._reconstruct": RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": RECONSTRUCT,
    "scipy.sparse.csr.csr_matrix": sparse.csr_matrix,
    "scipy.sparse._csr.csr_matrix": sparse.csr_matrix,
}
"""Objects that a pickle may contain, by their names in the files and by their names today."""


class Unpickler(pickle.Unpickler):
    """Unpickler that makes numpy arrays, CSR matrices, lists and dictionaries, and refuses anything else."""

    def find_class(self, module: str, name: str) -> object:
        """Return an object of `ALLOWED`."""
        try:
            return ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it contains {module}.{name}") from None


def unpickle(content: bytes, file: str) -> Any:
    """Unpickle a value that Python 2 wrote, whose digest has been checked.

    Raises
    ------
    ValueError
        If the content is not a pickle, or contains anything but arrays, CSR matrices, lists and dictionaries.
    """
    try:
        return Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damaged pickles raise errors of many types
        raise ValueError(f"{file} must be a pickle of arrays ({error})") from None
