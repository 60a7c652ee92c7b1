"""The page of a characterisation: verdicts, figures, and the device."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from calibration.reports import figures as drawings
from calibration.reports.findings import Findings, Line, readable
from calibration.reports.page import Picture, Section, Table, picture
from calibration.storage.descriptions import flatten
from photonics import OPU
from photonics.plotting.plots import draw_bench

__all__ = ["Plot", "bench_picture", "line_table", "pictures", "plots", "row", "sections"]

NAMES = {
    "camera": "Camera",
    "speckle": "Speckle",
    "projection": "Linear projection",
    "matrix": "Transmission matrix",
    "focusing": "Focusing through the medium",
    "stability": "Stability",
}


class Plot(NamedTuple):
    """A figure before it is made."""

    group: str
    draw: Callable[[Axes], Any]
    caption: str


def sections(report: Findings) -> list[Section]:
    """Everything about a characterisation, in the order in which one would read it."""
    bench = [bench_picture(OPU.from_dict(report.device))] if drawable(report.device) else []
    failed = dict.fromkeys(line.reason for line in report.lines if line.reason)
    tables = [Table(["failed, because"], [[reason] for reason in failed])] if failed else []
    found = [Section("Verdict", summary(report), bench, [*tables, line_table(report.lines)])]
    all_plots = plots(report)
    for group, name in NAMES.items():
        drawn = [picture(plot.draw, plot.caption) for plot in all_plots if plot.group == group]
        if drawn:
            found.append(Section(name, remark(report, group), drawn))
    text = "Every parameter, in SI units unless the name says otherwise."
    found.append(Section("Device", text, tables=[value_table("parameter", report.device)]))
    text = "How the results were measured."
    found.append(Section("Provenance", text, tables=[value_table("quantity", report.provenance)]))
    return found


def value_table(heading: str, tree: Mapping[str, Any]) -> Table:
    """Dotted names and values of a nested description."""
    return Table([heading, "value"], [[name, str(value)] for name, value in flatten(tree).items()])


def summary(report: Findings) -> str:
    """The report in a few sentences."""
    about = report.provenance
    frames_only = str(about.get("truth", "not used")) == "not used"
    truth = "no true matrix was used" if frames_only else "the simulated device's matrix was used to judge projections"
    return (
        f"Overall: {report.verdict}. {about['frames']} frames of the device, {about['camera_frames']} of the camera, "
        f"exposure {about['exposure_s'] * 1e6:.0f} µs, {about['date']}, opu-sim {about['version']}. "
        f"From frames and data sheets; {truth}."
    )


def remark(report: Findings, group: str) -> str:
    """What a chapter should say before its figures: how the result was made, and what its gauge leaves open."""
    about = report.provenance
    if group == "projection":
        gauge = about.get("projection_gauge")
        return f"Method: {about.get('projection', 'anchor')}." + (f" Gauge: {gauge}" if gauge else "")
    if group == "matrix" and about.get("matrix"):
        matrix = about["matrix"]
        gauge = matrix.get("gauge", {})
        fixed = [f"{name.removesuffix('_fixed')} {'fixed' if value else 'open'}" for name, value in gauge.items()
                 if name.endswith("_fixed")]  # fmt: skip
        state = f" ({', '.join(fixed)})" if fixed else ""
        about = f"Method: {matrix.get('method')}, {matrix.get('frames')} frames."
        return f"{about} Gauge: {gauge.get('sentence', '')}{state}"
    return ""


def drawable(device: Mapping[str, Any]) -> bool:
    """Whether the description is enough to draw the bench: a medium that can be made again from it."""
    return dict(device.get("medium") or {}).get("type") == "GaussianMedium"


def bench_picture(opu: OPU) -> Picture:
    """The bench with its parameters."""
    return picture(
        lambda ax: draw_bench(ax, opu),
        "The bench. Labels are the device's parameters; mirrors and scatterers are symbols.",
        (10, 4),
        wide=True,
    )


def line_table(lines: tuple[Line, ...]) -> Table:
    """One row for each line of the report."""
    columns = ["part", "quantity", "formula", "expected", "measured", "verdict", "advice"]
    return Table(columns, [row(line) for line in lines])


def row(line: Line) -> list[str]:
    """The cells of a line."""
    unit = f" {line.unit}" if line.unit else ""
    expected = f"≤ {readable(line.limit, 3)}{unit}"
    if line.expected is not None:
        expected = f"{readable(line.expected, 4)} ± {readable(line.limit, 2)}{unit}"
    if line.expected is None and not math.isfinite(line.limit):
        expected = "–"
    measured = "–"
    if math.isfinite(line.measured):
        measured = readable(line.measured, 4)
        if math.isfinite(line.uncertainty):
            measured += f" ± {readable(line.uncertainty, 2)}"
        measured += unit
    advice = "" if line.verdict == "pass" else f"{line.reason}: {line.advice}" if line.reason else line.advice
    return [line.group, line.name, line.formula, expected, measured, line.verdict, advice]


def pictures(report: Findings) -> list[Picture]:
    """The figures of a characterisation, made."""
    return [picture(plot.draw, plot.caption) for plot in plots(report)]


def plots(report: Findings) -> list[Plot]:
    """The figures of a characterisation, chapter by chapter; each belongs to one of its curves."""
    curves, bits = report.curves, dict(report.device.get("camera") or {}).get("bit_depth", 8)
    made = []
    for name, group, draw, caption in FIGURES:
        if name in curves:
            made.append(Plot(group, lambda ax, draw=draw, name=name: draw(ax, curves[name]), caption))
    if "frame" in curves:
        frame, size = curves["frame"], curves.get("frame_shape", (1, -1))
        text = "A frame of a random half-ON pattern, as the sensor lays it out."
        made.append(Plot("speckle", lambda ax: drawings.draw_speckle(ax, frame, size, 2**bits - 1), text))
    if "focusing" in curves:
        focus, shape = curves["focusing"], curves.get("frame_shape", (1, -1))
        text = "The first focus (ring), best global phase: mean frame over the mean of random patterns."
        made.append(Plot("focusing", lambda ax: drawings.draw_focus(ax, focus["frame"], focus["target"], shape), text))
    return made


FIGURES: tuple[tuple[str, str, Callable[[Axes, Any], Any], str], ...] = (
    ("photon_transfer", "camera", drawings.draw_photon_transfer,
     "Photon transfer curve. The slope is the gain K; filled points were fitted. The well cuts off the noise."),
    ("photon_transfer", "camera", drawings.draw_linearity, "Mean signal against photons per pixel."),
    ("intensity_histogram", "speckle", drawings.draw_histogram,
     "Intensity over its mean, pooled over frames, against the law exp(-I) of fully developed speckle."),
    ("autocovariance", "speckle", drawings.draw_autocovariance,
     "Autocovariance of the frames without the camera's noise: its width is the speckle's grain."),
    ("additivity", "projection", drawings.draw_additivity,
     "Linearity on disjoint supports: the projection of a pattern against the sum of those of its two parts."),
    ("projection", "projection", drawings.draw_projection,
     "Linear projection through the device against the true one, each point an output of a vector."),
    ("row_errors", "projection", drawings.draw_row_errors,
     "Error of each output over its rms. Rows with a dim anchor have the larger ones; the darkest are dropped."),
    ("held_out", "matrix", drawings.draw_held_out,
     "Held-out patterns: measured intensity against that predicted by the recovered matrix, over the mean."),
    ("matrix_rows", "matrix", lambda ax, curve: drawings.draw_row_errors(ax, curve["error"]),
     "Error of each row of the recovered matrix, by held-out patterns, without their noise; first bin: not seen."),
    ("singular_values", "matrix", drawings.draw_singular_values,
     "Singular values of the recovered matrix against the law of a matrix of independent Gaussian entries."),
    ("focusing", "focusing", drawings.draw_budget,
     "Mean enhancement of the foci and its budget: each bar takes one more loss into account."),
    ("stability", "stability", drawings.draw_stability,
     "Correlation of frames of one pattern, repeated during the measurement, and the fitted decorrelation."),
    ("stability", "stability", drawings.draw_power,
     "Total light of the same frames over their mean, against time: the drift of the laser."),
)  # fmt: skip
