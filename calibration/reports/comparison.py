"""Comparison of two reports: lines that degraded, improved, or changed by more than their uncertainty."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from calibration.reports.findings import Findings, Line, Verdict, format_number
from calibration.storage.descriptions import flatten

__all__ = ["Change", "Comparison", "compare"]

Trend = Literal["degraded", "improved", "changed", "same", "new", "gone"]
RANK: dict[Verdict, int] = {"pass": 0, "differs": 0, "not measurable": 0, "degraded": 1, "failed": 2}
"""Order of the verdicts, worst last. A value that is not measurable, or a property that differs from the law, counts as
a pass, as in a report's verdict."""
MIN_SIGNIFICANCE = 3.0
"""Number of standard errors above which a difference of two values is significant."""


@dataclass(frozen=True)
class Change:
    """A line of one report or of both."""

    group: str
    """Chapter of the report."""
    name: str
    """Name of the quantity."""
    before: Line | None
    """The line in the earlier report, None if it has none."""
    after: Line | None
    """The line in the later report, None if it has none."""

    @property
    def significance(self) -> float:
        """Difference of the values over its standard error; NaN if a value or an error is missing."""
        if self.before is None or self.after is None:
            return math.nan
        error = math.hypot(self.before.uncertainty, self.after.uncertainty)
        difference = abs(self.after.measured - self.before.measured)
        return difference / error if error > 0 else math.nan

    @property
    def trend(self) -> Trend:
        """Degraded or improved, by the verdicts; changed if the values differ or only one could be measured."""
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        was, now = self.before.verdict, self.after.verdict
        if RANK[now] > RANK[was]:
            return "degraded"
        if any((was == word) != (now == word) for word in ("not measurable", "differs")):
            return "changed"
        if RANK[now] < RANK[was]:
            return "improved"
        return "changed" if self.significance > MIN_SIGNIFICANCE else "same"


@dataclass(frozen=True)
class Comparison:
    """Differences between two reports."""

    changes: tuple[Change, ...]
    """All lines in the order of the later report, then those present only in the earlier one."""
    device: tuple[tuple[str, str, str], ...]
    """Parameters of the device that differ: name, before, after."""

    @property
    def degraded(self) -> tuple[Change, ...]:
        """Lines whose verdict became worse, and new lines that do not pass."""
        return tuple(
            change
            for change in self.changes
            if change.trend == "degraded"
            or (change.trend == "new" and change.after is not None and RANK[change.after.verdict] > 0)
        )

    def rows(self) -> list[list[str]]:
        """Table of the lines that differ: group, quantity, before, after, verdicts, trend."""
        rows = []
        for change in self.changes:
            if change.trend == "same":
                continue
            sides = [cell(side) for side in (change.before, change.after)]
            verdicts = " → ".join(side.verdict if side else "–" for side in (change.before, change.after))
            rows.append([change.group, change.name, *sides, verdicts, change.trend])
        return rows


def compare(before: Findings | str | Path, after: Findings | str | Path) -> Comparison:
    """Compare two reports.

    A line degraded if its verdict became worse: pass to degraded or failed, or degraded to failed. A value that was not
    measurable counts as a pass. A value that can no longer be measured counts as changed: it may be better or worse.

    Parameters
    ----------
    before, after : Report, str or Path
        Reports or their JSON files.

    Raises
    ------
    ValueError
        If a file is not a report.
    """
    first, second = (one if isinstance(one, Findings) else Findings.from_json(one) for one in (before, after))
    old, new = ({(line.group, line.name): line for line in report.lines} for report in (first, second))
    changes = tuple(Change(*key, old.get(key), new.get(key)) for key in new | old)
    was, now = ({name: str(value) for name, value in flatten(report.device).items()} for report in (first, second))
    pairs = ((name, was.get(name, "–"), now.get(name, "–")) for name in was | now)
    return Comparison(changes, tuple(pair for pair in pairs if pair[1] != pair[2]))


def cell(line: Line | None) -> str:
    """A value with its uncertainty and unit."""
    if line is None or not math.isfinite(line.measured):
        return "–"
    error = f" ± {format_number(line.uncertainty, 2)}" if math.isfinite(line.uncertainty) else ""
    return f"{format_number(line.measured, 4)}{error} {line.unit}".strip()
