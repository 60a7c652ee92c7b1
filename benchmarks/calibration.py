"""Errors of all calibration methods, beside published ones: ``python -m benchmarks.calibration`` from the root.

The bench is `tests.calibration.matrix_benches.bench`: ``lab_bench`` with a camera of 8 bits, 10 ke- and 3 e-, exposed
so that 0.1 % of the readings saturate. The error of a draw is the median over all rows of ``|a - est| / |a|``, after
fixing the gauge that the method states; a refused row counts as 1. The true matrix is used for this error only. The
tables replace the text between two marks of a Markdown file; the picture is written beside the file.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.calibration_picture import draw
from benchmarks.pages import made_by, put, table
from calibration import measure_projection
from calibration.metrics import matrix_row_errors
from calibration.recovery.exposure import expose
from calibration.recovery.frames import BLOCK_VALUES, DARK_FRAMES
from calibration.recovery.methods import build_method, take_frames
from calibration.recovery.transmission import describe_bench
from photonics import OPU, Imaging
from photonics.arrays import HostArray
from photonics.parts.reference import Reference
from tests.calibration.benches import errors, field_matrix
from tests.calibration.matrix_benches import M, N, bench, tilted

NAME = "benchmarks.calibration"
SATURATED = 1e-3
VECTORS, TRIALS = 128, 48
BAND, TILT, SENSOR = 0.08, 0.25, (25, 40)
"""Off-axis projections: bandwidth of the field and carrier along each axis, cycles per pixel; sensor in pixels."""
NI, PR = "numerical-interferometry", "phase-retrieval"
FAIL_SEEDS, FAIL_ROWS, MAX_ERROR, MAX_REFUSED = 100, 100, 0.25, 0.05
"""A draw fails if it is not finite, misses its target, refuses over 5 % of the rows, or marks a wrong row valid."""


class Draw(NamedTuple):
    """Result of one seed."""

    errors: NDArray[np.float64]
    valid: NDArray[np.bool_]
    frames: int
    saturated: float
    solve_s: float
    """CPU time of `prepare` and `solve`, seconds; NaN if one call takes the frames and solves."""
    all_s: float
    """CPU time of everything, the simulated device included, seconds."""
    condition: float


@dataclass
class Case:
    """A row of the table."""

    name: str
    run: Callable[[int], Draw]
    public: str
    target: float | None = None
    slow: bool = False
    per_vector: int = 0
    """Frames per vector; 0 for a matrix."""
    beat: float | None = None
    """Published error to compare with, if there is no target."""
    draws: list[Draw] = field(default_factory=list)

    @property
    def medians(self) -> NDArray[np.float64]:
        """Median row error of each seed."""
        return np.array([np.median(draw.errors) for draw in self.draws])

    @property
    def verdict(self) -> str:
        """Comparison of the worst seed with the target, or with the published error."""
        limit, good, bad = self.target, "met", "**missed**"
        if limit is None:
            limit, good, bad = self.beat, "better than public", "**worse than public**"
        if limit is None:
            return ""
        if self.medians.max() <= limit:
            return good
        return f"{good} by the median, {bad} by the worst seed" if np.median(self.medians) <= limit else bad

    def cells(self) -> list[str]:
        """Texts of the row."""
        first, solve = self.draws[0], [draw.solve_s for draw in self.draws]
        return [
            self.name,
            f"{self.per_vector} per vector" if self.per_vector else f"{first.frames} ({first.frames / N:.1f}n)",
            self.public,
            "" if self.target is None else f"≤ {self.target:g}",
            f"{np.median(self.medians):.4f}",
            f"{self.medians.max():.4f}",
            self.verdict,
            "" if math.isnan(solve[0]) else f"{np.median(solve):.2f} / {max(solve):.2f}",
            f"{np.median([draw.all_s for draw in self.draws]):.2f}",
            f"{np.mean([1.0 - draw.valid.mean() for draw in self.draws]):.2%}",
            "" if math.isnan(first.condition) else f"{max(draw.condition for draw in self.draws):.2f}",
            f"{np.mean([draw.saturated for draw in self.draws]):.2%}",
            str(len(self.draws)),
        ]


ERRORS = ["method", "frames", "published error", "target", "error, median", "worst seed", "verdict"]
COSTS = ["CPU s of the solution, median / worst", "CPU s in all", "rows refused", "condition", "saturated", "seeds"]


class Frames:
    """Frames in memory, in the form that `RecoveryMethod.prepare` takes."""

    def __init__(self, frames: HostArray) -> None:
        self.all, self.count = frames, len(frames)

    def rows(self, rows: slice) -> HostArray:
        """All frames of some pixels."""
        return self.all[:, rows]

    def frames(self, start: int, stop: int) -> HostArray:
        """All pixels of some frames."""
        return self.all[start:stop]


def matrix(seed: int, device: Callable[[int], OPU], method: str, **options: Any) -> Draw:
    """Recover a matrix as `recover_transmission_matrix` does, from frames in memory, and time its parts."""
    start = time.process_time()
    opu = device(seed)
    expose(opu, method, saturated=SATURATED, seed=seed, **options)
    plan = build_method(opu, method, seed=seed, **options)
    plan.check(opu)
    dark = opu.dark(DARK_FRAMES)
    count = plan.frames + plan.closing_frames
    shots = [plan.shots(first, min(first + 256, count)) for first in range(0, count, 256)]
    frames = np.concatenate([take_frames(opu, part) for part in shots])
    about, before = describe_bench(opu, dark), time.process_time()
    size = max(BLOCK_VALUES // len(frames), 8)
    blocks = []
    with threadpool_limits(1, user_api="blas"):
        state = plan.prepare(Frames(frames), about)
        for first in range(0, opu.n_out, size):
            rows = slice(first, min(first + size, opu.n_out))
            blocks.append(plan.solve(frames[:, rows], rows, about, state))
    end = time.process_time()
    valid = np.concatenate([block.valid for block in blocks])
    found = np.where(valid[:, None], np.concatenate([block.matrix for block in blocks]), 0)
    return Draw(
        errors=matrix_row_errors(found, field_matrix(opu)[:, : plan.n_inputs], plan.gauge),
        valid=valid,
        frames=DARK_FRAMES + count,
        saturated=float((frames >= opu.camera.saturation_dn).mean()),
        solve_s=end - before,
        all_s=end - start,
        condition=plan.condition_number,
    )


def projection(
    seed: int, device: Callable[[int], OPU], method: str, density: float = 0.5, spare: int = 0, **options: Any
) -> Draw:
    """Calibrate a projection and project vectors, at an exposure that suits the patterns of both."""
    start = time.process_time()
    opu, rng = device(seed), np.random.default_rng(seed)
    x, trial = (rng.random((count, N)) < density for count in (VECTORS, TRIALS))
    patterns, anchors = trial, options.get("anchors")
    if method == "anchor":
        patterns = np.concatenate([trial, ~trial])
    if anchors:
        shown = np.arange(spare) % anchors == np.arange(TRIALS)[:, None] % anchors
        patterns = np.concatenate([trial, shown], axis=1)
        options["n_inputs"] = N
    phase = None if method in ("anchor", "multilateration") else np.arange(TRIALS) * 1.3
    low, high = 1e-6, opu.longest_exposure_s
    for _ in range(12):
        opu.exposure_s = math.sqrt(low * high)
        full = float((opu.measure(patterns, reference_phase=phase) >= opu.camera.saturation_dn).mean())
        low, high = (low, opu.exposure_s) if full > SATURATED else (opu.exposure_s, high)
    opu.exposure_s = low
    full = float((opu.measure(patterns, reference_phase=phase) >= opu.camera.saturation_dn).mean())
    first = opu.clock.frames
    linear = measure_projection(opu, method, **options)
    values = linear(x)
    end = time.process_time()
    found = np.ones(opu.n_out)
    found[linear.valid] = errors(linear, x, values)
    frames = opu.clock.frames - first
    return Draw(found, np.asarray(linear.valid), frames, full, math.nan, end - start, math.nan)


def popoff_bench(seed: int) -> OPU:
    """Bench with twice the inputs, for Popoff's internal reference."""
    return bench(seed, n=2 * N)


