"""Twins of hidden devices against the truth: ``python -m benchmarks.twin --devices 50`` from the root.

Devices are drawn wide (`benchmarks.twin_devices`): 64 to 256 inputs, 400 to 2025 pixels, 8 to 12 bits. Each answers the
questions of `calibration.record_bench`, at most 5000 frames; `calibration.fit_device` gets the recording and a data
sheet of typical values. The table replaces the text between two marks of a Markdown file.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from benchmarks.twin_devices import Bench, hidden, truth
from benchmarks.verdicts import write
from calibration import Twin, fit_device, record_bench
from calibration.twin.evidence import read_evidence
from photonics.plotting.style import STYLE

MARKS = ("<!-- benchmarks.twin: table -->", "<!-- benchmarks.twin: end -->")
HEADINGS = ["parameter", "known", "unknown", "error, median", "bias", "within 1 s.e.", "within 2 s.e.", "largest"]
LOGARITHMIC = 0.1
"""Relative error above which a positive value and its truth are compared by logarithms, as their errors are made."""


def fit_hidden(seed: int) -> tuple[Twin, dict[str, float], float]:
    """Twin of a hidden device, the truth, and seconds of processor time."""
    start = time.process_time()
    opu = hidden(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = record_bench(Bench(opu), Path(folder) / "bench.h5", seed=seed)
        twin, seen = fit_device(path), read_evidence(path)
    return twin, truth(opu, seen.number[seen.pairs()]), time.process_time() - start


def pull(value: float, error: float, true: float) -> float:
    """Deviation from the truth in standard errors; 0 for an exact value."""
    if value == true:
        return 0.0
    if value > 0.0 and true > 0.0 and error > LOGARITHMIC * value:
        return float(np.log(value / true) / (error / value))
    return (value - true) / max(error, 1e-12)


def rows(twins: list[tuple[Twin, dict[str, float]]]) -> list[list[str]]:
    """One row for each parameter."""
    pulls, relative, unknown = defaultdict(list), defaultdict(list), defaultdict(int)
    for twin, true in twins:
        for p in twin.parameters:
            unknown[p.name] += not p.known
            if p.known:
                pulls[p.name].append(pull(p.estimate.value, p.estimate.error, true[p.name]))
                relative[p.name].append(p.estimate.error / max(abs(p.estimate.value), 1e-12))
    made = []
    for name, count in unknown.items():
        found = np.array(pulls[name])
        if not len(found):
            made.append([name, "0", str(count), *["–"] * 5])
            continue
        inside = [f"{np.mean(abs(found) <= limit):.2f}" for limit in (1.0, 2.0)]
        middle = f"{100 * np.median(relative[name]):.2g} %"
        made.append(
            [name, str(len(found)), str(count), middle, f"{found.mean():+.2f}", *inside, f"{max(found, key=abs):+.1f}"]
        )
    return made


def draw(twins: list[tuple[Twin, dict[str, float]]], path: Path) -> None:
    """Picture of the deviations from the truth, one line for each parameter, a dot for each device that tells it."""
    names = [p.name for p in twins[0][0].parameters if p.name != "imaging.polarisations"][::-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.0), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(-2.0, 2.0, color="0.93")
        axes.axvspan(-1.0, 1.0, color="0.85")
        limit = 4.5
        for row, name in enumerate(names):
            known = [(t[name].estimate, true[name]) for t, true in twins if t[name].known]
            far = [pull(found.value, found.error, true) for found, true in known]
            limit = max([limit, *(1.1 * abs(one) for one in far)])
            axes.plot(far, np.full(len(far), row), "o", color="C0", alpha=0.6, markersize=4, markeredgewidth=0)
            axes.annotate(f"{len(known)}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.annotate("known", (1.02, len(names)), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlim(-limit, limit)
        axes.set_xlabel("deviation from the truth, standard errors")
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.savefig(path, dpi=150)


def main() -> None:
    """Fit all devices; print a line for each as it is done, then the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin", description=__doc__)
    parser.add_argument("--devices", type=int, default=50, help="number of hidden devices")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--out", type=Path, default=None, help="Markdown file; a picture of the same name is beside it")
    args = parser.parse_args()
    twins, frames, seconds, refused = [], [], [], 0
    with threadpool_limits(1):
        for seed in range(args.first, args.first + args.devices):
            try:
                twin, true, spent = fit_hidden(seed)
            except ValueError as error:
                refused += 1
                print(f"{seed:3} refused: {error}", flush=True)
                continue
            twins.append((twin, true))
            frames.append(int(twin.provenance["frames"]))
            seconds.append(spent)
            far = {p.name: pull(p.estimate.value, p.estimate.error, true[p.name]) for p in twin.parameters if p.known}
            told = ", ".join(f"{name} {far[name]:+.1f}" for name in far if abs(far[name]) > 2.5)
            print(f"{seed:3} {twin!r} {frames[-1]} frames, {spent:.1f} s; beyond 2.5: {told or 'none'}", flush=True)
    cells = [HEADINGS, ["---"] * len(HEADINGS), *rows(twins)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in cells)
    command = f"python -m benchmarks.twin --devices {args.devices}"
    command += f" --first {args.first}" * (args.first > 0) + (f" --out {args.out.as_posix()}" if args.out else "")
    text = (
        f"Made by `{command}`, {time.strftime('%Y-%m-%d')}: {args.devices} devices, {min(frames)} to {max(frames)} "
        f"frames, {np.median(seconds):.1f} s of processor time each; {refused} refused. Bias and the largest "
        f"deviation are in standard errors.\n\n{table}\n"
    )
    print(text)
    if args.out:
        write(args.out, text, MARKS)
        draw(twins, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
