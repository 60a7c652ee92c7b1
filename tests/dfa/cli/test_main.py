"""The command line: help without loading torch, and one line with exit code 2 for bad input."""

import dataclasses
import os
import subprocess
import sys
import warnings
from importlib.metadata import version

import pytest

from dfa.cli.main import COMMANDS, EXAMPLES
from dfa.robustness.study_files import FILES
from opu_sim import checkout
from tests.command import BENCH, opu, refused

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
        (["calibrate", "--recorded", "nope.h5"], "path must be readable data of a bench"),
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
        (["hum"], f"No such command 'hum'; commands are {', '.join(COMMANDS)}"),
        (["demo", "--resume"], "out must be the folder of the run to resume"),
        (["device", "nope"], "preset must be one of"),
        (["device", "--set", "camera.bit_depth"], "set must be NAME=VALUE"),
        (["device", "--set", "camera.bits=4"], "bits is not a parameter of Camera; those are"),
        (["calibrate", "--set", "camera.bit_depth=40"], "bit_depth must be less than or equal to 16, got 40"),
        (["calibrate", "--recorded", "nope.h5", "--set", "seed=4"], "set must be left out for a recording"),
        (
            ["train", "--set", 'medium={"type": "Drifting"}'],
            "set must have tables and lists as in TOML, such as medium={",
        ),
        (["train", "--method", "bp, bp"], "method must name each method once, got bp, bp"),
        (["device", "file"], "or the path of a file that ends in .toml, got 'file'"),
        (["device", "small.toml", "--seed", "0"], "seed must be left out for a device from a file, which has its own"),
        (["calibrate", "--device", "small.toml", "--n-in", "8"], "n_in must be left out for a device from a file"),
        (["calibrate", "--recorded", "nope.h5", "--n-in", "8"], "n_in must be left out for a recording"),
        (
            ["calibrate", "--recorded", "nope.h5", "--device", "ideal"],
            "device must be left out for a recording",
        ),
        (["train", "--set", "training.widht=4"], "training.NAME must have one of"),
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


def test_a_warning_is_one_line(monkeypatch):
    """Catches: the path and the source of a line of this package before what the user should know."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    assert opu("--version") == 0
    assert warnings.formatwarning("dark frames\n are missing", UserWarning, "fit.py", 3) == (
        "opu: warning: dark frames are missing\n"
    )


def test_a_missing_extra_has_a_line_that_works(capfd, monkeypatch):
    """From a checkout it installs the checkout. Catches: ``pip install opu-sim[train]``, which no index has."""

    def load():
        raise ModuleNotFoundError("No module named 'xarray'", name="xarray")

    monkeypatch.setattr("dfa.data.digits", load)
    monkeypatch.chdir(checkout())
    assert refused(capfd, "demo") == 'opu: xarray is not installed: pip install -e ".[cluster]"\n'


def test_every_command_has_examples_that_parse(capfd):
    """Catches: an example with an option that does not exist, a command without examples."""
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, lines in EXAMPLES.items():
        assert opu(name, "--help") == 0
        text = capfd.readouterr().out
        for line in lines:
            assert line.split()[:2] == ["opu", name]
            options = [word for word in line.split(" > ")[0].split() if word.startswith("--")]
            assert all(option in text for option in options), line


def test_the_help_of_a_sweep_lists_the_entries_of_its_file(capfd):
    """Catches: a format that only the source explains."""
    assert opu("sweep", "--help") == 0
    text = capfd.readouterr().out
    for kind in FILES.values():
        assert all(f"- {entry.name}: " in text for entry in dataclasses.fields(kind)), kind


def test_version_module_and_completion():
    """``opu --version``, ``python -m dfa`` and the completion of a shell. Catches: an entry that does not start."""
    run = subprocess.run([sys.executable, "-m", "dfa", "--version"], capture_output=True, text=True)
    assert run.stdout == f"opu-sim {version('opu-sim')}\n"
    asked = {"_OPU_COMPLETE": "complete_bash", "COMP_WORDS": "opu do", "COMP_CWORD": "1"}
    run = subprocess.run([sys.executable, "-m", "dfa"], capture_output=True, text=True, env=os.environ | asked)
    assert run.stdout.split() == ["doctor"]


def test_help_does_not_load_torch():
    """Catches: an import of torch outside of a command, for any command."""
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Usage") == len(COMMANDS) + 1
