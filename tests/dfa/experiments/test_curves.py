"""Figures of the diagnostics: lines are means over the seeds of what was recorded."""

import math
import statistics

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dfa.experiments import DEMO, Run
from dfa.experiments.curves import COLOURS, diagnostics_section, draw_blocks, draw_feedback
from dfa.experiments.page import draw_scores
from dfa.training.epoch import Epoch


def record(epoch, test=0.8, **figures):
    return Epoch(epoch=epoch, step=epoch, loss=1.0, validation=0.9, test=test, frames=5, seconds=0.1, **figures)


def run(method, seed, at=(1, 2, 3), **missing):
    """Return a run whose recorded values are functions of seed and epoch."""
    history = []
    for epoch in at:
        figures = {
            "angles": {"0": 60.0 + 10 * seed + epoch, "1": 50.0 + epoch, "head": 0.0},
            "gradients": {"0": 0.1 * epoch + seed, "1": 0.2, "head": 0.5},
        }
        if method == "optical":
            figures |= {"nonzero": 0.1 + 0.1 * seed, "shown": 0.5, "snr_db": 8.0 - epoch, "saturated": 0.01 * epoch}
        history.append(record(epoch, test=0.8 + 0.01 * seed, **(figures | missing)))
    return Run(method, seed, tuple(history), len(history) - 1)


RUNS = [run(method, seed) for method in ("dfa", "optical") for seed in (0, 1)]


def axes():
    return Figure().add_subplot()


def lines(ax):
    """Return values by colour and style."""
    return {(to_hex(line.get_color()), line.get_linestyle()): list(line.get_ydata()) for line in ax.lines}


def test_lines_are_means_over_the_seeds():
    """A colour for each method, a style for each block, no line for the angle of the output block.

    Catches: one seed only, exchanged blocks, the angle of the output block, which is 0 by definition.
    """
    drawn = lines(draw_blocks(axes(), RUNS, "angles", "epoch"))
    for method in ("dfa", "optical"):
        assert drawn[COLOURS[method], "-"] == [65.0 + epoch for epoch in (1, 2, 3)]
        assert drawn[COLOURS[method], "--"] == [50.0 + epoch for epoch in (1, 2, 3)]
    assert len(drawn) == 2 * 2 + 1  # with the line at 90 degrees
    drawn = lines(draw_blocks(axes(), RUNS, "gradients", "epoch"))
    assert drawn[COLOURS["dfa"], "-"] == pytest.approx([0.1 * epoch + 0.5 for epoch in (1, 2, 3)])
    assert len(drawn) == 2 * 3
    ax = draw_feedback(axes(), RUNS, ("nonzero", "shown"), "share of codes", "epoch")
    assert lines(ax) == {
        (COLOURS["optical"], "-"): [statistics.fmean((0.1, 0.2))] * 3,
        (COLOURS["optical"], "--"): [0.5] * 3,
    }
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["optical DFA"]


def test_missing_values_are_not_drawn():
    """Catches: lines through points without a record, seeds with other points, NaN, zero on a logarithmic axis."""
    short, dark = run("optical", 0, at=(1, 3)), run("last-layer", 0, gradients={"0": 0.0, "head": 0.5})
    drawn = lines(draw_feedback(axes(), [short, run("optical", 1)], ("snr_db",), "dB", "epoch"))
    assert drawn == {(COLOURS["optical"], "-"): [7.0, 5.0]}
    still = diagnostics_section([run("optical", 0, snr_db=math.nan)], "epoch")
    assert len(still.pictures) == 4 and "correlation time" not in still.tables[0].columns
    moving = run("optical", 0, snr_db=math.nan, correlation_frames=2e4, correlation=0.9, hidden_rate=0.5)
    moving = diagnostics_section([moving], "epoch")
    assert len(moving.pictures) == 5 and moving.tables[0].rows[0][-1] == "2e+04 frames"
    zero = lines(draw_blocks(axes(), [dark], "gradients", "epoch"))
    assert all(math.isnan(value) for value in zero[COLOURS["last-layer"], "-"])


def test_a_single_record_has_an_axis_of_whole_epochs():
    """Catches: an axis from 2.84 to 3.16 in the report of a run that recorded its last epoch only."""
    one = [run("optical", 0, at=(3,))]
    drawn = [draw_scores(axes(), DEMO, one), draw_feedback(axes(), one, ("snr_db",), "dB", "epoch")]
    drawn.append(draw_blocks(axes(), one, "angles", "epoch"))
    for ax in drawn:
        assert ax.get_xlim() == (2.0, 4.0)
        assert all(float(tick).is_integer() for tick in ax.get_xticks())


def test_the_section_has_every_figure_and_no_empty_one():
    """Angles, gradients, codes, signal-to-noise, saturation; backpropagation has gradients only."""
    section = diagnostics_section(RUNS, "epoch")
    assert len(section.pictures) == 5
    [table] = section.tables
    assert table.rows == [["optical DFA", "15.0%", "50.0%", "5.0 dB", "3.00%"]]
    assert len(diagnostics_section([run("bp", 0, angles={})], "epoch").pictures) == 1
    bare = Run("bp", 0, (record(1),), 0)
    assert not diagnostics_section([bare], "epoch").pictures
