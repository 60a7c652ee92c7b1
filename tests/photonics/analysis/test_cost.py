"""Time and energy on the real bench: the arithmetic, and the source of every figure."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.constants import c, h

from photonics import presets

every_preset = pytest.mark.parametrize("name", presets.PRESETS)


@pytest.mark.parametrize(("name", "frames"), [("lab_bench", 0), ("lighton_aurora", 7), ("ideal", 10**9)])
def test_timing(name, frames):
    """Frames times the period, and the latency: load, settle and exposure. Catches: Hz for seconds."""
    opu = presets.get(name)(20, 30)
    took = opu.timing(frames)
    assert took.frames == frames
    assert took.frame_s == opu.frame_period_s == 1 / min(opu.dmd.frame_rate_hz, opu.camera.frame_rate_hz)
    assert took.seconds == pytest.approx(frames * took.frame_s, rel=1e-12)
    assert took.latency_s == pytest.approx(opu.dmd.load_s + opu.dmd.settle_s + opu.exposure_s, rel=1e-12)


@pytest.mark.parametrize(("name", "frames"), [("lab_bench", 0), ("lighton_aurora", 7), ("ideal", 10**9)])
def test_energy(name, frames):
    """Watts times seconds; the optical part is the laser's. Catches: optical watts for electrical, frames twice."""
    opu = presets.get(name)(20, 30)
    cost, seconds = opu.energy(frames), frames * opu.frame_period_s
    assert (cost.frames, cost.watts) == (frames, opu.electrical_power_w)
    assert cost.joules == pytest.approx(opu.electrical_power_w * seconds, rel=1e-12)
    assert cost.joules_per_frame == pytest.approx(cost.watts * opu.frame_period_s, rel=1e-12)
    assert cost.optical_joules == pytest.approx(opu.laser.power_w * seconds, rel=1e-12)
    assert cost.joules_per_multiplication * 20 * 30 == pytest.approx(cost.joules_per_frame, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "period", "watts"), [("lab_bench", 1e-3, 40.0), ("lighton_aurora", 5e-4, 30.0), ("ideal", 1e-3, 40.0)]
)
def test_published_figures(name, period, watts):
    """A million frames against hand-computed values. Catches: a preset whose frame rate or power is ignored."""
    opu = presets.get(name)(20, 30)
    assert opu.timing(10**6).seconds == pytest.approx(1e6 * period)
    assert opu.energy(10**6).joules == pytest.approx(1e6 * period * watts)


@pytest.mark.parametrize("name", ["lighton_aurora"])
def test_costs_add_up(name):
    """The cost of 300 frames plus that of 700 is that of 1000. Catches: a set-up time hidden in the rate."""
    opu = presets.get(name)(20, 30)
    parts = [(opu.timing(n), opu.energy(n)) for n in (300, 700, 1000)]
    assert parts[0][0].seconds + parts[1][0].seconds == pytest.approx(parts[2][0].seconds, rel=1e-12)
    for figure in ("joules", "optical_joules"):
        first, second, both = (getattr(energy, figure) for _, energy in parts)
        assert first + second == pytest.approx(both, rel=1e-12)


@pytest.mark.parametrize("name", ["lab_bench"])
def test_the_clock_is_the_default(name):
    """The default counts all frames taken so far. Catches: dark frames that are not counted."""
    opu = presets.get(name)(20, 30)
    assert opu.timing().seconds == opu.energy().joules == 0.0
    opu.measure(np.ones((4, 20), bool))
    opu.dark(3)
    assert opu.timing() == opu.timing(7)
    assert opu.energy() == opu.energy(7)
    assert opu.clock.frames == 7
    assert opu.timing(0).seconds == opu.energy(0).joules == 0.0  # 0 is not None


def test_the_slower_part_sets_the_pace():
    """It is named, with its frame rate. Catches: min for max."""
    opu = presets.lab_bench(20, 30)
    assert (opu.timing(1).limit, opu.timing(1).frame_s) == ("camera", 1e-3)
    fast = opu.replace(camera=replace(opu.camera, frame_rate_hz=1e5), exposure_s=2e-5)
    assert (fast.timing(1).limit, fast.timing(1).frame_s) == ("dmd", pytest.approx(1 / 22_700))
    assert fast.energy(1).sources["frame_s"].startswith("22700.0")
    slow = opu.replace(dmd=replace(opu.dmd, frame_rate_hz=500.0))
    assert (slow.timing(1).limit, slow.timing(1).frame_s) == ("dmd", 2e-3)


@every_preset
def test_every_figure_has_its_source(name):
    """Each source is the value, a colon and words. Catches: an empty or outdated source."""
    opu = presets.get(name)(20, 30)
    figures = {f"{part}.{field}": getattr(getattr(opu, part), field) for part, field in INPUTS}
    figures |= {"exposure_s": opu.exposure_s, "electrical_power_w": opu.electrical_power_w}
    sources = opu.timing(1).sources | opu.energy(1).sources
    assert set(sources) == {*figures, "frame_s"}
    figures["frame_s"] = min(opu.dmd.frame_rate_hz, opu.camera.frame_rate_hz)
    for figure, text in sources.items():
        value, words = text.split(": ", 1)
        assert float(value) == figures[figure]
        assert re.search(r"\w{3,} \w+", words), figure
        assert "\n" not in text


INPUTS = [
    ("dmd", "frame_rate_hz"),
    ("dmd", "load_s"),
    ("dmd", "settle_s"),
    ("camera", "frame_rate_hz"),
    ("laser", "power_w"),
]


def test_power_sources_of_the_presets():
    """Each preset states the source of its power. Catches: an estimate given as a publication."""
    words = {name: presets.get(name)(2, 3).energy(1).sources["electrical_power_w"] for name in presets.PRESETS}
    assert "estimate" in words["lab_bench"]
    assert "arXiv:2409.12965" in words["lighton_aurora"]
    assert "lab_bench" in words["ideal"]


@pytest.mark.parametrize("name", ["lab_bench", "lighton_aurora"])
def test_energy_is_conserved(name):
    """A bench draws more than its laser emits, and the camera sees fewer photons than that. Catches: J for photons."""
    opu = presets.get(name)(100, 10_000)
    cost = opu.energy(1)
    assert cost.optical_joules < cost.joules
    on = np.ones((1, 100), bool)
    first = np.zeros(1, np.int64)
    photons = opu.mean_photons(on, first, opu.exposure_s, opu.light(first, opu.exposure_s))
    assert 0 < photons.sum() * h * c / opu.laser.wavelength_m < cost.optical_joules


@pytest.mark.parametrize(("cost", "frames"), [("timing", -1), ("timing", 2.0), ("energy", "3"), ("energy", True)])
def test_bad_counts_are_refused(cost, frames):
    with pytest.raises(ValueError, match=r"^frames must be an integer, 0 or more, got "):
        getattr(presets.lab_bench(4, 4), cost)(frames)


@pytest.mark.parametrize("watts", [-1.0, float("inf"), "40"])
def test_bad_power_is_refused(watts):
    with pytest.raises(ValueError, match=r"^electrical_power_w must be 0 or more, got "):
        presets.lab_bench(4, 4).replace(electrical_power_w=watts)
