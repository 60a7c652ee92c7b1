"""Trainings on a device that moves: tasks, ways to read the device, and motions, each as settings of a sweep."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.projections.responses import Projected
from dfa.data import Dataset, load
from dfa.experiments.plans import Plan
from dfa.experiments.runs import run_one
from dfa.experiments.tasks import Data, signal_width
from dfa.experiments.teachers import build_device, build_feedback
from dfa.feedback.encoding import Ternary
from dfa.feedback.optical import OpticalFeedback
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.protocol import Settings
from photonics.arrays import Array, HostArray

__all__ = ["FOLLOWED", "LAST_LAYER", "MOST", "MOTIONS", "TASKS", "TIMES", "UNFOLLOWED", "WAYS", "MovingStudy", "Task"]

LAST_LAYER, UNFOLLOWED = "last layer only", "anchor, not followed"
DEFAULT_CODE = {"encoder.stochastic": 1.0, "encoder.pairs": True, "encoder.restore": True}
REFERENCE = {"calibration.method": "reference-pairs"}
WAYS: dict[str, dict[str, Any]] = {
    LAST_LAYER: {"training.method": "last-layer"},
    UNFOLLOWED: {"training.refresh": False},
    "anchor": {},
    "reference-pairs": REFERENCE,
    "anchor, Ternary()": DEFAULT_CODE,
    "reference-pairs, Ternary()": REFERENCE | DEFAULT_CODE,
    "anchor, measured whole": {"matrix": True},
    "reference, measured whole": REFERENCE | {"matrix": True},
}
"""Settings for each way to read the device. "measured whole" is a rival, see `MatrixFeedback`."""
FOLLOWED = ("anchor", "reference-pairs")


def medium(kind: str = "Drifting", **parameters: float) -> dict[str, Any]:
    """Settings of a device whose medium has an effect around it."""
    return {"medium": {"type": kind, **parameters}}


TIMES = {
    f"{time:.0e}".replace("e+0", "e").replace("e+", "e"): time
    for time in (1e12, 1e7, 1e6, 1e5, 1e4, 3e3, 1e3, 3e2, 1e2)
}
"""Correlation times of the field, frames, by name."""
MOTIONS: dict[str, dict[str, Any]] = {name: medium(correlation_frames=time) for name, time in TIMES.items()} | {
    "still": {},
    "medium warms up": medium(correlation_frames=1e6, warm_up=100.0, warm_up_frames=5000.0),
    "mirrors warm up": {"dmd.warm_up_waves": 0.2, "dmd.warm_up_time_s": 5.0},
    "laser warms up": {"laser.warm_up": 0.3, "laser.warm_up_time_s": 5.0},
    "beam vibrates": {"laser.vibration_rad": 2e-4, "laser.vibration_hz": 50.0},
    "reference vibrates": {"imaging.reference.phase_vibration_rad": 0.3},
    "step": medium("Disturbed", frame=4000, correlation=0.3),
    "speckle creeps": {"imaging.creep_m_per_s": 1e-7},
}
"""Settings of the device for each motion: a medium that drifts, by its correlation time, and other motions."""


class Task(NamedTuple):
    """A network and its data, and the ways that are shown for it."""

    title: str
    plan: Plan
    ways: tuple[str, ...] = (LAST_LAYER, *FOLLOWED)
    motions: tuple[str, ...] = tuple(TIMES)
    two_digits: bool = False
    """Whether two digits beside each other are one of 100 classes."""


def mnist(*hidden: int, **changes: Any) -> Plan:
    """The plan of docs/robustness.md, with changes and with the code of the results that are stored."""
    code = Ternary(deviations=1.0)
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 32, "samples": 5000, "encoder": code}
    return Plan(data="mnist", hidden=hidden, **settings | changes)


CNN = mnist(4, 8, 64, network="cnn", learning_rate=3e-3, encoder=Ternary())
TEXT = Plan(data="tiny-shakespeare", hidden=(64, 64), steps=600, context=32, batch_size=16)
FAST = tuple(name for name in TIMES if name != "1e7")
MOST = tuple(name for name in FAST if name != "1e6")
SMALL, MANY = ("1e12", "1e5", "1e4", "1e3", "3e2"), ("1e12", "1e6", "1e5", "1e4", "1e3")
SLOW = ("1e12", "1e7", "1e6", "1e5", "1e4", "1e3")
TASKS = {
    "mlp-1": Task("MNIST, 784-256-10", mnist(256), tuple(WAYS), FAST),
    "mlp-3": Task("MNIST, 784-256-256-256-10", mnist(256, 256, 256), motions=MOST),
    "cora": Task("Cora, graph network 1433-16-7", Plan(data="cora", encoder=Ternary(threshold=0.2)), motions=MOST),
    "cnn": Task("MNIST, two convolutions", CNN, motions=SMALL),
    "transformer": Task("tiny Shakespeare, transformer", TEXT, motions=SLOW),
    "batch-8": Task("MNIST, 784-256-10, batches of 8", mnist(256, batch_size=8), motions=SMALL),
    "classes-100": Task("two digits of MNIST, 1568-256-100", mnist(256, samples=10_000), motions=MANY, two_digits=True),
    "motions": Task("MNIST, 784-256-10", mnist(256), (LAST_LAYER, UNFOLLOWED, *FOLLOWED), tuple(MOTIONS)[len(TIMES) :]),
}
"""Tasks by name."""


class MatrixFeedback(OpticalFeedback):
    """Shows each class alone in every step, and projects the errors by the matrix that these frames give."""

    def _read(self, array: Array, watch: bool) -> tuple[HostArray, Projected | None]:
        matrix, _ = super()._read(np.eye(self.projection.n_inputs, dtype=np.bool_), False)
        return np.asarray(array, np.float32) @ matrix, None


@lru_cache(maxsize=2)
def load_task(name: str, two_digits: bool) -> Data:
    """Data of a plan, or two neighbours of MNIST side by side as one sample of ``10 first + second``."""
    data = load(name)
    if not two_digits:
        return data
    assert isinstance(data, Dataset)

    def join(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = part
        return torch.cat([x[0::2], x[1::2]], dim=1), 10 * y[0::2] + y[1::2]

    return Dataset("two digits", join(data.train), join(data.validation), join(data.test), classes=100)


@dataclass(frozen=True)
class MovingStudy(TrainingStudy):
    """A training as a point of a sweep: its score, and the frames that it took."""

    two_digits: bool = False
    version: int = 1
    """Part of the key of a point; changed with the code of this file."""

    def point(self, settings: Settings) -> tuple[str, Plan]:
        """Method and plan of a point."""
        return super().point({name: value for name, value in settings.items() if name != "matrix"})

    def run(self, settings: Settings, seed: int) -> dict[str, float]:
        """Train: score, frames in all, frames of a step, calibrations after the first one."""
        method, plan = self.point(settings)
        data = load_task(plan.data, self.two_digits)
        if method != "optical":
            return {"score": plan.metric.factor * run_one(method, seed, plan, data).score}
        opu = build_device(plan, data.classes, signal_width(plan, data), seed)
        exposing = opu.clock.frames
        feedback = build_feedback(method, plan, data, seed, opu)
        calibrating = opu.clock.frames - exposing
        if settings.get("matrix") and isinstance(feedback, OpticalFeedback):
            feedback = MatrixFeedback(feedback.projection, lambda error: error, refresh=plan.refresh)
        run = run_one(method, seed, plan, data, feedback=feedback)
        shown = opu.clock.frames - exposing - (1 + run.calibrations) * calibrating
        return {
            "score": plan.metric.factor * run.score,
            "frames": opu.clock.frames,
            "step_frames": shown / feedback.steps if isinstance(feedback, OpticalFeedback) else 0.0,
            "calibrations": run.calibrations,
        }

    def describe(self) -> dict[str, Any]:
        """Return the plan and the task."""
        return super().describe() | {"two_digits": self.two_digits}

    def units(self) -> dict[str, str]:
        """Return the units of metrics and parameters."""
        return super().units() | {"score": self.plan.metric.unit, "step_frames": "frames", "calibrations": "1"}
