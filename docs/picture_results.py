"""Make docs/results.png from the folders that `opu train --out` wrote: ``python docs/picture_results.py FOLDER...``.

Folders with the same plan, for instance one for each method, share a panel.
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from calibration.reports.page import STYLE
from dfa.experiments import Plan, Run, draw_scores, read_results
from dfa.experiments.teachers import METHODS

NAMES = {
    "mlp": "fully connected",
    "cnn": "convolutional",
    "norm-cnn": "convolutional, batch norms",
    "gcn": "graph convolutional",
    "transformer": "transformer",
}


def main(folders: list[str]) -> None:
    """Draw the score of every network against epoch or step: mean and range over the seeds."""
    panels: dict[str, tuple[Plan, list[Run]]] = {}
    for folder in folders:
        newest = max(Path(folder).glob("results*.json"), key=lambda path: path.stat().st_mtime)
        plan, runs = read_results(newest)
        title = f"{plan.data}: {NAMES[str(plan.network)]}, {'-'.join(map(str, plan.hidden or ()))}"
        panels.setdefault(title, (plan, []))[1].extend(runs)
        if replace(panels[title][0], encoder=plan.encoder, draws=plan.draws) != plan:
            raise ValueError(f"{folder} must have the plan of the other folders for {title}")
    with mpl.rc_context(STYLE):
        columns = min(len(panels), 3)
        rows = -(-len(panels) // columns)
        figure = Figure(figsize=(5.0 * columns, 3.7 * rows), layout="constrained", dpi=110)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for ax in axes[len(panels) :]:
            ax.remove()
        for ax, (title, (plan, runs)) in zip(axes, panels.items(), strict=False):
            runs.sort(key=lambda run: list(METHODS).index(run.method))
            draw_scores(ax, plan, runs).set_title(title)
        figure.savefig(Path(__file__).with_name("results.png"), metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1:])
