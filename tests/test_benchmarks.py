"""The benchmarks run and report their results. Nothing here depends on the speed of the machine."""

import json
import math
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import gpu, gpu_rows, moving_rows, repeated, report, suite, twin, twin_training, verdicts
from benchmarks.child import call_in_new_process
from benchmarks.moving import PUT, run_task
from benchmarks.moving_cases import LAST_LAYER, TASKS
from benchmarks.moving_rows import RESULTS, load_rows, save_rows, tables
from benchmarks.row import Row
from benchmarks.verdict_devices import faulty, sound
from dfa.cli import main as cli
from tests.command import opu, refused
from tests.transient import transient

FIELDS = {"name", "unit", "values", "ratio", "target", "note", "benchmark", "met"}


def test_a_quick_run_writes_every_requested_row(capfd, tmp_path, monkeypatch):
    """From another folder, with something else called benchmarks in it.

    Catches: a process that imports from the user's folder, several threads, a verdict at other sizes than those of the
    bound, a benchmark that was not requested.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks.py").write_text("raise RuntimeError")
    assert opu("bench", "--quick", "--only", "layers", "--only", "camera", "--out", "new/x.json") == 0
    content = json.loads((tmp_path / "new" / "x.json").read_text())
    assert content["quick"] is True
    assert content["machine"]["blas"]
    assert {"python", "numpy", "numba"} <= set(content["versions"])
    rows = content["rows"]
    assert len(rows) == 7
    for row in rows:
        assert set(row) == FIELDS
        assert row["name"].startswith(("scattering layers", "camera"))
        assert row["name"].endswith("(quick)")
        assert row["target"] is row["met"] is None
        numbers = [row["ratio"], *row["values"].values()]
        assert all(math.isfinite(number) and number > 0 for number in numbers), row
        assert row["unit"]
    assert "camera, 16 x 4096 pixels" in " ".join(capfd.readouterr().out.split())


def test_runs_become_narrow_tables_with_every_row(capsys, tmp_path):
    """Median, least and largest ratio, what names share in the title, and what was not measured.

    Catches: rows that only some runs have, a run without a library.
    """
    page, paths = tmp_path / "page.md", []
    for k, ratio in enumerate((0.7, 0.9, 0.8)):
        rows = [Row(name=f"camera, mean {m}: x", values={"a": m}, ratio=ratio, target=">= 0.75") for m in (3, 30)]
        rows.append(Row(name="peer: needs it", benchmark="peer", note="needs it"))
        rows += [Row(name="late, quick: y", benchmark="late", ratio=1.0)] * (k == 2)
        paths.append(tmp_path / f"{k}.json")
        report.write(paths[-1], rows)
    repeated.main([*map(str, paths), "--out", str(page)])
    text = page.read_text()
    assert text.count("| what | measured | ratio | target |") == 3
    assert "**camera: x**" in text
    assert "| mean 30 | 30 | 0.8 (0.7 – 0.9) | >= 0.75, met |" in text
    assert "| needs it | not measured: needs it | - | - |" in text
    assert "**late, quick**" in text
    repeated.main([*map(str, paths), "--out", str(page)])
    assert page.read_text() == text


def test_only_is_checked_before_anything_is_done(capfd, tmp_path, monkeypatch):
    """Catches: a folder for results that is created before the names are checked; the usage of argparse."""
    monkeypatch.chdir(tmp_path)
    assert "'cameras'" in refused(capfd, "bench", "--only", "camera", "--only", "cameras")
    assert not list(tmp_path.iterdir())


def test_an_installed_package_has_no_benchmarks(capfd, tmp_path, monkeypatch):
    """Catches: Python's own message about a missing module."""
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "dfa" / "cli.py"))
    assert "runs from a checkout" in refused(capfd, "bench")


@pytest.mark.parametrize(
    ("target", "ratio", "met"),
    [
        (">= 0.75", 0.75, True),
        (">= 0.75", 0.7499, False),
        ("<= 1.3", 1.3, True),
        ("<= 1.3", 1.31, False),
        (None, 1.0, None),
        ("<= 1", None, None),
    ],
)
def test_a_verdict_compares_with_the_bound(target, ratio, met):
    """Catches: < in place of <=, upper and lower bounds exchanged, a verdict without a measurement."""
    row = Row(name="x", ratio=ratio, target=target, note="no camera")
    assert row.met is met
    assert row.to_dict()["met"] is met
    shown = {True: "met", False: "missed", None: "-" if ratio else "no camera"}
    assert row.cells()[-1] == shown[met]


