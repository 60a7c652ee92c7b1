"""Transmission matrix with an internal reference: light of unused mirrors that passes through the medium."""

from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.arrays import as_complex, mean
from calibration.fields.readings import Bench
from calibration.recovery.base import Block, Shots
from calibration.recovery.designs.signs import Probes, SignDesign, draw_probes
from calibration.recovery.likelihood import Pixels, at_least, read_pixels, refine, retry, take_rows
from calibration.recovery.no_reference import NoReferenceMethod, build_block
from photonics.arrays import Array
from photonics.backend import backend_of
from photonics.component import Field, Seed, component

__all__ = ["Popoff", "first_guess", "stepped_design"]

MIN_INPUTS = 32
"""With fewer inputs, wrong rows may fit the frames as well as the true one: at 24 inputs 0.3 % of the valid rows are
wrong.
"""
UNIFORM_FLOOR = 10.0
"""Floor of the noise over the mean intensity, for fits that must leave a wrong minimum: all frames have nearly equal
weights."""
FIRST_START, OTHER_STARTS = (3, 0.3), ((10, 0.1), (8, 0.3), (3, 0.3))
"""Power iterations and pull of `first_guess`: of the first start, and of rows in a wrong minimum."""
MAX_MISFIT = 4.0
"""Misfit above which no row is valid, even if all rows have it, as with incoherent light or a moving medium.
"""
MAX_ERROR = 0.125
"""Largest relative error of a valid row. Above it a wrong minimum may fit the frames as well as the true one: 15 % of
the rows from 0.13 to 0.17, 46 % at 0.5, where the error is two to four times the stated one."""
MIN_BACKGROUND = 0.02
"""Lower bound of ``|c|^2`` over the mean intensity."""
MIN_MEAN_DN = 1e-3
"""Lower bound of a row's mean intensity in the start, which noise may make negative in dark rows, DN."""


