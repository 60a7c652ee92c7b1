"""The report of a characterisation: findings as JSON for programs and as an HTML page for readers."""

import html
from collections.abc import Sequence
from pathlib import Path

from calibration.device import Device
from calibration.reports.chapters.common import Chapter
from calibration.reports.findings import Findings
from calibration.storage.descriptions import Description, stamp
from calibration.storage.files import write_new

__all__ = ["Report", "bind"]


class Report(Findings):
    """Result of `calibration.characterize`: findings that can be written as JSON or as a self-contained HTML page.

    The page has a style for paper: print it in a browser to get a PDF file of A4 or Letter pages.
    """

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one HTML file that contains its figures; raises as `to_json` does."""
        return write_new(path, self.html())

    def html(self) -> str:
        """The page written by `to_html`."""
        from calibration.reports.html import sections
        from calibration.reports.page import render  # matplotlib and Jinja2 are imported only if a page is made

        return render("Characterisation of the optical processing unit", sections(self))

    def __repr__(self) -> str:
        return f"Report({self.summary}, {self.provenance['date']})"

    def _repr_html_(self) -> str:
        # An iframe keeps the page's style separate from the notebook.
        return f'<iframe srcdoc="{html.escape(self.html())}" style="width:100%;height:80vh;border:0"></iframe>'


def bind(opu: Device, chapters: Sequence[Chapter], provenance: Description) -> Report:
    """Bind the chapters on a device into a report, with the date and the version of this package."""
    lines = tuple(line for chapter in chapters for line in chapter.lines)
    curves = {name: curve for chapter in chapters for name, curve in chapter.curves.items()}
    return Report(opu.to_dict(), {**stamp(), **provenance}, lines, curves)
