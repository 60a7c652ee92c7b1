"""A fitted parameter with its standard error, the reason if frames cannot tell it, and the jackknife."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import HIDDEN, Estimate
from photonics.arrays import IntArray

__all__ = ["BLOCKS", "CannotTell", "Parameter", "Statistic", "estimate_if_seen", "gather", "jackknife", "pixel_blocks"]

BLOCKS = 16
"""Number of blocks of rows of pixels that the jackknife leaves out, one at a time."""
MIN_SIGNIFICANCE = 2.0
"""Number of standard errors above zero from which a parameter that cannot be negative is known."""
Statistic = Callable[[IntArray], NDArray[np.float64]]
"""A statistic of some pixels, given by their numbers."""


class CannotTell(ValueError):
    """The frames do not tell a parameter; the message gives the reason, `least` and `most` what they allow."""

    def __init__(self, reason: str, *, least: float = -math.inf, most: float = math.inf) -> None:
        super().__init__(reason)
        self.least, self.most = float(least), float(most)


@dataclass(frozen=True)
class Parameter:
    """A parameter of the device as the frames tell it."""

    name: str
    """Dotted name, as for `photonics.OPU.replace`, or the name of a combination that frames tell."""
    unit: str
    """Unit, empty if there is none."""
    estimate: Estimate
    """Value and standard error; NaN if the frames do not tell it."""
    how: str
    """How it was found, or why it cannot be told."""
    least: float = -math.inf
    """Smallest value that the frames allow, if they do not tell it."""
    most: float = math.inf
    """Largest value that the frames allow, if they do not tell it."""
    signed: bool = False
    """Whether it may have either sign, with an error that is not one of its logarithm."""

    @property
    def known(self) -> bool:
        """Whether the frames tell it, with a standard error."""
        return math.isfinite(self.estimate.value) and math.isfinite(self.estimate.error)

    @classmethod
    def find(cls, name: str, unit: str, how: str, estimate: Callable[..., Estimate], *arguments: object) -> "Parameter":
        """Parameter that a function estimates from the arguments; unknown if it cannot tell."""
        try:
            return cls(name, unit, estimate(*arguments), how)
        except CannotTell as reason:
            return cls.unknown(name, unit, reason)

    @classmethod
    def unknown(cls, name: str, unit: str, reason: CannotTell) -> "Parameter":
        """Parameter that the frames do not tell."""
        return cls(name, unit, HIDDEN, str(reason), reason.least, reason.most)


def estimate_if_seen(value: float, error: float, what: str) -> Estimate:
    """Return a quantity that cannot be negative.

    Raises
    ------
    CannotTell
        If it is less than `MIN_SIGNIFICANCE` standard errors above zero.
    """
    if not (math.isfinite(value) and math.isfinite(error)):
        raise CannotTell(f"{what} has no finite estimate")
    if value < MIN_SIGNIFICANCE * error:
        most = max(value, 0.0) + MIN_SIGNIFICANCE * error
        raise CannotTell(f"{what} is hidden: at most {most:.3g} (2 s.e.)", most=most)
    return Estimate(float(value), float(error))


def gather(units: Mapping[str, str], find: Callable[[], Iterable[Parameter]]) -> list[Parameter]:
    """Parameters that an estimator finds; if it cannot tell any, all of `units` (names and units) are unknown."""
    try:
        return list(find())
    except CannotTell as reason:
        return [Parameter.unknown(name, unit, reason) for name, unit in units.items()]


def pixel_blocks(pixels: IntArray, count: int = BLOCKS) -> list[IntArray]:
    """Split pixels, numbered row by row, into blocks of neighbouring rows."""
    return [block for block in np.array_split(pixels, min(count, len(pixels))) if len(block)]


def jackknife(statistic: Statistic, blocks: Sequence[IntArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value and standard error of a statistic of pixels, by leaving out one block of pixels at a time.

    Frames of one medium share its matrix, so that patterns are not independent. Rows of the matrix are, apart from
    pixels of the same speckle grain. A grain across two blocks is in the covariance of neighbouring blocks, which is
    added where it is positive.

    References
    ----------
    B. Efron and C. Stein, "The jackknife estimate of variance", Annals of Statistics 9, 586 (1981).
    H. R. Kuensch, "The jackknife and the bootstrap for general stationary observations", Annals of Statistics 17, 1217
    (1989).
    """
    whole = np.asarray(statistic(np.concatenate(blocks)))
    left = [np.concatenate([*blocks[:i], *blocks[i + 1 :]]) for i in range(len(blocks))]
    parts = np.array([statistic(pixels) for pixels in left])
    apart = parts - parts.mean(axis=0)
    spread = np.sum(apart**2, axis=0) + 2.0 * np.maximum(np.sum(apart[1:] * apart[:-1], axis=0), 0.0)
    return whole, np.sqrt((len(blocks) - 1) / len(blocks) * spread)
