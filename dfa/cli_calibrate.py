"""``opu calibrate``: characterise a device, recover its transmission matrix, compare two reports."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from dfa.cli_common import Device, Out, new_folder, show_table

__all__ = ["calibrate"]


def calibrate(
    device: Device = "lab_bench",
    n_in: Annotated[int, typer.Option(min=1, help="Inputs of a preset.")] = 256,
    n_out: Annotated[int, typer.Option(min=1, help="Pixels of a preset.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a preset.")] = 0,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="How projections are measured (anchor if not given), or how the transmission matrix is recovered (if "
            "not given, it is not); may be repeated. phase-stepping and off-axis do both."
        ),
    ] = None,
    recorded: Annotated[Path | None, typer.Option(help="Replay this recording (HDF5) in place of a device.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record patterns and frames to this new HDF5 file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Compare two report.json instead; exit code 1 if a verdict got worse."),
    ] = None,
    out: Out = None,
) -> None:
    """Characterise a device: report.html, report.pdf and report.json; a TOML file's exposure is kept."""
    if compare is not None:
        compare_reports(*compare)
        return
    from calibration import RecordedDevice, Recorder, characterize
    from calibration.report_page import row
    from photonics import presets

    projection, matrix = calibration_methods(method or [])
    opu, truth = RecordedDevice(recorded) if recorded else presets.load(device, n_in, n_out, seed), None
    if recorded is None:
        with suppress(ValueError):  # several fields on a pixel: no matrix describes it
            truth = opu.effective_matrix()
    with new_folder(out) as folder, Recorder(opu, record) if record else nullcontext(opu) as used:
        report = characterize(used, truth=truth, method=projection, matrix=matrix)
        page = report.to_html(folder / "report.html")
        report.to_pdf(folder / "report.pdf")
        report.to_json(folder / "report.json")
    columns = ["", "quantity", "expected", "measured", "verdict"]
    rows = [[cells[0], cells[1], *cells[3:6]] for cells in map(row, report.lines)]
    show_table(columns, rows)
    for reason in dict.fromkeys(line.reason for line in report.lines if line.reason):
        typer.echo(f"failed: {reason}")
    typer.echo(f"{report.verdict}: {page}")


def calibration_methods(names: list[str]) -> tuple[str, str | None]:
    """How to measure projections, and how to recover the transmission matrix, if at all."""
    from calibration.projection import METHODS as PROJECTIONS
    from calibration.transmission import METHODS as RECOVERIES

    known = dict.fromkeys([*PROJECTIONS, *RECOVERIES])
    for name in names:
        if name not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {name!r}")
    projections = [name for name in names if name in PROJECTIONS]
    recoveries = [name for name in names if name in RECOVERIES]
    # A name of both kinds counts for the one that no other name serves.
    projections = [name for name in projections if name not in RECOVERIES] or projections
    recoveries = [name for name in recoveries if name not in PROJECTIONS] or recoveries
    if len(projections) > 1 or len(recoveries) > 1:
        raise ValueError(f"method must name one projection and one recovery at most, got {', '.join(names)}")
    return (projections or ["anchor"])[0], (recoveries or [None])[0]


def compare_reports(before: Path, after: Path) -> None:
    """Print what changed between two reports; exit code 1 if a verdict got worse."""
    from calibration.comparison import compare

    found = compare(before, after)
    rows = found.rows()
    if rows:
        show_table(["", "quantity", "before", "after", "verdict", "trend"], rows)
    for name, old, new in found.device:
        typer.echo(f"device: {name} was {old}, is {new}")
    same = sum(change.trend == "same" for change in found.changes)
    typer.echo(f"{len(found.degraded)} degraded, {same} the same of {len(found.changes)}")
    raise typer.Exit(1 if found.degraded else 0)
