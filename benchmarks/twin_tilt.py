"""Twins of hidden devices with a tilted reference beam: ``python -m benchmarks.twin_tilt`` from the root.

The devices of `benchmarks.twin_devices` from seed 300 on, with 64 inputs and 400 or 1024 pixels, first those with a
pupil, then those without, get a random tilt of up to 0.4 cycles of the fringes per pixel on each axis. The data sheet
says that the beam is upright. The table has the deviation of the fitted angles and of the fringes' contrast from the
truth, in standard errors.
"""

import argparse
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.pages import put, table
from benchmarks.twin_devices import Bench, hidden, tilted, truth
from calibration import fit_device, record_bench
from calibration.twin.reference.tilt import CONTRAST, TILT
from photonics import OPU

NAME = "benchmarks.twin_tilt"
HEADINGS = ["", "known", "unknown", "error, median", "bias", "within 1 s.e.", "within 2 s.e.", "largest"]
FIRST = 300
"""Seed of the first device."""
Found = dict[str, tuple[float, float, float, bool]]
"""Value, standard error, truth, and whether the bounds contain it, by name; NaN for unknown values."""


def devices(pupil: bool) -> Iterator[tuple[int, OPU]]:
    """Seeds and tilted devices, with a pupil or without."""
    for seed in count(FIRST):
        opu = hidden(seed, n_in=64, pixels=(400, 1024)[seed % 2])
        if (opu.imaging.numerical_aperture is not None) == pupil:
            yield seed, tilted(opu, seed)


def fit_tilt(seed: int, opu: OPU, recordings: Path | None) -> tuple[Found, bool]:
    """Record a device, unless it is in the folder `recordings`, and fit it; and whether the fit warned of fringes."""
    true = truth(opu)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        path = (recordings or Path(folder)) / f"{seed}.h5"
        twin = fit_device(path if path.exists() else record_bench(Bench(opu), path, seed=seed))
    fitted = (twin[name] for name in (*TILT, CONTRAST))
    found = {
        p.name: (p.estimate.value, p.estimate.error, true[p.name], p.known or p.least <= true[p.name] <= p.most)
        for p in fitted
    }
    return found, any("fringes of the reference" in str(one.message) for one in told)


def row(what: str, found: list[tuple[float, float, float, bool]], unit: float = 1.0) -> list[str]:
    """Row of a quantity."""
    known = np.array([one[:3] for one in found if math.isfinite(one[0])]).reshape(-1, 3)
    counts = [what, str(len(known)), str(len(found) - len(known))]
    if not len(known):
        return [*counts, *["–"] * 5]
    far = (known[:, 0] - known[:, 2]) / known[:, 1]
    inside = [f"{np.mean(np.abs(far) <= limit):.2f}" for limit in (1.0, 2.0)]
    return [*counts, f"{np.median(known[:, 1]) / unit:.2g}", f"{far.mean():+.2f}", *inside, f"{max(far, key=abs):+.1f}"]


def main() -> None:
    """Fit the devices, print a line for each, then the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin_tilt", description=__doc__)
    parser.add_argument("--pupil", type=int, default=20, help="number of devices with a pupil")
    parser.add_argument("--no-pupil", type=int, default=5, help="number of devices without one")
    parser.add_argument("--page", type=Path, help="Markdown file into which the table is put")
    parser.add_argument("--recordings", type=Path, help="folder of recordings SEED.h5, which are read or written")
    args = parser.parse_args()
    rows, start, bounds, warned = [], time.process_time(), [], []
    with threadpool_limits(1):
        for pupil, number in ((True, args.pupil), (False, args.no_pupil)):
            found = []
            for seed, opu in islice(devices(pupil), number):
                one, told = fit_tilt(seed, opu, args.recordings)
                found.append(one)
                bounds += [] if pupil else [one[name][3] for name in TILT]
                warned.append((pupil, told))
                print(seed, "pupil" if pupil else "no pupil", one, "warned" if told else "", flush=True)
            text = "with a pupil" if pupil else "without"
            rows.append(row(f"both angles, mrad, {text}", [one[name] for one in found for name in TILT], 1e-3))
            rows.append(row(f"fringe contrast, {text}", [one[CONTRAST] for one in found]))
    command = f"python -m {NAME} --pupil {args.pupil} --no-pupil {args.no_pupil}"
    alone, behind = (sum(told for pupil, told in warned if pupil == which) for which in (False, True))
    text = (
        f"Made by `{command}`, {time.strftime('%Y-%m-%d')}, {time.process_time() - start:.0f} s of processor time "
        "(stored recordings cost nothing). "
        f"Bias and the largest deviation are in standard errors. Without a pupil the bounds contain {sum(bounds)} of "
        f"{len(bounds)} angles, and {alone} of {args.no_pupil} fits warn that the fringes do not have the contrast of "
        f"the data sheet's upright beam; with a pupil {behind} of {args.pupil} warn.\n\n" + table(HEADINGS, rows)
    )
    print(text)
    if args.page:
        put(text, NAME, args.page)


if __name__ == "__main__":
    main()
