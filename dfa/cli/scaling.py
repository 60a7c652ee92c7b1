"""``opu scaling``: when the device is faster than chips."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dfa.cli.common import Json, print_json, read_changes

__all__ = ["scaling"]


def scaling(
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Change a parameter of network, chips, links or device, for instance device.frame_rate_hz=340; a list "
            "varies it: network.width=[1024,4096]. May be repeated.",
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="New PNG or SVG file: time over parameters, and over bandwidth and width.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Predict time and energy of a training step: backpropagation, DFA on chips, DFA by light.

    The parameters, with units and sources, are in docs/howto/scaling.md.
    """
    from dfa.costs.figure import save
    from dfa.costs.table import change as changed
    from dfa.costs.table import scaling

    given = read_changes(change or [])
    over: dict[str, list[Any]] = {name: value for name, value in given.items() if isinstance(value, list)}
    parts = changed(scaling().parts, {name: value for name, value in given.items() if name not in over})
    found = scaling(**parts, over=over)
    if figure is not None:
        save(found, figure)
    if as_json:
        print_json(found.to_dict())
        return
    typer.echo(str(found))
    if len(found) == 1:
        typer.echo(f"\n{found.terms().text(str.rjust)}")
    if figure is not None:
        typer.echo(f"figure: {figure}")
