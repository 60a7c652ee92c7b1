"""Figures of a report. Each function draws a curve into Axes."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from calibration.reports.findings import Curve
from photonics.analysis.speckle import marchenko_pastur_density
from photonics.parts.camera import QUANTISATION
from photonics.plotting.style import label_decades, legend_below

__all__ = [
    "draw_additivity",
    "draw_autocovariance",
    "draw_budget",
    "draw_focus",
    "draw_held_out",
    "draw_histogram",
    "draw_linearity",
    "draw_misfit",
    "draw_photon_transfer",
    "draw_power",
    "draw_projection",
    "draw_row_errors",
    "draw_row_map",
    "draw_singular_values",
    "draw_snr",
    "draw_speckle",
    "draw_stability",
]

BLUE, LIGHT, RED, GREY = "#2563a8", "#9db8d6", "#c0211f", "#5b6875"
ROW_NAMES = ("valid", "misfit", "saturated", "dark or bad pixel")
ROW_COLOURS = ("#dce6f1", "#c0211f", "#e8a33d", "#1f2933")
"""States of a row of the matrix."""
MIN_HEIGHT = 0.2
"""Height over width of a sensor below which its pixels are not drawn square."""


def draw_histogram(ax: Axes, curve: Curve) -> Axes:
    """Intensity histogram against exp(-I), logarithmic."""
    edges, density = np.asarray(curve["edges"]), np.asarray(curve["density"])
    ax.stairs(density, edges, fill=True, color=LIGHT, label="frames")
    ax.plot(edges, np.exp(-edges), color=RED, lw=1.2, label="exp(-I)")
    ax.set(yscale="log", ylim=(2e-4, 2), xlim=(0, edges[-1]), xlabel="intensity / mean", ylabel="probability density")
    legend_below(ax)
    return ax


def draw_autocovariance(ax: Axes, curve: Curve) -> Axes:
    """Normalised autocovariance of frames along rows and columns."""
    ax.plot(curve["lag_x"], curve["x"], "o-", color=BLUE, ms=4, lw=1, label="along rows")
    ax.plot(curve["lag_y"], curve["y"], "s--", color=RED, ms=4, lw=1, label="along columns")
    ax.set(xlabel="lag (pixels)", ylabel="autocovariance / variance", ylim=(None, 1.1))
    ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    legend_below(ax)
    return ax


def draw_photon_transfer(ax: Axes, curve: Curve) -> Axes:
    """Variance against mean with the line of the fitted gain."""
    signal, variance = np.asarray(curve["signal_dn"]), np.asarray(curve["variance_dn2"])
    fitted = np.asarray(curve["fitted"], bool)
    ax.plot(signal[~fitted], variance[~fitted], "o", mfc="none", color=BLUE, ms=5, label="not fitted")
    ax.plot(signal[fitted], variance[fitted], "o", color=BLUE, ms=5, label="fitted")
    gain = curve["gain"]
    if gain is not None and math.isfinite(gain):
        x = np.array([0.0, signal.max()])
        ax.plot(x, gain * x + QUANTISATION, color=RED, lw=1.2, label=f"K µ + 1/12, K = {gain:.4g} DN/e⁻")
    ax.set(xlabel="mean above dark µ (DN)", ylabel="temporal variance s² (DN²)", xlim=(0, None))
    ax.set_ylim(0, 1.1 * variance.max())
    legend_below(ax)
    return ax


def draw_snr(ax: Axes, curve: Curve) -> Axes:
    """Signal-to-noise ratio against photons, with the data sheet's and the sensitivity threshold."""
    below = slice(int(np.argmax(curve["variance_dn2"])) + 1)  # clipped frames have no noise
    ax.plot(curve["photons"][below], curve["snr"][below], "o", color=BLUE, ms=4, label="frames")
    ax.plot(curve["sheet_photons"], curve["sheet_snr"], color=RED, lw=1.2, label="data sheet")
    threshold = curve["threshold_photons"]
    if threshold is not None and math.isfinite(threshold):
        ax.axvline(threshold, color=GREY, lw=1.0, ls="--", label=f"threshold, {threshold:.3g} photons")
    ax.axhline(1.0, color=GREY, lw=0.6)
    top = max(curve["sheet_snr"])
    ax.set(xscale="log", yscale="log", xlabel="photons per pixel", ylabel="signal / noise", ylim=(0.3, 2.0 * top))
    legend_below(ax)
    return ax


