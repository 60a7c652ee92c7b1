"""Prepared studies: their points are allowed, differences are paired, figures show the numbers."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import xarray
from matplotlib.figure import Figure

from dfa.experiments.plans import Plan
from dfa.experiments.teachers import build_device
from dfa.robustness import Grid, OneAtATime, Random, Range
from dfa.robustness.figures import draw, format_value, is_clear, is_far, mean_and_error
from dfa.robustness.prepared import PreparedStudy, View, paired_difference, view_of
from dfa.robustness.studies import SMALL, STUDIES, prepare, two_parameters

TINY = Plan(data="digits", hidden=(16,), epochs=1, samples=128)


@dataclass(frozen=True)
class Formula:
    """A study whose accuracy falls with noise and rises with the seed; a noise of 99 fails."""

    def check(self, settings):
        pass

    def run(self, settings, seed):
        if settings.get("noise") == 99.0:
            raise ArithmeticError("too much")
        if "training.method" in settings:
            return {"accuracy": 95.0 + seed}
        width = settings.get("wide") or 2.0
        return {"accuracy": 90.0 + 10.0 * seed - settings.get("noise", 0.0) * (1.0 + 0.1 * seed) + width}

    def describe(self):
        return {"method": "optical"}

    def units(self):
        return {"accuracy": "%", "noise": "e-"}


def ready(design, **view):
    return PreparedStudy(
        study=Formula(), design=design, view=View(**{"kind": "curve", "title": "Noise", "x": "noise"} | view)
    )


def found(design, seeds=(0, 1, 2), **view):
    return ready(design, **view).run(seeds, workers=0, progress=False)


NOISES = Grid({"noise": [0.0, 1.0, 10.0, 99.0]})


def test_inputs_of_the_error_are_lit_as_the_others():
    """At every size of the device. Catches: ten inputs in the dark corner of the beam, at 0.22 of the mean light."""
    study = prepare("input_dimension").study
    for inputs in (20, 10_000):
        opu = build_device(replace(study.plan, inputs=inputs), 10, 4, 0)
        light = opu.laser.power_share(opu.dmd.cells(opu.n_in))
        np.testing.assert_allclose(light[:10].mean(), light.mean(), rtol=1e-3)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_allowed_points(name):
    """Catches: a name or value that the device refuses; a point without the flaw that is not in the design."""
    one = prepare(name, TINY)
    assert 0 < len(STUDIES[name]) < 120
    assert len(one.design.settings) > 2
    for settings in one.design.settings:
        one.study.check(settings)
    assert all(place < one.design.dims[dim] for dim, place in one.view.without.items())
    assert one.view.x in ("", *one.design.dims)
    assert one.study.describe() != {}


def test_values_may_be_an_array():
    """Also one value, which is false as a truth value. Catches: the default values in its place."""
    for values in (np.array([0.0]), np.array([0.0, 5.0])):
        assert prepare("read_noise", TINY, values=values).design.over == {"camera.read_noise_e": values.tolist()}


def test_a_study_of_two_flaws_has_both_changes():
    """Catches: a plan that has the changes of one flaw only."""
    one = two_parameters("medium_drift", "reference_phase", TINY)
    assert one.study.plan.calibration == {"method": "phase-stepping"}
    assert "medium" in one.study.plan.device_changes
    for settings in one.design.settings:
        one.study.check(settings)
    few = two_parameters("rin", "bit_depth", TINY, (None, -80.0), (8, 6))
    assert few.design.coordinates["laser.rin_db_per_hz"][1] == [None, -80.0]
    assert few.design.coordinates["camera.bit_depth"][1] == [8, 6]
    with pytest.raises(ValueError, match="second must be a flaw of another parameter than rin"):
        two_parameters("rin", "rin")
    with pytest.raises(ValueError, match=r"flaw must be one of shot_noise, .*, got 'magic'"):
        two_parameters("rin", "magic")


def test_device_changes_of_the_plan_are_kept():
    """Catches: a study that replaces the user's device."""
    plan = prepare("read_noise", replace(TINY, device_changes={"camera.bit_depth": 12})).study.plan
    assert plan.device_changes == {"camera.bit_depth": 12}


def test_differences_are_paired_by_seed():
    """Seeds are 10 apart, differences 0.1: their error is that of 1, 1.1, 1.2. Catches: means before differences."""
    mean, error, count = paired_difference(found(NOISES, without={"noise": 0}))
    np.testing.assert_allclose(mean, [0.0, -1.1, -11.0, np.nan], atol=1e-12)
    np.testing.assert_allclose(error[:3], [0.0, 0.1 / 3**0.5, 1.0 / 3**0.5], atol=1e-12)
    assert count.values.tolist() == [3, 3, 3, 0]
    mean, error, _ = paired_difference(found(NOISES, seeds=[0], without={"noise": 0}))
    np.testing.assert_allclose(mean[:3], [0.0, -1.0, -10.0], atol=1e-12)
    assert np.isnan(error).all()


