"""A study in words: the TOML file of ``opu sweep``."""

import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dfa.experiments.plans import Plan
from dfa.experiments.teachers import check_methods
from dfa.feedback.encoding import Ternary
from dfa.robustness.prepared import Ready, View
from dfa.robustness.studies import MNIST, STUDIES, bench_values, two_parameters
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Design, Grid, LatinHypercube, OneAtATime, Random, Range
from dfa.sweeps.labelled import labels

__all__ = ["read_study"]

READY = STUDIES | {"two_parameters": two_parameters}
DESIGNS: dict[str, Callable[..., Any]] = {
    "grid": Grid,
    "one-at-a-time": OneAtATime,
    "latin-hypercube": LatinHypercube,
    "random": Random,
}
DRAWN = ("latin-hypercube", "random")
COMMON = ("seeds", "references", "plan", "title")
NAMES = {
    "study": (*COMMON, "study", "options"),
    "over": (*COMMON, "method", "design", "over", "count", "log"),
}


def read_study(path: str | Path) -> tuple[Ready, list[int]]:
    """Read a study and its seeds; the bare name of one that is ready stands for a file that says no more.

    The file holds either ``study``, the name of one that is ready (`dfa.robustness.studies`), with the table
    ``options`` for its other arguments; or the table ``over``, values by dotted name, with ``design`` (grid,
    one-at-a-time, latin-hypercube, random), ``count`` for drawn ones, ``method``, ``title`` and ``log``. Both may have
    ``seeds`` (how many, or a list), ``references`` (methods) and the table ``plan``, fields of
    `dfa.experiments.plans.Plan`. In values "none" stands for None; a drawn parameter's value may be ``{low = 1, high =
    10, log = true}``.

    Raises
    ------
    ValueError
        If the file cannot be read, or says anything that is not allowed: before anything runs.
    """
    if str(path) in STUDIES:
        return study_of({"study": str(path)})
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(STUDIES)
        raise ValueError(f"study must be a readable TOML file or one of {known}, got {path} ({error})") from None
    try:
        return study_of(tomllib.loads(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def study_of(table: Mapping[str, Any]) -> tuple[Ready, list[int]]:
    """Study and seeds of a table, or a ``ValueError``."""
    kinds = [kind for kind in NAMES if kind in table]
    if len(kinds) != 1:
        raise ValueError(f"a study must have either study or over, got {', '.join(table) or 'nothing'}")
    check_names(table, NAMES[kinds[0]], "a study with " + kinds[0])
    plan = plan_of(table["plan"]) if "plan" in table else MNIST
    ready = made(table, plan) if kinds[0] == "study" else swept(table, plan)
    ready = with_references(ready, table, plan)
    for settings in ready.design.settings:
        ready.study.check(settings)
    return ready, seeds_of(table.get("seeds", 3))


def made(table: Mapping[str, Any], plan: Plan) -> Ready:
    """A study that is ready, by its name."""
    name = table["study"]
    if name not in READY:
        raise ValueError(f"study must be one of {', '.join(READY)}, got {name!r}")
    options = without_none(table.get("options", {}))
    known = [argument for argument in inspect.signature(READY[name]).parameters if argument != "plan"]
    check_names(options, known, f"options of {name}")
    try:
        return READY[name](plan=plan, **options)
    except TypeError as error:
        raise ValueError(f"options of {name} must fit, got {options} ({error})") from None


def swept(table: Mapping[str, Any], plan: Plan) -> Ready:
    """A study of the user's own parameters."""
    name, over = table.get("design", "grid"), without_none(table["over"])
    if name not in DESIGNS:
        raise ValueError(f"design must be one of {', '.join(DESIGNS)}, got {name!r}")
    if not isinstance(over, Mapping) or not over:
        raise ValueError(f"over must be a table of values by dotted name, got {over!r}")
    over = dict(by_dotted_name(over))
    if ("count" in table) != (name in DRAWN):
        raise ValueError(f"count must be given for {' and '.join(DRAWN)} and for no other design, got {name}")
    if name in DRAWN:
        design = DESIGNS[name]({key: drawn(key, value) for key, value in over.items()}, table["count"])
    else:
        design = DESIGNS[name](over)
    view = view_for(name, design, plan, table)
    return Ready(study=TrainingStudy(plan, table.get("method", "optical")), design=design, view=view)


def view_for(name: str, design: Design, plan: Plan, table: Mapping[str, Any]) -> View:
    """How the results of a design are looked at: two parameters of numbers make a map, other grids curves."""
    parameters = [key for key in design.coordinates if key != "varied"]
    common: dict[str, Any] = {"title": table.get("title", "Sweep"), "log": bool(table.get("log", False))}
    if name == "one-at-a-time":
        bench = bench_values(plan)
        named = {key: key for key in parameters}
        return View(kind="budget", without={"point": 0}, names=named, bench={k: bench.get(k) for k in named}, **common)
    if name in DRAWN:
        return View(kind="scatter", x=parameters[0], **common)
    numbers = all(labels(values).dtype.kind in "if" for _, values in design.coordinates.values())
    if len(parameters) == 2 and numbers:
        return View(kind="map", x=parameters[1], y=parameters[0], **common)
    return View(kind="curve", x=parameters[-1], **common)


def with_references(ready: Ready, table: Mapping[str, Any], plan: Plan) -> Ready:
    """Return the study with the references and the title that the file asks for."""
    view = replace(ready.view, title=table["title"]) if "title" in table else ready.view
    references = table.get("references", list(ready.references))
    if not isinstance(references, list):
        raise ValueError(f"references must be a list of methods, got {references!r}")
    return replace(ready, view=view, references=tuple(check_methods(references, plan)))


def plan_of(table: Mapping[str, Any]) -> Plan:
    """Plan of a table, or a ``ValueError``."""
    check_names(table, [field.name for field in fields(Plan)], "plan")
    given = without_none(table)
    if "encoder" in given:
        check_names(given["encoder"], [field.name for field in fields(Ternary)], "plan.encoder")
        given["encoder"] = Ternary(**given["encoder"])
    return Plan(**given)


def seeds_of(given: Any) -> list[int]:
    """Seeds: a list as it is, a number as 0, 1, 2 ..."""
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return list(range(given))
    if isinstance(given, list) and given:
        return given
    raise ValueError(f"seeds must be a number of seeds or a list of them, got {given!r}")


def by_dotted_name(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names of a table, those without quotes, which TOML takes for tables, as if they had them."""
    for name, value in table.items():
        if isinstance(value, Mapping) and not {"low", "high"} & value.keys():
            yield from by_dotted_name(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def drawn(name: str, value: Any) -> Any:
    """A range of a table, or the list of choices that there is."""
    if not isinstance(value, Mapping):
        return value
    check_names(value, [field.name for field in fields(Range)], name)
    if not {"low", "high"} <= value.keys():
        raise ValueError(f"{name} must have low and high, got {', '.join(value)}")
    return Range(**value)


def check_names(table: Any, known: Any, what: str) -> None:
    """Raise a ``ValueError`` if something is no table or has a name that is not known."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{what} must be a table, got {table!r}")
    for name in table:
        if name not in known:
            raise ValueError(f"{what} may have {', '.join(known)}, got {name!r}")


def without_none(value: Any) -> Any:
    """Replace "none" by None, wherever it is."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return None if value == "none" else value
