"""``opu calibrate``: characterise a device, recover its transmission matrix, compare two reports."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dfa.cli.bench import ask, open_answers, was_asked
from dfa.cli.common import (
    Changes,
    Device,
    Json,
    NIn,
    NOut,
    Out,
    Quiet,
    Resume,
    Seed,
    check_unused,
    panel_option,
    print_json,
    print_table,
    read_changes,
    result_option,
    run_folder,
    show_progress,
)

if TYPE_CHECKING:
    from calibration import Report
    from calibration.device import Device as Bench
    from photonics.arrays import ComplexArray

__all__ = ["calibrate"]

method_option = partial(panel_option, "Methods")
recording_option = partial(panel_option, "Recordings")
MethodNames = Annotated[
    list[str] | None,
    method_option(
        "Method that measures projections (default: anchor), or that recovers the transmission matrix "
        "(default: no recovery); may be repeated. phase-stepping and off-axis do both."
    ),
]
RecoveryOptions = Annotated[
    list[str] | None,
    method_option(
        "Option of the recovery, for instance steps=3, track_drift=true, anchors=8 or n_inputs=128; may be repeated.",
        metavar="NAME=VALUE",
    ),
]
Exposure = Annotated[
    Literal["methods", "keep", "auto"],
    method_option(
        "methods: a recovery, phase-stepping and off-axis set their own, other frames use the device's. "
        "keep: all frames use the device's exposure. auto: all exposures are set."
    ),
]
Truth = Annotated[
    bool,
    method_option("Also compare projections with the simulated device's matrix; the report states this.", "--truth"),
]
Recorded = Annotated[
    list[Path] | None,
    recording_option(
        "Use frames of a bench instead of a device: a recording, npz, HDF5, MATLAB, npy, TIFF, or a folder of "
        "images; may be repeated, once for each round of questions."
    ),
]
Patterns = Annotated[
    list[Path] | None,
    recording_option("Patterns of the recorded frames, if their file has none: a file of questions, or of patterns."),
]
Questions = Annotated[
    Path | None,
    recording_option(
        "Write the patterns to show next on the bench, with exposures and phases, to this new file (npz, HDF5, "
        "MATLAB). Without further questions the report is written."
    ),
]
Record = Annotated[Path | None, recording_option("Record patterns and frames to this new HDF5 file.")]
Compare = Annotated[
    tuple[Path, Path] | None,
    result_option(
        "Only compare two files report.json; exit code 1 if a verdict got worse, 3 if one became failed.",
        metavar="A B",
    ),
]
FAILED = 3
"""Exit code if a verdict is failed. A comparison that found something worse gives 1, bad input 2."""


def calibrate(
    context: typer.Context,
    device: Device = "lab_bench",
    n_in: NIn = 256,
    n_out: NOut = 1000,
    seed: Seed = 0,
    change: Changes = None,
    method: MethodNames = None,
    option: RecoveryOptions = None,
    exposure: Exposure = "methods",
    truth: Truth = False,
    recorded: Recorded = None,
    patterns: Patterns = None,
    questions: Questions = None,
    record: Record = None,
    compare: Compare = None,
    out: Out = None,
    resume: Resume = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Characterise a device and write report.html, report.json and, after a recovery, matrix.h5.

    calibration.TransmissionEstimate.load reads matrix.h5, the recovered transmission matrix.
    --resume continues the recovery in --out and the recording --record.

    The exit code is 0 if the verdict is pass or degraded, 3 if it is failed, 2 for bad input.
    """
    if compare is not None:
        compare_reports(*compare, as_json)
        return
    from calibration import RecordedDevice, Recorder, characterize_pairs
    from photonics import presets

    methods = choose_methods(method or [], option or [])
    if recorded:
        check_unused(context, ("n_in", "n_out", "seed"), "a recording, which has its own")
    if recorded and not presets.is_file(device):
        check_unused(context, ("device",), "a recording, unless it is a TOML file that describes the bench")
    elif presets.is_file(device):
        check_unused(context, ("n_in", "n_out", "seed"), "a device from a file, which has its own (--set changes them)")
    if truth and recorded:
        raise ValueError(f"truth must be left out for a recording, which has no true matrix, got {recorded[0]}")
    changes = read_changes(change or [])
    if changes and recorded:
        raise ValueError(f"set must be left out for a recording, which is what it is, got {', '.join(changes)}")
    if patterns and not recorded:
        raise ValueError(f"patterns must be those of recorded frames, got {patterns[0]} without recorded")
    answers = open_answers(recorded, patterns or [], device) if recorded else None
    simulated = None if recorded else presets.load(device, n_in, n_out, seed, changes)
    if questions is not None and ask(questions, simulated, answers, partial(judge, methods, exposure, None)):
        return
    opu = RecordedDevice(answers) if answers else simulated
    assert opu is not None
    known = simulated.effective_matrix() if truth and simulated else None
    with (
        run_folder(out, resume) as folder,
        Recorder(opu, record, resume, show_progress(quiet)) if record else nullcontext(opu) as used,
    ):
        if answers is not None and not was_asked(answers):
            report = characterize_pairs(answers, n_inputs=(methods.recovery or {}).get("n_inputs"))
        else:
            more = {"out": folder / "matrix.h5", "resume": resume}
            report = judge(methods, exposure, known, used, more, show_progress(quiet, "calibration.reports"))
        write_report(report, folder, as_json)
    if report.verdict == "failed":
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class Methods:
    """The methods of a calibration."""

    projection: str
    """Method of `measure_projection`."""
    recovery: dict[str, Any] | None = field(default=None)
    """Arguments of `recover_transmission_matrix`; None for no recovery."""


