"""BibTeX entries made from CITATION.cff."""

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["bibtex", "setup"]

CITATION = Path(__file__).parents[2] / "CITATION.cff"


def bibtex(text: str) -> str:
    """Entries for the software and for the papers that a citation file refers to."""
    cited = yaml.safe_load(text)
    software = entry("software", "opu-sim", cited | {"year": str(cited["date-released"])[:4]}, "version")
    papers = [
        entry("article", f"{paper['authors'][0]['family-names'].lower()}{paper['year']}", paper)
        for paper in cited["references"]
    ]
    return "\n\n".join([software, *papers])


def entry(kind: str, key: str, work: dict[str, Any], *further: str) -> str:
    """One BibTeX entry; a title in double braces keeps its capitals."""
    names = [author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in work["authors"]]
    authors = " and ".join(f"{{{name}}}" if "," not in name else name for name in names)
    lines = {"author": authors, "title": f"{{{work['title']}}}"}
    lines |= {name: str(work[name]) for name in ("year", *further, "doi", "url") if name in work}
    body = "".join(f",\n  {name} = {{{value}}}" for name, value in lines.items())
    return f"@{kind}{{{key}{body}\n}}"


class Bibtex(SphinxDirective):
    """Literal block with the entries."""

    def run(self) -> list[nodes.Node]:
        """Return the block."""
        self.env.note_dependency(str(CITATION))
        text = bibtex(CITATION.read_text(encoding="utf-8"))
        return [nodes.literal_block(text, text, language="bibtex")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("bibtex", Bibtex)
    return {"parallel_read_safe": True}
