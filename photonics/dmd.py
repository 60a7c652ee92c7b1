"""The digital micromirror device: which patterns it can show, and the field that leaves it."""

import cmath
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from photonics import draw
from photonics.component import Field, component
from photonics.laser import Cells
from photonics.random import Stream

__all__ = ["DMD"]


@component
class DMD:
    """Binary micromirror array; a logical input is a macropixel of k x k mirrors.

    The macropixels form a near-square grid in the middle of the chip, input 0 at the top left, row by row.
    A mirror that is OFF still sends ``eps exp(i phi)`` of the field, ``eps = 1/sqrt(contrast)``. Defaults are
    those of a 0.7" XGA chip.
    """

    columns: int = Field(default=1024, ge=1, le=16384)
    """Mirrors in a row (XGA)."""

    rows: int = Field(default=768, ge=1, le=16384)
    """Mirrors in a column (XGA)."""

    pitch_m: float = Field(default=13.68e-6, gt=0, le=1e-3)
    """Distance between mirrors, metres (0.7" XGA data sheet)."""

    macropixel: int = Field(default=8, ge=1, le=1024)
    """Mirrors along the side of a logical input."""

    contrast: float | None = Field(default=1000.0, gt=1)
    """All-ON over all-OFF intensity (500 to 2000 in data sheets); None for no leakage."""

    leakage_phase_rad: float = Field(default=0.0, ge=-math.pi, le=math.pi)
    """Phase of the leaked light against ON light, radians. Not known on a bench. At 0 the field stays real and
    the product half as expensive; another phase turns the quadrature that an interference with light of the same
    mirrors measures, by about ``2 eps sin(phi)``."""

    stuck_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of mirrors that do not move (0 to 1e-6 on a good chip); half of them are stuck ON."""

    frame_rate_hz: float = Field(default=22_700.0, gt=0, le=32_552.0)
    """Highest rate of binary patterns, Hz: 30.72 us load and 13 us settle on the XGA chip."""

    seed: int = Field(default=0, ge=0, lt=2**64)
    """Which chip it is: places the stuck mirrors."""

    @property
    def leakage(self) -> complex:
        """Field of an OFF mirror relative to an ON one, ``exp(i phi) / sqrt(contrast)``."""
        return 0j if self.contrast is None else cmath.rect(self.contrast**-0.5, self.leakage_phase_rad)

    def grid(self, n_in: int) -> tuple[int, int]:
        """Rows and columns of macropixels that hold `n_in` inputs.

        Raises
        ------
        ValueError
            If they do not fit on the chip.
        """
        most_rows, most_columns = self.rows // self.macropixel, self.columns // self.macropixel
        if not 1 <= n_in <= most_rows * most_columns:
            raise ValueError(
                f"n_in must be 1 to {most_rows * most_columns} on a chip of {self.columns} x {self.rows} mirrors "
                f"with macropixel {self.macropixel}, got {n_in}"
            )
        side = math.isqrt(n_in - 1) + 1
        columns = min(max(side, -(-n_in // most_rows)), most_columns)
        return -(-n_in // columns), columns

    def cells(self, n_in: int) -> Cells:
        """Place of each logical input in the plane of the mirrors, metres from the chip's centre."""
        rows, columns = self.grid(n_in)
        side = self.macropixel * self.pitch_m
        row, column = np.divmod(np.arange(n_in), columns)
        left = (column - columns / 2.0) * side
        bottom = (rows / 2.0 - 1.0 - row) * side
        return Cells(left, left + side, bottom, bottom + side)

    def chip(self) -> Cells:
        """The whole chip as one cell."""
        x, y = self.columns * self.pitch_m / 2.0, self.rows * self.pitch_m / 2.0
        return Cells(np.array([-x]), np.array([x]), np.array([-y]), np.array([y]))

    def levels(self, n_in: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
        """Field that an input sends when OFF and when ON, relative to all its mirrors ON; two (n_in,) arrays."""
        stuck_off, stuck_on = stuck_shares(self, n_in)
        eps = self.leakage
        off, on = stuck_on + eps * (1.0 - stuck_on), 1.0 - stuck_off + eps * stuck_off
        return off.astype(np.complex64), on.astype(np.complex64)

    def modulate(self, patterns: NDArray[np.bool_], field: NDArray[np.float32]) -> NDArray[np.inexact]:
        """Field that leaves the mirrors: (batch, n_in) patterns and incident field -> (batch, n_in).

        float32 while the leakage is in phase with the ON light, complex64 otherwise.
        """
        off, on = self.levels(patterns.shape[1])
        if not (off.imag.any() or on.imag.any()):
            off, on = off.real, on.real
        return np.where(patterns, on, off) * field


@lru_cache(maxsize=8)
def stuck_shares(dmd: DMD, n_in: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each input's mirrors that is stuck OFF, and stuck ON; read-only (n_in,) arrays.

    A mirror is known by its place on the chip, so its fate does not depend on `macropixel` or `n_in`.
    """
    rows, columns = dmd.grid(n_in)
    shares = np.zeros((2, rows * columns))
    if dmd.stuck_fraction:
        k = dmd.macropixel
        top, left = (dmd.rows - rows * k) // 2, (dmd.columns - columns * k) // 2
        y, x = np.mgrid[top : top + rows * k, left : left + columns * k]
        fate = draw.uniforms(dmd.seed, Stream.STUCK_MIRROR, np.ravel(y * dmd.columns + x)).reshape(rows, k, columns, k)
        stuck, on = fate < dmd.stuck_fraction, fate < dmd.stuck_fraction / 2.0
        for state, hit in enumerate((stuck & ~on, on)):
            shares[state] = hit.mean(axis=(1, 3)).ravel()
    shares.flags.writeable = False
    return shares[0, :n_in], shares[1, :n_in]
