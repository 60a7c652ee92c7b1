"""Figures of studies, from their data sets alone: curves, maps, budgets and scattered points."""

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.typing import LineStyleType
from numpy.typing import NDArray
from scipy import stats

from calibration.reports.page import plural
from dfa.experiments.curves import COLOURS as METHOD_COLOURS
from dfa.experiments.teachers import METHODS
from dfa.robustness.names import unit_of
from dfa.robustness.prepared import View, paired_difference, score_name, view_of
from photonics.plotting.style import legend_below

if TYPE_CHECKING:
    from xarray import DataArray, Dataset

__all__ = ["change_name", "draw", "figure_size", "format_value", "is_clear", "mean_and_error"]

COLOURS = ("#d9480f", "#7c3aed", "#0d9488", "#b45309", "#be185d", "#15803d")
"""Colours of lines, none of which is that of a reference."""
REFERENCE_STYLES: dict[str, LineStyleType] = {"bp": "-", "dfa": "--", "last-layer": ":"}
LOSS, GAIN = "#d9480f", "#2563a8"
MAX_RATIO = 1e3
"""On a logarithmic axis, the value without the flaw is not drawn if it is further than this factor from all others."""
MIN_ERROR = 1e-9
"""Standard error below which differences agree except for rounding."""
CONFIDENCE = 0.95
"""Two-sided confidence level of Student's t above which a difference is called clear."""


def draw(found: "Dataset", ax: Axes) -> Axes:
    """Draw a study.

    Parameters
    ----------
    found : xarray.Dataset
        As `PreparedStudy.run` returns it, or read back from a file.
    ax : Axes
        Filled and returned. Error bars are standard errors of the mean over the seeds.

    Raises
    ------
    ValueError
        If the data set does not describe its figure, or every point failed.
    """
    view = view_of(found)
    draw_kind = {"curve": draw_curves, "map": draw_map, "budget": draw_bars, "scatter": draw_scatter}[view.kind]
    draw_kind(found, view, ax).set_title(view.title)
    return ax


def figure_size(found: "Dataset") -> tuple[float, float]:
    """Return width and height of the figure, inches; the height of a budget grows with its number of bars."""
    view = view_of(found)
    return (6.4, 2.2 + 0.26 * len(bars_of(found, view)[0])) if view.kind == "budget" else (4.6, 3.6)


def is_clear(mean: float, error: float, seeds: int) -> bool:
    """Whether a mean over some seeds differs from 0 by Student's t at `CONFIDENCE`.

    Equal differences have no spread, so they are never clear.
    """
    quantile = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, seeds - 1)) if seeds > 1 else math.inf
    return error > MIN_ERROR and abs(mean) > quantile * error


def draw_curves(found: "Dataset", view: View, ax: Axes) -> Axes:
    """Draw the score along a parameter, one line for each combination of the others."""
    score = found[score_name(found)]
    others = [dim for dim in score.dims if dim not in (view.x, "seed")]
    lines = score.stack(line=others) if others else score.expand_dims(line=[0])
    x, ticks = positions(found[view.x])
    log, absent = view.log and not ticks, view.without.get(view.x)
    draw_references(ax, found)
    for i in range(lines.sizes["line"]):
        line = lines.isel(line=i).transpose(view.x, "seed")
        name = line_name(lines, i, others) if others else METHODS.get(method_of(found), "trained")
        draw_line(ax, x, line.values, absent, name, colour_of(name, i), log)
    if log:
        ax.set_xscale("log")
        near = [value for i, value in enumerate(x) if value > 0 and not (i == absent and is_far(x, i, log))]
        ax.set_xticks(near, [format_value(value) for value in near])
        ax.minorticks_off()
    if ticks:
        ax.set_xticks(x, ticks)
    low, high = ax.get_ylim()
    room = 0.05 * (high - low)  # keeps horizontal lines off the frame
    label = (view.label or axis_label(found[view.x])).replace("`", "")
    ax.set(xlabel=label, ylabel=axis_label(score), ylim=(low - room, high + room))
    legend_below(ax)
    return ax


