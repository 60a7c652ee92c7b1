"""A training run as one point of a sweep."""

from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dfa.data import load
from dfa.experiments.networks import BITS
from dfa.experiments.plans import Plan
from dfa.experiments.runs import Run, run_one
from dfa.experiments.tasks import Data, signal_width
from dfa.experiments.teachers import METHODS, build_device, build_feedback, check_methods
from dfa.robustness.names import change_plan, units_of_names
from dfa.sweeps.protocol import Settings
from photonics import OPU, presets
from photonics.component import choose

__all__ = ["TrainingStudy"]

METRICS = {
    "accuracy": "%",
    "bits": "bits/character",
    "validation": "%",
    "angle": "degrees",
    "nonzero": "1",
    "frames": "frames",
    "calibration_frames": "frames",
    "photons": "photons/pixel",
    "saturated": "1",
    "snr_db": "dB",
}


@dataclass(frozen=True)
class TrainingStudy:
    """Train once for each point: a `Study` for `dfa.sweep`.

    Settings are dotted names, see `dfa.robustness.names.change_plan`: ``training.NAME``, ``encoder.NAME``,
    ``calibration.NAME``, and everything else is a parameter of the device, such as ``camera.read_noise_e``. One more,
    ``training.method``, is the method itself, so that a sweep can contain its own reference. The seed of a point
    determines weights, order of the data, device and noise.

    Metrics: ``accuracy`` on test and ``validation`` samples (``bits`` per character for text); ``angle`` between the
    hidden blocks' updates and the true gradient; ``nonzero``, the share of codes shown at the end; and for optical
    feedback ``frames`` in all, ``calibration_frames`` among them, ``photons`` on the mean pixel with half the mirrors
    ON, and ``saturated`` and ``snr_db`` of the feedback's last step.

    Parameters
    ----------
    plan : Plan
        Plan that the settings of a point change. A device from a file is read when the study is created.
    method : str
        One of `dfa.experiments.teachers.METHODS`.

    Examples
    --------
    Small, in this process, in a few seconds:

    >>> from dfa import sweep
    >>> from dfa.experiments.plans import Plan
    >>> plan = Plan(data="digits", hidden=(32,), epochs=2)
    >>> found = sweep(TrainingStudy(plan), {"camera.read_noise_e": [0.0, 50.0]}, workers=0, progress=False)
    >>> dict(found.accuracy.sizes)
    {'camera.read_noise_e': 2, 'seed': 1}
    """

    plan: Plan = field(default_factory=Plan)
    method: str = "optical"

    def __post_init__(self) -> None:
        if not isinstance(self.plan, Plan):
            raise ValueError(f"plan must be a Plan, got {self.plan!r:.80}")
        choose(METHODS, self.method, "method")
        device = self.plan.device
        if isinstance(device, str) and presets.is_file(device):
            described = OPU.from_toml(Path(device).absolute()).to_dict()
            object.__setattr__(self, "plan", replace(self.plan, device=described))

    def point(self, settings: Settings) -> tuple[str, Plan]:
        """Return method and plan of a point.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of range.
        """
        others = dict(settings)
        method, device = others.pop("training.method", self.method), others.get("training.device")
        if isinstance(device, str) and presets.is_file(device):
            raise ValueError(
                f"training.device must be a preset or a description, got {device!r}: a file may change during the "
                "sweep; name it in the study's plan, which reads it once"
            )
        plan = change_plan(self.plan, others)
        return check_methods([method], plan)[0], plan

    def check(self, settings: Settings) -> None:
        """Raise a ``ValueError`` for an unknown name or a value out of range; no device is measured."""
        self.point(settings)

    def run(self, settings: Settings, seed: int) -> dict[str, float]:
        """Train, and return the metrics."""
        method, plan = self.point(settings)
        data = load_once(plan.data)
        if method == "optical":
            return run_optical(plan, data, seed)
        return scores(plan, run_one(method, seed, plan, data))

    def describe(self) -> dict[str, Any]:
        """Return method and plan; a device from a file is described by its content."""
        return {"method": self.method, "plan": asdict(self.plan)}

    def units(self) -> dict[str, str]:
        """Return the units of metrics and parameters."""
        text = {"validation": METRICS["bits"]} if self.plan.metric is BITS else {}
        return units_of_names() | METRICS | text


@lru_cache(maxsize=2)
def load_once(name: str) -> Data:
    """Load a data set, and keep it for the next point."""
    return load(name)


def run_optical(plan: Plan, data: Data, seed: int) -> dict[str, float]:
    """Train through the device; return the metrics of the run and those of the device.

    Every calibration takes as many frames as the first one.
    """
    opu = build_device(plan, data.classes, signal_width(plan, data), seed)
    exposing = opu.clock.frames
    feedback = build_feedback("optical", plan, data, seed, opu)
    calibrating = opu.clock.frames - exposing
    run = run_one("optical", seed, plan, data, feedback=feedback)
    return scores(plan, run) | {
        "frames": run.frames,
        "saturated": run.saturated,
        "snr_db": run.snr_db,
        "photons": 0.5 * opu.unit_dn / (opu.camera.gain * opu.camera.quantum_efficiency),
        "calibration_frames": exposing + (run.calibrations + 1) * calibrating,
    }


def scores(plan: Plan, run: Run) -> dict[str, float]:
    """Return the metrics that every method has."""
    metric = plan.metric
    return {
        "bits" if metric is BITS else "accuracy": metric.factor * run.score,
        "validation": metric.factor * run.validation,
        "angle": run.angle,
        "nonzero": run.nonzero,
    }
