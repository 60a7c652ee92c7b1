"""The gallery: every notebook with the outputs that are stored in it, and a card with its first picture."""

import base64
import json
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

__all__ = ["setup"]

ROOT = Path(__file__).parents[2]
CARD = """:::{{grid-item-card}} {title}
:link: {name}
:link-type: doc
:img-top: thumbnails/{name}.png

{text}
:::
"""
PAGE = """# Notebooks

Each notebook runs in under two minutes on a laptop. The pages show the outputs that are stored in the repository; the
sliders work when you run the notebook yourself:

```sh
pip install -e ".[train,cluster,notebooks]" jupyterlab
jupyter lab notebooks
```

::::{{grid}} 1 2 2 3
:gutter: 3

{cards}
::::

```{{toctree}}
:hidden:

{names}
```
"""


def pictures(notebook: dict) -> list[bytes]:
    """Every PNG that the cells of a notebook show, in order."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return [
        base64.b64decode(output["data"]["image/png"]) for output in outputs if "image/png" in output.get("data", {})
    ]


def opening(notebook: dict) -> tuple[str, str]:
    """Title and first paragraph of a notebook."""
    title, text, *_ = "".join(notebook["cells"][0]["source"]).split("\n\n")
    return title.removeprefix("# "), " ".join(text.split())


def make_gallery(_: Sphinx, config: Config) -> None:
    """Copy the notebooks into the sources of the site, and write the page of cards."""
    folder = ROOT / "docs" / "gallery"
    (folder / "thumbnails").mkdir(parents=True, exist_ok=True)
    cards, names = [], []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        title, paragraph = opening(notebook)
        write(folder / path.name, re.sub(r"\]\(\.\./docs/", "](../", text).encode())
        write(folder / "thumbnails" / f"{path.stem}.png", pictures(notebook)[0])
        cards.append(CARD.format(title=title, name=path.stem, text=paragraph))
        names.append(path.stem)
    write(folder / "index.md", PAGE.format(cards="\n".join(cards), names="\n".join(names)).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file unless it has this content already, so that an unchanged page is not built again."""
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def link_to_gallery(_: Sphinx, name: str, source: list[str]) -> None:
    """Lead links to a notebook, which the repository's host shows in its own folder, to its page in the gallery."""
    source[0] = re.sub(r"\]\(\.\./\.\./notebooks/", "](../gallery/", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the gallery with Sphinx."""
    app.connect("config-inited", make_gallery)
    app.connect("source-read", link_to_gallery)
    return {"parallel_read_safe": True}
