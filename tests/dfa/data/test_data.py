"""Images: real files with checked hashes; the error for a wrong file names it."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dfa.data import digits, fashion_mnist, images, load, mnist
from dfa.data.files import read_published
from dfa.data.images import FASHION_SHA256, MNIST_SHA256, read_idx

FOLDER = os.environ.get("OPU_DATA")


def needs(folder):
    found = bool(FOLDER) and (Path(FOLDER) / folder).is_dir()
    return pytest.mark.skipif(not found, reason=f"OPU_DATA does not name a folder with {folder}/")


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def write_images(folder, rng, train=30, test=10, side=28):
    """Write four files of random images under MNIST's names; return the arrays and their digests."""
    folder.mkdir()
    shapes = [(train, side, side), (train,), (test, side, side), (test,)]
    arrays = [rng.integers(0, 256 if len(shape) == 3 else 10, shape) for shape in shapes]
    digests = {}
    for name, array in zip(MNIST_SHA256, arrays, strict=True):
        (folder / name).write_bytes(idx(array))
        digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return arrays, digests


def test_digits_parts_are_disjoint_and_complete():
    parts = digits()
    assert [len(p[0]) for p in (parts.train, parts.validation, parts.test)] == [1077, 360, 360]
    assert parts.features == 64
    assert 0.0 <= float(parts.train[0].min()) <= float(parts.train[0].max()) == 1.0
    assert sorted(set(parts.test[1].tolist())) == list(range(10))


@needs("mnist")
@pytest.mark.data
def test_mnist():
    """Published sizes, first labels (5 0 4 1 9; 7 2 1 0 4), and a standardised training set."""
    parts = mnist(validation=5000)
    assert [len(p[0]) for p in (parts.train, parts.validation, parts.test)] == [55_000, 5_000, 10_000]
    assert parts.train[1][:5].tolist() == [5, 0, 4, 1, 9]
    assert parts.test[1][:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(float(parts.train[0].mean())) < 0.01
    assert abs(float(parts.train[0].std()) - 1.0) < 0.01
    assert parts.features == 784
    assert len(mnist(validation=0).validation[0]) == 0


@needs("fashion-mnist")
@pytest.mark.data
def test_fashion_mnist():
    """Sizes, 6000 training images of each class, and a standardised training set."""
    parts = fashion_mnist(validation=0)
    assert parts.train[1].bincount().tolist() == [6000] * 10
    assert abs(float(parts.train[0].mean())) < 0.01
    assert abs(float(parts.train[0].std()) - 1.0) < 0.01


def test_fashion_mnist_reads_its_own_files(tmp_path, monkeypatch, rng):
    """Small files of the same format: pixels, labels and parts. Catches: the labels of another part, MNIST's mean."""
    (x, y, x_test, y_test), digests = write_images(tmp_path / "fashion-mnist", rng)
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    monkeypatch.setattr(images, "FASHION_SHA256", digests)
    parts = fashion_mnist(validation=5)
    assert [len(p[0]) for p in (parts.train, parts.validation, parts.test)] == [25, 5, 10]
    found = np.concatenate([parts.train[0], parts.validation[0]]) * 0.3530 + 0.2860
    np.testing.assert_allclose(found * 255, x.reshape(30, -1), atol=1e-3)
    np.testing.assert_allclose((parts.test[0].numpy() * 0.3530 + 0.2860) * 255, x_test.reshape(10, -1), atol=1e-3)
    assert [*parts.train[1], *parts.validation[1]] == y.tolist()
    assert parts.test[1].tolist() == y_test.tolist()
    with pytest.raises(ValueError, match="validation must be 0 to 29, got 30"):
        fashion_mnist(validation=30)


def test_labels_that_do_not_fit_are_refused(tmp_path, monkeypatch, rng):
    """Catches: images without a label."""
    _, digests = write_images(tmp_path / "fashion-mnist", rng)
    name = "train-labels-idx1-ubyte.gz"
    content = idx(np.zeros(29))
    (tmp_path / "fashion-mnist" / name).write_bytes(content)
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    monkeypatch.setattr(images, "FASHION_SHA256", digests | {name: hashlib.sha256(content).hexdigest()})
    with pytest.raises(ValueError, match="must have a label for each image, got 29 for 30"):
        fashion_mnist()


@needs("mnist")
@pytest.mark.data
def test_a_corrupt_file_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "mnist"
    shutil.copytree(Path(FOLDER) / "mnist", folder)
    name = next(iter(MNIST_SHA256))
    os.chmod(folder, 0o755)
    os.chmod(folder / name, 0o644)
    content = bytearray((folder / name).read_bytes())
    content[1000] ^= 1
    (folder / name).write_bytes(content)
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"{name} must have SHA-256 .* corrupt"):
        mnist()


