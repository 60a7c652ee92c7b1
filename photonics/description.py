"""A device in words: the table of its parameters, and the device that a table describes."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from photonics import medium as media
from photonics.camera import Camera
from photonics.dmd import DMD
from photonics.imaging import Imaging
from photonics.laser import Laser

__all__ = ["NAMES", "NUMBERS", "PARTS", "arguments", "check_names", "read_toml"]

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
    check_names(description)
    for name in (*PARTS, "medium"):
        if not isinstance(description.get(name, {}), Mapping):
            raise ValueError(f"{name} must be a table of parameters, got {description[name]!r}")
    parts = {name: part(**without_none(description.get(name, {}))) for name, part in PARTS.items()}
    numbers = {name: description[name] for name in NUMBERS if name in description}
    return {"medium": media.from_dict(description.get("medium", {})), **parts, **numbers}


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
