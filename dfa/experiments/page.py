"""The HTML page that compares training methods: result, learning curves, diagnostics and the device."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes

from calibration.reports.characterize import characterize
from calibration.reports.html import sections
from calibration.reports.page import Section, Table, picture, plural, render
from dfa.experiments.curves import COLOURS, diagnostics_section, label_counts, marker_style
from dfa.experiments.plans import Plan
from dfa.experiments.runs import Run, summary
from dfa.experiments.tasks import Data, signal_width
from dfa.experiments.teachers import METHODS, build_device
from photonics.plotting.style import legend_below

__all__ = ["comparison_page", "draw_scores"]


def comparison_page(plan: Plan, data: Data, runs: Sequence[Run]) -> str:
    """Return the HTML page of a comparison of training methods.

    With optical runs, the device of the first run's seed is built again and characterised.
    """
    columns, rows = summary(plan, runs)
    interval = "some steps" if plan.steps else "each epoch"
    caption = f"{plan.metric.name.capitalize()} after {interval}; the band is the range over the seeds."
    curves = [picture(lambda ax: draw_scores(ax, plan, runs), caption)]
    text = describe_training(plan, data, runs)
    first = [Section("Result", text, curves, [Table(columns, rows)]), diagnostics_section(runs, axis_label(plan))]
    title = f"Training by Direct Feedback Alignment: {data.name}"
    if all(run.method != "optical" for run in runs):
        return render(title, first)
    opu = build_device(plan, data.classes, signal_width(plan, data), runs[0].seed)
    verdict, *rest = sections(characterize(opu, truth=opu.effective_matrix(), n_inputs=data.classes))
    device = Section("Characterisation of the device", verdict.text, verdict.pictures, verdict.tables)
    return render(f"{title}, with optical feedback", [*first, device, *rest])


def axis_label(plan: Plan) -> str:
    """What the points of a history count."""
    return "step" if plan.steps else "epoch"


def describe_training(plan: Plan, data: Data, runs: Sequence[Run]) -> str:
    """Settings and quantities of the page, in words."""
    seeds = len({run.seed for run in runs})
    power = next((run.power_source for run in runs if run.power_source), "electrical power")
    hidden = "-".join(str(n) for n in plan.hidden or ())
    length = f"{plan.steps} steps" if plan.steps else f"{plan.epochs} epochs"
    batches = f", batches of {plan.batch_size}" if plan.batch_size else ""
    rate = f"{plan.learning_rate:g}"
    if plan.hidden_rate not in (None, 1.0):
        rate += f" ({plan.hidden_rate:g} times that in hidden blocks with fixed feedback)"
    return (
        f"Network {plan.network} with hidden blocks {hidden}, trained on {data.name}: {length}{batches}, Adam with "
        f"learning rate {rate}, {plural(seeds, 'seed')}. The table shows {plan.metric.name}, mean ± standard "
        "deviation. The angle is between the updates of the hidden blocks and the true gradient. In optical DFA, the "
        "error of the output is ternarised and shown on the mirrors, the medium scatters the light, the camera takes "
        "frames, and interference turns the frames into a linear projection of the error: the teaching signal of "
        "every hidden block. No error is propagated backwards through the network. Frames include calibration. "
        f"Time and energy are those of the device at its frame rate and {power}."
    )


def draw_scores(ax: Axes, plan: Plan, runs: Sequence[Run]) -> Axes:
    """Draw the score against epoch or step: mean over seeds, and a band from the lowest to the highest."""
    metric = plan.metric
    for method in dict.fromkeys(run.method for run in runs):
        group = [run.history for run in runs if run.method == method]
        at = [point.epoch for point in group[0]]
        values = [[metric.factor * history[i].test for history in group] for i in range(len(at))]
        mean = [statistics.fmean(v) for v in values]
        ax.plot(at, mean, color=COLOURS[method], label=METHODS[method], lw=1.4, **marker_style(at))
        ax.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=COLOURS[method], alpha=0.15, lw=0)
    final = [metric.factor * run.score for run in runs]
    if metric.higher_is_better:
        ax.set_ylim(max(0.0, min(final) - 8.0), 100.0)
    ax.set_ylabel(f"{metric.name} ({metric.unit})")
    label_counts(ax, axis_label(plan))
    legend_below(ax)
    return ax
