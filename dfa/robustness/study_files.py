"""Studies in TOML files, for ``opu sweep``."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from dfa.experiments.plans import Plan
from dfa.experiments.teachers import check_methods
from dfa.feedback.encoding import Ternary
from dfa.robustness.prepared import PreparedStudy, View
from dfa.robustness.studies import MNIST, STUDIES, bench_values, prepare
from dfa.robustness.training_study import TrainingStudy
from dfa.sweeps.designs import Design, Grid, LatinHypercube, OneAtATime, Random, Range
from dfa.sweeps.labelled import labels
from dfa.sweeps.sweeping import MAX_SEEDS
from photonics.component import Field, component

__all__ = ["NamedStudy", "OwnStudy", "read_study"]

RANDOM_DESIGNS = {"latin-hypercube": LatinHypercube, "random": Random}


def read_plan(table: object) -> object:
    """Return the plan of a table, with its encoder."""
    if not isinstance(table, Mapping):
        return table
    given = dict(table)
    if "encoder" in given:
        try:
            given["encoder"] = Ternary(**given["encoder"])
        except TypeError:
            known = ", ".join(one.name for one in fields(Ternary))
            raise ValueError(f"plan.encoder must be a table of {known}, got {given['encoder']!r}") from None
    return Plan(**given)


def read_seeds(given: object) -> object:
    """Return a list of seeds unchanged, and 0, 1, 2 ... for a number of seeds."""
    if isinstance(given, int) and not isinstance(given, bool) and 0 < given <= MAX_SEEDS:
        return list(range(given))
    if isinstance(given, list) and given:
        return given
    raise ValueError(f"seeds must be a number of seeds, 1 to {MAX_SEEDS}, or a list of them, got {given!r}")


@component
class StudyFile:
    """Entries of every study file."""

    plan: Annotated[Plan, BeforeValidator(read_plan)] = Field(default=MNIST)
    """Fields of `dfa.Plan`; the default trains on 5000 digits of MNIST."""

    seeds: Annotated[list[int], BeforeValidator(read_seeds)] = Field(default=[0, 1, 2])
    """Number of seeds, or a list of them. Default 3."""

    references: list[str] | None = Field(default=None)
    """Methods that are trained for comparison; default those of the study."""

    title: str | None = Field(default=None)
    """Title of the figure and the page."""

    def prepare(self) -> PreparedStudy:
        """Return the study that the file describes, without its references and title."""
        raise NotImplementedError


@component
class NamedStudy(StudyFile):
    """A study of `dfa.robustness.studies`; ``options`` may replace its values."""

    study: str = Field(json_schema_extra={"enum": [*STUDIES, "two_parameters"]})
    """Name of the study."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Options of `dfa.robustness.studies.prepare`."""

    def prepare(self) -> PreparedStudy:
        """Return the study of that name."""
        return prepare(self.study, self.plan, **self.options)


