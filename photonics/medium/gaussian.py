"""The Gaussian medium: a slab so thick that every entry of T is an independent complex normal."""

from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from photonics import draws
from photonics.backend import Backend
from photonics.component import integer
from photonics.kernels import entries as kernels
from photonics.kernels.threads import for_blocks
from photonics.medium import streaming
from photonics.medium.stored import StoredMedium
from photonics.medium.tiled import FEW
from photonics.random import Stream, check_seed

__all__ = ["GaussianMedium"]

STORAGE = ("stored", "streamed", "auto")
SHARE = 0.25
"""Share of the memory that is free which `storage="auto"` lets a matrix take."""


class Law(NamedTuple):
    """How entries are drawn: rows that come together, and the kernels."""

    stream: Stream
    rows: int
    fill: Any
    add: Any
    divisor: float


LAWS = {
    "gaussian": Law(Stream.MATRIX, 2, kernels.fill_gaussian, kernels.add_gaussian, 1.0),
    "3bit": Law(Stream.THREE_BIT, kernels.GROUP, kernels.fill_three_bit, kernels.add_three_bit, 7.0),
}


class GaussianMedium(StoredMedium):
    """Transmission matrix with i.i.d. circular complex normal entries, ``E|t_ij|^2 = 1/n_in``.

    Entry (i, j) is a function of ``(seed, i, j)`` alone: one Philox call with the counter
    ``(j, i // 2, 0, stream)`` gives the rows ``i`` and ``i + 1`` of a pair. So a matrix that is streamed equals the
    stored one, entry for entry and product for product, bit for bit.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs (columns) and outputs (rows), at least 1.
    seed : int
        Which slab it is, 0 to 2**64 - 1.
    storage : {"stored", "streamed", "auto"}
        "stored" keeps the matrix in memory, 8 bytes for each entry, made on first use. "streamed" keeps nothing and
        draws each tile again for every product (at one frame, only the columns whose input is not zero).
        "auto" stores a matrix that takes less than a quarter of the memory that is free.
    entries : {"gaussian", "3bit"}
        "3bit" draws real and imaginary parts from {-13, -3, 3, 13}/7 with probabilities 1/8, 3/8, 3/8, 1/8, times
        ``sqrt(1/(2 n_in))``: the moments of the normal law up to the fifth (the fourth is 3 to 0.03 %; the sixth
        is 10.3 instead of 15), four times as fast to draw. The speckle of many inputs is Gaussian all the same; the
        intensity of a single one has three levels.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, chapter 3 (fully developed speckle).
    C. W. J. Beenakker, Rev. Mod. Phys. 69, 731 (1997): entries of T are independent for a number of
    channels well above that which is controlled.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        seed: int = 0,
        storage: Literal["stored", "streamed", "auto"] = "stored",
        entries: Literal["gaussian", "3bit"] = "gaussian",
    ) -> None:
        if storage not in STORAGE:
            raise ValueError(f"storage must be one of {STORAGE}, got {storage!r}")
        if entries not in tuple(LAWS):
            raise ValueError(f"entries must be one of {tuple(LAWS)}, got {entries!r}")
        self.n_in, self.n_out = integer(n_in, "n_in", 1, 2**31 - 1), integer(n_out, "n_out", 1, 2**31 - 1)
        self.seed = check_seed(seed)
        self.storage: Literal["stored", "streamed", "auto"] = storage
        self.entries: Literal["gaussian", "3bit"] = entries

    def __repr__(self) -> str:
        law = "" if self.entries == "gaussian" else f", entries={self.entries!r}"
        return f"GaussianMedium({self.n_in}, {self.n_out}, seed={self.seed}, storage={self.storage!r}{law})"

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.n_out, self.n_in

    @cached_property
    def streamed(self) -> bool:
        """Whether tiles are drawn again for each product."""
        if self.storage == "auto":
            return 8 * self.n_in * self.n_out > SHARE * psutil.virtual_memory().available
        return self.storage == "streamed"

    @property
    def _law(self) -> Law:
        return LAWS[self.entries]

    @property
    def _scale(self) -> np.float32:
        return np.float32((2.0 * self.n_in) ** -0.5 / self._law.divisor)  # each part carries half of 1/n_in

    @property
    def _few(self) -> int:
        return 2 if self.streamed else FEW  # two frames alone would draw everything twice

    @cached_property
    def _columns(self) -> NDArray[np.complex64]:
        needed, free = 8 * self.n_in * self.n_out, psutil.virtual_memory().available
        if needed > free:
            raise ValueError(
                f"storage must be 'streamed' or 'auto' for a matrix of {needed / 1e9:.3g} GB where "
                f"{free / 1e9:.3g} GB are free, got {self.storage!r}"
            )
        columns = np.empty((self.n_in, self.n_out), np.complex64)
        parts = columns.view(np.float32)

        def fill(start: int, stop: int) -> None:
            spare = self._draw_rows(start, stop - start, 0, self.n_out)
            parts[start:stop] = spare[:, : 2 * self.n_out]

        for_blocks(fill, self.n_in, max(2**18 // self.n_out, 1))
        return columns

    def _draw_rows(self, first_input: int, inputs: int, first_output: int, outputs: int) -> NDArray[np.float32]:
        """Tile of any size, with its parts rounded up to whole draws; `first_output` begins one."""
        groups = -(-outputs // self._law.rows)
        tile = np.empty((inputs, 2 * self._law.rows * groups), np.float32)
        self._draw(first_input, inputs, first_output, outputs, tile)
        return tile

    def _draw(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: NDArray[np.float32]) -> None:
        law = self._law
        first, groups = first_output // law.rows, -(-outputs // law.rows)
        law.fill(first_input, inputs, first, groups, int(law.stream), *draws.key(self.seed), self._scale, tile)

    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: NDArray[np.float32]) -> None:
        if self.streamed:
            self._draw(first_input, inputs, first_output, outputs, tile)
        else:
            super()._fill(first_input, inputs, first_output, outputs, tile)

    def _add(self, x: NDArray[np.float32], first_output: int, sums: NDArray[np.float32]) -> None:
        if not self.streamed:
            return super()._add(x, first_output, sums)
        law = self._law
        first, groups = first_output // law.rows, -(-(sums.size // 2) // law.rows)
        buffer = np.empty(2 * law.rows * groups, np.float32)
        key, where = draws.key(self.seed), np.flatnonzero(x)
        return law.add(x, where, first, groups, int(law.stream), *key, self._scale, buffer, sums)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:  # noqa: D102 (inherited)
        if not self.streamed:
            return super().block(rows, cols, tick)
        r, c = range(self.n_out)[rows], range(self.n_in)[cols]
        if not (len(r) and len(c)):
            return np.empty((len(r), len(c)), np.complex64)
        first = min(r) // self._law.rows * self._law.rows
        left = min(c)
        tile = self._draw_rows(left, max(c) + 1 - left, first, max(r) + 1 - first).view(np.complex64)
        return tile[np.asarray(c) - left][:, np.asarray(r) - first].T.copy()

    def _on(self, backend: Backend, field: Any, adjoint: bool) -> Any:
        product_ = streaming.adjoint if adjoint else streaming.propagate
        return product_(self, backend, field) if self.streamed else super()._on(backend, field, adjoint)

    def _copy(self, backend: Backend) -> Any:
        if backend not in self._copies:  # drawn there: nothing is uploaded
            self._copies[backend] = streaming.tile(self, backend, 0, self.n_in, 0, self.n_out)
        return self._copies[backend]

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return self.seed

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_columns"}  # drawn again

    def fresh(self, seed: int) -> "GaussianMedium":  # noqa: D102 (inherited)
        return GaussianMedium(self.n_in, self.n_out, seed, self.storage, self.entries)

    def to_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        return {
            "type": "GaussianMedium",
            "n_in": self.n_in,
            "n_out": self.n_out,
            "seed": self.seed,
            "storage": self.storage,
            "entries": self.entries,
        }