def judge(
    methods: Methods,
    exposure: Literal["methods", "keep", "auto"],
    truth: "ComplexArray | None",
    opu: "Bench",
    more: dict[str, Any] | None = None,
    progress: bool = False,
) -> "Report":
    """Characterise a device; `more` are further arguments of the recovery."""
    from calibration import characterize

    matrix = methods.recovery and {**methods.recovery, **(more or {})}
    return characterize(
        opu, truth=truth, method=methods.projection, matrix=matrix, exposure=exposure, progress=progress
    )


def choose_methods(names: list[str], options: list[str]) -> Methods:
    """Choose the method of projections, and that of the recovery if there is one."""
    from calibration.projections.methods import METHODS as PROJECTIONS
    from calibration.recovery.methods import METHODS as RECOVERIES

    known = dict.fromkeys([*PROJECTIONS, *RECOVERIES])
    for name in names:
        if name not in known:
            raise ValueError(f"method must be one of {', '.join(known)}, got {name!r}")
    projections = [name for name in names if name in PROJECTIONS]
    recoveries = [name for name in names if name in RECOVERIES]
    # A name in both registries selects whichever of the two no other name selects.
    projections = [name for name in projections if name not in RECOVERIES] or projections
    recoveries = [name for name in recoveries if name not in PROJECTIONS] or recoveries
    if len(projections) > 1 or len(recoveries) > 1:
        raise ValueError(f"method must name one projection and one recovery at most, got {', '.join(names)}")
    projection = (projections or ["anchor"])[0]
    if recoveries:
        return Methods(projection, {"method": recoveries[0], **recovery_options(options)})
    if options:
        raise ValueError(f"option must be used with a method that recovers the matrix, got {options[0]!r} without one")
    return Methods(projection)


def recovery_options(options: list[str]) -> dict[str, Any]:
    """Read options of the form NAME=VALUE; values are JSON."""
    found: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier() or name in ("method", "out", "resume", "progress", "exposure"):
            raise ValueError(f"option must be NAME=VALUE with the name of an option of the method, got {option!r}")
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"option {name} must be a number, true, false or a list, got {text!r:.80}") from None
    return found


def write_report(report: "Report", folder: Path, as_json: bool) -> None:
    """Write report.html and report.json, under the name report-2 and so on if a report exists.

    Print the table, or the content of report.json and the name of the page.
    """
    from calibration.reports.html import row

    names = ("report" if number == 1 else f"report-{number}" for number in count(1))
    kinds = {"html": report.to_html, "json": report.to_json}
    name = next(name for name in names if not any((folder / f"{name}.{kind}").exists() for kind in kinds))
    for kind, write in kinds.items():
        write(folder / f"{name}.{kind}")
    if as_json:
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        print_json(content | {"report": folder / f"{name}.html"})
        return
    columns = ["", "quantity", "expected", "measured", "verdict"]
    rows = [[cells[0], cells[1], *cells[3:6]] for cells in map(row, report.lines)]
    print_table(columns, rows)
    for reason in dict.fromkeys(line.reason for line in report.lines if line.reason):
        typer.echo(f"failed: {reason}")
    typer.echo(f"medium: {report.medium}")
    typer.echo(f"{report.summary}: {folder / name}.html")


def compare_reports(before: Path, after: Path, as_json: bool) -> None:
    """Print the differences of two reports; exit code 1 if a verdict got worse, 3 if one became failed."""
    from calibration.reports.comparison import compare

    found = compare(before, after)
    rows, columns = found.rows(), ["group", "quantity", "before", "after", "verdict", "trend"]
    same = sum(change.trend == "same" for change in found.changes)
    if as_json:
        changes = [dict(zip(columns, row, strict=True)) for row in rows]
        device = [dict(zip(("name", "before", "after"), line, strict=True)) for line in found.device]
        print_json({"changes": changes, "device": device, "degraded": len(found.degraded), "unchanged": same})
    else:
        if rows:
            print_table(["", *columns[1:]], rows)
        for name, old, new in found.device:
            typer.echo(f"device: {name} was {old}, is {new}")
        typer.echo(f"{len(found.degraded)} degraded, {same} unchanged of {len(found.changes)}")
    if any(change.after and change.after.verdict == "failed" for change in found.degraded):
        raise typer.Exit(FAILED)
    raise typer.Exit(1 if found.degraded else 0)
