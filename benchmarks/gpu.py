"""``python -m benchmarks.gpu``: benchmarks on a GPU, then the tests that need one, within 8 minutes.

The steps run one after the other in a process of their own, which is started again after a step that failed. Every row
is written as soon as it is there. ``--rehearse`` runs the same code on the processor with small sizes.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

from benchmarks.child import ROOT, environment
from benchmarks.pages import put
from benchmarks.repeated import tables
from benchmarks.report import Parser, out_file, run, show, write
from benchmarks.row import Row
from photonics.backend import find_backend

__all__ = ["STEPS", "main", "run_steps", "run_tests"]

SECONDS = 480.0
"""Time for everything."""
STEPS = {
    "agreement": 30.0,
    "device": 60.0,
    "training": 100.0,
    "transfers": 30.0,
    "camera": 20.0,
    "frames": 30.0,
    "streamed": 50.0,
    "recovery": 90.0,
}
"""Steps in their order, and the seconds that must be left to begin one."""
WORKER = [sys.executable, "-m", "benchmarks.gpu_rows"]
"""Command of the process that runs steps."""


def run_tests(seconds: float) -> tuple[int, str]:
    """Run every test that needs a GPU; return exit code and last line. Tests fail, not skip, without a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment() | {"REQUIRE_GPU": "1"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return 1, f"not finished in {seconds:.0f} s"
    print(done.stdout)
    return done.returncode, (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]


def run_steps(seconds: float, rehearse: bool, keep: Callable[[Row], None]) -> None:
    """Run the steps and pass on each row; a step that fails, or does not end in time, gives a row that says why."""
    left, end = list(STEPS), time.monotonic() + seconds
    command = [*WORKER, *(["--rehearse"] if rehearse else [])]
    while left:
        rest = max(end - time.monotonic(), 0.0)
        process, ended = [*command, f"{rest:.0f}", *left], False
        with subprocess.Popen(process, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as worker:
            guard = Timer(rest, worker.kill)
            guard.start()
            for line in worker.stdout or ():
                kind, _, text = line.strip().partition(" ")
                if kind == "row":
                    keep(Row(**json.loads(text)))
                elif kind == "end":
                    left.remove(text)
                    ended = True
        code, late = worker.returncode, not guard.is_alive()
        guard.cancel()
        if late or (code and not ended):
            for name in left if late else left[:1]:
                keep(Row(name=f"GPU: {name}", note="not measured: no time" if late else f"failed: exit code {code}"))
            left = [] if late else left[1:]


def main(argv: list[str]) -> int:
    """Exit code: 0, 1 if a row or a test failed, or 2 without a GPU."""
    parser = Parser(prog="python -m benchmarks.gpu", description="Time and test the simulator on a GPU.")
    parser.add_argument("--out", type=Path, help="JSON file for the results; default runs/bench-gpu-<time>.json")
    parser.add_argument(
        "--page", type=Path, help="page of the documentation, such as docs/performance.md, for the table"
    )
    parser.add_argument("--no-tests", action="store_true", help="run the benchmarks only")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time for everything; default 480")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, small: to see that every row runs")
    given = parser.parse_args(argv)
    if not given.rehearse:
        find_backend("cuda")  # an error if there is no GPU
    path, start, rows, code, summary = out_file(given.out, "bench-gpu"), time.monotonic(), [], 0, "not run"

    def keep(row: Row) -> None:
        rows.append(row)
        print(" | ".join(row.cells()), flush=True)
        write(path, rows, rehearsal=given.rehearse, tests=summary, seconds=time.monotonic() - start)

    run_steps(given.seconds, given.rehearse, keep)
    if not (given.no_tests or given.rehearse):
        code, summary = run_tests(max(given.seconds - (time.monotonic() - start), 1.0))
    write(path, rows, rehearsal=given.rehearse, tests=summary, seconds=time.monotonic() - start)
    if given.page is not None:
        card = next((row.note for row in rows if row.ratio is not None), "no row was measured")
        put(f"{card}: {tables([path])}", "benchmarks.gpu", given.page)
    show(rows, f"tests: {summary}")
    print(f"results: {path}")
    return int(code != 0 or any(row.ratio is None for row in rows))


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
