"""The model over a range of its parameters: a table of times and energies, and where one method overtakes another."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypedDict, cast

from calibration.reports.page import Table
from dfa.costs.parts import Chips, Device, Links, Network
from dfa.costs.steps import METHODS, Method, Step, step

__all__ = ["Parts", "Point", "Scaling", "change", "scaling"]


class Parts(TypedDict):
    """What the model is computed from."""

    network: Network
    chips: Chips
    links: Links
    device: Device


NAMES: dict[Method, str] = {"bp": "backpropagation", "dfa": "DFA on chips", "optical": "DFA by light"}
MAX_POINTS = 100_000


@dataclass(frozen=True)
class Point:
    """One place of the table."""

    settings: Mapping[str, Any]
    """Values of the parameters that vary, by dotted name."""
    parameters: int
    """Weights of the network."""
    steps: Mapping[Method, Step]

    @property
    def best(self) -> Method:
        """Method with the shortest step."""
        return min(METHODS, key=lambda method: self.steps[method].seconds)

    def ratio(self, method: Method, other: Method) -> float:
        """Time of a step by `method` over that by `other`."""
        return self.steps[method].seconds / self.steps[other].seconds


@dataclass(frozen=True)
class Scaling:
    """Times and energies of a step by the three methods: "bp", "dfa" and "optical"; `str` gives the table."""

    points: Sequence[Point]
    parts: Parts
    """Network, chips, links and device whose parameters do not vary."""

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __str__(self) -> str:
        return self.table().text(str.rjust)

    __repr__ = __str__

    def table(self) -> Table:
        """Return times and energies of a step, one row for each point."""
        names = list(self.points[0].settings)
        columns = [*names, "parameters", *(f"{m}, {unit}" for unit in ("s", "J") for m in METHODS), "fastest"]
        rows = []
        for point in self.points:
            costs = [point.steps[m].seconds for m in METHODS] + [point.steps[m].joules for m in METHODS]
            numbers = [*point.settings.values(), point.parameters, *costs]
            rows.append([*(f"{n:.3g}" if isinstance(n, (int, float)) else str(n) for n in numbers), point.best])
        return Table(columns, rows)

    def terms(self) -> Table:
        """Return the terms of the time of each method at the first point, in seconds."""
        names = [field.name for field in fields(Step) if field.name.endswith("_s")]
        steps = self.points[0].steps
        rows = [[m, *(f"{getattr(steps[m], name):.3g}" for name in names)] for m in METHODS]
        return Table(["seconds", *(name.removesuffix("_s") for name in names)], rows)

    def crossing(self, method: Method = "optical", other: Method = "bp") -> float | None:
        """Return the value of the one parameter that varies from which on `method` is faster than `other`.

        It is interpolated between neighbouring points, logarithmically. None if `method` is not faster at the last
        point, and the first value if it is faster everywhere.

        Raises
        ------
        ValueError
            If several parameters vary, or none.
        """
        if len(self.points[0].settings) != 1:
            raise ValueError(f"one parameter must vary, got {', '.join(self.points[0].settings) or 'none'}")
        (name,) = self.points[0].settings
        places = [(point.settings[name], math.log(point.ratio(method, other))) for point in self.points]
        if places[-1][1] >= 0:
            return None
        for (low, above), (high, below) in reversed([*itertools.pairwise(places)]):
            if above >= 0:
                share = above / (above - below)
                return float(low ** (1 - share) * high**share)
        return places[0][0]

    def to_dict(self) -> dict[str, Any]:
        """Return everything in plain types."""
        points = [
            {
                "settings": dict(p.settings),
                "parameters": p.parameters,
                "steps": {m: asdict(s) for m, s in p.steps.items()},
            }
            for p in self.points
        ]
        return {"parts": {name: asdict(self.parts[name]) for name in self.parts}, "points": points}


def scaling(
    network: Network | None = None,
    chips: Chips | None = None,
    links: Links | None = None,
    device: Device | None = None,
    *,
    over: Mapping[str, Sequence[Any]] | None = None,
) -> Scaling:
    """Predict time and energy of a training step by backpropagation, by DFA on chips, and by DFA through the device.

    The model is plain arithmetic, see `dfa.costs.steps`; `dfa.costs.parts` has unit, default and source of each
    parameter. `docs/howto/scaling.md` compares its predictions with measured steps.

    Parameters
    ----------
    network, chips, links, device : optional
        `dfa.costs.Network`, `Chips`, `Links` and `Device`; default: those with all defaults.
    over : mapping of str to sequence, optional
        Values of parameters by dotted name, such as ``{"network.width": [1024, 4096]}``: all combinations.

    Raises
    ------
    ValueError
        If a name is unknown, a value is out of range, or the parts do not fit together.

    Examples
    --------
    >>> from dfa import scaling
    >>> from dfa.costs import Network
    >>> large = Network(width=100_000, depth=20, classes=1_000_000)
    >>> found = scaling(large, over={"device.frame_rate_hz": [1e3, 1e4]})
    >>> [point.best for point in found]
    ['bp', 'optical']
    """
    parts: Parts = {
        "network": network or Network(),
        "chips": chips or Chips(),
        "links": links or Links(),
        "device": device or Device(),
    }
    over = {} if over is None else {name: list(values) for name, values in over.items()}
    count = math.prod(map(len, over.values()))
    if not 0 < count <= MAX_POINTS:
        raise ValueError(f"over must have 1 to {MAX_POINTS} combinations, got {count}")
    combinations = itertools.product(*over.values())
    return Scaling([point_of(parts, dict(zip(over, values, strict=True))) for values in combinations], parts)


def point_of(parts: Parts, settings: Mapping[str, Any]) -> Point:
    """Return the three steps with some parameters changed."""
    changed = change(parts, settings)
    return Point(
        settings, changed["network"].parameters, {method: step(**changed, method=method) for method in METHODS}
    )


def change(parts: Parts, settings: Mapping[str, Any]) -> Parts:
    """Return the parts with parameters changed by their dotted names.

    Raises
    ------
    ValueError
        If a name is unknown or a value is out of range.
    """
    found: dict[str, Any] = {**parts}
    known = [f"{name}.{field.name}" for name, part in found.items() for field in fields(part)]
    if unknown := [name for name in settings if name not in known]:
        raise ValueError(f"a parameter must be one of {', '.join(known)}, got {', '.join(unknown)}")
    for name, part in parts.items():
        own = {key.partition(".")[2]: value for key, value in settings.items() if key.startswith(f"{name}.")}
        found[name] = replace(cast(Any, part), **own)
    return cast(Parts, found)
