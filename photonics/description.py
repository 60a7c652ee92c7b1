"""A device in words: the table of its parameters, and the device that a table describes."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from photonics import medium as media
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser

__all__ = ["NAMES", "NUMBERS", "PARTS", "arguments", "check_names", "parts_of", "read_toml", "with_dotted"]

PARTS = {"laser": Laser, "dmd": DMD, "imaging": Imaging, "camera": Camera}
NUMBERS = ("seed", "exposure_s", "electrical_power_w", "power_source")
NAMES = (*PARTS, "medium", *NUMBERS)

Device = TypeVar("Device")


def arguments(description: Mapping[str, Any]) -> dict[str, Any]:
    """Parts and numbers of the device that a table describes; "none" stands for None, which TOML does not have.

    Raises
    ------
    ValueError
        If the medium is missing, a name is unknown, or a value is out of range.
    """
    parts = parts_of(description)
    numbers = {name: description[name] for name in NUMBERS if name in description}
    return {"medium": media.from_dict(description.get("medium", {})), **parts, **numbers}


def parts_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """The parts alone, by name; one that is left out takes its defaults. Raises as `arguments` does."""
    check_names(description)
    for name in (*PARTS, "medium"):
        if not isinstance(description.get(name, {}), Mapping):
            raise ValueError(f"{name} must be a table of parameters, got {description[name]!r}")
    return {name: part(**without_none(description.get(name, {}))) for name, part in PARTS.items()}


def with_dotted(device: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace changes of parameters by their dotted names by the parts that have them.

    Raises
    ------
    ValueError
        If there is no such part or parameter, or a medium cannot be described.
    """
    whole = {name: value for name, value in changes.items() if "." not in name}
    dotted = {name: value for name, value in changes.items() if "." in name}
    for name, value in dotted.items():
        part, _, parameter = name.partition(".")
        if part not in (*PARTS, "medium"):
            raise ValueError(f"{name} is not a parameter of the device; parts are {', '.join((*PARTS, 'medium'))}")
        before = whole.get(part, getattr(device, part))
        whole[part] = (
            changed_medium(before, parameter, value) if part == "medium" else changed(before, parameter, value)
        )
    return whole


def changed(part: Any, parameter: str, value: Any) -> Any:
    """Return a part with a parameter of it, or of a part of it, changed."""
    name, _, rest = parameter.partition(".")
    if name not in {field.name for field in fields(part)}:
        known = ", ".join(field.name for field in fields(part))
        raise ValueError(f"{name} is not a parameter of {type(part).__name__}; those are {known}")
    return replace(part, **{name: changed(getattr(part, name), rest, value) if rest else value})


def changed_medium(medium: media.ScatteringMedium, parameter: str, value: Any) -> media.ScatteringMedium:
    """Return a medium with a parameter changed; ``medium.seed`` is that of the medium inside an effect."""
    name, _, rest = parameter.partition(".")
    if not isinstance(medium, media.Effect):
        return media.from_dict(medium.to_dict() | {parameter: value})
    given = {"medium": medium.medium} | {known: getattr(medium, known) for known in medium.parameters}
    if name not in given:
        raise ValueError(f"{name} is not a parameter of {type(medium).__name__}; those are {', '.join(given)}")
    new = changed_medium(medium.medium, rest, value) if name == "medium" and rest else value
    return type(medium)(**given | {name: new})


def without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """Replace "none" by None, in tables within the table as well."""
    return {
        key: without_none(value) if isinstance(value, Mapping) else None if value == "none" else value
        for key, value in table.items()
    }


def read_toml(path: str | Path, make: Callable[[dict[str, Any]], Device]) -> Device:
    """Make a device of a TOML file; a matrix's ``path`` is relative to the file.

    Raises
    ------
    ValueError
        If the file cannot be read, is not TOML, or does not describe a device.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path must be a readable TOML file, got {path} ({error})") from None
    try:
        description = tomllib.loads(text)
        medium = description.get("medium", {})
        while isinstance(medium, dict):  # effects hold the medium that they wrap
            if isinstance(medium.get("path"), str):
                medium["path"] = str(Path(path).parent / medium["path"])
            medium = medium.get("medium")
        return make(description)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_names(given: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` if a name is not one of the device's parts or numbers."""
    for name in given:
        if name not in NAMES:
            raise ValueError(f"{name} is not a part of the device; parts are {', '.join(NAMES)}")
