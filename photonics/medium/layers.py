"""Scattering layers: phase screens and Fourier transforms instead of a matrix, for any number of entries."""

import math
from functools import cached_property

import numpy as np

from photonics import draws, kernels
from photonics.arrays import Array, ComplexArray, HostArray
from photonics.backend import backend_of
from photonics.component import Field, Integer, Seed, component
from photonics.medium.base import ScatteringMedium, check_field
from photonics.medium.screens import Screens, fill_on_gpu, grid_shape, phasors, transform
from photonics.random import Stream
from photonics.threads import for_blocks

__all__ = ["ScatteringLayers"]

MAX_MODES = 2**34
"""Limit set by the 32-bit counter, with four phases per call."""
HOST_MODES = 2**16
"""Modes that are transformed together: several frames of a small grid, one of a large one, 512 KB in the cache."""
DEVICE_MODES = 2**26
"""The same on a GPU, which needs more work per call: 512 MB."""
S_PER_MODE = 6e-9
"""Seconds per mode and layer, an estimate to recognise small jobs."""


@component(kw_only=False)
class ScatteringLayers(ScatteringMedium):
    """Thin random phase screens, each followed by a two-dimensional Fourier transform: ``O(n log n)``, no matrix.

    ``T = sqrt(n_modes / n_in) P_out D_L F D_{L-1} ... F D_0 P_in^T`` with L layers. The inputs are the first `n_in`
    modes, row by row, of a grid of at least ``oversample * max(n_in, n_out)``; the others stay dark. Each layer
    multiplies every mode by ``exp(i phase)`` with uniform phases (``D``) and takes the orthonormal transform (``F``).
    The outputs are the first `n_out` modes of the last grid, each with an independent phase (``D_L``). Intensities do
    not depend on this phase, but without it the fields of nearby outputs have the correlation ``1/sqrt(n_modes)``. The
    phases are functions of ``(seed, layer, mode)``, computed when they are applied, so the medium stores only its
    parameters. ``E|t_ij|^2 = 1/n_in``. A share of the outputs (`rows`, `photonics.OPU.part`) takes the whole
    transforms, and its slice is read at the end: the time and the memory are those of all outputs.

    Three layers have the intensities, correlations of neighbours, optical kernel and spectrum of fully developed
    speckle to the order of ``1/n_modes``; a few modes are not enough. Their entries are not independent: with all modes
    lit, ``sum_j t_ij conj(t_kj) exp(2 pi i s.j)`` for rows i and k at a distance s in the grid (s.j in turns of the
    grid) has twice the mean square of independent entries, for any size. Four layers have the mean square of
    independent entries, and take a third longer. One layer has entries of equal modulus. Two layers have an exact
    memory effect: ``|t_ij|`` is a function of the sum of the grid positions of i and j.

    Without oversampling T is part of a unitary matrix, as if no light were lost:
    ``sum s^4 / n_out = 1 + n_out / n_in - n_out / n_modes`` over the singular values s. An oversampling of 4 to 8
    approaches the law of Marchenko and Pastur, where the last term is absent.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    F. Yu, A. Suresh, K. Choromanski, D. Holtmann-Rice, S. Kumar, "Orthogonal random features", NeurIPS 2016 (three
    blocks of a fast transform and random signs in place of a random matrix).
    I. Freund, M. Rosenbluh, S. Feng, Phys. Rev. Lett. 61, 2328 (1988): the memory effect of thin scatterers.
    """

    n_in: Integer = Field(ge=1, lt=2**32)
    """Number of inputs (columns)."""

    n_out: Integer = Field(ge=1, lt=2**32)
    """Number of outputs (rows)."""

    seed: Seed = 0
    """Seed of the slab."""

    layers: Integer = Field(default=3, ge=1, le=64)
    """Number of phase screens that are followed by a transform: 3 or more for
    speckle, 4 for rows without a common tilt."""

    oversample: float = Field(default=1.0, ge=1, le=64)
    """Modes of the grid over the larger of `n_in` and `n_out`. The grid is rounded up to a size that has no prime
    factor over 5, since other sizes take the transform up to 10 times as long."""

    def __post_init__(self) -> None:
        if self.n_modes > MAX_MODES:
            raise ValueError(
                f"oversample must give 2**34 modes or fewer, got {self.oversample!r}, which gives {self.n_modes} modes"
            )

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.n_out, self.n_in

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the modes."""
        return grid_shape(math.ceil(self.oversample * max(self.n_in, self.n_out)))

    @property
    def n_modes(self) -> int:
        """Modes of the grid."""
        return self._screens.n_modes

    @property
    def _screens(self) -> Screens:
        return Screens(self.grid, self.layers, self.n_in, self.seed)

    def propagate(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._through(check_field(field, self.n_in, binary=True), self.n_out, False)

    def adjoint(self, field: Array, ticks: Array = None) -> Array:  # noqa: D102 (inherited)
        return self._through(check_field(field, self.n_out), self.n_in, True)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> ComplexArray:
        """Dense copy of ``T[rows, cols]``, complex64, computed from the response to one input at a time.

        Each column takes as long as a frame, even for a single row.
        """
        columns = range(self.n_in)[cols]
        out = np.empty((len(range(self.n_out)[rows]), len(columns)), np.complex64)
        together = max(1, HOST_MODES // self.n_modes)
        for start in range(0, len(columns), together):
            chosen = np.asarray(columns[start : start + together])
            units = np.zeros((len(chosen), self.n_in), np.float32)
            units[np.arange(len(chosen)), chosen] = 1.0
            out[:, start : start + together] = self._through(units, self.n_out, False)[:, rows].T
        return out

    @property
    def identity(self) -> int:  # noqa: D102 (inherited)
        return self.seed

    def fresh(self, seed: int) -> "ScatteringLayers":  # noqa: D102 (inherited)
        return ScatteringLayers(self.n_in, self.n_out, seed, self.layers, self.oversample)

    def _through(self, field: Array, width: int, backward: bool) -> Array:
        """``T`` or ``T^H`` for each row of a checked field: (batch, n) -> (batch, width)."""
        backend, screens = backend_of(field), self._screens
        batch, n_modes = field.shape[0], screens.n_modes
        out = backend.empty((batch, width), "complex64")
        if not backend.on_host:
            together = max(1, DEVICE_MODES // n_modes)
            for start in range(0, batch, together):
                part = slice(start, min(start + together, batch))
                if backend.name == "cupy":
                    fill_on_gpu(screens, field[part, :], backward, out[part, :])
                else:
                    out[part, :] = apply_by_specification(screens, field[part, :], backward)[:, :width]
            return out

        def work(start: int, stop: int) -> None:
            on_host(screens, np.ascontiguousarray(field[start:stop]), backward, out[start:stop])

        for_blocks(work, batch, max(1, HOST_MODES // n_modes), S_PER_MODE * self.layers * batch * n_modes)
        return out


def on_host(screens: Screens, source: HostArray, backward: bool, out: ComplexArray) -> None:
    """Fill `out` with ``T`` or ``T^H`` for a few frames: one, or several of a small grid.

    pocketfft transforms each line separately, with the same operations in the same order, so the result for a frame
    does not depend on its neighbours.
    """
    (frames, n), width, n_modes = source.shape, out.shape[1], screens.n_modes
    grid = out if width == n_modes else np.empty((frames, n_modes), np.complex64)
    steps = range(screens.layers, 0, -1) if backward else range(screens.layers)
    grid[:, n:] = 0
    apply_screen(screens, source, n, steps[0], backward, grid)
    for layer in steps:
        lit = screens.rows(n if layer == steps[0] else n_modes)
        seen = screens.rows(width if layer == steps[-1] else n_modes)
        transform(grid.reshape(frames, *screens.grid), lit, seen, backward)
        after, last = (layer - 1 if backward else layer + 1), layer == steps[-1]
        apply_screen(screens, grid, width if last else n_modes, after, backward, out if last else grid)


def apply_screen(
    screens: Screens, source: HostArray, modes: int, layer: int, conjugate: bool, out: ComplexArray
) -> None:
    """Multiply the first `modes` modes of each frame by the screen of a layer, or by its conjugate."""
    factor, sign = np.float32(screens.amplitude(layer)), np.float32(-1.0 if conjugate else 1.0)
    which = modes, layer, int(Stream.SCREEN), *draws.key(screens.seed), factor, sign
    if source is out:
        kernels.screens.screen(out, *which)
    else:
        kernels.screens.screen_into(source, *which, out)


def apply_by_specification(screens: Screens, field: Array, backward: bool) -> Array:
    """``T`` or ``T^H`` by the array API alone, for all modes of the last grid: (frames, n_modes)."""
    backend = backend_of(field)
    xp, (frames, width) = backend.xp, field.shape
    dft, norm = (xp.fft.ifftn, "forward") if backward else (xp.fft.fftn, "backward")  # transforms without normalisation
    grid = backend.zeros((frames, screens.n_modes), "complex64")
    grid[:, :width] = xp.astype(field, xp.complex64)
    first, *later = screens.order(backward)
    for layer in (first, *later):
        if layer != first:
            grid = dft(xp.reshape(grid, (frames, *screens.grid)), axes=(1, 2), norm=norm)
            grid = xp.reshape(xp.astype(grid, xp.complex64, copy=False), (frames, screens.n_modes))
        phases = phasors(backend, screens.seed, layer, screens.n_modes)
        grid = grid * (xp.conj(phases) if backward else phases) * screens.amplitude(layer)
    return grid
