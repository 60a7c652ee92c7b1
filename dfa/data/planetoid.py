"""Citation graphs in Planetoid's files: Cora, Citeseer, Pubmed. Pickles are opened only if their SHA-256 is known."""

import io
import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from dfa.arrays import as_sparse
from dfa.data.files import read_published

__all__ = ["PLANETOID_SHA256", "Graph", "citeseer", "cora", "normalised_adjacency", "pubmed", "read_planetoid"]

URL = "https://github.com/kimiyoung/planetoid/raw/master/data/"
"""The authors' repository, which PyTorch Geometric uses, too."""
PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")
VALIDATION = 500
"""Nodes after the training nodes on which choices are made (Yang et al. 2016)."""

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
"""Cora's were computed from the files; Citeseer's and Pubmed's are given alike by three public projects that
have nothing else in common, for commit af6abf4 of the repository; two of them give Cora's, and rightly."""


@dataclass(frozen=True, eq=False)
class Graph:
    """One graph whose nodes have features and labels."""

    name: str
    features: Tensor
    """(n, d) sparse float32; the words of a document, each row divided by its sum."""
    labels: Tensor
    """(n,) int64; -1 where unknown."""
    adjacency: Tensor
    """(n, n) sparse float32, normalised: see `normalised_adjacency`."""
    train: Tensor
    """(n,) bool; so are the other two, and no node is in two of them."""
    validation: Tensor
    test: Tensor
    classes: int


def cora() -> Graph:
    """2708 papers on machine learning, 5278 citations, 1433 words, 7 classes; 140 / 500 / 1000 nodes.

    Z. Yang, W. Cohen, R. Salakhutdinov, ICML 2016 (arXiv:1603.08861), files ``planetoid/ind.cora.*``.

    Raises
    ------
    ValueError
        If a file is missing and cannot be fetched, or is not the published one (SHA-256): it is not unpickled then.
    """
    return read_planetoid("cora")


def citeseer() -> Graph:
    """3327 papers, 4552 citations, 3703 words, 6 classes; 120 / 500 / 1000 nodes. As `cora`.

    15 nodes have neither features nor a label: they keep zeros and -1.
    """
    return read_planetoid("citeseer")


def pubmed() -> Graph:
    """19717 papers on diabetes, 44324 citations, 500 words, 3 classes; 60 / 500 / 1000 nodes. As `cora`."""
    return read_planetoid("pubmed")


def read_planetoid(name: str, sha256: Mapping[str, str] | None = None) -> Graph:
    """Read the eight files ``planetoid/ind.<name>.*`` of a graph.

    Every file is hashed before any is unpickled, and an unpickled one may name numpy arrays, scipy's CSR matrices,
    lists and dictionaries, and nothing else.

    Parameters
    ----------
    name : str
        As in the files' names.
    sha256 : mapping of str to str, optional
        Digests of the eight files by their names, ``{"ind.<name>.x": "...", ...}``, for a graph that
        `PLANETOID_SHA256` does not know.

    Raises
    ------
    ValueError
        If a digest is not known, a file is missing or not the published one, or the parts do not fit together.
    """
    digests = PLANETOID_SHA256 if sha256 is None else sha256
    files = [f"ind.{name}.{part}" for part in PARTS]
    for file in files:
        if file not in digests:
            raise ValueError(
                f"{file} has no known SHA-256 and is not unpickled; give one for each file: "
                f'read_planetoid({name!r}, sha256={{"{file}": ...}})'
            )
    *pickles, listed = [read_published("planetoid", file, URL + file, digests[file]) for file in files]
    values = [unpickle(content, file) for content, file in zip(pickles, files[:-1], strict=True)]
    try:
        return assemble(name, *values, test_index=np.array(listed.split(), np.int64))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"the files ind.{name}.* do not fit together ({error})") from None


def assemble(
    name: str, x: Any, y: Any, tx: Any, ty: Any, allx: Any, ally: Any, graph: Any, *, test_index: NDArray[np.int64]
) -> Graph:
    """Put the parts of Planetoid's format together.

    Nodes 0 to len(allx) - 1 are in allx, the first len(y) of them for training. Row i of tx is node test_index[i].
    Test nodes that test_index leaves out (Citeseer) are in no part: they get zeros and the label -1.
    """
    n = int(max(len(graph), allx.shape[0], test_index.max() + 1))
    if allx.shape[0] < len(y) + VALIDATION:
        raise ValueError(f"{allx.shape[0]} nodes are not {len(y)} for training and {VALIDATION} for validation")
    if len(np.unique(test_index)) != tx.shape[0]:
        raise ValueError(f"{len(np.unique(test_index))} different test nodes have features for {tx.shape[0]}")
    if test_index.min() < allx.shape[0]:
        raise ValueError(f"test node {test_index.min()} is among the first {allx.shape[0]}")
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
    """True at the nodes: (n,) bool."""
    result = torch.zeros(n, dtype=torch.bool)
    result[torch.as_tensor(np.asarray(nodes), dtype=torch.int64)] = True
    return result


def normalised_adjacency(edges: NDArray[np.int64], n: int) -> Tensor:
    """``D^-1/2 (A + I) D^-1/2``, with D the row sums of ``A + I``: its largest eigenvalue is 1.

    Parameters
    ----------
    edges : ndarray, shape (edges, 2)
        Pairs of nodes in any order; doubles count once, and loops not beside the one that I gives.
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
"""What a pickle may name, by the names of the time when the files were written and by those of today."""


class Unpickler(pickle.Unpickler):
    """Builds numpy arrays, CSR matrices, lists and dictionaries, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle may name."""
        try:
            return ALLOWED[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def unpickle(content: bytes, file: str) -> Any:
    """Value in a pickle of Python 2, whose digest has been checked.

    Raises
    ------
    ValueError
        If it is no pickle, or names anything but arrays, CSR matrices, lists and dictionaries.
    """
    try:
        return Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle fails in many ways, none of which is ours to tell apart
        raise ValueError(f"{file} must be a pickle of arrays ({error})") from None
