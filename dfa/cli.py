"""The command line, ``opu``. Heavy imports happen inside the commands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

if TYPE_CHECKING:
    from dfa.data import Dataset
    from dfa.study import Plan, Run

__all__ = ["main"]

app = typer.Typer(
    help="Simulate an optical co-processor and train neural networks through it.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path | None, typer.Option(help="Folder for the results; default runs/<time>.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds, 0, 1, 2 ...")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Device = Annotated[str, typer.Option(help="Preset (ideal, lab_bench, lighton_aurora) or a TOML file.")]


@app.command()
def demo(seeds: Seeds = 3, out: Out = None, quiet: Quiet = False) -> None:
    """Learn handwritten digits in five ways, one of them through the simulated device, and write a report."""
    from dfa import data, study

    digits, methods = data.digits(), list(study.METHODS)
    with new_folder(out) as folder:
        runs = study.run_study(study.DEMO, digits, methods, range(seeds), folder, progress=show_progress(quiet))
        finish(study.DEMO, digits, runs, folder)


@app.command()
def train(
    data: Annotated[str, typer.Option(help="digits or mnist.")] = "digits",
    method: Annotated[
        str, typer.Option(help="bp, dfa, ternary, optical, last-layer, several with commas, or all.")
    ] = "optical",
    device: Device = "lab_bench",
    hidden: Annotated[str, typer.Option(help="Units of the hidden layers, with commas.")] = "1024,1024",
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 1e-3,
    threshold: Annotated[float | None, typer.Option(help="Fixed ternarisation threshold.")] = None,
    deviations: Annotated[float | None, typer.Option(help="Threshold in deviations of the batch's error; 1.")] = None,
    seeds: Seeds = 1,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoints in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a fully connected tanh network, by default with optical feedback, and write a report."""
    from dfa import study
    from dfa.data import load
    from dfa.encoding import Ternary

    try:
        sizes = tuple(int(n) for n in hidden.split(","))
    except ValueError:
        raise ValueError(f"hidden must be numbers with commas between them, got {hidden!r}") from None
    encoder = Ternary(threshold=threshold, deviations=deviations)
    plan = study.Plan(
        hidden=sizes, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, device=device, encoder=encoder
    )
    methods = study.check_methods(list(study.METHODS) if method == "all" else method.split(","))
    dataset = load(data)
    if resume and (out is None or not out.is_dir()):
        raise ValueError(f"out must be the folder of a run to go on with, got {out}")
    with nullcontext(out) if resume and out else new_folder(out) as folder:
        runs = study.run_study(plan, dataset, methods, range(seeds), folder, resume, show_progress(quiet))
        finish(plan, dataset, runs, folder)


@app.command()
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


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="One benchmark; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the results; default runs/bench-<time>.json.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes and no verdicts: does it run at all.")] = False,
) -> None:
    """Time the simulator on one core against its ceilings: a table of ratios and a JSON file, in a few minutes."""
    root = Path(__file__).parents[1]
    if not (root / "benchmarks" / "__main__.py").is_file():
        raise ValueError(
            "opu bench runs from a checkout of the repository: benchmarks/ is not in the installed package"
        )
    arguments = [*(f"--only={name}" for name in only or ()), *([f"--out={out}"] if out else [])]
    arguments += ["--quick"] if quick else []
    # A process of its own: libraries read the number of threads when they are imported. -P keeps another folder called
    # benchmarks, in which the user may be, out of the way.
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-P", "-m", "benchmarks", *arguments]
    raise typer.Exit(subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}).returncode)


def finish(plan: "Plan", data: "Dataset", runs: "list[Run]", folder: Path) -> None:
    """Print the table and write the report of a study."""
    from calibration.files import unused, write_new
    from dfa.study import summary
    from dfa.study_page import study_page

    show_table(*summary(runs))
    typer.echo(f"report: {write_new(unused(folder / 'report.html'), study_page(plan, data, runs))}")


def show_progress(quiet: bool) -> bool:
    """Progress bars belong on a terminal."""
    return not quiet and sys.stderr.isatty()


def show_table(columns: list[str], rows: list[list[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


@contextmanager
def new_folder(out: Path | None) -> Iterator[Path]:
    """Make the folder of a run, which must be new or empty (runs/<time> if none is given).

    What was made is taken away again if the run fails before it has put anything there.
    """
    folder = out or Path("runs") / datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ValueError(f"out must be a new or an empty folder, got {folder}")
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"out must be a folder that can be written, got {folder} ({error.strerror})") from None
    try:
        yield folder
    except BaseException:
        with suppress(OSError):  # not empty
            for path in made:
                path.rmdir()
        raise


def main(argv: list[str] | None = None) -> None:
    """Run the command line; bad input gives one line and exit code 2."""
    # torch's threads spin while they wait for each other; with other work on the machine, that makes small networks
    # several times slower. Spinning briefly and then sleeping costs a large one some 15 % on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        sys.exit(app(args=argv or sys.argv[1:] or ["--help"], standalone_mode=False))
    except TyperException as error:
        problem = error.format_message()
    except ModuleNotFoundError as error:
        problem = f"{error.name} is not installed: pip install 'opu-sim[train]'"
    except ValueError as error:
        problem = str(error)
    except MemoryError as error:
        problem = f"not enough memory: {error}"
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    typer.echo(f"opu: {' '.join(problem.split())}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
