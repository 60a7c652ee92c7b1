"""Options that the commands share, the folder of a run, and tables."""

import json
import logging
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Changes",
    "Device",
    "Json",
    "NIn",
    "NOut",
    "Out",
    "Quiet",
    "Resume",
    "Seed",
    "Seeds",
    "check_unused",
    "device_option",
    "panel_option",
    "print_json",
    "print_table",
    "read_changes",
    "result_option",
    "run_folder",
    "show_progress",
]


def panel_option(panel: str, text: str, *names: str, **more: Any) -> Any:
    """An option of a command, in a group of its help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)


device_option = partial(panel_option, "Device")
result_option = partial(panel_option, "Results")
Out = Annotated[Path | None, result_option("New or empty folder for the results. Default: runs/<time>.")]
Resume = Annotated[bool, result_option("Continue the run in --out that was stopped.", "--resume")]
Quiet = Annotated[bool, result_option("Show no progress: bars on a terminal, lines elsewhere.", "--quiet")]
Json = Annotated[bool, result_option("Print JSON instead of a table, for programs.", "--json")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, 2 and so on.")]
Device = Annotated[
    str,
    device_option(
        "The device: a preset (ideal, lab_bench, lighton_aurora) or the path of a TOML file (see opu device)."
    ),
]
NIn = Annotated[int, device_option("Number of inputs of a preset.", min=1)]
NOut = Annotated[int, device_option("Number of pixels of a preset.", min=1)]
Seed = Annotated[int, device_option("Seed of a preset.", min=0)]
Changes = Annotated[
    list[str] | None,
    device_option(
        "Change a parameter, as OPU.replace does, for instance camera.bit_depth=6; may be repeated.",
        "--set",
        metavar="NAME=VALUE",
    ),
]


def check_unused(context: typer.Context, names: Iterable[str], where: str) -> None:
    """Raise a ``ValueError`` if an option is given where it changes nothing."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise ValueError(f"{name} must be left out for {where}, got {context.params[name]}")


def show_progress(quiet: bool, *logs: str) -> bool:
    """Return whether to show progress bars: only on a terminal and without ``--quiet``.

    Elsewhere, without ``--quiet``, the logs of these names tell each step of the work in a line on standard error.
    """
    bars = sys.stderr.isatty()
    for name in logs:
        logging.getLogger(name).setLevel(logging.WARNING if quiet or bars else logging.INFO)
    return bars and not quiet


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    for cells in rows:
        table.add_row(*map(escape, cells))
    Console().print(table)


def print_json(document: Mapping[str, Any]) -> None:
    """Print a JSON document; NaN and infinity, which JSON lacks, become null."""
    from calibration.reports.findings import replace_nonfinite

    typer.echo(json.dumps(replace_nonfinite(document), indent=1, default=str))


def read_changes(changes: list[str]) -> dict[str, Any]:
    """Read options of the form NAME=VALUE; values are those of TOML, and a word without quotes is a text.

    Raises
    ------
    ValueError
        If an option has another form.
    """
    found: dict[str, Any] = {}
    for change in changes:
        name, equals, text = (part.strip() for part in change.partition("="))
        if not equals or not text or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"set must be NAME=VALUE, such as camera.bit_depth=6, got {change!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            if text[0] in "{[":
                example = 'medium={type = "Drifting", correlation_frames = 1e5}'
                raise ValueError(
                    f"set must have tables and lists as in TOML, such as {example}, got {text!r}"
                ) from None
            value = text
        except RecursionError:
            raise ValueError(f"set must have values that are nested less deeply, got {name}={text:.40}...") from None
        found[name] = None if value == "none" else value
    return found


@contextmanager
def run_folder(out: Path | None, resume: bool = False) -> Iterator[Path]:
    """Open the folder of a run: a new or empty one (by default runs/<time>), or that of the run to resume.

    No other run can use the folder at the same time. If the folder to resume does not exist, it is created and the run
    starts. New folders are removed again if the run fails before it has written anything. After Ctrl-C
    a line explains how to continue.

    Raises
    ------
    ValueError
        If the folder is not empty, is in use or cannot be written; with `resume`, if `out` is not given.
    """
    from calibration.storage.folders import claim_folder, new_folder

    if resume and out is None:
        raise ValueError("out must be the folder of the run to resume, got none")
    starts = resume and out is not None and not out.exists()
    made: list[Path] = []
    if out is None:
        runs = Path("runs")
        parents = [] if runs.exists() else [runs]
        out = new_folder(runs / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"), "out")
        made = [out, *parents]
    try:
        with claim_folder(out, "out") as folder:
            if not resume and any(folder.iterdir()):
                raise ValueError(f"out must be a new or an empty folder, got {folder}")
            if starts:
                typer.echo(f"{out} does not exist: the run starts from the beginning", err=True)
            try:
                yield folder
            except KeyboardInterrupt:
                if any(folder.iterdir()):
                    typer.echo(
                        f"stopped: {folder} keeps the results so far, --resume --out {folder} continues", err=True
                    )
                raise
    except BaseException:
        with suppress(OSError):  # rmdir refuses a folder that is not empty
            for path in made:
                path.rmdir()
        raise
