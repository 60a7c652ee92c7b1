"""A characterisation on paper: tables and figures on A4 pages."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure

from calibration.reports.html import NAMES, Plot, flatten, line_table, plots, remark, summary
from calibration.reports.page import STYLE
from calibration.reports.report import Report

__all__ = ["report_pdf"]

A4_IN = (8.27, 11.69)
MARGIN, LINE_IN = 0.06, 0.135
"""Share of the page's width, and height of a line of small print, inches."""
COLOURS = {"pass": "#0b7a3b", "degraded": "#a85f00", "failed": "#c0211f", "not measurable": "#5b6875"}
COLUMNS = ((0.0, 11, 0), (0.10, 22, 1), (0.27, 40, 2), (0.55, 20, 3), (0.70, 22, 4), (0.87, 15, 5))
"""Left edge, width in characters and cell of a column of the table of lines."""
ROWS, FIGURES = 78, 6
"""Lines of small print, and figures, on a page."""


def report_pdf(report: Report) -> bytes:
    """The report as a PDF file; the same report gives the same bytes."""
    buffer = io.BytesIO()
    table = [Row.of_line(cells) for cells in line_table(report.lines).rows]
    reasons = list(dict.fromkeys(line.reason for line in report.lines if line.reason))
    head = [summary(report), *[f"Failed: {reason}" for reason in reasons]]
    doubtful = [line for line in report.lines if line.verdict in ("degraded", "failed")]
    head += [f"{line.group}, {line.name}: {line.verdict}. To do: {line.advice}." for line in doubtful]
    head += [f"{NAMES[group]}. {text}" for group in NAMES if (text := remark(report, group))]
    lists = [("Device", report.device), ("Provenance", report.provenance)]
    plain = [Row.plain(title, name, value) for title, tree in lists for name, value in flatten(tree)]
    with mpl.rc_context({**STYLE, "pdf.compression": 6}), PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        columns = ["part", "quantity", "formula", "expected", "measured", "verdict"]
        for figure in text_pages(
            "Characterisation of the optical processing unit", head, [Row.of_line(columns), *table]
        ):
            pages.savefig(figure)
        drawn = plots(report)
        for start in range(0, len(drawn), FIGURES):
            pages.savefig(figure_page(drawn[start : start + FIGURES]))
        for figure in text_pages("Device and provenance", ["SI units unless the name says otherwise."], plain):
            pages.savefig(figure)
    return buffer.getvalue()


class Row:
    """Cells of a table with their places, each broken into lines."""

    def __init__(self, cells: Sequence[tuple[float, list[str], str]]) -> None:
        self.cells = cells
        self.height = max(len(lines) for _, lines, _ in cells)

    @classmethod
    def of_line(cls, cells: Sequence[str]) -> "Row":
        """A row of the table of lines; advice stands above the table."""
        return cls(
            [(x, textwrap.wrap(cells[i], width) or [""], COLOURS.get(cells[i], "black")) for x, width, i in COLUMNS]
        )

    @classmethod
    def plain(cls, title: str, name: str, value: str) -> "Row":
        """A parameter and its value."""
        return cls([(0.0, [title], "black"), (0.1, [name], "black"), (0.45, textwrap.wrap(value, 75) or [""], "black")])


def text_pages(title: str, head: Sequence[str], rows: Sequence[Row]) -> list[Figure]:
    """Pages of a heading, some sentences and a table that goes on from page to page."""
    pages: list[Figure] = []
    axes, left = blank(title, pages), ROWS
    for sentence in head:
        lines = textwrap.wrap(sentence, 118)
        write(axes, 0.0, ROWS - left, lines, "black", 8.0)
        left -= len(lines)
    left -= 1
    for row in rows:
        if row.height > left:
            axes, left = blank(f"{title}, continued", pages), ROWS
        for x, lines, colour in row.cells:
            write(axes, x, ROWS - left, lines, colour, 6.6)
        left -= row.height
    return pages


def blank(title: str, pages: list[Figure]) -> Axes:
    """A new page with a title, and the area to write in: x from 0 to 1, y in lines from the top."""
    figure = Figure(figsize=A4_IN)
    pages.append(figure)
    figure.text(MARGIN, 0.955, title, fontsize=13, weight="bold")
    axes = figure.add_axes((MARGIN, 0.94 - ROWS * LINE_IN / A4_IN[1], 1.0 - 2.0 * MARGIN, ROWS * LINE_IN / A4_IN[1]))
    axes.set(xlim=(0, 1), ylim=(ROWS, 0))
    axes.axis("off")
    return axes


def write(axes: Axes, x: float, y: float, lines: Sequence[str], colour: str, size: float) -> None:
    """Lines of text, one under the other."""
    for number, line in enumerate(lines):
        # What looks like a formula of matplotlib's is none.
        axes.text(x, y + number + 0.8, line.replace("$", r"\$"), color=colour, fontsize=size, va="baseline")


def figure_page(drawn: Sequence[Plot]) -> Figure:
    """Up to six figures with their captions."""
    figure = Figure(figsize=A4_IN, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.25, h_pad=0.25)
    grid = figure.subplots(FIGURES // 2, 2).ravel()
    for axes, plot in zip(grid, drawn, strict=False):
        plot.draw(axes)
        caption = "\n".join(textwrap.wrap(plot.caption, 58))
        axes.set_title(caption, fontsize=7.5, loc="left", color="#5b6875")
    for axes in grid[len(drawn) :]:
        axes.axis("off")
    return figure
