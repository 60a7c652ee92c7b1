"""The picture of `benchmarks.calibration`: error against frames, with targets and published errors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from photonics.plotting.style import STYLE, legend_below

__all__ = ["draw"]

Points = Mapping[str, tuple[float, NDArray[np.float64]]]

PUBLIC = [
    ("C0", [(49.1, 0.111), (64.8, 0.099)]),
    ("C1", [(8.0, 0.148), (8.0, 0.14)]),
    ("C2", [(4.0, 0.039)]),
    ("C3", [(4.0, 0.034)]),
]
"""Published errors: colour of the method, then frames per input and error; C1 is prSAMP and prVBEM, binary."""
MATRIX_TARGETS = [(4.0, 0.035), (14.0, 0.045), (63.0, 0.02)]
DOTS = {"Popoff, mirrors as reference": ("C3", "D"), "off-axis, matrix": ("C4", "s")}
LABEL: Any = {"textcoords": "offset points", "fontsize": 7, "ha": "center"}
VECTOR_MARKS = {
    "phase stepping, 4 steps": ("C2", None, None),
    "off-axis, clean": ("C4", 0.0145, 0.015),
    "off-axis, 10 % reference noise": ("C6", 0.028, None),
    "complement": ("C5", 0.025, None),
    "complement, 10 % ON": ("C7", 0.07, None),
    "multilateration, S = 5": ("C0", 0.058, None),
    "multilateration, S = 8": ("C0", 0.044, None),
    "multilateration, S = 15": ("C0", 0.020, None),
}
SHIFTS = {"multilateration, S = 8": -10}
"""Where a name would cover a mark: its shift, points."""


def draw(path: Path, curves: Mapping[str, list[tuple[float, float]]], points: Points, vectors: Points) -> None:
    """Draw matrices on the left and projections on the right."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 5.6), layout="constrained", dpi=110)
        left, right = figure.subplots(1, 2, sharey=True)
        matrices(left, curves, points)
        projections(right, vectors)
        figure.savefig(path, metadata={"Software": None})


def matrices(ax: Axes, curves: Mapping[str, list[tuple[float, float]]], points: Points) -> None:
    """Draw the errors of the rows of a matrix."""
    for number, (name, line) in enumerate(curves.items()):
        ax.loglog(*zip(*line, strict=True), "o-", color=f"C{number}", ms=4, label=name)
    for name, (color, mark) in DOTS.items():
        frames, found = points[name]
        ax.plot(frames, np.median(found), mark, color=color, ms=6, label=name)
    for color, line in PUBLIC:
        ax.plot(*zip(*line, strict=True), "x", color=color, ms=7, mew=1.8)
    target(ax, MATRIX_TARGETS)
    ax.set(xlim=(0.8, 100), ylim=(0.006, 0.2), title="transmission matrix, n = 256")
    ax.set(xlabel="frames per input (frames / n)", ylabel="error, median row of |a - est| / |a|")
    plain_ticks(ax, [1, 2, 4, 8, 14, 32, 63])
    legend(ax, "public, in the method's colour")


def projections(ax: Axes, vectors: Points) -> None:
    """Draw the errors of projected vectors."""
    for name, (color, public, wanted) in VECTOR_MARKS.items():
        frames, found = vectors[f"projection, {name}"]
        ax.loglog(frames, np.median(found), "o", color=color, ms=5)
        below = (SHIFTS.get(name, 0), -13 if public is None or public > np.median(found) else 8)
        ax.annotate(name, (frames, float(np.median(found))), below, **LABEL, color=color)
        if public is not None:
            ax.plot(frames, public, "x", color=color, ms=7, mew=1.8)
        if wanted is not None:
            target(ax, [(float(frames), wanted)])
    ax.plot([], [], "ko", ms=5, label="this project")
    ax.set(xlim=(0.38, 36), title="linear projections, half of the inputs ON by default", xlabel="frames per vector")
    plain_ticks(ax, [1, 2, 4, 6, 9, 16])
    legend(ax, "public, in the method's colour")


def target(ax: Axes, marks: list[tuple[float, float]]) -> None:
    """Draw targets as short black bars."""
    ax.plot(*zip(*marks, strict=True), "k_", ms=20, mew=2)


def legend(ax: Axes, public: str) -> None:
    """Draw a legend with the marks that all methods share."""
    ax.plot([], [], "kx", ms=7, mew=1.8, label=public)
    ax.plot([], [], "k_", ms=14, mew=2, label="target, at most")
    legend_below(ax)


def plain_ticks(ax: Axes, frames: list[int]) -> None:
    """Show plain numbers instead of powers of ten."""
    ax.set_xticks(frames, [str(f) for f in frames])
    ax.set_xticks([], minor=True)
    errors = [0.01, 0.02, 0.05, 0.1, 0.2]
    ax.set_yticks(errors, [f"{e:g}" for e in errors])
    ax.set_yticks([], minor=True)
    ax.grid(alpha=0.2)
