"""Figures of the diagnostics of training runs: a colour for each method, mean over seeds."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Literal, NamedTuple, TypedDict

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from matplotlib.typing import LineStyleType

from calibration.reports.page import Picture, Section, Table, picture
from dfa.experiments.runs import Run, uses_encoder
from dfa.experiments.teachers import METHODS
from dfa.training.epoch import Epoch
from photonics.plotting.style import legend_below

__all__ = ["COLOURS", "diagnostics_section", "draw_blocks", "draw_feedback", "label_counts", "marker_style"]

COLOURS = {
    "bp": "#1f2933",
    "dfa": "#2563a8",
    "ternary": "#0d9488",
    "optical": "#d9480f",
    "last-layer": "#9aa5b1",
    "separate": "#7c3aed",
    "alignment": "#b45309",
    "sign": "#be185d",
    "learned": "#15803d",
}
"""Colour of each method."""
STYLES: list[LineStyleType] = ["-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 4))]
"""Line style of each block, from the input to the output; the seventh block has the first style again."""

Lines = dict[str, tuple[list[int], list[float]]]
"""Epochs or steps, and values, by method."""
Value = Callable[[Epoch], float | None]
"""Takes one number from a record."""


class Figure(NamedTuple):
    """A figure of the feedback: fields of `Epoch`, label of the vertical axis, caption."""

    names: tuple[str, ...]
    label: str
    caption: str


FIGURES = (
    Figure(
        ("nonzero", "shown"),
        "share of codes, of errors",
        "Share of codes that are not zero (solid), and of errors with at least one such code, which are sent (dashed).",
    ),
    Figure(("snr_db",), "signal-to-noise (dB)", "Power of the optical feedback over the expected noise variance."),
    Figure(("saturated",), "share of values", "Share of the feedback's values that a saturated pixel made wrong."),
    Figure(
        ("correlation", "hidden_rate"),
        "share of correlation, of the rate",
        "A device that moves: correlation with the values of the last calibration (solid), and the factor on the "
        "learning rate of the hidden blocks (dashed).",
    ),
)
COLUMNS = {
    "nonzero": ("codes not zero", "{:.1%}"),
    "shown": ("errors sent", "{:.1%}"),
    "snr_db": ("signal-to-noise", "{:.1f} dB"),
    "saturated": ("saturated", "{:.2%}"),
    "correlation_frames": ("correlation time", "{:.2g} frames"),
}
"""Columns of the table of last values: title and format. A column without a value is left out."""


def diagnostics_section(runs: Sequence[Run], axis: str) -> Section:
    """Figures of everything that was recorded in some run, and a table of the last values.

    Parameters
    ----------
    axis : str
        What the points of the histories count: epochs or steps.
    """
    text = (
        "Means over the seeds. Gradients and feedback are means over the steps that were recorded, every 20th. "
        "The files metrics.csv and metrics.json of each run have the same values, and more."
    )
    table = last_values(runs)
    return Section("Diagnostics", text, pictures(runs, axis), [table] if table.rows else [])


def pictures(runs: Sequence[Run], axis: str) -> list[Picture]:
    """Return all figures that have at least one line."""
    with_angle = [run for run in runs if not math.isnan(run.angle) and run.method != "last-layer"]
    with_codes = [run for run in runs if uses_encoder(run.method)]
    drawn = []
    if with_angle:
        caption = "Angle between each hidden block's update and the true gradient; 90° is chance."
        drawn.append(picture(lambda ax: draw_blocks(ax, with_angle, "angles", axis), caption))
    for names, label, caption in FIGURES:
        if any(mean_lines(with_codes, attrgetter(name)) for name in names):
            drawn.append(picture(lambda ax, n=names, y=label: draw_feedback(ax, with_codes, n, y, axis), caption))
    if any(record.gradients for run in runs for record in run.history):
        caption = "Norm of each block's gradient, as the optimiser receives it; the last block is the output block."
        drawn.append(picture(lambda ax: draw_blocks(ax, runs, "gradients", axis), caption))
    return drawn


def last_values(runs: Sequence[Run]) -> Table:
    """The last values of the feedback's numbers for each method, mean over seeds; no rows if there are none."""
    with_codes = [run for run in runs if uses_encoder(run.method)]
    lines = {name: found for name in COLUMNS if (found := mean_lines(with_codes, attrgetter(name)))}
    rows = []
    for method in dict.fromkeys(run.method for run in runs):
        cells = [COLUMNS[name][1].format(of[method][1][-1]) if method in of else "" for name, of in lines.items()]
        if any(cells):
            rows.append([METHODS[method], *cells])
    return Table(["method", *(COLUMNS[name][0] for name in lines)], rows)


