"""``opu device``: a device as a TOML file, with every parameter explained."""

from typing import Annotated

import typer

from dfa.cli.common import Changes, Json, NIn, NOut, Seed, check_unused, print_json, read_changes

__all__ = ["device"]


def device(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE", help="A preset (ideal, lab_bench, lighton_aurora) or the path of a TOML file."
        ),
    ] = "lab_bench",
    n_in: NIn = 256,
    n_out: NOut = 1000,
    seed: Seed = 0,
    change: Changes = None,
    as_json: Json = False,
) -> None:
    """Print a device as TOML; a comment gives type, range, default, unit and source of each parameter.

    Every command takes the file as --device, and OPU.from_toml reads it.
    """
    from photonics import presets
    from photonics.description import toml_text

    if presets.is_file(name):
        check_unused(context, ("n_in", "n_out", "seed"), "a device from a file, which has its own (--set changes them)")
    opu = presets.load(name, n_in, n_out, seed, read_changes(change or []), expose=False)
    if as_json:
        print_json(opu.to_dict())
    else:
        typer.echo(toml_text(opu.to_dict()), nl=False)
