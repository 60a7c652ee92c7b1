"""A row of the table: a ratio, the values behind it, and its target."""

import operator
from dataclasses import asdict, dataclass, field

__all__ = ["Row"]

COMPARISONS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One result, or the reason why there is none."""

    name: str
    """Name: which two quantities are divided."""
    unit: str = ""
    """Unit of the values."""
    values: dict[str, float] = field(default_factory=dict)
    """Measured values, that of this package first."""
    ratio: float | None = None
    """The ratio that the target bounds; None if nothing was measured."""
    target: str | None = None
    """Bound of the ratio, such as ">= 0.75"; None if there is no target."""
    note: str = ""
    """How it was measured, or why it was not measured."""
    benchmark: str = ""
    """Name of the benchmark that the row belongs to."""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is no target or no ratio."""
        if self.target is None or self.ratio is None:
            return None
        sense, bound = self.target.split()
        return bool(COMPARISONS[sense](self.ratio, float(bound)))

    def cells(self) -> tuple[str, str, str, str, str]:
        """What, measured, ratio, target and verdict, as text. Values after the second have their names."""
        values = [(name, f"{value:.3g}") for name, value in self.values.items()]
        measured = f"{' / '.join(value for _, value in values[:2])} {self.unit}".strip() or "-"
        measured = "; ".join([measured, *(f"{name} {value}" for name, value in values[2:])])
        ratio = "-" if self.ratio is None else f"{self.ratio:.3g}"
        verdict = {True: "met", False: "missed", None: "-" if self.ratio is not None else self.note}[self.met]
        return self.name, measured, ratio, self.target or "-", verdict

    def to_dict(self) -> dict[str, object]:
        """Return the row for a JSON file."""
        return {**asdict(self), "met": self.met}
