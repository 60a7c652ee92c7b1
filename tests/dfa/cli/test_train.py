"""``opu train`` and ``opu demo``: results on disk, and a run that is resumed."""

import json

from tests.command import opu, refused


def test_train_and_resume(capfd, tmp_path):
    """A second call with --resume continues, and writes its results beside the first ones.

    Catches: runs that start again, results that are overwritten, options that are ignored.
    """
    folder = tmp_path / "r"
    common = ["train", "--hidden", 16, "--method", "optical,last-layer", "--seeds", 2, "--quiet", "--out", folder]
    assert opu(*common, "--epochs", 2) == 0
    assert "optical DFA" in capfd.readouterr().out
    names = {"optical-0", "optical-1", "last-layer-0", "last-layer-1", "results.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names
    first = json.loads((folder / "results.json").read_text())["runs"]
    assert len(first) == 4
    assert opu(*common, "--epochs", 3, "--resume") == 0
    again = json.loads((folder / "results-2.json").read_text())["runs"]
    assert (folder / "report-2.html").exists()
    assert [run["history"][:2] for run in again] == [run["history"] for run in first]


def test_a_corrupt_mnist_file_is_one_line(capfd, tmp_path, monkeypatch):
    """Catches: training on damaged images."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"broken")
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    assert "SHA-256" in refused(capfd, "train", "--data", "mnist", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
