"""Plots: they show the given data, axes have labels with units, and no global state is used."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from photonics import (
    DMD,
    Ballistic,
    Camera,
    Dispersive,
    Drifting,
    GaussianMedium,
    Imaging,
    Laser,
    Lossy,
    Modes,
    ScatteringLayers,
    presets,
)
from photonics.parts.reference import Reference
from photonics.patterns.encoding import half_on
from photonics.plotting import diagram, plots

CALM = Laser(rin_db_per_hz=None, drift_rms=0.0, pointing_rad=0.0)
PUPIL = Imaging(numerical_aperture=0.03, sensor=(12, 20))


@pytest.fixture
def ax():
    return Figure().add_subplot()


def bench(n_in=50, n_out=240, **parts):
    return presets.lab_bench(n_in, n_out, seed=3).replace(**({"laser": CALM} | parts))


def speckle_bench():
    return bench(50, 960, imaging=PUPIL)


DRAWINGS = {
    "frame": lambda ax: plots.draw_frame(ax, np.arange(100).reshape(5, 20), 255),
    "pattern": lambda ax: plots.draw_pattern(ax, bench(), half_on(1, 50, 0)[0]),
    "speckle": lambda ax: plots.draw_speckle(ax, speckle_bench()),
    "histogram": lambda ax: plots.draw_histogram(ax, np.random.default_rng(0).exponential(size=1000)),
    "singular-values": lambda ax: plots.draw_singular_values(ax, GaussianMedium(60, 40).block(slice(0, 40), slice(60))),
    "codes": lambda ax: plots.draw_codes(ax, np.arange(256), Camera(), 50.0),
    "drift": lambda ax: plots.draw_drift(ax, Drifting(GaussianMedium(20, 30), 5), [0, 2, 9]),
    "bench": lambda ax: plots.draw_bench(ax, bench(), reference=True),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_axes_come_back_labelled(name, ax):
    """It renders without a warning; both axes and the colour bar are labelled. Catches: a forgotten return or label."""
    assert DRAWINGS[name](ax) is ax
    ax.figure.canvas.draw()
    if name != "bench":
        assert all(len(each.get_xlabel()) > 3 or len(each.get_ylabel()) > 3 for each in ax.figure.axes)
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_a_frame_has_the_rows_of_its_sensor(ax):
    """Of a device, flat or not; a flat frame without its shape is refused.

    Catches: any frame drawn nearly square, and the pixels that do not fit left out.
    """
    opu = bench(50, 260, imaging=Imaging(sensor=(26, 10), region=(3, 20, 2, 7)))
    frame = opu.measure(half_on(1, 50, 0))[0]
    for each in (
        plots.draw_frame(ax, frame, 255, opu.frame_shape),
        plots.draw_frame(Figure().add_subplot(), frame.reshape(20, 7), 255),
    ):
        np.testing.assert_array_equal(each.images[0].get_array(), frame.reshape(20, 7))
    with pytest.raises(
        ValueError, match=r"^frame must have \(rows, columns\), or shape must be .*, got shape \(140,\)$"
    ):
        plots.draw_frame(ax, frame, 255)
    with pytest.raises(ValueError, match=r"^frame must have \(26, 10\) pixels, got shape \(140,\)$"):
        plots.draw_frame(ax, frame, 255, (26, 10))


def test_a_line_of_pixels_is_visible(ax):
    """A prime number of pixels is one row, drawn as stripes. Catches: a frame drawn as a line of 1 pixel's height."""
    plots.draw_frame(ax, np.arange(263), 255, bench(20, 263).frame_shape)
    ax.figure.canvas.draw()
    assert ax.images[0].get_window_extent().height > 50


def test_no_global_state():
    """The functions never load pyplot, so no figure stays open anywhere. Catches: `plt.gca()`."""
    code = "import photonics.plotting.plots, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    for module in (plots, diagram):
        names = {
            node.id for node in ast.walk(ast.parse(Path(module.__file__).read_text())) if isinstance(node, ast.Name)
        }
        assert not names & {"plt", "pyplot", "rcParams"}


