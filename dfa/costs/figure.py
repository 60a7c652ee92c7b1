"""The figure of the model: where light overtakes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibration.storage.files import new_file
from dfa.costs.steps import METHODS, Method
from dfa.costs.table import NAMES, Parts, Scaling, scaling
from photonics.plotting.style import STYLE, legend_below

__all__ = ["draw", "draw_map", "draw_times", "save"]

COLOURS: Mapping[Method, str] = {"bp": "#52606d", "dfa": "#1971c2", "optical": "#d9480f"}
WIDTHS = np.geomspace(64, 2**18, 25).round().astype(int).tolist()
RATES = np.geomspace(1e6, 1e12, 13).tolist()


def save(found: Scaling, path: Path) -> None:
    """Draw the model for the parts of a table into a new file.

    Raises
    ------
    ValueError
        If the file exists, cannot be written, or is of an unknown kind.
    """
    if path.suffix not in (".png", ".svg"):
        raise ValueError(f"figure must be a .png or .svg file, got {path}")
    with mpl.rc_context(STYLE), new_file(path, "figure") as temporary:
        figure = Figure(layout="constrained", dpi=110)
        draw(found.parts, figure)
        figure.savefig(temporary, format=path.suffix[1:])


def draw(parts: Parts, figure: Figure) -> Scaling:
    """Draw the time of a step over the parameters, and of light over backpropagation over bandwidth and width.

    The width of the network and, on the right, the rate of the links vary; every other parameter is as given, but there
    are 4 ranks or more on the right. Returns the table of the left panel.
    """
    figure.set_size_inches(11.5, 4.8)
    left, right = figure.subplots(1, 2)
    found = scaling(**parts, over={"network.width": WIDTHS})
    draw_times(found, left)
    links = replace(parts["links"], ranks=max(parts["links"].ranks, min(4, parts["network"].depth + 1)))
    over = {"network.width": WIDTHS[::2], "links.bytes_per_s": RATES}
    draw_map(scaling(parts["network"], parts["chips"], links, parts["device"], over=over), right)
    right.set_title(f"step by light over that by backpropagation, {links.ranks} ranks")
    return found


def draw_times(found: Scaling, ax: Axes) -> Axes:
    """Draw the time of a step by each method over the number of parameters."""
    parameters = [point.parameters for point in found]
    for method in METHODS:
        seconds = [point.steps[method].seconds for point in found]
        ax.loglog(parameters, seconds, color=COLOURS[method], label=NAMES[method])
    frames = [point.steps["optical"].device_s for point in found]
    ax.loglog(parameters, frames, color=COLOURS["optical"], ls=":", label="frames alone")
    ax.set(xlabel="parameters of the network", ylabel="time of a step (s)")
    crossing = found.crossing()
    if crossing is not None:
        widths = [point.settings["network.width"] for point in found]
        at = np.exp(np.interp(np.log(crossing), np.log(widths), np.log(parameters)))
        ax.axvline(float(at), color="#adb5bd", lw=1, zorder=0)
        ax.set_title("light is faster than backpropagation from the grey line on")
    else:
        ax.set_title("light is never faster than backpropagation")
    legend_below(ax)
    return ax


def draw_map(found: Scaling, ax: Axes) -> Axes:
    """Draw the time by light over that of backpropagation, over the rate of the links and the width."""
    widths = sorted({point.settings["network.width"] for point in found})
    rates = sorted({point.settings["links.bytes_per_s"] for point in found})
    ratios = np.array([point.ratio("optical", "bp") for point in found]).reshape(len(widths), len(rates))
    values = np.log10(ratios)
    reach = max(float(np.abs(values).max()), 0.1)
    image = ax.pcolormesh(rates, widths, values, cmap="RdBu_r", vmin=-reach, vmax=reach, shading="nearest")
    if values.min() < 0 < values.max():
        ax.contour(rates, widths, values, levels=[0.0], colors="black")
    ax.set(xscale="log", yscale="log", xlabel="rate of a link (bytes/s)", ylabel="units of a block")
    bar = ax.figure.colorbar(image, ax=ax)
    ticks = [float(tick) for tick in bar.get_ticks() if abs(tick) <= reach and (reach < 1 or tick == round(tick))]
    bar.set_ticks(ticks, labels=[f"{10**tick:.3g}" for tick in ticks])
    bar.set_label("blue: light is faster")
    return ax
