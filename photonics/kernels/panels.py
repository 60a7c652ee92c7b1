"""A transmission matrix in memory, in the order in which products read it."""

from typing import NamedTuple

import numpy as np

from photonics.arrays import ComplexArray, FloatArray
from photonics.kernels.tile import PANEL

__all__ = ["Panels", "Piece", "aligned_zeros"]

LINE = 64
"""Bytes of a cache line."""
TOGETHER = 4
"""Inputs that the products take at a time."""


def aligned_zeros(size: int) -> FloatArray:
    """Zeros that begin on a cache line: (size,) float32."""
    raw = np.zeros(4 * size + LINE, np.uint8)
    first = -raw.ctypes.data % LINE
    return raw[first : first + 4 * size].view(np.float32)


class Piece(NamedTuple):
    """A part of a transmission matrix in a flat array: real and imaginary parts alternate, in panels of `PANEL`."""

    floats: FloatArray
    """Flat array that holds it."""
    first: int
    """Place of its first part."""
    row: int
    """Floats from an input to the next."""
    panel: int
    """Floats from a panel to the next."""


class Panels:
    """A matrix stored panel by panel: float32 of shape (panels, rows, `PANEL`), aligned to cache lines.

    A row holds the real and imaginary parts of 16 outputs of one input. Products read a panel from one end to the
    other. Outputs are padded with zeros to a multiple of 16, inputs to a multiple of 4 with at least one row of zeros.
    This is the only copy of the matrix, with the same layout on every processor.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        self.n_in, self.n_out = n_in, n_out
        shape = self.array_shape(n_in, n_out)
        self.array: FloatArray = aligned_zeros(int(np.prod(shape))).reshape(shape)

    @staticmethod
    def array_shape(n_in: int, n_out: int) -> tuple[int, int, int]:
        """Panels, rows and `PANEL`."""
        return -(-2 * n_out // PANEL), TOGETHER * (n_in // TOGETHER + 1), PANEL

    @property
    def zero_row(self) -> int:
        """Number of a row of zeros."""
        return self.n_in

    def piece(self, first_input: int, first_output: int) -> Piece:
        """Everything from an input and an output on; `first_output` is a multiple of 16."""
        rows = self.array.shape[1]
        first = (2 * first_output // PANEL * rows + first_input) * PANEL
        return Piece(self.array.reshape(-1), first, PANEL, rows * PANEL)

    def write(self, first_input: int, parts: FloatArray) -> None:
        """Store the rows from `first_input` on: (inputs, 2 n_out or more)."""
        inputs = slice(first_input, first_input + len(parts))
        full, rest = divmod(2 * self.n_out, PANEL)
        whole = parts[:, : full * PANEL].reshape(len(parts), full, PANEL)
        self.array[:full, inputs] = whole.transpose(1, 0, 2)
        if rest:
            self.array[full, inputs, :rest] = parts[:, full * PANEL : 2 * self.n_out]

    def share(self, start: int, stop: int) -> "Panels":
        """Copy of the outputs from `start` to before `stop`."""
        share, together = Panels(self.n_in, stop - start), max(2**18 // (stop - start), 1)
        for first in range(0, self.n_in, together):
            columns = self.read(slice(first, first + together), slice(start, stop))
            share.write(first, columns.view(np.float32))
        return share

    def read(self, inputs: slice, outputs: slice) -> ComplexArray:
        """Copy of the transposed matrix, complex64: (inputs, outputs)."""
        wanted = range(self.n_out)[outputs]
        if not wanted:
            return np.empty((len(range(self.n_in)[inputs]), 0), np.complex64)
        first, last = min(wanted), max(wanted) + 1
        begin, end = 2 * first // PANEL, -(-2 * last // PANEL)
        part = self.array[begin:end, : self.n_in][:, inputs].transpose(1, 0, 2)
        columns = part.reshape(part.shape[0], (end - begin) * PANEL).view(np.complex64)
        offset = begin * PANEL // 2
        return columns[:, first - offset : last - offset][:, :: wanted.step].copy()

    def __getstate__(self) -> tuple[int, int, FloatArray]:
        return self.n_in, self.n_out, self.array

    def __setstate__(self, state: tuple[int, int, FloatArray]) -> None:
        n_in, n_out, array = state
        self.__init__(n_in, n_out)  # an aligned array
        self.array[...] = array
