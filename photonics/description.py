"""Descriptions of a device as nested tables, and devices from descriptions."""

import functools
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, get_args

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from photonics import medium as media
from photonics.chain import Chain
from photonics.commented import commented
from photonics.component import Seed, one_line
from photonics.medium.description import MEDIA, Description, Table, build, plain, table_type, wrap
from photonics.parameters import parameters_of
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.parts.reference import Reference

__all__ = [
    "NAMES",
    "NUMBERS",
    "PARTS",
    "arguments",
    "change_parameters",
    "check_names",
    "device_schema",
    "parts_of",
    "read_toml",
    "toml_text",
    "write_toml",
]

PARTS = {"laser": Laser, "dmd": DMD, "imaging": Imaging, "camera": Camera}
NUMBERS = ("seed", "exposure_s", "electrical_power_w", "power_source")
NAMES = (*PARTS, "medium", *NUMBERS)
HEADING = 'A device of opu-sim, read by OPU.from_toml. Entries that are left out take their defaults; "none" is None.'
"""First comment of a TOML file."""

Part: TypeAlias = Laser | DMD | Imaging | Camera | Reference
Device = TypeVar("Device")


def table_of(part: type[Part]) -> BeforeValidator:
    """Validator that constructs a part from its table."""

    def construct(table: object) -> object:
        if not isinstance(table, Mapping):
            return table
        check_nothing_dropped(part, table)
        return part(**table)

    return BeforeValidator(construct)


def check_nothing_dropped(part: type[Part], table: Description) -> None:
    """Raise a ``ValueError`` if a writer of the table has left out the entries that are None.

    TOML has no null, so some writers drop None, and the entry would take a default that is a number. A table that lacks
    such an entry and nothing else but entries that may be None was written like that; a table by hand has few entries.
    """
    missing = [field for field in fields(part) if field.name not in table]
    lost = {field.name: default for field in missing if (default := getattr(part(), field.name)) is not None}
    if lost and all(type(None) in get_args(field.type) for field in missing):
        raise ValueError(
            f'{part.__name__}: {", ".join(lost)} must be a number or "none" in a table of all other parameters, got no '
            f"entry, which would mean {', '.join(map(str, lost.values()))} (TOML has no null: use OPU.to_toml)"
        )


class PartTables(Table):
    """Tables of the parts of a bench, except the medium."""

    laser: Annotated[Laser, table_of(Laser)] = Laser()
    dmd: Annotated[DMD, table_of(DMD)] = DMD()
    imaging: Annotated[Imaging, table_of(Imaging)] = Imaging()
    camera: Annotated[Camera, table_of(Camera)] = Camera()


class DeviceTable(PartTables):
    """Table of a whole device; defaults are those of `photonics.OPU`."""

    medium: Table
    seed: Seed = 0
    exposure_s: float | None = Field(default=None, gt=0)
    electrical_power_w: float = Field(default=40.0, ge=0)
    power_source: str = "not stated"


def device_table() -> type[DeviceTable]:
    """Return the table of a device whose medium is one of those in `photonics.medium.MEDIA` now."""
    return build_device_table(table_type())


@functools.lru_cache(maxsize=1)
def build_device_table(medium: Any) -> type[DeviceTable]:
    """Build the table of a device for this type of the medium's table."""
    return create_model("DeviceTable", __base__=DeviceTable, __doc__=DeviceTable.__doc__, medium=(medium, ...))


class DeviceSchema(GenerateJsonSchema):
    """JSON Schema of a device, in which "none" stands for null too, since TOML has no null."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Schema of a part, with the texts of fields that a base class declares."""
        found = super().dataclass_schema(schema)
        for parameter in parameters_of(schema["cls"]):
            if (entry := found.get("properties", {}).get(parameter.name)) is not None and parameter.text:
                entry.setdefault("description", parameter.text)
        return found

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Schema of a value that may be None."""
        return {"anyOf": [self.generate_inner(schema["schema"]), {"enum": [None, "none"]}]}


def device_schema() -> dict[str, Any]:
    """JSON Schema of a device's description, for editors of TOML and JSON files."""
    return device_table().model_json_schema(schema_generator=DeviceSchema)


def arguments(description: Description) -> dict[str, Any]:
    """Arguments of `photonics.OPU` from a description; "none" stands for None, which TOML does not have.

    Raises
    ------
    ValueError
        If the medium is missing, a name is unknown, or a value is out of range.
    """
    table = validate(device_table(), description)
    given = {name: getattr(table, name) for name in table.model_fields_set}
    return given | {"medium": build(given["medium"])}


def parts_of(description: Description) -> PartTables:
    """Parts of a device's description, except the medium; missing parts take their defaults.

    Raises
    ------
    ValueError
        If a name is unknown, or a value is out of range.
    """
    check_names(description)
    return validate(PartTables, {name: description[name] for name in PARTS if name in description})


Tables = TypeVar("Tables", bound=Table)


