"""``opu twin``: a simulated device fitted to the frames of a bench."""

from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from dfa.cli.common import Json, print_json, print_table

__all__ = ["twin"]


def twin(
    recorded: Annotated[
        Path, typer.Option(help="Recording of the bench (HDF5), as calibration.record_bench makes it.")
    ],
    out: Annotated[Path | None, typer.Option(help="New TOML file for the device.")] = None,
    page: Annotated[Path | None, typer.Option(help="New HTML file for the table of parameters.")] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Ask draws of the twin the same questions, and print what it does not reproduce."),
    ] = False,
    same: Annotated[
        bool,
        typer.Option("--same", help="The device has the pixels of the bench, not drawn ones of the same statistics."),
    ] = False,
    matrix: Annotated[
        bool,
        typer.Option("--matrix", help="As --same, and its medium is the transmission matrix, fitted to the frames."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the medium and the pixels of the device.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit a simulated device to recorded frames; print its parameters with standard errors.

    What the frames do not tell is named, and taken from the data sheet in the recording.
    """
    from calibration import check_twin, fit_device
    from calibration.twin.check import COLUMNS as CHECK_COLUMNS

    beside = out.with_name(f"{out.stem}.matrix.npy") if matrix and out is not None else None
    for path in (out, page, beside):
        if path is not None and path.exists():
            raise ValueError(f"out must be new, got {path}, which exists: files are never overwritten")
    found = fit_device(recorded, matrix=matrix)
    if out is not None:
        found.to_toml(out, seed, same=same or matrix)
    if page is not None:
        found.to_html(page)
    judged = check_twin(found, recorded, seed=seed) if check else None
    if as_json:
        compared = {} if judged is None else {"check": [asdict(line) for line in judged.lines], "missed": judged.missed}
        print_json(found.to_dict() | compared)
        return
    for name, value, error, unit, how in found.rows():  # a table of five columns does not fit into 80 letters
        typer.echo(f"{name} = {value} ± {error} {unit}".rstrip() if error != "–" else f"{name} is {value}")
        typer.echo(fill(how, 80, initial_indent="    ", subsequent_indent="    "))
    if judged is not None:
        print_table(CHECK_COLUMNS, judged.rows())
        typer.echo(f"{judged.verdict} ({judged.runs} runs of the twin)")
    typer.echo(repr(found) + ("" if out is None else f": {out}"))
