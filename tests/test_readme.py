"""The Python examples of README.md and docs/: they run, and a type checker accepts them in a user's file."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks, python_blocks

WRONG = {
    "projection": "from calibration import measure_projection\nmeasure_projection(3)\n",
    "setting": "from calibration import measure_projection\nfrom photonics import presets\n"
    "measure_projection(presets.ideal(4, 4), 'phase-stepping', steps='4')\n",
    "exposure": "from calibration import recover_transmission_matrix\nfrom photonics import presets\n"
    "recover_transmission_matrix(presets.ideal(4, 4), exposure='none')\n",
    "exposures": "from calibration import characterize\nfrom photonics import presets\n"
    "characterize(presets.ideal(4, 4), exposure='none')\n",
    "plan": "from dfa import Plan\nPlan(hidden='wide')\n",
    "feedback": "from dfa import OpticalFeedback\nOpticalFeedback(1.0)\n",
}
"""Files that a type checker must refuse."""


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Errors of pyright in standard mode, line and message, by file, in a folder outside the repository."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    for name, code in (python_blocks() | {f"wrong_{name}": code for name, code in WRONG.items()}).items():
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    found = json.loads(run.stdout)
    assert found["summary"]["filesAnalyzed"] == len(python_blocks()) + len(WRONG)
    lines = {}
    for item in found["generalDiagnostics"]:
        lines.setdefault(Path(item["file"]).stem, []).append((item["range"]["start"]["line"], item["message"]))
    return lines


def test_there_are_python_blocks():
    assert {name.rpartition("_")[0] for name in python_blocks()} >= {"README", "robustness", "sweeps"}


@pytest.mark.parametrize("name", python_blocks())
def test_a_type_checker_accepts_the_example(errors, name):
    """Catches: ``measure_projection(opu)`` with an `OPU` that is no `Device`, names that are not in the stubs."""
    assert errors.get(name, []) == []


@pytest.mark.parametrize("name", WRONG)
def test_the_type_checker_knows_the_packages(errors, name):
    """Catches: a check that passes because the packages' names are unknown to it."""
    assert len({line for line, _ in errors[f"wrong_{name}"]}) == 1


@pytest.mark.slow
def test_readme_example_runs_as_printed(tmp_path, monkeypatch, capsys):
    """The README's first example runs as a program and prints the number given in the README."""
    code = next(block.code for block in blocks("README") if block.language == "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    runpy.run_path("example.py", run_name="__main__")
    printed = re.search(r"([\d.]+)% right after ([\d,]+) frames", capsys.readouterr().out)
    assert printed
    assert float(printed[1]) > 90.0
    stated = re.search(r"([\d.]+)\s*% right after ([\d,]+) frames", (ROOT / "README.md").read_text("utf-8"))
    if stated:
        assert stated[2] == printed[2]
        assert float(stated[1]) == pytest.approx(float(printed[1]), abs=1.0)  # processors round differently
