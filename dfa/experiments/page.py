"""The page of a study: the comparison, learning curves, alignment, and the device that taught."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from calibration.reports.characterize import characterize
from calibration.reports.html import sections
from calibration.reports.page import Section, Table, picture, render
from dfa.experiments.curves import COLOURS, diagnostics_section, marker
from dfa.experiments.plans import Plan
from dfa.experiments.runs import Run, summary
from dfa.experiments.tasks import Data, signal_width
from dfa.experiments.teachers import METHODS, training_device

__all__ = ["study_page"]


def study_page(plan: Plan, data: Data, runs: Sequence[Run]) -> str:
    """Return the HTML report of a study; with optical runs, the first seed's device is made again and characterised."""
    columns, rows = summary(plan, runs)
    text = about(plan, data, len({run.seed for run in runs}))
    metric = plan.metric
    per = "so many steps" if plan.steps else "each epoch"
    caption = f"{metric.name.capitalize()} after {per}; the band spans the seeds."
    curves = [picture(lambda ax: draw_scores(ax, plan, runs), caption)]
    first = Section("Result", text, curves, [Table(columns, rows)])
    seen = diagnostics_section(runs, axis_of(plan))
    title = f"Training by Direct Feedback Alignment: {data.name}"
    if all(run.method != "optical" for run in runs):
        return render(title, [first, seen])
    opu = training_device(plan, data.classes, signal_width(plan, data), runs[0].seed)
    report = characterize(opu, truth=opu.effective_matrix(), n_inputs=data.classes)
    verdict, *rest = sections(report)
    device = Section("The device, characterised", verdict.text, verdict.pictures, verdict.tables)
    return render(f"{title}, through light", [first, seen, device, *rest])


def axis_of(plan: Plan) -> str:
    """What the points of a history count."""
    return "step" if plan.steps else "epoch"


def about(plan: Plan, data: Data, seeds: int) -> str:
    """What was done, in words."""
    hidden = "-".join(str(n) for n in plan.hidden or ())
    length = f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"
    batches = f", batches of {plan.batch_size}" if plan.batch_size else ""
    rate = f"{plan.learning_rate:g}"
    if plan.hidden_rate not in (None, 1.0):
        rate += f", of {plan.hidden_rate:g} times that in hidden blocks on fixed feedback"
    return (
        f"Network {plan.network} with hidden blocks {hidden} on {data.name} ({length}{batches}, Adam at "
        f"{rate}), {seeds} seed(s): {plan.metric.name}, mean ± standard deviation. The angle is that "
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
        mean = [statistics.fmean(v) for v in values]
        ax.plot(at, mean, color=COLOURS[method], label=METHODS[method], lw=1.4, **marker(at))
        ax.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=COLOURS[method], alpha=0.15, lw=0)
    final = [metric.factor * run.score for run in runs]
    if metric.higher_is_better:
        ax.set_ylim(max(0.0, min(final) - 8.0), 100.0)
    ax.set(xlabel=axis_of(plan), ylabel=f"{metric.name} ({metric.unit})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax
