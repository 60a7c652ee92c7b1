"""Transmission matrix by phase retrieval from binary patterns and their complements, without reference or anchors.

The field of all inputs at half amplitude, c, is part of every frame and makes half of the problem linear. With
complements, binary inputs are therefore the easier case, although gradient methods are known to fail on them.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import as_complex
from calibration.fields.readings import Bench
from calibration.recovery.base import Block
from calibration.recovery.designs.signs import SignDesign, complement_probes
from calibration.recovery.likelihood import Pixels, read_pixels, refine, retry
from calibration.recovery.no_reference import NoReferenceMethod, build_block
from photonics import draws
from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.component import Field, Seed, component
from photonics.random import PatternSet, Stream

__all__ = ["PhaseRetrieval", "complement_design", "spectral_start"]

POWER_STEPS = 24
"""Power iterations of the spectral start, and additional ones in each further start."""
MIN_BACKGROUND = 0.02
"""Lower bound of ``|c|^2`` over the mean intensity."""


@component
class PhaseRetrieval(NoReferenceMethod):
    """Patterns and their complements: half of each row is linear, the other is real phase retrieval.

    With s the +-1 of a pattern, ``z = sum s_j u_j`` and c the background (`calibration.recovery.designs.signs`), the
    frames of a pattern and its complement are ``|c + z|^2`` and ``|c - z|^2``. In the gauge where c is real and
    positive:

    1. ``(I+ - I-)/4 = c Re z`` is linear: least squares give ``c Re u_j``. All OFF is dark except for leakage, so ``c^2
       = sum_j c Re u_j`` to ``O(eps)``, eps^2 = 1/contrast.
    2. ``(I+ + I-)/2 - c^2 - (Re z)^2 = (Im z)^2`` is real phase retrieval of ``Im u``. It starts from the leading
       eigenvector of ``sum_k w((Im z_k)^2) s_k s_k^T`` with weights after Mondelli and Montanari.
    3. The likelihood of all frames is maximised over both parts and c (`calibration.recovery.likelihood.refine`). Rows
       in a wrong minimum, whose residuals are tens of times the noise, start again from other vectors.

    The gauge and the model's limits are those of `calibration.recovery.interferometry.NumericalInterferometry`; here
    every frame carries information on every input. With fewer than 7 frames per input some rows stay in wrong minima
    and are marked invalid.

    References
    ----------
    M. Mondelli and A. Montanari, Found. Comput. Math. 19, 703 (2019), arXiv:1708.05932 (weights of the start).
    """

    name: ClassVar[str] = "phase-retrieval"
    uses_reference: ClassVar[bool] = False

    n_in: int = Field(ge=8)
    """Inputs of the device."""
    n_inputs: int = Field(ge=8)
    """Inputs whose columns are recovered, the first ones; the others stay OFF."""
    seed: Seed = 0
    """Seed of the signs and the order of the probes, and of the starts."""
    frames_per_input: float = Field(default=8.0, ge=5, le=10_000)
    """Frames of the measurement over `n_inputs`; with 8 or more all rows are found."""
    restarts: int = Field(default=12, ge=0, le=1000)
    """Maximum number of further starts of rows in a wrong minimum."""

    @property
    def design(self) -> SignDesign:
        """The patterns."""
        return complement_design(self.n_inputs, round(self.frames_per_input * self.n_inputs / 2.0), self.seed)

    def solve(self, frames: Array, rows: slice, bench: Bench, state: None) -> Block:  # noqa: D102
        pixels, numbers = read_pixels(frames, bench), (rows.start or 0) + np.arange(frames.shape[1])
        fit = refine(self.design, pixels, spectral_start(self.design, pixels, self.seed, numbers))

        def start_again(number: int) -> Callable[[NDArray[np.intp]], Array]:
            return lambda bad: spectral_start(self.design, pixels.take(bad), self.seed, numbers[bad], number)

        fit = retry(self.design, pixels, fit, map(start_again, range(1, self.restarts + 1)))
        return build_block(self.design, fit, pixels, bench)


@lru_cache(maxsize=8)
def complement_design(n_inputs: int, pairs: int, seed: int) -> SignDesign:
    """Pairs of patterns and their complements."""
    return SignDesign(n_inputs, tuple(complement_probes(n_inputs, pairs, seed)))


def spectral_start(design: SignDesign, pixels: Pixels, seed: int, rows: NDArray[np.intp], number: int = 0) -> Array:
    """Return a start for `refine`: steps 1 and 2 of `PhaseRetrieval`.

    Parameters
    ----------
    rows : ndarray of int, shape (n_rows,)
        Numbers of the rows in the whole matrix, so that a start does not depend on the split into blocks.
    number : int
        Number of the start: each begins the power iteration at another random vector and ends before it converges.

    Returns
    -------
    array of complex64, shape (n_inputs + 1, n_rows)
    """
    backend, pairs = backend_of(pixels.signal), design.frames // 2
    design, xp = design.on(backend), backend.xp
    views = [share[0, ...] for _, share in design.parts(pixels.signal)]
    sums = xp.concat([xp.mean(share, axis=1) for share in views])  # |c|^2 + |z|^2, (pairs, m)
    differences = xp.concat([0.25 * (share[:, 0, :] - share[:, 1, :]) for share in views])  # c Re z
    real = design.inverse_without_background @ project_back(design, differences)
    light = xp.mean(sums, axis=0)
    squared = xp.maximum(xp.sum(real, axis=0), MIN_BACKGROUND * light)
    real = real / xp.sqrt(squared)
    power = sums - squared - apply_signs(design, real) ** 2
    mean = xp.maximum(xp.mean(power, axis=0), 1e-3 * light)
    relative = xp.maximum(power / mean, xp.zeros_like(power))
    weight = (relative - 1.0) / (relative + (math.sqrt(2.0 * pairs / design.n_inputs) - 1.0))

    index, tick = np.arange(design.n_inputs)[:, None], PatternSet.START_VECTOR + number * 2**32 + rows
    drawn = draws.normals(seed, Stream.PROBES, index, tick).reshape(design.n_inputs, -1)
    vector = backend.asarray(drawn)
    for _ in range(POWER_STEPS):
        vector = project_back(design, weight * apply_signs(design, vector)) + 0.5 * vector
        vector = vector / xp.sqrt(xp.sum(vector * vector, axis=0))
    vector = vector * xp.sqrt(mean)  # E(s . v)^2 = |v|^2
    return xp.concat([as_complex(real, vector), as_complex(xp.sqrt(squared), xp.zeros_like(squared))[None, :]])


def apply_signs(design: SignDesign, vector: Array) -> Array:
    """``sum_j s_kj v_j`` of each pair: (n_inputs, m) -> (pairs, m)."""
    return design.backend.xp.concat([part.apply_signs(vector) for part in design.probes])


def project_back(design: SignDesign, values: Array) -> Array:
    """Mean over pairs of ``s_kj x_k``: (pairs, m) -> (n_inputs, m)."""
    total, first = design.backend.zeros((design.n_inputs, values.shape[1]), "float32"), 0
    for part in design.probes:
        total += part.project_back(values[first : first + part.rows.shape[0], :])
        first += part.rows.shape[0]
    return total / first
