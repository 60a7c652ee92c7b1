"""``opu sweep`` and ``opu report``: a robustness study from a file, and its report."""

from pathlib import Path
from tomllib import loads
from typing import Annotated

import typer

from dfa.cli.common import Json, Out, Quiet, Resume, print_json, print_table, run_folder, show_progress

__all__ = ["report", "sweep"]


def sweep(
    study: Annotated[
        Path,
        typer.Argument(
            help="The study: a TOML file (below; more in examples/) or the name of a predefined study "
            "(docs/robustness.md)."
        ),
    ],
    out: Out = None,
    resume: Resume = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Compute points again that failed before.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Processes on this machine; 0 computes in this process. Default: one per core."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a robustness study and write points.db, results.nc, figures and report.html.

    The study file has one of the first two of these entries, and any of the others:

    - over: values by dotted name, { "camera.bit_depth" = [16, 8, 4] }
    - study: name of a predefined study, "read_noise"
    - options: with study, other values for it
    - plan: fields of dfa.Plan, { data = "digits", epochs = 5, device = "bench.toml" }
    - seeds: a number, or a list
    - references: methods to compare with, ["bp", "last-layer"]
    - title: of figure and report
    - method: with over, what is trained, "optical"
    - design: with over, "grid", "one-at-a-time", "latin-hypercube" or "random"
    - count: points of the last two, whose values are { low = 1, high = 100, log = true }
    - log: with over, true for logarithmic axes

    The environment variable DASK_SCHEDULER_ADDRESS names a cluster to use instead of this machine.
    """
    import h5netcdf  # noqa: F401 (for results.nc: without it the command ends before the first point)

    from calibration.storage.files import replace_file
    from dfa.robustness.results import table, write_report, write_results
    from dfa.robustness.study_files import read_study

    ready, seeds = read_study(study)
    text = study.read_text(encoding="utf-8-sig") if study.is_file() else f'study = "{study}"\n'
    with run_folder(out, resume) as folder:
        kept = folder / "study.toml"
        if kept.exists() and loads(kept.read_text(encoding="utf-8")) != loads(text):
            raise ValueError(
                f"study must be the one in {kept} to resume it, got another: correct the study or choose a new --out"
            )
        replace_file(kept, text)
        found = ready.run(seeds, folder / "points.db", workers, show_progress(quiet, "dfa.sweeps"), retry_failed)
        write_results(found, folder)
        page = write_report(found, folder)
    if as_json:
        print_json({"dataset": found.to_dict(), "results": folder / "results.nc", "report": page})
        return
    typer.echo(f"report: {page}")
    rows = table(found, brief=True)
    print_table(list(rows.columns), [list(row) for row in rows.rows])


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished sweep.")],
) -> None:
    """Draw the figures and write the report of a sweep again from its results.nc; existing reports are kept."""
    from dfa.robustness.prepared import score_name
    from dfa.robustness.results import load_results, write_report

    found = load_results(folder)
    typer.echo(f"report: {write_report(found, folder)}")
    score_name(found)  # an error if every point failed
