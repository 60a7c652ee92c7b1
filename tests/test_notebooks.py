"""The notebooks agree with their sources, are clean, and have the numbers that the code prints now."""

import asyncio
import json
import re
import tempfile
from pathlib import Path

import jupytext
import nbformat
import pytest

from docs.notebooks import read_source, run_notebook

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
MAX_BYTES = 600_000
ADVICE = "run `make notebooks`"
DRAWN = {
    "04_sweeping_noise": {
        '"read_noise", plan': '"read_noise", plan, values=[0.0, 30.0]',
        '"medium_drift", plan': '"medium_drift", plan, values=[1e9, 1e5]',
        "(20, 200, 2000, 10_000)": "(20, 200)",
        "[: 1 if SMALL else 3]": "[:1]",
        'SMALL else {"most": 16}': 'SMALL else {"seeds": range(2), "most": 4}',
        "ready.run(SEEDS": "ready.run(range(1)",
    }
}
"""Replacements in cells that only draw: their results are not compared. Everything else is executed at full size."""
MACHINE = re.compile(r"\bhere\b|on this computer|trainings.* in \d+ s$|^ +(version|model|measured): ")
"""Lines with times, dates, versions or hashes, which are different in every run."""
NUMBER = re.compile(r"±? *[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")

every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def stored(source):
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def printed(cell):
    """Lines that a cell prints, without those that depend on the machine."""
    text = "".join(output["text"] for output in cell.get("outputs", []) if output.output_type == "stream")
    return [line for line in text.splitlines() if not MACHINE.search(line)]


def assert_same_numbers(found, expected):
    """Lines agree word for word, numbers to 5 % or 2 units of their last digit; processors round differently.

    What follows ± is an estimate from few seeds and is not compared.
    """
    assert [NUMBER.sub("#", line) for line in found] == [NUMBER.sub("#", line) for line in expected], ADVICE
    for line, other in zip(found, expected, strict=True):
        for number, wanted in zip(NUMBER.findall(line), NUMBER.findall(other), strict=True):
            if not number.startswith("±"):
                number, wanted = (text.replace(",", "").strip() for text in (number, wanted))
                digits = len(wanted.partition("e")[0].partition(".")[2])
                limit = max(0.05 * abs(float(wanted)), 2.0 * 10.0**-digits if "e" not in wanted else 0.0)
                assert abs(float(number) - float(wanted)) <= limit, f"{line!r} is {other!r} there: {ADVICE}"


def execute(source):
    """Execute a notebook now, with fewer points in the cells that only draw."""
    notebook = read_source(source)
    for old, new in DRAWN.get(source.stem, {}).items():
        cells = [cell for cell in notebook.cells if old in cell.source]
        assert cells and not any("print(" in cell.source.partition(old)[2] for cell in cells), old
        for cell in cells:
            cell.source = cell.source.replace(old, new)
    return asyncio.run(run_notebook(notebook, source.parent))


def test_each_notebook_has_its_source():
    """Catches: a notebook that was written by hand, or a source that was never executed."""
    assert SOURCES
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == {path.stem for path in SOURCES}


@every_notebook
def test_it_is_its_source_executed_and_clean(source):
    """Catches: an edit of one of the two; cells left out, run in another order, or that failed or warned; no picture.

    Also widgets without a kernel, metadata of an editor, a path of the machine that ran it, too large a file.
    """
    notebook = stored(source)
    pair = [[(cell.cell_type, cell.source) for cell in n.cells] for n in (jupytext.read(source), notebook)]
    assert pair[0] == pair[1], ADVICE
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), ADVICE
    assert not [o for o in outputs(notebook) if o.output_type == "error" or o.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    assert set(notebook.metadata) <= {"kernelspec", "jupytext"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.metadata for cell in notebook.cells)
    assert not any("widget-view" in kind for output in outputs(notebook) for kind in output.get("data", {}))
    texts = [json.dumps({k: v for k, v in o.get("data", o).items() if k != "image/png"}) for o in outputs(notebook)]
    places = [ROOT, Path.home(), tempfile.gettempdir(), "/home/", "/root/", "/tmp/", "/Users/", "site-packages"]
    assert not re.findall("|".join(re.escape(str(place)) for place in places), " ".join(texts))
    assert source.with_suffix(".ipynb").stat().st_size <= MAX_BYTES


@pytest.mark.slow
@every_notebook
def test_its_numbers_are_what_the_code_prints_now(source):
    """Catches: a notebook that no longer runs, and numbers of an earlier version of the code."""
    cells = zip(execute(source).cells, stored(source).cells, strict=True)
    compared = 0
    for now, then in cells:
        assert_same_numbers(printed(now), printed(then))
        compared += sum(len(NUMBER.findall(line)) for line in printed(then))
    assert compared >= 5


def test_other_numbers_are_refused():
    """Catches: a comparison that accepts everything."""
    assert_same_numbers(["loss 0.90 ± 0.1 after 200 steps"], ["loss 0.91 ± 0.3 after 200 steps"])
    for other in ("loss 0.90 after 200 steps", "loss 1.00 ± 0.1 after 200 steps", "loss 0.90 ± 0.1 after 220 steps"):
        with pytest.raises(AssertionError):
            assert_same_numbers(["loss 0.90 ± 0.1 after 200 steps"], [other])
