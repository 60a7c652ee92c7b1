"""The interface of a study, and the outcome of one point of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

__all__ = ["RESERVED", "Outcome", "Settings", "Study", "is_name"]

RESERVED = ("error", "point", "seed", "varied")
"""Names of the data set's own variables."""

Settings: TypeAlias = Mapping[str, Any]
"""Values of parameters by dotted name. A value is a number, string, boolean, None, or a list or table of these."""


class Study(Protocol):
    """A function of settings and a seed, evaluated at each point of a sweep.

    A study may have an attribute ``version`` (number or string), which is part of the key of its points. Change it when
    code changes that the sweep does not see: functions, constants and modules that the study's class uses.
    """

    def check(self, settings: Settings) -> None:
        """Raise a ``ValueError`` for an unknown name or a bad value; called for every point before any runs."""

    def run(self, settings: Settings, seed: int) -> Mapping[str, float]:
        """Return the metrics of a point, which depend on the arguments only.

        The study is pickled and runs in another process.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return everything else that decides the result, in plain types: part of a point's key and of the record."""
        ...

    def units(self) -> Mapping[str, str]:
        """Return the unit of each metric and, by dotted name, of each parameter; "" for none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a point."""

    metrics: dict[str, float]
    """Empty if the point failed."""
    error: str = ""
    """The exception in one line; empty if the point did not fail."""
    traceback: str = ""
    seconds: float = 0.0
    """Wall time of the point."""
    made_with: str = ""
    """Versions of the libraries that computed the point."""


def is_name(name: object) -> bool:
    """Whether the data set and its file can have a variable of this name."""
    return isinstance(name, str) and name not in ("", ".", *RESERVED) and "/" not in name and name.isprintable()
