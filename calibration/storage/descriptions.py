"""Descriptions of measurements: nested tables in plain types, compared before a measurement is resumed."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from calibration.storage.files import WrongFile

__all__ = ["Description", "check_same", "flatten", "stamp"]

Description: TypeAlias = Mapping[str, Any]
"""A nested table in plain types: strings, numbers, lists and tables by name."""
ABSENT = "absent"
NOTES = ("device.power_source",)
"""Names of texts that a measurement does not depend on: releases may reword them."""


def check_same(
    path: Path, found: Description, wanted: Description, free: Iterable[str] = (), name: str = "out"
) -> None:
    """Check that a file belongs to the measurement to resume.

    Parameters
    ----------
    path : Path
        The file.
    found, wanted : mapping
        Descriptions of the measurement: in the file, and of the measurement to resume.
    free : iterable of str
        Dotted names whose values may differ, as those of notes always may.
    name : str
        Name of the path in the message.

    Raises
    ------
    WrongFile
        If the descriptions differ; the message names the first difference.
    """
    there, asked = flatten(found), flatten(wanted)
    for key in there | asked:
        was, now = there.get(key, ABSENT), asked.get(key, ABSENT)
        if key not in (*free, *NOTES) and was != now:
            raise WrongFile(
                f"{name} must be a file of this measurement, got {path}, whose {key} is {was!r}, not {now!r}: "
                f"take another {name}, or remove the file"
            )


def stamp() -> dict[str, str]:
    """Date and version of this package, for the provenance of a result."""
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "version": version("opu-sim")}


def flatten(tree: Description, prefix: str = "") -> dict[str, Any]:
    """Values of a nested description by dotted name.

    >>> flatten({"laser": {"power_w": 0.1}, "seed": 0})
    {'laser.power_w': 0.1, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
