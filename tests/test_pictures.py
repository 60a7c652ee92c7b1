"""Pictures of the documentation show what the code gives now: device, plan and a part of the numbers.

`docs/calibration.png` and `docs/calibration_photons.png` take an hour to measure; the tables of their pages have the
numbers.
"""

import json
import runpy
from dataclasses import asdict, replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dfa import Plan, Ternary
from dfa.data import digits
from dfa.experiments import DEMO, compare_methods
from photonics import OPU
from photonics.patterns.encoding import half_on
from tests.pages import ROOT

pictures = SimpleNamespace(**runpy.run_path(str(ROOT / "docs/pictures.py")))
MEASURED_FOR_LONG = {"calibration", "calibration_photons"}
PNG = [path for folder in ("", "robustness") for path in sorted((ROOT / "docs" / folder).glob("*.png"))]
OPTICS = {"first_light": pictures.first_light_device, "optics": pictures.optics_device}


@cache
def stored(path):
    return json.loads(path.with_suffix(".json").read_text("utf-8"))


def same(device, stated):
    """Whether two descriptions agree; an exposure is the result of a measurement, which processors round."""
    stated = OPU.from_dict(stated).to_dict()  # with parameters that were added since, at their defaults
    device, stated = (dict(json.loads(json.dumps(one))) for one in (device, stated))
    assert device.pop("exposure_s") == pytest.approx(stated.pop("exposure_s"), rel=1e-3)
    assert device == stated


@pytest.mark.parametrize("path", PNG, ids=lambda path: path.stem)
def test_a_picture_is_drawn_from_the_numbers_beside_it(path):
    """Catches: numbers that were stored again without `make pictures`, or a picture drawn by hand."""
    if path.stem not in MEASURED_FOR_LONG:
        with Image.open(path) as image:
            assert image.info["Source"] == pictures.hash_of(stored(path))


@pytest.mark.parametrize("path", [p for p in PNG if p.parent.name == "robustness"], ids=lambda path: path.stem)
def test_device_and_plan_of_a_study_are_those_of_now(path):
    """Catches: a preset with another exposure beside a picture of the earlier device. A plan may have new fields."""
    study = stored(path)
    same(pictures.device_of(study), study["device"])
    plan = json.loads(study["data"]["attrs"]["study"])["plan"]
    now = json.loads(json.dumps(asdict(Plan(**plan | {"encoder": Ternary(**plan["encoder"])}))))
    assert {name: now[name] for name in plan} == plan


def test_the_first_picture_of_drift_is_that_of_its_study():
    study = stored(ROOT / "docs/robustness/drift_recalibration.png")
    numbers = stored(ROOT / "docs/drift.png")
    assert numbers["study"] == pictures.hash_of(study)
    assert [len(scores) for scores in numbers["followed"].values()] == [len(pictures.FOLLOWED)] * 2


@pytest.mark.parametrize("name", OPTICS)
def test_device_and_light_of_a_picture_are_those_of_now(name):
    """A frame agrees up to single codes, photons to a thousandth: processors round differently."""
    opu, numbers = OPTICS[name](), stored(ROOT / f"docs/{name}.png")
    same(opu.to_dict(), numbers["device"])
    pattern, tick = half_on(1, opu.n_in, 0), np.zeros(1, np.int64)
    if "frame" in numbers:
        frame = opu.measure(pattern)[0, :64].astype(int)
        assert np.abs(frame - numbers["frame"]).max() <= 1
    else:
        photons = opu.mean_photons(pattern, tick, opu.exposure_s, opu.light(tick, opu.exposure_s))
        np.testing.assert_allclose(photons[0, :64], numbers["photons"], rtol=1e-3)


def test_learning_curves_of_a_picture_are_those_of_now():
    """The first two of 60 epochs, optical, one seed: within 2 points, since processors round differently."""
    (run,) = compare_methods(replace(DEMO, epochs=2), digits(), ["optical"], [0], progress=False)
    curve = stored(ROOT / "docs/first_light.png")["scores"]["optical 0"]
    assert [point.test for point in run.history] == pytest.approx(curve[:2], abs=0.02)
