"""The figure of tolerances, and their page."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from calibration.reports.page import Section, Table, picture, render
from dfa.robustness.figures import COLOURS
from dfa.robustness.results import plain_text
from dfa.robustness.tolerances.results import Tolerance, Tolerances
from photonics.plotting.style import legend_below

__all__ = ["compare", "draw", "figure_size", "page"]

FOUND, OWN = "#d9480f", "#52606d"
REACH = 1e4
"""Largest factor that is drawn."""
MARKERS = {"at least": (2, ">"), "at most": (1, "<")}
"""End of the interval that is marked by a triangle, where the limit is not lost on the line, or always."""


def draw(found: Tolerances, ax: Axes) -> Axes:
    """Draw the margin of each line, a factor from the device to the tolerance with its 95 % interval.

    Parameters
    ----------
    found : Tolerances
    ax : Axes
        Filled and returned. A flaw that the device does not have, or that is never or always too bad, has its value as
        text instead.
    """
    rows = found.ranked()[::-1]
    ax.set_xscale("log")
    ends = [1.0]
    for height, row in enumerate(rows):
        ends += draw_row(row, height, ax)
    ax.axvline(1.0, color=OWN, lw=1.2, label="the device as it is")
    ax.set(xlim=(min(0.7, 0.7 * min(ends)), 12.0 * max(ends)), ylim=(-0.6, len(rows) - 0.4))
    ax.set_yticks(range(len(rows)), [row.title for row in rows])
    ax.set_xlabel(f"factor by which it may be worse until {found.loss} is lost")
    legend_below(ax)
    return ax


def draw_row(row: Tolerance, at: int, ax: Axes) -> list[float]:
    """Draw the interval of a line, and return what the axis must reach."""
    if row.margin is None or row.verdict in ("at least", "at most"):
        text = {
            "at least": f"not lost up to {row.text(row.better)}",
            "at most": f"lost before {row.text(row.worse)}",
        }.get(row.verdict, f"not on this device; lost at {row.text(row.value)}")
        ax.annotate(text, (1.0, at), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
        return []
    middle, low, high = (min(value, REACH) for value in row.margin)
    ax.plot([low, high], [at, at], color=FOUND, lw=2.5, solid_capstyle="butt")
    ax.plot(middle, at, "o", color=FOUND, ms=5)
    text = row.text(row.value) if len(row.value) == 1 else f"x {middle:.2g}"
    ax.annotate(text, (high, at), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    return [low, high]


def compare(found: Mapping[str, Tolerances], lines: Sequence[str], ax: Axes, margins: bool = True) -> Axes:
    """Draw some lines of several searches beside each other.

    Parameters
    ----------
    found : mapping of str to Tolerances
        By the name of each search, for instance of its task; a search may lack lines.
    lines : sequence of str
        Names of the lines, from the top down.
    ax : Axes
        Filled and returned. Bars are 95 % intervals. A triangle to the right: the limit is not lost up to there; to the
        left: it is lost before.
    margins : bool
        Draw margins, factors from the device to the tolerance; otherwise values of the first parameter.
    """
    ax.set_xscale("log")
    step = 0.8 / len(found)
    for number, (name, one) in enumerate(found.items()):
        colour, rows = COLOURS[number], {row.name: row for row in one}
        ax.plot([], [], "o-", color=colour, ms=4, label=name)
        for at, row in enumerate(rows.get(line) for line in lines):
            if row is None or (margins and row.margin is None):
                continue
            values = row.margin if margins and row.margin else [*map(first, (row.value, row.better, row.worse))]
            height = at + (number - 0.5 * (len(found) - 1)) * step
            place, marker = MARKERS.get(row.verdict, (0, "o"))
            ax.plot(values[1:], [height, height], color=colour, lw=2.5, solid_capstyle="butt")
            ax.plot(values[place], height, marker, color=colour, ms=5)
    titles = {row.name: row.title for one in found.values() for row in one}
    ax.set_yticks(range(len(lines)), [titles[line] for line in lines])
    ax.set_ylim(len(lines) - 0.5, -0.5)
    return ax


def first(values: Mapping[str, float]) -> float:
    """Return the value of the first parameter."""
    return next(iter(values.values()))


def figure_size(found: Tolerances) -> tuple[float, float]:
    """Return width and height of the figure, inches."""
    return 6.4, 1.6 + 0.32 * len(found.rows)


def page(found: Tolerances) -> str:
    """Return the self-contained HTML page."""
    caption = "Points: median. Bars: 95 % interval. The number beside a bar is the value at which the limit is lost."
    picture_of = picture(lambda ax: draw(found, ax), caption, figure_size(found), wide=True)
    text = (
        "Each line makes one part of the device worse until the training loses "
        f"{found.loss} against the same seed on the device as it is. {found.trainings} trainings in "
        "all. A refused training (for instance because too few pixels can be calibrated) counts as a large loss."
    )
    parts = [Section("How bad each part may be", text, [picture_of], [found.table()])]
    failed = [[row.title, str(row.refused), row.failure] for row in found if row.refused]
    if failed:
        parts.append(Section("Refused trainings", "", (), [Table(["line", "trainings", "first error"], failed)]))
    record = [[f"plan.{name}", plain_text(value)] for name, value in found.plan.items()]
    parts.append(Section("How it was made", "", (), [Table(["name", "value"], record)]))
    return render("Tolerances of the device", parts)
