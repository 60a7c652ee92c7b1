"""Findings of a characterisation: lines with verdicts, the curves behind them, and the device."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from calibration.storage.descriptions import Description
from calibration.storage.files import write_new

__all__ = ["Curve", "Findings", "Line", "Verdict", "format_number", "replace_nonfinite"]

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Verdict = Literal["pass", "degraded", "failed", "differs", "not measurable"]
"""A property of the device passes or differs from the law; a line that judges the calibration is never "differs"."""
VERDICTS: tuple[Verdict, ...] = ("failed", "degraded", "differs", "pass", "not measurable")
"""All verdicts, in the order in which they are counted."""
OF_MEDIUM = frozenset(
    {
        ("speckle", "contrast"),
        ("speckle", "distance to exp(-I)"),
        ("speckle", "correlation area"),
        ("matrix", "fourth moment"),
        ("matrix", "largest singular value"),
    }
)
"""Chapter and name of the lines that compare the medium with a Gaussian one."""
PROPERTIES = OF_MEDIUM | {
    ("speckle", "mean intensity"),
    ("focusing", "enhancement"),
    ("focusing", "F_amp"),
    ("focusing", "phase-only, predicted"),
}
"""Lines that describe medium and illumination. They say nothing about the calibration."""
Curve: TypeAlias = Mapping[str, Any]
"""Numbers behind a figure, by name, as in JSON: a number, a list of numbers, or a table of numbers."""


def format_number(value: float, digits: int) -> str:
    """Format a number with `digits` digits; very large and very small numbers with a power of ten.

    >>> format_number(10_000.0, 4), format_number(500.0, 2), format_number(0.0101, 4), format_number(5.94e-05, 2)
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
    """One measured quantity, with its expected value and allowed deviation."""

    group: str
    """Chapter of the report."""
    name: str
    """Name of the quantity."""
    formula: str
    """How the value is computed from frames."""
    unit: str
    """Unit of `measured`, `expected` and `limit`; empty if they have none."""
    measured: float
    """Measured value; NaN if it could not be measured."""
    uncertainty: float
    """Standard error of `measured`; NaN if it has none."""
    expected: float | None
    """Value from theory or data sheet; None if the quantity has only an upper bound."""
    limit: float
    """Allowed deviation from `expected`, or the upper bound."""
    advice: str
    """What to do if the verdict is not a pass."""
    reason: str = ""
    """Reason why the check failed or could not run; the verdict is then "failed", whatever was measured."""

    @property
    def is_property(self) -> bool:
        """Whether the line describes the medium or its illumination, and does not judge the calibration."""
        return (self.group, self.name) in PROPERTIES

    @property
    def allowed(self) -> float:
        """Largest deviation that passes: the limit, or three standard errors if that is more; a bound is the limit."""
        if self.expected is None or not math.isfinite(self.uncertainty):
            return self.limit
        return max(self.limit, 3.0 * self.uncertainty)

    @property
    def verdict(self) -> Verdict:
        """Pass within `allowed`, degraded within 3 times this, and failed beyond; "differs" for a property."""
        if self.reason:
            return "failed"
        if not math.isfinite(self.measured):
            return "not measurable"
        distance = self.measured if self.expected is None else abs(self.measured - self.expected)
        if distance <= self.allowed:
            return "pass"
        if self.is_property:
            return "differs"
        return "degraded" if distance <= 3.0 * self.allowed else "failed"

    @classmethod
    def from_dict(cls, entry: Description) -> Self:
        """Line from its JSON, where None stands for a value that was not measured."""
        values = {field.name: entry[field.name] for field in fields(cls) if field.name in entry}
        for name in ("measured", "uncertainty", "limit"):
            values[name] = math.nan if values[name] is None else float(values[name])
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Findings:
    """All results of a characterisation."""

    device: Description
    """All parameters of the device, as returned by `OPU.to_dict`."""
    provenance: Description
    """Date, version, number of frames, exposure, methods."""
    lines: tuple[Line, ...]
    """The lines, chapter by chapter."""
    curves: Description
    """Numbers behind the figures, by name."""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict on the calibration: a medium that differs from the law is no fault of it."""
        for worst in ("failed", "degraded", "pass"):
            if self.counts[worst]:
                return worst
        return "not measurable"

    @property
    def counts(self) -> dict[Verdict, int]:
        """Number of lines by verdict."""
        found = [line.verdict for line in self.lines]
        return {verdict: found.count(verdict) for verdict in VERDICTS}

    @property
    def summary(self) -> str:
        """The verdict and the number of lines by verdict: "pass (40 pass, 2 not measurable)"."""
        parts = [f"{count} {verdict}" for verdict, count in self.counts.items() if count]
        return f"{self.verdict} ({', '.join(parts)})"

    @property
    def medium(self) -> str:
        """Whether the medium has the statistics of a Gaussian matrix, and where it differs."""
        measured = [line for line in self.lines if (line.group, line.name) in OF_MEDIUM]
        judged = [line for line in measured if line.verdict in ("pass", "differs")]
        different = [line.name for line in judged if line.verdict == "differs"]
        if not judged:
            return "not measurable"
        return f"not Gaussian: {', '.join(different)}" if different else "Gaussian"

    def to_dict(self) -> dict[str, Any]:
        """All findings in plain types; values that could not be measured are None."""
        document = {
            "verdict": self.verdict,
            "counts": self.counts,
            "medium": self.medium,
            "provenance": dict(self.provenance),
            "device": dict(self.device),
            "lines": [asdict(line) | {"verdict": line.verdict} for line in self.lines],
            "curves": dict(self.curves),
        }
        return replace_nonfinite(document)

    def to_json(self, path: str | Path) -> Path:
        """Write the report as JSON.

        Raises
        ------
        ValueError
            If the file exists, since reports are never overwritten, or cannot be written.
        """
        return write_new(path, json.dumps(self.to_dict(), indent=1, allow_nan=False))

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a report written by `to_json`.

        Raises
        ------
        ValueError
            If the file cannot be read or is not a report.
        """
        try:
            document = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"path must be a readable report (JSON), got {path} ({error})") from None
        try:
            lines = tuple(Line.from_dict(entry) for entry in document["lines"])
            return cls(dict(document["device"]), dict(document["provenance"]), lines, dict(document["curves"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"path must be a report of this package, got {path} ({error!r})") from None


def replace_nonfinite(value: Any) -> Any:
    """Copy of a JSON document with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): replace_nonfinite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_nonfinite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
