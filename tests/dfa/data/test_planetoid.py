"""Graphs: pickles are opened only if their digest is known, and the parts are assigned to the right nodes."""

import hashlib
import os
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from dfa.data import citeseer, cora, planetoid, pubmed, read_planetoid
from dfa.data.planetoid import PARTS, PLANETOID_SHA256, normalised_adjacency

FOLDER = os.environ.get("OPU_DATA")
TRAIN, VALIDATION, OTHERS, TEST, GAPS = 4, 500, 6, 10, 2
BEFORE = TRAIN + VALIDATION + OTHERS
NODES = BEFORE + TEST + GAPS


def needs(name):
    found = bool(FOLDER) and (Path(FOLDER) / "planetoid" / f"ind.{name}.x").is_file()
    return pytest.mark.skipif(not found, reason=f"OPU_DATA does not name a folder with planetoid/ind.{name}.*")


def example(rng):
    """Return parts of a small graph in Planetoid's format, with two nodes that are not in test.index."""
    words = sparse.csr_matrix((rng.random((NODES, 7)) < 0.5).astype(np.float32))
    classes = np.eye(3, dtype=np.int32)[rng.integers(0, 3, NODES)]
    kept = np.delete(np.arange(BEFORE, NODES), [1, 5])
    test_index = rng.permutation(kept)
    graph = defaultdict(list, {i: [(i + 1) % NODES, (i * 7) % NODES] for i in range(NODES)})
    parts = {
        "x": words[:TRAIN],
        "y": classes[:TRAIN],
        "tx": words[test_index],
        "ty": classes[test_index],
        "allx": words[:BEFORE],
        "ally": classes[:BEFORE],
        "graph": graph,
    }
    contents = {part: pickle.dumps(value, protocol=3) for part, value in parts.items()}
    contents["test.index"] = "".join(f"{i}\n" for i in test_index).encode()
    return contents, words.toarray(), classes.argmax(axis=1), test_index


def write(folder, contents, name="tiny"):
    """Write the files to ``folder/planetoid``; return their digests."""
    (folder / "planetoid").mkdir(exist_ok=True)
    for part, content in contents.items():
        (folder / "planetoid" / f"ind.{name}.{part}").write_bytes(content)
    return {f"ind.{name}.{part}": hashlib.sha256(content).hexdigest() for part, content in contents.items()}


@pytest.fixture
def tiny(tmp_path, monkeypatch, rng):
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    contents, words, labels, test_index = example(rng)
    return contents, write(tmp_path, contents), words, labels, test_index


def test_parts_are_assigned_to_their_nodes(tiny):
    """Features, labels and masks, with isolated test nodes (Citeseer has 15) left empty.

    Catches: tx in the order of the node numbers instead of test.index's; gaps not padded; rows that are not divided.
    """
    _, digests, words, labels, test_index = tiny
    graph = read_planetoid("tiny", digests)
    gaps = sorted({*range(BEFORE, NODES)} - {*test_index.tolist()})
    words[gaps] = 0
    totals = np.maximum(words.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(graph.features.to_dense(), words / totals, rtol=1e-6)
    labels[gaps] = -1
    assert graph.labels.tolist() == labels.tolist()
    assert graph.train.nonzero().flatten().tolist() == list(range(TRAIN))
    assert graph.validation.nonzero().flatten().tolist() == list(range(TRAIN, TRAIN + VALIDATION))
    assert graph.test.nonzero().flatten().tolist() == sorted(test_index.tolist())
    assert graph.classes == 3
    dense = graph.adjacency.to_dense()
    assert dense.shape == (NODES, NODES)
    cites = np.eye(NODES, dtype=bool)
    for i in range(NODES):
        cites[i, [(i + 1) % NODES, (i * 7) % NODES]] = True
    np.testing.assert_array_equal(dense != 0, cites | cites.T)


class Trap:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_wrong_file_is_never_unpickled(tiny, tmp_path):
    """Catches: a hash that is checked after unpickling."""
    contents, digests, *_ = tiny
    for part in PARTS[:-1]:
        write(tmp_path, contents | {part: pickle.dumps(Trap(tmp_path / "sprung"))})
        with pytest.raises(ValueError, match=rf"ind.tiny.{part} must have SHA-256 .* corrupt"):
            read_planetoid("tiny", digests)
        assert not (tmp_path / "sprung").exists()


def test_every_file_is_checked_before_one_is_opened(tiny, tmp_path, monkeypatch):
    """Catches: opening each file as soon as it is checked."""
    contents, digests, *_ = tiny
    opened = []
    monkeypatch.setattr(planetoid, "unpickle", lambda content, file: opened.append(file))
    write(tmp_path, contents | {"test.index": b"1\n"})
    with pytest.raises(ValueError, match="must have SHA-256"):
        read_planetoid("tiny", digests)
    assert opened == []


def test_a_pickle_with_code_is_refused_despite_its_digest(tiny, tmp_path):
    """The user gives the digest, but the file may be untrusted: only arrays are built. Catches: a plain pickle.load."""
    contents, *_ = tiny
    digests = write(tmp_path, contents | {"graph": pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)})
    with pytest.raises(ValueError, match=r"ind.tiny.graph must be a pickle of arrays \(it contains .*mkdir"):
        read_planetoid("tiny", digests)
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_digest_is_an_error(tiny):
    """Catches: a graph that is read without a digest."""
    _, digests, *_ = tiny
    with pytest.raises(ValueError, match=r"ind.tiny.x has no known SHA-256, .* sha256="):
        read_planetoid("tiny")
    digests.pop("ind.tiny.ally")
    with pytest.raises(ValueError, match=r"ind.tiny.ally has no known SHA-256"):
        read_planetoid("tiny", digests)


