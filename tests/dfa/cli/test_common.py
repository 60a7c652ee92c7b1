"""The folder of a run: new for each run, in use by one, and started if there is nothing to resume."""

import io
import sys
from contextlib import ExitStack
from datetime import datetime

import pytest

from dfa.cli import common
from dfa.cli.common import print_table, run_folder
from tests.command import opu


class Noon(datetime):
    """A clock with a constant time."""

    @classmethod
    def now(cls, tz=None):
        return cls(2026, 1, 2, 12)


def test_runs_of_the_same_second_have_separate_folders(tmp_path, monkeypatch):
    """Three at once. Catches: settings of one run beside the weights of another. A failure removes its own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "datetime", Noon)
    with pytest.raises(RuntimeError), run_folder(None):
        raise RuntimeError
    assert not (tmp_path / "runs").exists()
    with ExitStack() as stack:
        folders = [stack.enter_context(run_folder(None)) for _ in range(3)]
        names = ["20260102-120000", "20260102-120000-2", "20260102-120000-3"]
        assert [folder.name for folder in folders] == names
        with pytest.raises(RuntimeError), run_folder(None):
            raise RuntimeError
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused(tmp_path, resume):
    """Catches: two runs in a new folder, or a run that is resumed while it runs."""
    out = tmp_path / "r"
    with run_folder(out):
        with pytest.raises(ValueError, match=r"out must not be in use, got .*r, which another process"):
            run_folder(out, resume).__enter__()
        assert out.is_dir()
    with run_folder(out, resume):
        pass


def test_resume_starts_a_run_without_a_folder(capfd, tmp_path):
    """Catches: an error, which stops a script that always resumes; a start without a message."""
    out = tmp_path / "new" / "r"
    train = ("train", "--method", "last-layer", "--hidden", 8, "--epochs", 1, "--quiet", "--resume", "--out", out)
    assert opu(*train) == 0
    assert "does not exist: the run starts" in capfd.readouterr().err
    assert opu(*train) == 0
    assert "does not exist" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("train", "--method", "last-layer", "--epochs", 1, "--samples", 64), "last-layer-0: step 1 of 1, loss="),
        (("tolerance", "read_noise", "--task", "digits", "--most", 4, "--seeds", 2), "1 of 2: no changes, seed 0: acc"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_progress_is_lines_where_no_bar_can_be(caplog, tmp_path, arguments, first):
    """Off a terminal, without --quiet. Catches: half an hour of silence in the log of a batch job."""
    small = ("--set", "training.samples=64", "--set", "training.epochs=1") if arguments[0] == "tolerance" else ()
    for quiet in ((), ("--quiet",)):
        caplog.clear()
        assert opu(*arguments, *small, *quiet, "--out", tmp_path / f"run{len(quiet)}") == 0
        lines = [one.getMessage() for one in caplog.records if one.name.startswith("dfa.")]
        assert lines[:1] == [] if quiet else lines[0].startswith(first)


def test_a_terminal_without_the_signs_of_a_table(monkeypatch, tmp_path):
    """Standard output that is ASCII. Catches: an error at the last line of a long run, for one dash."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert opu("train", "--method", "last-layer", "--epochs", 1, "--samples", 64, "--out", tmp_path / "run") == 0
    sys.stdout.flush()
    assert r"\u2013" in sys.stdout.buffer.getvalue().decode("ascii")


def test_ctrl_c_prints_how_to_continue(capsys, tmp_path):
    """Only if there is something to continue. Catches: a stop without a message."""
    for content in ("", "x"):
        with pytest.raises(KeyboardInterrupt), run_folder(tmp_path / "r", True) as folder:
            if content:
                (folder / content).touch()
            raise KeyboardInterrupt
        said = capsys.readouterr().err
        assert (f"--resume --out {tmp_path / 'r'} continues" in said) == bool(content)


def test_table_keeps_brackets(capsys):
    """Cells are shown as they are.

    Catches: ``pip install -e ".[cuda13]"`` printed as ``pip install -e "."``.
    """
    print_table(["a", "b"], [["x", ".[cuda13]"]])
    assert ".[cuda13]" in capsys.readouterr().out