def draw_line(
    ax: Axes, x: NDArray[Any], values: NDArray[Any], absent: int | None, name: str, colour: str, log: bool
) -> None:
    """Draw mean and standard error of (values, seeds) along x, and a horizontal line for the value without the flaw.

    The distance of a point from that line is the mean difference of the seeds that did not fail. A point is hollow
    where some seeds failed, and a cross where all failed.
    """
    mean, error = mean_and_error(values)
    if absent is not None:
        difference = mean_and_error(values - values[absent])[0]
        mean = np.where(np.isfinite(difference), mean[absent] + difference, mean)
    points = np.isfinite(x) & ((x > 0) | (not log))
    if absent is not None:
        ax.axhline(mean[absent], color=colour, ls="-.", lw=0.9, label="without the flaw")
        ax.axhspan(*(mean[absent] + s * np.nan_to_num(error[absent]) for s in (-1, 1)), color=colour, alpha=0.12, lw=0)
        points[absent] &= not is_far(x, absent, log)
    failed = points & np.isnan(mean)
    order = np.argsort(x, kind="stable")
    order = order[(points & ~failed)[order]]
    ax.errorbar(x[order], mean[order], error[order], color=colour, marker="o", ms=3.5, lw=1.3, capsize=2, label=name)
    mark_missing(ax, x[order], mean[order], values[order], colour)
    if failed.any():
        low = ax.get_ylim()[0]
        ax.plot(x[failed], np.full(failed.sum(), low), "x", color=colour, clip_on=False, label="failed")


def mark_missing(ax: Axes, x: NDArray[Any], mean: NDArray[Any], values: NDArray[Any], colour: str) -> None:
    """Draw hollow markers, with the number of seeds, where some of (values, seeds) failed."""
    for i, seeds in enumerate(values):
        note = seeds_note(int(np.isfinite(seeds).sum()), seeds.size)
        if note:
            side, shift = ("right", -4) if x[i] == x.max() else ("left", 4)  # towards the inside of the axes
            ax.plot(x[i], mean[i], "o", ms=4.5, mfc="w", mec=colour, zorder=3)
            place = {"xytext": (shift, -4), "textcoords": "offset points", "ha": side, "va": "top"}
            ax.annotate(note.replace(" seeds", "\nseeds"), (x[i], mean[i]), fontsize=6, **place)


def seeds_note(count: int, seeds: int) -> str:
    """Return ``2 of 3 seeds`` if some failed; empty if none or all failed."""
    return f"{count} of {seeds} seeds" if 0 < count < seeds else ""


def is_far(x: NDArray[Any], position: int, log: bool) -> bool:
    """Whether a value is so far from all others that it would compress them on a logarithmic axis."""
    others = np.delete(x, position)
    others = others[np.isfinite(others) & (others > 0)]
    if not log or not others.size or not x[position] > 0:
        return False
    return bool(np.abs(np.log(others / x[position])).min() > math.log(MAX_RATIO))


def draw_map(found: "Dataset", view: View, ax: Axes) -> Axes:
    """Draw the mean score over two parameters; cells show the difference from the cell without flaws, if any."""
    score = found[score_name(found)]
    mean, loss, error, count = (part.transpose(view.y, view.x).values for part in mean_scores(found, view))
    lines = references(found)
    low, high = (float(limit([*lines.values(), limit(mean)])) for limit in (np.nanmin, np.nanmax))
    cells = np.ma.masked_invalid(mean)
    image = ax.imshow(cells, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=high)
    bar = ax.figure.colorbar(image, ax=ax, label=axis_label(score)).ax
    marks = [
        bar.axhline(value, color="k", ls=REFERENCE_STYLES.get(name, "--"), lw=2.0, label=METHODS.get(name, name))
        for name, value in lines.items()
    ]
    legend_below(ax, marks)
    middle = (low + high) / 2
    for (i, j), value in np.ndenumerate(loss):
        text = "failed" if np.isnan(value) else f"{value:+.1f}" if view.without else f"{value:.1f}"
        if view.without and np.isfinite(error[i, j]) and error[i, j]:
            text += f"\n± {error[i, j]:.1f}"
        text = f"{text}\n{seeds_note(int(count[i, j]), score.sizes['seed'])}".rstrip()
        ax.text(j, i, text, ha="center", va="center", fontsize=7, color="k" if not mean[i, j] < middle else "w")
    for axis, name, label in ((ax.xaxis, view.x, view.label), (ax.yaxis, view.y, view.y_label)):
        axis.set_ticks(range(found.sizes[name]), [format_value(value) for value in found[name].values])
        axis.set_label_text(label or axis_label(found[name]))
    return ax


