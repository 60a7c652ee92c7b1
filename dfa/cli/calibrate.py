"""``opu calibrate``: characterise a device, recover its transmission matrix, compare two reports."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dfa.cli.common import Device, Out, Quiet, new_folder, show_progress, show_table

__all__ = ["calibrate"]

FAILED = 3
"""Exit code of a verdict that scripts must not miss; 1 is a comparison that found something worse, 2 bad input."""


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
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Option of the recovery, e.g. steps=3, track_drift=true, anchors=8, n_inputs=128; may be repeated.",
        ),
    ] = None,
    exposure: Annotated[
        Literal["methods", "keep", "auto"],
        typer.Option(
            help="methods: the device's, also a TOML file's, for plain patterns, and one that suits it for a recovery "
            "or a reference beam; keep: the device's for all frames; auto: set that of plain patterns as well."
        ),
    ] = "methods",
    truth: Annotated[
        bool,
        typer.Option(
            "--truth", help="Also compare projections with the simulated device's matrix; the report says it."
        ),
    ] = False,
    recorded: Annotated[Path | None, typer.Option(help="Replay this recording (HDF5) in place of a device.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record patterns and frames to this new HDF5 file.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="A B",
            help="Compare two report.json instead; exit code 1 if a verdict got worse, 3 if one became failed.",
        ),
    ] = None,
    out: Out = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with what was killed: the recovery in the folder --out, the recording of --record."
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Characterise a device: report.html, report.pdf, report.json and, if it is recovered, matrix.h5.

    Exit code 0 if the verdict is pass or degraded, 3 if it is failed (the report is written first), 2 for bad input.
    """
    if compare is not None:
        compare_reports(*compare)
        return
    from calibration import RecordedDevice, Recorder, characterize
    from photonics import presets

    wanted = wanted_methods(method or [], option or [])
    if truth and recorded:
        raise ValueError(f"truth must be of a simulated device, got the recording {recorded}")
    if resume and (out is None or not out.is_dir()):
        raise ValueError(f"out must be the folder of a calibration to go on with, got {out}")
    opu = RecordedDevice(recorded) if recorded else presets.load(device, n_in, n_out, seed)
    known = opu.effective_matrix() if truth and not isinstance(opu, RecordedDevice) else None
    show = show_progress(quiet)
    with (
        nullcontext(out) if resume and out else new_folder(out) as folder,
        Recorder(opu, record, resume) if record else nullcontext(opu) as used,
    ):
        matrix = wanted.recovery and {**wanted.recovery, "out": folder / "matrix.h5", "resume": resume}
        report = characterize(
            used, truth=known, method=wanted.projection, matrix=matrix, exposure=exposure, progress=show
        )
        write_report(report, folder)
    if report.verdict == "failed":
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class Wanted:
    """What is measured how."""

    projection: str
    recovery: dict[str, Any] | None = field(default=None)
    """Arguments of `recover_transmission_matrix`."""


def wanted_methods(names: list[str], options: list[str]) -> Wanted:
    """How to measure projections, and how to recover the transmission matrix, if at all."""
    from calibration.projections.methods import METHODS as PROJECTIONS
    from calibration.recovery.methods import METHODS as RECOVERIES

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
    projection = (projections or ["anchor"])[0]
    if recoveries:
        return Wanted(projection, {"method": recoveries[0], **recovery_options(options)})
    if options:
        raise ValueError(f"option must be with a method that recovers the matrix, got {options[0]!r} without one")
    return Wanted(projection)


def recovery_options(options: list[str]) -> dict[str, Any]:
    """Options by name, their values read as JSON."""
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier() or name in ("method", "out", "resume", "progress", "exposure"):
            raise ValueError(f"option must be NAME=VALUE with the name of an option of the method, got {option!r}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            raise ValueError(f"option {name} must be a number, true, false or a list, got {text!r}") from None
    return found


def write_report(report: Any, folder: Path) -> None:
    """Write the three files, as report-2 and so on beside older ones, and print the table."""
    from calibration.reports.html import row

    names = ("report" if number == 1 else f"report-{number}" for number in count(1))
    kinds = {"html": report.to_html, "pdf": report.to_pdf, "json": report.to_json}
    name = next(name for name in names if not any((folder / f"{name}.{kind}").exists() for kind in kinds))
    for kind, write in kinds.items():
        write(folder / f"{name}.{kind}")
    columns = ["", "quantity", "expected", "measured", "verdict"]
    rows = [[cells[0], cells[1], *cells[3:6]] for cells in map(row, report.lines)]
    show_table(columns, rows)
    for reason in dict.fromkeys(line.reason for line in report.lines if line.reason):
        typer.echo(f"failed: {reason}")
    typer.echo(f"{report.verdict}: {folder / name}.html")


def compare_reports(before: Path, after: Path) -> None:
    """Print what changed between two reports; exit code 1 if a verdict got worse, 3 if one of them is now failed."""
    from calibration.reports.comparison import compare

    found = compare(before, after)
    rows = found.rows()
    if rows:
        show_table(["", "quantity", "before", "after", "verdict", "trend"], rows)
    for name, old, new in found.device:
        typer.echo(f"device: {name} was {old}, is {new}")
    same = sum(change.trend == "same" for change in found.changes)
    typer.echo(f"{len(found.degraded)} degraded, {same} the same of {len(found.changes)}")
    if any(change.after and change.after.verdict == "failed" for change in found.degraded):
        raise typer.Exit(FAILED)
    raise typer.Exit(1 if found.degraded else 0)
