"""Stated errors under faults of a bench: ``python -m benchmarks.faults`` from the root.

For each projection method of `tests.calibration.benches.METHODS` and each fault of `tests.calibration.faults.KINDS`:
the true error over the stated one, and whether a warning was given (!). The table replaces the text between two marks
of a Markdown file.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np

from benchmarks.pages import put
from tests.calibration.benches import METHODS, bench, calibrate, half_on, truth_of
from tests.calibration.faults import KINDS, plant

MARKS = ("<!-- benchmarks.faults: table -->", "<!-- benchmarks.faults: end -->")


def cell(method: str, fault: str, seed: int) -> tuple[str, bool]:
    """True over stated error of the values that are not refused, or what became of them, and whether it was told."""
    opu = bench("lab_bench", method, seed=seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            if KINDS[fault][1]:
                plant(opu, fault)
            projection = calibrate(opu, method)
            if not KINDS[fault][1]:
                plant(opu, fault, projection.frames_per_vector)
            x = half_on(20 if method == "reference pairs" else 160, projection.n_inputs, seed + 5)
            found = projection.measure(x)
        except ValueError:
            return "refused", True
    good = projection.valid & ~found.saturated & np.isfinite(found.standard_error)
    if good.mean() < 0.02:
        return "refused", True
    deviation = (found.values - truth_of(projection, x, np.where(good, found.values, 0)))[good]
    axes = 2.0 if np.iscomplexobj(deviation) else 1.0
    ratio = np.sqrt(np.mean(np.abs(deviation) ** 2) / axes / np.mean(found.standard_error[good] ** 2))
    return f"{ratio:.1f}", bool(told)


def table(seeds: int, command: str) -> str:
    """The table as Markdown; the worst of the seeds in each place."""
    rows = [["fault", *METHODS], ["---"] * (1 + len(METHODS))]
    for fault in KINDS:
        row = [fault]
        for method in METHODS:
            cells = [cell(method, fault, seed) for seed in range(seeds)]
            text, told = max(cells, key=lambda one: 0.0 if one[0] == "refused" else float(one[0]))
            row.append(text if text == "refused" else text + "!" * told)
        rows.append(row)
        print(" | ".join(row), flush=True)
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    return f"Made by `{command}`, {time.strftime('%Y-%m-%d')}.\n\n{text}\n"


def main() -> None:
    """Compute the table and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="benches for each entry")
    parser.add_argument("--out", type=Path, default=None, help="Markdown file")
    args = parser.parse_args()
    out = f" --out {args.out.as_posix()}" if args.out else ""
    text = table(args.seeds, f"python -m benchmarks.faults --seeds {args.seeds}{out}")
    if args.out:
        put(text, MARKS, args.out)


if __name__ == "__main__":
    main()