def test_all_graphs_have_all_digests():
    """Catches: a missing digit or file."""
    names = [f"ind.{name}.{part}" for name in ("cora", "citeseer", "pubmed") for part in PARTS]
    assert list(PLANETOID_SHA256) == names
    assert len({*PLANETOID_SHA256.values()}) == 24


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("allx", b"not a pickle"),
        ("graph", pickle.dumps([1, 2], protocol=3)),
        ("test.index", b"ten\n"),
        ("test.index", b"".join(b"%d\n" % i for i in range(TEST))),
        ("test.index", b"%d\n" % BEFORE),
        ("ty", pickle.dumps(np.zeros((TEST - 1, 3)), protocol=3)),
        ("y", pickle.dumps(np.zeros((TRAIN + OTHERS + 1, 3)), protocol=3)),
    ],
)
def test_inconsistent_parts_are_refused_in_one_line(tiny, tmp_path, part, content):
    """Catches: an error of numpy or pickle that does not name the file."""
    contents, *_ = tiny
    digests = write(tmp_path, contents | {part: content})
    with pytest.raises(ValueError, match=r"ind\.tiny\.") as caught:
        read_planetoid("tiny", digests)
    assert "\n" not in str(caught.value)


def test_a_missing_graph_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    for graph, name in ((cora, "cora"), (citeseer, "citeseer"), (pubmed, "pubmed")):
        with pytest.raises(ValueError, match=f"OPU_DATA must be a folder with planetoid/ind.{name}.x, got"):
            graph()


def test_normalised_adjacency(rng):
    """Symmetric; its largest eigenvalue is 1, with the roots of the degrees as eigenvector; edges count once.

    Catches: rows divided by degrees (not symmetric), no loops, a double edge of weight 2.
    """
    n = 40
    edges = rng.integers(0, n, (80, 2))
    edges = np.concatenate([edges, edges[:10], edges[:10, ::-1], [[3, 3], [3, 3]]])
    matrix = normalised_adjacency(edges, n).to_dense().double().numpy()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-7)
    there = np.eye(n, dtype=bool)
    there[edges[:, 0], edges[:, 1]] = there[edges[:, 1], edges[:, 0]] = True
    degree = there.sum(axis=1)
    np.testing.assert_allclose(matrix, there / np.sqrt(np.outer(degree, degree)), atol=1e-6)
    np.testing.assert_allclose(matrix @ np.sqrt(degree), np.sqrt(degree), rtol=1e-5)
    assert abs(np.linalg.eigvalsh(matrix).max() - 1) < 1e-6


@needs("cora")
@pytest.mark.data
def test_cora():
    """Published sizes: nodes, citations, words, the parts, and the share of the largest class (818 of 2708)."""
    graph = cora()
    assert graph.features.shape == (2708, 1433)
    assert graph.classes == 7
    assert (graph.adjacency._nnz() - 2708) // 2 == 5278
    assert [int(part.sum()) for part in (graph.train, graph.validation, graph.test)] == [140, 500, 1000]
    assert graph.labels[graph.train].bincount().tolist() == [20] * 7
    assert sorted(graph.labels.bincount().tolist())[-1] == 818
    np.testing.assert_allclose(graph.features.to_dense().sum(dim=1), 1.0, rtol=1e-5)


@needs("citeseer")
@pytest.mark.data
def test_citeseer():
    """Published sizes, and the 15 nodes without features or label."""
    graph = citeseer()
    assert graph.features.shape == (3327, 3703)
    assert [int(part.sum()) for part in (graph.train, graph.validation, graph.test)] == [120, 500, 1000]
    assert int((graph.labels == -1).sum()) == 15


@needs("pubmed")
@pytest.mark.data
def test_pubmed():
    """Published sizes."""
    graph = pubmed()
    assert graph.features.shape == (19717, 500)
    assert [int(part.sum()) for part in (graph.train, graph.validation, graph.test)] == [60, 500, 1000]
