"""``opu sweep`` and ``opu report``: a study of robustness from a file, and its page."""

from contextlib import nullcontext
from pathlib import Path
from tomllib import loads
from typing import Annotated

import typer

from dfa.cli.common import Out, Quiet, new_folder, show_progress, show_table

__all__ = ["report", "sweep"]


def sweep(
    study: Annotated[
        Path,
        typer.Argument(
            help="TOML file that describes the study, as in examples/, or the name of a study that is ready, as in "
            "docs/robustness.md."
        ),
    ],
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study and the points in --out.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Compute failed points again.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes on this machine; default one for each core, 0 for this one.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Run a study of robustness: points.db as it goes, then results.nc, figures and report.html.

    DASK_SCHEDULER_ADDRESS names a cluster to be used in place of this machine.
    """
    from calibration.storage.files import replace_file
    from dfa.robustness.results import table, write_report, write_results
    from dfa.robustness.study_files import read_study

    ready, seeds = read_study(study)
    if resume and (out is None or not out.is_dir()):
        raise ValueError(f"out must be the folder of a sweep to go on with, got {out}")
    text = study.read_text(encoding="utf-8") if study.is_file() else f'study = "{study}"\n'
    with nullcontext(out) if resume and out else new_folder(out) as folder:
        kept = folder / "study.toml"
        if kept.exists() and loads(kept.read_text(encoding="utf-8")) != loads(text):
            raise ValueError(f"study must be the one in {kept} to go on, got another: change that, or take a new --out")
        replace_file(kept, text)
        found = ready.run(seeds, folder / "points.db", workers, show_progress(quiet), retry_failed)
        write_results(found, folder)
        page = write_report(found, folder)
    typer.echo(f"report: {page}")
    rows = table(found, brief=True)
    show_table(list(rows.columns), [list(row) for row in rows.rows])


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a sweep that is done.")],
) -> None:
    """Make figures and page of a sweep again from its results.nc; a page that is there stays."""
    from dfa.robustness.prepared import score_name
    from dfa.robustness.results import load_results, write_report

    found = load_results(folder)
    typer.echo(f"report: {write_report(found, folder)}")
    score_name(found)  # an error if every point failed
