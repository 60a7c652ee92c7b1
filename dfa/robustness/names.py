"""Dotted names of parameters in a study of training: the plan that they give, and their units."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from dfa.experiments.plans import Plan
from dfa.feedback.encoding import POLICIES, Ternary
from dfa.sweeps.protocol import Settings
from photonics import medium as media
from photonics.description import NUMBERS, PARTS
from photonics.parameters import unit_of
from photonics.parts.reference import Reference

__all__ = ["change_plan", "unit_of", "units_of_names"]

TABLES = ("encoder", "device_changes", "calibration")
"""Fields of a plan that are tables; each has its own prefix."""
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


def change_plan(plan: Plan, settings: Settings) -> Plan:
    """Return the plan with other parameters.

    Parameters
    ----------
    plan : Plan
        Not modified.
    settings : mapping
        Values by dotted name:

        - ``training.NAME``: a field of the plan (``training.learning_rate``, ``training.hidden``,
          ``training.exposure``, ``training.recalibrate_every`` ...);
        - ``encoder.NAME``: a parameter of `dfa.Ternary`; naming a policy replaces the plan's and its options;
        - ``calibration.NAME``: an argument of `calibration.measure_projection`;
        - any other name: a parameter of the device (``camera.read_noise_e``,
          ``imaging.reference.phase_jitter_rad``, ``exposure_s``), see `photonics.OPU.replace`.
          ``medium.NAME`` is a parameter of the effect that the plan's ``device_changes`` put around the medium, if the
          effect has one of this name.

    Raises
    ------
    ValueError
        If a name is unknown or a value out of range.
    """
    training: dict[str, object] = {}
    encoder: dict[str, Any] = {}
    calibration, device = dict(plan.calibration), dict(plan.device_changes)
    for name, value in settings.items():
        part, _, rest = name.partition(".")
        if part == "training":
            check_name(name, [field.name for field in fields(Plan) if field.name not in TABLES])
            training[rest] = value
        elif part == "encoder":
            check_name(name, [field.name for field in fields(Ternary)])
            encoder[rest] = value
        elif part == "calibration":
            calibration[rest] = value
        elif part == "medium" and rest in effect_parameters(device):
            device["medium"] = {**device["medium"], rest: value}
        else:
            device[name] = value
    if encoder:
        training["encoder"] = change_encoder(plan.encoder or Ternary(), encoder)
    return replace(plan, calibration=calibration, device_changes=device, **training)


def change_encoder(encoder: Ternary, changes: Mapping[str, Any]) -> Ternary:
    """Return the encoder with other parameters; a policy replaces the old one with its options."""
    if changes.keys() & {*POLICIES, "sign"}:
        return Ternary(**{"seed": encoder.seed, **changes})
    return replace(encoder, **changes)


def check_name(name: str, known: list[str]) -> None:
    """Raise a ``ValueError`` if the part of a dotted name after the first dot is not known."""
    prefix, _, rest = name.partition(".")
    if rest not in known:
        raise ValueError(f"{prefix}.NAME must have one of {', '.join(known)} as NAME, got {name}")


def effect_parameters(device: Settings) -> tuple[str, ...]:
    """Return the parameters of the effect that changes of the device put around the medium; none without an effect."""
    effect = device.get("medium")
    kind = media.effects().get(effect.get("type", "")) if isinstance(effect, Mapping) else None
    return media.parameters(kind) if kind is not None else ()


def units_of_names() -> dict[str, str]:
    """Return the unit of every parameter that has one, by its dotted name."""
    names = [f"{part}.{field.name}" for part, kind in PARTS.items() for field in fields(kind)]
    names += [f"imaging.reference.{field.name}" for field in fields(Reference)]
    names += [f"medium.{name}" for kind in media.effects().values() for name in media.parameters(kind)]
    found = {name: unit for name in (*names, *NUMBERS) if (unit := unit_of(name))}
    return found | UNITS
