"""The same network trained in several ways and with several seeds, and the table that compares them."""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from calibration import measure_projection
from calibration.files import write_unused
from calibration.report import finite
from dfa.data import Dataset
from dfa.encoding import Ternary
from dfa.feedback import Feedback, OpticalFeedback, RandomFeedback
from dfa.learning import DirectFeedback
from dfa.models import mlp
from dfa.training import Epoch, check_positive, train
from photonics import OPU, presets

__all__ = ["DEMO", "METHODS", "Plan", "Run", "run_study", "summary", "training_device"]

METHODS = {
    "bp": "backpropagation",
    "dfa": "DFA",
    "ternary": "ternary DFA",
    "optical": "optical DFA",
    "last-layer": "last layer only",
}
SPARE_ROWS = 0.92
"""Share of pixels counted on: 5 % have a dark anchor, and that share varies."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, and how."""

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3
    device: str = "lab_bench"
    """A preset's name, or a TOML file that describes a device."""
    encoder: Ternary = field(default_factory=Ternary)

    def __post_init__(self) -> None:
        # Everything that can be wrong is found before the first run starts.
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be one or more positive numbers, got {self.hidden}")
        check_positive(epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)
        if presets.is_file(self.device):
            OPU.from_toml(self.device)
        else:
            presets.get(self.device)


DEMO = Plan(hidden=(128, 128), epochs=60, batch_size=32, learning_rate=2e-3)
"""What `opu demo` trains on digits; rate and length were chosen on the validation samples."""


@dataclass(frozen=True)
class Run:
    """One training run."""

    method: str
    seed: int
    history: tuple[Epoch, ...]
    frames: int
    """Frames that the device took, calibration included."""
    optical_s: float
    """What they would have taken on the real device: frames over its frame rate."""
    energy_j: float
    """That time at the device's electrical power."""

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last epoch."""
        return self.history[-1].test

    @property
    def angle(self) -> float:
        """Angle of the hidden blocks' updates after the last epoch, mean in degrees; NaN for backpropagation."""
        hidden = self.history[-1].angles[:-1]
        return statistics.fmean(hidden) if hidden else math.nan


def training_device(device: str, classes: int, width: int, seed: int) -> OPU:
    """Make a device for feedback: inputs for the classes and as many for the anchor, pixels for all hidden units.

    A preset is made to that size and exposed; a TOML file is taken as it is, but for the seed of the noise.
    """
    pixels = math.ceil(width / SPARE_ROWS) + 16
    opu = presets.load(device, 2 * classes, pixels, seed)
    if presets.is_file(device):
        opu = opu.replace(seed=seed)
    if opu.n_in <= classes or opu.n_out < pixels:
        raise ValueError(
            f"device {device} must have over {classes} inputs and at least {pixels} pixels for this network, "
            f"got {opu.n_in} and {opu.n_out}"
        )
    return opu


def feedback(method: str, plan: Plan, data: Dataset, seed: int) -> Feedback | None:
    """The source of teaching signals of a method."""
    if method == "dfa":
        return RandomFeedback(seed)
    if method == "ternary":
        return RandomFeedback(seed, plan.encoder)
    if method == "optical":
        opu = training_device(plan.device, data.classes, sum(plan.hidden), seed)
        return OpticalFeedback(measure_projection(opu, n_inputs=data.classes), plan.encoder)
    return None


def run_one(
    method: str, seed: int, plan: Plan, data: Dataset, folder: Path | None, resume: bool, progress: bool
) -> Run:
    """Train the network once."""
    model = mlp([data.features, *plan.hidden, data.classes], seed=seed)
    signals = feedback(method, plan, data, seed)
    opu = signals.projection.opu if isinstance(signals, OpticalFeedback) else None
    learner = None if method == "bp" else DirectFeedback(model, feedback=signals)
    coded = asdict(plan.encoder) if method in ("ternary", "optical") else None
    history = train(
        model,
        data,
        learner,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        seed=seed,
        folder=folder and folder / f"{method}-{seed}",
        resume=resume,
        progress=progress,
        settings={"method": method, "hidden": plan.hidden, "encoder": coded, "device": opu and opu.to_dict()},
    )
    frames = history[-1].frames
    optical_s = frames * opu.frame_period_s if opu else 0.0
    energy_j = optical_s * opu.electrical_power_w if opu else 0.0
    return Run(method, seed, tuple(history), frames, optical_s, energy_j)


def check_methods(methods: Sequence[str]) -> list[str]:
    """Return the methods if all are known, else raise a ``ValueError``."""
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    return list(methods)


def run_study(
    plan: Plan,
    data: Dataset,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> list[Run]:
    """Train with every method and seed; with a folder, keep checkpoints and ``results.json`` there.

    Raises
    ------
    ValueError
        If a method is unknown, the folder cannot be written, or a run diverges.
    """
    if "optical" in methods:
        feedback("optical", plan, data, 0)  # a device that does not fit is found before the first run, not after
    order = [(method, seed) for method in check_methods(methods) for seed in seeds]
    runs = [run_one(method, seed, plan, data, folder, resume, progress) for method, seed in order]
    if folder is not None:
        about = {"version": version("opu-sim"), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        document = about | {"plan": asdict(plan), "data": data.name, "runs": [asdict(run) for run in runs]}
        write_unused(folder / "results.json", json.dumps(finite(document), indent=1))
    return runs


def summary(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table: one row for each method, mean and standard deviation over seeds."""
    columns = ["method", "accuracy %", "angle", "frames", "optical time", "energy"]
    rows = []
    for method in dict.fromkeys(run.method for run in runs):
        group = [run for run in runs if run.method == method]
        row = [METHODS[method], spread([100.0 * run.accuracy for run in group], 2)]
        row.append("–" if math.isnan(group[0].angle) else f"{statistics.fmean(run.angle for run in group):.0f}°")
        frames = statistics.fmean(run.frames for run in group)
        seconds = statistics.fmean(run.optical_s for run in group)
        energy = statistics.fmean(run.energy_j for run in group)
        row += [f"{frames:,.0f}", f"{seconds:,.1f} s", f"{energy:,.0f} J"] if frames else ["–", "–", "–"]
        rows.append(row)
    return columns, rows


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and sample standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
