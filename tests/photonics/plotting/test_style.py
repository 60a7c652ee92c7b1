"""The common style of pictures: legends cover nothing, and logarithmic axes are legible."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from photonics.plotting.style import STYLE, label_decades, legend_below
from tests.pages import ROOT


@pytest.fixture
def ax():
    with mpl.rc_context(STYLE):
        yield Figure(figsize=(4.6, 3.4), layout="constrained").add_subplot()


@pytest.mark.parametrize("entries", [1, 3, 7])
def test_a_legend_covers_neither_the_axes_nor_its_label(ax, entries):
    """Catches: a legend in the corner with the most room, which is still over a line; a legend over the axis' name."""
    for k in range(entries):
        ax.plot([0, 1], [k, 1 - k], label=f"line {k}")
    ax.set(xlabel="epoch", ylabel="accuracy (%)")
    legend = legend_below(ax)
    ax.figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.y1 <= ax.xaxis.label.get_window_extent().y0
    assert ax.figure.bbox.y0 <= box.y0 and ax.figure.bbox.x0 <= box.x0 and box.x1 <= ax.figure.bbox.x1


def test_no_legend_without_labels(ax):
    ax.plot([0, 1], [0, 1])
    assert legend_below(ax) is None


@pytest.mark.parametrize("low, high", [(0.02, 0.4), (1e-3, 30.0)])
def test_labels_of_a_logarithmic_axis_do_not_touch(ax, low, high):
    """Catches: labels 2, 3, 4 and 6 times 10^-2 printed over each other."""
    ax.set(xscale="log", xlim=(low, high))
    label_decades(ax)
    ax.figure.draw_without_rendering()
    shown = [text.get_window_extent() for text in ax.get_xticklabels(which="both") if text.get_text()]
    edges = np.array([(box.x0, box.x1) for box in shown])
    assert len(edges) >= 3
    assert (edges[1:, 0] > edges[:-1, 1]).all()


def test_every_legend_is_below_its_axes():
    """Catches: a new figure with a legend in a corner, where another data set has its lines."""
    found = [
        str(path.relative_to(ROOT))
        for package in ("photonics", "calibration", "dfa", "benchmarks", "docs", "examples")
        for path in (ROOT / package).rglob("*.py")
        if ".legend(" in path.read_text(encoding="utf-8").replace("figure.legend(", "")  # outside of all axes
    ]
    assert found == ["photonics/plotting/style.py"]
