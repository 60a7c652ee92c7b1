"""Rows of several runs as one table: ``python -m benchmarks.repeated runs/*.json --out docs/performance.md``.

The runs are JSON files of ``opu bench``. The table has the values of the run with the median ratio.
"""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmarks.pages import put
from benchmarks.row import Row

NAME = "benchmarks.repeated"


def read_rows(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What a file says of its run, and the rows with a ratio."""
    content = json.loads(path.read_text("utf-8"))
    names = [one.name for one in fields(Row)]
    rows = [Row(**{name: row[name] for name in names}) for row in content["rows"]]
    return content, [row for row in rows if row.ratio is not None]


def table(paths: list[Path]) -> str:
    """The table as Markdown."""
    runs = [read_rows(path) for path in paths]
    about = runs[0][0]
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("numpy", "numba", "torch", "lightonml"))
    chip = f"{about['machine']['processor']}, {', '.join(about['machine']['blas'])}"
    lines = [
        f"{len(runs)} runs of {about['date'][:10]}, {chip}; {versions}.",
        "",
        "| what | measured | ratio: median | least and largest | target | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for first in runs[0][1]:
        same = sorted(
            (row for _, rows in runs for row in rows if row.name == first.name), key=lambda row: row.ratio or 0.0
        )
        what, measured, ratio, target, verdict = same[len(same) // 2].cells()
        lines.append(
            f"| {what} | {measured} | {ratio} | {same[0].cells()[2]} – {same[-1].cells()[2]} | {target} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    put(table(given.runs), NAME, given.out)


if __name__ == "__main__":
    main(sys.argv[1:])
