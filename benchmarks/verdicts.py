"""False alarms and misses of a report's verdicts: ``python -m benchmarks.verdicts`` from the root.

Sound devices are drawn wide (`benchmarks.verdict_devices`): three presets, 24 to 128 inputs, 300 to 1000 pixels, 8 to
16 bits, all projection and recovery methods; a fifth as many more are judged by reference pairs. A false alarm is a
sound device whose report is not "pass". A miss is a device with a planted fault whose report passes. The table replaces
the text between two marks of a Markdown file.
"""

import argparse
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.pages import made_by, put, table
from benchmarks.verdict_devices import FAULTY, Case, faulty, sound
from calibration import characterize
from calibration.reports.findings import Line

NAME = "benchmarks.verdicts"
HEADINGS = ["devices", "number", "pass", "degraded", "failed or refused", "lines that told, in how many devices"]
MAX_NAMES = 4
"""Number of lines that a row of the table names."""


@dataclass
class Tally:
    """Verdicts of some devices."""

    name: str
    verdicts: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    """Lines that did not pass, by the number of devices."""

    def judge(self, case: Case, seed: int) -> list[Line]:
        """Characterise a device; return the lines that did not pass. A refused device counts as failed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a misfit that the report shows as well
            try:
                report = characterize(case.device, method=case.method, matrix=case.matrix, seed=seed)
            except ValueError as error:
                self.verdicts["failed"] += 1
                self.lines[f"refused: {error}"] += 1
                return []
        self.verdicts[report.verdict] += 1
        told = [line for line in report.lines if line.verdict in ("degraded", "failed")]
        self.lines.update(dict.fromkeys((f"{line.group}, {line.name}" for line in told), 1))
        return told

    def cells(self) -> list[str]:
        """The row of the table."""
        counts = [self.verdicts[verdict] for verdict in ("pass", "degraded", "failed")]
        named = [f"{name} ({count})" for name, count in self.lines.most_common(MAX_NAMES)]
        return [self.name, str(sum(counts)), *map(str, counts), "; ".join(named) or "–"]


def run_sound(count: int) -> list[Tally]:
    """Sound devices by their recovery method, and all of them."""
    tallies, every = {}, Tally("**sound, all**")
    cases = [(seed, "") for seed in range(count)] + [(seed, "reference-pairs") for seed in range(count // 5)]
    for seed, method in cases:
        case = sound(seed, method)
        name = f"sound, {case.method}, matrix by {case.matrix}"
        show(seed, name, tallies.setdefault(name, Tally(name)).judge(case, seed))
    for tally in tallies.values():
        every.verdicts += tally.verdicts
        every.lines += tally.lines
    return [*(tallies[name] for name in sorted(tallies)), every]


def run_faulty(seeds: int) -> list[Tally]:
    """Devices with each of the faults."""
    tallies = [Tally(name) for name in FAULTY]
    for tally in tallies:
        for seed in range(seeds):
            show(seed, tally.name, tally.judge(faulty(tally.name, seed), seed))
    return tallies


def show(seed: int, name: str, lines: list[Line]) -> None:
    """Print a device and the lines that did not pass."""
    told = [
        f"{one.group}, {one.name} {one.measured:.3g} ± {one.uncertainty:.2g} ({one.expected}, {one.allowed:.3g})"
        for one in lines
    ]
    print(f"{seed:3} {name}: {'; '.join(told) or 'pass'}", flush=True)


def main() -> None:
    """Characterise all devices; print each as it is done."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("--sound", type=int, default=50, help="number of sound devices")
    parser.add_argument("--seeds", type=int, default=5, help="devices with each fault")
    parser.add_argument("--out", type=Path, default=None, help="Markdown file")
    args = parser.parse_args()
    with threadpool_limits(1):
        tallies = [*run_sound(args.sound), *run_faulty(args.seeds)]
    out = f" --out {args.out.as_posix()}" if args.out else ""
    made = made_by(f"python -m {NAME} --sound {args.sound} --seeds {args.seeds}{out}")
    put(f"{made}.\n\n{table(HEADINGS, (tally.cells() for tally in tallies))}", NAME, args.out)


if __name__ == "__main__":
    main()
