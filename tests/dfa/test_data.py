"""Data sets: real files, hash-checked; a wrong one is refused by name."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from dfa import data
from dfa.data import MNIST_SHA256, digits, load, mnist

FOLDER = os.environ.get("OPU_DATA")
real = pytest.mark.skipif(
    not (FOLDER and (Path(FOLDER) / "mnist").is_dir()), reason="OPU_DATA does not name a folder with mnist/"
)


def test_digits_parts_are_disjoint_and_complete():
    parts = digits()
    assert [len(p[0]) for p in (parts.train, parts.validation, parts.test)] == [1077, 360, 360]
    assert parts.features == 64
    assert 0.0 <= float(parts.train[0].min()) <= float(parts.train[0].max()) == 1.0
    assert sorted(set(parts.test[1].tolist())) == list(range(10))


@real
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


@real
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


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="OPU_DATA must hold mnist/train-images"):
        mnist()


def test_no_network_is_one_line(monkeypatch):
    import pooch

    monkeypatch.delenv("OPU_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no route\nto host")))
    with pytest.raises(ValueError, match=r"could not be downloaded \(no route\); set OPU_DATA"):
        mnist()


def test_download_is_checked_and_cached(monkeypatch, tmp_path):
    """Without OPU_DATA each file is asked of pooch with its own digest, and a wrong answer is refused."""
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url.rsplit("/", 1)[1], known_hash, fname))
        (tmp_path / fname).write_bytes(b"something else")
        return str(tmp_path / fname)

    import pooch

    monkeypatch.delenv("OPU_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(ValueError, match="must have SHA-256"):
        mnist()
    name = next(iter(MNIST_SHA256))
    assert asked == [(name, MNIST_SHA256[name], name)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"plain", "gzipped IDX"),
        (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"), "start as an IDX"),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x05abc"), r"must hold \(5,\) bytes, got 3"),
    ],
)
def test_bad_idx(tmp_path, content, message):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_idx(path)


def test_unknown_names_and_numbers():
    with pytest.raises(ValueError, match="data must be one of"):
        load("imagenet")
    with pytest.raises(ValueError, match="validation must be"):
        mnist(validation=60_000)
