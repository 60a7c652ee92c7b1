"""The metadata of the distribution: pictures on an index page."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

ROOT = Path(__file__).parents[1]
HOST = "https://example.org/owner/opu-sim"
INTERFACE = "hatchling.metadata.plugin.interface"
ADDRESS = re.compile(r"\]\(([^)]+)\)")


def test_version_and_date_are_those_of_the_newest_release():
    """In all three files, under a section for what comes next. Catches: a release that is half made."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    cited = dict(re.findall(r"^(version|date-released): (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M))
    versions = re.findall(r"^## \[(.*)\](?: - (.*))?$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert versions[:2] == [("Unreleased", ""), (project["version"], cited["date-released"])]
    assert cited["version"] == project["version"]


def test_pictures_and_links_become_absolute(monkeypatch):
    """With an address of the repository; without one nothing changes. Catches: a relative picture on an index page."""
    stand_in = ModuleType(INTERFACE)  # hatchling is in the environment that builds, and not in that of the tests
    stand_in.MetadataHookInterface = object
    monkeypatch.setitem(sys.modules, INTERFACE, stand_in)
    spec = importlib.util.spec_from_file_location("metadata", ROOT / "metadata.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    hook, found = SimpleNamespace(root=str(ROOT)), {"version": "1.2.3"}

    text = (ROOT / "README.md").read_text("utf-8")
    monkeypatch.delenv("OPU_SIM_REPOSITORY", raising=False)
    module.Addresses.update(hook, found)
    assert found["readme"]["text"] == text and list(found["urls"]) == ["Paper"]
    monkeypatch.setenv("OPU_SIM_REPOSITORY", f"{HOST}/")
    module.Addresses.update(hook, found)
    addresses = ADDRESS.findall(found["readme"]["text"])
    assert len(addresses) == len(ADDRESS.findall(text))
    assert f"{HOST}/raw/v1.2.3/docs/drift.png" in addresses
    assert all(address.startswith(("https://", "#")) for address in addresses)
    assert found["urls"]["Homepage"] == HOST
