"""The laser: how much light there is, where it falls on the mirrors, and how it fluctuates."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.constants import c, h
from scipy.special import erf

from photonics import draw
from photonics.component import Field, component
from photonics.random import Stream

__all__ = ["Cells", "Laser"]


FLAT_TOP_M = 7e-3
"""Radius of the Gaussian beam whose peak a laser without a beam radius has everywhere, metres."""


class Cells(NamedTuple):
    """Rectangles in the plane of the mirrors, in metres from the optical axis; arrays of shape (n,)."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    bottom: NDArray[np.float64]
    top: NDArray[np.float64]


@component
class Laser:
    """Continuous-wave laser with a Gaussian beam centred on the mirrors.

    The relative power of a frame is ``1 + drift + RIN``, the same for every pixel of the frame: a stationary
    Ornstein-Uhlenbeck drift, and white intensity noise averaged over the exposure. Defaults are those of a
    diode-pumped solid-state laser.
    """

    power_w: float = Field(default=0.1, gt=0, le=100)
    """Optical power, watts (100 mW DPSS)."""

    wavelength_m: float = Field(default=532e-9, ge=200e-9, le=2e-6)
    """Wavelength, metres (frequency-doubled Nd:YAG)."""

    beam_radius_m: float | None = Field(default=7e-3, gt=0)
    """Radius at which the intensity is 1/e^2 of its peak, metres; None lights every cell equally, as if the
    peak of a beam of `FLAT_TOP_M` radius went on for ever."""

    rin_db_per_hz: float | None = Field(default=-140.0, le=-60)
    """Relative intensity noise, dB/Hz, one-sided and white up to the exposure's bandwidth; None for none."""

    drift_rms: float = Field(default=0.005, ge=0, le=0.1)
    """Relative rms of the slow power drift (0.5 %, data sheets of DPSS lasers)."""

    drift_time_s: float = Field(default=3600.0, gt=0)
    """Correlation time of the drift, seconds (1 h): autocorrelation ``exp(-t / drift_time_s)``."""

    @property
    def photons_per_joule(self) -> float:
        """``lambda / (h c)``: 2.68e18 at 532 nm."""
        return self.wavelength_m / (h * c)

    @property
    def photon_rate(self) -> float:
        """Photons per second in the whole beam, ``P lambda / (h c)``."""
        return self.power_w * self.photons_per_joule

    def power_share(self, cells: Cells) -> NDArray[np.float64]:
        """Share of the beam's power that falls on each cell, shape (n,).

        The integral of ``2/(pi w^2) exp(-2 r^2 / w^2)`` over a rectangle. Over a chip of half-widths a, b it
        is ``erf(sqrt(2) a/w) erf(sqrt(2) b/w)``.
        """
        if self.beam_radius_m is None:
            area = (cells.right - cells.left) * (cells.top - cells.bottom)
            return area / (math.pi * FLAT_TOP_M**2 / 2.0)
        scale = math.sqrt(2.0) / self.beam_radius_m
        x = erf(scale * cells.right) - erf(scale * cells.left)
        y = erf(scale * cells.top) - erf(scale * cells.bottom)
        return x * y / 4.0

    def power_variance(self, exposure_s: float) -> float:
        """Relative variance of the power of a frame: ``drift_rms^2 + RIN / (2 t)``."""
        return self.drift_rms**2 + self.rin_variance(exposure_s)

    def rin_variance(self, exposure_s: float) -> float:
        """Relative variance of a frame by intensity noise, ``10^(RIN/10) / (2 t)`` (white noise averaged over t)."""
        return 0.0 if self.rin_db_per_hz is None else 10.0 ** (self.rin_db_per_hz / 10.0) / (2.0 * exposure_s)

    def relative_power(
        self, ticks: NDArray[np.int64], exposure_s: float, frame_period_s: float, seed: int
    ) -> NDArray[np.float64]:
        """Power of each frame over the nominal power, shape (batch,); never negative."""
        power = np.ones(len(ticks))
        if self.drift_rms:
            step = frame_period_s / self.drift_time_s
            power += self.drift_rms * draw.ornstein_uhlenbeck(seed, Stream.LASER_DRIFT, ticks, step)
        if self.rin_db_per_hz is not None:
            rms = math.sqrt(self.rin_variance(exposure_s))
            power += rms * draw.normals(seed, Stream.RIN, np.zeros_like(ticks), ticks)
        return np.maximum(power, 0.0)

    def field(
        self,
        cells: Cells,
        ticks: NDArray[np.int64],
        *,
        exposure_s: float,
        frame_period_s: float,
        seed: int,
    ) -> NDArray[np.float32]:
        """Real amplitude on each cell in each frame, sqrt(photons / s): (batch, n)."""
        profile = np.sqrt(self.photon_rate * self.power_share(cells)).astype(np.float32)
        power = self.relative_power(ticks, exposure_s, frame_period_s, seed)
        return np.sqrt(power).astype(np.float32)[:, None] * profile
