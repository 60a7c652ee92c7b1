"""The results of a search for tolerances: a table, its text, and the same in plain types."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from calibration.reports.page import Table
from dfa.robustness.figures import format_value
from dfa.robustness.names import units_of_names
from dfa.robustness.tolerances.lines import Line
from dfa.robustness.tolerances.posterior import Posterior

__all__ = ["Tolerance", "Tolerances", "Trial", "load", "summarise"]

LEVEL = 0.95
"""Probability of the intervals."""


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    place: float
    """On the line, 0 (best) to 1 (worst)."""
    seed: int
    loss: float | None
    """Points (or bits) lost against the reference of the same seed; None if the training was refused."""
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How bad one line may become until training loses the limit."""

    name: str
    title: str
    label: str
    unit: str
    """Unit of the value; empty for several parameters."""
    value: Mapping[str, float]
    """Value of each parameter at which the limit is lost: median."""
    better: Mapping[str, float]
    worse: Mapping[str, float]
    """Ends of the 95 % interval, towards the good device and towards the bad one."""
    verdict: str
    """found; at least (not lost up to `better`, unknown beyond); at most (already lost at `worse`, unknown before); or
    wide (the interval is wider than asked)."""
    own: Mapping[str, float] | None
    """Values of the device itself; None if it does not have the flaw."""
    margin: tuple[float, float, float] | None
    """Factor from the device's own value to the tolerance, and its interval; None without a value of its own."""
    trials: Sequence[Trial]

    def text(self, values: Mapping[str, float]) -> str:
        """Return values of the line as text, with the unit."""
        text = ", ".join(format_value(float(f"{value:.3g}")) for value in values.values())
        return f"{text} {self.unit}".rstrip()

    @property
    def refused(self) -> int:
        """Number of trainings that ended with an error, for instance because too few pixels could be calibrated."""
        return sum(bool(trial.error) for trial in self.trials)

    @property
    def failure(self) -> str:
        """First error of a training; empty if there is none."""
        return next((trial.error for trial in self.trials if trial.error), "")


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """The tolerances of a device for a training; `str` gives the table."""

    rows: Sequence[Tolerance]
    limit: float
    """Loss that defines a tolerance."""
    unit: str
    """Unit of the loss."""
    references: Mapping[str, Mapping[int, float]]
    """Score of the device as it is, by line and seed."""
    trainings: int
    """Number of different trainings in all, with the references."""
    plan: Mapping[str, Any]
    """The plan, in plain types."""

    def __iter__(self) -> Iterator[Tolerance]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Tolerance:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name}: lines are {', '.join(row.name for row in self.rows)}")

    def __str__(self) -> str:
        return f"Value at which training loses {self.loss}\n{self.table()}"

    __repr__ = __str__

    def ranked(self) -> list[Tolerance]:
        """Return the rows: the smallest margin first, then what costs too little, then flaws that the device lacks."""
        return sorted(self.rows, key=lambda row: (row.margin is None, row.verdict == "at least", row.margin or (0.0,)))

    @property
    def loss(self) -> str:
        """The loss that defines a tolerance, with its unit."""
        return f"{self.limit:g} {self.unit[:-1] if self.limit == 1.0 and self.unit == 'points' else self.unit}"

    def table(self) -> Table:
        """Return the table, in the order of `ranked`."""
        columns = ["what becomes worse", "the device", "lost at", "95 % interval", "margin", "trainings"]
        return Table(columns, [cells(row) for row in self.ranked()])

    def to_dict(self) -> dict[str, Any]:
        """Return everything in plain types."""
        return asdict(self)


def load(path: str | Path) -> Tolerances:
    """Read the ``tolerances.json`` of ``opu tolerance``.

    Raises
    ------
    ValueError
        If the file cannot be read, or is another one.
    """
    try:
        return TypeAdapter(Tolerances).validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"path must be a file of opu tolerance, got {path} ({reason})") from None


def cells(row: Tolerance) -> list[str]:
    """Return the cells of a row of the table; several parameters that become worse together have their factor."""
    own, at = "–" if row.own is None else row.text(row.own), row.text(row.value)
    interval = f"{row.text(row.better)} to {row.text(row.worse)}"
    margin, *ends = [f"x {float(f'{factor:.2g}'):g}" for factor in row.margin or ()] or [""]
    if ends and len(row.value) > 1:
        own, at, interval, margin = "x 1", margin, " to ".join(ends), ""
    if row.verdict == "at least":
        at, interval, margin = "not lost", f"beyond {row.text(row.better)}", f"over {ends[0]}" if ends else ""
    elif row.verdict == "at most":
        at, interval = "always lost", f"before {row.text(row.worse)}"
    trainings = f"{len(row.trials)}, {row.refused} refused" if row.refused else str(len(row.trials))
    return [row.title, own, at, f"{interval} (wide)" if row.verdict == "wide" else interval, margin, trainings]


def line_unit(line: Line) -> str:
    """Return the unit of the parameter of a line; empty without one, and for several parameters."""
    name, *others = line.ends
    unit = "" if others else units_of_names().get(name, "")
    return "" if unit == "1" else unit


def summarise(
    name: str, line: Line, own: float | None, found: Posterior, trials: Sequence[Trial], verdict: str
) -> Tolerance:
    """Return the row of a line.

    Parameters
    ----------
    name : str
        Of the line.
    line : Line
    own : float or None
        Place of the device itself.
    found : Posterior
        Where the limit is lost.
    trials : sequence of Trial
    verdict : str
        See `Tolerance`.
    """
    low, high = found.interval(LEVEL)
    places = [min(max(place, 0.0), 1.0) for place in (found.quantile(0.5), low, high)]
    value, better, worse = (line.at(place) for place in places)
    margin = None
    if own is not None:
        factors = [float(10.0 ** ((place - own) * line.decades)) for place in places]
        margin = (factors[0], factors[1], factors[2])
    return Tolerance(
        name=name,
        title=line.title,
        label=line.label,
        unit=line_unit(line),
        value=value,
        better=better,
        worse=worse,
        verdict=verdict,
        own=None if own is None else line.at(own),
        margin=margin,
        trials=list(trials),
    )
