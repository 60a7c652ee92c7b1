"""Transmission matrix with a reference that passes through the medium: mirrors that carry no data."""

from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from calibration.fields.readings import Bench, RawFrames
from calibration.recovery.base import Block, Gauge, RecoveryMethod, Shots
from calibration.recovery.designs.signs import Probes, SignDesign, masked
from calibration.recovery.interferometry import BINARY_GAUGE
from calibration.recovery.likelihood import Pixels, check_light, pixels_of, recovered, refine, retry
from photonics.component import Field, component

__all__ = ["Popoff", "first_guess", "stepped_design"]

LEAST_INPUTS = 32
"""With fewer, other rows explain the frames as well as the true one: at 24 inputs 0.3 % of those called valid."""
EVEN = 10.0
"""Floor of the noise over the mean intensity in a climb that shall leave a wrong minimum: all frames weigh alike."""
FIRST_START, OTHER_STARTS = (3, 0.3), ((10, 0.1), (8, 0.3), (3, 0.3))
"""Power iterations of `first_guess`, and its pull towards what the references say; of rows in a wrong minimum."""
WORST = 4.0
"""Misfit over which no row is accepted, though all are alike: light that does not interfere, or a medium that moves."""
DARK = 0.02
"""Share of the mean intensity that ``|c|^2`` is taken to have at least."""

Real = NDArray[np.floating[Any]]
"""float32 in fact."""
Complex = NDArray[np.complexfloating[Any, Any]]
"""complex64 in fact."""


