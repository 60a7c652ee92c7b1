"""A training run as one point of a sweep."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from calibration import measure_projection
from dfa.data import load
from dfa.experiments.networks import BITS
from dfa.experiments.plans import Plan
from dfa.experiments.runs import run_one
from dfa.experiments.tasks import Data, signal_width
from dfa.experiments.teachers import build_device, check_methods
from dfa.robustness.names import planned, units_of_names
from photonics import OPU, presets

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

    Settings are dotted names, see `dfa.robustness.names.planned`: ``training.NAME``, ``encoder.NAME``,
    ``calibration.NAME``, and everything else is a parameter of the device, such as ``camera.read_noise_e``. One more,
    ``training.method``, is the method itself, so that a sweep can hold its own reference. The seed of a point is that
    of weights, order of the data, device and noise.

    Metrics: ``accuracy`` on test and ``validation`` samples (``bits`` per character for text); ``angle`` between the
    hidden blocks' updates and the true gradient; ``nonzero``, the share of codes shown at the end; and for optical
    feedback ``frames`` in all, ``calibration_frames`` among them, ``photons`` on the mean pixel with half the mirrors
    ON, and ``saturated`` and ``snr_db`` of the feedback's last step.

    Parameters
    ----------
    plan : Plan
        What is trained where the settings do not say otherwise. A device from a file is read when the study is made.
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
    device: dict[str, Any] | None = field(init=False, repr=False, default=None)
    """The device that the plan's file describes, if it has one: the study takes it along to where it runs."""

    def __post_init__(self) -> None:
        if presets.is_file(self.plan.device):
            device = OPU.from_toml(Path(self.plan.device).absolute()).to_dict()
            object.__setattr__(self, "device", device)

    @contextmanager
    def point(self, settings: Mapping[str, Any]) -> Iterator[tuple[str, Plan]]:
        """Method and plan of a point, as long as the context lasts: a device is in a file of the plan's own.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of range.
        """
        others = dict(settings)
        method = others.pop("training.method", self.method)
        if presets.is_file(str(others.get("training.device", ""))):
            raise ValueError(
                f"training.device must be a preset, got {others['training.device']!r}: a file may change meanwhile, "
                "and belongs into the study's plan"
            )
        with tempfile.TemporaryDirectory(prefix="opu-device-") as folder:
            plan = self.plan
            if self.device is not None:
                path = Path(folder) / Path(plan.device).name
                path.write_text(toml_of(self.device), encoding="utf-8")
                plan = replace(plan, device=str(path))
            plan = planned(plan, others)
            yield check_methods([method], plan)[0], plan

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise a ``ValueError`` for an unknown name or a value out of range; no device is measured."""
        with self.point(settings):
            pass

    def run(self, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Train, and return the metrics."""
        with self.point(settings) as (method, plan):
            return trained(method, plan, seed)

    def describe(self) -> dict[str, Any]:
        """Method and plan, a device's file by its content."""
        plan = asdict(self.plan)
        if self.device is not None:
            plan["device"] = self.device
        return {"method": self.method, "plan": plan}

    def units(self) -> dict[str, str]:
        """Units of metrics and parameters."""
        text = {"validation": METRICS["bits"]} if self.plan.metric is BITS else {}
        return units_of_names() | METRICS | text


def toml_of(device: Mapping[str, Any]) -> str:
    """A device's description as a file."""
    return "\n".join(f"{name} = {toml(part)}" for name, part in device.items())


def toml(value: Any) -> str:
    """A value of a device's description as its file has it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps("none" if value is None else value, ensure_ascii=False)


def trained(method: str, plan: Plan, seed: int) -> dict[str, float]:
    """Metrics of a training."""
    data = loaded(plan.data)
    run = run_one(method, seed, plan, data)
    metric = plan.metric
    found = {
        "bits" if metric is BITS else "accuracy": metric.factor * run.score,
        "validation": metric.factor * run.validation,
        "angle": run.angle,
        "nonzero": run.nonzero,
    }
    if method != "optical":
        return found
    found |= {"frames": run.frames, "saturated": run.saturated, "snr_db": run.snr_db}
    return found | about_device(plan, data, seed, run.calibrations)


@lru_cache(maxsize=2)
def loaded(name: str) -> Data:
    """A data set, kept between points."""
    return load(name)


def about_device(plan: Plan, data: Data, seed: int, again: int) -> dict[str, float]:
    """Light on the camera, and frames that exposing and `again` + 1 calibrations take: the device is made once more."""
    opu = build_device(plan, data.classes, signal_width(plan, data), seed)
    exposing = opu.clock.frames
    measure_projection(opu, n_inputs=data.classes, **plan.calibration)
    photons = 0.5 * opu.unit_dn / (opu.camera.gain * opu.camera.quantum_efficiency)
    return {"photons": photons, "calibration_frames": exposing + (again + 1) * (opu.clock.frames - exposing)}
