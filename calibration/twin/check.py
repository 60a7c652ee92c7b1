"""Whether a twin answers as its bench did: the same questions to several draws of the twin, compared line by line."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from calibration.reports.findings import format_number
from calibration.storage.files import write_new
from calibration.storage.recorded import RecordedDevice
from calibration.storage.recording import Recording
from calibration.twin.evidence import Evidence, read_evidence
from calibration.twin.fit import fit_evidence
from calibration.twin.light import dark_at
from calibration.twin.looks import Looks
from calibration.twin.matrix import chosen_frames
from calibration.twin.parameter import CannotTell
from calibration.twin.pixels import SURE, curve_of, shared_noise, take_out_curve
from calibration.twin.sensor import Sensor, dark_growth, read_sensor
from calibration.twin.speckle import layout
from calibration.twin.twin import Twin
from photonics import OPU
from photonics.arrays import BoolArray, FloatArray, HostArray
from photonics.backend import to_host
from photonics.component import integer

__all__ = ["CheckLine", "TwinCheck", "check_twin"]

MAX_Z = 3.0
"""Deviation in standard deviations beyond which the twin does not reproduce a line."""
PIXELS = "pixels"
"""Group of lines that predict pixels."""
ERROR_OF_ERRORS = 0.25
"""Relative error of the stated errors of a matrix (`calibration.fit_matrix` and its tests)."""
MIN_RUNS = 3
"""Smallest number of runs that tell a line's spread."""
QUANTILES = (0.1, 0.5, 0.9, 0.99)
"""Quantiles of the histogram."""
COLUMNS = ["what", "quantity", "bench", "twin", "z", "verdict"]


@dataclass(frozen=True)
class CheckLine:
    """A number from the bench's frames and from those of the twin."""

    group: str
    """"parameters", "frames" or "pixels"."""
    name: str
    """Name of the quantity."""
    bench: float
    """Value from the bench's frames."""
    twin: float
    """Mean over the runs of the twin."""
    spread: float
    """Standard deviation over the runs."""
    z: float
    """Deviation as that of a normal variable; NaN if fewer than three runs tell the value."""

    @property
    def reproduced(self) -> bool:
        """Whether the twin reproduces the line, or it cannot be compared; better predictions of pixels are no fault."""
        return not (self.z if self.group == PIXELS else abs(self.z)) > MAX_Z


@dataclass(frozen=True, eq=False)
class TwinCheck:
    """Comparison of a bench with its twin."""

    lines: tuple[CheckLine, ...]
    """One line for each quantity."""
    runs: int
    """Number of draws of the twin."""

    @property
    def missed(self) -> tuple[str, ...]:
        """Names of the lines that the twin does not reproduce."""
        return tuple(line.name for line in self.lines if not line.reproduced)

    def rows(self) -> list[list[str]]:
        """Table with one row for each line."""
        return [
            [
                line.group,
                line.name,
                format_number(line.bench, 4),
                f"{format_number(line.twin, 4)} ± {format_number(line.spread, 2)}",
                f"{line.z:+.1f}" if np.isfinite(line.z) else "–",
                ("pass" if line.reproduced else "differs") if np.isfinite(line.z) else "not measurable",
            ]
            for line in self.lines
        ]

    def html(self) -> str:
        """Page with the table."""
        from calibration.reports.page import Section, Table, render  # Jinja2 is imported only if a page is made

        text = f"The same questions to the bench and to {self.runs} draws of its twin. {self.verdict}."
        return render("A bench and its twin", [Section("Comparison", text, tables=[Table(COLUMNS, self.rows())])])

    def to_html(self, path: str | Path) -> Path:
        """Write the comparison as one HTML page; raises a ``ValueError`` if the file exists."""
        return write_new(path, self.html())

    @property
    def verdict(self) -> str:
        """What the twin does not reproduce, in a sentence without its full stop."""
        return f"Not reproduced: {', '.join(self.missed)}" if self.missed else "Every line is reproduced"

    def __str__(self) -> str:
        from calibration.reports.page import Table  # Matplotlib is imported only if a table is made

        return f"{Table(COLUMNS, self.rows())}\n{self.verdict} ({self.runs} runs of the twin)"

    def __repr__(self) -> str:
        return f"TwinCheck({len(self.missed)} of {len(self.lines)} lines not reproduced, {self.runs} runs)"


