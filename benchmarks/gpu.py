"""``python -m benchmarks.gpu``: the tests that need a GPU, then the benchmarks on it."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.child import ROOT
from benchmarks.report import Parser, out_file, run, show, write
from photonics.backend import find_backend

__all__ = ["main", "run_tests"]


def run_tests() -> tuple[int, str]:
    """Run every test that needs a GPU; return exit code and last line. Tests fail, not skip, without a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"REQUIRE_GPU": "1"}, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    return done.returncode, (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]


def main(argv: list[str]) -> int:
    """Exit code: 0, 1 if a test failed, or 2 without a GPU."""
    parser = Parser(prog="python -m benchmarks.gpu", description="Test and time the simulator on a GPU.")
    parser.add_argument("--out", type=Path, help="JSON file for the results; default runs/bench-gpu-<time>.json")
    parser.add_argument("--no-tests", action="store_true", help="run the benchmarks only")
    given = parser.parse_args(argv)
    find_backend("cuda")  # an error if there is no GPU
    path = out_file(given.out, "bench-gpu")
    code, summary = (0, "not run") if given.no_tests else run_tests()

    from benchmarks import gpu_rows

    rows, device = [], gpu_rows.device()
    try:
        for row in gpu_rows.rows():
            rows.append(row)
            print(" | ".join(row.cells()), flush=True)  # kept if the run is interrupted
    finally:
        write(path, rows, what=device, tests=summary)
    show(rows, f"{device}; tests: {summary}")
    print(f"results: {path}")
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
