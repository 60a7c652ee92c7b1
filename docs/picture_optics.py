"""Make the picture of the optics, docs/optics.png: ``python docs/picture_optics.py``."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from calibration.reports.page import STYLE
from photonics import DMD, presets
from photonics.patterns.encoding import half_on
from photonics.plotting.plots import draw_bench, draw_histogram, draw_pattern, draw_singular_values, draw_speckle

N_IN, SIDE, PATTERNS = 576, 64, 40
"""Inputs, pixels along the side of the sensor, patterns in the histogram."""
ROWS = slice(0, 1152)
"""Rows of the transmission matrix whose singular values are drawn."""


def main() -> None:
    """Draw a bench with a pupil, a pattern, its speckle and histogram, and the singular values of the medium."""
    opu = presets.lab_bench(N_IN, 4 * SIDE**2)  # 4 field samples per pixel behind a pupil
    opu = opu.replace(dmd=DMD(macropixel=30), **{"imaging.numerical_aperture": 0.03})
    opu.autoexpose()
    patterns, ticks = half_on(PATTERNS, N_IN, 0), np.arange(PATTERNS)
    photons = opu.mean_photons(patterns, ticks, opu.exposure_s, opu.light(ticks, opu.exposure_s))
    modes = opu.imaging.contrast() ** -2
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(14, 8.6), layout="constrained", dpi=90)
        grid = figure.add_gridspec(2, 4, height_ratios=[1.45, 1], width_ratios=[1.15, 1.15, 1, 1])
        draw_bench(figure.add_subplot(grid[0, :]), opu, reference=True)
        draw_pattern(figure.add_subplot(grid[1, 0]), opu, patterns[0])
        ax = draw_speckle(figure.add_subplot(grid[1, 1]), opu, patterns[0])
        ax.set_title("its speckle on the sensor")
        ax = draw_histogram(figure.add_subplot(grid[1, 2], box_aspect=1), photons, modes)
        ax.set_title(f"each pixel sees {modes:.2f} grains")
        ax = draw_singular_values(figure.add_subplot(grid[1, 3], box_aspect=1), opu.medium.block(ROWS, slice(None)))
        ax.set_title("singular values of T")
        figure.savefig(Path(__file__).with_name("optics.png"), metadata={"Software": None})


if __name__ == "__main__":
    main()
