"""Searches of a tolerance: the posterior, the lines, and the search as a whole."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray
from matplotlib.figure import Figure

from dfa import Plan
from dfa.robustness import studies
from dfa.robustness.tolerances import LINES, Line, everything, figure, load, search, together, tolerance
from dfa.robustness.tolerances.posterior import posterior
from photonics import presets
from photonics.medium import Ballistic, Drifting
from tests.command import opu

BENCH = studies.bench_values(studies.SMALL)
TINY = Plan(data="digits", hidden=(8,), epochs=1, batch_size=32, samples=300)


def test_without_noise_the_crossing_is_found():
    """Catches: a curve that is shifted, or an interval that does not shrink with the noise."""
    places = np.linspace(0.0, 1.0, 25)
    for place in (0.2, 0.7):
        for losses in (
            np.exp(8.0 * (places - place)),
            10.0 * (places > place),
            2.0 / (1 + np.exp(-15 * (places - place))),
        ):
            found = posterior(places, losses, np.arange(25) % 6)
            low, high = found.interval(0.95)
            assert low - 0.01 <= place <= high + 0.01
            assert high - low < 0.12


def test_the_interval_covers_the_truth():
    """Catches: noise of the references that is left out. 95 % of 60 draws, less three standard errors: 0.86."""
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(60):
        truth, places, seeds = rng.uniform(0.3, 0.7), rng.uniform(0.0, 1.0, 12), np.arange(12) % 6
        noise = 0.4 * rng.standard_normal(6)[seeds] + 0.4 * rng.standard_normal(12)
        low, high = posterior(places, np.exp(6.0 * (places - truth)) + noise, seeds).interval(0.95)
        covered.append(low <= truth <= high)
    assert np.mean(covered) > 0.86


def test_a_limit_that_is_never_or_always_passed_is_beyond_the_line():
    """Catches: a tolerance inside of the line where no training says so."""
    places, seeds = np.linspace(0.0, 1.0, 12), np.arange(12) % 6
    assert posterior(places, np.zeros(12), seeds).interval(0.95)[0] > 0.9
    assert posterior(places, np.full(12, 5.0), seeds).interval(0.95)[1] < 0.1


def test_lines_start_good_and_end_bad():
    """Catches: ends that are exchanged, values that the simulator refuses, a place that is not that of its value."""
    for name, line in LINES.items():
        search.check_lines(search.TrainingStudy(studies.SMALL), [search.Search(name, line, None, 1.0, 0.1)])
        ((parameter, (best, worst)),) = line.ends.items()
        assert line.at(0.0)[parameter] == pytest.approx(best)
        assert line.at(1.0)[parameter] == pytest.approx(worst)
        assert line.place(parameter, line.value(parameter, 0.37)) == pytest.approx(0.37, abs=0.05)
        assert line.decades > 0.4
    assert LINES["read_noise"].at(0.5) == {"camera.read_noise_e": 54.77}
    assert LINES["bit_depth"].own(BENCH) == pytest.approx(4 / 11)
    assert LINES["medium_drift"].own(BENCH) is None
    assert LINES["dead_pixels"].own(BENCH) is None


def test_everything_becomes_worse_by_the_same_factor():
    """Catches: a flaw that starts elsewhere than on the device, or passes what the simulator allows."""
    line = everything(studies.SMALL)
    assert line.own(BENCH) == 0.0
    assert line.decades == pytest.approx(3.0)
    at = line.at(1.0 / 3.0)
    assert at["camera.full_well_e"] == 1000.0
    assert at["camera.read_noise_e"] == 25.0
    assert at["camera.prnu"] == 0.1
    assert line.at(1.0)["camera.prnu"] == 0.2
    both = together("Light and bits", LINES["read_noise"], LINES["contrast"])
    assert set(both.at(0.5)) == {"camera.read_noise_e", "dmd.contrast"}
    assert both.own(BENCH) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Line(title="a", ends={}), "ends"),
        (lambda: Line(title="a", ends={"camera.dsnu_e": (0.0, 1.0)}), "above 0 for a logarithm"),
        (lambda: Line(title="a", ends={"camera.dsnu_e": (1.0, float("nan"))}), "two numbers"),
        (lambda: together("a", LINES["read_noise"], LINES["read_noise"]), "different parameters"),
        (lambda: together("a", LINES["read_noise"], LINES["rin"]), "one kind of spacing"),
        (lambda: tolerance(TINY, ["no_flaw"]), "line must be one of"),
        (lambda: tolerance(TINY, "read_noise"), "list of names"),
        (lambda: tolerance(TINY, []), "one or more names"),
        (lambda: tolerance(TINY, ["read_noise"], factor=1.0), "factor"),
        (lambda: tolerance(TINY, ["read_noise"], loss=0.0), "loss"),
        (lambda: tolerance(TINY, ["read_noise"], seeds=[1]), "two or more"),
        (lambda: tolerance(TINY, {"a": Line(title="a", ends={"camera.prnu": (0.01, 5.0)})}), "line a: .*prnu"),
    ],
)
def test_bad_arguments(make, message):
    """Catches: a search that starts with arguments that it cannot use."""
    with pytest.raises(ValueError, match=message):
        make()


def pretend(monkeypatch, score, fails=lambda point: ""):
    """Replace training by a formula of the settings and the seed; return the list of what was trained."""
    trained = []

    def sweep(study, design, seeds, store, workers, progress):
        (seed,) = seeds
        trained.extend((json.dumps(point, sort_keys=True), seed) for point in design.settings)
        rng = [np.random.default_rng([seed, *json.dumps(point, sort_keys=True).encode()]) for point in design.settings]
        errors = [fails(point) for point in design.settings]
        values = [
            np.nan if error else score(point) + seed / 10 + 0.3 * one.standard_normal()
            for point, one, error in zip(design.settings, rng, errors, strict=True)
        ]
        return xarray.Dataset(
            {"accuracy": (("point", "seed"), np.c_[values]), "error": (("point", "seed"), np.c_[errors])}
        )

    monkeypatch.setattr(search, "sweep", sweep)
    return trained


def test_the_value_at_which_a_point_is_lost_is_found(monkeypatch):
    """Catches: a loss of the wrong sign, references of another seed, a margin from another value than the device's."""
    trained = pretend(monkeypatch, lambda point: 95.0 - (point.get("camera.read_noise_e", 2.5) / 100.0) ** 2)
    found = tolerance(TINY, ["read_noise"], progress=False)
    row = found["read_noise"]
    assert row.verdict == "found"
    assert row.better["camera.read_noise_e"] < 100.0 < row.worse["camera.read_noise_e"]
    assert row.worse["camera.read_noise_e"] / row.better["camera.read_noise_e"] <= 4.1
    assert row.own == {"camera.read_noise_e": 2.5}
    assert row.margin[0] == pytest.approx(row.value["camera.read_noise_e"] / 2.5, rel=0.01)
    assert found.trainings == len(set(trained)) == len(row.trials) + 6
    assert str(found) == str(tolerance(TINY, ["read_noise"], progress=False))


