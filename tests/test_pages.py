"""Every code block of README.md and docs/: Python runs, files are read, command lines are parsed or run."""

import os
import re
import runpy
import shlex
import tomllib
from itertools import takewhile

import matplotlib as mpl
import pytest
import typer
import xarray as xr
from typer.exceptions import TyperException

from dfa.cli.main import app
from tests.command import opu
from tests.pages import ROOT, blocks, pages

LANGUAGES = {"python", "sh", "toml", "text", ""}
NOT_OURS = {"cd", "dask", "export", "git", "jupyter", "module", "nvidia-smi", "sbatch", "source", "srun", "torchrun"}
"""Programs whose arguments are not checked."""
with_code = pytest.mark.parametrize("page", [page for page in pages() if blocks(page)])


def words(line):
    """Words of a command without the variables before it, its comment, and where its output goes."""
    found = shlex.split(line, comments=True)
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found = found[1:]
    return list(takewhile(lambda word: word not in {"&", ">", ">>", "|"}, found))


def check_command(program, *arguments):
    """Raise an error if the command does not exist or does not have these options."""
    if program == "opu":
        group = typer.main.get_command(app)
        if arguments and arguments[0] in group.commands:
            group.commands[arguments[0]].make_context(arguments[0], list(arguments[1:]))
        else:
            assert arguments in ((), ("--help",), ("--version",)), f"opu {' '.join(arguments)}"
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert set(arguments) <= set(targets)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
        named = re.findall(r"(?:\.|opu-sim)\[(.*?)\]", " ".join(arguments))
        assert {extra for group in named for extra in group.split(",")} <= extras.keys()
    elif program.startswith("python"):
        check_python(*arguments)
    else:
        assert program in NOT_OURS, f"unknown program {program}"


def check_python(first, *others):
    """Raise an error if Python is not given a module or a file of this repository; a file in capitals is the user's."""
    if first == "-m":
        place = ROOT / others[0].replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file() or others[0] in ("venv", "pytest", "sphinx", "pip")
    elif first != "-c":
        assert (ROOT / first).is_file() or first.startswith("my_"), f"python {first}"


def check_sweeps(name, values):
    """Raise an error if a sweep among the values has failed points, which do not stop it."""
    for found in values.values():
        if isinstance(found, xr.Dataset) and "error" in found:
            assert set(found.error.values.ravel()) == {""}, name


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning")  # lightning's own
@pytest.mark.filterwarnings("default:frames do not fit the model")  # a page shows a medium that drifts
@pytest.mark.filterwarnings("default:phases of the matrix's rows are not known")  # and a twin with a matrix
@with_code
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    """Catches: an example that was never run, or that the code has left behind; a wrong option in a command.

    The blocks of a page run in one folder, in their order; each Python block is a program of its own.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPU_DATA", os.environ.get("OPU_DATA", str(tmp_path)))
    left_out = sorted({name for block in blocks(page) for name in block.missing})
    for block in blocks(page):
        assert block.language in LANGUAGES, block.name
        if block.missing:
            continue
        if block.file:
            (tmp_path / block.file).write_text(block.code, encoding="utf-8")
        if block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "python":
            path = tmp_path / f"{block.name}.py"
            path.write_text(block.reduced(), encoding="utf-8")
            with mpl.rc_context({"backend": "Agg"}):
                check_sweeps(block.name, runpy.run_path(str(path), run_name="__main__"))
        elif block.language == "sh":
            for line in block.reduced().replace("\\\n", " ").splitlines():
                if command := words(line):
                    check_command(*command)
                    if block.run and command[0] == "opu":
                        assert opu(*command[1:]) == 0, line
    if left_out:
        pytest.skip(f"blocks that need {', '.join(left_out)}, which are not installed; the others have run")


def test_a_wrong_command_is_found():
    """Catches: a check that accepts everything."""
    for line in (
        "opu sweep read_noise --seed 3",
        "opu sweeps",
        "make doc",
        'pip install ".[gpu]"',
        "python -m benchmark",
    ):
        with pytest.raises((AssertionError, TyperException)):
            check_command(*words(line))