@pytest.mark.parametrize("n_in", [49, 50])
def test_pattern_is_the_light_on_the_chip(ax, n_in):
    """The image is ``|level|^2 share / largest share``, at the cells' own millimetres; the last row may be short.

    Catches: an upside-down chip, leakage of OFF mirrors left out, cells in metres.
    """
    opu = bench(n_in, dmd=DMD(macropixel=40, contrast=25.0))
    pattern = half_on(1, n_in, 1)[0]
    plots.draw_pattern(ax, opu, pattern)
    picture = ax.images[0]
    share = opu.laser.power_share(opu.cells)
    drawn = np.ma.filled(picture.get_array(), np.nan).ravel()
    np.testing.assert_allclose(drawn[:n_in], np.where(pattern, 1.0, 1 / 25) * share / share.max(), rtol=1e-6)
    assert np.isnan(drawn[n_in:]).all()
    left, right, bottom, top = picture.get_extent()
    side = 40 * 13.68e-3
    assert (left, right) == (pytest.approx(-right), pytest.approx(opu.cells.shape[1] * side / 2))
    assert (top, bottom) == (pytest.approx(opu.cells.shape[0] * side / 2), pytest.approx(-top))
    (chip,) = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert (chip.get_width(), chip.get_height()) == (pytest.approx(1024 * 13.68e-3), pytest.approx(768 * 13.68e-3))
    (beam,) = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert beam.get_radius() == pytest.approx(7.0)
    assert ax.get_aspect() == 1.0
    assert ax.get_xlim()[1] > chip.get_width() / 2


