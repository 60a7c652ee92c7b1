"""The page of a characterisation: verdicts, figures, and the device."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from calibration.page import Picture, Section, Table, picture
from calibration.report import Line, Report
from photonics import OPU
from photonics.camera import QUANTISATION
from photonics.plots import draw_bench, draw_frame

__all__ = ["bench_picture", "line_table", "pictures", "sections"]


def sections(report: Report) -> list[Section]:
    """Everything about a characterisation, in the order in which one would read it."""
    about = report.provenance
    summary = (
        f"Overall: {report.verdict}. {about['frames']} frames of the device, {about['camera_frames']} of the camera, "
        f"exposure {about['exposure_s'] * 1e6:.0f} µs, {about['date']}, opu-sim {about['version']}."
    )
    opu = OPU.from_dict(report.device) if report.device["medium"]["type"] == "GaussianMedium" else None
    bench = [bench_picture(opu)] if opu else []
    rows = [[name, flat] for name, flat in flatten(report.device)]
    return [
        Section("Verdict", summary, bench, [line_table(report.lines)]),
        Section("Figures", pictures=pictures(report)),
        Section(
            "Device",
            "Every parameter, in SI units unless the name says otherwise.",
            tables=[Table(["parameter", "value"], rows)],
        ),
    ]


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
    columns = ["", "quantity", "formula", "expected", "measured", "verdict", "advice"]
    return Table(columns, [row(line) for line in lines])


def row(line: Line) -> list[str]:
    """The cells of a line."""
    unit = f" {line.unit}" if line.unit else ""
    expected = f"≤ {line.limit:.3g}" if line.expected is None else f"{line.expected:.4g}{unit}"
    measured = "–"
    if math.isfinite(line.measured):
        measured = f"{line.measured:.4g}"
        if math.isfinite(line.uncertainty):
            measured += f" ± {line.uncertainty:.2g}"
        measured += unit
    advice = "" if line.verdict == "pass" else line.advice
    return [line.group, line.name, line.formula, expected, measured, line.verdict, advice]


def pictures(report: Report) -> list[Picture]:
    """The figures of a characterisation."""
    curves, camera = report.curves, report.device["camera"]
    top = 2 ** camera["bit_depth"] - 1
    transfer = curves["photon_transfer"]
    found = [
        picture(
            lambda ax: draw_frame(ax, np.asarray(curves["frame"]), top),
            "A frame of a random half-ON pattern: fully developed speckle, one grain per pixel.",
        ),
        picture(
            lambda ax: draw_histogram(ax, curves["intensity_histogram"]),
            "Intensity over its mean, pooled over frames, against the law exp(-I) of fully developed speckle.",
        ),
        picture(
            lambda ax: draw_photon_transfer(ax, transfer),
            "Photon transfer curve. The slope is the gain K; filled points were fitted. The well cuts off the noise.",
        ),
        picture(lambda ax: draw_linearity(ax, transfer), "Mean signal against photons per pixel."),
    ]
    if "projection" in curves:
        found.append(
            picture(
                lambda ax: draw_projection(ax, curves["projection"]),
                "Linear projection through the device against the true one, each point an output of a vector.",
            )
        )
        found.append(picture(
            lambda ax: draw_row_errors(ax, curves["row_errors"]),
            "Error of each output over its rms. Rows with a dim anchor have the larger ones; the darkest are dropped.",
        ))  # fmt: skip
    return found


def draw_histogram(ax: Axes, curve: Mapping[str, Any]) -> Axes:
    """Intensity histogram against exp(-I), logarithmic."""
    edges, density = np.asarray(curve["edges"]), np.asarray(curve["density"])
    ax.stairs(density, edges, fill=True, color="#9db8d6", label="frames")
    ax.plot(edges, np.exp(-edges), color="#c0211f", lw=1.2, label="exp(-I)")
    ax.set(yscale="log", ylim=(2e-4, 2), xlim=(0, edges[-1]), xlabel="intensity / mean", ylabel="probability density")
    ax.legend()
    return ax


def draw_photon_transfer(ax: Axes, curve: Mapping[str, Any]) -> Axes:
    """Variance against mean with the line of the fitted gain."""
    signal, variance = np.asarray(curve["signal_dn"]), np.asarray(curve["variance_dn2"])
    fitted = np.asarray(curve["fitted"], bool)
    ax.plot(signal[~fitted], variance[~fitted], "o", mfc="none", color="#2563a8", ms=5, label="not fitted")
    ax.plot(signal[fitted], variance[fitted], "o", color="#2563a8", ms=5, label="fitted")
    gain = curve["gain"]
    if gain is not None and math.isfinite(gain):
        x = np.array([0.0, signal.max()])
        ax.plot(x, gain * x + QUANTISATION, color="#c0211f", lw=1.2, label=f"K µ + 1/12, K = {gain:.4g} DN/e⁻")
    ax.set(xlabel="mean above dark µ (DN)", ylabel="temporal variance s² (DN²)", xlim=(0, None), ylim=(0, None))
    ax.legend()
    return ax


def draw_linearity(ax: Axes, curve: Mapping[str, Any]) -> Axes:
    """Mean signal against photons."""
    photons, signal = np.asarray(curve["photons"]), np.asarray(curve["signal_dn"])
    ax.plot(photons, signal, "o", color="#2563a8", ms=4, label="frames")
    below = signal < 0.7 * signal.max()
    slope = signal[below].sum() / photons[below].sum()
    ax.plot(photons, slope * photons, color="#c0211f", lw=1.2, label="line through the points under 70 %")
    ax.set(xlabel="photons per pixel", ylabel="mean above dark (DN)", ylim=(0, 1.15 * signal.max()))
    ax.legend()
    return ax


def draw_projection(ax: Axes, points: Mapping[str, Any]) -> Axes:
    """Measured against true projection."""
    truth, measured = np.asarray(points["truth"]), np.asarray(points["measured"])
    ends = np.array([min(truth.min(), measured.min()), max(truth.max(), measured.max())]) * 1.05
    ax.plot(ends, ends, color="#c0211f", lw=1)
    ax.plot(truth, measured, ".", ms=2.5, color="#2563a8", alpha=0.5, rasterized=True)
    ax.set(xlabel="true projection", ylabel="measured projection", xlim=ends, ylim=ends, aspect="equal")
    return ax


def draw_row_errors(ax: Axes, errors: Any) -> Axes:
    """Histogram of the error per row."""
    errors = np.asarray(errors)
    low, high = max(errors.min(), 1e-7), errors.max()
    wide = high > 20.0 * low
    edges = np.geomspace(low, high, 41) if wide else np.linspace(0.0, 1.1 * max(high, low), 41)
    ax.hist(errors, edges, color="#9db8d6")
    ax.axvline(np.median(errors), color="#c0211f", lw=1.2, label=f"median {np.median(errors):.3g}")
    ax.set(xscale="log" if wide else "linear", xlabel="error of the output / its rms", ylabel="rows")
    ax.legend()
    return ax


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values of a nested description."""
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        rows += flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", str(value))]
    return rows
