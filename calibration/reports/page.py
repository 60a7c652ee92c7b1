"""One self-contained HTML page from sections of text, tables and figures."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import matplotlib as mpl
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from photonics.plotting.style import STYLE

__all__ = ["STYLE", "Picture", "Section", "Table", "picture", "plural", "render"]


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text, with its caption."""

    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Table:
    """A table of short texts; cells with a verdict are coloured."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        return self.text()

    def text(self, align: Callable[[str, int], str] = str.ljust) -> str:
        """Return the table as text in columns; ``str.rjust`` aligns them on the right."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        return "\n".join("  ".join(map(align, row, widths)).rstrip() for row in (self.columns, *self.rows))


@dataclass(frozen=True)
class Section:
    """A heading with text, tables and figures."""

    title: str
    text: str = ""
    """Paragraphs, one per line."""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = field(default=())


def picture(
    draw: Callable[[Axes], object], caption: str, size: tuple[float, float] = (4.6, 3.4), wide: bool = False
) -> Picture:
    """Draw a figure of one Axes with `draw`, as SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, dpi=150)
    text = buffer.getvalue()
    return Picture(text[text.index("<svg") :], caption, wide)


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML. Every text is escaped; figures are SVG inside the page."""
    source = files("calibration.reports").joinpath("templates/page.html.j2").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(title=title, sections=sections, svg=Markup)
