"""Draw the pictures of the documentation, and store the numbers behind them: ``python docs/pictures.py [NAME...]``.

Beside each picture lies a JSON file of the same name: device, plan and numbers. The picture names the hash of that
file, and ``tests/test_pictures.py`` compares the file with what the code gives now, at reduced cost. Pictures of
studies are drawn from their file; ``--study runs/NAME`` first takes its numbers from a finished ``opu sweep``.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from benchmarks import moving_cases as moving
from benchmarks.moving_rows import RESULTS, load_rows, mean_and_error
from benchmarks.results import PANELS, load, panel
from benchmarks.tolerances import TASKS, load_tasks
from calibration import characterize
from calibration.reports.figures import draw_projection
from dfa import Ternary, costs
from dfa.costs import figure as costs_figure
from dfa.data import digits
from dfa.experiments import DEMO, STANDARD_METHODS, Plan, compare_methods, draw_scores
from dfa.experiments.curves import COLOURS, marker_style
from dfa.experiments.networks import NETWORKS
from dfa.experiments.teachers import METHODS, build_device
from dfa.robustness import figures
from dfa.robustness.results import load_results
from dfa.robustness.tolerances.figure import compare
from photonics import DMD, OPU, presets
from photonics.patterns.encoding import half_on
from photonics.plotting.plots import draw_bench, draw_frame, draw_histogram, draw_pattern, draw_singular_values
from photonics.plotting.plots import draw_speckle as draw_photons
from photonics.plotting.style import STYLE, legend_below

DOCS = Path(__file__).parent
STUDIES = DOCS / "robustness"
FOLLOWED = ("1e12", "1e5", "1e4", "3e3", "1e3")
"""Correlation times of the curves of feedback that follows, frames: those of the study."""
Numbers = dict[str, Any]


def first_light_device() -> OPU:
    """Return the bench of the first picture."""
    return presets.lab_bench(256, 2500, seed=0)


def scores(runs: list[Any]) -> dict[str, list[float]]:
    """Return the test accuracies of each training, by method and seed."""
    return {f"{run.method} {run.seed}": [point.test for point in run.history] for run in runs}


def first_light(figure: Figure) -> Numbers:
    """Draw the bench, a frame, a projection against the true one, and the learning curves."""
    opu = first_light_device()
    report = characterize(opu, truth=opu.effective_matrix())
    runs = compare_methods(DEMO, digits(), STANDARD_METHODS, range(3), progress=False)
    frame = first_light_device().measure(half_on(1, opu.n_in, 0))[0]
    figure.set_size_inches(11, 7.0)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.25])
    draw_bench(figure.add_subplot(grid[0, :]), opu)
    ax = draw_frame(figure.add_subplot(grid[1, 0]), frame, opu.camera.top, opu.frame_shape)
    ax.set_title("the camera sees speckle")
    ax = draw_projection(figure.add_subplot(grid[1, 1]), report.curves["projection"])
    ax.set_title("interference makes it a linear map")
    ax = draw_scores(figure.add_subplot(grid[1, 2], box_aspect=1), DEMO, runs)
    ax.set_title("which teaches a network (digits)")
    ax.get_legend().remove()  # one for the figure, so that the three panels have one height
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower right", ncols=5, frameon=False)
    return {"device": opu.to_dict(), "frame": frame[:64].tolist(), "scores": scores(runs)}


def optics_device() -> OPU:
    """Return the bench with a pupil: 4 samples of the field for each pixel."""
    opu = presets.lab_bench(576, 4 * 64**2).replace(dmd=DMD(macropixel=30), **{"imaging.numerical_aperture": 0.03})
    opu.autoexpose()
    return opu


def optics(figure: Figure) -> Numbers:
    """Draw a bench with a pupil, a pattern, its speckle and histogram, and the singular values of the medium."""
    opu, ticks = optics_device(), np.arange(40)
    patterns, modes = half_on(len(ticks), opu.n_in, 0), opu.imaging.contrast() ** -2
    photons = opu.mean_photons(patterns, ticks, opu.exposure_s, opu.light(ticks, opu.exposure_s))
    figure.set_size_inches(14, 8.6)
    grid = figure.add_gridspec(2, 4, height_ratios=[1.3, 1], width_ratios=[1.15, 1.15, 1, 1])
    draw_bench(figure.add_subplot(grid[0, :]), opu, reference=True)
    draw_pattern(figure.add_subplot(grid[1, 0]), opu, patterns[0]).set_title("a pattern on the mirrors")
    draw_photons(figure.add_subplot(grid[1, 1]), opu, patterns[0]).set_title("its speckle on the sensor")
    ax = draw_histogram(figure.add_subplot(grid[1, 2], box_aspect=1), photons, modes)
    ax.set_title(f"each pixel sees {modes:.2f} grains")
    rows = opu.medium.block(slice(0, 1152), slice(None))
    ax = draw_singular_values(figure.add_subplot(grid[1, 3], box_aspect=1), rows)
    ax.set_title("singular values of T")
    return {"device": opu.to_dict(), "photons": photons[0, :64].tolist()}


def drift(figure: Figure) -> Numbers:
    """Draw what a drifting medium costs, and what measuring the projection again repairs."""
    study = json.loads((STUDIES / "drift_recalibration.json").read_text("utf-8"))
    found, ax = load_study(study), figure.add_subplot()
    figure.set_size_inches(7.2, 4.4)
    figures.draw_references(ax, found)
    times = found["medium.correlation_frames"].values
    for colour, every in zip(figures.COLOURS, found["training.recalibrate_every"].values, strict=False):
        line = found.accuracy.sel({"training.recalibrate_every": every}).transpose("medium.correlation_frames", "seed")
        name = f"optical DFA, calibrated every {every} steps" if every else "optical DFA, calibrated once"
        ax.errorbar(range(len(times)), *figures.mean_and_error(line.values), color=colour, marker="o", label=name)
    numbers: Numbers = {"study": hash_of(study), "followed": followed_scores()}
    for colour, (name, scores) in zip(figures.COLOURS[3:], numbers["followed"].items(), strict=False):
        line = figures.mean_and_error(np.array(scores))
        ax.errorbar(range(len(times)), *line, color=colour, marker="s", linestyle="--", label=name)
    ax.set_xticks(range(len(times)), ["no drift", *(f"{time:,.0f}" for time in times[1:])])
    ax.set(xlabel="frames until the medium has changed (40,100 for the training)", ylabel="test accuracy (%)")
    ax.set(title="A drifting medium harms the training, unless feedback follows it", ylim=(70, 92.5))
    legend_below(ax)
    return numbers


def followed_scores() -> dict[str, list[list[float]]]:
    """Accuracies of feedback that follows, by time and seed, from docs/moving.json (`benchmarks.moving`)."""
    rows = {row.key: row for row in load_rows()}
    return {
        f"optical DFA by {way}, followed": [rows["mlp-1", f"{way}, Ternary()", motion].score for motion in FOLLOWED]
        for way in ("anchor", "reference-pairs")
    }


def followed(figure: Figure) -> Numbers:
    """Draw docs/moving.json (`benchmarks.moving`): accuracy over correlation time, by task and way."""
    known = {row.key: row for row in load_rows()}
    names = [name for name in moving.TASKS if name not in ("transformer", "motions")]
    figure.set_size_inches(11, 6.6)
    for ax, name in zip(figure.subplots(2, 3).flat, names, strict=True):
        motions = moving.TASKS[name].motions
        last, _ = mean_and_error(known[name, moving.LAST_LAYER, motions[0]].score)
        ax.axhline(last, color=COLOURS["last-layer"], linestyle=":", label=METHODS["last-layer"])
        for colour, way in zip(figures.COLOURS, moving.FOLLOWED, strict=False):
            there = [motion for motion in motions if (name, way, motion) in known]
            line = np.array([mean_and_error(known[name, way, motion].score) for motion in there])
            at = [motions.index(motion) for motion in there]
            ax.errorbar(at, *line.T, color=colour, marker="o", label=f"optical DFA, {way}")
        ax.set_xticks(range(len(motions)), ["still", *motions[1:]])
        ax.set(xlabel="correlation time of the medium (frames)", ylabel="test accuracy (%)")
        ax.set_title(moving.TASKS[name].title)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return json.loads(RESULTS.read_text("utf-8"))


MARGINS = ("everything", "bit_depth", "short_exposure", "long_exposure", "shot_noise", "read_noise", "contrast")
"""Lines of the bench that are compared by their margin."""


def tolerances(figure: Figure) -> Numbers:
    """Draw docs/tolerances.json, the tolerances of four tasks (`benchmarks.tolerances`)."""
    found = {f"{TASKS[name].title}: {one.loss}": one for name, one in load_tasks().items()}
    figure.set_size_inches(8.0, 6.2)
    above, below = figure.subplots(2, 1, height_ratios=[len(MARGINS), 2.4])
    compare(found, MARGINS, above).axvline(1.0, color="#52606d", lw=1.2)
    above.set_xlabel("factor by which it may be worse than on lab_bench")
    compare(found, ("medium_drift", "stale_medium"), below, margins=False).invert_xaxis()
    below.set_xlabel("correlation time of the medium, frames")
    legend_below(below)
    return json.loads((DOCS / "tolerances.json").read_text("utf-8"))


def results(figure: Figure) -> Numbers:
    """Draw the trainings of docs/results.md (`benchmarks.results`): mean and range over the seeds."""
    stored = load()
    figure.set_size_inches(15.0, 7.8)
    for ax, title in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        rows = panel(stored["rows"], title)
        metric = NETWORKS[rows[0]["plan"]["network"]].metric
        for method in (name for name in METHODS if any(row["method"] == name for row in rows)):
            curves = [row["curve"] for row in rows if row["method"] == method]
            steps, values = [step for step, _ in curves[0]], metric.factor * np.array(curves)[:, :, 1]
            label = f"{METHODS[method]} ({len(curves)})"
            ax.plot(steps, values.mean(0), color=COLOURS[method], label=label, lw=1.4, **marker_style(steps))
            ax.fill_between(steps, values.min(0), values.max(0), color=COLOURS[method], alpha=0.15, lw=0)
        if metric.higher_is_better:
            ends = [metric.factor * row["score"] for row in rows]
            ax.set_ylim(max(0.0, min(ends) - 8.0), min(100.0, max(ends) + 8.0))
        ax.set(title=title, xlabel="step", ylabel=f"{metric.name} ({metric.unit})")
        legend_below(ax)
    return stored


def scaling(figure: Figure) -> Numbers:
    """Draw where light overtakes, for the blocks of a transformer."""
    network = costs.Network(depth=96, matrices=12, entries=3, inputs=1024, classes=50_000, batch=2048)
    found = costs_figure.draw(costs.scaling(network).parts, figure).to_dict()
    steps = {"parameters": [point["parameters"] for point in found["points"]]}
    for method in costs.METHODS:
        steps[method] = [point["steps"][method]["seconds"] for point in found["points"]]
    return {"parts": found["parts"], "seconds": steps}


PICTURES: dict[str, Callable[[Figure], Numbers]] = {
    "first_light": first_light,
    "optics": optics,
    "drift": drift,
    "moving": followed,
    "tolerances": tolerances,
    "results": results,
    "scaling": scaling,
}


def device_of(study: Numbers) -> dict[str, Any]:
    """Return the description of a study's device, as the code builds it now."""
    known = json.loads(study["data"]["attrs"]["study"])["plan"]
    plan = Plan(**known | {"encoder": Ternary(**known["encoder"])})
    return json.loads(json.dumps(build_device(plan, 10, max(plan.hidden or (1,)), 0).to_dict()))


