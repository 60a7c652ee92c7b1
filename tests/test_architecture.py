"""The shape of the house, read from the syntax trees: imports run one way, and each room keeps to its task."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("photonics", "calibration", "dfa")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
MOST_LINES = 350

MAY_IMPORT = {
    "photonics": {"photonics"},
    "calibration": {"photonics", "calibration"},
    "dfa": {"photonics", "calibration", "dfa"},
}
NO_TORCH = ("photonics", "calibration")
HIDDEN = {"block", "effective_matrix", "propagate", "adjoint", "mean_photons", "_lit", "_columns", "_matrix"}
"""What gives a transmission matrix away: calibration knows the patterns it sent and the frames it got."""
OWN_STATE = {"default_rng", "Generator", "SeedSequence", "Philox", "PCG64", "BitGenerator"}
"""Names of `numpy.random` that do not touch its global state."""

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def package(path):
    return path.relative_to(ROOT).parts[0]


def imports(path):
    """Every module that a file imports, anywhere in it, as a full name."""
    here = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def dotted(node):
    """``a.b.c`` of a chain of attributes, or an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return base and f"{base}.{node.attr}"
    return ""


def attributes(path):
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)]


def test_there_are_files_to_look_at():
    assert {package(path) for path in FILES} == set(PACKAGES)


@every_file
def test_imports_run_one_way(path):
    """``dfa -> calibration -> photonics``, and nothing imports the tests. Catches: an import the other way."""
    ours = {name.split(".")[0] for name in imports(path)} & {*PACKAGES, "tests", "benchmarks"}
    assert ours <= MAY_IMPORT[package(path)]


@every_file
def test_only_training_knows_torch(path):
    """Catches: torch in the simulator or the calibration."""
    if package(path) in NO_TORCH:
        assert "torch" not in {name.split(".")[0] for name in imports(path)}


@every_file
def test_calibration_sees_frames_only(path):
    """No entry of a medium is read: not as an attribute, not by name. Catches: a peek at the truth."""
    if package(path) == "calibration":
        assert not {node.attr for node in attributes(path)} & HIDDEN
        words = {node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)}
        assert not {word for word in words if isinstance(word, str)} & HIDDEN  # getattr(medium, "block")


@every_file
def test_nothing_prints(path):
    """Catches: a ``print`` left in; the command line writes through its own console."""
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert "print" not in {dotted(call.func) for call in calls}


@every_file
def test_no_global_randomness(path):
    """Nothing touches a global state, and the simulator draws from Philox alone. Catches: ``np.random.rand``."""
    used = {dotted(node) for node in attributes(path)} | set(imports(path))
    used = {name.replace("np.", "numpy.", 1) if name.startswith("np.") else name for name in used}
    drawn = {name.split(".")[2] for name in used if name.startswith("numpy.random.")}
    assert drawn <= OWN_STATE
    assert "random" not in set(imports(path))
    if package(path) == "photonics":
        assert not drawn


@every_file
def test_a_file_reads_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("module", ["photonics", "calibration", "dfa.cli.main"])
def test_light_imports(module):
    """Neither the simulator nor the command line's ``--help`` waits for torch. Catches: an eager import."""
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr or f"import {module} imports torch"
