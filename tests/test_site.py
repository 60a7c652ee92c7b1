"""What the documentation site reads from the code: tables of parameters, public names, variables, the citation."""

import importlib
import pkgutil
import re

import pytest

from tests.pages import ROOT

pytest.importorskip("sphinx", reason="needs the extra docs: make docs")
from docs.extensions.citation import CITATION, bibtex
from docs.extensions.imports import PACKAGES, imported_folders
from docs.extensions.names import MODULES
from docs.extensions.parameters import table_of
from photonics import Camera, Laser

NOT_OPTIONS = {"PYTHONPATH", "CUDA_HOME", "OPENBLAS_CORETYPE", "GITHUB_ACTIONS", "HOME"}
"""Variables that are passed on or removed, not read as a setting of this project."""


def test_every_public_name_is_in_the_reference():
    """Catches: a new package whose names have no page."""
    packages = [importlib.import_module(name) for name in PACKAGES]
    names = [module.name for p in packages for module in pkgutil.walk_packages(p.__path__, p.__name__ + ".")]
    public = [name for name in names if hasattr(importlib.import_module(name), "__path__")]
    assert {name for name in public if getattr(importlib.import_module(name), "__all__", ())} <= MODULES.keys()
    assert set(PACKAGES) <= MODULES.keys()


def test_a_table_has_the_fields_of_the_class():
    """Catches: a table that loses a unit, a bound or a field, or that a bar in a text breaks."""
    rows = table_of(Camera).splitlines()
    assert len(rows) == 2 + len(Camera.__pydantic_fields__)
    assert any(row.startswith("| `read_noise_e` | e⁻ | 2.5 | 0 or more | Temporal read noise") for row in rows)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in (*rows, *table_of(Laser).splitlines())} == {6}


def test_every_variable_that_is_read_is_documented():
    """Catches: a setting that only the source tells."""
    pattern = re.compile(r"environ(?:\.get\(|\.setdefault\(|\[)\s*\"([A-Z_]+)\"|getenv\(\"([A-Z_]+)\"")
    files = [path for name in (*PACKAGES, "benchmarks", "notebooks") for path in (ROOT / name).rglob("*.py")]
    read = {name for path in files for found in pattern.findall(path.read_text("utf-8")) for name in found if name}
    page = (ROOT / "docs" / "reference" / "environment.md").read_text("utf-8")
    assert {"OPU_DATA", "DASK_SCHEDULER_ADDRESS"} <= read
    assert {name for name in read - NOT_OPTIONS if f"`{name}`" not in page} == set()


def test_bibtex_has_the_software_and_the_paper():
    """Catches: a citation that is typed by hand and no longer that of CITATION.cff."""
    text = bibtex(CITATION.read_text("utf-8"))
    assert re.findall(r"^@(\w+)\{(\w+)", text.replace("opu-sim,", "opusim,"), re.M) == [
        ("software", "opusim"),
        ("article", "launay2020"),
    ]
    assert "Launay, Julien and Poli, Iacopo" in text
    assert text.count("{") == text.count("}")


def test_imports_are_read_from_the_code():
    """Catches: a table of imports without the folders' own."""
    found = imported_folders("calibration")
    assert {"fields", "storage"} <= found["recovery"]
    assert "recovery" not in found["fields"]
