"""Components: frozen dataclasses with checked fields and one-line errors; and checks of single arguments."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import MISSING, fields, is_dataclass
from dataclasses import Field as DataclassField
from types import MappingProxyType
from typing import Annotated, Any, SupportsIndex, TypeAlias, TypeVar, cast, dataclass_transform, get_args, overload

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from photonics.parameters import parameters_of, plain_signature, with_parameters

__all__ = [
    "Field", "Integer", "OptionalInteger", "Seed", "changed", "choose", "component", "documentation", "integer",
    "number",
]  # fmt: skip

T = TypeVar("T", bound=type)
V = TypeVar("V")
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, use_attribute_docstrings=True)
NUMERIC = {int, float, type(None)}
QUOTE = "'"


def as_integer(value: object) -> object:
    """Return an integer of any library as an int, and anything else unchanged, for the validator to reject."""
    if isinstance(value, bool):
        return value
    try:
        return operator.index(cast(Any, value))
    except TypeError:
        return value


Integer: TypeAlias = Annotated[int, Strict(), BeforeValidator(as_integer)]
"""An integer of Python or numpy; floats such as 4.0 are rejected."""
OptionalInteger: TypeAlias = Annotated[Annotated[int, Strict()] | None, BeforeValidator(as_integer)]
"""An `Integer` or None."""
Seed: TypeAlias = Annotated[int, Strict(), Field(ge=0, le=2**64 - 1), BeforeValidator(as_integer)]
"""A seed: an integer of Python or numpy from 0 to 2**64 - 1, kept exactly."""


@overload
def component(cls: T, /) -> T: ...


@overload
def component(*, kw_only: bool = True, eq: bool = True) -> Callable[[T], T]: ...


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(Field,))
def component(cls: Any = None, /, *, kw_only: bool = True, eq: bool = True) -> Any:
    """Turn an annotated class into a frozen dataclass whose fields are validated.

    Parameters
    ----------
    cls : type
        Class whose fields are annotated and bounded with ``Field(default=..., ge=..., le=...)``.
    kw_only : bool
        Whether fields are given by name only.
    eq : bool
        Whether instances with equal fields are equal; otherwise an instance equals only itself.

    Returns
    -------
    type
        The same class as a pydantic dataclass, whose docstring lists its fields with type, range, default and text, so
        that ``help`` shows them. Constructing it, or ``dataclasses.replace`` on an
        instance, raises a one-line ``ValueError`` that names the field, the bound and the value.
    """
    if cls is None:
        return functools.partial(build, kw_only=kw_only, eq=eq)
    return build(cls, kw_only, eq)


def build(cls: T, kw_only: bool, eq: bool) -> T:
    """Build the dataclass for `component`."""
    checked = dataclass(cls, frozen=True, kw_only=kw_only, eq=eq, config=STRICT)
    validate = checked.__init__
    numeric = {field.name for field in fields(checked) if set(get_args(field.type) or [field.type]) <= NUMERIC}
    flags = {field.name for field in fields(checked) if field.type is bool}
    plain = plain_signature(checked)
    names = [] if kw_only else list(plain.parameters)

    @functools.wraps(validate)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(names):
            raise TypeError(f"{cls.__name__} takes {len(names)} positional arguments, got {len(args)}")
        by_place = dict(zip(names, args, strict=False))
        if twice := by_place.keys() & kwargs.keys():
            raise TypeError(f"{cls.__name__} got {', '.join(sorted(twice))} twice")
        kwargs = by_place | kwargs
        for name, value in kwargs.items():
            # pydantic would read "8" and True as numbers
            if isinstance(value, (str, bool, np.bool_)) and name in numeric:
                raise ValueError(f"{cls.__name__}: {name} must be a valid number, got {value!r}")
            if name in flags and not isinstance(value, (bool, np.bool_)):  # pydantic would read "no" and 1 as booleans
                raise ValueError(f"{cls.__name__}: {name} must be True or False, got {value!r}")
        try:
            validate(self, **kwargs)
        except ValidationError as error:
            raise ValueError(f"{cls.__name__}: {one_line(error, checked)}") from None

    checked.__init__ = __init__
    cast(Any, checked).__signature__ = plain
    checked.__doc__ = with_parameters(checked)
    return cast(T, checked)


def one_line(
    error: ValidationError, cls: type | None, root: str = "", tags: Mapping[str, type] = MappingProxyType({})
) -> str:
    """Describe every problem of a pydantic error in one line, each with its field and value.

    Parameters
    ----------
    error : ValidationError
        Error that pydantic raised.
    cls : type or None
        Class of the validated object, None if only its tag tells.
    root : str
        Name of the validated object, put before the names of its fields.
    tags : mapping of str to type
        Tags of discriminated unions, which pydantic puts between the names of fields, and their classes; the tags are
        left out.
    """
    problems = []
    for item in error.errors(include_url=False):
        kind, given, details = item["type"], item["input"], item.get("ctx", {})
        name = ".".join([root] * bool(root) + [str(part) for part in item["loc"] if part not in tags])
        _, should, rest = item["msg"].partition(" should ")
        text = rest.replace(" after validation", "") if should else f"be {item['msg']}"
        tag = f"{name}.{details.get('discriminator', '').strip(QUOTE)}"
        if kind == "value_error":
            problems.append(item["msg"].removeprefix("Value error, "))
        elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
            known = ", ".join(field_names(cls, item["loc"][:-1], tags))
            problems.append(f"{name} is not a parameter; those are {known}")
        elif kind == "missing":
            problems.append(f"{name} is missing")
        elif kind == "union_tag_not_found":
            problems.append(f"{tag} is missing")
        elif kind == "union_tag_invalid":
            problems.append(f"{tag} must be one of {details['expected_tags'].replace(QUOTE, '')}, got {details['tag']}")
        elif kind in ("model_type", "model_attributes_type", "dataclass_type"):
            problems.append(f"{name} must be a table of parameters, got {brief(given)}")
        else:
            problems.append(f"{name} must {text}, got {brief(given)}")
    return "; ".join(problems)


def field_names(cls: type | None, path: Sequence[object], tags: Mapping[str, type]) -> list[str]:
    """Names of the fields of the object at a path of fields and tags, from an object of class `cls`."""
    for part in path:
        if isinstance(part, str) and part in tags:
            cls = tags[part]
        elif is_dataclass(cls):
            cls = next((cast(type, field.type) for field in fields(cls) if field.name == part), None)
    if isinstance(cls, type) and issubclass(cls, BaseModel):
        return list(cls.model_fields)
    return [field.name for field in fields(cls) if field.init] if is_dataclass(cls) else []


def brief(value: object) -> str:
    """Return a value's text if it is one short line, and its type's name otherwise."""
    text = repr(value)
    return text if len(text) <= 200 and "\n" not in text else f"a value of type {type(value).__name__}"


def changed(instance: Any) -> str:
    """Return a dataclass as a call with only the fields that differ from their defaults, in one short line."""
    given = {field: getattr(instance, field.name) for field in fields(instance) if field.init and field.repr}
    texts = [
        f"{field.name}={shorten(value)}"
        for field, value in given.items()
        if type(value) is not type(default := default_of(field)) or value != default
    ]
    return f"{type(instance).__name__}({', '.join(texts)})"


def default_of(field: "DataclassField[Any]") -> object:
    """Default of a dataclass field; `MISSING` if it has none."""
    default = getattr(field.default, "default", field.default)  # that of pydantic's field
    factory = getattr(field.default, "default_factory", None) or field.default_factory
    return default if factory in (None, MISSING) else factory()


def shorten(value: object) -> str:
    """Return a value's text if it is one short line, and its type and length otherwise."""
    text = changed(value) if is_dataclass(value) else repr(value)
    if len(text) <= 200 and "\n" not in text:
        return text
    return f"<{type(value).__name__} of {len(value)}>" if isinstance(value, Sized) else f"<{type(value).__name__}>"


def documentation(part: object, name: str) -> str:
    """Docstring of a field of a component, in one line."""
    kind = type(part)
    if not is_pydantic_dataclass(kind):
        raise ValueError(f"part must be a component, got {kind.__name__}")
    return next(parameter.text for parameter in parameters_of(kind) if parameter.name == name)


def choose(registry: Mapping[str, V], name: object, argument: str) -> V:
    """Return the entry of a registry.

    Raises
    ------
    ValueError
        If there is no entry of that name; the error names the argument and lists the entries.
    """
    if not isinstance(name, str) or name not in registry:
        raise ValueError(f"{argument} must be one of {', '.join(registry)}, got {name!r}")
    return registry[name]


def integer(value: SupportsIndex, name: str, low: int, high: int | None = None) -> int:
    """Return an integer from `low` to `high` as an int, or raise a ``ValueError`` that names it."""
    try:
        whole = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = low - 1
    if whole < low or (high is not None and whole > high):
        allowed = f"{low} or more" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} must be an integer, {allowed}, got {value!r}")
    return whole


def number(value: object) -> float:
    """Return a real number as a float; return NaN, which is outside every range, for anything else."""
    return float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else float("nan")
