"""``opu tolerance``: how bad each part of a device may be until training loses a stated amount."""

from dataclasses import replace
from typing import Annotated

import typer

from dfa.cli.common import (
    Changes,
    Device,
    Json,
    Out,
    Quiet,
    Resume,
    print_json,
    print_table,
    read_changes,
    run_folder,
    show_progress,
)

__all__ = ["tolerance"]


def tolerance(
    lines: Annotated[
        list[str] | None,
        typer.Argument(
            help="What becomes worse: read_noise, contrast, medium_drift and so on, or everything at once (see "
            "docs/howto/tolerance.md). Default: each alone.",
            show_default=False,
        ),
    ] = None,
    device: Device = "lab_bench",
    task: Annotated[
        str, typer.Option(help="What is trained: mnist (5000 digits, some 5 s a training) or digits (about 1 s).")
    ] = "mnist",
    loss: Annotated[
        float | None, typer.Option(help="Loss that defines the tolerance: points (default 1) or bits (0.1).")
    ] = None,
    factor: Annotated[float, typer.Option(help="Precision of the tolerance, a factor.")] = 2.0,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, used in turn.")] = 6,
    most: Annotated[int, typer.Option(min=4, help="Largest number of trainings for each line.")] = 30,
    change: Changes = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes for the trainings of different lines; 0 trains in this process.")
    ] = 0,
    out: Out = None,
    resume: Resume = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find how bad each part of a device may be until training loses a point; write points.db and report.html.

    Options --set also change the training: training.hidden=[64,64], training.epochs=5.
    """
    import json

    from calibration.storage.files import replace_file, write_unused
    from dfa.robustness.names import change_plan
    from dfa.robustness.studies import MNIST, SMALL
    from dfa.robustness.tolerances import LINES
    from dfa.robustness.tolerances import tolerance as search
    from dfa.robustness.tolerances.figure import page
    from photonics.component import choose

    plan = choose({"mnist": MNIST, "digits": SMALL}, task, "task")
    plan = change_plan(replace(plan, device=device), read_changes(change or []))
    with run_folder(out, resume) as folder:
        store, progress = folder / "points.db", show_progress(quiet, "dfa.sweeps", "dfa.robustness")
        found = search(plan, lines or tuple(LINES), loss, factor, range(seeds), most, store, workers, progress)
        replace_file(folder / "tolerances.json", json.dumps(found.to_dict(), indent=1))
        report = write_unused(folder / "report.html", page(found))
    if as_json:
        print_json({**found.to_dict(), "report": report})
        return
    typer.echo(f"report: {report}")
    table = found.table()
    print_table(list(table.columns), [list(row) for row in table.rows])
