"""The laser: power, beam on the mirrors, fluctuations and coherence."""

import math
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.constants import c, h

from photonics import draws
from photonics.arrays import Array, IntArray, Shapes
from photonics.backend import HOST, Backend
from photonics.component import Field, component, number
from photonics.parts.vibration import POINTING, vibration
from photonics.random import Stream

__all__ = ["Cells", "Laser", "mode_weights"]


FLAT_TOP_M = 7e-3
"""Radius of the Gaussian beam whose peak intensity is used for a uniform beam (`beam_radius_m` None), metres."""
MAX_COHERENCE_TIMES = 100.0
"""Largest path-time spread for which spectral modes are computed, in coherence times ``1 / (2 pi linewidth)``."""


@dataclass(frozen=True, eq=False, repr=False)
class Cells(Shapes):
    """Rectangles on a grid in the plane of the mirrors, row by row from the top left; metres from the optical axis.

    Only the lines of the grid are stored, so that a product of a function of x and a function of y costs one evaluation
    per row and per column.
    """

    x_edges: NDArray[np.float64]
    """Boundaries of the columns, ascending, shape (columns + 1,)."""

    y_edges: NDArray[np.float64]
    """Boundaries of the rows, from the top down, shape (rows + 1,)."""

    count: int
    """Number of cells n: the last row may have fewer than the others."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.y_edges) - 1, len(self.x_edges) - 1

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centre of each cell, x and y, metres: (2, n)."""
        x, y = (self.x_edges[:-1] + self.x_edges[1:]) / 2.0, (self.y_edges[:-1] + self.y_edges[1:]) / 2.0
        return np.stack(np.broadcast_arrays(x[None, :], y[:, None])).reshape(2, -1)[:, : self.count]


