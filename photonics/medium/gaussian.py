"""The Gaussian medium: a slab so thick that the entries of T are independent complex normals."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import psutil

from photonics import kernels
from photonics.arrays import Array, ComplexArray, FloatArray
from photonics.backend import Backend
from photonics.component import Field, Integer, Seed, component
from photonics.kernels.panels import Panels, Piece
from photonics.medium import streaming
from photonics.medium.base import check_rows
from photonics.medium.laws import LAWS, Slab
from photonics.medium.stored import StoredMedium
from photonics.medium.tiled import MIN_FRAMES, Sums, TiledMedium
from photonics.threads import for_blocks

__all__ = ["GaussianMedium"]

MAX_SHARE = 0.25
"""Largest share of the free memory that a matrix takes with `storage="auto"`."""
MAX_BYTES = 2**28
"""Largest matrix that is stored with `storage="auto"` in a medium that drifts, which keeps up to five of them."""

SMALL = 2**20
"""Bytes of a matrix up to which the free memory is not asked for."""


@component(kw_only=False)
class GaussianMedium(StoredMedium):
    """Transmission matrix with i.i.d. circular complex normal entries, ``E|t_ij|^2 = 1/n_in``.

    The unit is one of bookkeeping: a device multiplies the intensity by n_in (see `photonics.Imaging`), so that a
    mirror brings the same light to a pixel, however many inputs there are.

    Entry (i, j) is a function of ``(seed, i, j)`` alone: one Philox call with the counter
    ``(j, i // 2, 0, stream)`` gives the rows ``i`` and ``i + 1`` of a pair. So a streamed matrix equals the stored
    one, entry for entry and product for product, bit for bit.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, chapter 3 (fully developed speckle).
    C. W. J. Beenakker, Rev. Mod. Phys. 69, 731 (1997): entries of T are independent if there are many more channels
    than controlled ones.
    """

    n_in: Integer = Field(ge=1, lt=2**31)
    """Number of inputs (columns)."""

    n_out: Integer = Field(ge=1, lt=2**31)
    """Number of outputs (rows)."""

    seed: Seed = 0
    """Seed of the slab."""

    storage: Literal["stored", "streamed", "auto"] = "stored"
    """"stored" keeps the matrix in memory, 8 bytes per entry, computed on first use. "streamed" stores no matrix and
    draws each tile again for every product (for one frame, only the columns whose input is not zero). "auto" stores a
    matrix that takes less than a quarter of the free memory. Inside `Drifting`, where the two differ by rounding,
    "auto" does not look at the memory: it stores a matrix of at most 256 MiB."""

    entries: Literal["gaussian", "3bit"] = "gaussian"
    """"3bit" draws real and imaginary parts from {-13, -3, 3, 13}/7 with probabilities 1/8, 3/8, 3/8, 1/8, times
    ``sqrt(1/(2 n_in))``. It has the moments of the normal law up to the fifth (the fourth is 3 to 0.03 %; the sixth is
    10.3 instead of 15) and is drawn four times as fast. The speckle of many inputs is Gaussian all the same; the
    intensity of a single input has three levels."""

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.n_out, self.n_in

    @property
    def holds_matrix(self) -> bool:  # noqa: D102 (inherited)
        return not self.streamed

    @cached_property
    def streamed(self) -> bool:
        """Whether tiles are drawn again for each product."""
        if self.storage == "auto":
            return 8 * self.n_in * self.n_out > MAX_SHARE * psutil.virtual_memory().available
        return self.storage == "streamed"

    def with_fixed_storage(self) -> "GaussianMedium":  # noqa: D102 (inherited)
        if self.storage != "auto":
            return self
        fixed = replace(self)
        object.__setattr__(fixed, "streamed", 8 * self.n_in * self.n_out > MAX_BYTES)  # instead of the free memory
        object.__setattr__(fixed, "_storage", "streamed" if fixed.streamed else "stored")
        return fixed

    def rows(self, start: int, stop: int) -> "GaussianRows":  # noqa: D102 (inherited)
        check_rows(self, start, stop)
        storage = vars(self).get("_storage", self.storage)  # that of the whole, if it has been fixed
        return GaussianRows(self.n_in, stop - start, self.seed, storage, self.entries, self.first_row + start)

    @cached_property
    def _slab(self) -> Slab:
        """The entries, with the rows before the first one that are drawn together with it."""
        law = LAWS[self.entries]
        skipped = self.first_row % law.rows
        return Slab((skipped + self.n_out, self.n_in), self.seed, law, self.first_row - skipped)

    @property
    def _skipped(self) -> int:
        """Rows of `_slab` before the first output."""
        return self._slab.shape[0] - self.n_out

    @property
    def _min_frames(self) -> int:
        return 2 if self.streamed else MIN_FRAMES  # two frames one by one would draw every entry twice

    @property
    def _max_frames(self) -> int | None:
        return None if self.streamed else super()._max_frames

    @property
    def _panels(self) -> Panels:
        return self._drawn

    @cached_property
    def _drawn(self) -> Panels:
        needed = 4 * math.prod(Panels.array_shape(self.n_in, self.n_out))
        # A drifting medium draws small matrices many times in a second, and the system takes 0.1 ms for an answer.
        free = psutil.virtual_memory().available if needed > SMALL else SMALL
        if needed > free:
            other = "" if self.storage == "auto" else " or 'auto'"
            raise ValueError(
                f"storage must be 'streamed'{other} for a matrix of {needed / 1e9:.3g} GB where "
                f"{free / 1e9:.3g} GB are free, got {self.storage!r}"
            )
        panels = Panels(self.n_in, self.n_out)

        def fill(start: int, stop: int) -> None:
            panels.write(start, self._draw_rows(start, stop - start, 0, self.n_out))

        for_blocks(fill, self.n_in, max(2**18 // self.n_out, 1))
        return panels

    def _draw_rows(self, first_input: int, inputs: int, first_output: int, outputs: int) -> FloatArray:
        """Parts of some entries, (inputs, 2 outputs); only whole draws are made, so that a few more are drawn."""
        rows, first = self._slab.law.rows, self._skipped + first_output
        skipped = first % rows
        tile = np.empty((inputs, 2 * rows * -(-(skipped + outputs) // rows)), np.float32)
        self._draw(first_input, inputs, first, skipped + outputs, tile)
        return tile[:, 2 * skipped : 2 * (skipped + outputs)]

    def _draw(self, first_input: int, inputs: int, first: int, outputs: int, tile: FloatArray) -> None:
        slab, rows = self._slab, self._slab.law.rows
        group = (slab.first + first) // rows
        draws = -(-outputs // rows)
        kernels.entries.fill_columns(slab.law.three, first_input, inputs, group, draws, *slab.key, slab.scale, tile)

    def _fill(self, first_input: int, inputs: int, first_output: int, outputs: int, tile: FloatArray) -> None:
        if not self.streamed:
            super()._fill(first_input, inputs, first_output, outputs, tile)
        elif self._skipped:
            tile[:inputs, : 2 * outputs] = self._draw_rows(first_input, inputs, first_output, outputs)
        else:
            self._draw(first_input, inputs, first_output, outputs, tile)

    def _pieces(self, first_output: int, outputs: int) -> tuple[Callable[[int, int], Piece], int]:
        return (TiledMedium if self.streamed else StoredMedium)._pieces(self, first_output, outputs)

    def _add(self, x: FloatArray, binary: bool, first_output: int, total: Sums) -> None:
        if not self.streamed:
            super()._add(x, binary, first_output, total)
            return
        slab, rows, skipped = self._slab, self._slab.law.rows, self._skipped
        wide = np.zeros(2 * skipped + total.size) if skipped else total
        group, groups = (slab.first + first_output) // rows, -(-(wide.size // 2) // rows)
        tile = np.zeros((5, 2 * rows * groups), np.float32)
        work = kernels.entries.work_arrays(wide.size)
        where = np.flatnonzero(x)
        kernels.entries.add_columns(
            slab.law.three, x, where, binary, group, groups, *slab.key, slab.scale, tile, *work, wide
        )
        if skipped:
            total += wide[2 * skipped :]

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:  # noqa: D102 (inherited)
        if not self.streamed:
            return super().block(rows, cols, tick)
        r, c = range(self.n_out)[rows], range(self.n_in)[cols]
        if not (len(r) and len(c)):
            return np.empty((len(r), len(c)), np.complex64)
        first, left = min(r), min(c)
        tile = self._draw_rows(left, max(c) + 1 - left, first, max(r) + 1 - first).view(np.complex64)
        return tile[np.asarray(c) - left][:, np.asarray(r) - first].T.copy()

    def _on(self, backend: Backend, field: Array, adjoint: bool) -> Array:
        if not self.streamed:
            return super()._on(backend, field, adjoint)
        if not adjoint:
            product = streaming.propagate(self._slab, backend, field)
            return product[:, self._skipped :] + 0.0 if self._skipped else product
        if self._skipped:
            before = backend.zeros((field.shape[0], self._skipped), "complex64")
            field = backend.xp.concat([before, backend.xp.astype(field, backend.xp.complex64)], axis=1)
        return streaming.adjoint(self._slab, backend, field)

    def _copy(self, backend: Backend) -> Array:
        if backend not in self._copies:  # drawn on the device, so no upload is needed
            drawn = streaming.draw_tile(self._slab, backend, 0, self.n_in, 0, self._slab.shape[0])
            self._copies[backend] = drawn[:, self._skipped :] + 0.0 if self._skipped else drawn
        return self._copies[backend]

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return self.seed

    def fresh(self, seed: int) -> "GaussianMedium":  # noqa: D102 (inherited)
        return replace(self, seed=seed)


@component(kw_only=False)
class GaussianRows(GaussianMedium):
    """Some rows of a larger `GaussianMedium`; only these are drawn."""

    start: Integer = Field(default=0, ge=0, lt=2**31)
    """Number of the first row in the larger medium."""

    @property
    def first_row(self) -> int:
        return self.start