def test_a_uniform_beam_has_no_circle(ax):
    opu = bench(laser=replace(CALM, beam_radius_m=None))
    plots.draw_pattern(ax, opu, np.ones(50))
    assert not [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert np.nanmin(ax.images[0].get_array()) == pytest.approx(1.0)


@pytest.mark.parametrize("phase", [None, 0.7])
@pytest.mark.parametrize("region", [None, (2, 5, 3, 8)])
def test_speckle_is_the_mean_photons(ax, phase, region):
    """On the sensor's own rows and columns, region and reference included; the clock stays.

    Catches: a square image of an oblong sensor, digital numbers for photons, a noisy laser.
    """
    opu = speckle_bench().replace(imaging=replace(PUPIL, region=region), laser=Laser(rin_db_per_hz=-60))
    pattern = half_on(1, 50, 9)
    plots.draw_speckle(ax, opu, pattern[0], reference_phase=phase)
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn.shape == ((12, 20) if region is None else (5, 8))
    still, ticks = opu.replace(laser=CALM), np.zeros(1, np.int64)
    light = still.light(ticks, opu.exposure_s)
    reference = None if phase is None else still.reference_light(np.full(1, phase), ticks, opu.exposure_s)
    expected = still.mean_photons(pattern, ticks, opu.exposure_s, light, reference)[0]
    np.testing.assert_allclose(drawn.ravel(), expected, rtol=1e-5)
    assert opu.clock.frames == 0
    assert "photons" in ax.figure.axes[1].get_ylabel()


def test_the_scale_bar_is_to_scale(ax):
    """Its length in pixels times the pixel size equals its label. Catches: a bar in field samples."""
    plots.draw_speckle(ax, speckle_bench())
    (bar,) = ax.lines
    (text,) = [text.get_text() for text in ax.texts]
    length_um = np.ptp(bar.get_xdata()) * 5.5
    assert text == f"{length_um:g} µm" == "20 µm"
    assert np.ptp(bar.get_xdata()) <= 20 / 3


def curve(ax):
    """Points of the law."""
    return ax.lines[0].get_xdata(), ax.lines[0].get_ydata()


@pytest.mark.parametrize("modes", [1, 2, 3.7])
def test_histogram_and_law_hold_the_same_mass(ax, modes):
    """Bars integrate to 1 with mean 1, as does the law, and they agree (4 SE of a bar); the legend has both contrasts.

    Catches: counts for densities, intensity not over its mean, the gamma law of another scale.
    """
    values = 7.0 * np.random.default_rng(0).gamma(modes, size=(200, 500))
    plots.draw_histogram(ax, values, modes)
    left = np.array([bar.get_x() for bar in ax.patches])
    width, height = (np.array([getattr(bar, f"get_{name}")() for bar in ax.patches]) for name in ("width", "height"))
    assert np.sum(width * height) == pytest.approx(1.0)
    assert np.sum(width * height * (left + width / 2)) == pytest.approx(1.0, abs=2e-2)
    x, density = curve(ax)
    assert np.trapezoid(density, x) == pytest.approx(1.0, abs=2e-2)
    assert np.trapezoid(density * x, x) == pytest.approx(1.0, abs=1e-2)
    assert np.trapezoid(density * (x - 1) ** 2, x) == pytest.approx(1 / modes, rel=2e-2)
    middle = slice(2, 12)
    expected = np.interp((left + width / 2)[middle], x, density)
    error = np.sqrt(expected / (values.size * width[middle]))
    assert abs((height[middle] - expected) / (error + 0.01 * expected)).max() < 4
    assert ax.get_yscale() == "log"
    pixels, law = [text.get_text() for text in ax.get_legend().get_texts()][::-1]
    words = sorted([pixels, law], key=lambda text: "pixels" in text)
    assert float(words[0].split(": ")[1]) == pytest.approx(modes**-0.5, abs=6e-4)
    assert float(words[1].split("contrast ")[1]) == pytest.approx(values.std() / values.mean(), abs=6e-4)


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_codes_and_their_law_hold_all_pixels(ax, bits):
    """Frames of exponential light follow the law, code for code; ``exp(-q)`` of both are where the range ends.

    Within 5 standard errors in each bin. Catches: the law from zero in place of the offset, saturated pixels left out,
    bins that split a code.
    """
    camera = Camera(bit_depth=bits, read_noise_e=0.0, dark_current_e_per_s=0.0, prnu=0.0, dsnu_e=0.0)
    photons = np.random.default_rng(5).exponential(5000.0, (100, 2000))
    plots.draw_codes(ax, camera.expose(photons, 1e-3, np.arange(100)), camera, 3000.0 * camera.gain)
    bars, steps = np.array([bar.get_height() for bar in ax.patches[:-1]]), ax.patches[-1].get_data().values
    assert bars.sum() == pytest.approx(1.0) and steps.sum() == pytest.approx(1.0)
    last = np.flatnonzero(steps)[-1]
    cut = np.exp(-(camera.saturation_dn - camera.offset) / (3000.0 * camera.gain))
    assert bars[last] > cut * 0.9 and steps[last] >= cut
    np.testing.assert_array_less(np.abs(bars - steps)[1:], 5.0 * np.sqrt(np.maximum(steps, 1e-5) / 2e5)[1:])


@pytest.mark.parametrize(("n_out", "n_in"), [(150, 300), (300, 150), (200, 200)])
def test_singular_values_and_their_law(ax, n_out, n_in):
    """Bars and law integrate to 1, between the edges that are marked; quantiles agree within 0.03.

    Catches: the law of the eigenvalues (of ``T^H T``), n_out for n_in, zeros counted in.
    """
    plots.draw_singular_values(ax, GaussianMedium(n_in, n_out, seed=4).block(slice(None), slice(None)))
    x, density = curve(ax)
    assert np.trapezoid(density, x) == pytest.approx(1.0, abs=1e-2)
    width, height = (np.array([getattr(bar, f"get_{name}")() for bar in ax.patches]) for name in ("width", "height"))
    assert np.sum(width * height) == pytest.approx(1.0)
    right = np.array([bar.get_x() for bar in ax.patches]) + width
    cumulated = np.concatenate([[0], np.cumsum(np.diff(x) * (density[1:] + density[:-1]) / 2)])
    assert abs(np.cumsum(width * height) - np.interp(right, x, cumulated)).max() < 0.03
    low, high = (line.get_xdata()[0] for line in ax.lines[1:])
    root = np.sqrt(n_out / n_in)
    assert (low, high) == (pytest.approx(abs(1 - root)), pytest.approx(1 + root))
    assert 0.9 * low < right[0]
    assert right[-1] < 1.05 * high


def test_drift_is_measured_against_the_law(ax):
    """At lag 0 it is 1, elsewhere the law within 4 standard errors, 1/sqrt(2 n_out). Catches: the intensity's law."""
    medium = Drifting(GaussianMedium(30, 4000, seed=1), 20, law="gaussian")
    plots.draw_drift(ax, medium, [0, 5, 15, 60])
    law, dots = ax.lines
    np.testing.assert_allclose(law.get_ydata(), np.exp(-((law.get_xdata() / 20) ** 2)))
    measured = dots.get_ydata()
    assert measured[0] == pytest.approx(1.0, abs=1e-6)
    assert abs(measured - np.exp(-((np.array([0, 5, 15, 60]) / 20) ** 2))).max() < 4 / np.sqrt(8000)


def words(ax):
    return "\n".join(text.get_text() for text in ax.texts)


def test_the_diagram_shows_the_parameters_of_the_device(ax):
    """Every label follows a parameter. Catches: a constant in a label, the frame's size for that of T."""
    opu = presets.lab_bench(120, 2000).replace(
        laser=Laser(power_w=0.25, wavelength_m=633e-9, beam_radius_m=3e-3),
        dmd=DMD(macropixel=6, contrast=700.0),
        imaging=Imaging(numerical_aperture=0.04, polarisations=2),
        medium=Lossy(GaussianMedium(120, 2000), 0.25),
        exposure_s=1.5e-4,
        electrical_power_w=33.0,
    )
    said = words(plots.draw_bench(ax, opu))
    for text in ("250 mW, 633 nm", "w = 3 mm", "120 inputs of 6×6 mirrors", "contrast 700:1", "GaussianMedium"):
        assert text in said
    for text in ("T: 2,000 × 120", "transmission 0.25", "pupil of NA 0.04", "grain 8.9 µm", "2 polarisations"):
        assert text in said
    for text in ("8 bits, 500 pixels", "150 µs exposure", "1,000 frames / s, 33 W", "|P T x|²"):
        assert text in said
    assert "reference" not in said
    assert "polariser" not in said


@pytest.mark.parametrize(
    ("effect", "text"),
    [
        (lambda m: Drifting(m, 3000), "drifts in 3,000 frames"),
        (lambda m: Ballistic(m, 0.2), "ballistic ratio 0.2"),
        (lambda m: Dispersive(m, 1e-12), "path times 1e-12 s"),
        (lambda m: Modes(m, [3, 2, 1]), "3 independent fields"),
        (lambda m: Lossy(Lossy(Lossy(Lossy(m, 0.5), 0.6), 0.7), 0.8), "and 2 more effects"),
    ],
)
def test_the_diagram_names_the_effects_of_the_medium(ax, effect, text):
    """And the medium inside by its own name. Catches: an effect left out, its name for the medium's."""
    opu = bench(50, 60, medium=effect(ScatteringLayers(50, 60)))
    said = words(plots.draw_bench(ax, opu))
    assert text in said
    assert "ScatteringLayers" in said


def test_the_reference_arm_is_drawn_if_requested_and_lit(ax):
    """Catches: an arm of no light, a keyword that is not looked at."""
    lit = bench(imaging=Imaging(reference=Reference(intensity=0.5, angle_x_rad=0.02)))
    assert "reference" not in words(plots.draw_bench(Figure().add_subplot(), lit))
    assert "0.5 × the mean speckle, tilted x 1.1°" in words(plots.draw_bench(ax, lit, reference=True))
    dark = bench(imaging=Imaging(reference=Reference(intensity=0.0)))
    assert "reference" not in words(plots.draw_bench(Figure().add_subplot(), dark, reference=True))


@pytest.mark.parametrize("effects", [0, 1])
def test_labels_of_the_diagram_do_not_overlap(effects):
    """On a page of 10 x 4 inches no two texts overlap and none leaves the page, the longest labels included.

    Catches: a label of several lines that runs into the next or out of the picture.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    ax = figure.add_subplot()
    medium = GaussianMedium(4096, 4096)
    if effects:
        medium = Lossy(Ballistic(Drifting(medium, 3e7), 0.25), 0.123)
    opu = presets.lab_bench(4096, 4096).replace(medium=medium, imaging=Imaging(numerical_aperture=0.04))
    plots.draw_bench(ax, opu, reference=bool(effects))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not [(i, j) for j, b in enumerate(boxes) for i, a in enumerate(boxes[:j]) if a.overlaps(b)]
    page = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (
            lambda ax: plots.draw_pattern(ax, bench(), np.ones(3)),
            r"pattern must have shape \(batch, 50\)",
        ),
        (lambda ax: plots.draw_pattern(ax, bench(), np.full(50, np.nan)), "pattern must be binary"),
        (lambda ax: plots.draw_speckle(ax, bench(), np.full(50, 2)), "pattern must be binary"),
        (lambda ax: plots.draw_histogram(ax, []), "intensity must be finite"),
        (lambda ax: plots.draw_histogram(ax, [1.0, np.nan]), "intensity must be finite"),
        (lambda ax: plots.draw_histogram(ax, np.zeros(5)), "intensity must be finite"),
        (lambda ax: plots.draw_histogram(ax, [1.0, 2.0], 0), "modes must be over 0, got 0"),
        (lambda ax: plots.draw_histogram(ax, [1.0, 2.0], np.nan), "modes must be over 0, got nan"),
        (lambda ax: plots.draw_singular_values(ax, np.ones(5)), r"matrix must be finite, .*got shape \(5,\)"),
        (lambda ax: plots.draw_singular_values(ax, np.full((2, 2), np.nan)), "matrix must be finite"),
    ],
)
def test_bad_input_is_named(ax, draw, says):
    with pytest.raises(ValueError, match="^" + says):
        draw(ax)
    assert not ax.patches
