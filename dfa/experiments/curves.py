"""What the diagnostics of a study's runs look like: a figure for each kind, a line for each method, mean over seeds."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from calibration.reports.page import Picture, Section, Table, picture
from dfa.experiments.runs import Run, encoded
from dfa.experiments.teachers import METHODS

__all__ = ["COLOURS", "diagnostics_section", "draw_blocks", "draw_feedback", "marker"]

COLOURS = {"bp": "#1f2933", "dfa": "#2563a8", "ternary": "#0d9488", "optical": "#d9480f", "last-layer": "#9aa5b1"}
COLOURS |= {"separate": "#7c3aed", "alignment": "#b45309", "sign": "#be185d"}
STYLES: Any = ["-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 4))]
"""Of the blocks, from the input to the output; a seventh has the first one's."""

Lines = dict[str, tuple[list[int], list[float]]]
"""Epochs or steps and values, by method."""


def diagnostics_section(runs: Sequence[Run], axis: str) -> Section:
    """Figures of all that was seen in some run, and the last of them as a table.

    Parameters
    ----------
    axis : str
        What the points of the histories count: epochs or steps.
    """
    text = (
        "Means over the seeds. Gradients and what the feedback sent and got back are means over the steps that were "
        "watched: every 20th. The same figures, and more, are in metrics.csv and metrics.json of each run."
    )
    table = last_figures(runs)
    return Section("Diagnostics", text, pictures(runs, axis), [table] if table.rows else [])


def pictures(runs: Sequence[Run], axis: str) -> list[Picture]:
    """All figures that have a line."""
    angled = [run for run in runs if not math.isnan(run.angle) and run.method != "last-layer"]
    coded = [run for run in runs if encoded(run.method)]
    found = []
    if angled:
        caption = "Angle of each hidden block's update to the true gradient; 90° is chance."
        found.append(picture(lambda ax: draw_blocks(ax, angled, "angles", axis), caption))
    for names, label, caption in FEEDBACK:
        if any(lines_of(coded, seen(name)) for name in names):
            found.append(picture(lambda ax, n=names, y=label: draw_feedback(ax, coded, n, y, axis), caption))
    if any(point.diagnostics for run in runs for point in run.history):
        caption = "Norm of each block's gradient as the optimiser gets it; the last block is the output."
        found.append(picture(lambda ax: draw_blocks(ax, runs, "gradients", axis), caption, size=(9.4, 4.0), wide=True))
    return found


FEEDBACK = (
    (
        ("nonzero", "shown"),
        "share of codes, of errors",
        "Codes that are not zero (solid), and errors of which any code is not zero, and which are sent (dashed).",
    ),
    (("snr_db",), "signal-to-noise (dB)", "Power of the optical feedback over the expected variance of its noise."),
    (("saturated",), "share of values", "Values of the feedback that a saturated pixel made wrong."),
)
"""Figures of the feedback: names in `Diagnostics`, label of the axis, caption."""


def last_figures(runs: Sequence[Run]) -> Table:
    """The last of these figures for each method, mean over seeds; empty where there is none."""
    columns = {
        "nonzero": ("codes not zero", "{:.1%}"),
        "shown": ("errors sent", "{:.1%}"),
        "snr_db": ("signal-to-noise", "{:.1f} dB"),
        "saturated": ("saturated", "{:.2%}"),
    }
    lines = {name: lines_of([run for run in runs if encoded(run.method)], seen(name)) for name in columns}
    rows = []
    for method in dict.fromkeys(run.method for run in runs):
        cells = [form.format(lines[name][method][1][-1]) if method in lines[name] else ""
                 for name, (_, form) in columns.items()]  # fmt: skip
        if any(cells):
            rows.append([METHODS[method], *cells])
    return Table(["method", *(title for title, _ in columns.values())], rows)


def seen(name: str, block: str | None = None) -> Callable[[Any], float | None]:
    """A function that takes a figure, or a block's, from `Diagnostics`."""
    return lambda record: getattr(record, name) if block is None else getattr(record, name).get(block)


def lines_of(runs: Sequence[Run], get: Callable[[Any], float | None]) -> Lines:
    """Mean over the seeds wherever all of a method's runs have a value."""
    lines: Lines = {}
    for method in dict.fromkeys(run.method for run in runs):
        tracks = [
            {p.at: value for p in run.history if p.diagnostics and usable(value := get(p.diagnostics))}
            for run in runs
            if run.method == method
        ]
        shared = [at for at in tracks[0] if all(at in track for track in tracks)]
        if shared:
            lines[method] = shared, [statistics.fmean(track[at] for track in tracks) for at in shared]
    return lines


def usable(value: float | None) -> bool:
    """Whether there is a number."""
    return value is not None and math.isfinite(value)


def draw_blocks(ax: Axes, runs: Sequence[Run], name: str, axis: str) -> Axes:
    """Draw angles or gradients of the blocks: a colour for each method, a style for each block."""
    records = [point.diagnostics for run in runs for point in run.history if point.diagnostics]
    blocks = list(dict.fromkeys(block for record in records for block in getattr(record, name)))
    if name == "angles":
        blocks = blocks[:-1]  # the output block learns from its true gradient
    methods: dict[str, Line2D] = {}
    for k, block in enumerate(blocks):
        for method, (at, values) in lines_of(runs, seen(name, block)).items():
            kept = [value if name == "angles" or value > 0 else math.nan for value in values]
            style = {"color": COLOURS[method], "lw": 1.2} | marker(at)
            ax.plot(at, kept, linestyle=STYLES[k % len(STYLES)], **style)
            methods.setdefault(method, Line2D([], [], color=COLOURS[method], label=METHODS[method]))
    if name == "angles":
        ax.axhline(90.0, color="#9aa5b1", lw=0.8)
        top = max((a for record in records for a in record.angles.values() if usable(a)), default=90.0)
        ax.set(ylabel="angle to the gradient (degrees)", ylim=(0, max(100.0, top + 5)))
    else:
        ax.set(ylabel="norm of the gradient", yscale="log")
    ax.set(xlabel=axis)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ends = [Line2D([], [], color="#5b6875", linestyle=STYLES[k % len(STYLES)], label=f"block {block}")
            for k, block in enumerate(blocks)]  # fmt: skip
    place: dict[str, Any] = (
        {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if name == "gradients" else {"ncols": 2}
    )
    ax.legend(handles=[*methods.values(), *ends], fontsize=7, **place)
    return ax


def draw_feedback(ax: Axes, runs: Sequence[Run], names: Sequence[str], label: str, axis: str) -> Axes:
    """Draw figures of the feedback: a colour for each method, a style for each figure."""
    methods: set[str] = set()
    for style, name in zip(STYLES, names, strict=False):
        for method, (at, values) in lines_of(runs, seen(name)).items():
            title = None if method in methods else METHODS[method]
            methods.add(method)
            ax.plot(at, values, linestyle=style, color=COLOURS[method], label=title, lw=1.4, **marker(at))
    ax.set(xlabel=axis, ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if label.startswith("share"):
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylim(bottom=0)
    else:  # a wobble of tenths of a decibel must not fill the figure
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, (low + high) / 2 - 3), max(high, (low + high) / 2 + 3))
    ax.legend()
    return ax


def marker(at: Sequence[int]) -> dict[str, Any]:
    """Few points are marked."""
    return {"marker": "o", "ms": 3} if len(at) < 20 else {}
