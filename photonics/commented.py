"""The TOML text of a device, with type, range, default, unit and source of each parameter in a comment."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import tomli_w

from photonics.medium.description import MEDIA, Description
from photonics.parameters import Parameter, parameters_of
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.parts.reference import Reference

__all__ = ["commented"]

WIDTH = 116
TABLES = {"laser": Laser, "dmd": DMD, "imaging": Imaging, "camera": Camera, "imaging.reference": Reference}
"""Classes of the tables by their dotted names; media are found by their type."""
NUMBERS = {
    "seed": "int, 0 to 2**64 - 1, default 0. Seed of the run: shot, read and intensity noise, drift.",
    "exposure_s": "float, default 4.4e-4 or the longest that the frame rate allows. Exposure of the camera, seconds.",
    "electrical_power_w": "float, 0 or more, default 40. Power that the whole device draws from the wall, watts.",
    "power_source": 'Source of electrical_power_w, in words; default "not stated".',
}
"""What the entries before the first table mean; the parameters of `photonics.OPU`."""


def commented(description: Description, heading: str) -> str:
    """Return the TOML text of a description, with a comment before each entry.

    Parameters
    ----------
    description : mapping
        Result of ``OPU.to_dict``, with "none" for None.
    heading : str
        First comment of the text.
    """
    return "\n".join([*comment(heading), "", *table_lines("", description)]) + "\n"


def table_lines(path: str, table: Description) -> Iterator[str]:
    """Lines of a table and of the tables in it; entries come before tables, as TOML requires."""
    texts = texts_of(path, table)
    if path:
        yield f"[{path}]"
    for name, value in table.items():
        if not isinstance(value, Mapping):
            yield from comment(texts.get(name, ""))
            yield tomli_w.dumps({name: value}).rstrip("\n")
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield ""
            yield from table_lines(f"{path}.{name}".lstrip("."), value)


def texts_of(path: str, table: Description) -> dict[str, str]:
    """Comment of each entry of a table."""
    kind = MEDIA.get(str(table.get("type"))) if path.startswith("medium") else TABLES.get(path)
    if kind is None:
        return {} if path else NUMBERS
    found = {parameter.name: text_of(parameter) for parameter in parameters_of(kind)}
    return found | {"type": f"One of {', '.join(MEDIA)}."}


def text_of(parameter: Parameter) -> str:
    """Type, range, default, and meaning with unit and source."""
    kind = parameter.heading.partition(" : ")[2].replace("None", '"none"').replace("'", '"')
    return f"{kind}. {parameter.text}".rstrip()


def comment(text: Any) -> list[str]:
    """Lines of a comment."""
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)]
