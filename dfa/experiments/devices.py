"""Devices of a plan: a description with some parameters changed."""

from collections.abc import Mapping

from photonics import OPU
from photonics import medium as media

__all__ = ["change_device"]


def change_device(opu: OPU, changes: Mapping[str, object]) -> OPU:
    """Return the device with other parameters.

    Parameters
    ----------
    opu : OPU
        Not modified.
    changes : mapping
        Values by dotted name, as for `OPU.replace`. A table for ``medium`` describes an effect, which is put around the
        device's own medium: ``{"medium": {"type": "Drifting", "correlation_frames": 1e5}}``.

    Raises
    ------
    ValueError
        If a name is unknown or a value out of range.
    """
    changes = dict(changes)
    effect = changes.get("medium")
    if isinstance(effect, Mapping):
        if not isinstance(effect.get("type"), str) or effect["type"] not in media.effects():
            raise ValueError(f"medium.type must be one of {', '.join(media.effects())}, got {effect.get('type')!r}")
        inner = {name: value for name, value in changes.items() if name.startswith("medium.")}
        opu = opu.replace(**inner) if inner else opu
        changes = {name: value for name, value in changes.items() if name not in inner}
        changes["medium"] = media.from_dict({**effect, "medium": opu.medium.to_dict()})
    check_effect(opu, changes)
    return opu.replace(**changes) if changes else opu


def check_effect(opu: OPU, changes: Mapping[str, object]) -> None:
    """Raise a ``ValueError`` for a parameter of an effect if the device's medium has no effect around it."""
    known = {name: kind for kind, effect in media.effects().items() for name in media.parameters(effect)}
    for name, value in changes.items():
        part, _, parameter = name.partition(".")
        bare = part == "medium" and not isinstance(opu.medium, media.Effect)
        if bare and parameter in known and parameter not in opu.medium.to_dict():
            raise ValueError(
                f"{name} must be that of an effect around the medium, and this device has none: add one by "
                f'device_changes={{"medium": {{"type": "{known[parameter]}", "{parameter}": {value!r}}}}}'
            )
