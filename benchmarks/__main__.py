"""Run every benchmark on one core and print the table of ratios."""

import os

os.environ |= dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")

import platform

from rich.console import Console
from rich.table import Table

from benchmarks import optics, steps


def main() -> None:
    """Print one row for each target of the performance document that this version has."""
    table = Table("what", "measured", "ratio", "target", title=f"one core, {platform.machine()}, wall or CPU time")
    for row in (*optics.rows(), *steps.rows()):
        table.add_row(*row)
    Console(width=120).print(table)


main()
