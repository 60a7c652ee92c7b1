"""Figures of studies in which some points failed: differences of the same seeds, with their number."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import xarray
from matplotlib.figure import Figure

from dfa.robustness.figures import draw
from dfa.robustness.prepared import View
from dfa.robustness.results import caption, format_number, split_table, table

NAN = np.nan
SCORES = np.array([[92.0, 90.0, 91.0], [NAN, 89.8, 90.8], [92.0, 90.0, 91.0], [NAN, 89.0, NAN]])
"""Scores over (values, seeds). The best seed fails first, so the mean of the others falls more than each seed."""
VALUES = [0.0, 1.0, 2.0, 3.0]


def dataset(scores, dims, view, **coordinates):
    """Return a data set of some scores."""
    error = ((*dims, "seed"), np.where(np.isnan(scores), "failed", ""))
    arrays = {"accuracy": ((*dims, "seed"), scores, {"units": "%"}), "error": error}
    about = {"study": json.dumps({"method": "optical"}), "view": json.dumps(asdict(view))}
    return xarray.Dataset(arrays, {**coordinates, "seed": np.arange(scores.shape[-1])}, about)


def figure(scores, dims, view, **coordinates):
    """Return the axes of a figure of some scores, and its texts."""
    ax = draw(dataset(scores, dims, view, **coordinates), Figure().add_subplot())
    return ax, [text.get_text() for text in ax.texts]


def test_a_curve_shows_the_difference_of_the_seeds_that_did_not_fail():
    """Catches: a mean over two seeds beside a line of three seeds, whose difference looks like a loss."""
    view = View(kind="curve", title="", x="noise", without={"noise": 0})
    ax, notes = figure(SCORES, ["noise"], view, noise=VALUES)
    line = next(line for line in ax.lines if np.size(line.get_xdata()) == len(VALUES))
    assert line.get_ydata() == pytest.approx([91.0, 90.8, 91.0, 90.0])
    assert notes == ["2 of 3\nseeds", "1 of 3\nseeds"]
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "w"]
    assert [np.asarray(line.get_ydata())[0] for line in hollow] == pytest.approx([90.8, 90.0])


def test_a_map_shows_where_seeds_failed():
    view = View(kind="map", title="", x="noise", y="bits", without={"noise": 0, "bits": 0})
    scores = np.stack([SCORES, SCORES])
    ax, notes = figure(scores, ["bits", "noise"], view, noise=VALUES, bits=[8, 4])
    assert [note.splitlines() for note in notes[:4]] == [
        ["+0.0"],
        ["-0.2", "2 of 3 seeds"],
        ["+0.0"],
        ["-1.0", "1 of 3 seeds"],
    ]
    assert np.asarray(ax.images[0].get_array())[0] == pytest.approx([91.0, 90.8, 91.0, 90.0])


@pytest.mark.parametrize("kind", ["budget", "scatter"])
def test_points_show_their_number_of_seeds(kind):
    view = View(kind=kind, title="", x="noise", without={"point": 0})
    coordinates = {"noise": ("point", VALUES), "varied": ("point", ["", "noise", "noise", "noise"])}
    notes = figure(SCORES, ["point"], view, **coordinates)[1]
    assert sorted(note.replace("\n", " ") for note in notes if "seeds" in note) == ["1 of 3 seeds", "2 of 3 seeds"]


def test_bars_that_resolve_nothing_are_counted_not_drawn():
    """Catches: a chart of 43 bars within their errors on an axis of half a point, whose order is noise.

    Differences over 3 seeds: -1.0 +- 0.06 is clear, -0.1 +- 0.2 is not. The axis reaches to the last layer alone.
    """
    scores = np.array([[90.0, 91.0, 92.0], [89.0, 90.1, 90.9], [90.2, 91.0, 91.5]])
    view = View(kind="budget", title="", without={"point": 0})
    coordinates = {"noise": ("point", [0.0, 1.0, 0.0]), "bits": ("point", [8.0, 8.0, 4.0])}
    reference = (("reference_method", "seed"), [[85.0, 85.0, 85.0]])
    found = dataset(scores, ["point"], view, varied=("point", ["", "noise", "bits"]), **coordinates)
    found = found.assign(reference=reference).assign_coords(reference_method=["last-layer"])
    ax = draw(found, Figure().add_subplot())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["noise: 1"]
    assert any("1 change without a clear effect" in text.get_text() for text in ax.texts)
    assert ax.get_xlim()[0] < -6.0
    rows = {name: [row[0] for row in part.rows] for name, part in zip("ab", split_table(found), strict=True)}
    assert rows == {"a": ["nothing", "noise: 1"], "b": ["bits: 4"]}


def test_a_curve_and_a_map_show_the_last_layer_alone():
    """Catches: an axis of half a point, on which noise looks like a cost."""
    reference = (("reference_method", "seed"), [[85.0, 85.0, 85.0]])
    for kind, dims, more in (("curve", ["noise"], {}), ("map", ["bits", "noise"], {"bits": [8, 4]})):
        scores = SCORES if kind == "curve" else np.stack([SCORES, SCORES])
        view = View(kind=kind, title="", x="noise", y="bits" if more else "")
        found = dataset(scores, dims, view, noise=VALUES, **more)
        found = found.assign(reference=reference).assign_coords(reference_method=["last-layer"])
        ax = draw(found, Figure().add_subplot())
        low = ax.images[0].get_clim()[0] if more else ax.get_ylim()[0]
        assert low <= 85.0
        assert "last layer only" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_counts_and_infinite_ratios_are_plain_words():
    """Catches: "1 seeds", "1 seed(s)"; an SNR of -inf."""
    view = View(kind="curve", title="", x="noise", without={"noise": 0})
    found = dataset(SCORES[:, :1], ["noise"], view, noise=VALUES)
    found = found.assign(snr_db=(("noise", "seed"), [[3.0], [NAN], [-np.inf], [np.inf]]))
    assert caption(found) == "Mean over 1 seed; error bars are its standard error."
    rows = table(found)
    at = rows.columns.index("SNR (dB)")
    assert [row[at] for row in rows.rows] == ["3", "–", "no signal", "no noise"]
    assert format_number(1234.5) == "1,234"
