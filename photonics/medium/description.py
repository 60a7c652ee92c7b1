"""Tables that describe media: one model for each type of medium, made from the arguments of its constructor."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model, model_validator
from pydantic.dataclasses import is_pydantic_dataclass

from photonics.component import one_line
from photonics.medium.base import ScatteringMedium
from photonics.medium.drift import Drifting
from photonics.medium.effects import Ballistic, Dispersive, Effect, Lossy, Modes
from photonics.medium.gaussian import GaussianMedium
from photonics.medium.layers import ScatteringLayers
from photonics.medium.matrix import MatrixMedium

__all__ = ["EFFECTS", "MEDIA", "MediumTable", "Table", "build", "from_dict", "plain"]

EFFECTS: dict[str, type[Effect]] = {kind.__name__: kind for kind in (Ballistic, Dispersive, Drifting, Lossy, Modes)}
"""Media around another one, which is described in their entry ``medium``."""
MEDIA: dict[str, Callable[..., ScatteringMedium]] = {
    "GaussianMedium": GaussianMedium,
    "MatrixMedium": MatrixMedium.load,
    "ScatteringLayers": ScatteringLayers,
    **EFFECTS,
}
"""Constructor of a medium, by the ``type`` of its table."""


class Table(BaseModel):
    """A table of parameters: no conversion of types, no unknown names."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _is_in_a_file(cls, table: Any) -> Any:
        if cls.__name__ == "MatrixMedium" and isinstance(table, Mapping) and "path" not in table:
            raise ValueError(
                "medium was an array in memory: save it and use MatrixMedium.load(path) to describe a device"
            )
        return table


def arguments_of(constructor: Callable[..., ScatteringMedium]) -> dict[str, tuple[Any, Any]]:
    """Type and default of each argument of a constructor, with ``...`` for no default."""
    if inspect.isclass(constructor) and is_pydantic_dataclass(constructor):
        return {name: (field.annotation, field) for name, field in constructor.__pydantic_fields__.items()}
    hints = get_type_hints(constructor.__init__ if inspect.isclass(constructor) else constructor)
    arguments = inspect.signature(constructor).parameters.items()
    return {name: (hints[name], ... if a.default is a.empty else a.default) for name, a in arguments}


def model_of(kind: str, constructor: Callable[..., ScatteringMedium]) -> type[Table]:
    """Model of the table of one type of medium: ``type`` and the arguments of its constructor."""
    entries: dict[str, Any] = {"type": (Literal[kind], ...)}
    for name, (hint, default) in arguments_of(constructor).items():
        if hint is ScatteringMedium:
            hint = "MediumTable"
        elif get_origin(hint) is Iterable:
            hint = list[get_args(hint)]
        entries[name] = (hint, default)
    return create_model(kind, __base__=Table, **entries)


MODELS = {kind: model_of(kind, constructor) for kind, constructor in MEDIA.items()}
if TYPE_CHECKING:
    MediumTable: TypeAlias = Table
else:
    MediumTable = Annotated[Union[tuple(MODELS.values())], Field(discriminator="type")]  # noqa: UP007
    """Table of a medium of any type, told apart by ``type``."""
for model in MODELS.values():
    model.model_rebuild(_types_namespace={"MediumTable": MediumTable})
TABLES: TypeAdapter[Table] = TypeAdapter(MediumTable)


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
    """Build the medium that a valid table describes.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    given = {name: getattr(table, name) for name in table.model_fields_set}
    kind = given.pop("type")
    return MEDIA[kind](**{name: build(value) if isinstance(value, Table) else value for name, value in given.items()})


def from_dict(description: Mapping[str, Any]) -> ScatteringMedium:
    """Build a medium from the description that its ``to_dict`` gave.

    Raises
    ------
    ValueError
        If the type is unknown or a parameter is missing, unknown or out of range.
    """
    try:
        return build(TABLES.validate_python(plain(description)))
    except ValidationError as error:
        raise ValueError(one_line(error, "medium", MEDIA)) from None