def mean_scores(found: "Dataset", view: View) -> "tuple[DataArray, DataArray, DataArray, DataArray]":
    """Return mean score, difference from the point without the flaw, its standard error, and number of seeds.

    Where seeds failed, the mean score is that without the flaw plus the difference.
    """
    score = found[score_name(found)]
    mean, seeds = score.mean("seed"), score.notnull().sum("seed")
    if not view.without:
        return mean, mean, mean, seeds
    loss, error, count = paired_difference(found)
    return (mean.isel(view.without) + loss).where(loss.notnull(), mean), loss, error, count


def draw_bars(found: "Dataset", view: View, ax: Axes) -> Axes:
    """Draw the difference of each change of one parameter that is clear or has failed seeds, the largest loss on top.

    The axis reaches to the last layer alone, whose hidden blocks learn nothing. Changes without a clear effect are
    counted; the page of the study lists them.
    """
    rows, hidden = bars_of(found, view)
    for at, (value, spread, seeds, _) in enumerate(rows):
        note = "failed" if math.isnan(value) else seeds_note(seeds, found.sizes["seed"])
        ax.text(0.0, at, note, va="center", fontsize=8)
        if not math.isnan(value):
            colour = LOSS if value < 0 else GAIN
            ax.barh(at, value, xerr=spread, color=colour, height=0.6, error_kw={"lw": 0.8})
    ax.set_yticks(range(len(rows)), [row[-1] for row in rows])
    ax.axvline(0.0, color="k", lw=0.8, label="the bench as it is")
    useless = references(found).get("last-layer")
    if useless is not None:
        score = found[score_name(found)]
        base = float(score.isel(view.without).mean()) if view.without else math.nan
        style = {"color": METHOD_COLOURS["last-layer"], "ls": REFERENCE_STYLES["last-layer"]}
        ax.axvline(useless - base, lw=1.2, label=METHODS["last-layer"], **style)
    if hidden:
        text = f"{plural(len(hidden), 'change')} without a clear effect:\nat most {max(hidden):.2g} from 0"
        ax.text(0.5, 0.04, text, transform=ax.transAxes, fontsize=9, ha="center")
    legend_below(ax)
    unit = "points" if score_name(found) == "accuracy" else found[score_name(found)].attrs["units"]
    ax.set(
        xlabel=f"difference of {score_name(found)} ({unit}), paired by seed",
        ylim=(-2.0 if hidden else -0.6, len(rows) - 0.4),
    )
    return ax


def bars_of(found: "Dataset", view: View) -> tuple[list[tuple[float, float, int, str]], list[float]]:
    """Return bars of changes that are clear or have failed seeds, the largest loss last, and the sizes of the others.

    A bar is difference, standard error, number of seeds and label.
    """
    mean, error, count = (part.values for part in paired_difference(found))
    rows, hidden = [], []
    for i, name in enumerate(found["varied"].values):
        value, spread, seeds = float(mean[i]), float(error[i]), int(count[i])
        if name and (seeds < found.sizes["seed"] or is_clear(value, spread, seeds)):
            rows.append((value, spread, seeds, change_name(found, view, str(name), i)))
        elif name:
            hidden.append(abs(value))
    return sorted(rows, key=lambda row: math.inf if math.isnan(row[0]) else -row[0]), hidden


