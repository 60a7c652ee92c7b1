"""``opu twin``: a simulated device fitted to the frames of a bench."""

from pathlib import Path
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the medium and the pixels of the device.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit a simulated device to recorded frames; print its parameters with standard errors.

    What the frames do not tell is named, and taken from the data sheet in the recording.
    """
    from calibration import fit_device
    from calibration.twin.twin import COLUMNS

    for path in (out, page):
        if path is not None and path.exists():
            raise ValueError(f"out must be new, got {path}, which exists: files are never overwritten")
    found = fit_device(recorded)
    if out is not None:
        found.to_toml(out, seed)
    if page is not None:
        found.to_html(page)
    if as_json:
        print_json(found.to_dict())
        return
    print_table(COLUMNS, found.rows())
    typer.echo(repr(found) + "".join(f": {path}" for path in (out,) if path is not None))
