"""Code blocks of README.md and of the pages in docs/.

A comment before a block, which no reader sees, says what the tests do with it:

- ``<!-- file: bench.toml -->`` writes it to a file of this name, beside which the later blocks of the page run;
- ``<!-- test: epochs=40 -> epochs=1; "cuda" -> "cpu" -->`` replaces text, so that the block is quick, or runs
  anywhere;
- ``<!-- test: needs lightning accelerate -->`` runs it only if these libraries, which are no dependency, are installed;
- ``<!-- test: from dask_jobqueue -> from tests.slurm -->`` runs it with a stand-in for such a library;
- ``<!-- test: run -->`` before a block of shell commands runs its ``opu`` lines, which are otherwise only parsed.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
MADE = ("gallery", "api", "commands")
"""Folders of docs/ that a build of the site makes."""
FENCE = re.compile(
    r"(?:^<!-- (?P<kind>test|file): (?P<note>.*?) -->\n)?^```(?P<language>[a-z]*)\n(?P<code>.*?)^```$", re.DOTALL | re.M
)


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    name: str
    language: str
    code: str
    file: str | None
    notes: tuple[str, ...]

    @property
    def run(self):
        """Whether a block of shell commands is run."""
        return "run" in self.notes

    @property
    def needs(self):
        """Libraries that it needs and that are no dependency."""
        return [name for note in self.notes if note.startswith("needs ") for name in note.split()[1:]]

    @property
    def missing(self):
        """Libraries that it needs and that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]

    def reduced(self):
        """The code after the replacements; each must have something to replace."""
        code = self.code
        for old, new in (note.split(" -> ") for note in self.notes if " -> " in note):
            assert old in code, f"{self.name}: nothing to replace: {old}"
            code = code.replace(old, new)
        return code


@cache
def pages():
    """Every page by its name, README first."""
    written = [path for path in sorted((ROOT / "docs").rglob("*.md")) if not set(MADE) & set(path.parts)]
    names = ["_".join(path.relative_to(ROOT / "docs").with_suffix("").parts) for path in written]
    return {"README": ROOT / "README.md"} | dict(zip(names, written, strict=True))


@cache
def blocks(page):
    """Blocks of a page, in order."""
    found = []
    for number, match in enumerate(FENCE.finditer(pages()[page].read_text("utf-8"))):
        note = match["note"] or ""
        notes = tuple(note.split("; ")) if match["kind"] == "test" else ()
        file = note if match["kind"] == "file" else None
        found.append(Block(f"{page}_{number}", match["language"], match["code"], file, notes))
    return tuple(found)


def python_blocks():
    """Python code of every page by the name of its block, without blocks that need a library that is no dependency."""
    found = (block for page in pages() for block in blocks(page) if block.language == "python")
    return {b.name: b.code for b in found if not b.needs and not any(" -> from tests." in note for note in b.notes)}
