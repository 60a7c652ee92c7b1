"""Execute the notebooks: ``python docs/notebooks.py [01 04 ...]`` makes each .ipynb from its .py, by default all.

The .py is the source, in jupytext's percent format. The .ipynb has the same cells and their outputs, except sliders,
which show nothing without a kernel.
"""

import asyncio
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT_S = 600


def read_source(path: Path) -> nbformat.NotebookNode:
    """Read a notebook without outputs from its .py. Cells are numbered, so that a change gives a small difference."""
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", {}
    return notebook


async def run_notebook(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Execute a notebook from top to bottom in a new kernel that works in a folder; return it without sliders."""
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, store_widget_state=False, record_timing=False, coalesce_streams=True
    )
    await client.async_execute(cwd=str(folder))
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.pop("language_info", None)  # holds the version of Python
    return notebook


def main(numbers: list[str]) -> None:
    """Execute the notebooks whose names begin with one of these numbers, and write them beside their sources."""
    for source in sorted(FOLDER.glob("[0-9]*.py")):
        if not numbers or source.name.startswith(tuple(numbers)):
            notebook = asyncio.run(run_notebook(read_source(source), source.parent))
            nbformat.write(notebook, source.with_suffix(".ipynb"))
            print(f"{source.with_suffix('.ipynb').name} executed")


if __name__ == "__main__":
    main(sys.argv[1:])
