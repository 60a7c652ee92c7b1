"""Tables in Markdown, printed or put into pages of the documentation."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["made_by", "put", "table", "table_head", "table_row"]


def table_row(cells: Iterable[object]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def table_head(headings: Sequence[str]) -> str:
    """Return the headings of a table and the line below them."""
    return f"{table_row(headings)}\n|{'---|' * len(headings)}"


def table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table."""
    return "\n".join([table_head(headings), *map(table_row, rows)]) + "\n"


def made_by(command: str) -> str:
    """Return the command that makes a table, and the date, for the line above it."""
    return f"Made by `{command}`, {time.strftime('%Y-%m-%d')}"


def put(text: str, name: str, out: Path | None) -> None:
    """Put a table between the two marks of a page that have its name, or at the page's end; print it without a page."""
    if out is None:
        print(text)
        return
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    old = out.read_text(encoding="utf-8") if out.exists() else ""
    if first not in old:
        old += f"\n{first}\n{last}\n"
    head, tail = old.split(first)[0], old.split(last)[1]
    out.write_text(f"{head}{first}\n{text}{last}{tail}", encoding="utf-8")