def test_each_seed_has_a_medium_of_its_own(monkeypatch):
    """A described device is searched on several media of its law. Catches: an interval for one medium alone."""
    device = presets.lab_bench(20, 64, seed=3)
    device = device.replace(medium=Ballistic(Drifting(device.medium, 1e5, seed=4), 0.1))
    for plan, same, wanted in (
        (replace(TINY, device=device.to_dict()), False, [(4 + seed, 3 + seed) for seed in range(2)]),
        (replace(TINY, device=device.to_dict()), True, [(None, None)]),
        (TINY, False, [(None, None)]),
    ):
        trained = pretend(monkeypatch, lambda point: 90.0)
        tolerance(plan, ["read_noise"], most=4, seeds=range(2), progress=False, same_medium=same)
        names = "medium.medium.seed", "medium.medium.medium.seed"
        assert {tuple(map(json.loads(point).get, names)) for point, _ in trained} == set(wanted)


def test_a_line_that_costs_nothing_says_so(monkeypatch):
    """Catches: a tolerance for a part that has none, and one for a part that is always too bad."""
    pretend(monkeypatch, lambda point: 90.0 - 20.0 * ("dmd.contrast" in point))
    found = tolerance(TINY, ["read_noise", "contrast"], most=12, progress=False)
    assert found["read_noise"].verdict == "at least"
    assert found["contrast"].verdict == "at most"
    assert "not lost" in str(found) and "always lost" in str(found)
    assert "not lost up to 3000" in figure.page(found)


