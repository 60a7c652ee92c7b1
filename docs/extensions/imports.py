"""Table of the folders of the packages and the folders that they import, read from the syntax trees."""

import ast
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["imported_folders", "setup"]

ROOT = Path(__file__).parents[2]
PACKAGES = ("photonics", "calibration", "dfa")


def imported_folders(package: str) -> dict[str, set[str]]:
    """Folders and single files of a package, and those of the same package that each imports."""
    found: dict[str, set[str]] = {}
    known = {path.stem for path in (ROOT / package).iterdir() if path.is_dir() or path.suffix == ".py"}
    for path in sorted((ROOT / package).rglob("*.py")):
        here = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
                names = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                found.setdefault(here, set()).update({*names} & known - {here})
    return {name: others for name, others in found.items() if name != "__init__"}


class Imports(SphinxDirective):
    """Table of every package."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = ["| package | folder or file | imports |", "|---|---|---|"]
        for package in PACKAGES:
            for name, others in sorted(imported_folders(package).items(), key=lambda item: (len(item[1]), item[0])):
                rows.append(f"| {package} | `{name}` | {', '.join(f'`{other}`' for other in sorted(others)) or '–'} |")
        return self.parse_text_to_nodes("\n".join(rows))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("imports", Imports)
    return {"parallel_read_safe": True}
