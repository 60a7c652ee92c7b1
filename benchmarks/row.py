"""A row of the table: a ratio, what it was made from, and the bound it is held to."""

import operator
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Row"]

SENSES = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, or the reason why there is none."""

    name: str
    """What over what."""
    unit: str = ""
    """Unit of the values."""
    values: dict[str, float] = field(default_factory=dict)
    """What was measured, the figure of this package first."""
    ratio: float | None = None
    """The figure that the target is about; None if there is none."""
    target: str | None = None
    """Bound of the ratio, as ">= 0.75"; None if nothing was promised."""
    note: str = ""
    """How it was measured, or why it was not."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is no target or no figure."""
        if self.target is None or self.ratio is None:
            return None
        sense, bound = self.target.split()
        return bool(SENSES[sense](self.ratio, float(bound)))

    def cells(self) -> tuple[str, str, str, str, str]:
        """What, measured, ratio, target and verdict, as text."""
        measured = " / ".join(f"{value:.3g}" for value in self.values.values())
        ratio = "-" if self.ratio is None else f"{self.ratio:.3g}"
        verdict = {True: "met", False: "missed", None: "-" if self.ratio is not None else self.note}[self.met]
        return self.name, f"{measured} {self.unit}".strip() or "-", ratio, self.target or "-", verdict

    def to_dict(self) -> dict[str, Any]:
        """Return the row for a JSON file."""
        return asdict(self) | {"met": self.met}
