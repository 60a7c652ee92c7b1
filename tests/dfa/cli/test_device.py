"""``opu device`` and ``opu doctor``."""

import json
import tomllib

import pytest

import opu_sim
from dfa.cli import doctor
from dfa.cli.installation import Needed
from photonics import OPU, Drifting, GaussianMedium, Imaging, Reference, presets
from photonics.commented import commented
from photonics.description import replace_null, toml_text
from photonics.parameters import parameters_of
from photonics.presets import PRESETS
from tests.command import opu


@pytest.mark.parametrize("name", PRESETS)
def test_the_file_is_the_device(capfd, tmp_path, name):
    """Printed, read and printed again. Catches: an entry that is lost, an unreadable comment, a refused effect."""
    assert opu("device", name, "--n-in", 20, "--n-out", 30, "--seed", 3) == 0
    text = capfd.readouterr().out
    path = tmp_path / "bench.toml"
    path.write_text(text)
    assert OPU.from_toml(path).to_dict() == presets.get(name)(20, 30, seed=3).to_dict()
    assert opu("device", path) == 0
    assert capfd.readouterr().out == text
    assert opu("device", path, "--set", "camera.bit_depth=6", "--json") == 0
    assert json.loads(capfd.readouterr().out)["camera"]["bit_depth"] == 6
    effect = 'medium={type = "Drifting", correlation_frames = 1e5}'
    assert opu("device", path, "--set", effect, "--json") == 0
    medium = json.loads(capfd.readouterr().out)["medium"]
    assert (medium["type"], medium["correlation_frames"], medium["medium"]["n_out"]) == ("Drifting", 1e5, 30)


def test_every_entry_is_explained():
    """A comment before each entry, also in nested tables. Catches: a table without texts, a line that is too long."""
    medium = Drifting(GaussianMedium(9, 36), correlation_frames=100.0)
    device = OPU(medium=medium, imaging=Imaging(reference=Reference(), numerical_aperture=0.03))
    lines = toml_text(device.to_dict()).splitlines()
    entries = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    assert len(entries) == len(list(leaves(device.to_dict())))
    assert all(lines[number - 1].startswith("# ") for number in entries)
    assert max(map(len, lines)) <= 120
    known = {parameter.name: parameter.text for parameter in parameters_of(Reference)}
    assert "[imaging.reference]" in lines and known["noise"].split(":")[0] in " ".join(lines).replace(" # ", " ")
    text = commented(replace_null(device.to_dict()), "a device")
    assert tomllib.loads(text) == replace_null(device.to_dict())


def leaves(table):
    """Entries of nested tables."""
    for value in table.values():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield value


def findings(capfd, code):
    """Findings of ``opu doctor --json`` by name."""
    assert opu("doctor", "--json") == code
    return {found["what"]: found for found in json.loads(capfd.readouterr().out)["findings"]}


def test_a_healthy_installation(capfd, tmp_path, monkeypatch):
    """Catches: a check that fails where everything is installed, data that are not seen."""
    (tmp_path / "mnist").mkdir()
    monkeypatch.setenv("OPU_DATA", str(tmp_path))
    found = findings(capfd, 0)
    assert found["requirements"]["state"] == found["extra train"]["state"] == found["data"]["state"] == "ok"
    assert "mnist" in found["data"]["found"]
    assert opu("doctor") == 0
    assert "requirements" in capfd.readouterr().out


def test_what_is_missing_has_its_line(capfd, tmp_path, monkeypatch):
    """Catches: a missing part without a remedy, a broken installation that is called healthy."""
    needed = [Needed("numpy", "1.26", ">=2.0", ""), Needed("torch", None, ">=2.6", "train")]
    monkeypatch.setattr(doctor, "requirements", lambda: needed)
    monkeypatch.setattr(opu_sim, "collisions", lambda: {"dfa": "dfa is imported from elsewhere"})
    monkeypatch.setattr(opu_sim, "__version__", "0.0.1", raising=False)
    monkeypatch.setenv("OPU_DATA", str(tmp_path / "nowhere"))
    found = findings(capfd, 1)
    assert found["opu-sim"]["state"] == "missing" and ", but the checkout " in found["opu-sim"]["found"]
    assert found["requirements"]["state"] == found["package dfa"]["state"] == "broken"
    assert "numpy 1.26 (needs >=2.0)" in found["requirements"]["found"]
    assert found["package dfa"]["remedy"] == opu_sim.REMEDY
    assert "[train]" in found["extra train"]["remedy"]
    assert found["data"]["remedy"].startswith("set OPU_DATA")