def grain_bench(seed: int, noise: float = 0.0) -> OPU:
    """Bench with 32 x 32 speckle grains of 10 pixels, for off-axis recovery."""
    return tilted("lab_bench", N, seed=seed, noise=noise).replace(camera=bench(seed).camera)


def beam(seed: int, noise: float = 0.0) -> OPU:
    """Bench with grains of 6 pixels on 25 x 40 pixels and a reference beam twice as bright as the speckle."""
    opu = bench(seed, m=4 * M)
    angle = math.asin(TILT * opu.laser.wavelength_m / opu.imaging.pixel_m)
    reference = Reference(angle_x_rad=angle, angle_y_rad=angle, intensity=2.0, noise=noise, seed=seed)
    aperture = BAND * opu.laser.wavelength_m / opu.imaging.pixel_m
    return opu.replace(imaging=Imaging(numerical_aperture=aperture, sensor=SENSOR, reference=reference))


def spare_bench(seed: int, spare: int) -> OPU:
    """Bench with `spare` additional inputs for anchors, and correspondingly more light."""
    opu = bench(seed, n=N + spare)
    return opu.replace(imaging=Imaging(throughput=3e-6 / opu.n_in))


def cases() -> list[Case]:
    """The rows of the table."""
    jitter, drift = {"phase_jitter_rad": 0.4}, {"phase_drift_rad": 0.4, "phase_drift_time_s": 5e-3}

    def stepped(name: str, public: str, target: float | None, about: Mapping[str, float], **options: Any) -> Case:
        run = partial(matrix, device=partial(bench, **about), method="phase-stepping", **options)
        return Case(name, run, public, target)

    def reference_free(name: str, method: str, times: float, public: str, target: float | None, slow: bool) -> Case:
        run = partial(matrix, device=bench, method=method, frames_per_input=times)
        return Case(name, run, public, target, slow)

    def linear(
        name: str, beat: float | None, count: int, device: Callable[[int], OPU], method: str, **options: Any
    ) -> Case:
        run = partial(projection, device=device, method=method, **options)
        public = "" if beat is None else f"{beat:g}"
        return Case(f"projection, {name}", run, public, per_vector=count, beat=beat)

    def shift(anchors: int, spare: int, beat: float) -> Case:
        where = partial(spare_bench, spare=spare)
        name = f"multilateration, S = {anchors}"
        return linear(name, beat, anchors + 1, where, "multilateration", spare=spare, anchors=anchors)

    off = "off-axis"
    noisy, clean = partial(grain_bench, noise=0.1), linear("off-axis, clean", 0.0145, 1, beam, off)
    clean.target = 0.015
    return [
        reference_free("numerical interferometry, 14n", NI, 14, "0.111 at 49n, up to NaN", 0.045, False),
        reference_free("numerical interferometry, 63n", NI, 63, "0.099 at 65n, up to NaN", 0.02, True),
        reference_free("phase retrieval, binary, 8n", PR, 8, "0.148 prSAMP, 0.14 prVBEM", None, False),
        reference_free("phase retrieval, binary, 14n", PR, 14, "", 0.045, True),
        stepped("phase stepping, 4 steps", "0.039", 0.035, {}),
        stepped("jitter of 0.4 rad in every frame", "0.42", None, jitter),
        stepped("jitter of 0.4 rad, tracked", "", 0.06, jitter, track_drift=True),
        stepped("drift of 0.4 rad between columns", "0.42", None, drift),
        stepped("drift of 0.4 rad, tracked", "", 0.06, drift, track_drift=True),
        Case("Popoff, mirrors as reference", partial(matrix, device=popoff_bench, method="popoff"), "0.034", 0.035),
        Case("off-axis, matrix", partial(matrix, device=grain_bench, method=off), ""),
        Case("off-axis, matrix, 10 % reference noise", partial(matrix, device=noisy, method=off), ""),
        linear("phase stepping, 4 steps", None, 4, bench, "phase-stepping"),
        clean,
        linear("off-axis, 10 % reference noise", 0.028, 1, partial(beam, noise=0.1), off),
        linear("complement", 0.025, 2, bench, "anchor"),
        linear("complement, 10 % ON", 0.07, 2, bench, "anchor", density=0.1),
        shift(5, 640, 0.058),
        shift(8, 640, 0.044),
        shift(15, 960, 0.02),
    ]


