"""The same network trained in several ways and with several seeds, and the table that compares them."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from calibration.reports.report import finite
from calibration.storage.files import write_unused
from dfa.data import load
from dfa.experiments.plans import Plan
from dfa.experiments.tasks import Data, Point, first, model_for, signal_width, train_plan
from dfa.experiments.teachers import METHODS, STANDARD, check_methods, feedback, learner_for
from dfa.feedback.base import Feedback
from dfa.feedback.optical import OpticalFeedback

__all__ = ["DEMO", "METHODS", "STANDARD", "Plan", "Run", "feedback", "run_one", "run_study", "summary"]

DEMO = Plan(hidden=(128, 128), epochs=60, batch_size=32, learning_rate=2e-3)
"""What `opu demo` trains on digits; rate and length were chosen on the validation samples."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    method: str
    seed: int
    history: tuple[Point, ...]
    best: int
    """Position in `history` of the point that is reported: the last, or for graphs the best on validation nodes."""
    frames: int = 0
    """Frames that the device took, calibration included."""
    optical_s: float = 0.0
    """What they would have taken on the real device: frames over its frame rate."""
    energy_j: float = 0.0
    """That time at the device's electrical power."""
    nonzero: float = math.nan
    """Share of the codes that are not zero, over all rows of the error."""
    saturated: float = math.nan
    """Share of the feedback's values that a saturated pixel made wrong."""
    snr_db: float = math.nan
    """Power of the optical feedback over the expected variance of its noise."""
    calibrations: int = 0
    """How often the projection was measured again."""

    @property
    def score(self) -> float:
        """Share of test samples that are classified rightly, or bits per character: see `Plan.metric`."""
        return self.history[self.best].test

    @property
    def validation(self) -> float:
        """The same on the validation part: for choices."""
        return self.history[self.best].validation

    @property
    def angle(self) -> float:
        """Angle of the hidden blocks' updates where it was last measured, mean in degrees; NaN if it never was."""
        known = [point.angles for point in self.history if len(point.angles) > 1]
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
    signals: Feedback | None = None,
) -> Run:
    """Train the network once.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    seed : int
        Weights, order of the data, dropout, feedback, device and its noise are functions of it.
    plan : Plan
        All else.
    data : Dataset, Graph or Text, optional
        The plan's data, if it is loaded already.
    folder : Path, optional
        For checkpoint and metrics, in a folder of its own there; with `resume` the run goes on from it.
    progress : bool
        Show a progress bar.
    tensorboard : bool
        Write events there, too.
    signals : Feedback, optional
        What `feedback` built for this method, plan and seed, if it has been built already.

    Raises
    ------
    ValueError
        If the method is unknown, data or device do not fit, or the run diverges.
    """
    check_methods([method], plan)
    data = first(load(plan.data) if data is None else data, plan.samples)
    model = model_for(method, plan, data, seed)
    learner = learner_for(method, plan, model, data, seed, signal_width(plan, data), signals)
    signals = learner.feedback if learner else None
    opu = signals.projection.opu if isinstance(signals, OpticalFeedback) else None
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
        settings=fixed(method, plan) | {"device": opu and opu.to_dict()},
    )
    run = Run(
        method, seed, tuple(history), best, nonzero=statistic(signals, "nonzero") if encoded(method) else math.nan
    )
    if opu is None:
        return run
    seconds = opu.clock.frames * opu.frame_period_s
    return replace(
        run,
        frames=opu.clock.frames,
        optical_s=seconds,
        energy_j=seconds * opu.electrical_power_w,
        saturated=statistic(signals, "saturated"),
        snr_db=statistic(signals, "snr_db"),
        calibrations=signals.calibrations,
    )


def encoded(method: str) -> bool:
    """Whether a method encodes the error."""
    return method in ("ternary", "optical")


def statistic(signals: Any, name: str) -> float:
    """A figure of the feedback's last step; NaN if it has none."""
    return signals.statistics().get(name, math.nan)


def fixed(method: str, plan: Plan) -> dict[str, Any]:
    """What of a plan must not change when a run goes on: all but its length, and what the method does not use."""
    settings = asdict(plan)
    del settings["epochs"], settings["steps"]
    if method != "optical":
        for name in ("device", "inputs", "device_changes", "exposure", "calibration", "recalibrate_every"):
            del settings[name]
    if not encoded(method):
        del settings["encoder"]
    return {"method": method, "plan": settings}


def run_study(
    plan: Plan,
    data: Data,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = True,
    tensorboard: bool = False,
) -> list[Run]:
    """Train with every method and seed; with a folder, keep checkpoints, metrics and ``results.json`` there.

    Raises
    ------
    ValueError
        If a method is unknown, the folder cannot be written, or a run diverges.
    """
    methods = check_methods(list(methods), plan)
    ready: dict[tuple[str, int], Feedback | None] = {}
    if "optical" in methods and seeds:  # built now, so that a device that does not fit is found before the first run
        ready["optical", seeds[0]] = feedback("optical", plan, data, seeds[0], signal_width(plan, data))
    keeping = folder, resume, progress, tensorboard
    runs = []
    for method, seed in product(methods, seeds):
        runs.append(run_one(method, seed, plan, data, *keeping, signals=ready.pop((method, seed), None)))
    if folder is not None:
        about = {"version": version("opu-sim"), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        document = about | {"plan": asdict(plan), "metric": asdict(plan.metric), "runs": [asdict(run) for run in runs]}
        write_unused(folder / "results.json", json.dumps(finite(document), indent=1))
    return runs


def summary(plan: Plan, runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table: one row for each method, mean and standard deviation over seeds."""
    metric = plan.metric
    columns = [f"{metric.name} {metric.unit}".removesuffix(" bits"), "angle", "frames", "optical time", "energy"]
    rows = []
    for method in dict.fromkeys(run.method for run in runs):
        group = [run for run in runs if run.method == method]
        row = [METHODS[method], spread([metric.factor * run.score for run in group], 2)]
        row.append("–" if math.isnan(group[0].angle) else f"{statistics.fmean(run.angle for run in group):.0f}°")
        frames = statistics.fmean(run.frames for run in group)
        seconds = statistics.fmean(run.optical_s for run in group)
        energy = statistics.fmean(run.energy_j for run in group)
        row += [f"{frames:,.0f}", f"{seconds:,.1f} s", f"{energy:,.0f} J"] if frames else ["–", "–", "–"]
        rows.append(row)
    return ["method", *columns], rows


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
