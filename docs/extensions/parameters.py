"""Tables of parameters, made from the fields of the components: name, unit, default, range, meaning and source."""

import importlib
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from photonics.parameters import Parameter, parameters_of

__all__ = ["setup", "table_of"]

HEADER = "| name | unit | default | allowed | meaning (source) |\n|---|---|---|---|---|"


def table_of(part: type) -> str:
    """Table in Markdown of the fields of a component class."""
    return "\n".join([HEADER, *map(row_of, parameters_of(part))])


def row_of(parameter: Parameter) -> str:
    """Row of a parameter; a default of sixteen digits is rounded to four."""
    default = parameter.default or "required"
    if re.fullmatch(r"0\.\d{6,}", default):
        default = f"{float(default):.4g}"
    text = re.sub(r"``(.*?)``", r"`\1`", parameter.text)
    allowed = parameter.allowed or ("" if parameter.kind == "bool" else parameter.kind)
    cells = [f"`{parameter.name}`", parameter.unit.replace("e-", "e⁻"), default, allowed, text]
    return f"| {' | '.join(escape(cell) or '–' for cell in cells)} |"


def escape(cell: str) -> str:
    """Text of a cell, in which a bar does not end it."""
    return cell.replace("|", "\\|")


class Parameters(SphinxDirective):
    """Table of the parameters of the component class that the argument names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module, _, name = self.arguments[0].rpartition(".")
        part = getattr(importlib.import_module(module), name)
        return [nodes.container("", *self.parse_text_to_nodes(table_of(part)), classes=["parameters"])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("parameters", Parameters)
    return {"parallel_read_safe": True}