def describe_failures(seeds: int, rows: int) -> str:
    """A sentence about the draws that fail."""
    failed, worst, refused, highest = [], 0.0, 0, 0.0
    for seed in range(seeds):
        draw = matrix(seed, partial(bench, m=rows), NI, frames_per_input=14)
        median, wrong = float(np.median(draw.errors)), draw.errors[draw.valid].max(initial=0.0)
        finite, known = bool(np.isfinite(draw.errors).all()), draw.valid.mean() >= 1.0 - MAX_REFUSED
        if not (finite and median <= 0.045 and wrong <= MAX_ERROR and known):
            failed.append(seed)
        worst, refused, highest = max(worst, wrong), refused + int((~draw.valid).sum()), max(highest, median)
    seeds_failed = f" (seeds {failed})" if failed else ""
    return (
        f"**Failing draws in {seeds} seeds: {len(failed)}**{seeds_failed} — numerical interferometry, 14n, {rows} rows "
        "per seed for speed, a new medium, camera and set of probes in each. A draw fails if it is not finite, its "
        f"median error is over 0.045, over {MAX_REFUSED:.0%} of its rows are refused, or a valid row is wrong by more "
        f"than {MAX_ERROR}. Highest median {highest:.4f}; {refused} of {seeds * rows} rows refused; worst valid row "
        f"{worst:.3f}."
    )


