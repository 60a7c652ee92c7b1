"""Folder of a finished sweep: data set, figures and page."""

import io
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from calibration.reports.page import STYLE, Section, Table, picture, plural, render
from calibration.storage.files import replace_file, replacement, write_unused
from calibration.storage.hdf5 import check_room
from dfa.robustness.figures import change_name, draw, figure_size, format_value, is_clear, mean_and_error
from dfa.robustness.prepared import has_score, paired_difference, score_name, view_of

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["load_results", "page", "write_report", "write_results"]

RESULTS = "results.nc"
OTHER_METRICS = {
    "snr_db": "SNR (dB)",
    "photons": "photons per pixel",
    "frames": "frames",
    "calibration_frames": "of calibration",
}
"""Metrics of the table other than the score, with their titles."""


def write_results(found: "Dataset", folder: Path) -> Path:
    """Write a data set to ``results.nc`` in a folder, replace an earlier one, and return the path."""
    with replacement(folder / RESULTS) as temporary:
        check_room(temporary, found.nbytes)
        found.to_netcdf(temporary, engine="h5netcdf")
    return folder / RESULTS


def load_results(folder: Path) -> "Dataset":
    """Read the data set of a folder.

    Raises
    ------
    ValueError
        If the folder has no data set, or not one of a sweep.
    """
    from xarray import open_dataset

    path = Path(folder) / RESULTS
    if not path.is_file():
        raise ValueError(
            f"folder must contain {RESULTS} of a finished sweep, got {folder}: opu sweep --resume continues a sweep"
        )
    try:
        with open_dataset(path, engine="h5netcdf") as found:
            found = found.load()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"folder must contain complete results, got {path} ({' '.join(str(error).split())}): remove it and run "
            "opu sweep --resume"
        ) from None
    view_of(found)
    return found


def write_report(found: "Dataset", folder: Path) -> Path:
    """Write figures (PNG) and page (HTML) of a data set to a folder and return the page's path.

    Existing pages are never overwritten.
    """
    for name, one in figures_of(found):
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=figure_size(one), layout="constrained")
            draw(one, figure.add_subplot())
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=150)
        replace_file(folder / f"{name}.png", buffer.getvalue())
    return write_unused(folder / "report.html", page(found))


def page(found: "Dataset") -> str:
    """Return the self-contained HTML page of a data set."""
    pictures = [
        picture(lambda ax, one=one: draw(one, ax), caption(one), figure_size(one)) for _, one in figures_of(found)
    ]
    text = about(found) if has_score(found) else "Every point failed."
    points, unclear = split_table(found) if has_score(found) else (None, None)
    parts = [Section("Result", text, pictures, [points] if points else [])]
    failed = failures(found)
    if failed:
        parts.append(Section("Points that failed", "", (), [Table(["point", "seed", "error"], failed)]))
    if unclear:
        parts.append(Section("Appendix: changes without a clear effect", "", (), [unclear]))
    parts.append(Section("How it was made", "", (), [Table(["name", "value"], record_of(found))]))
    return render(view_of(found).title, parts)


def split_table(found: "Dataset") -> tuple[Table, Table | None]:
    """Return the table of points and, for a budget, that of the changes without a clear effect."""
    points = table(found)
    if view_of(found).kind != "budget" or "clear" not in points.columns:
        return points, None
    clear, failed = points.columns.index("clear"), points.columns.index("failed")
    shown = [row for row in points.rows if row[clear] == "yes" or row[failed] or row[0] == "nothing"]
    hidden = [row for row in points.rows if row not in shown]
    return Table(points.columns, shown), Table(points.columns, hidden) if hidden else None


def figures_of(found: "Dataset") -> "Iterator[tuple[str, Dataset]]":
    """Yield names of figures and their data sets: one for each parameter of scattered points, none if all failed."""
    view = view_of(found)
    if not has_score(found):
        return
    if view.kind != "scatter":
        yield "figure", found
        return
    for name, values in found.coords.items():
        if values.dims == ("point",):
            yield f"figure-{name}", found.assign_attrs(view=json.dumps(asdict(replace(view, x=str(name)))))


def caption(found: "Dataset") -> str:
    """Return the caption of the figure."""
    kind = view_of(found).kind
    seeds = plural(found.sizes["seed"], "seed")
    if kind == "map":
        return f"Mean over {seeds}; cells show the difference from the cell without flaws, ± its standard error."
    if kind == "budget":
        about_bars = "error bars are standard errors. Changes without a clear effect are in the appendix."
        return f"Mean difference over {seeds}, same seed; {about_bars}"
    return f"Mean over {seeds}; error bars are its standard error."


