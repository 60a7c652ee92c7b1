"""Training on hidden devices and on their twins: ``python -m benchmarks.twin_training --devices 10`` from the root.

Each device of `benchmarks.twin_devices` is recorded and fitted as in `benchmarks.twin`. Digits are then learned through
the device and, with the same seeds, through draws of its twin, which have a medium and pixels of their own. With
``--lines`` the tolerance of these parameters is searched on both instead. The table replaces the text between two marks
of a Markdown file.
"""

import argparse
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.moving_rows import mean_and_error
from benchmarks.pages import made_by, put, table
from benchmarks.twin_devices import Bench, hidden
from calibration import Twin, fit_device, record_bench
from dfa import tolerance
from dfa.robustness.studies import SMALL, bench_values
from dfa.robustness.tolerances.search import seeds_of_medium
from dfa.robustness.training_study import TrainingStudy
from photonics import OPU

NAME = "benchmarks.twin_training"
SCORES = [
    "device",
    "accuracy of the bench, %",
    "of the twin",
    "difference",
    "angle of the bench",
    "of the twin",
    "difference",
]
TOLERANCES = ["device", "what becomes worse", "bench: lost at", "95 % interval", "twin: lost at", "95 % interval"]
MEDIA = ["device", "what becomes worse", "bench, media of its law: lost at", "draws of the twin: lost at"]
METRICS = ("accuracy", "angle")
PLAN = replace(SMALL, epochs=2)
"""What is trained: two epochs, so that noise still costs accuracy."""
INPUTS, PIXELS = 64, 225
"""Of each device: a training takes a second or two."""
MOST = 16
"""Trainings on a line of a tolerance."""


def fit(opu: OPU, seed: int) -> Twin:
    """Record a device as a bench, and fit its twin."""
    with tempfile.TemporaryDirectory() as folder:
        return fit_device(record_bench(Bench(opu), Path(folder) / "bench.h5", seed=seed))


def train(opu: OPU, seed: int) -> list[float]:
    """Learn digits through a device; accuracy in percent, angle of the updates to the gradient in degrees."""
    found = TrainingStudy(replace(PLAN, device=opu.to_dict())).run({}, seed)
    return [found[name] for name in METRICS]


def score_cells(bench: NDArray[np.float64], twin: NDArray[np.float64]) -> list[str]:
    """Mean and standard deviation over the seeds, and the paired difference with its error, from (seeds, metrics)."""
    cells = []
    for one, other in zip(bench.T, twin.T, strict=True):
        cells += [f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" for values in (one, other)]
        cells.append("{:+.1f} ± {:.1f}".format(*mean_and_error(other - one)))
    return cells


def compare_scores(devices: range, seeds: int) -> list[list[str]]:
    """A row for each device that is not refused, and the mean difference over the devices."""
    rows, apart = [], []
    for number in devices:
        opu = hidden(number, INPUTS, PIXELS)
        try:
            twin = fit(opu, number)
            bench = np.array([train(opu, seed) for seed in range(seeds)])
            drawn = np.array([train(twin.device(seed), seed) for seed in range(seeds)])
        except ValueError as error:
            print(f"{number} refused: {error}", flush=True)
            continue
        apart.append((drawn - bench).mean(axis=0))
        rows.append([str(number), *score_cells(bench, drawn)])
        print(rows[-1], flush=True)
    accuracy, angle = ("{:+.2f} ± {:.2f}".format(*mean_and_error(column)) for column in np.array(apart).T)
    return [*rows, ["mean", "", "", accuracy, "", "", angle]]


def compare_tolerances(devices: range, lines: list[str]) -> list[list[str]]:
    """A row for each device and parameter."""
    rows = []
    for number in devices:
        opu = hidden(number, INPUTS, PIXELS)
        pair = opu, fit(opu, number).device(number)
        plans = [replace(PLAN, device=device.to_dict()) for device in pair]
        both = [tolerance(plan, lines, most=MOST, progress=False) for plan in plans]
        for name in lines:
            found = [one[name] for one in both]
            cells = [
                t for one in found for t in (one.text(one.value), f"{one.text(one.better)} to {one.text(one.worse)}")
            ]
            rows.append([str(number), found[0].title, *cells])
            print(rows[-1], [one.verdict for one in found], flush=True)
    return rows


def compare_media(devices: range, lines: list[str], media: int) -> list[list[str]]:
    """A row for each device and parameter: tolerances on single media of the bench's law, and on draws of its twin."""
    rows = []
    for number in devices:
        opu = hidden(number, INPUTS, PIXELS)
        twin, plan = fit(opu, number), replace(PLAN, device=opu.to_dict())
        seeds = seeds_of_medium(plan, bench_values(plan))
        benches = [opu, *(opu.replace(**dict.fromkeys(seeds, 100 + k)) for k in range(1, media))]
        draws = [twin.device(k) for k in range(1, media + 1)]
        for name in lines:
            cells = []
            for group in (benches, draws):
                plans = [replace(PLAN, device=device.to_dict()) for device in group]
                found = [tolerance(one, [name], most=MOST, progress=False, same_medium=True)[name] for one in plans]
                cells.append("; ".join(f"{t.text(t.value)} ({t.text(t.better)} to {t.text(t.worse)})" for t in found))
            rows.append([str(number), found[0].title, *cells])
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Fit and train; print a line for each device as it is done, then the table."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("--devices", type=int, default=10, help="number of hidden devices")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--seeds", type=int, default=3, help="trainings through each device")
    parser.add_argument("--lines", nargs="+", default=[], help="parameters whose tolerance is compared (dfa.tolerance)")
    parser.add_argument(
        "--media", type=int, default=0, help="with --lines: single media of bench and twin, so many each"
    )
    parser.add_argument("--out", type=Path, default=None, help="Markdown file")
    args = parser.parse_args()
    start, devices = time.process_time(), range(args.first, args.first + args.devices)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if args.media:
            rows, kind, headings = compare_media(devices, args.lines, args.media), "media", MEDIA
        elif args.lines:
            rows, kind, headings = compare_tolerances(devices, args.lines), "tolerances", TOLERANCES
        else:
            rows, kind, headings = compare_scores(devices, args.seeds), "scores", SCORES
    asked = f"--lines {' '.join(args.lines)}" if args.lines else f"--seeds {args.seeds}"
    asked += f" --media {args.media}" * bool(args.media)
    command = f"python -m {NAME} --devices {args.devices} --first {args.first} {asked}"
    made = f"{made_by(command)}, {time.process_time() - start:.0f} s of processor time."
    put(f"{made}\n\n{table(headings, rows)}", f"{NAME}: {kind}", args.out)


if __name__ == "__main__":
    main()