def validate(kind: type[Tables], description: Description) -> Tables:
    """Validate a description, or raise a one-line ``ValueError``."""
    try:
        return kind.model_validate(plain(description))
    except ValidationError as error:
        raise ValueError(one_line(error, kind, tags=MEDIA)) from None


def change_parameters(device: Chain, changes: Description) -> dict[str, Any]:
    """Replace changes of parameters, given by dotted names, by the changed parts, and a table of an effect by a medium.

    Raises
    ------
    ValueError
        If there is no such part or parameter, or a medium cannot be described.
    """
    whole = {name: value for name, value in changes.items() if "." not in name}
    dotted = {name: value for name, value in changes.items() if "." in name}
    effect = whole.pop("medium") if isinstance(whole.get("medium"), Mapping) else None
    for name, value in dotted.items():
        part, _, parameter = name.partition(".")
        if part not in (*PARTS, "medium"):
            raise ValueError(f"{name} is not a parameter of the device; parts are {', '.join((*PARTS, 'medium'))}")
        whole[part] = change(whole.get(part, getattr(device, part)), parameter, value)
    if effect is not None:
        whole["medium"] = wrap(whole.get("medium", device.medium), effect)
    return whole


def change(part: Part | media.ScatteringMedium, parameter: str, value: Any) -> Any:
    """Return a part or a medium with one parameter changed, which may be nested (``imaging.reference.noise``)."""
    name, _, rest = parameter.partition(".")
    if isinstance(part, media.ScatteringMedium) and not isinstance(part, media.Effect):
        own = part.to_dict()
        kinds = [kind for kind, effect in media.effects().items() if parameter in media.parameters(effect)]
        if kinds and parameter not in own:
            raise ValueError(
                f"medium.{parameter} must be that of an effect, and the device's own medium has none around it: write "
                f'medium={{"type": "{kinds[0]}", "{parameter}": {value!r}}}'
            )
        return media.from_dict(own | {parameter: value})
    if not is_dataclass(part):
        raise ValueError(f"{parameter} is not a parameter of {part!r}, which is a value and not a part")
    known = [field.name for field in fields(part)]
    if name not in known:
        raise ValueError(f"{name} is not a parameter of {type(part).__name__}; those are {', '.join(known)}")
    return replace(part, **{name: change(getattr(part, name), rest, value) if rest else value})


def read_toml(path: str | Path, build_device: Callable[[dict[str, Any]], Device]) -> Device:
    """Build a device from a TOML file; the ``path`` of a matrix is relative to the file.

    Raises
    ------
    ValueError
        If the file cannot be read, is not TOML, or does not describe a device.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Windows editors write a byte-order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"path must be a readable TOML file, got {path} ({error})") from None
    try:
        return build_device(resolve_paths(tomllib.loads(text), Path(path).parent))
    except RecursionError:
        raise ValueError(f"{path}: tables and lists must not be nested this deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_toml(path: str | Path, description: Description) -> None:
    """Write a new TOML file for `read_toml`; the ``path`` of a matrix becomes absolute.

    The file is written under another name first, so that a partial file never has the name `path`.

    Raises
    ------
    ValueError
        If the file exists or cannot be written, or the description holds a matrix that is not in a file.
    """
    path = Path(path)
    text = toml_text(description, HEADING)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            temporary.write_text(text, encoding="utf-8")
            os.link(temporary, path)  # unlike a rename, this fails if the file exists
    except FileExistsError:
        raise ValueError(f"path must be new, got {path}, which exists: files are never overwritten") from None
    except OSError as error:
        raise ValueError(f"path must be in a writable folder, got {path} ({error.strerror})") from None


def toml_text(description: Description, heading: str = HEADING, folder: Path | None = None) -> str:
    """TOML text of a device for `read_toml`, with a comment on each parameter.

    Parameters
    ----------
    description : mapping
        Result of ``OPU.to_dict``.
    heading : str
        First comment.
    folder : Path, optional
        Folder from which relative paths of matrices start, by default the working directory; they become absolute. With
        ``Path()`` they stay, for a file beside its matrix.

    Raises
    ------
    ValueError
        If the description holds a matrix that is not in a file.
    """
    validate(device_table(), description)
    return commented(replace_null(resolve_paths(description, Path.cwd() if folder is None else folder)), heading)


def resolve_paths(description: Description, folder: Path) -> dict[str, Any]:
    """Return a description in which relative paths of matrices start from a folder, also in nested media."""
    medium = description.get("medium")
    changes: dict[str, Any] = {"medium": resolve_paths(medium, folder)} if isinstance(medium, Mapping) else {}
    if isinstance(description.get("path"), str):
        changes["path"] = str(folder / description["path"])
    return {**description, **changes}


def replace_null(value: Any) -> Any:
    """Replace None by "none" in nested tables."""
    if isinstance(value, Mapping):
        return {key: replace_null(item) for key, item in value.items()}
    return "none" if value is None else value


def check_names(given: Description) -> None:
    """Raise a ``ValueError`` if a name is not one of the device's parts or numbers."""
    for name in given:
        if name not in NAMES:
            raise ValueError(f"{name} is not a part of the device; parts are {', '.join(NAMES)}")
