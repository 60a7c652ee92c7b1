"""``opu demo`` and ``opu train``: networks trained by several methods, compared in a table and a report."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfa.cli.common import (
    Device,
    Json,
    Out,
    Quiet,
    Resume,
    Seeds,
    device_option,
    panel_option,
    print_json,
    print_table,
    read_changes,
    result_option,
    run_folder,
    show_progress,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dfa.experiments import Plan, Run
    from dfa.experiments.tasks import Data
    from dfa.feedback.encoding import Ternary

__all__ = ["demo", "train"]

ranks_option = partial(panel_option, "Several processes (docs/howto/ranks.md)")
training_option = partial(panel_option, "Training")
encoder_option = partial(panel_option, "Encoder of the error (at most one of the first three)")
DataSet = Annotated[
    str,
    typer.Option(
        help="Data: digits, mnist, fashion-mnist, cifar10, cifar100, cora, citeseer, pubmed or tiny-shakespeare."
    ),
]
Network = Annotated[
    str | None,
    typer.Option(help="Network: mlp (default), cnn or norm-cnn for images, gcn for graphs, transformer for text."),
]
Method = Annotated[
    str,
    typer.Option(
        help="Training methods, separated by commas: bp, dfa, ternary, optical, last-layer; all for these five; "
        "separate (DFA with a matrix for each block), alignment (feedback alignment), sign (sign-symmetric), "
        "learned (a matrix fitted behind the device)."
    ),
]
Hidden = Annotated[
    str | None,
    typer.Option(
        help="Widths of the hidden blocks, separated by commas. Default: 1024,1024 (mlp); 16,32,128 (cnn: "
        "channels, then units); 32,64,128,96 (norm-cnn); 16 (gcn); 128,128,128,128 (transformer)."
    ),
]
Epochs = Annotated[int | None, training_option("Epochs. Default: 5 for images (norm-cnn 8), 250 for graphs.", min=1)]
Steps = Annotated[int | None, training_option("Steps on text. Default: 600.", min=1)]
BatchSize = Annotated[int | None, training_option("Batch size. Default: 128 images (norm-cnn 64) or 32 texts.", min=1)]
LearningRate = Annotated[
    float | None, training_option("Adam's learning rate. Default: 0.001; graphs 0.01; text 0.003.")
]
HiddenRate = Annotated[
    float | None,
    training_option(
        "Learning rate of hidden blocks with fixed feedback, relative to --learning-rate. Default: 1; text 0.1."
    ),
]
Samples = Annotated[int | None, training_option("Number of training samples, from the start. Default: all.", min=1)]
Threshold = Annotated[
    float | None, encoder_option("Ternarise the error at this fixed threshold. Default for graphs: 0.2.")
]
Deviations = Annotated[
    float | None,
    encoder_option("Ternarise at this many standard deviations of the batch's error, for tanh units."),
]
Stochastic = Annotated[
    float | None,
    encoder_option("Ternarise at random, without bias for errors up to this value. Default for images and text: 1."),
]
Pairs = Annotated[
    bool,
    encoder_option(
        "With --stochastic: show at most one positive and one negative entry. Default for images and text.",
        "--pairs",
    ),
]
PlanChanges = Annotated[
    list[str] | None,
    device_option(
        "Change a parameter of the device (camera.bit_depth=6), the training (training.context=32), the "
        "encoder (encoder.restore=true) or the calibration (calibration.method=phase-stepping); may be repeated.",
        "--set",
        metavar="NAME=VALUE",
    ),
]
Processes = Annotated[
    int, ranks_option("Processes of this machine that hold the blocks of the network and share the device.", min=1)
]
Replicas = Annotated[
    int, ranks_option("Copies of the network in these processes, which share the rows of each batch.", min=1)
]
MicroBatches = Annotated[int, ranks_option("Parts of a batch that follow each other through the processes.", min=1)]
Tensorboard = Annotated[bool, result_option("Also write the diagnostics as TensorBoard events.", "--tensorboard")]


def demo(
    seeds: Seeds = 3, out: Out = None, resume: Resume = False, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Train a network on handwritten digits by five methods, one of them optical, and write a report."""
    from dfa.data import digits
    from dfa.experiments import DEMO, STANDARD_METHODS, compare_methods

    data = digits()
    with run_folder(out, resume) as folder:
        progress = show_progress(quiet, "dfa.training")
        runs = compare_methods(DEMO, data, STANDARD_METHODS, range(seeds), folder, resume, progress)
        report_runs(DEMO, data, runs, folder, as_json)