def test_a_search_that_learned_nothing_says_so():
    """Losses that do not follow the line. Catches: an interval over the whole line that is called "not lost"."""
    one = search.Search("a", LINES["read_noise"], None, 1.0, 0.1)
    for number, (place, loss) in enumerate([(0.5, 1.0), (0.0, 3.0), (1.0, -1.0), (0.3, 1.2), (0.7, 0.8)]):
        one.add(search.Trial(place, number, loss), most=5)
    low, high = one.found.interval(0.95)
    assert low < 0.0 and high > 1.0
    assert one.verdict == "wide"


def test_searches_are_drawn_beside_each_other(monkeypatch):
    """Margins or values, a triangle where the limit is not reached. Catches: a row at another line's height."""
    pretend(monkeypatch, lambda point: 95.0 - (point.get("camera.read_noise_e", 2.5) / 100.0) ** 2)
    found = tolerance(TINY, ["read_noise", "contrast"], progress=False)
    for margins in (True, False):
        ax = figure.compare({"a": found, "b": found}, ["contrast", "read_noise"], Figure().add_subplot(), margins)
        bars = [line for line in ax.lines if np.size(line.get_xdata()) == 2][1::2]  # below those of the contrast
        noise = found["read_noise"]
        ends = noise.margin[1:] if margins else [*noise.better.values(), *noise.worse.values()]
        assert [list(bar.get_xdata()) for bar in bars] == [pytest.approx(ends)] * 2
        assert [round(float(bar.get_ydata()[0])) for bar in bars] == [1, 1]
        assert [line.get_marker() for line in ax.lines].count(">") == 2
        assert [label.get_text() for label in ax.get_yticklabels()] == ["DMD contrast", "Read noise"]


def test_a_refused_training_is_a_large_loss(monkeypatch):
    """Catches: a device that cannot be calibrated and counts as good, or a refusal that nobody sees."""
    pretend(
        monkeypatch, lambda point: 90.0, lambda point: "no pixel" if point.get("dmd.contrast", 1000.0) < 30.0 else ""
    )
    row = tolerance(TINY, ["contrast"], progress=False)["contrast"]
    assert row.worse["dmd.contrast"] < 30.0 * 1.1 and row.better["dmd.contrast"] > 30.0 / 1.1
    assert row.refused > 0 and row.failure == "no pixel"
    pretend(monkeypatch, lambda point: 90.0, lambda point: "dark")
    with pytest.raises(ValueError, match=r"as it is must be trainable .*dark"):
        tolerance(TINY, ["contrast"], progress=False)


def test_the_command_from_start_to_end(tmp_path, capsys, monkeypatch):
    """Catches: a search that trains again what its store has, and a report without its figure."""
    words = ["tolerance", "read_noise", "--task", "digits", "--most", "4", "--seeds", "2", "--out", str(tmp_path / "a")]
    words += [f"--set=training.{name}" for name in ("epochs=1", "hidden=[8]", "samples=300")]
    assert opu(*words, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert first["trainings"] == 6
    assert (tmp_path / "a" / "report.html").read_text(encoding="utf-8").count("<svg") == 1
    monkeypatch.setattr("dfa.robustness.training_study.TrainingStudy.run", lambda *_: pytest.fail("trained again"))
    assert opu(*words, "--resume") == 0
    assert "Read noise" in capsys.readouterr().out
    read = load(tmp_path / "a" / "tolerances.json")
    assert json.loads(json.dumps(read.to_dict()["rows"])) == first["rows"]
    with pytest.raises(ValueError, match="must be a file of opu tolerance"):
        load(tmp_path / "a" / "report.html")
