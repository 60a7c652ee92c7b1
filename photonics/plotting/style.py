"""The one style of all pictures: sizes, colours of the frame, and the place of the legend."""

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

__all__ = ["STYLE", "label_decades", "legend_below"]

STYLE: Any = {
    "svg.hashsalt": "opu-sim",  # fixed, so that the same report gives the same bytes
    "svg.fonttype": "path",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
"""Settings of matplotlib. A figure 4.6 inches wide keeps letters of 9 pixels on a telephone, 400 pixels wide."""
LABELS = 38.0
"""Height of the numbers and the name of the horizontal axis, points."""


def legend_below(ax: Axes, handles: Sequence[Artist] | None = None, columns: int = 2) -> Legend | None:
    """Put the legend below the horizontal axis, where it covers nothing.

    The layout of the figure must be "constrained", which makes the room.

    Parameters
    ----------
    ax : Axes
        Where the lines are.
    handles : sequence of Artist, optional
        Entries; all labelled lines if not given.
    columns : int
        Entries beside each other.

    Returns
    -------
    Legend or None
        None if nothing has a label.
    """
    shown = ax.get_legend_handles_labels()[0] if handles is None else handles
    if not shown:
        return None
    below = ax.transAxes + ScaledTranslation(0.0, -LABELS / 72.0, ax.figure.dpi_scale_trans)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "bbox_transform": below, "borderaxespad": 0.0}
    return ax.legend(handles=shown, ncols=min(columns, len(shown)), columnspacing=1.2, **place)


def label_decades(ax: Axes) -> None:
    """Label a logarithmic horizontal axis at 1, 2 and 5 in each decade, or at 1 alone over more than two decades."""
    low, high = ax.get_xlim()
    steps = (1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)
    ticks = [step * 10.0**power for power in range(-12, 13) for step in steps]
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
