"""The gallery: a card with a picture for every notebook, with the outputs stored in it, and for every example.

The notebooks are not executed. The examples are, because their pictures are stored nowhere; they take some seconds.
"""

import ast
import base64
import json
import re
import runpy
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from sphinx.application import Sphinx
from sphinx.config import Config

__all__ = ["setup", "write"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "gallery"
PAGE = """---
html_theme.sidebar_secondary.remove: true
---

# Gallery

## Notebooks

Each notebook runs in under two minutes on a laptop. The pages show the outputs that are stored in the repository. The
sliders work when you run the notebook yourself:

```sh
pip install -e ".[train,cluster,notebooks]" jupyterlab
jupyter lab notebooks
```

{notebooks}

## Examples

Programs of a page, in the folder `examples`. The files `*.toml` beside them are studies for `opu sweep`.

{examples}

```{{toctree}}
:hidden:

{names}
```
"""
CARDS = "::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{}\n::::"
CARD = """:::{{grid-item-card}} {card.title}
:link: {card.name}
:link-type: doc
:img-top: thumbnails/{card.name}.png

{card.text}
:::
"""
EXAMPLE = """# {card.title}

{card.text}

![The picture that the example makes](thumbnails/{card.name}.png)

```{{literalinclude}} ../../examples/{card.name}.py
:language: python
```
"""


class Card(NamedTuple):
    """A card of the gallery."""

    name: str
    title: str
    text: str


def make_gallery(_: Sphinx, config: Config) -> None:
    """Write the pages of the notebooks and of the examples, and the page of cards."""
    (FOLDER / "thumbnails").mkdir(parents=True, exist_ok=True)
    notebooks = [add_notebook(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    examples = [add_example(path) for path in sorted((ROOT / "examples").glob("*.py"))]
    names = "\n".join(card.name for card in (*notebooks, *examples))
    groups = [CARDS.format("\n".join(CARD.format(card=card) for card in group)) for group in (notebooks, examples)]
    write(FOLDER / "index.md", PAGE.format(notebooks=groups[0], examples=groups[1], names=names).encode())


def add_notebook(path: Path) -> Card:
    """Copy a notebook into the sources of the site, with its first picture apart; return its card."""
    text = path.read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    picture = next(data["image/png"] for data in outputs if "image/png" in data)
    write(FOLDER / path.name, text.replace("](../docs/", "](../").encode())
    write(FOLDER / "thumbnails" / f"{path.stem}.png", base64.b64decode(picture))
    title, paragraph, *_ = "".join(cells[0]["source"]).split("\n\n")
    return Card(path.stem, title.removeprefix("# "), first_sentences(paragraph))


def add_example(path: Path) -> Card:
    """Run an example for its picture, unless there is one that is newer; write its page and return its card."""
    picture = FOLDER / "thumbnails" / f"{path.stem}.png"
    if not picture.exists() or picture.stat().st_mtime < path.stat().st_mtime:
        with mpl.rc_context({"backend": "Agg"}):
            runpy.run_path(str(path), run_name="example")["main"](str(picture))
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    card = Card(path.stem, path.stem.replace("_", " ").capitalize(), first_sentences(about.split("\n\n")[0]))
    write(FOLDER / f"{path.stem}.md", EXAMPLE.format(card=card).encode())
    return card


def first_sentences(paragraph: str, count: int = 2) -> str:
    """First sentences of a paragraph, in one line."""
    return " ".join(re.split(r"(?<=[.?!]) (?=[A-Z])", " ".join(paragraph.split()))[:count])


def write(path: Path, content: bytes) -> None:
    """Write a file unless it has this content already, so that an unchanged page is not built again."""
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def link_to_gallery(_: Sphinx, name: str, source: list[str]) -> None:
    """Lead links to a notebook, which the repository's host shows in its own folder, to its page in the gallery."""
    source[0] = source[0].replace("](../../notebooks/", "](../gallery/")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the gallery with Sphinx."""
    app.connect("config-inited", make_gallery)
    app.connect("source-read", link_to_gallery)
    return {"parallel_read_safe": True}