def curves(rows: int) -> dict[str, list[tuple[float, float]]]:
    """Error against frames per input for the picture, one seed each."""
    plans: dict[str, tuple[str, str, Iterable[float]]] = {
        "numerical interferometry": (NI, "frames_per_input", (11, 14, 20, 32, 63)),
        "phase retrieval": (PR, "frames_per_input", (7, 8, 10, 14, 20, 32)),
        "phase stepping": ("phase-stepping", "steps", (3, 4, 8, 16)),
    }
    found = {}
    for name, (method, option, values) in plans.items():
        draws = [matrix(0, partial(bench, m=rows), method, **{option: value}) for value in values]
        found[name] = [(draw.frames / N, float(np.median(draw.errors))) for draw in draws]
    return found


def tables(done: list[Case], line: str) -> str:
    """Table of the errors, the line about failing draws, and the table of what the runs cost."""
    count, rows = len(ERRORS), [case.cells() for case in done]
    errors, costs = table(ERRORS, (row[:count] for row in rows)), ([row[0], *row[count:]] for row in rows)
    return f"{errors}\n{line}\n\nWhat the same runs cost:\n\n{table(['method', *COSTS], costs)}"


def main() -> None:
    """Run all cases; print each as it is done."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--slow-seeds",
        type=int,
        default=None,
        help="seeds of cases that take over 2 s per seed; default a quarter of --seeds",
    )
    parser.add_argument("--quick", action="store_true", help="use 1 seed per case, and 10 for failing draws")
    parser.add_argument("--out", type=Path, default=None, help="Markdown file; the picture is written beside it")
    args = parser.parse_args()
    seeds = 1 if args.quick else args.seeds
    slow = max(seeds // 4, 1) if args.slow_seeds is None else args.slow_seeds
    done = cases()
    print(" | ".join([*ERRORS, *COSTS]))
    for case in done:
        case.draws.extend(case.run(seed) for seed in range(slow if case.slow else seeds))
        print(" | ".join(case.cells()), flush=True)
    line = describe_failures(10 if args.quick else FAIL_SEEDS, FAIL_ROWS)
    print(line, flush=True)
    if args.out is not None:
        flags = " --quick" if args.quick else f" --seeds {seeds} --slow-seeds {slow}"
        made = made_by(f"python -m {NAME}{flags} --out {args.out.as_posix()}")
        put(f"{made}; m = {M}, n = {N}.\n\n{tables(done, line)}", NAME, args.out)
        points = {case.name: (case.draws[0].frames / N, case.medians) for case in done if not case.per_vector}
        vectors = {case.name: (case.per_vector, case.medians) for case in done if case.per_vector}
        draw(args.out.with_suffix(".png"), curves(100 if args.quick else 300), points, vectors)


if __name__ == "__main__":
    main()