@component
class OwnStudy(StudyFile):
    """A training over parameters of the user's choice."""

    over: dict[str, Any] = Field(min_length=1)
    """Values of each parameter by its dotted name: a list, or for a random design a table of ``low`` and ``high`` and
    optionally ``log`` and ``integer``."""

    design: Literal["grid", "one-at-a-time", "latin-hypercube", "random"] = Field(default="grid")
    """Kind of design, see `dfa.sweeps.designs`."""

    count: int | None = Field(default=None, ge=1)
    """Number of points of a random design (latin-hypercube, random); not for other designs."""

    method: str = Field(default="optical")
    """What is trained, one of `dfa.experiments.teachers.METHODS`."""

    log: bool = Field(default=False, strict=True)
    """Whether the axes of the figure are logarithmic."""

    def prepare(self) -> PreparedStudy:
        """Return the study of these parameters."""
        design = self.build_design()
        return PreparedStudy(study=TrainingStudy(self.plan, self.method), design=design, view=self.view(design))

    def build_design(self) -> Design:
        """Return the design, or raise a ``ValueError``."""
        if (self.count is not None) != (self.design in RANDOM_DESIGNS):
            allowed = " and ".join(RANDOM_DESIGNS)
            raise ValueError(f"count must be given for the designs {allowed} only, got {self.count} for {self.design}")
        over = dict(dotted_names(self.over))
        if self.count is not None:
            return RANDOM_DESIGNS[self.design](
                {name: read_range(name, value) for name, value in over.items()}, self.count
            )
        return OneAtATime(over) if self.design == "one-at-a-time" else Grid(over)

    def view(self, design: Design) -> View:
        """Return the figure: a map for a grid of two parameters that are numbers, curves for other grids."""
        parameters = [name for name in design.coordinates if name != "varied"]
        common: dict[str, Any] = {"title": "Sweep", "log": self.log}
        if self.design == "one-at-a-time":
            bench = bench_values(self.plan)
            bench = {name: bench.get(name) for name in parameters}
            names = {name: name for name in parameters}
            return View(kind="budget", without={"point": 0}, names=names, bench=bench, **common)
        if self.design in RANDOM_DESIGNS:
            return View(kind="scatter", x=parameters[0], **common)
        numbers = all(labels(values).dtype.kind in "if" for _, values in design.coordinates.values())
        if len(parameters) == 2 and numbers:
            return View(kind="map", x=parameters[1], y=parameters[0], **common)
        return View(kind="curve", x=parameters[-1], **common)


FILES = {"study": NamedStudy, "over": OwnStudy}
"""Kinds of study files, by the entry that only this kind has."""


def read_study(path: str | Path) -> tuple[PreparedStudy, list[int]]:
    """Read a study file; the name of a study of `STUDIES` stands for a file that has only ``study = "NAME"``.

    The file has the entries of `NamedStudy` or those of `OwnStudy`. In values, "none" stands for None.

    Returns
    -------
    study, seeds : PreparedStudy, list of int
        The study, whose points are all allowed, and its seeds.

    Raises
    ------
    ValueError
        If the file cannot be read, or an entry is unknown or not allowed.
    """
    if str(path) in STUDIES:
        return study_of({"study": str(path)})
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(STUDIES)
        raise ValueError(f"study must be a readable TOML file or one of {known}, got {path} ({error})") from None
    try:
        return study_of(tomllib.loads(text))
    except RecursionError:
        raise ValueError(f"{path}: tables and lists must not be nested this deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def study_of(table: Mapping[str, Any]) -> tuple[PreparedStudy, list[int]]:
    """Return study and seeds of a table, or raise a ``ValueError``."""
    kinds = [kind for kind in FILES if kind in table]
    if len(kinds) != 1:
        raise ValueError(
            f"a study file must have one of the entries study and over, got {', '.join(table) or 'nothing'}"
        )
    file = FILES[kinds[0]](**replace_none(dict(table)))
    study = file.prepare()
    if file.title is not None:
        study = replace(study, view=replace(study.view, title=file.title))
    if file.references is not None:
        study = replace(study, references=tuple(file.references))
    check_methods(list(study.references), file.plan)
    for settings in study.design.settings:
        study.study.check(settings)
    return study, file.seeds


def dotted_names(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of a table; TOML reads a dotted name without quotes as nested tables."""
    for name, value in table.items():
        if isinstance(value, Mapping) and not {"low", "high"} & value.keys():
            yield from dotted_names(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def read_range(name: str, value: Any) -> Any:
    """Return the range of a table, and any other value unchanged."""
    if not isinstance(value, Mapping):
        return value
    try:
        return Range(**value)
    except TypeError:
        raise ValueError(f"{name} must have low and high, optionally log and integer, got {value!r}") from None


def replace_none(value: Any) -> Any:
    """Return a value with None for each "none" in it."""
    if isinstance(value, Mapping):
        return {key: replace_none(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_none(item) for item in value]
    return None if value == "none" else value
