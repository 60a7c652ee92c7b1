"""Creep of the speckle on the sensor, and of the pupil, by fractions of a pixel and of its radius.

The speckle moves along a row by a shift s: ``E'(x) = E(x - s)``, by the phase ``exp(-2 pi i f s)`` at each spatial
frequency, which interpolates the samples exactly (sinc) and is periodic at the edges. Without a pupil the samples are
independent grains: the field keeps the correlation ``sinc(s)`` with the one before, s in pixels, and its intensity
``sinc(s)^2``. With a pupil they keep `photonics.parts.pupil.correlation` and its square. The reference beam does not
move.

A pupil that moves by u of its radii takes other plane waves: ``P(f - f0)``, which is the pupil in the middle for the
field times ``exp(-2 pi i f0 x)``. The field on a point of the sensor keeps the share of the pupil's area that stays,
``(2 / pi) (acos(u / 2) - (u / 2) sqrt(1 - u^2 / 4))`` (circle) or ``1 - u / 2`` (square), until it is another pupil at
u = 2 (J. W. Goodman, *Speckle Phenomena in Optics*, 2nd ed., SPIE 2020, section 5.4). The edge of the pupil on the grid
is one cell wide, which raises the share by about 1/(3 r) of it for a radius of r cells.

Samples repeat: the pattern would return after a whole row, and the pupil after one cycle per sample. Larger shifts than
half a row, or than leave the old and the new pupil apart, are refused.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonics.arrays import Array, IntArray
from photonics.backend import Backend
from photonics.component import number
from photonics.parts.pupil import low_pass

__all__ = ["Creep"]


class Creep(NamedTuple):
    """Motion of the pattern in each frame of a batch."""

    columns: int
    """Samples in a row of the sensor."""
    shift: NDArray[np.float64]
    """Shift of the speckle along a row, samples, shape (batch,)."""
    pupil: NDArray[np.float64]
    """Shift of the pupil along a row, cycles per sample, shape (batch,)."""

    @classmethod
    def of(
        cls,
        columns: int,
        shift_per_s: float,
        pupil_per_s: float,
        radius: float,
        ticks: IntArray | None,
        frame_period_s: float | None,
        batch: int,
    ) -> "Creep":
        """Motion at two steady speeds, samples and cycles per sample in a second, from frame 0 on.

        `radius` is that of the pupil, cycles per sample.

        Raises
        ------
        ValueError
            If the frame numbers or the frame period are missing, or the motion is too large for the grid.
        """
        if ticks is None or len(ticks) != batch or not 0 < number(frame_period_s) < np.inf:
            raise ValueError(f"ticks ({batch},) and frame_period_s must be given for a pattern that creeps")
        time_s = number(frame_period_s) * np.asarray(ticks, np.float64)
        shift, pupil = shift_per_s * time_s, pupil_per_s * time_s
        if np.abs(shift).max(initial=0.0) >= columns / 2:
            raise ValueError(
                f"creep_m_per_s must move the pattern by less than half a row, {columns // 2} samples, up to the last "
                f"frame, got {np.abs(shift).max():.3g}"
            )
        if np.abs(pupil).max(initial=0.0) > max(1.0 - 2.0 * radius, 0.0):
            raise ValueError(
                f"pupil_creep_per_s must move the pupil by at most {max(1.0 / radius - 2.0, 0.0):.3g} radii up to the "
                f"last frame (take more samples), got {np.abs(pupil).max() / radius:.3g}"
            )
        return cls(columns, shift, pupil)

    def part(self, start: int, stop: int) -> "Creep":
        """Motion in some of the frames."""
        return Creep(self.columns, self.shift[start:stop], self.pupil[start:stop])

    def apply(self, field: Array, filter_: Array, backend: Backend) -> Array:
        """Field on the sensor: (batch, modes, rows, columns) behind a pupil `filter_` (rows, columns), or None."""
        if self.pupil.any():
            field = field * self._phasor(self.pupil, np.arange(self.columns), backend)
        moved = self._phasor(self.shift, np.fft.fftfreq(self.columns), backend)
        return low_pass(field, moved if filter_ is None else moved * filter_, backend)

    def _phasor(self, shift: NDArray[np.float64], place: NDArray[np.floating | np.integer], backend: Backend) -> Array:
        """``exp(-2 pi i shift place)``, (batch, 1, 1, columns) complex64."""
        turns = np.modf(shift[:, None] * place)[0]
        return backend.asarray(np.exp(-2j * np.pi * turns).astype(np.complex64)[:, None, None, :])