@component
class Laser:
    """Continuous-wave laser with a Gaussian beam centred on the mirrors.

    The relative power of a frame is ``1 + drift + RIN + warm_up exp(-t / warm_up_time_s)``, the same for every pixel of
    the frame: a stationary Ornstein-Uhlenbeck drift, white intensity noise averaged over the exposure, and a transient
    that begins with frame 0, when the laser is switched on. The beam's centre moves from frame
    to frame by the lever times the pointing and the vibration. Defaults are those of a diode-pumped solid-state laser.
    """

    power_w: float = Field(default=0.1, gt=0, le=100)
    """Optical power, watts (100 mW DPSS)."""

    wavelength_m: float = Field(default=532e-9, ge=200e-9, le=2e-6)
    """Wavelength, metres (frequency-doubled Nd:YAG)."""

    linewidth_hz: float = Field(default=1e6, ge=0, le=1e13)
    """Full width at half maximum of the Lorentzian line, Hz (1 MHz, data sheets of DPSS lasers)."""

    beam_radius_m: float | None = Field(default=7e-3, gt=0, le=0.1)
    """Radius at which the intensity is 1/e^2 of its peak, metres (7 mm, about the half-width of a 0.7" chip). None
    lights every cell equally, with the peak intensity of a beam of `FLAT_TOP_M` radius; a chip larger than 77 mm^2, the
    area of that beam, then receives more than the power of the laser."""

    rin_db_per_hz: float | None = Field(default=-140.0, le=-60)
    """Relative intensity noise, dB/Hz, one-sided and white up to the bandwidth of the exposure (-140 dB/Hz, DPSS); None
    for none."""

    drift_rms: float = Field(default=0.005, ge=0, le=0.1)
    """Relative rms of the slow power drift (0.5 %, data sheets of DPSS lasers)."""

    drift_time_s: float = Field(default=3600.0, gt=0)
    """Correlation time of the drift, seconds (1 h): autocorrelation ``exp(-t / drift_time_s)``."""

    warm_up: float = Field(default=0.0, ge=-0.9, le=10)
    """Relative excess of the power at frame 0, negative for a laser that gets brighter (0: switched on long before;
    data sheets of DPSS lasers state the power after the warm-up only). Moments (`OPU.mean`) are those of the warm
    laser."""

    warm_up_time_s: float = Field(default=200.0, gt=0)
    """Time constant of the warm-up, seconds (200 s: 5 % of the excess is left after the 10 minutes of warm-up that data
    sheets of DPSS lasers ask for)."""

    pointing_rad: float = Field(default=5e-6, ge=0, le=1e-3)
    """Rms angle of the beam about its mean, radians per axis (5 urad, data sheets of DPSS lasers), independent from
    frame to frame. On a real bench part of it is slower than a frame."""

    vibration_rad: float = Field(default=0.0, ge=0, le=1e-3)
    """Rms angle of a vibration of the beam, radians per axis (0 is a quiet table; fans and pumps shake mounts by some
    1e-6): a sine of the frame's time (`photonics.parts.vibration`), each axis with its own start."""

    vibration_hz: float = Field(default=50.0, gt=0, le=1e6)
    """Frequency of the vibration, Hz (50, a motor on the mains). Above half the frame rate it appears at its alias."""

    pointing_lever_m: float = Field(default=1.0, ge=0, le=100)
    """Distance from laser to mirrors, metres, which converts the angle into a shift (1 m, an estimate)."""

    def steady(self) -> "Laser":
        """The same laser, warm, without intensity noise, drift, pointing and vibration."""
        return replace(self, rin_db_per_hz=None, drift_rms=0.0, pointing_rad=0.0, vibration_rad=0.0, warm_up=0.0)

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
        along_x, along_y = self._share(cells.x_edges), self._share(cells.y_edges)
        return (along_y[:, None] * along_x).reshape(-1)[: cells.count]

    def _share(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the power between neighbouring boundaries along one axis: (..., lines) -> (..., lines - 1)."""
        if self.beam_radius_m is None:
            return np.abs(np.diff(edges)) / (math.sqrt(math.pi / 2.0) * FLAT_TOP_M)
        return np.abs(np.diff(scipy.special.erf(math.sqrt(2.0) / self.beam_radius_m * edges))) / 2.0

    def power_variance(self, exposure_s: float) -> float:
        """Relative variance of the power of a frame: ``drift_rms^2 + RIN / (2 t)``."""
        return self.drift_rms**2 + self.rin_variance(exposure_s)

    def rin_variance(self, exposure_s: float) -> float:
        """Relative variance of a frame due to intensity noise, ``10^(RIN/10) / (2 t)`` (white noise averaged)."""
        return 0.0 if self.rin_db_per_hz is None else 10.0 ** (self.rin_db_per_hz / 10.0) / (2.0 * exposure_s)

    def relative_power(
        self, ticks: IntArray, exposure_s: float, frame_period_s: float, seed: int
    ) -> NDArray[np.float64]:
        """Power of each frame over the nominal power, shape (batch,); never negative."""
        power = np.ones(len(ticks))
        if self.warm_up:
            power += self.warm_up * np.exp(-frame_period_s / self.warm_up_time_s * ticks)
        if self.drift_rms:
            step = frame_period_s / self.drift_time_s
            power += self.drift_rms * draws.ornstein_uhlenbeck(seed, Stream.LASER_DRIFT, ticks, step)
        if self.rin_db_per_hz is not None:
            rms = math.sqrt(self.rin_variance(exposure_s))
            power += rms * draws.normals(seed, Stream.RIN, np.zeros_like(ticks), ticks)
        return np.maximum(power, 0.0)

    @property
    def pointing_shift_m(self) -> float:
        """Rms shift of the beam's centre on the mirrors, metres per axis; 0 for a uniform beam."""
        rms = math.hypot(self.pointing_rad, self.vibration_rad)
        return 0.0 if self.beam_radius_m is None else rms * self.pointing_lever_m

    def pointing(self, ticks: IntArray, seed: int, frame_period_s: float = 0.0) -> NDArray[np.float64]:
        """Centre of the beam on the mirrors in each frame, metres from the axis: x and y, shape (2, batch)."""
        axes = (Stream.POINTING_X, Stream.POINTING_Y)
        lever = 0.0 if self.beam_radius_m is None else self.pointing_lever_m
        white = np.stack([draws.normals(seed, axis, 0, ticks) for axis in axes], dtype=np.float64)
        shift = self.pointing_rad * lever * white
        if not self.vibration_rad:
            return shift
        sines = [vibration(ticks, self.vibration_hz, frame_period_s, seed, axis) for axis in POINTING]
        return shift + self.vibration_rad * lever * np.stack(sines)

    def pointing_gradient(self, cells: Cells) -> NDArray[np.float64]:
        """Relative change of the amplitude on each cell for an rms shift of the beam along x and along y, shape (2, n).

        ``d ln(amplitude) / d shift = 2 x / w^2`` at the centre of the cell, times `pointing_shift_m`. To first order
        the relative variance of the amplitude is the sum of the squares over the axes, and the covariance of two cells
        the sum of the products. Relative error for a cell of side s: ``s^2 / (3 w^2)``, 8e-5 for the default mirrors
        and beam.
        """
        if not self.pointing_shift_m or self.beam_radius_m is None:
            return np.zeros((2, cells.count))
        return cells.centres * (2.0 * self.pointing_shift_m / self.beam_radius_m**2)

    def field(
        self,
        cells: Cells,
        ticks: IntArray,
        *,
        exposure_s: float,
        frame_period_s: float,
        seed: int,
        backend: Backend = HOST,
    ) -> Array:
        """Real amplitude on each cell in each frame, sqrt(photons / s).

        It is the square root of the power on the cell, for cells of any size. A Gaussian is a product of a function of
        x and a function of y, so a frame costs one product per cell for any direction of the beam.

        Parameters
        ----------
        cells : Cells
            The n cells.
        ticks : ndarray of int64, shape (batch,)
            Frame numbers.
        exposure_s, frame_period_s : float
            Exposure, and time from one frame to the next, seconds.
        seed : int
            Seed of the run.
        backend : Backend
            Library and device of the result.

        Returns
        -------
        array of float32, shape (batch, n)
        """
        rate = self.photon_rate * self.relative_power(ticks, exposure_s, frame_period_s, seed)
        x_edges, y_edges = cells.x_edges[None, :], cells.y_edges[None, :]
        if self.pointing_shift_m:
            x, y = self.pointing(ticks, seed, frame_period_s)
            x_edges, y_edges = x_edges - x[:, None], y_edges - y[:, None]
        along_x = backend.asarray(np.sqrt(self._share(x_edges)).astype(np.float32))  # (batch or 1, columns)
        along_y = backend.asarray(np.sqrt(rate[:, None] * self._share(y_edges)).astype(np.float32))  # (batch, rows)
        rows, columns = cells.shape
        field = along_y[:, :, None] * along_x[:, None, :]
        return backend.xp.reshape(field, (len(ticks), rows * columns))[:, : cells.count]

    def coherence_contrast(self, path_time_s: float) -> float:
        """Contrast of speckle whose paths take exponentially distributed times, ``1 / sqrt(1 + 2 pi tau linewidth)``.

        Parameters
        ----------
        path_time_s : float
            Mean of the distribution of path times tau, seconds, 0 or more.
        """
        return (1.0 + self._coherence_times(path_time_s)) ** -0.5

    def spectral_weights(self, path_time_s: float, tolerance: float = 1e-3) -> NDArray[np.float64]:
        """Weights of the independent speckle fields of a line of finite width, in descending order; their sum is 1.

        The fields at two frequencies of the line are partly correlated, ``1 / (1 - 2i pi tau (nu - nu'))``. The fields
        of the eigenmodes of this correlation are independent, and the intensity of a pixel is their weighted sum; see
        `mode_weights`, which is exact. The strongest modes that hold ``1 - tolerance`` of the power are kept and scaled
        to a sum of 1, so ``sum w^2 = contrast^2 = 1 / (1 + 2 pi tau linewidth)`` within a relative ``2 tolerance``.

        Parameters
        ----------
        path_time_s : float
            Mean of the distribution of path times tau, seconds; ``2 pi tau linewidth`` at most 100.
        tolerance : float
            Largest share of the power that is left out, 1e-4 to 0.5.

        Returns
        -------
        ndarray, shape (k,)
            k is 1 if ``pi tau linewidth`` is below the tolerance, and about ``0.8 pi tau linewidth / tolerance`` if it
            is well above: the weights fall as ``1/n^2``.

        Raises
        ------
        ValueError
            If a number is out of range.
        """
        times = self._coherence_times(path_time_s)
        if times > MAX_COHERENCE_TIMES:
            raise ValueError(
                f"path_time_s must be at most {MAX_COHERENCE_TIMES:g} / (2 pi linewidth_hz) = "
                f"{path_time_s * MAX_COHERENCE_TIMES / times:.3g}, got {path_time_s!r}"
            )
        if not 1e-4 <= number(tolerance) <= 0.5:
            raise ValueError(f"tolerance must be 1e-4 to 0.5, got {tolerance!r}")
        if not times:
            return np.ones(1)
        weights = mode_weights(times, 8 + math.ceil(4.0 * times / (math.pi**2 * tolerance)))
        held = np.cumsum(weights)
        weights = weights[: int(np.searchsorted(held, 1.0 - tolerance)) + 1]
        return weights / weights.sum()

    def _coherence_times(self, path_time_s: float) -> float:
        if not 0 <= number(path_time_s) < math.inf:
            raise ValueError(f"path_time_s must be 0 or more, got {path_time_s!r}")
        return 2.0 * math.pi * path_time_s * self.linewidth_hz


def mode_weights(times: float, count: int) -> NDArray[np.float64]:
    """Eigenvalues of the spectral correlation of speckle under a Lorentzian line: the largest `count`, descending.

    In the time domain the problem is ``int_0^inf exp(-a |t - t'|) exp(-t'/tau)/tau f(t') dt' = w f(t)``, ``a = pi
    linewidth``: the coherence of the light, weighted with the distribution of path times. Its second derivative is
    Bessel's equation, the solutions are ``J_times(z exp(-t / 2 tau))``, and the condition at t = 0 is ``J_(times-1)(z)
    = 0``. Hence

        w_n = 4 times / j_n^2,    j_n the n-th positive zero of J_(times-1).

    The inverse squares of the zeros are eigenvalues of a tridiagonal matrix, by the recurrence of the Bessel
    functions; beyond ``j = 10 times`` McMahon's expansion gives the zeros to 1e-7.

    Parameters
    ----------
    times : float
        ``2 pi tau linewidth``, above 0, up to `MAX_COHERENCE_TIMES`.
    count : int
        Number of eigenvalues, at least 1.

    References
    ----------
    J. Grad, E. Zakrajsek, "Method for evaluation of zeros of Bessel functions", J. Inst. Math. Appl. 11, 57 (1973).
    NIST Digital Library of Mathematical Functions, 10.21(vi).
    """
    few = min(count, 16 + math.ceil(4.0 * times))
    low = times + 2.0 * np.arange(few + 6 * math.ceil(times) + 80)  # orders of the Bessel functions minus one
    diagonal = 2.0 * times / (low * (low + 2.0))
    beside = times / ((low + 2.0) * np.sqrt((low + 1.0) * (low + 3.0)))
    first = scipy.linalg.eigvalsh_tridiagonal(diagonal, beside[:-1])[::-1][:few]

    m = 4.0 * (times - 1.0) ** 2
    b = 8.0 * math.pi * (np.arange(few + 1, count + 1) + times / 2.0 - 0.75)
    zeros = b / 8.0 - (m - 1.0) / b * (1.0 + 4.0 * (7.0 * m - 31.0) / (3.0 * b**2))
    return np.concatenate([first, 4.0 * times / zeros**2])
