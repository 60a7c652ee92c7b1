"""The page of a characterisation: verdicts, figures, and the device."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from calibration.projections.methods import METHODS as PROJECTIONS
from calibration.recovery.methods import METHODS as RECOVERIES
from calibration.reports import figures as drawings
from calibration.reports.findings import Findings, Line, format_number
from calibration.reports.page import Picture, Section, Table, picture
from calibration.storage.descriptions import Description, flatten
from photonics import OPU
from photonics.plotting.plots import draw_bench

__all__ = ["Plot", "bench_picture", "line_table", "pictures", "plots", "row", "sections"]

RULE = (
    "A line passes if its measured value is within the limit of the expected one, or within 3 standard errors (3 s.e.) "
    "if that is more. Up to 3 times as far it is degraded, and beyond failed. A bound (≤) has no such margin. "
    "A property of the medium or its illumination that is not that of a Gaussian medium differs; it is no fault of the "
    "calibration."
)
"""The rule of the verdicts, as the page gives it."""
NAMES = {
    "camera": "Camera",
    "speckle": "Speckle",
    "projection": "Linear projection",
    "matrix": "Transmission matrix",
    "focusing": "Focusing through the medium",
    "stability": "Stability",
    "frames": "Order of the frames",
}


class Plot(NamedTuple):
    """A figure that is not drawn yet."""

    group: str
    draw: Callable[[Axes], object]
    caption: str


def sections(report: Findings) -> list[Section]:
    """Sections of the page, in reading order."""
    bench = [bench_picture(OPU.from_dict(report.device), uses_reference(report))] if can_draw(report.device) else []
    failed = dict.fromkeys(line.reason for line in report.lines if line.reason)
    tables = [Table(["reason of the failure"], [[reason] for reason in failed])] if failed else []
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


def uses_reference(report: Findings) -> bool:
    """Whether a method of the report used the reference arm; methods of others, which are not registered, do not."""
    about = report.provenance
    matrix = dict(about.get("matrix") or {})
    kinds = PROJECTIONS.get(about.get("projection", "")), RECOVERIES.get(matrix.get("method", ""))
    return any(kind.uses_reference for kind in kinds if kind is not None)


def value_table(heading: str, tree: Description) -> Table:
    """Dotted names and values of a nested description."""
    return Table([heading, "value"], [[name, str(value)] for name, value in flatten(tree).items()])


def summary(report: Findings) -> str:
    """The report in a few sentences."""
    about = report.provenance
    frames_only = str(about.get("truth", "not used")) == "not used"
    truth = "no true matrix was used" if frames_only else "the simulated device's matrix was used to judge projections"
    return (
        f"Overall: {report.summary}. The medium: {report.medium}. "
        f"{about['frames']} frames of the device, {about['camera_frames']} of the camera, "
        f"exposure of plain patterns {microseconds(about['exposure_s'])}, {about['date']}, opu-sim {about['version']}. "
        f"The report uses frames and data sheets; {truth}.\n{RULE}"
    )


def microseconds(seconds: float) -> str:
    """An exposure as text.

    >>> microseconds(4.4e-4)
    '440 µs'
    """
    return f"{format_number(1e6 * seconds, 3)} µs"


def remark(report: Findings, group: str) -> str:
    """Text before the figures of a chapter: its exposure, its method, and what the gauge leaves undetermined."""
    exposures = dict(report.provenance.get("exposures_s") or {})
    exposure = f"Exposure: {microseconds(exposures[group])}. " if group in exposures else ""
    return (exposure + method_of(report, group)).strip()


def method_of(report: Findings, group: str) -> str:
    """Method and gauge of a chapter."""
    about = report.provenance
    if group == "projection":
        gauge = about.get("projection_gauge")
        vectors = f" Shown: {about['projection_vectors']}." if "projection_vectors" in about else ""
        return f"Method: {about.get('projection', 'anchor')}.{vectors}" + (f" Gauge: {gauge}" if gauge else "")
    if group == "matrix" and about.get("matrix"):
        matrix = about["matrix"]
        gauge = matrix.get("gauge", {})
        words = {True: "fixed", False: "undetermined"}
        fixed = [f"{n.removesuffix('_fixed')} {words[value]}" for n, value in gauge.items() if n.endswith("_fixed")]
        state = f" ({', '.join(fixed)})" if fixed else ""
        about = f"Method: {matrix.get('method')}, {matrix.get('frames')} frames."
        return f"{about} Gauge: {gauge.get('sentence', '')}{state}."
    return ""


def can_draw(device: Description) -> bool:
    """Whether the bench can be drawn, that is, its medium can be built from the description."""
    return dict(device.get("medium") or {}).get("type") == "GaussianMedium"


def bench_picture(opu: OPU, reference: bool = False) -> Picture:
    """Diagram of the bench with its parameters, and with its reference arm if that was used."""
    return picture(
        lambda ax: draw_bench(ax, opu, reference),
        "The bench. Labels are parameters of the device; mirrors and scatterers are symbolic.",
        (10, 4),
        wide=True,
    )


def line_table(lines: tuple[Line, ...]) -> Table:
    """Table with a row for each line of the report."""
    columns = ["part", "quantity", "formula", "expected", "measured", "verdict", "advice"]
    return Table(columns, [row(line) for line in lines])


def row(line: Line) -> list[str]:
    """The cells of a line."""
    unit = f" {line.unit}" if line.unit else ""
    expected = f"≤ {format_number(line.limit, 3)}{unit}"
    if line.expected is not None:
        expected = f"{format_number(line.expected, 4)} ± {format_number(line.allowed, 2)}{unit}"
        if line.allowed > line.limit:
            expected += " (3 s.e.)"
    if line.expected is None and not math.isfinite(line.limit):
        expected = "–"
    measured = "–"
    if math.isfinite(line.measured):
        measured = format_number(line.measured, 4)
        if math.isfinite(line.uncertainty):
            measured += f" ± {format_number(line.uncertainty, 2)}"
        measured += unit
    advice = "" if line.verdict == "pass" else f"{line.reason}: {line.advice}" if line.reason else line.advice
    return [line.group, line.name, line.formula, expected, measured, line.verdict, advice]


def pictures(report: Findings) -> list[Picture]:
    """The figures of a report, drawn."""
    return [picture(plot.draw, plot.caption) for plot in plots(report)]


def plots(report: Findings) -> list[Plot]:
    """The figures of a report, chapter by chapter. A figure whose curve is missing is left out."""
    curves, bits = report.curves, dict(report.device.get("camera") or {}).get("bit_depth", 8)
    made = []
    for name, group, draw, caption in FIGURES:
        if name in curves and REQUIRED.get(draw, "") in ("", *curves[name]):
            made.append(Plot(group, lambda ax, draw=draw, name=name: draw(ax, curves[name]), caption))
    if "frame" in curves:
        frame, size = curves["frame"], curves.get("frame_shape", (1, -1))
        text = "A frame of a random half-ON pattern, in the sensor's layout."
        made.append(Plot("speckle", lambda ax: drawings.draw_speckle(ax, frame, size, 2**bits - 1), text))
    if "focusing" in curves:
        focus, shape = curves["focusing"], curves.get("frame_shape", (1, -1))
        text = "The first focus (ring) with the best global phase: mean frame relative to the mean of random patterns."
        made.append(Plot("focusing", lambda ax: drawings.draw_focus(ax, focus["frame"], focus["target"], shape), text))
    return made


FIGURES: tuple[tuple[str, str, Callable[[Axes, Any], object], str], ...] = (
    ("photon_transfer", "camera", drawings.draw_photon_transfer,
     "Photon transfer curve. The slope is the gain K; filled points were fitted. The full well cuts off the noise."),
    ("photon_transfer", "camera", drawings.draw_snr,
     "Signal over temporal noise. The dynamic range begins at the absolute sensitivity threshold of EMVA 1288, for "
     "which the dark noise is 0.49 DN or more. Rounding adds to noise under half a code: points under the curve."),
    ("photon_transfer", "camera", drawings.draw_linearity,
     "Linearity: deviation of the mean signal from the fitted line, over 5 to 95 % of saturation."),
    ("intensity_histogram", "speckle", drawings.draw_histogram,
     "Intensity over its mean, pooled over frames, against the law exp(-I) of fully developed speckle."),
    ("autocovariance", "speckle", drawings.draw_autocovariance,
     "Autocovariance of the frames without the camera's noise: its width is the speckle's grain."),
    ("additivity", "projection", drawings.draw_additivity,
     "Linearity: the projection of a vector against the sum of the projections of two disjoint parts of it."),
    ("projection", "projection", drawings.draw_projection,
     "Measured projection against the true one; each point is one output for one vector."),
    ("row_errors", "projection", drawings.draw_row_errors,
     "Error of each output relative to its rms. Rows with a dim anchor or reference have larger errors; the darkest "
     "are dropped."),
    ("held_out", "matrix", drawings.draw_held_out,
     "Patterns that were not used in the recovery: measured against predicted intensity, relative to the mean."),
    ("matrix_rows", "matrix", lambda ax, curve: drawings.draw_row_errors(ax, curve["error"]),
     "Error of each row of the recovered matrix, by the same patterns, less the camera's noise. Rows whose error the "
     "noise hides are in the first bin."),
    ("row_map", "matrix", drawings.draw_row_map,
     "Rows of the matrix in the sensor's layout. Refused rows are zero in the matrix and not used."),
    ("misfit", "matrix", drawings.draw_misfit,
     "Misfit of the rows: mean squared residual of the frames over that of noise."),
    ("singular_values", "matrix", drawings.draw_singular_values,
     "Singular values of the recovered matrix against the law of independent Gaussian entries. Those that are zero, as "
     "pixels share a grain, are left out."),
    ("focusing", "focusing", drawings.draw_budget,
     "Mean enhancement of the foci and its budget: each bar includes one more loss."),
    ("stability", "stability", drawings.draw_stability,
     "Correlation of frames of one pattern, repeated during the measurement, and the fitted decorrelation."),
    ("stability", "stability", drawings.draw_power,
     "Total light of the same frames relative to its mean, against time: the drift of the laser."),
)  # fmt: skip
REQUIRED: dict[Callable[[Axes, Any], object], str] = {drawings.draw_snr: "snr", drawings.draw_linearity: "deviation"}
"""Curves that reports of earlier versions lack; their figures are left out."""
