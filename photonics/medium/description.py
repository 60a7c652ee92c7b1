"""The registry of media, and the tables that describe them: one model for each medium, made from its fields."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeAlias, Union, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model, model_validator
from pydantic.dataclasses import is_pydantic_dataclass

from photonics.component import choose, one_line
from photonics.medium.base import ScatteringMedium
from photonics.medium.drift import Disturbed, Drifting
from photonics.medium.effects import Ballistic, Dispersive, Effect, Lossy, Modes
from photonics.medium.gaussian import GaussianMedium
from photonics.medium.layers import ScatteringLayers
from photonics.medium.matrix import MatrixMedium

__all__ = [
    "MEDIA",
    "Description",
    "Table",
    "build",
    "effects",
    "from_dict",
    "parameters",
    "plain",
    "table_type",
    "wrap",
]

Description: TypeAlias = Mapping[str, Any]
"""A table of TOML or JSON."""
MEDIA: dict[str, type[ScatteringMedium]] = {
    "GaussianMedium": GaussianMedium,
    "MatrixMedium": MatrixMedium,
    "ScatteringLayers": ScatteringLayers,
    "Ballistic": Ballistic,
    "Dispersive": Dispersive,
    "Disturbed": Disturbed,
    "Drifting": Drifting,
    "Lossy": Lossy,
    "Modes": Modes,
}
"""Every medium by the ``type`` of its table, which is the name of its class: frozen components, whose fields are the
parameters."""


def effects() -> dict[str, type[Effect]]:
    """Media of `MEDIA` that wrap another medium, given by the entry ``medium`` of their table."""
    return {name: kind for name, kind in MEDIA.items() if issubclass(kind, Effect)}


def parameters(kind: type[ScatteringMedium]) -> tuple[str, ...]:
    """Names of a medium's parameters, without the medium that an effect wraps."""
    return tuple(field.name for field in fields(cast(Any, kind)) if field.init and field.name != "medium")


class Table(BaseModel):
    """A table of parameters: no conversion of types, no unknown names."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _check_in_file(cls, table: Any) -> Any:
        if cls.__name__ == "MatrixMedium" and isinstance(table, Mapping) and "path" not in table:
            raise ValueError(
                "medium was an array in memory: save it and use MatrixMedium.load(path) to describe a device"
            )
        return table


def model_of(name: str, kind: type[ScatteringMedium]) -> type[Table]:
    """Model of the table of one medium: ``type`` and the fields of the medium."""
    if not is_pydantic_dataclass(kind) or kind.__name__ != name:
        raise ValueError(f"MEDIA[{name!r}] must be a component whose class has that name, got {kind!r}")
    entries: dict[str, Any] = {"type": (Literal[name], ...)}
    for parameter, field in kind.__pydantic_fields__.items():
        if field.init is not False and not field.init_var:
            inner = field.annotation is ScatteringMedium
            entries[parameter] = ("MediumTable", ...) if inner else (field.annotation, field)
    return create_model(name, __base__=Table, **entries)


def table_type() -> Any:
    """Type of a medium's table for pydantic: a union of all media in `MEDIA`, whose entry ``type`` selects one."""
    return build_type(tuple(MEDIA.items()))


@functools.lru_cache(maxsize=1)
def build_type(media: tuple[tuple[str, type[ScatteringMedium]], ...]) -> Any:
    """Build the type of `table_type` for these media; `MEDIA` may get more entries later."""
    models = [model_of(name, kind) for name, kind in media]
    union = Annotated[Union[tuple(models)], Field(discriminator="type")]  # noqa: UP007
    for model in models:
        model.model_rebuild(_types_namespace={"MediumTable": union})
    return union


@functools.lru_cache(maxsize=1)
def adapter(table: Any) -> TypeAdapter[Table]:
    """Validator of the tables of this type."""
    return TypeAdapter(table)


def plain(value: Any) -> Any:
    """Return a description with None for "none", which TOML lacks, and with numbers of Python for those of numpy."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return None if isinstance(value, str) and value == "none" else value


def build(table: Table) -> ScatteringMedium:
    """Build the medium described by a valid table.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    given = {name: getattr(table, name) for name in table.model_fields_set}
    make: Callable[..., ScatteringMedium] = MEDIA[given.pop("type")]
    return make(**{name: build(value) if isinstance(value, Table) else value for name, value in given.items()})


def from_dict(description: Description) -> ScatteringMedium:
    """Build a medium from a description made by ``to_dict``.

    Raises
    ------
    ValueError
        If the type is unknown or a parameter is missing, unknown or out of range.
    """
    try:
        return build(adapter(table_type()).validate_python(plain(description)))
    except ValidationError as error:
        raise ValueError(one_line(error, None, "medium", MEDIA)) from None


def wrap(medium: ScatteringMedium, effect: Description) -> ScatteringMedium:
    """Put an effect around a medium, by the effect's table without its entry ``medium``.

    Raises
    ------
    ValueError
        If the type is not that of an effect, or a parameter is missing, unknown or out of range.
    """
    if "medium" in effect:
        raise ValueError(
            "medium.medium must be left out: the effect is put around the device's own medium (photonics.medium."
            "from_dict builds a medium from a whole table)"
        )
    given = {name: value for name, value in plain(effect).items() if name != "type"}
    return choose(effects(), effect.get("type"), "medium.type")(medium, **given)
