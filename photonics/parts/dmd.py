"""The digital micromirror device: its patterns, and the field that leaves it."""

import cmath
import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator

from photonics import draws
from photonics.arrays import Array, IntArray
from photonics.backend import HOST, Backend, backend_of
from photonics.component import Field, Seed, component, number
from photonics.parts.aberration import coefficient_drift, phase_parts
from photonics.parts.blaze import blaze_order, order_share
from photonics.parts.laser import Cells
from photonics.random import Stream

__all__ = ["DMD"]


@component
class DMD:
    """Binary micromirror array; a logical input is a macropixel of k x k mirrors.

    The macropixels form a near-square grid in the middle of the chip, input 0 at the top left, row by row. An OFF
    mirror leaks ``eps exp(i phi)`` of the ON field, ``eps = 1/sqrt(contrast)``. The surface of the chip adds a phase
    (`photonics.parts.aberration`); the tilt of the mirrors determines the share of light in the used order
    (`photonics.parts.blaze`). Defaults are those of a 0.7" XGA chip.
    """

    columns: int = Field(default=1024, ge=1, le=16384)
    """Mirrors in a row (XGA)."""

    rows: int = Field(default=768, ge=1, le=16384)
    """Mirrors in a column (XGA)."""

    pitch_m: float = Field(default=13.68e-6, gt=0, le=1e-3)
    """Distance between mirrors, metres (0.7" XGA data sheet)."""

    fill_factor: float = Field(default=0.92, gt=0, le=1)
    """Share of the chip's area that is mirror (0.7" XGA data sheet)."""

    tilt_rad: float = Field(default=math.radians(12.0), ge=0, le=math.pi / 4)
    """Tilt of an ON mirror about its diagonal, radians (12 degrees, 0.7" XGA data sheet)."""

    incidence_rad: float = Field(default=math.radians(24.0), ge=0, lt=math.pi / 2)
    """Angle of the incident light to the chip's normal, in the plane across the mirrors' diagonal, radians: at
    24 degrees a mirror of 12 degrees reflects along the normal."""

    macropixel: int = Field(default=8, ge=1, le=1024)
    """Mirrors along the side of a logical input (8, a choice: 12 288 inputs on an XGA chip)."""

    contrast: float | None = Field(default=1000.0, gt=1)
    """All-ON over all-OFF intensity (500 to 2000 in data sheets); None for no leakage."""

    leakage_phase_rad: float = Field(default=0.0, ge=-math.pi, le=math.pi)
    """Phase of leaked light relative to ON light, radians; unknown on a bench. At 0 the field is real and the product
    costs half. Another phase rotates the quadrature that interference with light of the same mirrors measures by about
    ``2 eps sin(phi)``."""

    stuck_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of mirrors that do not move (0 to 1e-6 on a good chip); half of them are stuck ON."""

    load_s: float = Field(default=30.72e-6, ge=0, le=1)
    """Time to load a binary pattern, seconds (30.72 us, 0.7" XGA data sheet)."""

    settle_s: float = Field(default=13e-6, ge=0, le=1)
    """Settling time of the mirrors after a flip, seconds (13 us, 0.7" XGA data sheet)."""

    frame_rate_hz: float = Field(default=22_700.0, gt=0)
    """Rate of binary patterns, Hz, at most ``1 / (load_s + settle_s)`` (22.7 kHz, 0.7" XGA data sheet)."""

    astigmatism_waves: float = Field(default=0.0, ge=-100, le=100)
    """Astigmatism (Zernike 6) of the wavefront that leaves the chip, waves rms over the circle around the chip. Real
    chips have a few waves. The default is 0 because a fixed phase does not change the statistics of T, and the product
    with a real field costs half."""

    defocus_waves: float = Field(default=0.0, ge=-100, le=100)
    """Defocus (Zernike 4), as `astigmatism_waves`; a few waves on real chips."""

    aberration_drift_waves: float = Field(default=0.0, ge=0, le=10)
    """Rms of the slow drift of each coefficient, waves (0; no source, depends on the temperature of the mount)."""

    aberration_drift_time_s: float = Field(default=3600.0, gt=0)
    """Correlation time of the drift of the surface, seconds (1 h, an estimate): autocorrelation ``exp(-t / time)``."""

    warm_up_waves: float = Field(default=0.0, ge=-10, le=10)
    """Defocus of the cold chip less that of the warm one, waves rms, ``warm_up_waves exp(-t / warm_up_time_s)`` from
    frame 0 on (0: warm). A chip at 20 to 30 kHz warms by 15 K or more, which bends it and its window (Rudolf et al.,
    Opt. Express 29, 41808 (2021)); the waves depend on the chip."""

    warm_up_time_s: float = Field(default=1200.0, gt=0)
    """Time constant of the warm-up of the chip, seconds (1200 s: 5 % is left after the hour in which speckle became
    stable: Popoff et al., J. Phys. Photonics 6, 043001 (2024), section 5.2)."""

    seed: Seed = 0
    """Identity of the chip: seed of the places of stuck mirrors."""

    @model_validator(mode="after")
    def _check_frame_rate(self) -> "DMD":
        if self.frame_rate_hz * (self.load_s + self.settle_s) > 1.0 + 1e-9:
            raise ValueError(
                f"frame_rate_hz must be at most {1.0 / (self.load_s + self.settle_s):.6g}, 1 / (load_s + settle_s), "
                f"got {self.frame_rate_hz}"
            )
        return self

    @property
    def frame_s(self) -> float:
        """Time from one pattern to the next, seconds: at least ``load_s + settle_s``."""
        return 1.0 / self.frame_rate_hz

    @property
    def surface_moves(self) -> bool:
        """Whether the phase of the surface changes from frame to frame."""
        return bool(self.aberration_drift_waves or self.warm_up_waves)

    @property
    def leakage(self) -> complex:
        """Field of an OFF mirror relative to an ON one, ``exp(i phi) / sqrt(contrast)``."""
        return 0j if self.contrast is None else cmath.rect(self.contrast**-0.5, self.leakage_phase_rad)

    def best_order(self, wavelength_m: float) -> int:
        """Diffraction order p = q with the most light, all mirrors ON."""
        if not 0 < number(wavelength_m) < math.inf:
            raise ValueError(f"wavelength_m must be above 0, got {wavelength_m!r}")
        return round(blaze_order(self.pitch_m, self.tilt_rad, self.incidence_rad, wavelength_m))

    def order_efficiency(
        self, wavelength_m: float, p: ArrayLike | None = None, q: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Share of the power on the chip in order (p, q), all mirrors ON.

        `photonics.parts.blaze` has the equation; the sum over all orders is `fill_factor`. `p` and `q` broadcast, and
        default to `best_order`.
        """
        best = self.best_order(wavelength_m)
        blaze = blaze_order(self.pitch_m, self.tilt_rad, self.incidence_rad, wavelength_m)
        return order_share(self.fill_factor, blaze, best if p is None else p, best if q is None else q)

    def efficiency(self, wavelength_m: float) -> float:
        """Share of the power on the chip in the best order, all mirrors ON: 0.31 at 532 nm for the default chip.

        The used field is the incident field times its square root. Losses in coating and window are not included.
        """
        return float(self.order_efficiency(wavelength_m))

    def grid(self, n_in: int) -> tuple[int, int]:
        """Rows and columns of macropixels that hold `n_in` inputs.

        Raises
        ------
        ValueError
            If they do not fit on the chip.
        """
        max_rows, max_columns = self.rows // self.macropixel, self.columns // self.macropixel
        if not 1 <= n_in <= max_rows * max_columns:
            raise ValueError(
                f"n_in must be 1 to {max_rows * max_columns} on a chip of {self.columns} x {self.rows} mirrors "
                f"with macropixel {self.macropixel}, got {n_in}"
            )
        side = math.isqrt(n_in - 1) + 1
        columns = min(max(side, -(-n_in // max_rows)), max_columns)
        return -(-n_in // columns), columns

    def cells(self, n_in: int) -> Cells:
        """Rectangle of each logical input in the plane of the mirrors, metres from the centre of the chip."""
        rows, columns = self.grid(n_in)
        side = self.macropixel * self.pitch_m
        x_edges = side * (np.arange(columns + 1.0) - columns / 2.0)
        y_edges = side * (rows / 2.0 - np.arange(rows + 1.0))
        return Cells(x_edges, y_edges, n_in)

    def chip(self) -> Cells:
        """The whole chip as one cell."""
        x, y = self.columns * self.pitch_m / 2.0, self.rows * self.pitch_m / 2.0
        return Cells(np.array([-x, x]), np.array([y, -y]), 1)

    def phase(
        self,
        n_in: int,
        ticks: IntArray | None = None,
        frame_period_s: float | None = None,
        seed: int = 0,
    ) -> NDArray[np.float64]:
        """Phase that the surface of the chip adds at the centre of each input, radians.

        The phase is taken as constant within a macropixel. Where it changes by s radians from one macropixel to the
        next, the neglected loss of amplitude is ``s^2 / 24``: 1.2 % at the corner of the default chip for 1 wave rms of
        defocus.

        Parameters
        ----------
        n_in : int
            Number of inputs.
        ticks : ndarray of int64, shape (batch,), optional
            Frame numbers; the fixed part only if not given.
        frame_period_s : float, optional
            Time from one frame to the next, seconds; required if `ticks` are given and the surface drifts.
        seed : int
            Seed of the run, which determines the drift.

        Returns
        -------
        ndarray of float64, shape (n_in,), or (batch, n_in) if ticks are given
        """
        rows, columns = self.grid(n_in)
        of_x, of_y = self._phase_parts(n_in, self.astigmatism_waves, self.defocus_waves)
        if ticks is not None:
            drift_x, drift_y = self._phase_drift(n_in, ticks, frame_period_s, seed)
            of_x, of_y = of_x + drift_x, of_y + drift_y
        grid = of_y[..., :, None] + of_x[..., None, :]
        return grid.reshape(*grid.shape[:-2], rows * columns)[..., :n_in]

    def _phase_parts(
        self, n_in: int, astigmatism_waves: ArrayLike, defocus_waves: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The two terms of the phase, one a function of the column and one of the row: (..., columns), (..., rows)."""
        cells, radius = self.cells(n_in), math.hypot(self.columns, self.rows) * self.pitch_m / 2.0
        x, y = ((edges[1:] + edges[:-1]) / (2.0 * radius) for edges in (cells.x_edges, cells.y_edges))
        return phase_parts(astigmatism_waves, defocus_waves, x, y)

    def _phase_drift(
        self, n_in: int, ticks: IntArray, frame_period_s: float | None, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Drift and warm-up of the two terms of the phase in each frame: (batch, columns), (batch, rows)."""
        drift = np.zeros((2, len(ticks)))
        if self.surface_moves and not 0 < number(frame_period_s) < math.inf:
            raise ValueError(f"frame_period_s must be above 0 for a surface that drifts, got {frame_period_s!r}")
        if self.aberration_drift_waves:
            step = number(frame_period_s) / self.aberration_drift_time_s
            drift = self.aberration_drift_waves * coefficient_drift(ticks, step, seed)
        if self.warm_up_waves:
            drift[1] += self.warm_up_waves * np.exp(-number(frame_period_s) / self.warm_up_time_s * ticks)
        return self._phase_parts(n_in, *drift)

    def levels(self, n_in: int, backend: Backend = HOST) -> tuple[Array, Array]:
        """Field of an input that is OFF and one that is ON, relative to all its mirrors ON on a flat chip.

        Two read-only (n_in,) arrays of `backend`: float32 if the leakage is in phase with the ON light and the surface
        is flat, complex64 otherwise. They do not include the drift of the surface.
        """
        return levels(self, n_in, backend)

    def modulate(
        self,
        patterns: Array,
        field: Array,
        ticks: IntArray | None = None,
        frame_period_s: float | None = None,
        seed: int = 0,
    ) -> Array:
        """Field that leaves the mirrors: (batch, n_in) patterns and incident field -> (batch, n_in).

        Parameters
        ----------
        patterns : array of bool, shape (batch, n_in)
            Which inputs are ON; the library of this array computes.
        field : array of float32 or complex64, shape (batch, n_in)
            Incident field, of the same library.
        ticks, frame_period_s, seed
            As for `phase`; required if the surface drifts, and not used otherwise.

        Returns
        -------
        array, shape (batch, n_in)
            float32 if the incident field and the `levels` are float32 and the surface does not drift, complex64
            otherwise.

        Raises
        ------
        ValueError
            If the surface drifts and the frame numbers or the frame period are missing.
        """
        backend, n_in = backend_of(patterns), patterns.shape[1]
        off, on = self.levels(n_in, backend)
        out = backend.xp.where(patterns, on, off)
        if self.surface_moves:
            out = out * self._drift_phasor(n_in, ticks, frame_period_s, seed, backend)
        if out.dtype != field.dtype:
            return out * field
        out *= field
        return out

    def _drift_phasor(
        self,
        n_in: int,
        ticks: IntArray | None,
        frame_period_s: float | None,
        seed: int,
        backend: Backend,
    ) -> Array:
        """``exp(i phase)`` of the drift of the surface: (batch, n_in)."""
        if ticks is None:
            raise ValueError("ticks must be given for a surface that drifts, got None")
        rows, columns = self.grid(n_in)
        parts = self._phase_drift(n_in, ticks, frame_period_s, seed)
        of_x, of_y = (backend.asarray(np.exp(1j * part).astype(np.complex64)) for part in parts)
        phasor = of_y[:, :, None] * of_x[:, None, :]
        return backend.xp.reshape(phasor, (len(ticks), rows * columns))[:, :n_in]


@lru_cache(maxsize=8)
def levels(dmd: DMD, n_in: int, backend: Backend) -> tuple[Array, Array]:
    """`DMD.levels`, cached."""
    stuck_off, stuck_on = stuck_shares(dmd, n_in)
    eps = dmd.leakage if dmd.leakage.imag else dmd.leakage.real
    parts = [stuck_on + eps * (1.0 - stuck_on), 1.0 - stuck_off + eps * stuck_off]
    if dmd.astigmatism_waves or dmd.defocus_waves:
        phasor = np.exp(1j * dmd.phase(n_in))
        parts = [part * phasor for part in parts]
    arrays = [part.astype(np.complex64 if np.iscomplexobj(parts[0]) else np.float32) for part in parts]
    for array in arrays:
        array.flags.writeable = False
    return backend.asarray(arrays[0]), backend.asarray(arrays[1])


@lru_cache(maxsize=8)
def stuck_shares(dmd: DMD, n_in: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the mirrors of each input that are stuck OFF, and stuck ON; read-only (n_in,) arrays.

    The draw of a mirror depends on its position on the chip, not on `macropixel` or `n_in`.
    """
    rows, columns = dmd.grid(n_in)
    shares = np.zeros((2, rows * columns))
    if dmd.stuck_fraction:
        k = dmd.macropixel
        top, left = (dmd.rows - rows * k) // 2, (dmd.columns - columns * k) // 2
        y, x = np.mgrid[top : top + rows * k, left : left + columns * k]
        uniform = draws.uniforms(dmd.seed, Stream.STUCK_MIRROR, np.ravel(y * dmd.columns + x)).reshape(
            rows, k, columns, k
        )
        stuck, on = uniform < dmd.stuck_fraction, uniform < dmd.stuck_fraction / 2.0
        for state, hit in enumerate((stuck & ~on, on)):
            shares[state] = hit.mean(axis=(1, 3)).ravel()
    shares.flags.writeable = False
    return shares[0, :n_in], shares[1, :n_in]
