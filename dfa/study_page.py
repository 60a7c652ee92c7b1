"""The page of a study: the comparison, learning curves, alignment, and the device that taught."""

import math
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes

from calibration.characterize import characterize
from calibration.page import Section, Table, picture, render
from calibration.report_page import sections
from dfa.data import Dataset
from dfa.study import METHODS, Plan, Run, summary, training_device

__all__ = ["study_page"]

COLOURS = {"bp": "#1f2933", "dfa": "#2563a8", "ternary": "#0d9488", "optical": "#d9480f", "last-layer": "#9aa5b1"}


def study_page(plan: Plan, data: Dataset, runs: Sequence[Run]) -> str:
    """Return the HTML report of a study; with optical runs, the first seed's device is made again and characterised."""
    columns, rows = summary(runs)
    layers = "-".join(str(n) for n in (data.features, *plan.hidden, data.classes))
    seeds = len({run.seed for run in runs})
    text = (
        f"A {layers} tanh network on {data.name} ({len(data.train[0]):,} training samples, {plan.epochs} epochs, "
        f"batches of {plan.batch_size}, Adam at {plan.learning_rate:g}), {seeds} seed(s): test accuracy, mean ± "
        "standard deviation. The angle is that between the hidden layers' updates and the true gradient. "
        "In optical DFA the teaching signal of every hidden layer is the output's error, ternarised, shown on the "
        "mirrors, scattered, photographed and read back by interference; nothing is propagated backwards through the "
        "layers. Frames include calibration; time and energy are theirs at the device's frame rate and power."
    )
    angles = [run for run in runs if run.history[-1].angles and run.method != "last-layer"]
    curves = [picture(lambda ax: draw_accuracy(ax, runs), "Test accuracy after each epoch; the band spans the seeds.")]
    if angles:
        caption = "Angle of each hidden layer's update to the true gradient, mean over seeds; 90° is chance."
        curves.append(picture(lambda ax: draw_angles(ax, angles), caption))
    first = Section("Result", text, curves, [Table(columns, rows)])
    title = f"Training by Direct Feedback Alignment: {data.name}"
    if all(run.method != "optical" for run in runs):
        return render(title, [first])
    opu = training_device(plan.device, data.classes, sum(plan.hidden), runs[0].seed)
    report = characterize(opu, truth=opu.effective_matrix(), n_inputs=data.classes)
    verdict, *rest = sections(report)
    device = Section("The device, characterised", verdict.text, verdict.pictures, verdict.tables)
    return render(f"{title}, through light", [first, device, *rest])


def draw_accuracy(ax: Axes, runs: Sequence[Run]) -> Axes:
    """Test accuracy against epoch: mean over seeds, and the range."""
    for method in dict.fromkeys(run.method for run in runs):
        group = [run.history for run in runs if run.method == method]
        epochs = [epoch.epoch for epoch in group[0]]
        values = [[100.0 * history[i].test for history in group] for i in range(len(epochs))]
        marker = {"marker": "o", "ms": 3} if len(epochs) < 20 else {}
        ax.plot(
            epochs,
            [statistics.fmean(v) for v in values],
            color=COLOURS[method],
            label=METHODS[method],
            lw=1.4,
            **marker,
        )
        ax.fill_between(
            epochs, [min(v) for v in values], [max(v) for v in values], color=COLOURS[method], alpha=0.15, lw=0
        )
    final = [100.0 * run.accuracy for run in runs]
    ax.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(max(0.0, min(final) - 8.0), 100.0))
    ax.legend(loc="lower right")
    return ax


def draw_angles(ax: Axes, runs: Sequence[Run]) -> Axes:
    """Angle of each hidden block against epoch; the line's style says which block."""
    styles = ["-", "--", ":", "-."]
    for method in dict.fromkeys(run.method for run in runs):
        group = [run.history for run in runs if run.method == method]
        epochs = [epoch.epoch for epoch in group[0]]
        for block in range(len(group[0][0].angles) - 1):
            mean = [statistics.fmean(history[i].angles[block] for history in group) for i in range(len(epochs))]
            label = f"{METHODS[method]}, layer {block + 1}"
            ax.plot(epochs, mean, styles[block % 4], color=COLOURS[method], label=label, lw=1.2)
    ax.axhline(90.0, color="#9aa5b1", lw=0.8)
    top = max((a for run in runs for e in run.history for a in e.angles if not math.isnan(a)), default=90.0)
    ax.set(xlabel="epoch", ylabel="angle to the gradient (degrees)", ylim=(0, max(100.0, top + 5)))
    ax.legend(fontsize=7, ncols=2, loc="lower left")
    return ax
