"""Plots of the bench. Each function draws into the Axes that it is given and returns it."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from scipy.special import gammaln, xlogy

import photonics.analysis.speckle as law
from photonics.analysis.moments import noiseless_photons
from photonics.arrays import BoolArray, FloatArray, HostArray, real_numbers
from photonics.backend import to_host
from photonics.component import number
from photonics.medium import Drifting
from photonics.opu import OPU
from photonics.parts.camera import Camera
from photonics.patterns.encoding import as_patterns, half_on
from photonics.plotting.diagram import beam_colour, draw_bench
from photonics.plotting.style import legend_below

__all__ = [
    "as_image",
    "draw_bench",
    "draw_codes",
    "draw_drift",
    "draw_frame",
    "draw_histogram",
    "draw_pattern",
    "draw_singular_values",
    "draw_speckle",
]

MAX_STRETCH = 8.0
"""Largest ratio of the sides of a frame that is drawn with square pixels."""
INK, DARK, BARS, LAW = "#1f2933", "#39424e", "#8fa3b8", "#c2410c"


def as_image(values: HostArray) -> HostArray:
    """Lay out values row by row as a nearly square image; values that do not fill a row are left out."""
    side = max(int(np.sqrt(values.size)), 1)
    rows = values.size // side
    return values[: rows * side].reshape(rows, side)


def draw_frame(ax: Axes, frame: ArrayLike, top: int, shape: tuple[int, int] | None = None) -> Axes:
    """Show a frame, in digital numbers from 0 to `top`; pixels of a line sensor are drawn as stripes.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    frame : array_like
        Digital numbers, (rows, columns), or (n_out,) as `OPU.measure` gives them.
    top : int
        Largest digital number of the colour scale.
    shape : tuple of int, optional
        Rows and columns of a flat frame (`OPU.frame_shape`).

    Raises
    ------
    ValueError
        If the frame is flat and `shape` is not given, or has another number of pixels.
    """
    image = np.asarray(frame)
    if image.ndim != 2 if shape is None else image.size != math.prod(shape):
        wanted = "(rows, columns), or shape must be given (opu.frame_shape)" if shape is None else f"{shape} pixels"
        raise ValueError(f"frame must have {wanted}, got shape {image.shape}")
    image = image if shape is None else image.reshape(shape)
    rows, columns = image.shape
    square = 1 / MAX_STRETCH < rows / columns < MAX_STRETCH
    picture = ax.imshow(
        image, cmap="magma", vmin=0, vmax=top, interpolation="nearest", aspect="equal" if square else "auto"
    )
    if rows == 1:
        ax.set_yticks([0])
    ax.set_xlabel("pixel column")
    ax.set_ylabel("pixel row")
    ax.figure.colorbar(picture, ax=ax, label="digital number (DN)", fraction=0.046, pad=0.04)
    return ax


def draw_codes(ax: Axes, frames: ArrayLike, camera: Camera, mean_dn: float) -> Axes:
    """Histogram of a camera's codes, and the exponential law of speckle of that mean, clipped at saturation.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    frames : array_like of int
        Digital numbers, any shape.
    camera : Camera
        Gives the offset and the code of a saturated pixel. The law has ``exp(-q)`` of the pixels there, where q is that
        code over the mean, both above the offset.
    mean_dn : float
        Mean above the offset without saturation, DN; over 0.

    Raises
    ------
    ValueError
        If the mean is not over 0.
    """
    if not 0 < number(mean_dn) < math.inf:
        raise ValueError(f"mean_dn must be over 0, got {mean_dn!r}")
    codes, top = np.ravel(np.asarray(frames)), camera.saturation_dn
    width = max((top + 1) // 64, 1)
    edges = np.arange(0, top + 2 * width, width) - 0.5
    above = np.where(edges > top, 0.0, np.exp(-np.maximum(edges - camera.offset, 0.0) / mean_dn))
    cut = float(np.exp(-(top - camera.offset) / mean_dn))
    measured = f"pixels, {np.mean(codes >= top):.2%} saturated"
    ax.hist(codes, edges.tolist(), weights=np.full(codes.size, 1.0 / codes.size), color=BARS, label=measured)
    ax.stairs(above[:-1] - above[1:], edges, color=LAW, lw=1.5, label=f"exponential law, {cut:.2%} over the range")
    ax.axvline(top, color=INK, ls=":", lw=1.2, label=f"saturation at {top} DN")
    ax.set(yscale="log", xlim=(-width, edges[-1] + width), ylim=(0.3 / codes.size, 3))
    ax.set_xlabel("digital number (DN)")
    ax.set_ylabel(f"share of pixels per {width} DN" if width > 1 else "share of pixels per DN")
    legend_below(ax, columns=1)
    return ax


def draw_pattern(ax: Axes, opu: OPU, pattern: ArrayLike) -> Axes:
    """Show a pattern on the chip at true scale: light from each input, relative to the brightest input when ON.

    The outline is that of the chip. The circle is the beam, where its intensity is 1/e^2 of its peak.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    opu : OPU
        The device; its mirrors and laser are used.
    pattern : array_like of bool or 0/1, shape (n_in,)
        Which inputs are ON.

    Raises
    ------
    ValueError
        If the pattern has another shape or is not binary.
    """
    pattern = as_patterns(np.asarray(pattern)[None], opu.n_in, "pattern")[0]
    levels, share, cells = opu.dmd.levels(opu.n_in), opu.laser.power_share(opu.cells), opu.cells
    light = np.full(cells.shape[0] * cells.shape[1], np.nan)  # the last row may be incomplete
    light[: opu.n_in] = np.abs(np.where(pattern, levels[1], levels[0])) ** 2 * share / share.max()
    x, y = cells.x_edges * 1e3, cells.y_edges * 1e3
    colour = beam_colour(opu.laser.wavelength_m)
    shades = LinearSegmentedColormap.from_list("mirrors", [DARK, colour, "white"])

    across, up = (count * opu.dmd.pitch_m * 1e3 for count in (opu.dmd.columns, opu.dmd.rows))
    ax.add_patch(Rectangle((-across / 2, -up / 2), across, up, fc="#c9d1da", ec=INK, lw=1, label="chip"))
    extent = (x[0], x[-1], y[-1], y[0])
    picture = ax.imshow(
        light.reshape(cells.shape), cmap=shades, vmin=0, vmax=1, extent=extent, interpolation="nearest", zorder=2
    )
    radius = opu.laser.beam_radius_m
    if radius is not None:
        name = f"beam, 1/e² radius {radius * 1e3:g} mm"
        ax.add_patch(Circle((0, 0), radius * 1e3, fill=False, ec=colour, ls="--", lw=1.5, zorder=3, label=name))
    reach = 1.06 * min(max(across / 2, up / 2, (radius or 0.0) * 1e3), across)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set_xlabel("x on the chip (mm)")
    ax.set_ylabel("y on the chip (mm)")
    legend_below(ax)
    ax.figure.colorbar(picture, ax=ax, label="light sent on / brightest input", fraction=0.046, pad=0.04)
    return ax


def mean_photons(opu: OPU, pattern: BoolArray, reference_phase: float | None = None) -> FloatArray:
    """Photons per pixel in an exposure with a noiseless laser: (rows, columns) of the frame."""
    shown = opu.backend.asarray(pattern[None])
    photons = to_host(noiseless_photons(opu, shown, opu.exposure_s, reference_phase)[0](0.0))[0]
    return photons.reshape(opu.chip_shape)


def draw_speckle(ax: Axes, opu: OPU, pattern: ArrayLike | None = None, reference_phase: float | None = None) -> Axes:
    """Show the mean photons on the region of the sensor that is read out, with a scale bar.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    opu : OPU
        The device; its clock does not advance.
    pattern : array_like of bool or 0/1, shape (n_in,), optional
        Which inputs are ON; a random half if not given.
    reference_phase : float, optional
        Phase of the piezo, radians; if given, the shutter of the reference arm is open.

    Raises
    ------
    ValueError
        If the pattern has another shape or is not binary.
    """
    pattern = half_on(1, opu.n_in, opu.seed) if pattern is None else np.asarray(pattern)[None]
    image = mean_photons(opu, as_patterns(pattern, opu.n_in, "pattern")[0], reference_phase)
    picture = ax.imshow(image, cmap="magma", vmin=0, interpolation="nearest")
    ax.set_xlabel("pixel column")
    ax.set_ylabel("pixel row")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    seconds = f"{opu.exposure_s * 1e6:.0f} µs"
    ax.figure.colorbar(picture, ax=ax, label=f"mean photons per pixel in {seconds}", fraction=0.046, pad=0.04)
    draw_scale_bar(ax, image.shape, opu.imaging.pixel_m)
    return ax


def draw_scale_bar(ax: Axes, shape: tuple[int, ...], pixel_m: float) -> None:
    """Draw a bar of at most a third of the image's width, with its length in micrometres."""
    rows, columns = shape
    length_m = round_length(columns * pixel_m / 3.0)
    width = length_m / pixel_m
    left, low = 0.04 * columns - 0.5, 0.94 * rows - 0.5
    back = {"boxstyle": "round,pad=0.25", "fc": "black", "ec": "none", "alpha": 0.6}
    ax.plot([left, left + width], [low, low], color="white", lw=3, solid_capstyle="butt")
    ax.text(left, 0.91 * rows - 0.5, f"{length_m * 1e6:g} µm", color="white", fontsize=8, va="bottom", bbox=back)