def draw_linearity(ax: Axes, curve: Curve) -> Axes:
    """Deviation of the mean signal from the fitted line against photons, in percent."""
    deviation = np.array([math.nan if value is None else value for value in curve["deviation"]])
    known = np.isfinite(deviation)
    ax.axhline(0.0, color=RED, lw=1.2, label="line fitted over 5 to 95 %")
    ax.plot(np.asarray(curve["photons"])[known], 100.0 * deviation[known], "o-", color=BLUE, ms=4, lw=0.8)
    reach = max(0.1, 1.4 * 100.0 * float(np.abs(deviation[known]).max(initial=0.0)))
    ax.set(xlabel="photons per pixel", ylabel="deviation (%)", ylim=(-reach, reach), xlim=(0, None))
    legend_below(ax)
    return ax


def draw_row_map(ax: Axes, curve: Curve) -> Axes:
    """Rows of the matrix in the sensor's layout: valid, or why not."""
    state = np.asarray(curve["state"]).reshape(curve["shape"])
    ax.imshow(state, cmap=ListedColormap(ROW_COLOURS), vmin=-0.5, vmax=3.5, interpolation="nearest")
    label_pixels(ax)
    counts = [int((state == k).sum()) for k in range(len(ROW_NAMES))]
    marks = [Patch(color=ROW_COLOURS[k], label=f"{ROW_NAMES[k]}: {count}") for k, count in enumerate(counts) if count]
    legend_below(ax, marks)
    return ax


def draw_misfit(ax: Axes, curve: Curve) -> Axes:
    """Histogram of the misfit of the rows, with the limit above which rows are refused."""
    values = np.maximum(np.asarray(curve["values"]), 1e-3)
    low, high = min(values.min(), 0.5), 1.5 * max(values.max(), curve["limit"])
    ax.hist(values, np.geomspace(low, high, 41).tolist(), color=LIGHT)
    ax.axvline(1.0, color=GREY, lw=1.0, ls="--", label="noise alone: 1")
    ax.axvline(curve["limit"], color=RED, lw=1.2, label=f"refused above {curve['limit']:g}")
    ax.set(xscale="log", xlabel="misfit of the row", ylabel="rows")
    label_decades(ax)
    legend_below(ax)
    return ax


def draw_additivity(ax: Axes, curve: Curve) -> Axes:
    """Projection of a sum against the sum of projections."""
    return diagonal(ax, curve["sum"], curve["whole"], "P(x₁) + P(x₂)", "P(x₁ + x₂)")


def draw_projection(ax: Axes, curve: Curve) -> Axes:
    """Measured against true projection."""
    return diagonal(ax, curve["truth"], curve["measured"], "true projection", "measured projection")


def draw_held_out(ax: Axes, curve: Curve) -> Axes:
    """Measured intensity against the prediction of the recovered matrix."""
    return diagonal(ax, curve["predicted"], curve["measured"], "predicted |Tx|² / mean", "measured I / mean")


def diagonal(ax: Axes, x: ArrayLike, y: ArrayLike, xlabel: str, ylabel: str) -> Axes:
    """Points that should lie on the diagonal."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())]) * 1.05
    ax.plot(ends, ends, color=RED, lw=1)
    ax.plot(x, y, ".", ms=2.5, color=BLUE, alpha=0.5, rasterized=True)
    ax.set(xlabel=xlabel, ylabel=ylabel, xlim=ends, ylim=ends, aspect="equal")
    return ax


def draw_row_errors(ax: Axes, errors: ArrayLike) -> Axes:
    """Histogram of the error per row; errors under a hundredth of the median are in the first bin."""
    errors = np.asarray(errors)
    low, high = max(errors.min(), 0.01 * float(np.median(errors)), 1e-7), errors.max()
    wide = high > 20.0 * low
    edges = np.geomspace(low, high, 41) if wide else np.linspace(0.0, 1.1 * max(high, low), 41)
    ax.hist(np.maximum(errors, edges[0]), edges, color=LIGHT)
    ax.axvline(np.median(errors), color=RED, lw=1.2, label=f"median {np.median(errors):.3g}")
    ax.set(xscale="log" if wide else "linear", xlabel="error of the row / its rms", ylabel="rows")
    if wide:
        label_decades(ax)
    legend_below(ax)
    return ax


def draw_singular_values(ax: Axes, curve: Curve) -> Axes:
    """Histogram of singular values against the law of Marchenko and Pastur."""
    (low, high), rows, columns, scale = curve["edges"], curve["rows"], curve["columns"], curve.get("scale", 1.0)
    values = np.sort(curve["values"])[-max(round(min(rows, columns)), 1) :]  # the others are zero, or nearly so
    ax.hist(
        values, min(30, math.ceil(math.sqrt(2.0 * values.size))), density=True, color=LIGHT, label="recovered matrix"
    )
    s = np.linspace(low, high, 400)
    ax.plot(s, marchenko_pastur_density(s / scale, rows, columns) / scale, color=RED, lw=1.2, label="Marchenko-Pastur")
    ax.set(xlabel="singular value", ylabel="probability density", xlim=(0, None))
    legend_below(ax)
    return ax


def label_pixels(ax: Axes) -> None:
    """Label axes with pixel rows and columns; fill the axes with a sensor that is far wider than high."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    if abs(high - low) < MIN_HEIGHT * abs(right - left):
        ax.set_aspect("auto")
    ax.set(xlabel="pixel column", ylabel="pixel row")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def colour_scale(ax: Axes) -> Axes:
    """Axes for the colour scale, as high as the picture."""
    return ax.inset_axes((1.04, 0.0, 0.05, 1.0))


