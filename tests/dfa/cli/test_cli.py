"""The command line as a user meets it: results on disk, one line and exit code 2 for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dfa.cli.main import main

BENCH = """
exposure_s = 4e-4
[dmd]
frame_rate_hz = 1000.0
[camera]
bit_depth = 10
[medium]
type = "GaussianMedium"
n_in = 64
n_out = 300
"""
HELP = """
import sys
from dfa.cli.main import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
"""


def opu(capfd, *arguments):
    """Exit code, standard output and standard error of a call."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capfd.readouterr()
    return stop.value.code or 0, out, err


def test_calibrate_writes_a_report(capfd, tmp_path):
    code, out, _ = opu(capfd, "calibrate", "--n-in", "64", "--n-out", "300", "--out", str(tmp_path / "r"))
    assert code == 0
    assert "pass" in out
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert (tmp_path / "r" / "report.html").stat().st_size > 50_000


def test_calibrate_takes_a_toml_device(capfd, tmp_path):
    bench = tmp_path / "bench.toml"
    bench.write_text(BENCH)
    code, _, err = opu(capfd, "calibrate", "--device", str(bench), "--out", str(tmp_path / "r"))
    assert code == 0, err
    assert json.loads((tmp_path / "r" / "report.json").read_text())["device"]["camera"]["bit_depth"] == 10


def test_calibrate_records_replays_and_compares(capfd, tmp_path):
    """A recording gives the live report again; --compare finds nothing, then a line degraded (code 1) or failed (3).

    Catches: options that are not handed on, an exit code of 0 whatever comes.
    """
    size = ["--n-in", "32", "--n-out", "200", "--method", "phase-stepping"]
    file, live, again = (str(tmp_path / name) for name in ("r.h5", "live", "again"))
    code, _, err = opu(capfd, "calibrate", *size, "--record", file, "--out", live)
    assert code == 0, err
    code, _, err = opu(capfd, "calibrate", "--recorded", file, "--method", "phase-stepping", "--out", again)
    assert code == 0, err
    a, b = (json.loads((Path(folder) / "report.json").read_text()) for folder in (live, again))
    assert [line for line in a["lines"] if line in b["lines"]] == b["lines"]
    assert {line["group"] for line in b["lines"]} >= {"matrix", "focusing", "stability"}
    assert (Path(live) / "report.pdf").read_bytes().startswith(b"%PDF")
    reports = [f"{live}/report.json", f"{again}/report.json"]
    assert opu(capfd, "calibrate", "--compare", *reports)[0] == 0
    first = b["lines"][0]
    slightly = first["expected"] + 2.0 * max(first["limit"], 3.0 * first["uncertainty"])
    for measured, expected in ((slightly, 1), (9.9, 3)):
        b["lines"][0] |= {"measured": measured}
        (tmp_path / "worse.json").write_text(json.dumps(b))
        code, out, _ = opu(capfd, "calibrate", "--compare", reports[0], str(tmp_path / "worse.json"))
        assert code == expected
        assert "1 degraded" in out


def test_train_and_resume(capfd, tmp_path):
    """A second call with --resume goes on, and writes its results beside the first ones."""
    common = ["train", "--hidden", "16", "--method", "optical,last-layer", "--seeds", "2", "--quiet"]
    code, out, err = opu(capfd, *common, "--epochs", "2", "--out", str(tmp_path / "r"))
    assert code == 0, err
    assert "optical DFA" in out
    assert {p.name for p in (tmp_path / "r").iterdir()} == {
        "optical-0", "optical-1", "last-layer-0", "last-layer-1", "results.json", "report.html",
    }  # fmt: skip
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert len(results["runs"]) == 4
    code, _, err = opu(capfd, *common, "--epochs", "3", "--out", str(tmp_path / "r"), "--resume")
    assert code == 0, err
    again = json.loads((tmp_path / "r" / "results-2.json").read_text())["runs"]
    assert (tmp_path / "r" / "report-2.html").exists()
    assert [run["history"][:2] for run in again] == [run["history"] for run in results["runs"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "imagenet"], "data must be one of"),
        (["train", "--device", "nope"], "preset must be one of"),
        (["train", "--device", "nope.toml"], "path must be a readable TOML file"),
        (["train", "--method", "all,foo"], "method must be one of"),
        (["train", "--hidden", "a,b"], "hidden must be whole numbers separated by commas"),
        (["train", "--hidden", "0"], "hidden must be one or more positive"),
        (["train", "--learning-rate", "-1"], "learning_rate must be greater than 0, got -1.0"),
        (["train", "--threshold", "nan"], "threshold must be"),
        (["train", "--resume"], "out must be the folder of the run to resume"),
        (["train", "--resume", "--out", "typo"], "out must be the folder of the run to resume"),
        (["train", "--method", "bp,optical", "--device", "{small}"], "device must have more than 10 inputs"),
        (["train", "--epochs", "0"], "--epochs"),
        (["calibrate", "--n-out", "4"], "16 pixels or more"),
        (["calibrate", "--device", "nope"], "preset must be one of"),
        (["calibrate", "--method", "magic"], "method must be one of anchor"),
        (["calibrate", "--method", "anchor", "--method", "multilateration"], "one projection and one recovery at most"),
        (["calibrate", "--recorded", "nope.h5"], "path must be a readable recording"),
        (["calibrate", "--record", "file"], "path must be new"),
        (["calibrate", "--compare", "file", "file"], "path must be a readable report"),
        (["calibrate", "--n-in", "10000000"], "n_in must be 1 to"),
        (["calibrate", "--out", "{file}/x"], "out must be a folder that can be written"),
        (["demo", "--out", "{file}/x"], "out must be a folder that can be written"),
        (["demo", "--out", "{full}"], "out must be a new or an empty folder"),
        (["bench", "--only", "nope"], "only must be one of stored, streamed"),
        (["bench", "--out", "{file}/x"], "out must be a file that can be written"),
        (["sing"], "commands are demo, train, calibrate, sweep, report, bench"),
        (["demo", "--loud"], "opu demo --help lists what is allowed"),
    ],
)
def test_bad_input_is_one_line(capfd, tmp_path, monkeypatch, arguments, message):
    """One line on standard error, exit code 2, and nothing left behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "small.toml").write_text(BENCH.replace("n_in = 64", "n_in = 8"))
    filled = [a.format(file="file", full="full", small="small.toml") for a in arguments]
    code, _, err = opu(capfd, *filled)
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("opu: ")
    assert message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full", "small.toml"]


def test_a_corrupt_mnist_file_is_one_line(capfd, tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"broken")
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    code, _, err = opu(capfd, "train", "--data", "mnist", "--out", str(tmp_path / "out"))
    assert code == 2
    assert err.count("\n") == 1
    assert "SHA-256" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["calibrate"], ["sweep"], ["report"], ["bench"]])
def test_help_does_not_wait_for_torch(command):
    run = subprocess.run([sys.executable, "-c", HELP, *command, "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Usage" in run.stdout
