"""The table and the JSON file of a run."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, versions
from benchmarks.row import Row

__all__ = ["Parser", "out_file", "run", "save", "show", "write"]


class Parser(argparse.ArgumentParser):
    """Reports bad input in one line, as the command line does."""

    def error(self, message: str) -> NoReturn:  # noqa: D102 (inherited)
        raise ValueError(message)


def run(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run a program; return its exit code, which is 2 after one line for bad input."""
    try:
        return main(argv)
    except ValueError as error:
        print(f"opu: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def out_file(given: Path | None, name: str) -> Path:
    """Return the file for the results; its folder is created and checked before the work starts."""
    path = given or Path("runs") / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}.json"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise ValueError(f"out must be a file that can be written, got {path}")
    return path


def show(rows: list[Row], title: str) -> None:
    """Print the table."""
    table = Table("what", "measured", "ratio", "target", "verdict", title=title)
    for row in rows:
        table.add_row(*row.cells())
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def save(path: Path | None, command: str, **content: object) -> None:
    """Write results with the command that gives them, the date and, if it is not given, the machine as it is now."""
    if path is not None:
        date = datetime.now().astimezone().date().isoformat()
        known = {"command": command, "date": date, "machine": content.pop("machine", None) or machine(), **content}
        path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def write(path: Path, rows: list[Row], **more: object) -> None:
    """Write the rows, the machine and the versions."""
    content = {
        "format": 1,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        **more,
        "rows": [row.to_dict() for row in rows],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
