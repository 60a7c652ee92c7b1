"""Pictures of the bench. Each function draws into the Axes that it is given and returns it."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from numpy.typing import NDArray

from photonics.encoding import half_on
from photonics.opu import OPU

__all__ = ["as_image", "draw_bench", "draw_frame"]

INK, GREY, BODY = "#1f2933", "#6b7785", "#eef1f4"


def beam_colour(wavelength_m: float) -> str:
    """Colour in which to draw a beam: that of the nearest common laser line."""
    lines = {405e-9: "#7a3cff", 450e-9: "#2b5cff", 532e-9: "#17a34a", 589e-9: "#e0a800", 633e-9: "#e02020"}
    return lines[min(lines, key=lambda line: abs(line - wavelength_m))]


def as_image(values: NDArray[Any]) -> NDArray[Any]:
    """Lay out a row of values as a near-square image, row by row; what is left over is cut off."""
    side = max(int(np.sqrt(values.size)), 1)
    rows = values.size // side
    return values[: rows * side].reshape(rows, side)


def draw_frame(ax: Axes, frame: NDArray[Any], top: int) -> Axes:
    """Show a frame as the camera sees it, in digital numbers from 0 to `top`."""
    picture = ax.imshow(as_image(np.asarray(frame)), cmap="magma", vmin=0, vmax=top, interpolation="nearest")
    ax.set_xlabel("pixel column")
    ax.set_ylabel("pixel row")
    ax.figure.colorbar(picture, ax=ax, label="digital number (DN)", fraction=0.046, pad=0.04)
    return ax


def draw_bench(ax: Axes, opu: OPU) -> Axes:
    """Draw the chain from laser to camera, labelled with the device's own parameters."""
    laser, dmd, camera = opu.laser, opu.dmd, opu.camera
    colour = beam_colour(laser.wavelength_m)
    ax.axis("off")
    y = 24.0

    ax.add_patch(Polygon([(16, y - 0.5), (30, y - 5), (30, y + 5), (16, y + 0.5)], color=colour, alpha=0.35, lw=0))
    ax.add_patch(Polygon([(39, y - 5), (52, y - 5), (52, y + 5), (39, y + 5)], color=colour, alpha=0.25, lw=0))
    for angle in np.linspace(-0.33, 0.33, 9):  # light leaves the medium in all directions
        ax.plot([63, 84], [y, y + 21 * np.tan(angle)], color=colour, alpha=0.28, lw=1.2)
    body(ax, 2, y - 4, 14, 8)
    ax.add_patch(Circle((16, y), 0.8, color=colour))

    pattern = half_on(1, 63, opu.seed)[0].reshape(9, 7)
    body(ax, 30, y - 7, 9, 14)
    for (row, column), on in np.ndenumerate(pattern):
        face = "white" if on else "#39424e"
        ax.add_patch(Rectangle((31 + column, y - 5.8 + row * 1.3), 0.85, 1.1, color=face, ec=GREY, lw=0.3))

    body(ax, 52, y - 8, 11, 16)
    dots = np.random.default_rng(0).uniform((53, y - 7), (62, y + 7), (90, 2))  # decoration, not physics
    ax.scatter(dots[:, 0], dots[:, 1], s=7, color=GREY, alpha=0.8, lw=0)

    body(ax, 84, y - 7, 13, 14)
    speckle = np.abs(opu.medium.propagate(half_on(1, opu.n_in, opu.seed))[0]) ** 2
    ax.imshow(as_image(speckle[:196]), extent=(85, 90, y - 5.5, y + 5.5), cmap="magma", aspect="auto", zorder=3)
    ax.set(xlim=(0, 100), ylim=(3, 40), aspect="equal")

    beam = "uniform beam" if laser.beam_radius_m is None else f"w = {laser.beam_radius_m * 1e3:g} mm"
    contrast = "no leakage" if dmd.contrast is None else f"contrast {dmd.contrast:g}:1"
    label(ax, 9, "Laser", f"{laser.power_w * 1e3:g} mW, {laser.wavelength_m * 1e9:g} nm", beam)
    label(ax, 34.5, "DMD", f"{opu.n_in:,} inputs of {dmd.macropixel}×{dmd.macropixel} mirrors", contrast)
    label(
        ax, 57.5, type(opu.medium).__name__, f"T: {opu.n_out:,} × {opu.n_in:,}", f"{opu.n_out * opu.n_in:.3g} entries"
    )
    label(
        ax, 90.5, "Camera", f"{camera.bit_depth} bits, {opu.n_out:,} pixels", f"{opu.exposure_s * 1e6:.0f} µs exposure"
    )
    ax.text(34.5, y + 9, "binary pattern x", ha="center", color=INK, fontsize=8)
    ax.text(73.5, y + 9, "speckle |T x|²", ha="center", color=INK, fontsize=8)
    rate = f"{1.0 / opu.frame_period_s:,.0f} frames / s, {opu.electrical_power_w:g} W"
    ax.text(99, 38, rate, ha="right", color=GREY, fontsize=8)
    return ax


def body(ax: Axes, x: float, y: float, width: float, height: float) -> None:
    """One housing of the bench."""
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1", fc=BODY, ec=INK, lw=1))


def label(ax: Axes, x: float, name: str, *lines: str) -> None:
    """Name and parameters under a part."""
    ax.text(x, 12.5, name, ha="center", va="top", color=INK, fontsize=9, weight="bold")
    ax.text(x, 9.0, "\n".join(lines), ha="center", va="top", color=GREY, fontsize=7.5, linespacing=1.4)