def draw_speckle(ax: Axes, frame: ArrayLike, shape: tuple[int, int], top: int) -> Axes:
    """A frame in the sensor's layout, in digital numbers from 0 to `top`."""
    shown = ax.imshow(np.asarray(frame).reshape(shape), cmap="magma", vmin=0, vmax=top, interpolation="nearest")
    label_pixels(ax)
    ax.figure.colorbar(shown, cax=colour_scale(ax), label="digital number (DN)")
    return ax


def draw_focus(ax: Axes, frame: ArrayLike, target: int, shape: tuple[int, int]) -> Axes:
    """A focus on the sensor, relative to the mean of random patterns."""
    rows, columns = shape
    shown = ax.imshow(np.asarray(frame).reshape(rows, columns), cmap="magma", interpolation="nearest", vmin=0)
    ax.plot(target % columns, target // columns, "o", ms=14, mfc="none", color="#58c4dd", mew=1.2)
    label_pixels(ax)
    ax.figure.colorbar(shown, cax=colour_scale(ax), label="intensity / mean")
    return ax


def draw_budget(ax: Axes, curve: Curve) -> Axes:
    """Enhancement after each factor of the budget, from the ideal one to the measured one."""
    budget = curve["budget"]
    n, ideal = budget["n"], budget["ideal"]
    steps = [1.0 + (n - 1) * budget["F_amp"]]
    steps.append(1.0 + (n - 1) * budget["F_amp"] * budget["F_noise"])
    steps.append(1.0 + (n - 1) * budget["F_amp"] * budget["F_noise"] * budget["F_cal"])
    names = [
        "1 + (N - 1)/2π",
        "modulation,\nillumination",
        "noise of\nthe matrix",
        "calibration\n(= measured)",
    ]
    values = [ideal, *steps]
    ax.bar(range(4), values, color=[GREY, LIGHT, LIGHT, BLUE], width=0.65)
    for place, value in enumerate(values):
        ax.text(place, value, f"{value:.1f}", ha="center", va="bottom")
    ax.set_xticks(range(4), names, fontsize=8)
    ax.set(ylabel="enhancement", ylim=(0, 1.15 * max(values)), xlabel="losses up to and including")
    return ax


def draw_stability(ax: Axes, curve: Curve) -> Axes:
    """Correlation of repeated frames against the time between them."""
    lag, found = np.asarray(curve["lag_s"]), np.asarray(curve["correlation"])
    t = np.linspace(0.0, 1.05 * lag.max(), 100)
    ax.errorbar(lag, found, yerr=curve["error"], fmt="o", color=BLUE, ms=4, lw=0.8, label="pairs of exposures")
    ax.plot(t, np.exp(-2.0 * curve["rate_per_s"] * t), color=RED, lw=1.2, label="exp(-2t / τ), fitted")
    low = min(found.min() - 3.0 * curve["error"], 0.98)
    ax.set(xlabel="time between (s)", ylabel="correlation of speckle", xlim=(0, t[-1]), ylim=(low, None))
    legend_below(ax)
    return ax


def draw_power(ax: Axes, curve: Curve) -> Axes:
    """Total light of repeated frames against time, in percent of its mean."""
    time, power = np.asarray(curve["time_s"]), 100.0 * (np.asarray(curve["power"]) - 1.0)
    ax.axhline(0.0, color=RED, lw=1.2, label="mean")
    ax.plot(time, power, "o-", color=BLUE, ms=4, lw=0.8, label="frames")
    reach = max(0.5, 1.3 * float(np.abs(power).max()))
    ax.set(xlabel="time (s)", ylabel="light, deviation from the mean (%)", ylim=(-reach, reach))
    legend_below(ax)
    return ax