def load_study(study: Numbers) -> xr.Dataset:
    """Return the data set of a study's file."""
    return xr.Dataset.from_dict(study["data"])


def store_study(folder: Path) -> str:
    """Write the file of a finished sweep and return its name."""
    found = load_results(folder)
    found = found[[name for name in ("accuracy", "error", "reference") if name in found]]
    found.attrs.pop("measured", None)
    study: Numbers = {"data": found.to_dict()}
    study["device"] = device_of(study)
    write_json(STUDIES / f"{folder.name}.json", study)
    return folder.name


def draw_study(path: Path) -> None:
    """Draw a study from its file."""
    found = load_study(json.loads(path.read_text("utf-8")))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=figures.figure_size(found), layout="constrained", dpi=150)
        figures.draw(found, figure.add_subplot())
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture beside its file, with the file's hash."""
    marks = {"Software": None, "Source": hash_of(json.loads(path.read_text("utf-8")))}
    figure.savefig(path.with_suffix(".png"), metadata=marks)


def hash_of(numbers: Numbers) -> str:
    """Return the hash of a file's numbers."""
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: Path, numbers: Numbers) -> None:
    """Write numbers on one line for each name."""
    lines = (f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in numbers.items())
    path.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")


def main() -> None:
    """Draw all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [*PICTURES, *(path.stem for path in sorted(STUDIES.glob("*.json")))]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all if not given: {', '.join(names)}")
    parser.add_argument("--study", type=Path, nargs="*", default=[], help="folders of finished sweeps")
    arguments = parser.parse_args()
    chosen = [*arguments.names, *(store_study(folder) for folder in arguments.study)] or names
    for name in chosen:
        if name not in PICTURES:
            draw_study(STUDIES / f"{name}.json")
            continue
        with mpl.rc_context(STYLE):
            figure = Figure(layout="constrained", dpi=110)
            write_json(DOCS / f"{name}.json", PICTURES[name](figure))
            save(figure, DOCS / f"{name}.json")


if __name__ == "__main__":
    main()
