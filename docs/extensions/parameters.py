"""Tables of parameters, made from the fields of the components: name, unit, default, range, meaning and source."""

import importlib
import re
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from docutils import nodes
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dfa.robustness.names import unit_of

__all__ = ["setup", "table_of"]

HEADER = "| name | unit | default | allowed | meaning (source) |\n|---|---|---|---|---|"
LARGEST_SEED = 2**64 - 1
UNITS = {"bit_depth": "bits", "macropixel": "mirrors", "columns": "mirrors", "rows": "mirrors"}
"""Units of the names that do not end with one."""


def table_of(part: type) -> str:
    """Table in Markdown of the fields of a component class."""
    fields: dict[str, FieldInfo] = part.__pydantic_fields__
    rows = [row_of(name, field) for name, field in fields.items() if field.init is not False]
    return "\n".join([HEADER, *rows])


def row_of(name: str, field: FieldInfo) -> str:
    """Row of a field; a field without a default is required."""
    default = "required" if field.is_required() else value_text(field.default)
    text = re.sub(r"``(.*?)``", r"`\1`", " ".join((field.description or "").split()))
    unit = UNITS.get(name, unit_of(name)).replace("e-", "e⁻") or "–"
    cells = [f"`{name}`", unit, default, allowed(field), text]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def value_text(value: Any) -> str:
    """Text of a default; an angle of 12 degrees is 0.2094, not sixteen digits."""
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def allowed(field: FieldInfo) -> str:
    """Range of a number, or the values of a choice."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(map(value_text, get_args(field.annotation)))
    if field.annotation is bool:
        return "True, False"
    bounds = []
    for item in field.metadata:
        for kind, sign, key in ((Ge, "≥", "ge"), (Gt, ">", "gt"), (Le, "≤", "le"), (Lt, "<", "lt")):
            if isinstance(item, kind):
                bound = getattr(item, key)
                bounds.append(f"{sign} {'2⁶⁴ - 1' if bound == LARGEST_SEED else value_text(float(bound))}")
    if type(None) in get_args(field.annotation):
        bounds.append("or None")
    return ", ".join(bounds).replace(", or", " or").removeprefix("or ") or "–"


class Parameters(SphinxDirective):
    """Table of the parameters of the component class that the argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module, _, name = self.arguments[0].rpartition(".")
        return self.parse_text_to_nodes(table_of(getattr(importlib.import_module(module), name)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("parameters", Parameters)
    return {"parallel_read_safe": True}