@component
class Popoff(RecoveryMethod):
    """Internal reference, after S. M. Popoff et al., Phys. Rev. Lett. 104, 100601 (2010), for mirrors that are binary.

    There a part of a phase modulator is left alone, and what it sends through the medium, a speckle r, is the reference
    for +-1 Hadamard probes that step through four phases. Mirrors make +-1 by the difference of a pattern and its
    complement, ``y = a + z`` and ``a - z``, where a does not change: half of the field of all inputs, c, and a part
    r that carries no data. ``(I+ - I-)/4 = Re(conj(a) z)`` is one quadrature of z. Mirrors cannot step a phase, so the
    other quadrature comes from a second round of probes, with other masks, where that part shows S patterns by turns:

    1. Without a reference ``a = c``: the first round gives ``Re u`` of each input in the gauge where c is real.
    2. With reference s ``a = c + r_s``: what is left of ``Re(conj(a) z)`` is ``Im(a) Im z``, S shares of ``Im u`` with
       a sign each. The signs are those that explain ``(I+ + I-)/2 = |a|^2 + |z|^2`` best. Where ``Im(a)`` is near 0
       the probe says little: power iterations on these sums fill in what is missing (`first_guess`).
    3. The likelihood of all frames is climbed (`calibration.recovery.likelihood.refine`) for u, c and the references
       together. Rows in a wrong minimum first climb with all frames weighing alike, which has other minima.

    Frames are four for each input, twice what there is to be found. The dimmer the reference the more of the camera's
    range is left to the data, and the fewer rows have a good start. At 256 inputs (8 bits, 10 ke-, 0.1 % saturated)
    2 % of the rows stay in a wrong minimum, are seen by their misfit and refused; with fewer inputs it is more, 4 % at
    48 and 9 % at 32. What is left open is as for `calibration.recovery.interferometry.NumericalInterferometry`.
    """

    name: ClassVar[str] = "popoff"

    n_in: int = Field(ge=LEAST_INPUTS)
    """Inputs of the device."""
    n_inputs: int = Field(ge=LEAST_INPUTS)
    """Inputs whose columns are recovered, the first ones; others are the references'."""
    seed: int = Field(default=0, ge=0, lt=2**64)
    """Chooses masks and order of the probes."""
    references: int = Field(default=4, ge=1, le=32)
    """Reference patterns S. One alone has the phase of c, or the opposite, in more rows than it can serve."""
    brightness: float = Field(default=0.25, gt=0, le=10)
    """Light of a reference over that of a half-ON probe, as far as there are inputs for it."""

    def __post_init__(self) -> None:
        if self.n_inputs > self.n_in - self.references:
            raise ValueError(
                f"n_inputs must be {self.n_in - self.references} or less, which leaves an input for each of "
                f"{self.references} references, got {self.n_inputs}"
            )

    @property
    def design(self) -> SignDesign:
        """The patterns; each reference counts as one input more."""
        return stepped_design(self.n_inputs, self.references, self.seed)

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
        spare = self.n_in - self.n_inputs
        each = min(max(round(self.brightness * self.n_inputs / 2.0), 1), spare // self.references)
        used = np.arange(each * self.references)  # spread over the spare inputs, dealt out in turn
        shown = self.design.patterns(start, stop)
        patterns = np.zeros((len(shown), self.n_in), np.bool_)
        patterns[:, : self.n_inputs] = shown[:, : self.n_inputs]
        patterns[:, self.n_inputs + used * spare // len(used)] = shown[:, self.n_inputs + used % self.references]
        return Shots(patterns)

    def prepare(self, raw: RawFrames, bench: Bench) -> None:
        """Refuse frames that are dark or saturated."""
        check_light(self.design, raw, bench)

    def solve(self, frames: NDArray[Any], rows: slice, bench: Bench, state: Any) -> Block:  # noqa: D102
        pixels = pixels_of(frames, bench)
        even = pixels._replace(floor=EVEN * float(pixels.signal.mean()))
        fit = refine(self.design, pixels, first_guess(self.design, pixels, *FIRST_START))

        def evenly(bad: NDArray[np.intp], start: Complex) -> Complex:
            return refine(self.design, even._replace(signal=pixels.signal[:, bad]), start).unknowns

        def again(steps: int, pull: float) -> Any:
            return lambda bad: evenly(
                bad, first_guess(self.design, pixels._replace(signal=pixels.signal[:, bad]), steps, pull)
            )

        fit = retry(self.design, pixels, fit, [lambda bad: evenly(bad, fit.unknowns[:, bad])])
        fit = retry(self.design, pixels, fit, [again(*options) for options in OTHER_STARTS])
        return recovered(self.design, fit, pixels, bench, self.n_inputs, WORST)


@lru_cache(maxsize=8)
def stepped_design(n_inputs: int, references: int, seed: int) -> SignDesign:
    """A round of Hadamard probes without reference, and one whose probes are dealt out to the references in turn."""
    data, count = np.arange(n_inputs), n_inputs + references
    none = np.where(np.arange(count) < n_inputs, 0.0, -1.0).astype(np.float32)[None]
    first, second = (masked(data, none, seed, number) for number in range(2))
    parts = [first]
    for number in range(references):
        fixed = none.copy()
        fixed[0, n_inputs + number] = 1.0
        parts.append(Probes(second.rows[number::references], data, second.mask, fixed))
    return SignDesign(count, tuple(parts))


def first_guess(design: SignDesign, pixels: Pixels, steps: int, pull: float) -> Complex:
    """Steps 1 and 2 of `Popoff`: (n_inputs + references + 1, n_rows).

    Parameters
    ----------
    steps : int
        Power iterations for ``Im u``.
    pull : float
        How strongly they are drawn to what the references say.
    """
    parts = [(part, *halves(signal[0])) for part, signal in design.parts(pixels.signal)]
    plain, swing, sums = parts[0]
    order, mean = len(plain.rows), sums.mean(axis=0)
    real = swung_back(plain, swing) / order
    bright = np.sqrt(np.maximum(real.sum(axis=0), DARK * mean))  # all OFF is dark: c is the sum of all u
    real /= bright
    total = np.maximum(mean - bright**2, 1e-3 * mean)  # the mean of |z|^2 is the sum of |u|^2
    power = np.maximum(total - (real**2).sum(axis=0), DARK * total)

    noise = pixels.gain * (mean + pixels.floor) / 8.0  # of a swing
    anchors, shares = [bright + 0j], []
    for part, swing, _ in parts[1:]:
        known = swung(part, real)
        along = (swing * known).sum(axis=0) / np.maximum((known**2).sum(axis=0), 1e-30)
        left = swing - along * known
        aside = np.sqrt(np.maximum((left**2).mean(axis=0) - noise, 0.01 * noise) / power)
        shares.append(swung_back(part, left * (aside / (aside**2 + noise / power))) / order)
        anchors.append(along + 1j * aside)
    # A pair of shares beats in |z|^2 of the first round, with the sign of their product.
    seen = sums - swung(plain, real) ** 2
    seen -= seen.mean(axis=0)
    shown = np.stack([swung(plain, share) for share in shares])
    beats = np.einsum("km,akm,bkm->mab", seen, shown, shown)
    beats[:, range(len(shares)), range(len(shares))] = 0.0
    signs = np.where(np.linalg.eigh(beats)[1][:, :, -1] < 0, -1.0, 1.0).T.astype(np.float32)
    imag = np.einsum("am,ajm->jm", signs, np.stack(shares)) / np.sqrt(power)
    imag = filled(parts, real, imag, total, power, steps, pull) * np.sqrt(power)

    fields = np.stack(anchors)
    fields[1:] = np.where(signs < 0, fields[1:].conj(), fields[1:])
    change = (fields[1:] - fields[0]) / 2.0
    middle = fields[0] + change.sum(axis=0)
    return np.concatenate([real + 1j * imag, change, middle[None]]).astype(np.complex64)


def filled(
    parts: list[tuple[Probes, Real, Real]], real: Real, imag: Real, total: Real, power: Real, steps: int, pull: float
) -> Real:
    """``Im u`` over its length, (n_inputs, n_rows): `imag` completed by power iterations on ``(Im z)^2``.

    Weights as in `calibration.recovery.phase_retrieval.spectral_start`, at two frames for each unknown.
    """
    weights = []
    for part, _, sums in parts:
        known = swung(part, real) ** 2
        light = sums - sums.mean(axis=0) + known.mean(axis=0) + power - known  # (Im z)^2, its mean held
        relative = np.maximum(light / power, 0.0)
        weights.append((relative - 1.0) / (relative + 1.0))
    start, order = imag, len(parts[0][0].rows)
    for _ in range(steps):
        moved = pull * start + np.float32(0.5) * imag
        for (part, _, _), weight in zip(parts, weights, strict=True):
            moved += swung_back(part, weight * swung(part, imag)) / np.float32(2 * order)
        imag = moved / np.maximum(np.linalg.norm(moved, axis=0), 1e-30)
    return imag * np.where((imag * start).sum(axis=0) < 0, np.float32(-1.0), np.float32(1.0))


def halves(signal: Real) -> tuple[Real, Real]:
    """``Re(conj(a) z)`` and ``|a|^2 + |z|^2`` from pairs of frames: (n_probes, 2, m) -> (n_probes, m) twice."""
    return (signal[:, 0] - signal[:, 1]) / np.float32(4.0), signal.mean(axis=1)


def swung(part: Probes, vector: Real) -> Real:
    """``sum_j s_kj v_j`` of each probe: (n_inputs, m) -> (n_probes, m)."""
    return part.rows @ (part.mask[:, None] * vector)


def swung_back(part: Probes, values: Real) -> Real:
    """Transpose of `swung`: (n_probes, m) -> (n_inputs, m)."""
    return part.mask[:, None] * (part.rows.T @ values)
