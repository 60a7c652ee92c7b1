"""The notebooks as they lie here: in step with their sources, executed, clean. That they run is tested by nbmake."""

import json
import re
import tempfile
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
MOST_BYTES = 600_000
ADVICE = "run `make notebooks`"

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def executed(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_each_notebook_has_its_source():
    """Catches: a notebook that was written by hand, or a source that was never executed."""
    assert SOURCES
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {path.stem for path in SOURCES}


@every_notebook
def test_the_pair_is_in_step(source):
    """Catches: an edit of one of the two."""
    pair = [[(cell.cell_type, cell.source) for cell in n.cells] for n in (jupytext.read(source), executed(source))]
    assert pair[0] == pair[1], ADVICE


@every_notebook
def test_it_was_executed_from_top_to_bottom(source):
    """Catches: cells left out, run in another order, or that failed or warned; no picture."""
    notebook = executed(source)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), ADVICE
    assert not [o for o in outputs(notebook) if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))


@every_notebook
def test_it_is_clean(source):
    """Catches: widgets without a kernel, metadata of an editor, a path of the machine that ran it, too large a file."""
    notebook = executed(source)
    assert set(notebook.metadata) <= {"kernelspec", "jupytext"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in notebook.cells)
    assert not any("widget-view" in kind for output in outputs(notebook) for kind in output.get("data", {}))
    texts = [json.dumps({k: v for k, v in o.get("data", o).items() if k != "image/png"}) for o in outputs(notebook)]
    places = [ROOT, Path.home(), tempfile.gettempdir(), "/home/", "/root/", "/tmp/", "/Users/", "site-packages"]
    assert not re.findall("|".join(re.escape(str(place)) for place in places), " ".join(texts))
    assert source.with_suffix(".ipynb").stat().st_size <= MOST_BYTES
