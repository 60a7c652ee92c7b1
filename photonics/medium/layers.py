"""Scattering layers: phase screens and Fourier transforms in place of a matrix, for any number of entries."""

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from photonics import draws
from photonics.backend import Backend, backend_of
from photonics.component import integer, number
from photonics.kernels.screens import screen, screen_into
from photonics.kernels.threads import for_blocks
from photonics.medium.base import ScatteringMedium, check_field
from photonics.random import Stream, check_seed, words

__all__ = ["ScatteringLayers", "grid_shape"]

MOST_MODES = 2**34
"""A counter of 32 bits, four modes from each."""
HOST_MODES = 2**16
"""Modes that are transformed together: several frames of a small grid, one of a large one, 512 KB in the cache."""
DEVICE_MODES = 2**26
"""The same on a GPU, which wants more at a time: 512 MB."""
S_PER_MODE = 6e-9
"""Time that a layer takes for a mode, to tell small jobs."""


class ScatteringLayers(ScatteringMedium):
    """Thin random phase screens with a two-dimensional Fourier transform behind each: ``O(n log n)``, no matrix.

    ``T = sqrt(n_modes / n_in) P_out D_L F D_{L-1} ... F D_0 P_in^T`` with L layers. The inputs are the first `n_in`
    modes, row by row, of a grid of at least ``oversample * max(n_in, n_out)``; the others stay dark. Each layer
    multiplies every mode by ``exp(i phase)`` with uniform phases (``D``) and takes the orthonormal transform (``F``).
    The outputs are the first `n_out` modes of the last grid, each with a phase of its own (``D_L``), which no
    intensity shows but without which the fields of near outputs correlate by ``1/sqrt(n_modes)``. The phases are
    functions of ``(seed, layer, mode)``, regenerated wherever they are applied: the medium holds nothing
    but its parameters. ``E|t_ij|^2 = 1/n_in``.

    Three layers pass every test of fully developed speckle to the order of ``1/n_modes``; a handful of modes are no
    speckle. One layer has entries of equal modulus; two have an exact memory effect, ``|t_ij|`` being a function of
    the sum of the places of i and j in the grid. Without oversampling T is part of a unitary matrix, as if no light
    were lost: ``sum s^4 / n_out = 1 + n_out / n_in - n_out / n_modes`` over the singular values s. An oversampling of
    4 to 8 approaches the law of Marchenko and Pastur, where the last term is absent.

    Parameters
    ----------
    n_in, n_out : int
        Number of inputs (columns) and outputs (rows), at least 1.
    seed : int
        Which slab it is, 0 to 2**64 - 1.
    layers : int
        Number of phase screens, 1 to 64.
    oversample : float
        Modes inside over the larger of `n_in` and `n_out`, 1 to 64; rounded up to a size that has no prime factor
        over 5, since others take the transform up to 10 times as long.

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

    def __init__(self, n_in: int, n_out: int, seed: int = 0, layers: int = 3, oversample: float = 1) -> None:
        self.n_in, self.n_out = integer(n_in, "n_in", 1, 2**32 - 1), integer(n_out, "n_out", 1, 2**32 - 1)
        self.seed = check_seed(seed)
        self.layers = integer(layers, "layers", 1, 64)
        self.oversample = number(oversample)
        if not 1.0 <= self.oversample <= 64.0:
            raise ValueError(f"oversample must be a number, 1 to 64, got {oversample!r}")
        self.grid = grid_shape(math.ceil(self.oversample * max(self.n_in, self.n_out)))
        if self.n_modes > MOST_MODES:
            raise ValueError(f"oversample must leave at most 2**34 modes, got {oversample!r}, {self.n_modes} modes")

    def __repr__(self) -> str:
        return (
            f"ScatteringLayers({self.n_in}, {self.n_out}, seed={self.seed}, layers={self.layers}, "
            f"oversample={self.oversample:g})"
        )

    @property
    def shape(self) -> tuple[int, int]:  # noqa: D102 (inherited)
        return self.n_out, self.n_in

    @property
    def n_modes(self) -> int:
        """Modes of the grid."""
        return self.grid[0] * self.grid[1]

    def propagate(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self._through(check_field(field, self.n_in, binary=True), self.n_out, False)

    def adjoint(self, field: Any, ticks: Any = None) -> Any:  # noqa: D102 (inherited)
        return self._through(check_field(field, self.n_out), self.n_in, True)

    def block(self, rows: slice, cols: slice, tick: int = 0) -> NDArray[np.complex64]:
        """Dense copy of ``T[rows, cols]``, complex64: the response to one input after the other.

        Each column takes the time of a frame, however few the rows.
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

    def to_dict(self) -> dict[str, Any]:  # noqa: D102 (inherited)
        return {
            "type": "ScatteringLayers",
            "n_in": self.n_in,
            "n_out": self.n_out,
            "seed": self.seed,
            "layers": self.layers,
            "oversample": self.oversample,
        }

    def _amplitude(self, layer: int) -> float:
        """Factor of a screen: that of the orthonormal transform before it, and in the first the scale of T."""
        return 1.0 if layer == self.layers else (self.n_modes if layer else self.n_in) ** -0.5

    def _rows(self, width: int) -> int:
        """Rows of the grid that the first `width` modes lie in."""
        return -(-width // self.grid[1])

    def _through(self, field: Any, width: int, backward: bool) -> Any:
        """``T`` or ``T^H`` for each row of a checked field: (batch, n) -> (batch, width)."""
        backend = backend_of(field)
        batch, n_modes = field.shape[0], self.n_modes
        out = backend.empty((batch, width), "complex64")
        if not backend.on_host:
            together = max(1, DEVICE_MODES // n_modes)
            for start in range(0, batch, together):
                part = slice(start, min(start + together, batch))
                if backend.name == "cupy":
                    from photonics.medium import layers_cuda

                    layers_cuda.through(self, field[part, :], backward, out[part, :])
                else:
                    out[part, :] = self._elsewhere(field[part, :], backward)[:, :width]
            return out

        def work(start: int, stop: int) -> None:
            self._on_host(np.ascontiguousarray(field[start:stop]), backward, out[start:stop])

        for_blocks(work, batch, max(1, HOST_MODES // n_modes), S_PER_MODE * self.layers * batch * n_modes)
        return out

    def _on_host(self, source: NDArray[Any], backward: bool, out: NDArray[np.complex64]) -> None:
        """``T`` or ``T^H`` for a few frames: a single one, or several of a small grid.

        pocketfft transforms each line on its own, with the same operations in the same order, so the result for a frame
        does not depend on its neighbours.
        """
        (frames, n), width, n_modes = source.shape, out.shape[1], self.n_modes
        grid = out if width == n_modes else np.empty((frames, n_modes), np.complex64)
        steps = range(self.layers, 0, -1) if backward else range(self.layers)
        grid[:, n:] = 0
        self._screen(source, n, steps[0], backward, grid)
        for layer in steps:
            lit = self._rows(n if layer == steps[0] else n_modes)
            seen = self._rows(width if layer == steps[-1] else n_modes)
            transform(grid.reshape(frames, *self.grid), lit, seen, backward)
            after, last = (layer - 1 if backward else layer + 1), layer == steps[-1]
            self._screen(grid, width if last else n_modes, after, backward, out if last else grid)

    def _screen(self, source: NDArray[Any], modes: int, layer: int, conj: bool, out: NDArray[np.complex64]) -> None:
        """Screen of a layer, or its conjugate, on the first `modes` of each frame."""
        factor, sign = np.float32(self._amplitude(layer)), np.float32(-1.0 if conj else 1.0)
        which = modes, layer, int(Stream.SCREEN), *draws.key(self.seed), factor, sign
        if source is out:
            screen(out, *which)
        else:
            screen_into(source, *which, out)

    def _elsewhere(self, field: Any, backward: bool) -> Any:
        """``T`` or ``T^H`` on a backend other than numpy, up to the choice of outputs: (frames, n_modes)."""
        backend = backend_of(field)
        xp, (frames, width) = backend.xp, field.shape
        dft, norm = (xp.fft.ifftn, "forward") if backward else (xp.fft.fftn, "backward")  # neither has a factor
        grid = backend.zeros((frames, self.n_modes), "complex64")
        grid[:, :width] = xp.astype(field, xp.complex64)
        screens = range(self.layers, -1, -1) if backward else range(self.layers + 1)
        for layer in screens:
            if layer != screens[0]:
                grid = dft(xp.reshape(grid, (frames, *self.grid)), axes=(1, 2), norm=norm)
                grid = xp.reshape(xp.astype(grid, xp.complex64, copy=False), (frames, self.n_modes))
            phases = phasors(backend, self.seed, layer, self.n_modes)
            grid = grid * (xp.conj(phases) if backward else phases) * self._amplitude(layer)
        return grid


def phasors(backend: Backend, seed: int, layer: int, n_modes: int) -> Any:
    """``exp(i phase)`` of a screen, (n_modes,) complex64: the law of `photonics.kernels.screens` by the array API."""
    xp = backend.xp
    call = xp.arange(-(-n_modes // 4), dtype=xp.uint64, device=backend.device)
    four = words(seed, Stream.SCREEN, call, xp.full_like(call, layer))
    word = xp.reshape(xp.stack(four, axis=1), (-1,))
    angle = xp.astype(word[:n_modes], xp.float64) * (2.0 * math.pi * 2.0**-32)
    return xp.astype(xp.cos(angle), xp.complex64) + xp.astype(xp.sin(angle), xp.complex64) * 1j


def transform(planes: NDArray[np.complex64], lit: int, seen: int, inverse: bool) -> None:
    """Two-dimensional transform without a factor, in place: (frames, rows, columns).

    Only the first `lit` rows hold light, and only the first `seen` need be right: the others are not transformed along.
    """
    rows = planes.shape[1]
    if lit < rows:
        parts = [(planes[:, :lit], (2,)), (planes, (1,))]
    elif seen < rows:
        parts = [(planes, (1,)), (planes[:, :seen], (2,))]
    else:
        parts = [(planes, (1, 2))]
    dft: Any = fft.ifftn if inverse else fft.fftn
    for part, axes in parts:
        result = dft(part, axes=axes, norm="forward" if inverse else "backward", overwrite_x=True, workers=1)
        if not np.may_share_memory(result, part):  # scipy may overwrite, and does, but promises nothing
            part[...] = result


@lru_cache
def grid_shape(n: int) -> tuple[int, int]:
    """Rows and columns of the smallest grid of at least `n` modes with no prime factor over 5, as square as can be.

    >>> grid_shape(1024), grid_shape(37), grid_shape(2_000_003)
    ((32, 32), (5, 8), (1350, 1500))
    """
    size = cast(int, fft.next_fast_len(n, real=True))
    rows = max(r for r in range(1, math.isqrt(size) + 1) if size % r == 0)
    return rows, size // rows
