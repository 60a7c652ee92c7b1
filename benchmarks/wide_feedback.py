"""Time and memory of feedback for very wide networks: ``python -m benchmarks.wide_feedback``.

Every case runs in a process of its own, whose peak memory is that of the case.
"""

import argparse
import resource
import subprocess
import sys

import torch

from benchmarks.timing import timed
from dfa.feedback.base import CodedFeedback
from dfa.feedback.encoding import Encoder, Ternary
from dfa.feedback.medium import MediumFeedback
from dfa.feedback.random import RandomFeedback
from photonics import ScatteringLayers

PAIRS = Ternary(stochastic=1.0, pairs=True)
CASES = {
    # name: source, code, width, classes, rows
    "54 GB of B, streamed, dense error": ("streamed", None, 13_500_000, 1000, 1),
    "54 GB of B, streamed, dense error, batch": ("streamed", None, 13_500_000, 1000, 32),
    "54 GB of B, streamed, pairs": ("streamed", PAIRS, 13_500_000, 1000, 32),
    "54 GB of B, four scattering layers": ("layers", PAIRS, 13_500_000, 1000, 32),
    "40 GB of B, streamed, pairs": ("streamed", PAIRS, 1_000_000_000, 10, 1),
    "1.35 TB of B, four scattering layers": ("layers", PAIRS, 13_500_000, 25_000, 1),
}


def build(source: str, code: Encoder | None, width: int, classes: int) -> CodedFeedback:
    """Feedback of a case."""
    if source == "layers":
        return MediumFeedback(ScatteringLayers(classes, -(-width // 2), seed=0, layers=4), code)
    return RandomFeedback(0, code, storage="streamed")


def measure(name: str) -> None:
    """Print the row of one case."""
    source, code, width, classes, rows = CASES[name]
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    e = torch.softmax(torch.randn(rows, classes, generator=generator), 1)
    e -= torch.nn.functional.one_hot(labels, classes)
    build(source, code, 1000, classes)(e, [1000])  # compiles
    feedback = build(source, code, width, classes)
    before = peak_gb()
    (signal,), (wall, cpu) = timed(lambda: feedback(e, [width]))
    size = signal.numel() * 4 / 1e9
    print(
        f"| {name} | {width:.3g} × {classes:,} | {rows} | {wall:.1f} s | {cpu:.1f} s | {size:.2f} GB | "
        f"{peak_gb() - before:.2f} GB |",
        flush=True,
    )


def peak_gb() -> float:
    """Peak memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wide_feedback", description="Wide feedback.")
    parser.add_argument("--case", choices=CASES, help="one case, in this process")
    given = parser.parse_args(argv)
    if given.case is not None:
        measure(given.case)
        return
    print(
        "| feedback | B | rows | wall time | processor time | signals | memory |\n|---|---|---|---|---|---|---|",
        flush=True,
    )
    for name in CASES:
        subprocess.run([sys.executable, "-m", "benchmarks.wide_feedback", "--case", name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
