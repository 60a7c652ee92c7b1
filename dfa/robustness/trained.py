"""A training run as one point of a sweep."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from calibration import measure_projection
from dfa.data import load
from dfa.plans import BITS, Plan
from dfa.robustness.names import planned, units_of_names
from dfa.study import run_one
from dfa.tasks import Data, signal_width
from dfa.teachers import check_methods, training_device
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
        What is trained where the settings do not say otherwise.
    method : str
        One of `dfa.teachers.METHODS`.

    Examples
    --------
    Small, in this process, in a few seconds:

    >>> from dfa import sweep
    >>> from dfa.plans import Plan
    >>> plan = Plan(data="digits", hidden=(32,), epochs=2)
    >>> found = sweep(TrainingStudy(plan), {"camera.read_noise_e": [0.0, 50.0]}, workers=0, progress=False)
    >>> dict(found.accuracy.sizes)
    {'camera.read_noise_e': 2, 'seed': 1}
    """

    plan: Plan = field(default_factory=Plan)
    method: str = "optical"

    def point(self, settings: Mapping[str, Any]) -> tuple[str, Plan]:
        """Return method and plan of a point.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of range.
        """
        others = dict(settings)
        method = others.pop("training.method", self.method)
        plan = planned(self.plan, others)
        return check_methods([method], plan)[0], plan

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise a ``ValueError`` for an unknown name or a value out of range; no device is measured."""
        self.point(settings)

    def run(self, settings: Mapping[str, Any], seed: int) -> dict[str, float]:
        """Train, and return the metrics."""
        method, plan = self.point(settings)
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

    def describe(self) -> dict[str, Any]:
        """Method and plan, a device's file by its content."""
        plan = asdict(self.plan)
        if presets.is_file(self.plan.device):
            plan["device"] = OPU.from_toml(self.plan.device).to_dict()
        return {"method": self.method, "plan": plan}

    def units(self) -> dict[str, str]:
        """Units of metrics and parameters."""
        text = {"validation": METRICS["bits"]} if self.plan.metric is BITS else {}
        return units_of_names() | METRICS | text


@lru_cache(maxsize=2)
def loaded(name: str) -> Data:
    """A data set, kept between points."""
    return load(name)


def about_device(plan: Plan, data: Data, seed: int, again: int) -> dict[str, float]:
    """Light on the camera, and frames that exposing and `again` + 1 calibrations take: the device is made once more."""
    opu = training_device(plan, data.classes, signal_width(plan, data), seed)
    exposing = opu.clock.frames
    measure_projection(opu, n_inputs=data.classes, **plan.calibration)
    photons = 0.5 * opu.unit_dn / (opu.camera.gain * opu.camera.quantum_efficiency)
    return {"photons": photons, "calibration_frames": exposing + (again + 1) * (opu.clock.frames - exposing)}