def train(
    data: DataSet = "digits",
    network: Network = None,
    method: Method = "optical",
    device: Device = "lab_bench",
    hidden: Hidden = None,
    epochs: Epochs = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    hidden_rate: HiddenRate = None,
    samples: Samples = None,
    threshold: Threshold = None,
    deviations: Deviations = None,
    stochastic: Stochastic = None,
    pairs: Pairs = False,
    change: PlanChanges = None,
    seeds: Seeds = 1,
    ranks: Processes = 1,
    replicas: Replicas = 1,
    micro_batches: MicroBatches = 1,
    out: Out = None,
    resume: Resume = False,
    tensorboard: Tensorboard = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network, by default with optical feedback, and write a report.

    Networks and data sets are prepared ones. Your own, and other activations, need Python: docs/quickstart/train.md.
    """
    from dfa.data import load
    from dfa.experiments import STANDARD_METHODS, Plan, compare_methods
    from dfa.experiments.teachers import check_methods
    from dfa.robustness.names import change_plan

    plan = Plan(
        data=data,
        network=network,
        hidden=None if hidden is None else read_widths(hidden),
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        hidden_rate=hidden_rate,
        samples=samples,
        device=device,
        encoder=build_encoder(threshold, deviations, stochastic, pairs),
    )
    plan = change_plan(plan, read_changes(change or []))
    methods = check_methods(
        list(STANDARD_METHODS) if method == "all" else [one.strip() for one in method.split(",")], plan
    )
    loaded = load(plan.data)
    processes = share_out(plan, loaded, methods, ranks, replicas, micro_batches, tensorboard)
    with run_folder(out, resume) as folder:
        progress = show_progress(quiet, "dfa.training")
        run = None if processes is None else partial(processes, plan, folder)
        runs = compare_methods(plan, loaded, methods, range(seeds), folder, resume, progress, tensorboard, run)
        report_runs(plan, loaded, runs, folder, as_json)


def share_out(
    plan: "Plan",
    data: "Data",
    methods: list[str],
    ranks: int,
    replicas: int,
    micro_batches: int,
    tensorboard: bool,
) -> "Callable[[Plan, Path, str, int], Run] | None":
    """Return a function that trains in several processes; None if one is enough."""
    if ranks == replicas == micro_batches == 1:
        return None
    from dfa.experiments.ranked import Ranks, check_ranks, run_in_ranks

    if tensorboard:
        raise ValueError("tensorboard must be left out with ranks, got it")
    found = Ranks(ranks=ranks, replicas=replicas, micro_batches=micro_batches)
    check_ranks(methods, plan, data, found)
    return partial(run_in_ranks, found)


def read_widths(text: str) -> tuple[int, ...]:
    """Read widths that are separated by commas."""
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise ValueError(f"hidden must be whole numbers separated by commas, got {text!r}") from None


def build_encoder(
    threshold: float | None, deviations: float | None, stochastic: float | None, pairs: bool
) -> "Ternary | None":
    """Build the encoder of the options; None if there are none."""
    from dfa.feedback.encoding import Ternary

    if threshold is None and deviations is None and stochastic is None and not pairs:
        return None
    return Ternary(threshold=threshold, deviations=deviations, stochastic=stochastic, pairs=pairs)


def report_runs(plan: "Plan", data: "Data", runs: "list[Run]", folder: Path, as_json: bool) -> None:
    """Write the report of a comparison; print the table, or JSON."""
    from calibration.storage.files import write_unused
    from dfa.experiments import comparison_page, summary

    page = write_unused(folder / "report.html", comparison_page(plan, data, runs))
    if as_json:
        names = ("method", "seed", "score", "validation", "angle", "frames", "optical_s", "energy_j", "power_source")
        found = [{name: getattr(run, name) for name in names} for run in runs]
        print_json({"metric": plan.metric.name, "runs": found, "folder": folder, "report": page})
        return
    print_table(*summary(plan, runs))
    if power := next((run.power_source for run in runs if run.power_source), ""):
        typer.echo(f"time and energy: the device at its frame rate and {power}")
    typer.echo(f"report: {page}")
