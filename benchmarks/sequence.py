"""Faults planted in the sequence of frames, and how many are found: ``python -m benchmarks.sequence``."""

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.pages import table
from calibration import FrameFault, SequenceCheck, check_sequence
from photonics import OPU, presets
from photonics.medium import Drifting, GaussianMedium

FRAMES, N_IN = 2000, 64
KINDS = ("lost", "repeated", "shifted", "late")
APART = 60
"""Frames between two faults, at least."""


@dataclass(frozen=True, eq=False)
class Planted:
    """Faults, and what frames show with them."""

    shown: NDArray[np.intp]
    """Pattern of each frame."""
    late: NDArray[np.bool_]
    """Frames that also show the pattern before."""
    faults: tuple[FrameFault, ...]


def plant(faults: Mapping[int, str], count: int, rng: np.random.Generator) -> Planted:
    """Plant faults at frames, by kind. A shift lasts 5 to 29 frames."""
    offset, late, made = np.zeros(count, np.intp), np.zeros(count, bool), []
    for frame, kind in sorted(faults.items()):
        length, step = int(rng.integers(5, 30)), int(rng.choice([-1, 1]))
        if kind == "lost":
            offset[frame:] += 1
            made.append(FrameFault("lost", frame, 1, 1, 1.0))
        elif kind == "repeated":
            offset[frame:] -= 1
            made.append(FrameFault("repeated", frame, 1, -1, 1.0))
        elif kind == "shifted":
            offset[frame : frame + length] += step
            made.append(FrameFault("shifted", frame, length, step, 1.0))
        else:
            late[frame] = True
            made.append(FrameFault("late", frame, 1, 0, 1.0))
    return Planted(np.arange(count) + offset, late, tuple(made))


def record(
    opu: OPU, patterns: NDArray[np.bool_], planted: Planted, rng: np.random.Generator
) -> NDArray[np.floating | np.integer]:
    """Frames with planted faults. A late frame shows the pattern before for 30 to 70 % of its exposure."""
    order = np.repeat(np.arange(len(planted.shown)), 1 + planted.late)
    last = np.diff(order, append=len(order)) > 0
    shown = planted.shown[order]
    shown[~last] -= 1
    taken = np.asarray(opu.measure(patterns[np.clip(shown, 0, len(patterns) - 1)]))
    frames = taken[last]
    before = rng.uniform(0.3, 0.7, (int(planted.late.sum()), 1))
    frames[planted.late] = np.rint(before * taken[~last] + (1.0 - before) * frames[planted.late])
    return frames


def device(pixels: int, tau: float, seed: int) -> OPU:
    """A bench with a medium of this correlation time, frames."""
    opu = presets.lab_bench(N_IN, pixels, seed=seed)
    opu = opu.replace(medium=Drifting(GaussianMedium(N_IN, pixels, seed=seed), tau, seed=seed))
    opu.autoexpose()
    return opu


def draw(pixels: int, tau: float, seed: int, faults: int) -> tuple[SequenceCheck, Planted, float]:
    """Check one recording with some faults; the last result is the CPU time of the check, seconds."""
    rng = np.random.default_rng(seed)
    patterns = np.argsort(rng.random((FRAMES + 8, N_IN)), axis=1) < N_IN // 2
    step = (FRAMES - 2 * APART) // max(faults, 1)
    where = APART + np.arange(faults) * step + rng.integers(0, step - APART, faults)
    planted = plant({int(k): KINDS[(seed + i) % 4] for i, k in enumerate(where)}, FRAMES, rng)
    frames = record(device(pixels, tau, seed), patterns, planted, rng)
    start = time.process_time()
    check = check_sequence(patterns, frames)
    return check, planted, time.process_time() - start


def column(pixels: int, tau: float, faults: int, sound: int) -> list[str]:
    """Column of the table: planted faults by kind, five in a recording; sound recordings; times."""
    planted_of, found_of, wrong, times, alarms, refused = Counter(), Counter(), 0, [], 0, 0
    for seed in range(faults // 5):
        check, planted, seconds = draw(pixels, tau, seed, 5)
        true = {(f.kind, f.frame, f.count, f.offset) for f in planted.faults}
        seen = {(f.kind, f.frame, f.count, f.offset) for f in check.faults}
        planted_of.update(kind for kind, *_ in true)
        found_of.update(kind for kind, *_ in true & seen)
        wrong += len(seen - true)
        refused += not check.judged
        times.append(seconds)
    still = []
    for seed in range(1000, 1000 + sound):
        check, _, seconds = draw(pixels, tau, seed, 0)
        alarms += bool(check.faults)
        refused += not check.judged
        still.append(seconds)
    cells = [str(pixels), f"{tau:g}", *(f"{found_of[kind]} of {planted_of[kind]}" for kind in KINDS)]
    cells += [f"{found_of.total()} of {planted_of.total()}", str(wrong), f"{alarms} of {sound}", str(refused)]
    cells += [f"{np.median(still):.1f}" if still else "–", f"{np.median(times):.1f}" if times else "–"]
    return cells


NAMES = ["pixels", "correlation time, frames", *KINDS, "all", "wrong or misplaced", "false alarms", "not judged"]
NAMES += ["CPU s, sound", "CPU s, faulty"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequence", description="Faults in sequences of frames.")
    parser.add_argument("--faults", type=int, default=100, help="planted faults in a column of the table")
    parser.add_argument("--sound", type=int, default=100, help="sound recordings in a column of the table")
    parser.add_argument("--pixels", type=int, action="append", help="default: 200 and 50")
    parser.add_argument("--tau", type=float, action="append", help="correlation times, frames; default: 1e4")
    given = parser.parse_args()
    cases = [(pixels, tau) for tau in given.tau or [1e4] for pixels in given.pixels or [200, 50]]
    columns = [column(pixels, tau, given.faults, given.sound) for pixels, tau in cases]
    first, *rows = zip(NAMES, *columns, strict=True)
    print(table(first, rows))


if __name__ == "__main__":
    main()
