"""The public names: what users import, the parameters, and the commands and options of ``opu``.

``python -m tests.public_names > tests/public_names.txt`` writes the list again.
"""

import importlib
import inspect
import sys

from typer.main import get_command

from dfa.cli.main import app

MODULES = (
    "photonics",
    "photonics.medium",
    "photonics.patterns",
    "photonics.presets",
    "calibration",
    "dfa",
    "dfa.costs",
    "dfa.data",
    "dfa.experiments",
    "dfa.models",
    "dfa.robustness",
    "dfa.robustness.tolerances",
)
"""Modules whose ``__all__`` is public. A name that two of them have appears twice."""
SPECIAL = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def names():
    """Every public name with the names of its parameters, one in a line."""
    for module in MODULES:
        made = importlib.import_module(module)
        for name in sorted(made.__all__):
            yield f"{module}.{name}{parameters(getattr(made, name))}"
    for name, command in sorted(get_command(app).commands.items()):
        options = sorted(option for one in command.params for option in one.opts)
        yield " ".join(["opu", name, *options])


def parameters(value):
    """Parameters in brackets; nothing for a value that is not called."""
    if inspect.ismodule(value) or not callable(value):
        return ""
    try:
        found = inspect.signature(value).parameters.values()
    except ValueError:
        return ""
    return f"({', '.join(SPECIAL.get(one.kind, '') + one.name for one in found)})"


if __name__ == "__main__":
    sys.stdout.write("\n".join(names()) + "\n")
