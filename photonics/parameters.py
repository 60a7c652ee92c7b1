"""Parameters of a component: type, default, allowed range and unit of each, for docstrings, tables and files."""

import functools
import operator
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from inspect import Signature, cleandoc, signature
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

__all__ = ["UNITS", "Parameter", "parameters_of", "plain_signature", "unit_of", "with_parameters"]

UNITS = {
    "_dn_per_e": "DN/e-",
    "_e_per_s": "e-/s",
    "_db_per_hz": "dB/Hz",
    "_rad": "rad",
    "_waves": "waves",
    "_frames": "frames",
    "_hz": "Hz",
    "_px": "px",
    "_dn": "DN",
    "_e": "e-",
    "_k": "K",
    "_m": "m",
    "_s": "s",
    "_w": "W",
}
"""Units by the ending of a parameter's name."""
MAX_DIGITS = 10
"""Longest default that is written exactly; an angle of 12 degrees is 0.20944."""
SECTION = re.compile(r"^(?:Attributes|Raises|See Also|Notes|References|Examples)\n---", re.MULTILINE)
"""First section of a numpydoc docstring that comes after the parameters."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component."""

    name: str
    kind: str
    """Type in words."""
    default: str | None
    """Default as Python writes it; None for a parameter that must be given."""
    allowed: str
    """Allowed range or values; empty if only the type limits them."""
    unit: str
    """Unit according to the ending of the name; empty if there is none."""
    text: str
    """Meaning, unit and source in one line."""

    @property
    def heading(self) -> str:
        """Name, type, range and default, as the first line of a numpydoc entry."""
        default = [] if self.default is None else [f"default {self.default}"]
        return f"{self.name} : {', '.join(filter(None, [self.kind, self.allowed, *default]))}"


def unit_of(name: str) -> str:
    """Return the unit according to the ending of a name, empty if there is none."""
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def parameters_of(cls: Any) -> list[Parameter]:
    """Parameters of a component class in the order of its fields, without those that are computed."""
    return [
        Parameter(
            name=name,
            kind=type_text(info.annotation),
            default=default_text(info),
            allowed=range_text(info.metadata),
            unit=unit_of(name),
            text=" ".join((info.description or inherited_text(cls, name)).split()),
        )
        for name, info in cls.__pydantic_fields__.items()
        if info.init is not False
    ]


def with_parameters(cls: Any) -> str:
    """Return the docstring of a component class with a section of its parameters before the other sections."""
    text = cleandoc(cls.__doc__ or "")
    entries = [line for parameter in parameters_of(cls) for line in entry(parameter)]
    if not entries:
        return text
    section = "\n".join(["Parameters", "----------", *entries])
    found = SECTION.search(text)
    if found is None:
        return f"{text}\n\n{section}\n"
    return f"{text[: found.start()].rstrip()}\n\n{section}\n\n{text[found.start() :]}"


def entry(parameter: Parameter) -> Iterator[str]:
    """Lines of a parameter in a numpydoc section."""
    yield parameter.heading
    if parameter.text:
        yield textwrap.indent(textwrap.fill(parameter.text, 112, break_on_hyphens=False), "    ")


def plain_signature(cls: type) -> Signature:
    """Signature of a component whose annotations are types alone, without validators."""
    given = signature(cls)
    return given.replace(parameters=[one.replace(annotation=bare(one.annotation)) for one in given.parameters.values()])


def bare(annotation: Any) -> Any:
    """Return an annotation without validators."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return functools.reduce(operator.or_, map(bare, get_args(annotation)))
    return annotation


def inherited_text(cls: type, name: str) -> str:
    """Description of a field in the base class that declares it; empty if there is none."""
    described = (getattr(base, "__pydantic_fields__", {}).get(name) for base in cls.__mro__[1:])
    return next((info.description for info in described if info is not None and info.description), "")


def default_text(info: FieldInfo) -> str | None:
    """Default of a field as Python writes it; None if there is none."""
    if info.default_factory is not None:
        return {dict: "{}", list: "[]", tuple: "()"}.get(info.default_factory, "computed")  # type of an empty value
    if info.default in (PydanticUndefined, MISSING, ...):
        return None
    exact = repr(info.default)
    return f"{info.default:.5g}" if isinstance(info.default, float) and len(exact) > MAX_DIGITS else exact


def type_text(annotation: Any) -> str:
    """Type of a field in words: "float or None", one of several texts in braces."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return type_text(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return " or ".join(type_text(part) for part in get_args(annotation))
    if origin is Literal:
        return "{" + ", ".join(map(repr, get_args(annotation))) + "}"
    if annotation is Any:
        return "array_like"
    if isinstance(annotation, type) and origin is None:
        return "None" if annotation is type(None) else annotation.__name__
    return re.sub(r"\b(?:\w+\.)+", "", str(annotation))


def range_text(metadata: list[Any]) -> str:
    """Allowed range of a number, from the bounds of its field: "1 to 16", "over 0", "0 or more"."""
    bounds = {
        name: getattr(item, name) for item in metadata for name in ("ge", "gt", "le", "lt") if hasattr(item, name)
    }
    low = f"over {bounds['gt']:g}" if "gt" in bounds else f"{bounds['ge']:g}" if "ge" in bounds else ""
    high = f"under {bounds['lt']:g}" if "lt" in bounds else f"{bounds['le']:g}" if "le" in bounds else ""
    if bounds.get("le") == 2**64 - 1:
        high = "2**64 - 1"
    if low and high:
        return f"{low}, at most {high}" if low.startswith("over") else f"{low} to {high}"
    if high:
        return high if high.startswith("under") else f"{high} or less"
    return low if not low or low.startswith("over") else f"{low} or more"
