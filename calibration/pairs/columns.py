"""The unknowns that patterns determine: which inputs they tell apart, and the design of their frames."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calibration.recovery.designs.dense import DenseDesign
from photonics.arrays import BoolArray, ComplexArray, RealArray, Shapes

__all__ = ["Columns", "choose_columns"]

MAX_CONDITION = 1e4
"""Largest condition number of centred patterns with which the field of all mirrors OFF is an unknown of its own."""


@dataclass(frozen=True, eq=False, repr=False)
class Columns(Shapes):
    """Patterns as signs about their mean, over inputs that they tell apart."""

    signs: RealArray
    """``2 (x - mean)`` of each group of inputs that are always alike, the wanted inputs first: (frames, n)."""
    wanted: int
    """Number of inputs whose columns of the matrix are wanted."""
    center: RealArray
    """``2 mean`` of the groups, (n,): the field of the mean pattern is their sum with these factors."""
    has_offset: bool
    """Whether the field of the mean pattern is an unknown of its own, so that light of OFF mirrors is known."""
    background: int
    """Number of inputs, none of them wanted, that are ON in all frames."""
    condition_number: float

    def design(self, scale: RealArray, beam: ComplexArray | None) -> DenseDesign:
        """Design of the frames, `scale` the root of their relative exposures."""
        rows = self.signs if not self.has_offset else np.concatenate([self.signs, np.ones_like(self.signs[:, :1])], 1)
        rows = rows if self.has_offset else rows + self.center
        return DenseDesign(rows * scale[:, None], None if beam is None else beam * scale, self.wanted)

    @cached_property
    def flat(self) -> RealArray:
        """Unknowns whose field is 1 in all frames, as that of OFF mirrors, as near as the patterns allow: (n,).

        If the number of inputs that are ON is always the same, they are equal, and the field is exact.
        """
        return np.linalg.lstsq(self.signs + self.center, np.ones(len(self.signs), np.float32), rcond=1e-6)[0]

    @cached_property
    def inverse(self) -> RealArray:
        """Pseudo-inverse of ``signs^T signs / frames``."""
        return np.linalg.pinv(self.signs.T.astype(np.float64) @ self.signs / len(self.signs), 1e-9, True)


def choose_columns(patterns: BoolArray, n_inputs: int) -> Columns:
    """Group inputs that are always alike; the first `n_inputs` must differ from all others.

    Raises
    ------
    ValueError
        If the patterns do not tell these inputs apart, or from those that are always ON; the message names them.
    """
    kept, background = distinct_inputs(patterns, n_inputs), int(np.sum(patterns.all(axis=0)))
    shown = patterns[:, kept].astype(np.float32)
    mean = shown.mean(axis=0, dtype=np.float64).astype(np.float32)
    signs = 2.0 * (shown - mean)
    values = np.linalg.svd(signs, compute_uv=False)
    offset = bool(values[-1] * MAX_CONDITION > values[0]) and len(patterns) > len(kept)
    if not offset and background:
        raise ValueError(
            f"patterns must tell the light of the {background} inputs that are always ON, got patterns with the same "
            "number of other inputs ON: add patterns with other numbers, or keep these inputs OFF"
        )
    if not offset:
        values = np.linalg.svd(shown, compute_uv=False)
        if len(patterns) < len(kept) or values[-1] * MAX_CONDITION <= values[0]:
            rank = int(np.sum(values * MAX_CONDITION > values[0]))
            raise ValueError(
                f"patterns must be linearly independent, got {rank} independent ones for {len(kept)} inputs: show more"
            )
    return Columns(signs, n_inputs, 2.0 * mean, offset, background, float(values[0] / values[-1]))


def distinct_inputs(patterns: BoolArray, n_inputs: int) -> list[int]:
    """First input of each group of inputs that are always alike, without those that are always ON or OFF."""
    first: dict[bytes, int] = {}
    for number, column in enumerate(patterns.T):
        changes = column.any() and not column.all()
        if number < n_inputs and not changes:
            raise ValueError(
                f"patterns must show input {number} both ON and OFF, got {'ON' if column.any() else 'OFF'} in all "
                f"{len(patterns)} frames: leave it out (n_inputs), or show more patterns"
            )
        other = first.setdefault(column.tobytes(), number) if changes else number
        if other < n_inputs and other != number:
            raise ValueError(
                f"patterns must tell the inputs apart, got inputs {other} and {number} in the same state in all "
                f"{len(patterns)} frames: choose n_inputs, or show more patterns"
            )
    return list(first.values())
