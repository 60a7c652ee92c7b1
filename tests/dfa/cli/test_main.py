"""The command line: help without loading torch, and one line with exit code 2 for bad input."""

import subprocess
import sys

import pytest

from dfa.cli.main import COMMANDS
from tests.command import BENCH, refused

HELP = """
import sys
from dfa.cli.main import COMMANDS, main
for command in ([], *([name] for name in COMMANDS)):
    try:
        main([*command, "--help"])
    except SystemExit as stop:
        assert not stop.code
    assert "torch" not in sys.modules, command
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "imagenet"], "data must be one of digits"),
        (["train", "--device", "nope"], "preset must be one of"),
        (["train", "--device", "nope.toml"], "path must be a readable TOML file"),
        (["train", "--method", "all,foo"], "method must be one of bp"),
        (["train", "--hidden", "a,b"], "hidden must be whole numbers separated by commas"),
        (["train", "--hidden", "0"], "hidden must be one or more positive"),
        (["train", "--method", "bp", "--hidden", "1000000000000"], "not enough memory"),
        (["train", "--learning-rate", "-1"], "learning_rate must be greater than 0, got -1.0"),
        (["train", "--threshold", "nan"], "threshold must be"),
        (["train", "--resume"], "out must be the folder of the run to resume"),
        (["train", "--resume", "--out", "file/x"], "out must be a writable folder"),
        (["train", "--method", "bp,optical", "--device", "small.toml"], "device must have more than 10 inputs"),
        (["train", "--epochs", "0"], "--epochs"),
        (["calibrate", "--n-out", "4"], "16 pixels or more"),
        (["calibrate", "--device", "nope"], "preset must be one of"),
        (["calibrate", "--method", "magic"], "method must be one of anchor"),
        (["calibrate", "--method", "anchor", "--method", "multilateration"], "one projection and one recovery at most"),
        (["calibrate", "--recorded", "nope.h5"], "path must be a readable recording"),
        (["calibrate", "--record", "file"], "path must be new"),
        (["calibrate", "--compare", "file", "file"], "path must be a readable report"),
        (["calibrate", "--n-in", "10000000"], "n_in must be 1 to"),
        (["calibrate", "--out", "file/x"], "out must be a writable folder"),
        (["calibrate", "--exposure", "dark"], "opu calibrate --help lists what is allowed"),
        (["sweep", "nope"], "study must be a readable TOML file or one of"),
        (["report", "full"], "must contain results.nc"),
        (["demo", "--out", "file/x"], "out must be a writable folder"),
        (["demo", "--out", "full"], "out must be a new or an empty folder"),
        (["bench", "--only", "nope"], "only must be one of stored, streamed"),
        (["bench", "--out", "file/x"], "out must be a file that can be written"),
        (["sing"], "No such command 'sing'; commands are demo, train, calibrate, sweep, report, bench"),
        (["demo", "--loud"], "opu demo --help lists what is allowed"),
    ],
)
def test_bad_input_is_one_line(capfd, tmp_path, monkeypatch, arguments, message):
    """Catches: a traceback, an error without the allowed values, a folder that is left on disk."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    (tmp_path / "small.toml").write_text(BENCH.replace("n_in = 32", "n_in = 8"))
    assert message in refused(capfd, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "small.toml"]


def test_help_does_not_load_torch():
    """Catches: an import of torch outside of a command, for any command."""
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Usage") == len(COMMANDS) + 1