def check_twin(
    twin: Twin, recording: Recording | RecordedDevice | str | Path, *, runs: int = 6, seed: int = 0
) -> TwinCheck:
    """Ask draws of a twin what the bench was asked, and compare fits and frames line by line.

    Each run draws the parameters from their errors, and a medium, pixels and noise of its own, so that the spread over
    the runs is all that the twin leaves open. A bench that lies outside differs from what the twin can be.

    The pixels and the matrix of the bench are compared, too: how much of the frames the twin does not predict pixel by
    pixel, for the bench and for draws of the pixels and the matrix from their errors. These frames were not fitted.

    Parameters
    ----------
    twin : Twin
        The twin of the recording.
    recording : Recording, RecordedDevice, str or Path
        The recording of the bench.
    runs : int
        Number of draws, 3 or more; each costs a fit and the simulation of all frames.
    seed : int
        Seed of the draws.

    Returns
    -------
    TwinCheck
        Lines with their z values; `TwinCheck.missed` names those that are not reproduced.

    Raises
    ------
    ValueError
        If an argument is wrong, or the frames of the bench do not allow a fit.

    References
    ----------
    A. Gelman, X.-L. Meng and H. Stern, "Posterior predictive assessment of model fitness", Statistica Sinica 6, 733
    (1996).
    """
    integer(runs, "runs", MIN_RUNS)
    seen = read_evidence(recording._recording if isinstance(recording, RecordedDevice) else recording)
    drawn = [numbers_of(answer(draw_twin(twin, seed + k).build(seed + k, same=False), seen)) for k in range(runs)]
    tests, lines = pixel_tests(twin, seen), []
    for k, run in enumerate(drawn):
        opu = draw_twin(twin, seed + k).build(seed + k, same=True)
        run |= {test.key: test.unexplained(answer(opu, test.asked).frames) for test in tests}
    benches = numbers_of(seen) | {test.key: test.unexplained(test.asked.frames) for test in tests}
    for key, bench in benches.items():
        values = np.array([run[key] for run in drawn if np.isfinite(run.get(key, np.nan))])
        lines.append(compare_line(*key, bench, values))
    return TwinCheck(tuple(lines), runs)


def compare_line(group: str, name: str, bench: float, values: NDArray[np.float64]) -> CheckLine:
    """Line of a value of the bench and those of the runs; positive values are compared by their logarithms."""
    if len(values) < MIN_RUNS or not np.isfinite(bench):
        return CheckLine(group, name, bench, float(values.mean()) if len(values) else np.nan, np.nan, np.nan)
    x, y = (np.log(bench), np.log(values)) if bench > 0.0 and (values > 0.0).all() else (bench, values)
    spread = float(np.std(y, ddof=1)) * np.sqrt(1.0 + 1.0 / len(y))
    off = (x - y.mean()) / spread if spread > 0.0 else np.inf * np.sign(x - y.mean()) if x != y.mean() else 0.0
    z = float(np.sign(off) * -ndtri(stdtr(len(y) - 1, -abs(off))))
    return CheckLine(group, name, bench, float(values.mean()), float(values.std(ddof=1)), z)


def draw_twin(twin: Twin, seed: int) -> Twin:
    """Twin whose known parameters are drawn from their errors; those of positive ones are errors of the logarithm."""
    random = np.random.default_rng(seed)
    drawn = []
    for p in twin.parameters:
        value, error, normal = p.estimate.value, p.estimate.error, random.normal()
        if p.known and value > 0.0 and not p.signed:
            p = replace(p, estimate=replace(p.estimate, value=float(value * np.exp(normal * min(error / value, 0.5)))))
        elif p.known and (value < 0.0 or p.signed):
            p = replace(p, estimate=replace(p.estimate, value=float(value + normal * error)))
        drawn.append(p)
    matrix = twin.matrix
    if matrix is not None:
        real, imag = random.standard_normal((2, *matrix.matrix.shape), np.float32)
        error = np.where(matrix.valid, matrix.standard_error, 0.0)[:, None] / 2.0**0.5
        error = error * np.exp(ERROR_OF_ERRORS * random.normal())
        matrix = replace(matrix, matrix=(matrix.matrix + error * (real + 1j * imag)).astype(np.complex64))
    return replace(twin, parameters=tuple(drawn), maps=twin.maps.draw(random), matrix=matrix)


