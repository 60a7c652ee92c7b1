"""The folder of a sweep: its data set, its figures, and one page made of them."""

import io
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from calibration.reports.page import STYLE, Section, Table, picture, render
from calibration.storage.files import replace_file, write_unused
from dfa.robustness.figures import change_name, draw, is_clear, mean_and_error, shown, size
from dfa.robustness.prepared import has_score, paired, score_name, view_of

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["load_results", "page", "write_report", "write_results"]

RESULTS = "results.nc"
BESIDE = {
    "snr_db": "SNR (dB)",
    "photons": "photons per pixel",
    "frames": "frames",
    "calibration_frames": "of calibration",
}
"""Metrics that are told beside the score."""


def write_results(found: "Dataset", folder: Path) -> Path:
    """Put a data set into a folder as ``results.nc``, in place of one that is there, and return where it is."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".results-") as beside:
        temporary = Path(beside) / RESULTS
        found.to_netcdf(temporary, engine="h5netcdf")
        return temporary.replace(folder / RESULTS)


def load_results(folder: Path) -> "Dataset":
    """Read the data set of a folder.

    Raises
    ------
    ValueError
        If there is none, or it is not that of a sweep.
    """
    from xarray import open_dataset

    path = Path(folder) / RESULTS
    if not path.is_file():
        raise ValueError(f"folder must hold {RESULTS} of a finished sweep, got {folder} (opu sweep --resume goes on)")
    try:
        with open_dataset(path, engine="h5netcdf") as found:
            found = found.load()
    except (OSError, ValueError) as error:
        raise ValueError(f"folder must hold whole results, got {path} ({error})") from None
    view_of(found)
    return found


def write_report(found: "Dataset", folder: Path) -> Path:
    """Write figures (PNG) and page (HTML) of a data set into a folder; returns the page's name, which is a new one."""
    for name, one in seen(found):
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=size(one), layout="constrained")
            draw(one, figure.add_subplot())
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=150)
        replace_file(folder / f"{name}.png", buffer.getvalue())
    return write_unused(folder / "report.html", page(found))


def page(found: "Dataset") -> str:
    """Return the self-contained HTML page of a data set."""
    pictures = [picture(lambda ax, one=one: draw(one, ax), caption(one), size(one)) for _, one in seen(found)]
    said = about(found) if has_score(found) else "Every point failed."
    parts = [Section("Result", said, pictures, [table(found)] if has_score(found) else [])]
    failed = failures(found)
    if failed:
        parts.append(Section("Points that failed", "", (), [Table(["point", "seed", "error"], failed)]))
    parts.append(Section("How it was made", "", (), [Table(["name", "value"], origin(found))]))
    return render(view_of(found).title, parts)


def seen(found: "Dataset") -> "Iterator[tuple[str, Dataset]]":
    """Names of the figures, and data sets that draw them: scattered points have one for each parameter.

    There is none if every point failed.
    """
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
    """What is to be seen."""
    kind = view_of(found).kind
    seeds = f"{found.sizes['seed']} seed(s)"
    if kind == "map":
        return f"Mean over {seeds}; in the cells the difference to the cell without both flaws, ± its standard error."
    if kind == "budget":
        return f"Mean difference over {seeds}, same seed; the bars' lines are its standard error, pale is not clear."
    return f"Mean over {seeds}; error bars are its standard error."


def about(found: "Dataset") -> str:
    """What was done, in words."""
    study = json.loads(found.attrs["study"])
    plan = study["plan"]
    hidden = "-".join(str(n) for n in plan["hidden"] or ())
    length = f"{plan['steps']} steps" if plan["steps"] else f"{plan['epochs']} epochs"
    samples = f"{plan['samples']:,} training samples" if plan["samples"] else "all training samples"
    device = plan["device"] if isinstance(plan["device"], str) else "a described device"
    return (
        f"Network {plan['network']} with hidden blocks {hidden} on {plan['data']} ({samples}, {length}, Adam at "
        f"{plan['learning_rate']:g}) through {device}, {found.sizes['seed']} seed(s). Differences are to the point "
        "without the flaw, of the same seed; ± is the standard error of the mean. Clear is what Student's t sets apart "
        "from 0 with 95 % confidence, each row by itself."
    )


def table(found: "Dataset", brief: bool = False) -> Table:
    """A row for each point: parameters, score, difference; unless `brief`, also what else is known."""
    score = score_name(found)
    dims = [dim for dim in found[score].dims if dim != "seed"]
    named = [str(n) for n, c in found.coords.items() if c.dims and set(c.dims) <= set(dims)]
    named = ["change"] if "varied" in named else named
    beside = {name: title for name, title in BESIDE.items() if name in found and not brief}
    lost = paired(found) if view_of(found).without else None
    columns = [*named, score, *(["difference", "clear"] if lost else []), *beside.values(), "failed"]
    rows = []
    for place in np.ndindex(*(found.sizes[dim] for dim in dims)):
        at = dict(zip(dims, place, strict=True))
        cells = [where(found, name, at) for name in named]
        cells.append(with_error(*(float(v[0]) for v in mean_and_error(found[score].isel(at).values[None]))))
        if lost:
            mean, error, count = (float(part.isel(at)) for part in lost)
            cells += [with_error(mean, error), "yes" if is_clear(mean, error, int(count)) else "no"]
        cells += [number(float(found[name].isel(at).mean())) for name in beside]
        failed = int((found["error"].isel(at) != "").sum())
        rows.append([*cells, str(failed) if failed else ""])
    return Table(columns, rows)


def where(found: "Dataset", name: str, at: dict[Any, int]) -> str:
    """A parameter's value at a point; or, where one is changed at a time, the change."""
    if name == "change":
        varied = str(found["varied"].values[at["point"]])
        return change_name(found, view_of(found), varied, at["point"]) if varied else "nothing"
    return shown(found[name].isel({dim: at[dim] for dim in found[name].dims}).item())


def failures(found: "Dataset") -> list[list[str]]:
    """Point, seed and error of each that failed."""
    error = found["error"]
    dims = [dim for dim in error.dims if dim != "seed"]
    rows = []
    for place in np.argwhere(error.transpose(*dims, "seed").values != ""):
        one = error.isel(dict(zip([*dims, "seed"], place, strict=True)))
        values = {str(n): shown(c.item()) for n, c in one.coords.items() if n not in ("seed", "varied")}
        point = ", ".join(
            f"{n} {value}" for n, value in values.items() if "varied" not in one.coords or value != "none"
        )
        rows.append([point, str(int(one["seed"])), str(one.item())])
    return rows


def origin(found: "Dataset") -> list[list[str]]:
    """Everything that the data set knows about how it came to be."""
    measured = json.loads(found.attrs["measured"])
    rows = [["version", found.attrs["version"]], ["model version", found.attrs["model"]]]
    rows += [[name, shown_any(value)] for name, value in measured.items()]
    rows.append(["design", found.attrs["design"]])
    study = json.loads(found.attrs["study"])
    return [*rows, ["method", study["method"]], *([f"plan.{k}", shown_any(v)] for k, v in study["plan"].items())]


def shown_any(value: Any) -> str:
    """Any plain value as text."""
    return shown(value) if value is None or isinstance(value, (int, float, str)) else json.dumps(value)


def with_error(mean: float, error: float) -> str:
    """``91.20 ± 0.10``."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.2f} ± {error:.2f}" if math.isfinite(error) else f"{mean:.2f}"


def number(value: float) -> str:
    """A metric that is told beside the score."""
    return "–" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
