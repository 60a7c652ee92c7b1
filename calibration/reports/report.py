"""What a characterisation found: lines with a verdict each, the curves behind them, and the device they are about."""

import html
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from calibration.storage.files import write_new

__all__ = ["Line", "Report", "Verdict", "readable"]

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Verdict = Literal["pass", "degraded", "failed", "not measurable"]


def readable(value: float, digits: int) -> str:
    """A number to that many digits, without an exponent where few zeros do, and with one that people can read.

    >>> readable(10_000.0, 4), readable(500.0, 2), readable(0.0101, 4), readable(5.94e-05, 2)
    ('10000', '500', '0.0101', '5.9·10⁻⁵')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text
    if 1.0 <= abs(value) < 1e6:
        return f"{float(text):.0f}"
    mantissa, exponent = text.split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPT)}"


@dataclass(frozen=True)
class Line:
    """One statement about the device, with what it is judged by."""

    group: str
    name: str
    formula: str
    """How the value follows from frames."""
    unit: str
    measured: float
    uncertainty: float
    """Standard error of `measured`; NaN if it has none."""
    expected: float | None
    """Value by theory or data sheet; None if the line only has an upper bound."""
    limit: float
    """Allowed deviation from `expected`, or the upper bound."""
    advice: str
    """What to do if the verdict is not a pass."""
    reason: str = ""
    """Why nothing can be said, or nothing that can be trusted: the verdict is then failed, whatever was measured."""

    @property
    def verdict(self) -> Verdict:
        """Pass within the limit (or three standard errors, if more), degraded within three times that, else failed."""
        if self.reason:
            return "failed"
        if not math.isfinite(self.measured):
            return "not measurable"
        allowed, distance = self.limit, self.measured
        if self.expected is not None:
            distance = abs(self.measured - self.expected)
            if math.isfinite(self.uncertainty):
                allowed = max(allowed, 3.0 * self.uncertainty)
        if distance <= allowed:
            return "pass"
        return "degraded" if distance <= 3.0 * allowed else "failed"


@dataclass(frozen=True, eq=False)
class Report:
    """Result of `calibration.reports.characterize`: JSON for programs, one self-contained HTML page for people."""

    device: Mapping[str, Any]
    """Every parameter of the device, as `OPU.to_dict` gives it."""
    provenance: Mapping[str, Any]
    """Date, version, frames used, exposure."""
    lines: tuple[Line, ...]
    curves: Mapping[str, Any]
    """Numbers behind the figures: lists, by name."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all lines that could be measured."""
        verdicts = {line.verdict for line in self.lines}
        for worst in ("failed", "degraded", "pass"):
            if worst in verdicts:
                return worst
        return "not measurable"

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain types; values that could not be measured are None."""
        lines = [asdict(line) | {"verdict": line.verdict} for line in self.lines]
        document = {
            "verdict": self.verdict,
            "provenance": dict(self.provenance),
            "device": dict(self.device),
            "lines": lines,
            "curves": dict(self.curves),
        }
        return finite(document)

    def to_json(self, path: str | Path) -> Path:
        """Write the report for programs.

        Raises
        ------
        ValueError
            If the file exists (a report never overwrites an older one) or cannot be written.
        """
        return write_new(path, json.dumps(self.to_dict(), indent=1, allow_nan=False))

    def to_html(self, path: str | Path) -> Path:
        """Write the report for people, one file with its figures inside; raises as `to_json` does."""
        return write_new(path, self.html())

    def to_pdf(self, path: str | Path) -> Path:
        """Write the report for paper, A4 pages (matplotlib); raises as `to_json` does."""
        from calibration.reports.pdf import report_pdf

        return write_new(path, report_pdf(self))

    def html(self) -> str:
        """The page that `to_html` writes."""
        from calibration.reports.html import sections
        from calibration.reports.page import render  # matplotlib and Jinja2 only where a page is made

        return render("Characterisation of the optical processing unit", sections(self))

    def __repr__(self) -> str:
        return f"Report({self.verdict}, {len(self.lines)} lines, {self.provenance['date']})"

    def _repr_html_(self) -> str:
        # In a frame of its own, so that the page's style does not reach the notebook around it.
        return f'<iframe srcdoc="{html.escape(self.html())}" style="width:100%;height:80vh;border:0"></iframe>'


def finite(value: Any) -> Any:
    """Copy of a JSON document with NaN and infinity replaced by None, which JSON has a word for."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
