"""Trends of a line between two reports, for each pair of verdicts."""

import math

import pytest

from calibration import compare
from calibration.reports.findings import Findings, Line

VALUES = {"pass": 1.0, "degraded": 2.0, "failed": 9.0, "not measurable": math.nan}


def report(verdict):
    """A report of a line, not more than 1 allowed, or of none."""
    line = Line("camera", "noise", "", "", VALUES.get(verdict, 0.0), 0.01, None, 1.0, "")
    assert verdict is None or line.verdict == verdict
    return Findings({}, {}, () if verdict is None else (line,), {})


@pytest.mark.parametrize(
    ("before", "after", "trend", "degraded"),
    [
        ("pass", "degraded", "degraded", True),
        ("degraded", "failed", "degraded", True),
        ("failed", "degraded", "improved", False),
        ("degraded", "pass", "improved", False),
        ("pass", "pass", "same", False),
        ("pass", "not measurable", "changed", False),
        ("failed", "not measurable", "changed", False),
        ("not measurable", "pass", "changed", False),
        ("not measurable", "degraded", "degraded", True),
        ("not measurable", "not measurable", "same", False),
        (None, "not measurable", "new", False),
        (None, "degraded", "new", True),
        ("failed", None, "gone", False),
    ],
)
def test_not_measurable_counts_as_a_pass(before, after, trend, degraded):
    """A value that is no longer measurable is not an improvement. Catches: pass to it called degraded, failed improved.

    What is not the same is a row of the table.
    """
    found = compare(report(before), report(after))
    (change,) = found.changes
    assert (change.trend, bool(found.degraded)) == (trend, degraded)
    assert bool(found.rows()) == (trend != "same")
