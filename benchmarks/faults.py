"""Stated errors under faults of a bench: ``python -m benchmarks.faults`` from the root.

For each projection method of `tests.calibration.benches.METHODS` and each fault of `tests.calibration.faults.KINDS`:
the true error over the stated one, and whether a warning was given (!). The table replaces the text between two marks
of a Markdown file.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np

from benchmarks.pages import made_by, put, table
from tests.calibration.benches import METHODS, bench, calibrate, half_on, truth_of
from tests.calibration.faults import KINDS, plant

NAME = "benchmarks.faults"


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


def row(fault: str, seeds: int) -> list[str]:
    """Cells of a row of the table: the worst of the seeds for each method."""
    cells = [fault]
    for method in METHODS:
        results = [cell(method, fault, seed) for seed in range(seeds)]
        text, told = max(results, key=lambda one: 0.0 if one[0] == "refused" else float(one[0]))
        cells.append(text if text == "refused" else text + "!" * told)
    print(" | ".join(cells), flush=True)
    return cells


def main() -> None:
    """Compute the table and print it."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="benches for each entry")
    parser.add_argument("--out", type=Path, default=None, help="Markdown file")
    args = parser.parse_args()
    out = f" --out {args.out.as_posix()}" if args.out else ""
    rows = [row(fault, args.seeds) for fault in KINDS]
    made = made_by(f"python -m {NAME} --seeds {args.seeds}{out}")
    put(f"{made}.\n\n{table(['fault', *METHODS], rows)}", NAME, args.out)


if __name__ == "__main__":
    main()
