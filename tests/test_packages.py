"""The packages of this distribution among others: names that collide, and the public names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import opu_sim
from tests.public_names import names

ROOT = Path(__file__).parents[1]


def run(code, *folders):
    """Run code in a new process whose first import folders are given."""
    paths = os.pathsep.join(map(str, [*folders, ROOT]))
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": paths})


@pytest.fixture
def other(tmp_path):
    """Install another distribution with a package of that name into a folder."""

    def install(name, version):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        meta = tmp_path / f"{name}-{version}.dist-info"
        meta.mkdir()
        (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (meta / "top_level.txt").write_text(f"{name}\n")
        (meta / "RECORD").write_text(f"{name}/__init__.py,,\n")
        return tmp_path

    return install


@pytest.mark.parametrize(
    ("name", "version", "code"),
    [
        ("dfa", "4.7", "import sys, opu_sim; sys.argv = ['opu', '--help']; opu_sim.main()"),
        ("photonics", "0.0.1", "import dfa"),
        ("photonics", "0.0.1", "import calibration"),
    ],
)
def test_a_package_of_the_same_name_is_named(other, name, version, code):
    """One line with the other distribution and the remedy. Catches: an error from deep inside an import."""
    found = run(code, other(name, version))
    assert found.returncode
    last = found.stderr.splitlines()[-1]
    assert f"({name} {version}) instead of {ROOT / name}" in last
    assert "environment of its own" in last


def test_a_hidden_package_that_is_not_needed_gives_a_warning(other):
    """The optics do not need ``dfa``. Catches: an import of photonics that fails, or says nothing."""
    found = run("from photonics import Camera; print(Camera().bit_depth)", other("dfa", "4.7"))
    assert found.stdout == "8\n"
    assert found.stderr.count("(dfa 4.7) instead of") == 1


def test_files_installed_over_these_are_found(tmp_path, monkeypatch):
    """Catches: another distribution that was installed into the same site-packages later."""
    (tmp_path / "dfa-4.7.dist-info").mkdir()
    monkeypatch.setattr(opu_sim, "HOME", tmp_path)
    monkeypatch.setattr(opu_sim, "folder_of", lambda name: tmp_path / name)
    found = opu_sim.collisions()
    assert list(found) == ["dfa"] and found["dfa"].startswith("dfa 4.7 is installed over the package dfa")


def test_no_collision_here():
    assert opu_sim.collisions() == {}


@pytest.mark.parametrize(
    ("code", "later"),
    [
        ("import photonics", {"numpy", "numba", "scipy", "pydantic"}),
        ("from photonics import OPU", {"h5py", "scipy.io", "scipy.linalg", "scipy.special", "sklearn", "matplotlib"}),
        ("from photonics import presets; presets.lab_bench(20, 40)", {"numba", "h5py", "sklearn", "matplotlib"}),
        ("import calibration; [getattr(calibration, n) for n in calibration.__all__]", {"scipy.stats", "torch"}),
    ],
)
def test_a_light_import(code, later):
    """What takes long to load is loaded when it is used. Catches: an import at the top of a file."""
    found = run(f"{code}; import sys; print(*sys.modules)")
    assert found.returncode == 0, found.stderr
    assert set(found.stdout.split()) & later == set()


def test_public_names_are_frozen():
    """Catches: a name, parameter or option that is removed or renamed without deprecation (see CONTRIBUTING.md)."""
    frozen = (ROOT / "tests" / "public_names.txt").read_text("utf-8").splitlines()
    found = list(names())
    gone, new = [line for line in frozen if line not in found], [line for line in found if line not in frozen]
    remedy = "if that is intended: python -m tests.public_names > tests/public_names.txt"
    assert (gone, new) == ([], []), remedy


@pytest.mark.parametrize(
    ("module", "extra", "code"),
    [("torch", "train", "from dfa import train"), ("xarray", "cluster", "import dfa; dfa.sweep(None, {})")],
)
def test_a_missing_extra_has_its_line_in_python(module, extra, code):
    """Catches: "No module named 'torch'" without a remedy."""
    found = run(f"import sys; sys.modules['{module}'] = None; {code}")
    assert found.stderr.splitlines()[-1].startswith(f"ModuleNotFoundError: {module} is not installed: pip install -e ")
    assert found.stderr.rstrip().endswith(f'[{extra}]"')
