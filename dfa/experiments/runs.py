"""Training runs: a network trained by several methods and with several seeds, and the table that compares them."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from calibration.reports.findings import replace_nonfinite
from calibration.storage.descriptions import stamp
from calibration.storage.files import write_unused
from dfa.data import load
from dfa.experiments.plans import Plan
from dfa.experiments.tasks import Data, build_model, limit_samples, train_plan
from dfa.experiments.teachers import METHODS, OPTICAL, build_feedback, build_learner, check_methods, optical_source
from dfa.feedback.base import Feedback
from dfa.sweeps.sweeping import check_seeds
from dfa.training.epoch import Epoch
from photonics import OPU

__all__ = ["DEMO", "Run", "compare_methods", "complete_run", "run_one", "settings_to_resume", "summary", "uses_encoder"]

DEMO = Plan(hidden=(128, 128), epochs=60, batch_size=32, learning_rate=2e-3)
"""The plan of ``opu demo``, on digits. Learning rate and length were chosen on the validation samples."""


@dataclass(frozen=True)
class Run:
    """The result of one training run."""

    method: str
    seed: int
    history: tuple[Epoch, ...]
    best: int
    """Position in `history` of the point to report: the last one, or for graphs the best on validation nodes."""
    frames: int = 0
    """Frames that the device took, calibration included."""
    optical_s: float = 0.0
    """Time of these frames on the real device, seconds: frames over its frame rate."""
    energy_j: float = 0.0
    """Energy that the real device draws in that time, joules."""
    power_source: str = ""
    """Electrical power of the device and its source, in words; empty without a device."""
    nonzero: float = math.nan
    """Share of the codes of the last step that are not zero, over all rows of the error."""
    saturated: float = math.nan
    """Share of the feedback's values of the last step that a saturated pixel made wrong."""
    snr_db: float = math.nan
    """Power of the optical feedback of the last step over the expected variance of its noise, dB."""
    calibrations: int = 0
    """Number of calibrations after the first one."""

    @property
    def score(self) -> float:
        """Score on the test part: share of correct answers, or bits per character, see `Plan.metric`."""
        return self.history[self.best].test

    @property
    def validation(self) -> float:
        """Score on the validation part. Choose settings by this one."""
        return self.history[self.best].validation

    @property
    def angle(self) -> float:
        """Mean angle of the hidden blocks' updates to the gradient, degrees, last measured; NaN if never measured."""
        known = [list(point.angles.values()) for point in self.history if len(point.angles) > 1]
        return statistics.fmean(known[-1][:-1]) if known else math.nan


def run_one(
    method: str,
    seed: int,
    plan: Plan,
    data: Data | None = None,
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = False,
    tensorboard: bool = False,
    feedback: Feedback | None = None,
) -> Run:
    """Train the network of a plan once.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    seed : int
        Determines weights, order of the data, dropout, feedback, the device and its noise.
    plan : Plan
        All other settings.
    data : Dataset, Graph or Text, optional
        The plan's data, if it is already loaded.
    folder : Path, optional
        Folder for results; checkpoint and metrics are written to its subfolder ``<method>-<seed>``.
    resume : bool
        Continue from the checkpoint there.
    progress : bool
        Show a progress bar.
    tensorboard : bool
        Also write the diagnostics as TensorBoard events.
    feedback : Feedback, optional
        What `build_feedback` returned for this method, plan and seed; built here if not given.

    Raises
    ------
    ValueError
        If the method is unknown, data or device do not fit, or the run diverges.
    """
    check_methods([method], plan)
    data = limit_samples(load(plan.data) if data is None else data, plan.samples)
    model = build_model(method, plan, data, seed)
    feedback = feedback or build_feedback(method, plan, data, seed)
    learner = build_learner(method, plan, model, data, seed, feedback)
    if folder is not None and resume and (folder / f"{method}-{seed}" / "last.json").exists():
        raise ValueError(f"ranks must be given to resume {folder}, a run of several processes, got none")
    source = optical_source(feedback)
    opu = source.projection.opu if source is not None else None
    history, best = train_plan(
        method,
        plan,
        model,
        data,
        learner,
        seed,
        folder=folder and folder / f"{method}-{seed}",
        resume=resume,
        progress=progress,
        tensorboard=tensorboard,
        settings=settings_to_resume(method, plan) | {"device": opu and opu.to_dict()},
    )
    return complete_run(Run(method, seed, tuple(history), best), feedback)


