"""Transmission matrix by phase retrieval: no reference, no anchors, binary patterns and their complements.

The background half-way between all ON and all OFF is in every frame, and it makes half of the problem linear: that is
why binary inputs, with which gradient methods are known to fail, are the easier case once complements are shown.
"""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.base import Block, Gauge, RecoveryMethod, Shots
from calibration.recovery.designs.signs import SignDesign
from calibration.recovery.interferometry import BINARY_GAUGE, padded, whole_probes
from calibration.recovery.likelihood import Pixels, check_light, pixels_of, recovered, refine, retry
from photonics import draws
from photonics.component import Field, component
from photonics.random import PatternSet, Stream

__all__ = ["PhaseRetrieval", "complement_design", "spectral_start"]

Real = NDArray[np.floating[Any]]
"""float32 in fact."""
Complex = NDArray[np.complexfloating[Any, Any]]
"""complex64 in fact."""

POWER_STEPS = 24
"""Power iterations of the spectral start; again as many in each further one."""
DARK = 0.02
"""Share of the mean intensity that ``|c|^2`` is taken to have at least."""


@component
class PhaseRetrieval(RecoveryMethod):
    """Patterns and their complements; half of each row is linear, the other real phase retrieval; then the likelihood.

    With s the +-1 of a pattern, ``z = sum s_j u_j`` and c the background (`calibration.recovery.designs.signs`), the
    frames of a pattern and its complement are ``|c + z|^2`` and ``|c - z|^2``. In the gauge where c is real and
    positive:

    1. ``(I+ - I-)/4 = c Re z``, linear: least squares give ``c Re u_j``. All OFF is dark but for leakage, so ``c^2 =
       sum_j c Re u_j`` to ``O(eps)``, eps^2 = 1/contrast.
    2. ``(I+ + I-)/2 - c^2 - (Re z)^2 = (Im z)^2``: real phase retrieval of ``Im u``, started from the leading
       eigenvector of ``sum_k w((Im z_k)^2) s_k s_k^T`` with weights after Mondelli and Montanari.
    3. The likelihood of all frames is climbed for both parts and c together (`calibration.recovery.likelihood.refine`).
       Rows whose residuals are beyond the noise (in a wrong minimum, tens of times) start again from other vectors.

    What is left open and not modelled is as for `calibration.recovery.interferometry.NumericalInterferometry`; here
    every frame tells about every input. Under 7 frames per input some rows stay in wrong minima: they are not valid.

    References
    ----------
    M. Mondelli and A. Montanari, Found. Comput. Math. 19, 703 (2019), arXiv:1708.05932 (weights of the start).
    """

    name: ClassVar[str] = "phase-retrieval"

    n_in: int = Field(ge=8)
    """Inputs of the device."""
    n_inputs: int = Field(ge=8)
    """Inputs whose columns are recovered, the first ones; the others stay OFF."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    """Chooses masks and order of the probes, and the starts."""
    frames_per_input: float = Field(default=8.0, ge=5, le=10_000)
    """Frames of the measurement over `n_inputs`; 8 and more leave no row behind."""
    restarts: int = Field(default=12, ge=0, le=1000)
    """Further starts of rows in a wrong minimum, at most."""

    @property
    def design(self) -> SignDesign:
        """The patterns."""
        return complement_design(self.n_inputs, round(self.frames_per_input * self.n_inputs / 2.0), self.seed)

    @property
    def frames(self) -> int:  # noqa: D102
        return self.design.frames

    @property
    def condition_number(self) -> float:  # noqa: D102
        return self.design.condition_number

    @property
    def gauge(self) -> Gauge:  # noqa: D102
        return BINARY_GAUGE

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        return Shots(padded(self.design.patterns(start, stop), self.n_in))

    def prepare(self, raw: RawFrames, bench: Bench) -> None:
        """Refuse frames that are dark or saturated."""
        check_light(self.design, raw, bench)

    def solve(self, frames: NDArray[Any], rows: slice, bench: Bench, state: Any) -> Block:  # noqa: D102
        with threadpool_limits(1, user_api="blas"):  # products too small to be shared
            return self._solve(frames, rows.start or 0, bench)

    def _solve(self, frames: NDArray[Any], first: int, bench: Bench) -> Block:
        pixels = pixels_of(frames, bench)
        fit = refine(
            self.design, pixels, spectral_start(self.design, pixels, self.seed, first + np.arange(frames.shape[1]))
        )

        def again(number: int) -> Any:
            return lambda bad: spectral_start(
                self.design, pixels._replace(signal=pixels.signal[:, bad]), self.seed, first + bad, number
            )

        fit = retry(self.design, pixels, fit, map(again, range(1, self.restarts + 1)))
        return recovered(self.design, fit, pixels, bench)


@lru_cache(maxsize=8)
def complement_design(n_inputs: int, pairs: int, seed: int) -> SignDesign:
    """Pairs of patterns and complements."""
    return SignDesign(n_inputs, tuple(whole_probes(n_inputs, pairs, seed)))


def spectral_start(design: SignDesign, pixels: Pixels, seed: int, rows: NDArray[np.intp], number: int = 0) -> Complex:
    """Steps 1 and 2 of `PhaseRetrieval`.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows,)
        Numbers of the rows in the whole matrix, so that a start does not depend on how they are dealt into blocks.
    number : int
        Which start: each begins the power iteration at another random vector and ends it before they have all met.

    Returns
    -------
    ndarray of complex64, shape (n_inputs + 1, n_rows)
    """
    pairs = design.frames // 2
    views = [share[0] for _, share in design.parts(pixels.signal)]
    sums = np.concatenate([share.mean(axis=1) for share in views])  # |c|^2 + |z|^2, (pairs, m)
    swings = np.concatenate([0.25 * (share[:, 0] - share[:, 1]) for share in views])  # c Re z
    inverse = np.linalg.inv(design.gram[:-1, :-1]).astype(np.float32)
    real = inverse @ swung_back(design, swings)
    squared = np.maximum(real.sum(axis=0), DARK * sums.mean(axis=0))
    real /= np.sqrt(squared)
    power = sums - squared - swung(design, real) ** 2
    mean = np.maximum(power.mean(axis=0), 1e-3 * sums.mean(axis=0))
    relative = np.maximum(power / mean, 0.0)
    weight = (relative - 1.0) / (relative + np.float32(np.sqrt(2.0 * pairs / design.n_inputs) - 1.0))

    index, tick = np.arange(design.n_inputs)[:, None], PatternSet.START_VECTOR + number * 2**32 + rows
    vector: Real = draws.normals(seed, Stream.PROBES, index, tick).reshape(design.n_inputs, -1)
    for _ in range(POWER_STEPS):
        vector = swung_back(design, weight * swung(design, vector)) + np.float32(0.5) * vector
        vector /= np.linalg.norm(vector, axis=0)
    vector *= np.sqrt(mean)  # E(s . v)^2 = |v|^2
    return np.concatenate([real + 1j * vector, np.sqrt(squared)[None]]).astype(np.complex64)


def swung(design: SignDesign, vector: Real) -> Real:
    """``sum_j s_kj v_j`` of each pair: (n_inputs, m) -> (pairs, m)."""
    return np.concatenate([part.rows @ (part.mask[:, None] * vector) for part in design.probes])


def swung_back(design: SignDesign, values: Real) -> Real:
    """Mean over pairs of ``s_kj x_k``: (pairs, m) -> (n_inputs, m)."""
    total, first = np.zeros((design.n_inputs, values.shape[1]), np.float32), 0
    for part in design.probes:
        total += part.mask[:, None] * (part.rows.T @ values[first : first + len(part.rows)])
        first += len(part.rows)
    total /= first
    return total
