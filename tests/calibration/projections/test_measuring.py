"""Choice of a method, its settings, and a projection that is measured again."""

import dataclasses

import numpy as np
import pytest

from calibration import measure_projection
from calibration.metrics import row_correlation
from calibration.projections.anchor import AnchorMethod
from calibration.projections.methods import METHODS, choose_method
from photonics import presets
from tests.calibration.benches import METHODS as CASES
from tests.calibration.benches import N_IN, bench, calibrate, half_on


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_documented_component(name):
    """Frozen, under its own name, every setting with a default. Catches: an entry under another name."""
    method = choose_method(name)
    assert type(method) is METHODS[name]
    assert method.name == name
    assert method == dataclasses.replace(method) == choose_method(method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.bits = 4


@pytest.mark.parametrize("name", CASES)
def test_a_projection_is_measured_again_by_its_method(name):
    """On a second device of the same seed it gives the same bits. Catches: a setting that the projection forgets."""
    first = calibrate(bench("lab_bench", name), name, bits=4, repeats=3)
    second = first.method.calibrate(bench("lab_bench", name), first.n_inputs)
    third = measure_projection(bench("lab_bench", name), first.method, first.n_inputs)
    x = half_on(3, first.n_inputs)
    values = first(x)
    assert first.bits == second.bits == 4
    np.testing.assert_array_equal(second(x), values)
    np.testing.assert_array_equal(third(x), values)


@pytest.mark.parametrize(("name", "options"), [*((name, {}) for name in CASES), ("anchor, disjoint", {"anchors": 3})])
def test_a_new_calibration_keeps_the_gauge(name, options):
    """Rows of `recalibrate` agree with those before; of a calibration anew 35 % of multilateration's rows would differ.

    Catches: rows that are not turned back (2 % of those of three anchors are enough).
    """
    first = calibrate(bench("lab_bench", name), name, **options)
    x, again = half_on(40, first.n_inputs), first.recalibrate()
    rows = first.valid & again.valid
    assert row_correlation(again(x)[:, rows], first(x)[:, rows]).min() > 0.5


@pytest.mark.parametrize("name", CASES)
def test_refresh_shows_the_light_of_now(name):
    """A fifth more light, to 2 % (multilateration 5 %): values grow by its root, and no movement is seen.

    Catches: a stale beam (10 % in all values); a method that does not see the medium; noise taken for a movement.
    """
    opu = bench("lab_bench", name)
    opu.exposure_s *= 0.7
    first = calibrate(opu, name)
    brighter = opu.replace(**{"laser.power_w": 1.2 * opu.laser.power_w})
    brighter.clock.frames = opu.clock.frames
    refreshed = dataclasses.replace(first, opu=brighter).refresh()
    assert refreshed.scale == pytest.approx(1.2, rel=0.05 if name == "multilateration" else 0.02)
    assert refreshed.correlation is not None
    assert refreshed.correlation > 0.9 and first.correlation == 1.0
    x, rows = half_on(20, first.n_inputs), first.valid
    before, now = (one(x)[:, rows] for one in (first, refreshed.projection))
    assert np.abs(np.vdot(before, now) / np.vdot(before, before)) == pytest.approx(1.2**0.5, rel=0.05)


def test_options_change_a_method():
    """None keeps the setting. Catches: options that are ignored beside a method."""
    method = choose_method(AnchorMethod(anchors=2, bits=6), repeats=4, bits=None)
    assert method == AnchorMethod(anchors=2, bits=6, repeats=4)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (
            "magic",
            {},
            "method must be one of anchor, phase-stepping, off-axis, multilateration, reference-pairs, got 'magic'",
        ),
        ("anchor", {"n_inputs": 0}, "n_inputs must be an integer, 1 to"),
        ("anchor", {"n_inputs": N_IN + 1}, "n_inputs must be an integer, 1 to"),
        ("anchor", {"n_inputs": 2.5}, "n_inputs must be an integer"),
        ("anchor", {"n_inputs": "2"}, "n_inputs must be an integer"),
        ("anchor", {"anchors": 2}, "anchors must be an integer, 1 to 1"),
        ("anchor", {"n_inputs": N_IN - 2, "anchors": 3}, "anchors must be an integer, 1 to 2"),
        ("anchor", {"dark_share": 1.0}, "AnchorMethod: dark_share must be less than 1"),
        ("anchor", {"unit_dn": 0.0}, "AnchorMethod: unit_dn must be greater than 0"),
        ("anchor", {"bits": True}, "AnchorMethod: bits must be a valid number, got True"),
        ("anchor", {"steps": 4, "colour": 1}, "method 'anchor' has the options bits, .*, anchors, got steps, colour"),
        ("phase-stepping", {"anchors": 2}, "method 'phase-stepping' has the options bits, .*, steps, got anchors"),
        ("off-axis", {"anchors": 2}, "method 'off-axis' has the options bits, .*, unit_dn, got anchors"),
        ("phase-stepping", {"steps": 2}, "steps must be greater than or equal to 3, got 2"),
        ("phase-stepping", {"bits": 17}, "bits must be less than or equal to 16, got 17"),
        ("phase-stepping", {"repeats": 1}, "repeats must be greater than or equal to 2, got 1"),
        ("multilateration", {}, "n_inputs must be .* to leave 3 inputs for anchors"),
        ("multilateration", {"n_inputs": N_IN - 2}, "n_inputs must be .* to leave 3 inputs for anchors"),
        ("multilateration", {"n_inputs": 100, "anchors": 2}, "anchors must be greater than or equal to 3, got 2"),
        ("multilateration", {"n_inputs": N_IN - 3, "anchors": 4}, "anchors must be an integer, 3 to 3"),
    ],
)
def test_bad_settings_are_refused(method, arguments, message):
    opu = presets.lab_bench(N_IN, 50)
    with pytest.raises(ValueError, match=message) as caught:
        measure_projection(opu, method, **arguments)
    assert "\n" not in str(caught.value)
    assert opu.clock.frames == 0