@component
class Popoff(NoReferenceMethod):
    """Internal reference, after S. M. Popoff et al., Phys. Rev. Lett. 104, 100601 (2010), for binary mirrors.

    In that work, a part of a phase modulator stays fixed. Its speckle r is the reference for +-1 Hadamard probes, which
    step through four phases. Mirrors make +-1 by the difference of a pattern and its complement, ``y = a + z`` and ``a
    - z``. The fixed field a is c, half of the field of all inputs, plus the field r of a part that carries no data.
    ``(I+ - I-)/4 = Re(conj(a) z)`` is one quadrature of z. Mirrors cannot step a phase, so the other quadrature comes
    from a second round of probes, with other signs, during which that part shows S patterns in turn:

    1. Without a reference ``a = c``: the first round gives ``Re u`` of each input in the gauge where c is real.
    2. With reference s ``a = c + r_s``: after subtraction of the known part, ``Re(conj(a) z)`` is ``Im(a) Im z``, which
       gives S shares of ``Im u``, each with an unknown sign. The signs are those that fit ``(I+ + I-)/2 = |a|^2 +
       |z|^2`` best. Where ``Im(a)`` is near 0, a probe carries little information: power iterations on these sums
       complete the result (`first_guess`).
    3. The likelihood of all frames is maximised (`calibration.recovery.likelihood.refine`) over u, c and the
       references. Rows in a wrong minimum are first fitted with equal weights of all frames, which has other minima.

    There are four frames for each input, twice the number of unknowns. A dimmer reference leaves more of the camera's
    range to the data, but fewer rows have a good start. At 256 inputs (8 bits, 10 ke-, 0.1 % saturated) 2 % of the rows
    stay in a wrong minimum; their misfit reveals it and they are marked invalid. The fraction is 4 % at 48 inputs and 9
    % at 32. A misfit shows faults in the frames of this method alone: of a recording with others,
    `RecordedDevice.check_sequence` looks at all. The gauge is that of
    `calibration.recovery.interferometry.NumericalInterferometry`.
    """

    name: ClassVar[str] = "popoff"
    uses_reference: ClassVar[bool] = False

    n_in: int = Field(ge=MIN_INPUTS)
    """Inputs of the device."""
    n_inputs: int = Field(ge=MIN_INPUTS)
    """Inputs whose columns are recovered, the first ones; the others serve the references."""
    seed: Seed = 0
    """Seed of the signs and the order of the probes."""
    references: int = Field(default=4, ge=1, le=32)
    """Number S of reference patterns. A single one is nearly in phase or in antiphase with c in too many rows."""
    brightness: float = Field(default=0.25, gt=0, le=10)
    """Light of a reference over that of a half-ON probe, limited by the number of spare inputs."""

    def __post_init__(self) -> None:
        if self.n_inputs > self.n_in - self.references:
            raise ValueError(
                f"n_inputs must be {self.n_in - self.references} or less, which leaves an input for each of "
                f"{self.references} references, got {self.n_inputs}"
            )

    @classmethod
    def default_inputs(cls, n_in: int) -> int:
        """Half of the inputs: the references need the others."""
        return max(n_in // 2, 1)

    @property
    def design(self) -> SignDesign:
        """The patterns; each reference counts as one additional input."""
        return stepped_design(self.n_inputs, self.references, self.seed)

    def shots(self, start: int, stop: int) -> Shots:  # noqa: D102
        spare = self.n_in - self.n_inputs
        each = min(max(round(self.brightness * self.n_inputs / 2.0), 1), spare // self.references)
        used = np.arange(each * self.references)  # spread over the spare inputs, assigned to the references in turn
        shown = self.design.patterns(start, stop)
        patterns = np.zeros((len(shown), self.n_in), np.bool_)
        patterns[:, : self.n_inputs] = shown[:, : self.n_inputs]
        patterns[:, self.n_inputs + used * spare // len(used)] = shown[:, self.n_inputs + used % self.references]
        return Shots(patterns)

    def solve(self, frames: Array, rows: slice, bench: Bench, state: None) -> Block:  # noqa: D102
        pixels = read_pixels(frames, bench)
        uniform = pixels._replace(floor=UNIFORM_FLOOR * float(mean(pixels.signal)))
        fit = refine(self.design, pixels, first_guess(self.design, pixels, *FIRST_START))

        def fit_uniformly(bad: NDArray[np.intp], start: Array) -> Array:
            return refine(self.design, uniform.take(bad), start).unknowns

        def start_again(steps: int, pull: float) -> Callable[[NDArray[np.intp]], Array]:
            return lambda bad: fit_uniformly(bad, first_guess(self.design, pixels.take(bad), steps, pull))

        first = fit.unknowns
        fit = retry(self.design, pixels, fit, [lambda bad: fit_uniformly(bad, take_rows(first, bad))])
        fit = retry(self.design, pixels, fit, [start_again(*options) for options in OTHER_STARTS])
        return build_block(
            self.design, fit, pixels, bench, n_inputs=self.n_inputs, max_misfit=MAX_MISFIT, max_error=MAX_ERROR
        )


@lru_cache(maxsize=8)
def stepped_design(n_inputs: int, references: int, seed: int) -> SignDesign:
    """A round of Hadamard probes without reference, and one with the references in turn."""
    data, count = np.arange(n_inputs), n_inputs + references
    none = np.where(np.arange(count) < n_inputs, 0.0, -1.0).astype(np.float32)[None]
    first, second = (draw_probes(data, none, seed, number) for number in range(2))
    parts = [first]
    for number in range(references):
        fixed = none.copy()
        fixed[0, n_inputs + number] = 1.0
        parts.append(Probes(second.rows[number::references], data, second.mask, fixed))
    return SignDesign(count, tuple(parts))


class Differences(NamedTuple):
    """A part of the design with differences and means of its pairs of frames, (n_probes, n_rows)."""

    probes: Probes
    difference: Array
    """``(I+ - I-)/4 = Re(conj(a) z)``."""
    mean: Array
    """``(I+ + I-)/2 = |a|^2 + |z|^2``."""


def first_guess(design: SignDesign, pixels: Pixels, steps: int, pull: float) -> Array:
    """Return a start for `refine`: steps 1 and 2 of `Popoff`, (n_inputs + references + 1, n_rows).

    Parameters
    ----------
    steps : int
        Power iterations for ``Im u``.
    pull : float
        Weight in each iteration of the ``Im u`` obtained from the references.
    """
    design = design.on(backend_of(pixels.signal))
    xp = design.backend.xp
    parts = [
        Differences(part, 0.25 * (signal[0, :, 0, :] - signal[0, :, 1, :]), xp.mean(signal[0, ...], axis=1))
        for part, signal in design.parts(pixels.signal)
    ]
    plain = parts[0]
    order, light = plain.probes.rows.shape[0], at_least(xp.mean(plain.mean, axis=0), MIN_MEAN_DN, xp)
    real = plain.probes.project_back(plain.difference) / order
    # All OFF is dark: c is the sum of all u.
    bright = xp.sqrt(xp.maximum(xp.sum(real, axis=0), MIN_BACKGROUND * light))
    real = real / bright
    total = xp.maximum(light - bright**2, 1e-3 * light)  # the mean of |z|^2 is the sum of |u|^2
    power = xp.maximum(total - xp.sum(real**2, axis=0), MIN_BACKGROUND * total)

    noise = pixels.gain * (light + pixels.floor) / 8.0  # variance of a difference
    zero = xp.zeros_like(bright)
    anchors, shares = [as_complex(bright, zero)], []
    for part in parts[1:]:
        known = part.probes.apply_signs(real)
        along = xp.sum(part.difference * known, axis=0) / at_least(xp.sum(known**2, axis=0), 1e-30, xp)
        left = part.difference - along * known
        aside = xp.sqrt(xp.maximum(xp.mean(left**2, axis=0) - noise, 0.01 * noise) / power)
        shares.append(part.probes.project_back(left * (aside / (aside**2 + noise / power))) / order)
        anchors.append(as_complex(along, aside))
    signs = find_signs(plain, real, shares)
    imag = xp.sum(signs[:, None, :] * xp.stack(shares), axis=0) / xp.sqrt(power)
    imag = complete_imaginary(parts, real, imag, power, steps, pull) * xp.sqrt(power)

    fields = xp.stack(anchors[1:])
    change = (xp.where(signs < 0, xp.conj(fields), fields) - anchors[0]) / 2.0
    middle = anchors[0] + xp.sum(change, axis=0)
    return xp.concat([as_complex(real, imag), change, middle[None, :]])


def find_signs(plain: Differences, real: Array, shares: list[Array]) -> Array:
    """Signs of the shares of ``Im u``, (references, n_rows), up to a common one.

    ``|z|^2`` of the first round contains the product of each pair of shares, with the sign of their product.
    """
    backend = backend_of(real)
    xp, count = backend.xp, len(shares)
    seen = plain.mean - plain.probes.apply_signs(real) ** 2
    seen = seen - xp.mean(seen, axis=0)
    shown = [plain.probes.apply_signs(share) for share in shares]
    zero = xp.zeros_like(real[0, :])
    products = [[xp.sum(seen * a * b, axis=0) if a is not b else zero for b in shown] for a in shown]
    rows = xp.permute_dims(xp.stack([xp.stack(row) for row in products]), (2, 0, 1))
    vectors = xp.linalg.eigh(rows)[1][:, :, count - 1]
    return 1.0 - 2.0 * xp.astype(vectors < 0, xp.float32).T


def complete_imaginary(
    parts: list[Differences], real: Array, imag: Array, power: Array, steps: int, pull: float
) -> Array:
    """Complete ``Im u`` by power iterations on ``(Im z)^2``, and normalise it: (n_inputs, n_rows).

    Weights as in `calibration.recovery.phase_retrieval.spectral_start`, at two frames for each unknown.
    """
    xp, weights = backend_of(real).xp, []
    for part in parts:
        known = part.probes.apply_signs(real) ** 2
        # (Im z)^2 with a fixed mean
        light = part.mean - xp.mean(part.mean, axis=0) + xp.mean(known, axis=0) + power - known
        relative = at_least(light / power, 0.0, xp)
        weights.append((relative - 1.0) / (relative + 1.0))
    start, order = imag, parts[0].probes.rows.shape[0]
    for _ in range(steps):
        moved = pull * start + 0.5 * imag
        for part, weight in zip(parts, weights, strict=True):
            probes = part.probes
            moved = moved + probes.project_back(weight * probes.apply_signs(imag)) / (2 * order)
        imag = moved / at_least(xp.sqrt(xp.sum(moved**2, axis=0)), 1e-30, xp)
    along = xp.sum(imag * start, axis=0)
    return xp.where(along < 0, -imag, imag)
