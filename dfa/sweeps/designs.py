"""Which points a sweep has: grids, lists, random and Latin-hypercube designs, one parameter at a time."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfa.sweeps.protocol import RESERVED, is_name
from photonics.component import integer, number

__all__ = ["Design", "Grid", "LatinHypercube", "OneAtATime", "Paired", "Random", "Range", "design_of"]

Values = Sequence[Any]


class Design(Protocol):
    """The points of a sweep, and the dimensions that they lie along."""

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Parameters of each point by dotted name, the last dimension fastest."""
        ...

    @property
    def dims(self) -> dict[str, int]:
        """Names and lengths of the dimensions."""
        ...

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """The dimension that each parameter lies along, and its values there; None where a point does not set it."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the design is, in plain types."""
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

    def at(self, u: NDArray[np.float64]) -> list[Any]:
        """Values at quantiles `u`, in [0, 1)."""
        high = self.high + self.integer  # each integer gets the stretch up to the next one
        values = self.low * (high / self.low) ** u if self.log else self.low + u * (high - self.low)
        if self.integer:
            return [int(value) for value in np.clip(np.floor(values), self.low, self.high)]
        return [float(value) for value in np.clip(values, self.low, self.high)]


class Points:
    """A design whose points lie along one dimension, ``point``."""

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Parameters of each point by dotted name."""
        raise NotImplementedError

    @property
    def dims(self) -> dict[str, int]:
        """One dimension."""
        return {"point": len(self.settings)}

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """Every parameter along the points."""
        points = self.settings
        names = dict.fromkeys(name for point in points for name in point)
        return {name: ("point", [point.get(name) for point in points]) for name in names}

    def describe(self) -> dict[str, Any]:
        """Name and parameters of the design."""
        fields = asdict(self) if is_dataclass(self) and not isinstance(self, type) else {}
        return {"design": type(self).__name__} | fields


class Grid:
    """Every combination of the values, one dimension for each parameter.

    Parameters
    ----------
    over : mapping of str to sequence
        Values of each parameter, by its dotted name; an empty mapping is the one point where nothing is changed.
    """

    def __init__(self, over: Mapping[str, Iterable[Any]]) -> None:
        self.over = values_of(over)

    @property
    def settings(self) -> list[dict[str, Any]]:
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

    def describe(self) -> dict[str, Any]:
        """Name and values."""
        return {"design": "Grid", "over": self.over}


class Paired(Points):
    """The points of a list, as they are.

    Parameters
    ----------
    points : sequence of mappings
        Parameters of each point, by dotted name. A point need not set every one.
    """

    def __init__(self, points: Iterable[Mapping[str, Any]]) -> None:
        self.points = [dict(point) for point in points]
        if not self.points:
            raise ValueError("points must be one or more, got none")
        check_names(name for point in self.points for name in point)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The points of the list."""
        return self.points

    def describe(self) -> dict[str, Any]:
        """Name only: the points are the coordinates."""
        return {"design": "Paired"}


class OneAtATime(Points):
    """A base point, and from there each parameter changed alone.

    The first point is the base; the coordinate ``varied`` names the parameter that a point changes, "" at the base.
    A value that equals the base's is the base point again and is not computed twice.

    Parameters
    ----------
    over : mapping of str to sequence
        Values of each parameter, by its dotted name.
    base : mapping, optional
        Where the others stay meanwhile; those without a value here are left to the study.
    """

    def __init__(self, over: Mapping[str, Iterable[Any]], base: Mapping[str, Any] | None = None) -> None:
        self.over, self.base = values_of(over), dict(base or {})
        check_names(self.base)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The base, then each parameter's points."""
        changed = [self.base | {name: value} for name, values in self.over.items() for value in values]
        return [self.base, *changed]

    @property
    def coordinates(self) -> dict[str, tuple[str, Values]]:
        """Every parameter along the points, and which one is varied."""
        varied = ["", *(name for name, values in self.over.items() for _ in values)]
        return super().coordinates | {"varied": ("point", varied)}

    def describe(self) -> dict[str, Any]:
        """Name, base and values."""
        return {"design": "OneAtATime", "over": self.over, "base": self.base}


@dataclass(frozen=True)
class Random(Points):
    """Points drawn independently.

    Parameters
    ----------
    over : mapping of str to Range or sequence
        Where each parameter is drawn from: a range, or a list of choices.
    count : int
        Number of points.
    seed : int
        Which points; not the seed of what runs there.
    """

    over: Mapping[str, Range | Sequence[Any]]
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_names(self.over)
        if not self.over:
            raise ValueError("over must name one parameter or more, got none")
        for name, values in self.over.items():
            if not isinstance(values, Range):
                values_of({name: values})
        integer(self.count, "count", 1)
        integer(self.seed, "seed", 0)

    def quantiles(self) -> NDArray[np.float64]:
        """Quantile of each parameter at each point, shape (count, parameters), in [0, 1)."""
        return np.random.default_rng(self.seed).random((self.count, len(self.over)))

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The points as drawn."""
        columns = []
        for values, u in zip(self.over.values(), self.quantiles().T, strict=True):
            columns.append(values.at(u) if isinstance(values, Range) else choices(values, u))
        return [dict(zip(self.over, point, strict=True)) for point in zip(*columns, strict=True)]


@dataclass(frozen=True)
class LatinHypercube(Random):
    """Points that cover the range of every parameter evenly (McKay, Beckman and Conover 1979).

    Each of `count` strata of equal probability of each parameter holds exactly one point. Parameters as those of
    `Random`.
    """

    def quantiles(self) -> NDArray[np.float64]:
        """Quantile of each parameter at each point, shape (count, parameters), in [0, 1)."""
        from scipy.stats import qmc

        return qmc.LatinHypercube(len(self.over), rng=self.seed).random(self.count)


def choices(values: Sequence[Any], u: NDArray[np.float64]) -> list[Any]:
    """The value at each quantile, all equally likely."""
    return [values[int(i)] for i in np.minimum(u * len(values), len(values) - 1)]


def design_of(over: "Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]] | Design") -> Design:
    """Return a design as it is, the grid of a mapping, or the points of a list."""
    if isinstance(over, Mapping):
        return Grid(over)
    if all(hasattr(over, name) for name in ("settings", "dims", "coordinates", "describe")):
        return over  # type: ignore[return-value]
    if isinstance(over, Sequence) and all(isinstance(point, Mapping) for point in over):
        return Paired(over)
    raise ValueError(f"over must map names to lists of values, list points, or be a design, got {over!r}")


def values_of(over: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """Values of each parameter as a list, or a ``ValueError``."""
    check_names(over)
    for name, values in over.items():
        if isinstance(values, (str, bytes, Range)) or not isinstance(values, Iterable):
            raise ValueError(f"{name} must be a list of values, got {values!r}")
    lists = {name: list(values) for name, values in over.items()}
    for name, values in lists.items():
        if not values:
            raise ValueError(f"{name} must have one value or more, got none")
    return lists


def check_names(names: Iterable[Any]) -> None:
    """Raise a ``ValueError`` if a name cannot be that of a parameter."""
    for name in names:
        if not is_name(name):
            raise ValueError(f"a parameter must have a dotted name other than {', '.join(RESERVED)}, got {name!r}")
