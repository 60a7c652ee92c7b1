"""Bytes between ranks, as the code and the network interface count them.

``python -m benchmarks.rank_bytes [--out FILE]``, on Linux as root (see `benchmarks.scaling_ranks`): 784-768 x 4-10,
batch 256, 4 ranks in a network namespace of their own. Calibration and exposure of a device of 4000 pixels, and a step,
mean of three.
"""

import argparse
from collections import Counter
from pathlib import Path

from benchmarks.report import save
from benchmarks.scaling_ranks import run_ranks

CASES = (("bp", 1, 1), ("random", 1, 1), ("random", 1, 4), ("shared", 1, 1), ("shared", 1, 4), ("shared", 2, 4))
"""Feedback, replicas and micro-batches."""
STEPS = 3


def main() -> None:
    """Print a line for each case, and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rank_bytes", description="Bytes between ranks.")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    given, rows = parser.parse_args(), []
    names = ("feedback", "replicas", "micro_batches")
    jobs = [dict(zip(names, case, strict=True)) | {"rate": None} for case in CASES]
    for case, ranks in zip(CASES, zip(*run_ranks(4, jobs), strict=True), strict=True):
        traffic: Counter[str] = sum((Counter(rank["traffic"]) for rank in ranks), Counter())
        row = dict(zip(names, case, strict=True)) | {f"sent_{way}": count / STEPS for way, count in traffic.items()}
        row["wire"] = max(rank["wire"] for rank in ranks) / STEPS
        row["wire_over_code"] = round(row["wire"] * STEPS / sum(traffic.values()), 4)
        row["calibration"] = sum(rank["calibration"][0] for rank in ranks)
        row["calibration_wire"] = max(rank["calibration"][1] for rank in ranks)
        rows.append(row)
        print(row, flush=True)
    save(given.out, "python -m benchmarks.rank_bytes", rows=rows)


if __name__ == "__main__":
    main()
