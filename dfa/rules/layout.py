"""The slices of B that teach each block and call."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Layout", "Slice"]


class Slice(NamedTuple):
    """Rows of B for one call of a block."""

    block: int
    """Position of the block."""
    call: int
    """Number of the call of this block, from 0."""
    width: int
    """Number of rows."""


class Layout:
    """Slices in the order in which they lie in B.

    The first step decides the order. A slice stays where it is if a block is skipped, or called with a shorter output:
    a shorter signal is the start of the longer one. A block or a length that is new is added at the end.

    Parameters
    ----------
    slices : iterable of (block, call, width)
        Slices of an earlier run.
    """

    def __init__(self, slices: Iterable[Sequence[int]] = ()) -> None:
        self.slices = [Slice(*map(int, one)) for one in slices]

    def widths(self, wanted: Sequence[Slice]) -> list[int]:
        """Widths of all slices, after those that are missing for the wanted signals have been added."""
        if self.slices != wanted:
            for block, call, width in wanted:
                missing = width - sum(s.width for s in self.slices if s[:2] == (block, call))
                if missing > 0:
                    self.slices.append(Slice(block, call, missing))
        return [s.width for s in self.slices]

    def place(self, targets: Sequence[Tensor | None], wanted: Sequence[Slice]) -> list[Tensor | None]:
        """Targets in the order of all slices; None for a slice that no target fits, by block, call and width."""
        found = dict(zip(wanted, targets, strict=True))
        return [found.get(s) for s in self.slices]

    def take(self, signals: Sequence[Tensor], wanted: Sequence[Slice]) -> list[Tensor]:
        """Wanted signals, (rows, width), from those of all slices, which have variances of 1 over the width."""
        if self.slices == wanted:
            return list(signals)
        found = []
        for block, call, width in wanted:
            parts = [
                signal * math.sqrt(s.width / width) if s.width != width else signal
                for s, signal in zip(self.slices, signals, strict=True)
                if s[:2] == (block, call)
            ]
            found.append(torch.cat(parts, dim=1)[:, :width] if len(parts) > 1 else parts[0][:, :width])
        return found
