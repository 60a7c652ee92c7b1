"""The command line, ``opu``. Heavy imports happen inside the commands."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from dfa.cli.calibrate import calibrate
from dfa.cli.common import Device, Out, Quiet, Seeds, new_folder, show_progress, show_table
from dfa.cli.sweep import report, sweep

if TYPE_CHECKING:
    from dfa.experiments.runs import Plan, Run
    from dfa.experiments.tasks import Data

__all__ = ["main"]

app = typer.Typer(
    help="Simulate an optical co-processor and train neural networks through it.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(calibrate)
app.command()(sweep)
app.command()(report)


@app.command()
def demo(seeds: Seeds = 3, out: Out = None, quiet: Quiet = False) -> None:
    """Learn handwritten digits in five ways, one of them through the simulated device, and write a report."""
    from dfa import data
    from dfa.experiments import runs as study

    digits, methods = data.digits(), list(study.STANDARD)
    with new_folder(out) as folder:
        runs = study.run_study(study.DEMO, digits, methods, range(seeds), folder, progress=show_progress(quiet))
        finish(study.DEMO, digits, runs, folder)


@app.command()
def train(
    data: Annotated[
        str, typer.Option(help="digits, mnist, fashion-mnist, cora, citeseer, pubmed or tiny-shakespeare.")
    ] = "digits",
    network: Annotated[
        str | None, typer.Option(help="mlp or cnn for images, gcn for graphs, transformer for text.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="bp, dfa, ternary, optical, last-layer, several with commas, or all of these; also separate (DFA, a "
            "matrix for each block), alignment (feedback alignment) and sign (sign-symmetric)."
        ),
    ] = "optical",
    device: Device = "lab_bench",
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Widths of the hidden blocks, with commas: 1024,1024 (mlp), 16,32,128 (cnn: channels, then units), "
            "16 (gcn), 128,128,128,128 (transformer) if not given."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="5 for images, 250 for graphs.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for text; 600.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="128 images, 32 pieces of text.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's; 0.001, graphs 0.01, text 0.003.")] = None,
    hidden_rate: Annotated[
        float | None,
        typer.Option(help="Hidden blocks' rate on fixed feedback, in units of the learning rate; 1, for text 0.1."),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Train on the first so many samples.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Fixed ternarisation threshold; 0.2 for graphs.")] = None,
    deviations: Annotated[
        float | None, typer.Option(help="Threshold in deviations of the batch's error; 1 for images.")
    ] = None,
    stochastic: Annotated[
        float | None, typer.Option(help="Unbiased ternary code, for errors up to this; 1 for text.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="With --stochastic: at most one entry of each sign, the two together; text.")
    ] = False,
    seeds: Seeds = 1,
    out: Out = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoints in --out.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the diagnostics as events, too.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network, by default with optical feedback, and write a report."""
    from dfa.data import load
    from dfa.experiments import runs as study
    from dfa.feedback.encoding import Ternary

    try:
        sizes = tuple(int(n) for n in hidden.split(",")) if hidden is not None else None
    except ValueError:
        raise ValueError(f"hidden must be numbers with commas between them, got {hidden!r}") from None
    policy = {"threshold": threshold, "deviations": deviations, "stochastic": stochastic, "pairs": pairs or None}
    policy = {name: value for name, value in policy.items() if value is not None}
    plan = study.Plan(
        data=data,
        network=network,
        hidden=sizes,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        hidden_rate=hidden_rate,
        samples=samples,
        device=device,
        encoder=Ternary(**policy) if policy else None,
    )
    methods = study.check_methods(list(study.STANDARD) if method == "all" else method.split(","), plan)
    dataset = load(data)
    if resume and (out is None or not out.is_dir()):
        raise ValueError(f"out must be the folder of a run to go on with, got {out}")
    with nullcontext(out) if resume and out else new_folder(out) as folder:
        runs = study.run_study(plan, dataset, methods, range(seeds), folder, resume, show_progress(quiet), tensorboard)
        finish(plan, dataset, runs, folder)


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="One benchmark; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the results; default runs/bench-<time>.json.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes and no verdicts: does it run at all.")] = False,
) -> None:
    """Time the simulator on one core against its ceilings: a table of ratios and a JSON file, in a few minutes."""
    root = Path(__file__).parents[2]
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


def finish(plan: "Plan", data: "Data", runs: "list[Run]", folder: Path) -> None:
    """Print the table and write the report of a study."""
    from calibration.storage.files import write_unused
    from dfa.experiments.page import study_page
    from dfa.experiments.runs import summary

    show_table(*summary(plan, runs))
    typer.echo(f"report: {write_unused(folder / 'report.html', study_page(plan, data, runs))}")


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
        extra = "cluster" if error.name in ("dask", "distributed", "h5netcdf", "xarray") else "train"
        problem = f"{error.name} is not installed: pip install 'opu-sim[{extra}]'"
    except ValueError as error:
        problem = str(error)
    except MemoryError as error:
        problem = f"not enough memory: {error}"
    except ConnectionError as error:
        problem = str(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    typer.echo(f"opu: {' '.join(problem.split())}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
