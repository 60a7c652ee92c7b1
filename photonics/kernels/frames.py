"""Frames prepared for products with pieces of a transmission matrix, by the kind of their values."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from photonics.arrays import FloatArray, HostArray, IntArray
from photonics.kernels import product, tables
from photonics.kernels.panels import Piece, aligned_zeros
from photonics.kernels.tile import BLOCK, PANEL

__all__ = ["AnyFrames", "Frames", "prepare", "sum_pieces"]


class Frames(ABC):
    """Some rows of a batch. The order in which their terms are summed depends on the kind of frames alone."""

    rows: IntArray
    """Their numbers in the batch."""
    padded: int
    """Their number with padding, in sums."""

    @abstractmethod
    def add(self, piece: Piece, start: int, inputs: int, panels: int, sums: FloatArray) -> None:
        """Add the product with a piece, whose first input is number `start`, to sums of (panel, frame, part)."""


class AnyFrames(Frames):
    """Frames of any values, by fused multiply-adds."""

    def __init__(self, x: FloatArray, rows: IntArray) -> None:
        self.rows = rows
        self.padded, self.large = product.pad_frames(len(rows))
        self.x = aligned_zeros(self.padded * -(-x.shape[1] // 4) * 4)
        product.lay_out_frames(x if len(x) == len(rows) else x[rows], self.padded, self.large, self.x)

    def add(self, piece: Piece, start: int, inputs: int, panels: int, sums: FloatArray) -> None:  # noqa: D102 (inherited)
        product.add_frames(self.x, start, self.padded, self.large, *piece, inputs, panels, sums)


class BinaryFrames(Frames):
    """Frames of 0 and 1, by tables."""

    def __init__(self, x: FloatArray, rows: IntArray) -> None:
        self.rows, self.padded = rows, -(-len(rows) // tables.FRAMES) * tables.FRAMES
        self.codes = tables.encode(x if len(x) == len(rows) else x[rows], self.padded)

    def add(self, piece: Piece, start: int, inputs: int, panels: int, sums: FloatArray) -> None:
        table = aligned_zeros(tables.TABLE)
        tables.add_frames(self.codes, start, self.padded, *piece, inputs, panels, table, sums)


def prepare(x: FloatArray) -> list[Frames]:
    """Sort real frames, (frames, inputs), by the kind of their values."""
    binary = tables.find_binary(x)
    kinds = (BinaryFrames, np.flatnonzero(binary)), (AnyFrames, np.flatnonzero(~binary))
    return [kind(x, rows) for kind, rows in kinds if rows.size]


def sum_pieces(
    kinds: Sequence[Frames], pieces: Callable[[int, int], Piece], count: int, step: int, parts: int
) -> list[HostArray]:
    """Sums of each kind of frames over `count` inputs, flat, in the order panel, frame, part.

    ``pieces(k, inputs)`` returns the piece of the inputs from k on; it is called for `step` inputs at a time, a divisor
    of `BLOCK`.
    """
    panels = -(-parts // PANEL)
    sums = [aligned_zeros(panels * frames.padded * PANEL) for frames in kinds]
    totals = [np.zeros(each.size) for each in sums] if count > BLOCK else None
    for k in range(0, count, step):
        inputs = min(step, count - k)
        piece = pieces(k, inputs)
        for frames, each in zip(kinds, sums, strict=True):
            frames.add(piece, k, inputs, panels, each)
        if totals is not None and ((k + step) % BLOCK == 0 or k + step >= count):
            for total, each in zip(totals, sums, strict=True):
                total += each
                each[:] = 0.0
    return list(sums if totals is None else totals)
