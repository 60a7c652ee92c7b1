"""The benchmarks on the CPU, by name."""

import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.report import Parser, out_file, show, write
from benchmarks.report import run as run_program
from benchmarks.row import Row

__all__ = ["NAMES", "main"]

NAMES = ("stored", "streamed", "layers", "camera", "device", "peer", "libraries", "steps")


def main(argv: list[str]) -> int:
    """Run the benchmarks, print their table and write their file; return the exit code."""
    return run_program(run, argv)


def run(argv: list[str]) -> int:
    """Exit code 1 if a benchmark raised an error; a missed target is a result."""
    parser = Parser(prog="opu bench", description="Time the simulator on one core against its ceilings.")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of {', '.join(NAMES)}; may be repeated")
    parser.add_argument("--out", type=Path, help="JSON file for the results; default runs/bench-<time>.json")
    parser.add_argument("--quick", action="store_true", help="use small sizes and give no verdicts")
    given = parser.parse_args(argv)
    for name in given.only or ():
        if name not in NAMES:
            raise ValueError(f"only must be one of {', '.join(NAMES)}, got {name!r}")
    path, started, where = out_file(given.out, "bench"), time.monotonic(), machine()
    rows = [row for name in NAMES if name in (given.only or NAMES) for row in run_benchmark(name, given.quick)]
    write(path, rows, machine=where, what="one core", quick=given.quick, seconds=round(time.monotonic() - started, 1))
    show(rows, f"one core of {where['processor']}, {', '.join(where['blas'])}; processor time")
    print(f"results: {path}")
    return int(any(row.note.startswith("failed") for row in rows))


def run_benchmark(name: str, quick: bool) -> Iterator[Row]:
    """Rows of a benchmark; an error becomes a row, so that the others run."""
    try:
        for row in import_module(f"benchmarks.{name}").rows(quick):
            row = replace(row, benchmark=name)
            yield replace(row, name=f"{row.name} (quick)", target=None) if quick else row
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        yield Row(name=name, benchmark=name, note=f"failed: {error}")
