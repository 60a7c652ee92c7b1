"""What the commands of the command line share: options, the folder of a run, tables."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Device", "Out", "Quiet", "Seeds", "new_folder", "show_progress", "show_table"]

Out = Annotated[Path | None, typer.Option(help="Folder for the results; default runs/<time>.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds, 0, 1, 2 ...")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Device = Annotated[str, typer.Option(help="Preset (ideal, lab_bench, lighton_aurora) or a TOML file.")]


def show_progress(quiet: bool) -> bool:
    """Progress bars belong on a terminal."""
    return not quiet and sys.stderr.isatty()


def show_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


@contextmanager
def new_folder(out: Path | None) -> Iterator[Path]:
    """Make the folder of a run, which must be new or empty (runs/<time> if none is given).

    What was made is taken away again if the run fails before it has put anything there.
    """
    folder = out or Path("runs") / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(f"out must be a new or an empty folder, got {folder}")
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written, got {folder} ({error.strerror})") from None
    try:
        yield folder
    except BaseException:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()
        raise