def complete_run(run: Run, feedback: Feedback | None) -> Run:
    """Return a run with the figures of its feedback and of the device."""
    source = optical_source(feedback)
    opu = source.projection.opu if source is not None else None
    if feedback is not None and uses_encoder(run.method):
        run = replace(run, nonzero=feedback.statistics().get("nonzero", math.nan))
    if source is None or not isinstance(opu, OPU):
        return run
    seconds, last = opu.clock.frames * opu.frame_period_s, source.statistics()
    return replace(
        run,
        frames=opu.clock.frames,
        optical_s=seconds,
        energy_j=seconds * opu.electrical_power_w,
        power_source=f"{opu.electrical_power_w:g} W from the wall ({opu.power_source})",
        saturated=last.get("saturated", math.nan),
        snr_db=last.get("snr_db", math.nan),
        calibrations=source.calibrations,
    )


def uses_encoder(method: str) -> bool:
    """Whether a method encodes the error."""
    return method in ("ternary", *OPTICAL)


def settings_to_resume(method: str, plan: Plan) -> dict[str, object]:
    """Settings that must not change when a run is resumed: all but its length and what the method does not use."""
    settings = asdict(plan)
    del settings["epochs"], settings["steps"]
    if method not in OPTICAL:
        for name in ("device", "inputs", "device_changes", "exposure", "calibration", "recalibrate_every"):
            del settings[name]
    if not uses_encoder(method):
        del settings["encoder"]
    if plan.through is None:
        del settings["through"]
    if method != "learned":
        del settings["pixels"], settings["draws"], settings["fit_every"]
    return {"method": method, "plan": settings}


def compare_methods(
    plan: Plan,
    data: Data,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
    run: Callable[[str, int], Run] | None = None,
) -> list[Run]:
    """Train the network of a plan by each method and with each seed.

    Parameters
    ----------
    plan, data
        Settings and data that all runs share.
    methods : sequence of str
        Names in `METHODS`.
    seeds : sequence of int
        One run of each method for each seed.
    folder : Path, optional
        Folder for checkpoints, metrics and ``results.json``.
    resume, progress, tensorboard
        As for `run_one`.
    run : callable, optional
        Trains by a method and with a seed, instead of `run_one` (`dfa.experiments.ranked.run_in_ranks`).

    Returns
    -------
    list of Run
        Methods in their order, seeds in theirs within a method.

    Raises
    ------
    ValueError
        If a method is unknown, a seed occurs twice, the device does not fit, the folder cannot be written, or a run
        diverges.
    """
    methods, seeds = check_methods(list(methods), plan), check_seeds(seeds)
    ready: dict[tuple[str, int], Feedback | None] = {}
    if "optical" in methods and run is None:  # built first: a device that does not fit ends it early
        ready["optical", seeds[0]] = build_feedback("optical", plan, data, seeds[0])
    runs = []
    for method, seed in product(methods, seeds):
        if run is not None:
            runs.append(run(method, seed))
            continue
        feedback = ready.pop((method, seed), None)
        runs.append(run_one(method, seed, plan, data, folder, resume, progress, tensorboard, feedback))
    if folder is not None:
        write_results(plan, runs, folder)
    return runs


def write_results(plan: Plan, runs: Sequence[Run], folder: Path) -> None:
    """Write plan and runs to ``results.json``, or to ``results-2.json`` and so on if that exists."""
    document = {
        **stamp(),
        "plan": asdict(plan),
        "metric": asdict(plan.metric),
        "runs": [asdict(run) for run in runs],
    }
    write_unused(folder / "results.json", json.dumps(replace_nonfinite(document), indent=1))


def summary(plan: Plan, runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table: a row for each method, mean and standard deviation over seeds."""
    metric = plan.metric
    columns = [f"{metric.name} {metric.unit}".removesuffix(" bits"), "angle", "frames", "optical time", "energy"]
    rows = []
    for method in dict.fromkeys(run.method for run in runs):
        group = [run for run in runs if run.method == method]
        row = [METHODS[method], format_mean([metric.factor * run.score for run in group], 2)]
        row.append("–" if math.isnan(group[0].angle) else f"{statistics.fmean(run.angle for run in group):.0f}°")
        frames = statistics.fmean(run.frames for run in group)
        seconds = statistics.fmean(run.optical_s for run in group)
        energy = statistics.fmean(run.energy_j for run in group)
        row += [f"{frames:,.0f}", f"{seconds:,.1f} s", f"{energy:,.0f} J"] if frames else ["–", "–", "–"]
        rows.append(row)
    return ["method", *columns], rows


def format_mean(values: Sequence[float], digits: int) -> str:
    """Mean and, of several values, sample standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
