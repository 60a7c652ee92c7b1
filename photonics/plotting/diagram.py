"""The diagram of the bench: every part in the path of the light, labelled with the device's parameters."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from photonics import draws
from photonics.medium import (
    Ballistic,
    Dispersive,
    Drifting,
    Effect,
    Lossy,
    Modes,
    ScatteringLayers,
    ScatteringMedium,
)
from photonics.opu import OPU
from photonics.patterns.encoding import half_on
from photonics.random import Stream

__all__ = ["beam_colour", "draw_bench"]

INK, GREY, BODY, DARK = "#1f2933", "#6b7785", "#eef1f4", "#39424e"
AXIS, ARM, NAMES = 24.0, 37.0, 14.0
"""Heights of the beam, of the reference arm and of the names under the parts; the page is 100 wide."""
PUPIL, POLARISER, COMBINER = 70.0, 75.5, 80.0
MAX_EFFECTS = 3
"""Largest number of effects listed under the medium."""


def beam_colour(wavelength_m: float) -> str:
    """Colour of a beam, that of the nearest common laser line."""
    lines = {405e-9: "#7a3cff", 450e-9: "#2b5cff", 532e-9: "#17a34a", 589e-9: "#e0a800", 633e-9: "#e02020"}
    return lines[min(lines, key=lambda line: abs(line - wavelength_m))]


def draw_bench(ax: Axes, opu: OPU, reference: bool = False) -> Axes:
    """Draw the chain from laser to camera, labelled with the device's own parameters.

    Mirrors, scatterers and the speckle on the camera are symbols. The Axes should be at least twice as wide as high and
    10 inches wide, so that the labels do not overlap.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    opu : OPU
        The device.
    reference : bool
        Whether to draw the reference arm, if it has light.
    """
    colour = beam_colour(opu.laser.wavelength_m)
    reference = reference and opu.imaging.reference.intensity > 0
    ax.axis("off")
    draw_light(ax, opu, colour)
    if reference:
        draw_reference(ax, opu, colour)
    draw_body(ax, 2, AXIS - 4, 14, 8)
    ax.add_patch(Circle((16, AXIS), 0.8, color=colour))
    draw_mirrors(ax, opu)
    draw_medium(ax, innermost_medium(opu.medium))
    draw_imaging(ax, opu)
    draw_camera(ax, opu)
    low, top = draw_labels(ax, opu), ARM + 6.0 if reference else 38.0
    rate = f"{1.0 / opu.frame_period_s:,.0f} frames / s, {opu.electrical_power_w:g} W"
    ax.text(99, top - 2, rate, ha="right", color=GREY, fontsize=9)
    ax.set(xlim=(0, 100), ylim=(low, top), aspect="equal")
    return ax


def draw_light(ax: Axes, opu: OPU, colour: str) -> None:
    """Draw the beam from laser to medium, and the light from the medium that passes the pupil."""
    y, stopped = AXIS, opu.imaging.numerical_aperture is not None
    ax.add_patch(Polygon([(16, y - 0.5), (30, y - 5), (30, y + 5), (16, y + 0.5)], color=colour, alpha=0.35, lw=0))
    ax.add_patch(Polygon([(39, y - 5), (52, y - 5), (52, y + 5), (39, y + 5)], color=colour, alpha=0.25, lw=0))
    for slope in np.tan(np.linspace(-0.3, 0.3, 11)):
        passes = not stopped or abs(slope) * (PUPIL - 63) < 1.4
        end = 84 if passes else PUPIL
        ax.plot([63, end], [y, y + (end - 63) * slope], color=colour, alpha=0.28, lw=1.2)


def draw_reference(ax: Axes, opu: OPU, colour: str) -> None:
    """Draw the beam splitter, mirrors (the second on a piezo) and combiner of the reference arm."""
    first, arm = 21.0, {"color": colour, "alpha": 0.5, "lw": 2.2, "solid_capstyle": "butt"}
    ax.plot([first, first, COMBINER, COMBINER, 84], [AXIS, ARM, ARM, AXIS, AXIS], **arm)
    for x in (first, COMBINER):
        ax.add_patch(Rectangle((x - 1.3, AXIS - 1.3), 2.6, 2.6, fc="white", ec=INK, lw=1, alpha=0.9, zorder=3))
    for x, sign in ((first, 1), (COMBINER, -1)):  # upwards light turns right, then down
        ax.plot([x - 1.3, x + 1.3], [AXIS - 1.3 * sign, AXIS + 1.3 * sign], color=INK, lw=1, zorder=4)
        ax.plot([x - 1.6, x + 1.6], [ARM - 1.6 * sign, ARM + 1.6 * sign], color=INK, lw=3, zorder=4)
    piezo = {"angle": 45.0, "rotation_point": "center", "fc": BODY, "ec": INK, "lw": 0.8}
    ax.add_patch(Rectangle((COMBINER + 0.1, ARM + 0.2), 2.2, 1.8, zorder=3, **piezo))
    ax.text(COMBINER + 3.4, ARM + 1, "piezo, phase φ", va="bottom", color=INK, fontsize=9)
    beam = opu.imaging.reference
    angles = [f"{name} {np.degrees(a):.2g}°" for name, a in (("x", beam.angle_x_rad), ("y", beam.angle_y_rad)) if a]
    tilt = f", tilted {', '.join(angles)}" if angles else ""
    text = f"reference arm, {beam.intensity:g} × the mean speckle{tilt}"
    ax.text((first + COMBINER) / 2, ARM + 1, text, ha="center", va="bottom", color=INK, fontsize=9)


def draw_mirrors(ax: Axes, opu: OPU) -> None:
    """Draw a chip with some mirrors ON."""
    draw_body(ax, 30, AXIS - 7, 9, 14)
    for (row, column), on in np.ndenumerate(half_on(1, 63, opu.seed)[0].reshape(9, 7)):
        face = "white" if on else DARK
        ax.add_patch(Rectangle((31 + column, AXIS - 5.8 + row * 1.3), 0.85, 1.1, color=face, ec=GREY, lw=0.3))
    ax.text(34.5, AXIS + 9, "binary pattern x", ha="center", color=INK, fontsize=9)


def draw_medium(ax: Axes, medium: ScatteringMedium) -> None:
    """Draw a slab with scatterers or screens."""
    draw_body(ax, 52, AXIS - 8, 11, 16)
    if isinstance(medium, ScatteringLayers):
        rough = np.linspace(AXIS - 7, AXIS + 7, 60)
        for x in np.linspace(52, 63, min(medium.layers, 6) + 2)[1:-1]:
            ax.plot(x + 0.3 * np.sin(5 * rough + x) + 0.2 * np.sin(11 * rough), rough, color=GREY, lw=1.1)
        return
    places = draws.uniforms(0, Stream.PROBES, np.arange(180)).reshape(90, 2)  # decoration, not physics
    x, y = 53 + 9 * places[:, 0], AXIS - 7 + 14 * places[:, 1]
    ax.scatter(x, y, s=7, color=GREY, alpha=0.8, lw=0)


def draw_imaging(ax: Axes, opu: OPU) -> None:
    """Draw the pupil and the polariser, if the device has them."""
    if opu.imaging.numerical_aperture is not None:
        for low, high in ((AXIS - 6, AXIS - 1.4), (AXIS + 1.4, AXIS + 6)):
            ax.plot([PUPIL, PUPIL], [low, high], color=INK, lw=3, solid_capstyle="butt")
    if opu.imaging.polarisations == 1:
        ax.add_patch(Rectangle((POLARISER, AXIS - 6), 0.9, 12, fc="#cfd8e3", ec=INK, lw=0.8, hatch="----", alpha=0.8))
    operator = "T" if opu.imaging.numerical_aperture is None else "P T"
    ax.text(PUPIL + 3, AXIS + 9, f"speckle |{operator} x|²", ha="center", color=INK, fontsize=9)


def draw_camera(ax: Axes, opu: OPU) -> None:
    """Draw the camera, with speckle on its sensor: real statistics, but not the real number of pixels."""
    draw_body(ax, 84, AXIS - 7, 13, 14)
    words = draws.words(opu.seed, Stream.PROBES, np.arange(96), 1)  # decoration, not physics
    speckle = -np.log((words[:, 0].reshape(12, 8) + 0.5) / 2.0**32)
    extent = (85.0, 90.0, AXIS - 5.5, AXIS + 5.5)
    ax.imshow(speckle, extent=extent, cmap="magma", aspect="auto", zorder=3)


def draw_labels(ax: Axes, opu: OPU) -> float:
    """Write name and parameters under each part; return the lower end of the longest label."""
    laser, dmd, camera = opu.laser, opu.dmd, opu.camera
    beam = "uniform beam" if laser.beam_radius_m is None else f"w = {laser.beam_radius_m * 1e3:g} mm"
    contrast = "no leakage" if dmd.contrast is None else f"contrast {dmd.contrast:g}:1"
    mirrors = f"{opu.n_in:,} inputs of {dmd.macropixel}×{dmd.macropixel} mirrors"
    power = f"{laser.power_w * 1e3:g} mW, {laser.wavelength_m * 1e9:g} nm"
    pixels, exposure = f"{camera.bit_depth} bits, {opu.n_out:,} pixels", f"{opu.exposure_s * 1e6:.0f} µs exposure"
    ends = [
        label(ax, 9, "Laser", power, beam),
        label(ax, 34.5, "DMD", mirrors, contrast),
        label(ax, 57.5, type(innermost_medium(opu.medium)).__name__, *medium_lines(opu.medium)),
        label(ax, PUPIL + 4, "Imaging", *imaging_lines(opu)),
        label(ax, 90.5, "Camera", pixels, exposure),
    ]
    return min(ends)


def imaging_lines(opu: OPU) -> list[str]:
    """Lines that describe pupil and polarisation."""
    imaging = opu.imaging
    if imaging.numerical_aperture is None:
        lines = ["a grain per pixel"]
    else:
        grain = np.sqrt(imaging.grain_area_m2(opu.laser.wavelength_m)) * 1e6
        lines = [f"pupil of NA {imaging.numerical_aperture:g}", f"grain {grain:.2g} µm"]
    return [*lines, "polariser" if imaging.polarisations == 1 else "2 polarisations"]


def innermost_medium(medium: ScatteringMedium) -> ScatteringMedium:
    """Return the medium inside all effects."""
    while isinstance(medium, Effect):
        medium = medium.medium
    return medium


def medium_lines(medium: ScatteringMedium) -> list[str]:
    """Lines that describe the size of T and the effects around the medium, outermost first."""
    n_out, n_in = medium.shape
    effects = []
    while isinstance(medium, Effect):
        effects.append(effect_line(medium))
        medium = medium.medium
    if len(effects) > MAX_EFFECTS:
        effects = [*effects[: MAX_EFFECTS - 1], f"and {len(effects) - MAX_EFFECTS + 1} more effects"]
    return [f"T: {n_out:,} × {n_in:,}", f"{short(n_out * n_in)} entries", *effects]


def effect_line(effect: Effect) -> str:
    """Line that describes an effect."""
    match effect:
        case Ballistic():
            return f"ballistic ratio {effect.ratio:.3g}"
        case Dispersive():
            return f"path times {effect.path_time_s:.3g} s"
        case Drifting():
            return f"drifts in {short(effect.correlation_frames)} frames"
        case Lossy():
            return f"transmission {effect.transmission:.3g}"
        case Modes():
            return f"{len(effect.weights)} independent fields"
    return type(effect).__name__


def short(value: float) -> str:
    """Write a number with three digits.

    >>> short(3000), short(2e12), short(0.02)
    ('3,000', '2 × 10¹²', '0.02')
    """
    if value < 1e5:
        return f"{float(f'{value:.3g}'):,.6g}"
    digits, power = f"{value:.2e}".split("e+")
    return f"{float(digits):g} × 10{str(int(power)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def draw_body(ax: Axes, x: float, y: float, width: float, height: float) -> None:
    """Draw the housing of a part."""
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=1", fc=BODY, ec=INK, lw=1))


def label(ax: Axes, x: float, name: str, *lines: str) -> float:
    """Write name and parameters under a part; return the height at which they end."""
    ax.text(x, NAMES, name, ha="center", va="top", color=INK, fontsize=10, weight="bold")
    ax.text(x, NAMES - 2.3, "\n".join(lines), ha="center", va="top", color=GREY, fontsize=8.5, linespacing=1.4)
    return NAMES - 2.7 - 2.1 * len(lines)