class PixelTest(NamedTuple):
    """A prediction of frames pixel by pixel."""

    key: tuple[str, str]
    """Group and name."""
    asked: Evidence
    """The bench's frames."""
    predicted: NDArray[np.float64]
    """Values of the good pixels, (frames, pixels), or (1, pixels) for the mean frame."""
    pixels: BoolArray
    """Good pixels, (n_out,)."""

    def unexplained(self, frames: HostArray) -> float:
        """Share of the variance over pixels and frames that the prediction does not explain, ``1 - r^2``."""
        found = frames[:, self.pixels].astype(np.float64)
        found = found.mean(axis=0, keepdims=True) if len(self.predicted) == 1 else found
        return 1.0 - float(np.corrcoef(found.ravel(), self.predicted.ravel())[0, 1]) ** 2


def pixel_tests(twin: Twin, seen: Evidence) -> list[PixelTest]:
    """Tests of the map of offsets, on dark frames of another exposure, and of the matrix, on patterns left out."""
    found, good, dark = [], ~twin.maps.bad, seen.dark()
    if twin.maps.offset_dn is not None and len(dark) > 1:
        asked = seen.take(max(dark[:-1], key=lambda one: len(one[1]))[1])
        name = "unexplained share of the pixels' dark level, by the map of offsets"
        found.append(PixelTest((PIXELS, name), asked, twin.maps.offset_dn[None, good].astype(np.float64), good))
    if twin.matrix is not None:
        asked, pixels = seen.take(chosen_frames(seen, twin.field_frames).tested), good & twin.matrix.valid
        mean = to_host(twin.device(same=True).mean(asked.patterns, seen.main_s))[:, pixels]
        name = "unexplained share of half-ON patterns, by the matrix"
        found.append(PixelTest((PIXELS, name), asked, mean.astype(np.float64), pixels))
    return found


def answer(opu: OPU, seen: Evidence) -> Evidence:
    """Frames of a device for the requests of a recording, at the same frame numbers."""
    frames = np.empty((len(seen.frames), opu.n_out), opu.camera.dtype)
    for part in requests(seen):
        first = part[0]
        opu.clock.frames = int(seen.number[first])
        time = float(np.clip(seen.exposure_s[first], 1e-6, opu.longest_exposure_s))
        if not seen.laser_on[first]:
            frames[part] = to_host(opu.dark(len(part), time))
            continue
        phase = None if np.isnan(seen.phase[first]) else seen.phase[part]
        frames[part] = to_host(opu.measure(seen.patterns[part], time, reference_phase=phase))
    return replace(seen, frames=frames)


def requests(seen: Evidence) -> Iterator[NDArray[np.int64]]:
    """Runs of frames with following numbers that one call takes."""
    same = (np.diff(seen.number) == 1) & (np.diff(seen.exposure_s) == 0.0)
    for state in (seen.laser_on, np.isnan(seen.phase)):
        same &= state[1:] == state[:-1]
    yield from np.split(np.arange(len(seen.number)), np.flatnonzero(~same) + 1)


def numbers_of(seen: Evidence) -> dict[tuple[str, str], float]:
    """Fitted parameters and statistics of the frames, by group and name; NaN for what they do not tell."""
    sensor = read_sensor(seen)
    twin = fit_evidence(*take_out_curve(seen, sensor), {})
    found = {("parameters", p.name): p.estimate.value for p in twin.parameters}
    return found | {("frames", name): value for name, value in statistics(seen, sensor).items()}