def about(found: "Dataset") -> str:
    """Return a paragraph about plan, device and seeds."""
    study = json.loads(found.attrs["study"])
    plan = study["plan"]
    hidden = "-".join(str(n) for n in plan["hidden"] or ())
    length = f"{plan['steps']} steps" if plan["steps"] else f"{plan['epochs']} epochs"
    samples = f"{plan['samples']:,} training samples" if plan["samples"] else "all training samples"
    device = plan["device"] if isinstance(plan["device"], str) else "a described device"
    return (
        f"Network {plan['network']} with hidden blocks {hidden} on {plan['data']} ({samples}, {length}, Adam at "
        f"{plan['learning_rate']:g}) through {device}, {plural(found.sizes['seed'], 'seed')}. Differences are from the "
        "point without the flaw, for the same seed; ± is the standard error of the mean. A difference is clear if "
        "Student's t separates it from 0 with 95 % confidence, each row by itself."
    )


def table(found: "Dataset", brief: bool = False) -> Table:
    """Return a row for each point: parameters, score, difference and, unless `brief`, other metrics."""
    score = score_name(found)
    dims = [dim for dim in found[score].dims if dim != "seed"]
    named = [str(n) for n, c in found.coords.items() if c.dims and set(c.dims) <= set(dims)]
    named = ["change"] if "varied" in named else named
    beside = {name: title for name, title in OTHER_METRICS.items() if name in found and not brief}
    lost = paired_difference(found) if view_of(found).without else None
    columns = [*named, score, *(["difference", "clear"] if lost else []), *beside.values(), "failed"]
    rows = []
    for place in np.ndindex(*(found.sizes[dim] for dim in dims)):
        at = dict(zip(dims, place, strict=True))
        cells = [value_at(found, name, at) for name in named]
        cells.append(format_mean(*(float(v[0]) for v in mean_and_error(found[score].isel(at).values[None]))))
        if lost:
            mean, error, count = (float(part.isel(at)) for part in lost)
            cells += [format_mean(mean, error), "yes" if is_clear(mean, error, int(count)) else "no"]
        cells += [format_number(float(found[name].isel(at).mean())) for name in beside]
        failed = int((found["error"].isel(at) != "").sum())
        rows.append([*cells, str(failed) if failed else ""])
    return Table(columns, rows)


def value_at(found: "Dataset", name: str, at: dict[Any, int]) -> str:
    """Return a parameter's value at a point or, for ``change``, the parameter that is changed there."""
    if name == "change":
        varied = str(found["varied"].values[at["point"]])
        return change_name(found, view_of(found), varied, at["point"]) if varied else "nothing"
    return format_value(found[name].isel({dim: at[dim] for dim in found[name].dims}).item())


def failures(found: "Dataset") -> list[list[str]]:
    """Return point, seed and error of each failure."""
    error = found["error"]
    dims = [dim for dim in error.dims if dim != "seed"]
    rows = []
    for place in np.argwhere(error.transpose(*dims, "seed").values != ""):
        one = error.isel(dict(zip([*dims, "seed"], place, strict=True)))
        values = {str(n): format_value(c.item()) for n, c in one.coords.items() if n not in ("seed", "varied")}
        point = ", ".join(
            f"{n} {value}" for n, value in values.items() if "varied" not in one.coords or value != "none"
        )
        rows.append([point, str(int(one["seed"])), str(one.item())])
    return rows


def record_of(found: "Dataset") -> list[list[str]]:
    """Return names and values of the data set's record: versions, dates, design, method and plan."""
    measured = json.loads(found.attrs["measured"])
    rows = [["version", found.attrs["version"]], ["model version", found.attrs["model"]]]
    rows += [[name, plain_text(value)] for name, value in measured.items()]
    rows.append(["design", found.attrs["design"]])
    study = json.loads(found.attrs["study"])
    return [*rows, ["method", study["method"]], *([f"plan.{k}", plain_text(v)] for k, v in study["plan"].items())]


def plain_text(value: Any) -> str:
    """Return any plain value as text."""
    return format_value(value) if value is None or isinstance(value, (int, float, str)) else json.dumps(value)


def format_mean(mean: float, error: float) -> str:
    """Return text such as ``91.20 ± 0.10``."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.2f} ± {error:.2f}" if math.isfinite(error) else f"{mean:.2f}"


def format_number(value: float) -> str:
    """Return a metric of the table as text. A signal-to-noise ratio is infinite without signal, or without noise."""
    if math.isinf(value):
        return "no signal" if value < 0 else "no noise"
    return "–" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
