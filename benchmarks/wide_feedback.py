"""Time and memory of feedback for very wide networks: ``python -m benchmarks.wide_feedback``.

Every case runs in a process of its own, whose peak memory is that of the case.
"""

import torch

from benchmarks.child import call_in_new_process
from benchmarks.memory import peak_mb
from benchmarks.pages import table_head, table_row
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


def measure(name: str) -> list[str]:
    """Return the row of one case; call it in a fresh process."""
    source, code, width, classes, rows = CASES[name]
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    e = torch.softmax(torch.randn(rows, classes, generator=generator), 1)
    e -= torch.nn.functional.one_hot(labels, classes)
    build(source, code, 1000, classes)(e, [1000])  # compiles
    feedback = build(source, code, width, classes)
    cells = [name, f"{width:.3g} × {classes:,}", str(rows)]

    def call() -> None:
        (signal,), (wall, cpu) = timed(lambda: feedback(e, [width]))
        cells.extend([f"{wall:.1f} s", f"{cpu:.1f} s", f"{signal.numel() * 4 / 1e9:.2f} GB"])

    peak = peak_mb(call)  # the call adds cells
    return [*cells, f"{peak / 1e3:.2f} GB"]


def main() -> None:
    """Print the table."""
    print(table_head(["feedback", "B", "rows", "wall time", "processor time", "signals", "memory"]), flush=True)
    for name in CASES:
        print(table_row(call_in_new_process(measure, name)), flush=True)


if __name__ == "__main__":
    main()
