"""The reference of the command line, made by typer from the commands themselves."""

from pathlib import Path

import typer
from sphinx.application import Sphinx
from sphinx.config import Config
from typer.cli import get_docs_for_click

from dfa.cli.main import app as commands
from docs.extensions.gallery import write

__all__ = ["setup"]


def make_page(_: Sphinx, config: Config) -> None:
    """Write the page of all commands."""
    folder = Path(__file__).parents[1] / "reference" / "commands"
    folder.mkdir(parents=True, exist_ok=True)
    group = typer.main.get_command(commands)
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), name="opu", title="Command line")
    write(folder / "index.md", (escape_tags(text) + "\n").encode())


def escape_tags(text: str) -> str:
    """Text in which ``<time>`` outside of code is not a tag of HTML."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("<", "\\<") for number, part in enumerate(parts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the page with Sphinx."""
    app.connect("config-inited", make_page)
    return {"parallel_read_safe": True}