def round_length(limit: float) -> float:
    """Largest number of the series 1, 2, 5, 10, ... (times a power of ten) that is at most `limit`.

    >>> round_length(0.7e-3)
    0.0005
    """
    power = 10.0 ** math.floor(math.log10(limit))
    return float(f"{max(step for step in (1.0, 2.0, 5.0) if step * power <= limit * (1 + 1e-9)) * power:.0e}")


def draw_histogram(ax: Axes, intensity: ArrayLike, modes: float = 1) -> Axes:
    """Histogram of the intensity over its mean, and the law of k modes, on a logarithmic axis.

    The gamma law ``k^k x^(k-1) exp(-k x) / Gamma(k)`` has contrast 1/sqrt(k); for k = 1 it is the exponential law of
    fully developed speckle (Goodman 2020, 4.7). It also approximates the mean over the grains of a pixel, with
    ``k = 1 / imaging.contrast()^2``.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    intensity : array_like of real
        Any shape and unit; 0 or more.
    modes : float
        k, over 0, not necessarily an integer.

    Raises
    ------
    ValueError
        If all values are 0, a value is negative or not finite, or `modes` is not over 0.
    """
    values = np.ravel(real_numbers(intensity, "intensity"))
    if not (values.size and np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise ValueError("intensity must be finite, 0 or more and not all 0, got no value, NaN, 0 or a negative value")
    k = number(modes)
    if not 0 < k < math.inf:
        raise ValueError(f"modes must be over 0, got {modes!r}")
    values = values / values.mean()
    bins = min(max(int(math.sqrt(values.size)), 10), 60)
    measured = f"pixels: contrast {law.contrast(values):.3f}"
    ax.hist(values, bins=bins, range=(0.0, values.max()), density=True, color=BARS, label=measured)
    x = np.linspace(0.0, values.max(), 400)[int(k < 1) :]  # for k < 1 the law has a pole at 0
    density = np.exp(k * math.log(k) + xlogy(k - 1.0, x) - k * x - gammaln(k))
    name = "exponential law" if k == 1 else f"gamma law, k = {k:.3g}"
    ax.plot(x, density, color=LAW, lw=1.8, label=f"{name}: {k**-0.5:.3f}")
    floor = 0.5 * bins / (values.size * values.max())  # half a pixel per bin
    ax.set_yscale("log")
    ax.set(xlim=(0, values.max()), ylim=(floor, None))
    ax.set_xlabel("intensity / mean")
    ax.set_ylabel("probability density")
    legend_below(ax, columns=1)
    return ax


def draw_singular_values(ax: Axes, matrix: ArrayLike) -> Axes:
    """Histogram of a matrix's singular values against the law of Marchenko and Pastur, with its edges.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    matrix : array_like, shape (n_out, n_in)
        Real or complex; the law holds for independent entries with ``E|t_ij|^2 = 1/n_in``.

    Raises
    ------
    ValueError
        If it is not a matrix of finite entries.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise ValueError(f"matrix must be finite, of shape (n_out, n_in), got shape {matrix.shape}")
    n_out, n_in = matrix.shape
    values = np.linalg.svd(matrix, compute_uv=False)
    low, high = law.marchenko_pastur_edges(n_out, n_in)
    bins = min(max(int(math.sqrt(values.size)), 8), 60)
    ax.hist(values, bins=bins, density=True, color=BARS, label=f"T, {n_out:,} × {n_in:,}")
    s = np.linspace(low, high, 800)
    density = law.marchenko_pastur_density(s, n_out, n_in)
    ax.plot(s[s > 0], density[s > 0], color=LAW, lw=1.8, label="Marchenko–Pastur")
    for edge in (low, high):
        name = f"edges {low:.3g} and {high:.3g}" if edge == high else None
        ax.axvline(edge, color=INK, ls=":", lw=1.2, label=name)
    ax.set_xlabel("singular value")
    ax.set_ylabel("probability density")
    legend_below(ax, columns=1)
    return ax


def draw_drift(ax: Axes, medium: Drifting, lags: ArrayLike, seed: int = 0) -> Axes:
    """Correlation of the field with that of frame 0, for one random pattern, and the medium's law.

    Parameters
    ----------
    ax : Axes
        Where to draw.
    medium : Drifting
        The medium that drifts.
    lags : array_like of int, shape (n,)
        Frame numbers, 0 or more.
    seed : int
        Seed of the pattern.
    """
    lags = np.asarray(lags, np.int64)
    pattern = np.repeat(half_on(1, medium.shape[1], seed), len(lags) + 1, axis=0)
    field = medium.propagate(pattern, np.append(lags, 0)).astype(np.complex128)
    norms = np.linalg.norm(field, axis=1)
    measured = (field[:-1] @ field[-1].conj()).real / (norms[:-1] * norms[-1])
    x = np.linspace(0, lags.max(), 400)
    ax.plot(x, medium.correlation(x), color=LAW, lw=1.8, label=f"{medium.law}, τ = {medium.correlation_frames:g}")
    ax.plot(lags, measured, "o", ms=4, color=INK, label=f"{medium.shape[0]:,} outputs")
    ax.set_xlabel("lag (frames)")
    ax.set_ylabel("correlation of the field")
    legend_below(ax, columns=1)
    return ax
