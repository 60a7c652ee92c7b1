"""Rows of several runs as tables: ``python -m benchmarks.repeated runs/*.json --out docs/performance.md``.

The runs are JSON files of ``opu bench``, of one machine. A table has the values of the run with the median ratio. With
``--machine NAME`` the tables of several machines stand in one page, each between marks of its own.
"""

import argparse
import json
import sys
from dataclasses import fields
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

from benchmarks.pages import put, table
from benchmarks.row import Row

NAME = "benchmarks.repeated"
HEADINGS = "what", "measured", "ratio", "target"
TITLES = {"streamed": "streamed media, and the generator of random numbers"}
"""Title of the table of a benchmark whose rows have no words in common."""


def read_rows(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What a file says of its run, and its rows."""
    content = json.loads(path.read_text("utf-8"))
    names = [one.name for one in fields(Row)]
    return content, [Row(**{name: row[name] for name in names if name in row}) for row in content["rows"]]


def tables(paths: list[Path]) -> str:
    """A table for each benchmark, as Markdown."""
    runs = [read_rows(path) for path in paths]
    about = runs[0][0]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    chip = f"{about['machine']['processor']}, {', '.join(about['machine']['blas'])}"
    text = [f"{len(runs)} run{'s' * (len(runs) > 1)} of {about['date'][:10]}, {chip}; {versions}.\n"]
    every = [row for _, rows in runs for row in rows]
    names_of = dict.fromkeys((row.benchmark, row.name) for row in every)
    for benchmark, group in groupby(names_of, key=lambda pair: pair[0]):
        names = [name for _, name in group]
        title, short = shorten(names)
        lines = ([row for row in every if row.name == name] for name in names)
        found = table(HEADINGS, (cells(what, rows) for what, rows in zip(short, lines, strict=True)))
        text.append(f"**{title or TITLES.get(benchmark, benchmark)}**\n\n{found}")
    return "\n".join(text)


def cells(what: str, rows: list[Row]) -> tuple[str, str, str, str]:
    """Cells of a row that was measured in several runs."""
    same = sorted((row for row in rows if row.ratio is not None), key=lambda row: row.ratio or 0.0)
    if not same:
        return what, f"not measured: {rows[0].note.removeprefix('not measured: ')}", "-", "-"
    _, measured, ratio, target, verdict = same[len(same) // 2].cells()
    spread = f"{ratio} ({same[0].cells()[2]} – {same[-1].cells()[2]})" if len(rows) > 1 else ratio
    return what, measured, spread, target if target == "-" else f"{target}, {verdict}"


def shorten(names: list[str]) -> tuple[str, list[str]]:
    """What all names have in common, up to or from a comma or colon, and the rest of each."""
    first = common(names) if len(names) > 1 else names[0]
    start = max(first.rfind(", "), first.rfind(": "))
    rest = [name[start + 2 :] if start >= 0 else name for name in names]
    last = common([name[::-1] for name in rest])[::-1] if len(names) > 1 else ""
    places = [place for place in (last.find(", "), last.find(": ")) if place >= 0]
    end = len(last) - min(places) if places else 0
    parts = names[0][: max(start, 0)], rest[0][len(rest[0]) - end + 2 :] if end else ""
    return ": ".join(part for part in parts if part), [name[: len(name) - end] for name in rest]


def common(names: list[str]) -> str:
    """Characters with which all names begin."""
    return "".join(letters[0] for letters in takewhile(lambda one: len(set(one)) == 1, zip(*names, strict=False)))


def main(argv: list[str]) -> None:
    """Print the tables, or write them into a page."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--machine", help="name in the marks of the tables")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    put(tables(given.runs), f"{NAME} {given.machine}" if given.machine else NAME, given.out)


if __name__ == "__main__":
    main(sys.argv[1:])