def statistics(seen: Evidence, sensor: Sensor) -> dict[str, float]:
    """Statistics of the frames: dark frames, histogram, variance against mean, correlation in space and time."""
    dark = seen.of(seen.dark()[-1][1])[:, sensor.live]
    found = {"dark level, DN": float(dark.mean()), "dark variance, DN^2": float(dark.var(axis=0, ddof=1).mean())}
    found |= flaws(seen, sensor)
    pairs = seen.pairs()
    if len(pairs):
        signal = (seen.of(pairs) - dark_at(seen, sensor, seen.main_s))[:, sensor.live]
        mean = float(signal.mean())
        found["mean of half-ON patterns, DN"] = mean
        levels = np.quantile(signal / mean, QUANTILES)
        found |= {f"quantile {q:g} over the mean": float(v) for q, v in zip(QUANTILES, levels, strict=True)}
        found |= neighbours(seen, sensor, pairs)
    found |= burst_variances(seen, sensor)
    try:
        looks = Looks(seen, sensor)
    except CannotTell:
        return found
    light = looks.signal[:, looks.pixels].mean(axis=1)
    found["fluctuation of the total light"] = float(light.std() / light.mean())
    found["the same from frame to frame"] = float(np.diff(light).std() / 2.0**0.5 / light.mean())
    centred = looks.means[:, looks.pixels]
    centred = centred - centred.mean(axis=1, keepdims=True)
    for name, first in (("second", 1), ("middle", len(centred) // 2), ("last", len(centred) - 1)):
        found[f"correlation of the first with the {name} look"] = correlation(centred[0], centred[first])
    return found


def flaws(seen: Evidence, sensor: Sensor) -> dict[str, float]:
    """Statistics of noise of lines, hot pixels and a curve, which a twin that lacks them has no parameter to show.

    Dark frames without a flaw give one and the same value, so that a few readings that rounding changes are no flaw.
    """
    lines = zip(("row", "column"), shared_noise(seen, layout(seen)), strict=True)
    found = {
        f"variance that the pixels of a {name} share, DN^2, or 0": one.value if one.value > SURE * one.error else 0.0
        for name, one in lines
        if np.isfinite(one.value)
    }
    grown, hot = dark_growth(seen, seen.of(seen.dark()[-1][1]).astype(np.float64))
    found["largest growth of a dark level over that of a hot pixel, or 1"] = max(float(grown.max()) / hot, 1.0)
    return found | {"curve of the level against exposure, 1/DN": curve_of(seen, sensor).value}


def neighbours(seen: Evidence, sensor: Sensor, pairs: NDArray[np.int64]) -> dict[str, float]:
    """Correlation of neighbouring pixels along both axes."""
    rows, columns = layout(seen)
    if min(rows, columns) < 4:
        return {}
    signal = np.where(sensor.live, seen.of(pairs[::4]) - sensor.level, np.nan).reshape(-1, rows, columns)
    signal = signal - np.nanmean(signal, axis=(1, 2), keepdims=True)
    power = float(np.nanmean(signal**2))
    across, down = signal[:, :, 1:] * signal[:, :, :-1], signal[:, 1:] * signal[:, :-1]
    return {
        "correlation with the next pixel of the row": float(np.nanmean(across)) / power,
        "correlation with the next pixel of the column": float(np.nanmean(down)) / power,
    }


def burst_variances(seen: Evidence, sensor: Sensor) -> dict[str, float]:
    """Temporal variance over the signal in bursts at the main exposure, for the dim and the bright half of pixels."""
    ratios = []
    for index in seen.bursts():
        if not np.isclose(seen.exposure_s[index[0]], seen.main_s):
            continue
        frames = seen.of(index)
        pixels = sensor.unsaturated(frames)
        signal = frames[:, pixels].mean(axis=0) - sensor.level[pixels]
        variance = np.diff(frames[:, pixels], axis=0).var(axis=0) / 2.0
        dim = signal < np.median(signal)
        ratios.append([float(variance[half].mean() / max(signal[half].mean(), 0.1)) for half in (dim, ~dim)])
    if not ratios:
        return {}
    names = ("variance over signal, dim half of pixels, DN", "variance over signal, bright half of pixels, DN")
    return {name: float(value) for name, value in zip(names, np.mean(ratios, axis=0), strict=True)}


def correlation(first: FloatArray, second: FloatArray) -> float:
    """Correlation of two frames without their means."""
    return float((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean()))
