"""``opu train`` and ``opu demo``: results on disk, and a run that is resumed."""

import json

from dfa import Plan
from dfa.experiments import STANDARD_METHODS, runs
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


def test_a_demo_is_resumed_and_prints_json(capfd, tmp_path, monkeypatch):
    """Stopped in the fourth method, then resumed. Catches: a demo that starts again, JSON mixed with other text."""
    monkeypatch.setattr(runs, "DEMO", Plan(hidden=16, epochs=1, samples=256))
    monkeypatch.setattr("dfa.experiments.DEMO", runs.DEMO, raising=False)
    monkeypatch.setattr("dfa.experiments.comparison_page", lambda *_: "page", raising=False)
    folder, ran, run_one = tmp_path / "demo", [], runs.run_one

    def stopping(method, *rest):
        ran.append(method)
        if len(ran) == 4:
            raise KeyboardInterrupt
        return run_one(method, *rest)

    monkeypatch.setattr(runs, "run_one", stopping)
    common = ["demo", "--seeds", 1, "--quiet", "--json", "--out", folder]
    assert opu(*common) == 130
    assert "--resume --out" in capfd.readouterr().err
    saved = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert opu(*common, "--resume") == 0
    found = json.loads(capfd.readouterr().out)
    assert [run["method"] for run in found["runs"]] == list(STANDARD_METHODS)
    optical = next(run for run in found["runs"] if run["method"] == "optical")
    assert optical["energy_j"] > 0 and "estimate" in optical["power_source"]
    assert saved and all(path.stat().st_mtime_ns == time for path, time in saved.items())


def test_set_changes_device_and_training(capfd, tmp_path, monkeypatch):
    """By the names of the API. Catches: a change that is parsed and then dropped."""
    monkeypatch.setattr("dfa.experiments.comparison_page", lambda *_: "page", raising=False)
    changes = [
        "camera.bit_depth=6",
        "training.hidden=16",
        "encoder.deviations=2.0",
        "calibration.method=phase-stepping",
    ]
    options = [word for change in changes for word in ("--set", change)]
    assert opu("train", "--epochs", 1, "--samples", 256, *options, "--json", "--quiet", "--out", tmp_path / "r") == 0
    json.loads(capfd.readouterr().out)
    plan = json.loads((tmp_path / "r" / "results.json").read_text())["plan"]
    assert plan["hidden"] == [16] and plan["device_changes"] == {"camera.bit_depth": 6}
    assert plan["encoder"]["deviations"] == 2.0 and plan["calibration"] == {"method": "phase-stepping"}


def test_a_corrupt_mnist_file_is_one_line(capfd, tmp_path, monkeypatch):
    """Catches: training on damaged images."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"broken")
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    assert "SHA-256" in refused(capfd, "train", "--data", "mnist", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_seeds_are_one_line(capfd, tmp_path):
    """Catches: all memory taken for a list of them ("not enough memory:")."""
    message = refused(capfd, "train", "--method", "bp", "--seeds", 10**11, "--out", tmp_path / "out")
    assert "seeds must be 1000000 or less" in message
