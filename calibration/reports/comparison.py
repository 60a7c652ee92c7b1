"""Two characterisations side by side: what degraded, what recovered, what changed by more than its uncertainty."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from calibration.reports.report import Line, Report, Verdict, readable

__all__ = ["Change", "Comparison", "compare", "read_report"]

Trend = Literal["degraded", "improved", "changed", "same", "new", "gone"]
RANK: dict[Verdict, int] = {"pass": 0, "not measurable": 0, "degraded": 1, "failed": 2}
"""The worse the higher; what cannot be measured is no fault, as in a report's own verdict."""
SIGMAS = 3.0
"""Standard errors of the difference from which on two values differ."""


@dataclass(frozen=True)
class Change:
    """One line in both reports."""

    group: str
    name: str
    before: Line | None
    after: Line | None

    @property
    def significance(self) -> float:
        """Difference over its standard error; NaN if one of the values has none."""
        if self.before is None or self.after is None:
            return math.nan
        error = math.hypot(self.before.uncertainty, self.after.uncertainty)
        difference = abs(self.after.measured - self.before.measured)
        return difference / error if error > 0 else math.nan

    @property
    def trend(self) -> Trend:
        """Degraded or improved by verdict; changed if the value is another, or there is one in one of both only."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        was, now = self.before.verdict, self.after.verdict
        if RANK[now] > RANK[was]:
            return "degraded"
        if (was == "not measurable") != (now == "not measurable"):
            return "changed"
        if RANK[now] < RANK[was]:
            return "improved"
        return "changed" if self.significance > SIGMAS else "same"


@dataclass(frozen=True)
class Comparison:
    """What became of each line, in the order of the later report; lines that are gone come last."""

    changes: tuple[Change, ...]
    device: tuple[tuple[str, str, str], ...]
    """Parameters of the device that differ: name, before, after."""

    @property
    def degraded(self) -> tuple[Change, ...]:
        """Lines whose verdict became worse, and new ones that do not pass, such as a refusal."""
        return tuple(
            change
            for change in self.changes
            if change.trend == "degraded"
            or (change.trend == "new" and change.after is not None and RANK[change.after.verdict] > 0)
        )

    def rows(self) -> list[list[str]]:
        """A table: group, quantity, before, after, verdicts, trend; lines that stayed the same are left out."""
        rows = []
        for change in self.changes:
            if change.trend == "same":
                continue
            sides = [cell(side) for side in (change.before, change.after)]
            verdicts = " → ".join(side.verdict if side else "–" for side in (change.before, change.after))
            rows.append([change.group, change.name, *sides, verdicts, change.trend])
        return rows


def compare(before: Report | str | Path, after: Report | str | Path) -> Comparison:
    """Compare two reports, or the files of two reports.

    A line degraded if its verdict became worse: pass to degraded or failed, degraded to failed. A value that was not
    measurable counts as a pass, and one that no longer is changed: nothing says that it became worse, or better.

    Raises
    ------
    ValueError
        If a file is not a report.
    """
    first, second = (one if isinstance(one, Report) else read_report(one) for one in (before, after))
    old, new = ({(line.group, line.name): line for line in report.lines} for report in (first, second))
    keys = [*new, *(key for key in old if key not in new)]
    changes = tuple(Change(*key, old.get(key), new.get(key)) for key in keys)
    flat = [dict(flatten(report.device)) for report in (first, second)]
    names = dict.fromkeys([*flat[0], *flat[1]])
    differ = tuple((n, flat[0].get(n, "–"), flat[1].get(n, "–")) for n in names if flat[0].get(n) != flat[1].get(n))
    return Comparison(changes, differ)


def read_report(path: str | Path) -> Report:
    """Read a report that `Report.to_json` wrote.

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
        lines = tuple(line_of(entry) for entry in document["lines"])
        return Report(dict(document["device"]), dict(document["provenance"]), lines, dict(document["curves"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path must be a report of this package, got {path} ({error!r})") from None


def line_of(entry: dict[str, Any]) -> Line:
    """A line from its JSON; numbers that JSON has no word for come back as NaN."""
    values = {field.name: entry[field.name] for field in fields(Line) if field.name in entry}
    for name in ("measured", "uncertainty", "limit"):
        values[name] = math.nan if values[name] is None else float(values[name])
    return Line(**values)


def cell(line: Line | None) -> str:
    """A value with its uncertainty and unit."""
    if line is None or not math.isfinite(line.measured):
        return "–"
    error = f" ± {readable(line.uncertainty, 2)}" if math.isfinite(line.uncertainty) else ""
    return f"{readable(line.measured, 4)}{error} {line.unit}".strip()


def flatten(tree: Any, prefix: str = "") -> Sequence[tuple[str, str]]:
    """Dotted names and values of a nested description."""
    if not isinstance(tree, dict):
        return [(prefix.rstrip("."), str(tree))]
    return [pair for name, value in tree.items() for pair in flatten(value, f"{prefix}{name}.")]