def test_means_exclude_failed_seeds():
    values = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, np.nan], [2.0, np.nan, np.nan]])
    mean, error = mean_and_error(values)
    np.testing.assert_array_equal(mean, [2.0, np.nan, 2.0])
    np.testing.assert_array_equal(error, [1.0, np.nan, np.nan])


def test_three_seeds_need_more_than_twice_their_error():
    """Student's t with two degrees of freedom: 4.30. Catches: the normal distribution instead."""
    assert is_clear(-4.31, 1.0, 3)
    assert not is_clear(4.29, 1.0, 3)
    assert not is_clear(4.29, np.nan, 1)
    assert not is_clear(-0.28, 1e-15, 3)  # one of 360 samples, three times


def test_a_figure_needs_the_data_set_alone(tmp_path):
    """Catches: a view or a reference that is not in the file."""
    one = found(NOISES, without={"noise": 0}, log=True)
    one.to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "x.nc", engine="h5netcdf") as again:
        assert view_of(again) == view_of(one)
        ax = draw(again.load(), Figure().add_subplot())
    line = ax.containers[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [1.0, 10.0])  # a logarithmic axis cannot show 0
    np.testing.assert_allclose(line.get_ydata(), [100.9, 91.0])
    across = {artist.get_label(): artist.get_ydata()[0] for artist in ax.lines if artist.get_label()[0] != "_"}
    assert across.pop("failed") < 91.0
    assert across.pop("last layer only") == across["backpropagation"]  # the score of this study has no methods
    assert across == pytest.approx({"without the flaw": 102.0, "backpropagation": 96.0})
    with pytest.raises(ValueError, match=r"data set without a view .*plot\.line"):
        draw(one.drop_attrs(), Figure().add_subplot())


def test_lines_connect_points_in_order():
    """The value without the flaw is the first one and may lie in the middle. Catches: a line that turns back."""
    ax = draw(found(Grid({"noise": [2.0, 1.0, 10.0]}), without={"noise": 0}, log=True), Figure().add_subplot())
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xdata(), [1.0, 2.0, 10.0])
    assert sorted(label.get_text() for label in ax.get_xticklabels()) == ["1", "10", "2"]


def test_a_second_parameter_makes_lines_or_a_map():
    """Catches: exchanged axes; a cell that hides a failure."""
    design = Grid({"wide": [4.0, 3.0, None], "noise": [0.0, 1.0, 99.0]})
    lines = draw(found(design), Figure().add_subplot())
    assert len(lines.containers) == 3
    np.testing.assert_allclose(lines.containers[0].lines[0].get_ydata(), [104.0, 102.9])
    seen = draw(found(design, kind="map", y="wide", without={"wide": 0, "noise": 0}), Figure().add_subplot())
    np.testing.assert_allclose(seen.images[0].get_array()[:, 1], [102.9, 101.9, 100.9])
    texts = [text.get_text() for text in seen.texts]
    assert texts[:3] == ["+0.0", "-1.1\n± 0.1", "failed"]
    assert [label.get_text() for label in seen.get_yticklabels()] == ["4", "3", "none"]


def test_changes_of_one_parameter_are_ranked():
    """Failed changes first, then the largest loss; "Width" has equal differences, which are never clear.

    Catches: an order by name, a wrong sign.
    """
    design = OneAtATime({"noise": [1.0, 20.0, 99.0], "wide": [5.0]})
    one = found(design, kind="budget", without={"point": 0}, names={"wide": "Width"}, bench={"noise": 0.0})
    ax = draw(one, Figure().add_subplot())
    named = [label.get_text() for label in ax.get_yticklabels()]  # from the bottom up
    assert named == ["noise: 0 → 1 e-", "noise: 0 → 20 e-", "noise: 0 → 99 e-"]
    widths = [patch.get_width() for patch in ax.patches]
    np.testing.assert_allclose(widths, [-1.1, -22.0])


def test_points_drawn_at_random_are_scattered():
    one = found(Random({"noise": Range(0.0, 5.0)}, 4, seed=1), kind="scatter")
    ax = draw(one, Figure().add_subplot())
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xdata(), one.noise)


def test_values_as_text():
    assert [format_value(x) for x in (None, np.nan, 1e6, np.int64(3), "bp", "[32, 16]")] == [
        "none",
        "none",
        "1e+06",
        "3",
        "bp",
        "32, 16",
    ]
    assert format_value('{"type": "Drifting", "correlation_frames": 1e6}') == "1e+06 frames"
    x = np.array([1e12, 1e6, 1e5])
    assert is_far(x, 0, True)
    assert not is_far(x, 1, True)
    assert not is_far(x, 0, False)


def test_one_study_end_to_end():
    """Digits, one seed, a network of 32. Catches: errors of real trainings; a plan `SMALL` that does not run."""
    one = prepare("read_noise", replace(SMALL, epochs=1), values=(0.0, 1e4)).run([0], workers=0, progress=False)
    assert one["camera.read_noise_e"].attrs["units"] == "e-"
    assert float(one.reference.sel(reference_method="bp", seed=0)) > 50.0
    assert "laser.power_w must be lower" in str(one.error.values[1, 0])  # the noise alone exceeds the exposure's target
    draw(one, Figure().add_subplot())
