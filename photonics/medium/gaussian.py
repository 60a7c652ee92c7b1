"""The Gaussian medium: a slab so thick that every entry of T is an independent complex normal."""

from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from photonics.component import integer
from photonics.kernels import cpu
from photonics.medium.stored import StoredMedium
from photonics.random import Stream, check_seed
from photonics.threads import for_blocks

__all__ = ["GaussianMedium"]

TILE_PAIRS = 64


class GaussianMedium(StoredMedium):
    """Transmission matrix with i.i.d. circular complex normal entries, ``E|t_ij|^2 = 1/n_in``.

    Entry (i, j) is a function of ``(seed, i, j)`` alone: one Philox call with the counter
    ``(j, i // 2, 0, stream)`` gives the rows ``i`` and ``i + 1`` of a pair.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs (columns) and outputs (rows), at least 1.
    seed : int
        Which slab it is, 0 to 2**64 - 1.
    storage : {"stored"}
        "stored" keeps the matrix in memory, 8 bytes for each entry, made on first use.

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

    def __init__(self, n_in: int, n_out: int, seed: int = 0, storage: Literal["stored"] = "stored") -> None:
        if storage != "stored":
            raise ValueError(f"storage must be 'stored', got {storage!r}")
        self.n_in, self.n_out = integer(n_in, "n_in", 1, 2**32 - 1), integer(n_out, "n_out", 1, 2**32 - 1)
        self.seed = check_seed(seed)
        self.storage = storage

    def __repr__(self) -> str:
        return f"GaussianMedium({self.n_in}, {self.n_out}, seed={self.seed}, storage={self.storage!r})"

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.n_out, self.n_in

    @cached_property
    def _rows(self) -> NDArray[np.float32]:
        pairs = -(-self.n_out // 2)
        rows = np.empty((4 * pairs, self.n_in), np.float32)
        scale = np.float32((2.0 * self.n_in) ** -0.5)  # each part carries half of 1/n_in

        def fill(start: int, stop: int) -> None:
            key = np.uint32(self.seed & 0xFFFFFFFF), np.uint32(self.seed >> 32)
            tile = rows[4 * start : 4 * stop]
            cpu.fill_gaussian_rows(start, 0, int(Stream.MATRIX), *key, scale, tile)

        for_blocks(fill, pairs, TILE_PAIRS)
        return rows[: 2 * self.n_out]

    def fresh(self, seed: int) -> "GaussianMedium":  # noqa: D102 (inherited)
        return GaussianMedium(self.n_in, self.n_out, seed, self.storage)

    def to_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        return {
            "type": "GaussianMedium",
            "n_in": self.n_in,
            "n_out": self.n_out,
            "seed": self.seed,
            "storage": self.storage,
        }
