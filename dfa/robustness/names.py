"""What a dotted name in a study of training means, the plan that it makes, and its unit."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from dfa.experiments.plans import Plan
from dfa.feedback.encoding import POLICIES, Ternary
from photonics import medium as media
from photonics.description import NUMBERS, PARTS
from photonics.parts.imaging import Imaging

__all__ = ["ending", "planned", "units_of_names"]

TABLES = ("encoder", "device_changes", "calibration")
"""What of a plan is a table of its own, and so has its own prefix."""
UNITS = {
    "camera.bit_depth": "bits",
    "training.hidden": "units",
    "training.inputs": "inputs",
    "dmd.macropixel": "mirrors",
    "training.epochs": "epochs",
    "training.samples": "samples",
    "training.batch_size": "samples",
    "training.recalibrate_every": "steps",
    "medium.correlation_frames": "frames",
}
SUFFIXES = {
    "_dn_per_e": "DN/e-",
    "_e_per_s": "e-/s",
    "_db_per_hz": "dB/Hz",
    "_rad": "rad",
    "_waves": "waves",
    "_frames": "frames",
    "_hz": "Hz",
    "_px": "px",
    "_dn": "DN",
    "_e": "e-",
    "_k": "K",
    "_m": "m",
    "_s": "s",
    "_w": "W",
}
"""Units, by how the house's names end."""


def planned(plan: Plan, settings: Mapping[str, Any]) -> Plan:
    """Return the plan with other parameters.

    Parameters
    ----------
    plan : Plan
        Left as it is.
    settings : mapping
        Values by dotted name:

        - ``training.NAME``: a field of the plan (``training.learning_rate``, ``training.hidden``,
          ``training.exposure``, ``training.recalibrate_every`` ...);
        - ``encoder.NAME``: a parameter of `dfa.Ternary`; naming a policy replaces the plan's;
        - ``calibration.NAME``: an argument of `calibration.measure_projection`;
        - anything else is the device's (``camera.read_noise_e``, ``imaging.reference.phase_jitter_rad``,
          ``exposure_s``), see `dfa.experiments.devices.change_device`; ``medium.NAME`` is first looked for in the
          effect that the plan's ``device_changes`` put around the medium.

    Raises
    ------
    ValueError
        If a name is unknown or a value out of range.
    """
    own: dict[str, Any] = {}
    encoder: dict[str, Any] = {}
    calibration, device = dict(plan.calibration), dict(plan.device_changes)
    for name, value in settings.items():
        part, _, rest = name.partition(".")
        if part == "training":
            own[checked(rest, [f.name for f in fields(Plan) if f.name not in TABLES], name)] = hashable(value)
        elif part == "encoder":
            encoder[checked(rest, [f.name for f in fields(Ternary)], name)] = value
        elif part == "calibration":
            calibration[rest] = value
        elif part == "medium" and rest in effect_parameters(device):
            device["medium"] = {**device["medium"], rest: value}
        else:
            device[name] = value
    if encoder:
        policies = (*POLICIES, "sign")
        clear = dict.fromkeys(POLICIES) | {"sign": False} if encoder.keys() & set(policies) else {}
        own["encoder"] = replace(plan.encoder or Ternary(), **clear | encoder)
    return replace(plan, calibration=calibration, device_changes=device, **own)


def checked(name: str, known: list[str], whole: str) -> str:
    """Return a name that is known, or raise a ``ValueError``."""
    if name not in known:
        raise ValueError(f"{whole} is not a parameter; after {whole.partition('.')[0]} comes one of {', '.join(known)}")
    return name


def hashable(value: Any) -> Any:
    """Return lists as the tuples that a plan has."""
    return tuple(hashable(item) for item in value) if isinstance(value, list) else value


def effect_parameters(device: Mapping[str, Any]) -> tuple[str, ...]:
    """Parameters of the effect that changes of the device put around the medium; none if they put none."""
    effect = device.get("medium")
    kind = media.EFFECTS.get(effect.get("type", "")) if isinstance(effect, Mapping) else None
    return kind.parameters if kind is not None else ()


def units_of_names() -> dict[str, str]:
    """Unit of every parameter that has one, by its dotted name: the house's names end with their unit."""
    names = [f"{part}.{field.name}" for part, kind in PARTS.items() for field in fields(kind)]
    names += [f"imaging.reference.{field.name}" for field in fields(type(Imaging().reference))]
    names += [f"medium.{name}" for kind in media.EFFECTS.values() for name in kind.parameters]
    found = {name: unit for name in (*names, *NUMBERS) if (unit := ending(name))}
    return found | UNITS


def ending(name: str) -> str:
    """Unit that a name ends with, or an empty text."""
    return next((unit for suffix, unit in SUFFIXES.items() if name.endswith(suffix)), "")