def test_a_benchmark_that_breaks_is_a_row_and_an_exit_code(tmp_path, monkeypatch, capsys):
    """Catches: rows of other benchmarks that are lost; exit code 0."""
    monkeypatch.setattr(suite, "NAMES", ("absent",))
    assert suite.main(["--out", str(tmp_path / "x.json")]) == 1
    (row,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert row["note"].startswith("failed: ")
    assert row["ratio"] is None
    assert "Traceback" in capsys.readouterr().err


def test_peak_memory_is_that_of_the_call():
    """To within 5 MB, since Linux counts pages in batches for each thread.

    Catches: memory held at the end in place of the peak; ru_maxrss, in which a child inherits its parent's peak.
    """
    ballast = np.ones(3 * 10**8, np.uint8)
    small, large = (call_in_new_process(transient, megabytes)["peak_mb"] for megabytes in (20, 100))
    assert ballast[-1] == 1
    assert 95 <= large <= 105
    assert 75 <= large - small <= 85


def test_a_failed_child_reports_its_error():
    """Catches: an empty result in place of an error."""
    with pytest.raises(RuntimeError, match=r"sqrt: .*must be real number"):
        call_in_new_process(math.sqrt, None)


WORKER = """
import sys, time
for name in sys.argv[3:]:
    if name == "crash":
        sys.exit(7)
    if name == "hang":
        time.sleep(60)
    print('row {"name": "%s", "ratio": 1.0, "note": "a card"}' % name, flush=True)
    print("end", name, flush=True)
    if name == "error":
        sys.exit(1)
"""


def test_steps_on_a_gpu_that_fail_or_hang_lose_no_others(tmp_path, monkeypatch):
    """Each row is kept when it is there. Catches: rows lost with a crash, a step that is skipped, no end in time."""
    (tmp_path / "worker.py").write_text(WORKER)
    assert list(gpu_rows.ROWS) == list(gpu.STEPS)
    monkeypatch.setattr(gpu, "WORKER", [sys.executable, str(tmp_path / "worker.py")])
    monkeypatch.setattr(gpu, "STEPS", dict.fromkeys(["a", "crash", "error", "b", "hang", "c"], 1.0))
    out, page, start = tmp_path / "x.json", tmp_path / "page.md", time.monotonic()
    assert gpu.main(["--rehearse", "--out", str(out), "--page", str(page), "--seconds", "3"]) == 1
    assert time.monotonic() - start < 20
    rows = json.loads(out.read_text())["rows"]
    assert [row["name"] for row in rows] == ["a", "GPU: crash", "error", "b", "GPU: hang", "GPU: c"]
    assert [row["note"] for row in rows if row["note"] != "a card"] == [
        "failed: exit code 7",
        *["not measured: no time"] * 2,
    ]
    assert page.read_text().startswith("\n<!-- benchmarks.gpu -->\na card: 1 run of ")
    assert "not measured: no time |" in page.read_text()
    assert "| error | - | 1 | - |\n" in page.read_text()


def test_without_a_gpu_the_suite_is_an_error(tmp_path, monkeypatch, capsys):
    """Catches: tests that are run, and a file that is written, without a GPU."""

    def find_backend(device):
        raise ValueError(f"device must be one of 0 GPUs, got {device!r}")

    monkeypatch.setattr(gpu, "find_backend", find_backend)
    monkeypatch.setattr(gpu, "run_tests", lambda: pytest.fail("ran"))
    assert report.run(gpu.main, ["--out", str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err == "opu: device must be one of 0 GPUs, got 'cuda'\n"
    assert report.run(gpu.main, ["--fast"]) == 2
    assert capsys.readouterr().err == "opu: unrecognized arguments: --fast\n"
    assert not list(tmp_path.iterdir())


def test_verdicts_of_sound_and_faulty_devices():
    """A tally counts a pass, a fault, and a refusal. Catches: a refused device that is counted as a pass."""
    tally = verdicts.Tally("some")
    for name in ("two inputs swapped", "PRNU of 5 %, 1 % by the data sheet"):
        tally.judge(faulty(name, 0), 0)
    case = faulty("two inputs swapped", 0)
    tally.judge(case._replace(matrix="popoff", device=case.device.real.replace(**{"camera.bit_depth": 1})), 0)
    assert tally.cells()[1:5] == ["3", "1", "0", "2"]
    assert "camera, PRNU (1)" in tally.cells()[5]
    assert [sound(seed).method for seed in range(4)] == ["anchor", "phase-stepping", "off-axis", "multilateration"]


def test_rows_of_a_moving_device_are_kept_and_missing_ones_are_named(tmp_path):
    """A task is trained in one way, then in another; the file has both.

    Catches: results that are lost when one row is renewed; a row without a run that looks like a result.
    """
    small = replace(TASKS["mlp-1"].plan, data="digits", hidden=(16,), epochs=1, samples=64)
    task, store, out = TASKS["mlp-1"]._replace(plan=small), tmp_path / "points.db", tmp_path / "rows.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "mlp-1", task)
        for way in ("anchor", LAST_LAYER):
            save_rows(run_task("mlp-1", [way], ["1e12", "1e3"], 1, store, 0), out)
    rows = load_rows(out)
    assert [(row.way, row.motion, len(row.score)) for row in rows] == [
        ("anchor", "1e12", 1), ("anchor", "1e3", 1), (LAST_LAYER, "1e12", 1)
    ]  # fmt: skip
    assert min(rows[0].frames) > 64 >= min(rows[0].step_frames) > 0
    text = tables(rows)["followed"]
    assert text.count("\n") == 3 and text.count("not run") == 5


def test_tables_of_a_moving_device_name_the_worst_motion():
    """Scores by seed that were made up; lower is better in bits. The page has the tables of the stored results.

    Catches: a difference that is not paired by seed, the sign of a loss, a page that was not renewed.
    """

    def row(task, way, motion, *scores):
        return moving_rows.Row(task=task, way=way, motion=motion, score=scores, step_frames=[9.0, 10.0])

    rows = [row("mlp-1", LAST_LAYER, "1e12", 70.0, 80.0), row("transformer", LAST_LAYER, "1e12", 4.0)]
    rows += [row("mlp-1", "anchor", "1e12", 90.0, 91.0), row("mlp-1", "anchor", "1e3", 68.0, 79.0)]
    rows += [row("transformer", "anchor", "1e12", 3.9), row("transformer", "anchor", "1e4", 4.25)]
    found = tables(rows)
    assert found["followed"].splitlines()[2].startswith("| mlp-1 | anchor | 90.5 ± 0.5 | not run |")
    assert found["followed"].splitlines()[2].endswith("| 75.0 ± 5.0 |")
    assert "| mlp-1 | anchor | 2 | 10 | -1.50 ± 0.50 at 1e3 |" in found["followed: costs"]
    assert "| transformer | anchor | 1 | 10 | -0.2500 at 1e4 |" in found["followed: costs"]
    page, found = (RESULTS.parent / "robustness.md").read_text("utf-8"), tables(load_rows())
    assert all(found[name] in page for name in PUT)


def test_twins_are_compared_seed_by_seed(monkeypatch):
    """Bench and twin share the noise of a seed, which the difference does not have; a refused device is no row.

    Catches: errors of the seeds in the difference, a bench and another one's twin, the sign of the difference.
    """

    class Fake:
        def __init__(self, number):
            self.number = number

        def device(self, seed):
            return Fake(self.number + 100)

    def fit(opu, number):
        if number == 1:
            raise ValueError("no shot noise")
        return opu

    def train(opu, seed):
        return [80.0 + opu.number % 100 + 5.0 * seed + (2.0 if opu.number >= 100 else 0.0), 60.0 - seed]

    monkeypatch.setattr(twin_training, "hidden", lambda number, inputs, pixels: Fake(number))
    monkeypatch.setattr(twin_training, "fit", fit)
    monkeypatch.setattr(twin_training, "train", train)
    rows = twin_training.compare_scores(range(3), 3)
    assert [row[0] for row in rows] == ["0", "2", "mean"]
    assert rows[1][1:4] == ["87.0 ± 5.0", "89.0 ± 5.0", "+2.0 ± 0.0"]
    assert rows[2][3] == "+2.00 ± 0.00" and rows[2][6] == "+0.00 ± 0.00"


def test_twins_of_hidden_devices_are_stored_and_counted(tmp_path, monkeypatch, capsys):
    """Three devices, one refused; a second run fits none again, and makes the same table.

    Catches: a parameter that is known counted as unknown, a deviation in the wrong unit, results that get lost.
    """
    flawed, sound = (dict.fromkeys(twin.FLAWS, told) for told in ([0.1, 0.01, 0.1], [None, None, None]))
    results = {
        0: {"frames": 10, "parameters": {"gain": [1.09, 0.05, 1.0], "well": [None, None, 5.0]} | flawed},
        1: {"refused": "no shot noise"},
        2: {"frames": 12, "parameters": {"gain": [0.96, 0.05, 1.0], "well": [5.9, 0.5, 5.0]} | sound},
    }
    monkeypatch.setattr(twin, "fit_hidden", lambda seed, folder: twin.Result(seed, "2026-11-30", **results[seed]))
    monkeypatch.setattr("sys.argv", ["twin", "--devices", "3", "--out", str(tmp_path / "x.md")])
    twin.main()
    table = (tmp_path / "x.md").read_text("utf-8")
    assert "3 devices, 10 to 12 frames" in table and "1 refused" in table
    assert "| gain | 2 | 0 | 4.9 % | +0.50 | 0.50 | 1.00 | +1.8 |" in table
    assert "| well | 1 | 1 | 8.5 % | +1.80 | 0.00 | 1.00 | +1.8 |" in table
    assert "| camera.hot_pixels | 1 of 1 | 0 of 1 |" in table
    monkeypatch.setattr(twin, "fit_hidden", None)
    twin.main()
    assert (tmp_path / "x.md").read_text("utf-8") == table and (tmp_path / "x.png").exists()
