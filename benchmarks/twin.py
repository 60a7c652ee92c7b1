"""Twins of hidden devices against the truth: ``python -m benchmarks.twin --devices 50`` from the root.

Devices are drawn wide (`benchmarks.twin_devices`): 64 to 256 inputs, 400 to 2025 pixels, 8 to 12 bits. Each answers the
questions of `calibration.record_bench`, at most 5000 frames; `calibration.fit_device` gets the recording and a data
sheet of typical values. Results go to a JSON file after each device; devices that it has are not run again. The table
and the picture are made from it; the table replaces the text between two marks of a Markdown file.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.pages import put, table
from benchmarks.twin_devices import Bench, hidden, truth
from calibration import fit_device, record_bench
from calibration.twin.evidence import read_evidence
from calibration.twin.pixels import CURVE
from photonics.plotting.style import STYLE

NAME = "benchmarks.twin"
HEADINGS = ["parameter", "known", "unknown", "error, median", "bias", "within 1 s.e.", "within 2 s.e.", "largest"]
FLAWS = ("camera.row_noise_e", "camera.column_noise_e", "camera.hot_pixels", CURVE)
LOGARITHMIC = 0.1
"""Relative error above which a positive value and its truth are compared by logarithms, as their errors are made."""


@dataclass(frozen=True)
class Result:
    """What is stored of a device."""

    seed: int
    date: str
    refused: str = ""
    """Why it was refused; empty if it was fitted."""
    frames: int = 0
    seconds: float = 0.0
    """Processor time of the frames, if they were not stored, and the fit."""
    parameters: dict[str, list[float | None]] = field(default_factory=dict)
    """Value, standard error and truth by name; None for unknown values and for what the device does not have."""


def fit_hidden(seed: int, recordings: Path | None) -> Result:
    """Record a hidden device, unless it is in the folder `recordings`, fit its twin, and compare it with the truth."""
    start, found = time.process_time(), Result(seed, time.strftime("%Y-%m-%d"))
    opu = hidden(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = (recordings or Path(folder)) / f"{seed}.h5"
        path = path if path.exists() else record_bench(Bench(opu), path, seed=seed)
        try:
            twin, seen = fit_device(path), read_evidence(path)
        except ValueError as error:
            return replace(found, refused=str(error))
    true = truth(opu, seen.number[seen.pairs()])
    fitted = {p.name: (p.estimate.value, p.estimate.error, true[p.name]) for p in twin.parameters}
    return replace(
        found,
        frames=len(seen.frames),
        seconds=round(time.process_time() - start, 1),
        parameters={name: [float(f"{v:.6g}") if np.isfinite(v) else None for v in fitted[name]] for name in fitted},
    )


def read_results(path: Path) -> list[Result]:
    """Results of a file; none if there is no file."""
    return [Result(**one) for one in json.loads(path.read_text("utf-8"))["devices"]] if path.exists() else []


def write_results(path: Path, command: str, found: list[Result]) -> None:
    """Write the results, one line for each device."""
    lines = ",\n".join(json.dumps(asdict(one)) for one in sorted(found, key=lambda one: one.seed))
    path.write_text(f'{{"command": {json.dumps(command)},\n"devices": [\n{lines}\n]}}\n', "utf-8")


def pull(value: float, error: float, true: float) -> float:
    """Deviation from the truth in standard errors; 0 for an exact value."""
    if value == true:
        return 0.0
    if value > 0.0 and true > 0.0 and error > LOGARITHMIC * value:
        return float(np.log(value / true) / (error / value))
    return (value - true) / max(error, 1e-12)


def known(found: list[Result], name: str) -> NDArray[np.float64]:
    """Value, standard error and truth (NaN if there is none) of a parameter where frames tell it: (devices, 3)."""
    rows = [one.parameters[name] for one in found]
    return np.array([row for row in rows if None not in row[:2]], np.float64).reshape(-1, 3)


def rows(found: list[Result]) -> list[list[str]]:
    """One row for each parameter."""
    made = []
    for name in found[0].parameters:
        told = known(found, name)
        counts = [name, str(len(told)), str(len(found) - len(told))]
        if not len(told):
            made.append([*counts, *["–"] * 5])
            continue
        far = np.array([pull(*row) for row in told if np.isfinite(row[2])])
        inside = [f"{np.mean(abs(far) <= limit):.2f}" for limit in (1.0, 2.0)]
        middle = f"{100 * np.median(told[:, 1] / np.maximum(abs(told[:, 0]), 1e-12)):.2g} %"
        made.append([*counts, middle, f"{far.mean():+.2f}", *inside, f"{max(far, key=abs):+.1f}"])
    return made


def flaw_rows(found: list[Result]) -> list[list[str]]:
    """One row for each flaw of a camera: how often it is known where the device has it, and where it has not."""
    made = []
    for name in FLAWS:
        told = [(one.parameters[name][0] is not None, one.parameters[name][2] is not None) for one in found]
        there, absent = ([known for known, has in told if has is wanted] for wanted in (True, False))
        made.append([name, f"{sum(there)} of {len(there)}", f"{sum(absent)} of {len(absent)}"])
    return made


def draw(found: list[Result], path: Path) -> None:
    """Picture of the deviations from the truth, one line for each parameter, a dot for each device that tells it."""
    names = [name for name in found[0].parameters if name != "imaging.polarisations"][::-1]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 6.0), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(-2.0, 2.0, color="0.93")
        axes.axvspan(-1.0, 1.0, color="0.85")
        limit = 8.0
        for row, name in enumerate(names):
            far = [pull(*told) for told in known(found, name)]
            axes.plot(far, np.full(len(far), row), "o", color="C0", alpha=0.6, markersize=4, markeredgewidth=0)
            for one in (one for one in far if abs(one) > limit):
                axes.annotate(f"{one:+.0f}", (np.sign(one) * (limit - 0.1), row), ha="right", va="center", fontsize=8)
            axes.annotate(f"{len(far)}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.annotate("known", (1.02, len(names)), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set_xlim(-limit, limit)
        axes.set_xlabel("deviation from the truth, standard errors")
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        figure.savefig(path, dpi=150)


def table_of(found: list[Result], command: str) -> str:
    """Text and table of the document."""
    fitted = [one for one in found if not one.refused]
    frames, seconds = [one.frames for one in fitted], np.median([one.seconds for one in fitted])
    return (
        f"Made by `{command}`, {max(one.date for one in found)}: {len(found)} devices, {min(frames)} to "
        f"{max(frames)} frames, {seconds:.0f} s of processor time each (median; stored frames cost nothing); "
        f"{len(found) - len(fitted)} refused. Bias and the largest deviation are in standard errors.\n\n"
        + table(HEADINGS, rows(fitted))
        + "\nFlaws of the camera that a device may have or not have:\n\n"
        + table(["flaw", "known where the device has it", "where it has not"], flaw_rows(fitted))
    )


def line_of(one: Result) -> str:
    """Line that is printed when a device is done."""
    if one.refused:
        return f"{one.seed:3} refused: {one.refused}"
    far = {name: pull(*known([one], name)[0]) for name in one.parameters if len(known([one], name))}
    told = ", ".join(f"{name} {far[name]:+.1f}" for name in far if abs(far[name]) > 2.5)
    return f"{one.seed:3} {one.frames} frames, {one.seconds:.1f} s; beyond 2.5: {told or 'none'}"


def main() -> None:
    """Fit the devices that are missing; print a line for each as it is done, then the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin", description=__doc__)
    parser.add_argument("--devices", type=int, default=50, help="number of hidden devices, seeds 0 and up")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file; JSON and picture have its name")
    parser.add_argument("--stored", action="store_true", help="only those that the JSON has: run none")
    parser.add_argument("--recordings", type=Path, help="folder of recordings SEED.h5, which are read or written")
    args = parser.parse_args()
    command = (
        f"python -m benchmarks.twin --devices {args.devices} --out {args.out.as_posix()}" + " --stored" * args.stored
    )
    stored, wanted = args.out.with_suffix(".json"), range(args.devices)
    found = [one for one in read_results(stored) if one.seed in wanted]
    with threadpool_limits(1):
        for seed in sorted(set(() if args.stored else wanted) - {one.seed for one in found}):
            found.append(fit_hidden(seed, args.recordings))
            print(line_of(found[-1]), flush=True)
            write_results(stored, command, found)
    text = table_of(found, command)
    print(text)
    put(text, NAME, args.out)
    draw([one for one in found if not one.refused], args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
