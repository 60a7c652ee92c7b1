"""The page of a study: the comparison, learning curves, alignment, and the device that taught."""

import math
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes

from calibration.characterize import characterize
from calibration.page import Section, Table, picture, render
from calibration.report_page import sections
from dfa.plans import Plan
from dfa.study import Run, summary
from dfa.tasks import Data, signal_width
from dfa.teachers import METHODS, training_device

__all__ = ["study_page"]

COLOURS = {"bp": "#1f2933", "dfa": "#2563a8", "ternary": "#0d9488", "optical": "#d9480f", "last-layer": "#9aa5b1"}
COLOURS |= {"separate": "#7c3aed", "alignment": "#b45309", "sign": "#be185d"}


def study_page(plan: Plan, data: Data, runs: Sequence[Run]) -> str:
    """Return the HTML report of a study; with optical runs, the first seed's device is made again and characterised."""
    columns, rows = summary(plan, runs)
    text = about(plan, data, len({run.seed for run in runs}))
    metric = plan.metric
    angles = [run for run in runs if not math.isnan(run.angle) and run.method != "last-layer"]
    per = "so many steps" if plan.steps else "each epoch"
    caption = f"{metric.name.capitalize()} after {per}; the band spans the seeds."
    curves = [picture(lambda ax: draw_scores(ax, plan, runs), caption)]
    if angles:
        caption = "Angle of each hidden layer's update to the true gradient, mean over seeds; 90° is chance."
        curves.append(picture(lambda ax: draw_angles(ax, angles), caption))
    first = Section("Result", text, curves, [Table(columns, rows)])
    title = f"Training by Direct Feedback Alignment: {data.name}"
    if all(run.method != "optical" for run in runs):
        return render(title, [first])
    opu = training_device(plan, data.classes, signal_width(plan, data), runs[0].seed)
    report = characterize(opu, truth=opu.effective_matrix(), n_inputs=data.classes)
    verdict, *rest = sections(report)
    device = Section("The device, characterised", verdict.text, verdict.pictures, verdict.tables)
    return render(f"{title}, through light", [first, device, *rest])


def about(plan: Plan, data: Data, seeds: int) -> str:
    """What was done, in words."""
    hidden = "-".join(str(n) for n in plan.hidden or ())
    length = f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"
    batches = f", batches of {plan.batch_size}" if plan.batch_size else ""
    return (
        f"Network {plan.network} with hidden blocks {hidden} on {data.name} ({length}{batches}, Adam at "
        f"{plan.learning_rate:g}), {seeds} seed(s): {plan.metric.name}, mean ± standard deviation. The angle is that "
        "between the hidden blocks' updates and the true gradient. In optical DFA the teaching signal of every hidden "
        "block is the output's error, ternarised, shown on the mirrors, scattered, photographed and read back by "
        "interference; nothing is propagated backwards through the blocks. Frames include calibration; time and energy "
        "are theirs at the device's frame rate and power."
    )


def draw_scores(ax: Axes, plan: Plan, runs: Sequence[Run]) -> Axes:
    """Score against epoch or step: mean over seeds, and the range."""
    metric = plan.metric
    for method in dict.fromkeys(run.method for run in runs):
        group = [run.history for run in runs if run.method == method]
        at = [point.at for point in group[0]]
        values = [[metric.factor * history[i].test for history in group] for i in range(len(at))]
        marker = {"marker": "o", "ms": 3} if len(at) < 20 else {}
        mean = [statistics.fmean(v) for v in values]
        ax.plot(at, mean, color=COLOURS[method], label=METHODS[method], lw=1.4, **marker)
        ax.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=COLOURS[method], alpha=0.15, lw=0)
    final = [metric.factor * run.score for run in runs]
    if metric.higher_is_better:
        ax.set_ylim(max(0.0, min(final) - 8.0), 100.0)
    ax.set(xlabel="step" if plan.steps else "epoch", ylabel=f"{metric.name} ({metric.unit})")
    ax.legend(loc="lower right" if metric.higher_is_better else "upper right")
    return ax


def draw_angles(ax: Axes, runs: Sequence[Run]) -> Axes:
    """Angle of each hidden block against epoch; the line's style says which block."""
    styles = ["-", "--", ":", "-."]
    for method in dict.fromkeys(run.method for run in runs):
        group = [[point for point in run.history if point.angles] for run in runs if run.method == method]
        epochs = [point.at for point in group[0]]
        for block in range(len(group[0][0].angles) - 1):
            mean = [statistics.fmean(history[i].angles[block] for history in group) for i in range(len(epochs))]
            label = f"{METHODS[method]}, layer {block + 1}"
            ax.plot(epochs, mean, styles[block % 4], color=COLOURS[method], label=label, lw=1.2)
    ax.axhline(90.0, color="#9aa5b1", lw=0.8)
    top = max((a for run in runs for point in run.history for a in point.angles if not math.isnan(a)), default=90.0)
    ax.set(xlabel="epoch", ylabel="angle to the gradient (degrees)", ylim=(0, max(100.0, top + 5)))
    ax.legend(fontsize=7, ncols=2, loc="lower left")
    return ax
