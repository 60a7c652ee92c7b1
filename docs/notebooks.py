"""Execute the notebooks: ``python docs/notebooks.py [01 04 ...]`` makes each .ipynb from its .py (by default of all).

The .py is the source, in jupytext's percent format; the .ipynb has the same cells and what they put out. Sliders are
left out of the stored outputs: without a kernel behind them they show nothing. Full size takes minutes.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT_S = 600


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read a notebook without outputs from its .py; cells are numbered, so that a change is a small difference."""
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


def execute(source: Path) -> Path:
    """Run a notebook from top to bottom in a kernel of its own, and write it beside its source."""
    notebook = read_source(source)
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, store_widget_state=False, record_timing=False, coalesce_streams=True
    )
    client.execute(cwd=str(source.parent))
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)  # the version of Python that happened to run it
    target = source.with_suffix(".ipynb")
    nbformat.write(notebook, target)
    return target


def main(numbers: list[str]) -> None:
    """Execute the notebooks whose names begin so."""
    for source in sorted(FOLDER.glob("[0-9]*.py")):
        if not numbers or source.name.startswith(tuple(numbers)):
            print(f"{execute(source).name} executed")


if __name__ == "__main__":
    main(sys.argv[1:])