def mean_lines(runs: Sequence[Run], value: Value) -> Lines:
    """Mean over the seeds, at the points where all runs of a method have a finite value."""
    lines: Lines = {}
    for method in dict.fromkeys(run.method for run in runs):
        tracks = [finite_values(run, value) for run in runs if run.method == method]
        shared = [at for at in tracks[0] if all(at in track for track in tracks)]
        if shared:
            lines[method] = shared, [statistics.fmean(track[at] for track in tracks) for at in shared]
    return lines


def finite_values(run: Run, value: Value) -> dict[int, float]:
    """The finite values of a run's records, by epoch or step."""
    found = {record.epoch: value(record) for record in run.history}
    return {at: number for at, number in found.items() if number is not None and math.isfinite(number)}


def draw_blocks(ax: Axes, runs: Sequence[Run], name: Literal["angles", "gradients"], axis: str) -> Axes:
    """Draw angles or gradients of the blocks: a colour for each method, a line style for each block."""
    records = [record for run in runs for record in run.history]
    of_blocks: Callable[[Epoch], Mapping[str, float]] = attrgetter(name)
    blocks = list(dict.fromkeys(block for record in records for block in of_blocks(record)))
    if name == "angles":
        blocks = blocks[:-1]  # the output block learns from its true gradient
    methods: dict[str, Line2D] = {}
    for k, block in enumerate(blocks):
        for method, (at, values) in mean_lines(runs, lambda r, b=block: of_blocks(r).get(b)).items():
            if name == "gradients":  # a logarithmic axis cannot show zero
                values = [value if value > 0 else math.nan for value in values]
            colour = COLOURS[method]
            ax.plot(at, values, linestyle=STYLES[k % len(STYLES)], color=colour, lw=1.2, **marker_style(at))
            methods.setdefault(method, Line2D([], [], color=colour, label=METHODS[method]))
    label_counts(ax, axis)
    ends = [
        Line2D([], [], color="#5b6875", linestyle=STYLES[k % len(STYLES)], label=f"block {block}")
        for k, block in enumerate(blocks)
    ]
    handles = [*methods.values(), *ends]
    if name == "gradients":
        ax.set(ylabel="norm of the gradient", yscale="log")
        legend_below(ax, handles)
        return ax
    ax.axhline(90.0, color="#9aa5b1", lw=0.8)
    top = max((angle for record in records for angle in record.angles.values() if math.isfinite(angle)), default=90.0)
    ax.set(ylabel="angle to the gradient (degrees)", ylim=(0, max(100.0, top + 5)))
    legend_below(ax, handles)
    return ax


def draw_feedback(ax: Axes, runs: Sequence[Run], names: Sequence[str], label: str, axis: str) -> Axes:
    """Draw numbers of the feedback: a colour for each method, a line style for each field of `Epoch`."""
    methods: set[str] = set()
    for style, name in zip(STYLES, names, strict=False):
        for method, (at, values) in mean_lines(runs, attrgetter(name)).items():
            title = None if method in methods else METHODS[method]
            methods.add(method)
            ax.plot(at, values, linestyle=style, color=COLOURS[method], label=title, lw=1.4, **marker_style(at))
    label_counts(ax, axis)
    ax.set_ylabel(label)
    if label.startswith("share"):
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylim(bottom=0)
    else:  # at least 6 dB, so that changes of tenths of a decibel do not fill the figure
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, (low + high) / 2 - 3), max(high, (low + high) / 2 + 3))
    legend_below(ax)
    return ax


def label_counts(ax: Axes, label: str) -> None:
    """Label the axis of epochs or steps. Its ticks are whole numbers, also around a single record."""
    low, high = ax.get_xlim()
    middle = (low + high) / 2
    ax.set(xlabel=label, xlim=(min(low, middle - 1), max(high, middle + 1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


class Marker(TypedDict, total=False):
    """Arguments of ``Axes.plot``."""

    marker: str
    ms: float


def marker_style(at: Sequence[int]) -> Marker:
    """Markers for a line of fewer than 20 points, none for a longer one."""
    return {"marker": "o", "ms": 3} if len(at) < 20 else {}
