"""Designs of sweeps: grids, lists, random points, Latin hypercubes, one parameter at a time."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dfa.sweeps.protocol import RESERVED, is_name
from photonics.component import integer, number

__all__ = ["Design", "Grid", "LatinHypercube", "OneAtATime", "Paired", "Random", "Range", "design_of"]

Values: TypeAlias = Sequence[object]
Point: TypeAlias = dict[str, object]
"""Values of the parameters of a point, by dotted name."""
Quantiles: TypeAlias = NDArray[np.float64]


@runtime_checkable
class Design(Protocol):
    """The points of a sweep, and their dimensions."""

    @property
    def settings(self) -> list[Point]:
        """Parameters of each point by dotted name, the last dimension fastest."""
        ...

    @property
    def dims(self) -> dict[str, int]:
        """Names and lengths of the dimensions."""
        ...

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """The dimension of each parameter, and its values along it; None at a point that does not set it."""
        ...

    def describe(self) -> dict[str, object]:
        """Return name and parameters of the design, in plain types."""
        ...


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, drawn uniformly, or uniformly in their logarithm; integers with both ends."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        low, high = number(self.low), number(self.high)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"range must go from a number to a larger one, got {self.low!r} to {self.high!r}")
        if self.log and low <= 0:
            raise ValueError(f"range must be above 0 for a logarithm, got {self.low!r} to {self.high!r}")
        if self.integer and not (low.is_integer() and high.is_integer()):
            raise ValueError(f"range of integers must have integers as ends, got {self.low!r} to {self.high!r}")

    def at(self, u: Quantiles) -> list[float]:
        """Return the values at quantiles `u`, in [0, 1)."""
        high = self.high + self.integer  # each integer has the interval up to the next one
        values = self.low * (high / self.low) ** u if self.log else self.low + u * (high - self.low)
        if self.integer:
            return [int(value) for value in np.clip(np.floor(values), self.low, self.high)]
        return [float(value) for value in np.clip(values, self.low, self.high)]


def describe_size(design: Design) -> str:
    """Name of a design, its number of points and its dimensions, in one line."""
    dims = ", ".join(f"{name}: {length}" for name, length in design.dims.items())
    return f"{type(design).__name__}({len(design.settings)} points; {dims})"


class Grid:
    """Every combination of the values, one dimension for each parameter.

    Parameters
    ----------
    over : mapping of str to sequence
        Values of each parameter, by its dotted name; an empty mapping is one point without changes.
    """

    def __init__(self, over: Mapping[str, Iterable[object]]) -> None:
        self.over = lists_of(over)

    def __repr__(self) -> str:
        return describe_size(self)

    @property
    def settings(self) -> list[Point]:
        """Parameters of each point, the last one fastest."""
        return [dict(zip(self.over, values, strict=True)) for values in itertools.product(*self.over.values())]

    @property
    def dims(self) -> dict[str, int]:
        """One dimension for each parameter."""
        return {name: len(values) for name, values in self.over.items()}

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """Each parameter along its own dimension."""
        return {name: (name, values) for name, values in self.over.items()}

    def describe(self) -> dict[str, object]:
        """Return name and values."""
        return {"design": "Grid", "over": self.over}


class Paired:
    """The points of a list.

    Parameters
    ----------
    points : sequence of mappings
        Parameters of each point, by dotted name. A point need not set every one.
    """

    def __init__(self, points: Iterable[Mapping[str, object]]) -> None:
        self.points = [dict(point) for point in points]
        if not self.points:
            raise ValueError("points must be one or more, got none")
        check_names(name for point in self.points for name in point)

    def __repr__(self) -> str:
        return describe_size(self)

    @property
    def settings(self) -> list[Point]:
        """The points of the list."""
        return self.points

    @property
    def dims(self) -> dict[str, int]:
        """One dimension, ``point``."""
        return {"point": len(self.settings)}

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """Every parameter along the points."""
        points = self.settings
        names = dict.fromkeys(name for point in points for name in point)
        return {name: ("point", [point.get(name) for point in points]) for name in names}

    def describe(self) -> dict[str, object]:
        """Return the name only: the points are the coordinates."""
        return {"design": "Paired"}


class OneAtATime(Paired):
    """A base point, and each parameter changed alone.

    The first point is the base; the coordinate ``varied`` names the parameter that a point changes, "" at the base.
    A value that equals the base's gives the base point again, which is not computed twice.

    Parameters
    ----------
    over : mapping of str to sequence
        Values of each parameter, by its dotted name.
    base : mapping, optional
        Values of parameters that are not changed; parameters without a value here keep the study's own.
    """

    def __init__(self, over: Mapping[str, Iterable[object]], base: Mapping[str, object] | None = None) -> None:
        self.over, self.base = lists_of(over), dict(base or {})
        changed = [self.base | {name: value} for name, values in self.over.items() for value in values]
        super().__init__([self.base, *changed])

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """Every parameter along the points, and the one that is varied."""
        varied = ["", *(name for name, values in self.over.items() for _ in values)]
        return super().coordinates | {"varied": ("point", varied)}

    def describe(self) -> dict[str, object]:
        """Return name, base and values."""
        return {"design": "OneAtATime", "over": self.over, "base": self.base}


@dataclass(frozen=True)
class Random(Paired):
    """Points drawn independently.

    Parameters
    ----------
    over : mapping of str to Range or sequence
        Range of each parameter, or a list of choices.
    count : int
        Number of points.
    seed : int
        Seed that draws the points. It is not the seed of the study.
    """

    over: Mapping[str, Range | Values]
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.over:
            raise ValueError("over must name one parameter or more, got none")
        check_names(self.over)
        lists_of({name: values for name, values in self.over.items() if not isinstance(values, Range)})
        integer(self.count, "count", 1)
        integer(self.seed, "seed", 0)

    def quantiles(self) -> Quantiles:
        """Quantile of each parameter at each point, shape (count, parameters), in [0, 1)."""
        return np.random.default_rng(self.seed).random((self.count, len(self.over)))

    @property
    def settings(self) -> list[Point]:
        """The points as drawn."""
        columns = []
        for values, u in zip(self.over.values(), self.quantiles().T, strict=True):
            columns.append(values.at(u) if isinstance(values, Range) else choices(values, u))
        return [dict(zip(self.over, point, strict=True)) for point in zip(*columns, strict=True)]

    def describe(self) -> dict[str, object]:
        """Return name and parameters of the design."""
        return {"design": type(self).__name__, **asdict(self)}


@dataclass(frozen=True)
class LatinHypercube(Random):
    """Points that cover the range of every parameter evenly (McKay, Beckman and Conover 1979).

    Each of `count` strata of equal probability of each parameter holds exactly one point. The parameters are those of
    `Random`.
    """

    def quantiles(self) -> Quantiles:
        """Quantile of each parameter at each point, shape (count, parameters), in [0, 1)."""
        from scipy.stats import qmc

        return qmc.LatinHypercube(len(self.over), rng=self.seed).random(self.count)


def choices(values: Values, u: Quantiles) -> list[object]:
    """Return the value at each quantile, all equally likely."""
    return [values[int(i)] for i in np.minimum(u * len(values), len(values) - 1)]


def design_of(over: Mapping[str, Iterable[object]] | Sequence[Mapping[str, object]] | Design) -> Design:
    """Return a design unchanged, the grid of a mapping, or the points of a list."""
    if isinstance(over, Mapping):
        return Grid(over)
    if isinstance(over, Design):
        return over
    if isinstance(over, Sequence) and all(isinstance(point, Mapping) for point in over):
        return Paired(over)
    raise ValueError(f"over must map names to lists of values, list points, or be a design, got {over!r}")


def lists_of(over: Mapping[str, Iterable[object]]) -> dict[str, list[object]]:
    """Return the values of each parameter as a list, or raise a ``ValueError``."""
    check_names(over)
    for name, values in over.items():
        if isinstance(values, (str, bytes, Range)) or not isinstance(values, Iterable):
            raise ValueError(f"{name} must be a list of values, got {values!r}")
    lists = {name: list(values) for name, values in over.items()}
    for name, values in lists.items():
        if not values:
            raise ValueError(f"{name} must have one value or more, got none")
    return lists


def check_names(names: Iterable[object]) -> None:
    """Raise a ``ValueError`` if a name cannot be that of a parameter."""
    for name in names:
        if not is_name(name):
            raise ValueError(f"a parameter must have a dotted name other than {', '.join(RESERVED)}, got {name!r}")