def change_name(found: "Dataset", view: View, name: str, point: int) -> str:
    """Return the label of a bar, for instance ``Read noise: 2.5 → 25 e-``."""
    unit = found[name].attrs.get("units", "")
    known = name in view.bench and name != "medium" and not isinstance(view.bench[name], dict)
    before = f"{format_value(view.bench[name])} → " if known else ""
    title = view.names.get(name, name)
    return f"{title}: {before}{format_value(found[name].values[point])} {unit}".rstrip()


def draw_scatter(found: "Dataset", view: View, ax: Axes) -> Axes:
    """Draw the score of every point along one of the parameters."""
    score = found[score_name(found)]
    x, ticks = positions(found[view.x])
    mean, error = mean_and_error(score.transpose("point", "seed").values)
    ax.errorbar(x, mean, error, color=COLOURS[0], fmt="o", ms=3.5, capsize=2)
    mark_missing(ax, x, mean, score.transpose("point", "seed").values, COLOURS[0])
    draw_references(ax, found)
    if view.log and not ticks:
        ax.set_xscale("log")
    if ticks:
        ax.set_xticks(x, ticks)
    ax.set(xlabel=view.label or axis_label(found[view.x]), ylabel=axis_label(score))
    return ax


def draw_references(ax: Axes, found: "Dataset") -> None:
    """Draw a horizontal line for each method that was trained for comparison."""
    for method, mean in references(found).items():
        colour, style = METHOD_COLOURS.get(method, "#52606d"), REFERENCE_STYLES.get(method, "--")
        ax.axhline(mean, color=colour, ls=style, lw=1.2, label=METHODS.get(method, method))


def references(found: "Dataset") -> dict[str, float]:
    """Return the mean score of each method that was trained for comparison."""
    if "reference" not in found:
        return {}
    means = found["reference"].mean("seed")
    return {str(name): float(means.sel(reference_method=name)) for name in found["reference_method"].values}


def colour_of(name: str, number: int) -> str:
    """Return the colour of a line: that of its method, if its name is one."""
    known = {METHODS[method]: colour for method, colour in METHOD_COLOURS.items() if method in METHODS}
    return known.get(name, COLOURS[number % len(COLOURS)])


def mean_and_error(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return mean and standard error of (values, seeds) over the seeds that did not fail, (values,) each; else NaN."""
    count = np.isfinite(values).sum(1)
    kept = np.where(np.isfinite(values), values, 0.0)
    mean = np.where(count > 0, kept.sum(1) / np.maximum(count, 1), np.nan)
    squares = np.where(np.isfinite(values), (values - mean[:, None]) ** 2, 0.0).sum(1)
    return mean, np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1) / np.maximum(count, 1)), np.nan)


def positions(values: "DataArray") -> tuple[NDArray[Any], list[str]]:
    """Return positions of values on an axis, and their labels if they are strings."""
    if values.dtype.kind in "if":
        return values.values.astype(float), []
    return np.arange(values.size, dtype=float), [format_value(value) for value in values.values]


def line_name(lines: "DataArray", i: int, others: list[Any]) -> str:
    """Return the label of a line: the values of the other parameters."""
    key = lines["line"].values[i]
    values = key if isinstance(key, tuple) else (key,)
    named = [
        METHODS.get(str(v), format_value(v)) if str(n).endswith(".method") else f"{n} {format_value(v)}"
        for n, v in zip(others, values, strict=True)
    ]
    return ", ".join(named)


def method_of(found: "Dataset") -> str:
    """Return the method of a study, from its description."""
    return json.loads(found.attrs["study"])["method"]


def axis_label(values: "DataArray") -> str:
    """Return name and unit of an axis."""
    unit = values.attrs.get("units", "")
    return f"{values.attrs.get('long_name', values.name)}{f' ({unit})' if unit and unit != '1' else ''}"


def format_value(value: object) -> str:
    """Return a value as text; a table by its numbers and units."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return f"{value:g}"
    text = str(value)
    if text.startswith("{"):
        parts = {name: part for name, part in json.loads(text).items() if name != "type"}
        return ", ".join(f"{format_value(part)} {unit_of(name)}".rstrip() for name, part in parts.items())
    return text.strip("[]") if text.startswith("[") else text
