"""Make the README's picture, docs/first_light.png, from the runs of the demo: ``python docs/picture.py``."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from calibration import characterize
from calibration.reports.figures import draw_projection
from calibration.reports.page import STYLE
from dfa.data import digits
from dfa.experiments import DEMO, STANDARD_METHODS, compare_methods, draw_scores
from photonics import presets
from photonics.patterns.encoding import half_on
from photonics.plotting.plots import draw_bench, draw_frame


def main() -> None:
    """Draw the bench, a frame, a projection against the true one, and the learning curves."""
    opu = presets.lab_bench(256, 2500, seed=0)
    report = characterize(opu, truth=opu.effective_matrix())
    runs = compare_methods(DEMO, digits(), STANDARD_METHODS, range(3), progress=False)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 7.6), layout="constrained", dpi=110)
        grid = figure.add_gridspec(2, 3, height_ratios=[1.1, 1])
        draw_bench(figure.add_subplot(grid[0, :]), opu)
        ax = draw_frame(
            figure.add_subplot(grid[1, 0]), opu.measure(half_on(1, opu.n_in, 0))[0], opu.camera.top, opu.frame_shape
        )
        ax.set_title("the camera sees speckle")
        ax = draw_projection(figure.add_subplot(grid[1, 1]), report.curves["projection"])
        ax.set_title("interference makes it a linear map")
        ax = draw_scores(figure.add_subplot(grid[1, 2]), DEMO, runs)
        ax.set_title("which teaches a network (digits)")
        figure.savefig(Path(__file__).with_name("first_light.png"), metadata={"Software": None})


if __name__ == "__main__":
    main()
