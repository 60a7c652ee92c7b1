"""A measured value and its standard error."""

import math
from dataclasses import dataclass

__all__ = ["HIDDEN", "Estimate", "share_of"]


@dataclass(frozen=True)
class Estimate:
    """A measured value with its standard error; both are NaN if quantisation hides the value."""

    value: float
    error: float


HIDDEN = Estimate(math.nan, math.nan)
"""A value that frames do not show."""


def share_of(count: int, total: int) -> Estimate:
    """Share of `total` that has a property, with the binomial standard error (that of one if there is none).

    >>> share_of(100, 10_000)
    Estimate(value=0.01, error=0.00099498743710662)
    """
    share = count / total
    return Estimate(share, math.sqrt(max(share * (1.0 - share), 1.0 / total) / total))