@pytest.mark.parametrize(("data", "folder"), [(mnist, "mnist"), (fashion_mnist, "fashion-mnist")])
def test_a_missing_file_is_named(tmp_path, monkeypatch, data, folder):
    """Catches: a message without the file, the folder or OPU_DATA."""
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"OPU_DATA must be .* with {folder}/train-images.*got {tmp_path} without it"):
        data()


def test_no_network_is_one_line(monkeypatch):
    """Catches: a traceback, or a message of several lines."""
    import pooch

    monkeypatch.delenv("OPU_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no route\nto host")))
    with pytest.raises(
        ValueError, match=r"could not be downloaded \(no route\); set OPU_DATA .* mnist/train"
    ) as caught:
        mnist()
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(pooch, "retrieve", lambda *args, **kwargs: (_ for _ in ()).throw(TimeoutError()))
    with pytest.raises(ValueError, match=r"could not be downloaded \(TimeoutError\)"):
        mnist()


@pytest.mark.parametrize(
    ("data", "digests", "host"),
    [(mnist, MNIST_SHA256, "ossci-datasets"), (fashion_mnist, FASHION_SHA256, "fashion-mnist.s3-website")],
)
def test_download_is_checked_and_cached(monkeypatch, tmp_path, data, digests, host):
    """Without OPU_DATA, pooch downloads each file with its digest, and a wrong file is still refused.

    Catches: a digest that is not passed on, a file that is not checked after the download.
    """
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, known_hash, fname))
        (tmp_path / fname).write_bytes(b"something else")
        return str(tmp_path / fname)

    import pooch

    monkeypatch.delenv("OPU_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match="must have SHA-256"):
        data()
    name = next(iter(digests))
    assert len(asked) == 1
    assert asked[0][1:] == (digests[name], name)
    assert asked[0][0].endswith(f"/{name}") and host in asked[0][0]


@pytest.mark.parametrize("digest", ["", "md5:0123", None, "A" * 64])
def test_invalid_digests_are_refused(digest):
    """Catches: None, with which pooch accepts any file."""
    with pytest.raises(ValueError, match="sha256 of x must be 64"):
        read_published("folder", "x", "https://example.org/x", digest)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain", "gzipped IDX"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abcde")[:-9], "gzipped IDX"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"), "start as an IDX"),
        (gzip.compress(b"\x00\x00\x08\x03\x00\x00\x00\x01"), "must hold 3 sizes, got 4 bytes"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc"), r"must hold \(5,\) bytes, got 3"),
    ],
    ids=["not compressed", "cut", "another type", "short head", "short data"],  # gzip writes the time
)
def test_bad_idx(content, message):
    with pytest.raises(ValueError, match=f"x.gz .*{message}"):
        read_idx(content, "x.gz")


def test_unknown_names_and_numbers():
    with pytest.raises(ValueError, match="data must be one of"):
        load("imagenet")


@needs("mnist")
@pytest.mark.data
def test_validation_leaves_training_samples():
    with pytest.raises(ValueError, match="validation must be"):
        mnist(validation=60_000)
