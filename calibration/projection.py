"""Linear projections through a device that sees only intensities."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.holography import disjoint_anchor, superset_anchor
from calibration.statics import NoiseModel, measure_background
from photonics import OPU
from photonics.component import integer, number
from photonics.encoding import as_ternary, ternary_pair

__all__ = ["METHODS", "LinearProjection", "Projected", "measure_projection"]

METHODS = ("anchor",)
DARK_SHARE = 0.05
"""Share of the mean under which an anchor counts as dark."""


class Projected(NamedTuple):
    """Result of a projection with what is known about its error; arrays of shape (batch, n_out)."""

    values: NDArray[np.float32]
    standard_error: NDArray[np.float32]
    """Predicted from the camera's noise as it was measured; infinite where the anchor is dark."""
    noise: NDArray[np.float32]
    """Part of the standard error that is new in every projection: the noise of its frames."""
    saturated: NDArray[np.bool_]
    """Whether a frame behind the value had that pixel saturated: the value is then wrong."""


@dataclass(frozen=True, eq=False)
class LinearProjection:
    """A real linear map measured through the device: ``proj(x)`` is ``x @ M.T`` plus noise.

    ``M_ij = Re(conj(u_i) t_ij)``, with ``u_i = (T b)_i / |(T b)_i|`` the phase of the anchor b in row i: a real matrix
    with i.i.d. Gaussian entries of variance ``1/(2 n_in)``. Its sign is fixed (M b > 0), its phase gauge is the
    anchor's, its unit that of T (``unit_dn``, from the device's photometry).

    Systematic errors of scale: a row carries the square root of its pixel's relative response (PRNU), and all rows
    the laser's drift since. A leaking mirror array adds its background c to an anchor on separate mirrors, whose
    length is then known to ``|c| / |T b|`` only, and changes the common scale by up to ``2 eps``,
    ``eps = 1/sqrt(contrast)``: both are part of the standard error. With the complement they cancel to ``eps^2``.
    """

    opu: OPU
    n_inputs: int
    anchors: NDArray[np.bool_]
    """Anchor patterns, shape (n_anchors, n_in); a single one that is ON everywhere is the superset of every input."""
    choice: NDArray[np.intp]
    """Which anchor serves a row, the brightest one there: shape (n_out,)."""
    valid: NDArray[np.bool_]
    """Rows whose anchor is bright enough, shape (n_out,); the others always return 0."""
    anchor_dn: NDArray[np.float32]
    """``I(b) - I(0)`` of the anchor that serves each row, DN: shape (n_out,)."""
    anchor_variance: NDArray[np.float32]
    """Variance of `anchor_dn`, DN^2."""
    leakage: float
    """Share of the intensity that all mirrors OFF let through, 1/contrast by the mirrors' data sheet: on an 8-bit
    camera it is a fraction of a code, too little to measure."""
    unit_dn: float
    """DN of unit intensity: all inputs ON give it on the mean pixel where ``E|t_ij|^2 = 1/n_in``."""
    noise: NoiseModel

    def __repr__(self) -> str:
        return (
            f"LinearProjection({self.n_inputs} -> {self.n_outputs}, {self.valid.mean():.1%} valid, "
            f"{self.frames_per_vector} frames per vector)"
        )

    @property
    def n_outputs(self) -> int:
        """Number of outputs: one per pixel, dark rows included."""
        return self.opu.n_out

    @property
    def complementary(self) -> bool:
        """Whether the anchor contains every input, so that the second frame shows the complement."""
        return self.n_inputs == self.opu.n_in

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: the pattern, and one for each anchor. A ternary one takes twice as many.

        A vector (or the positive or negative half of one) that is all zero is not shown: its projection is 0.
        """
        return 1 + len(self.anchors)

    def __call__(self, x: Any) -> NDArray[np.float32]:
        """Project vectors: (batch, n_inputs) in {-1, 0, 1} or bool -> (batch, n_out) float32.

        Raises
        ------
        ValueError
            If the shape is wrong or an entry is another number.
        """
        x = as_ternary(x, self.n_inputs)
        values = np.zeros((len(x), self.n_outputs), np.float32)
        for sign, shown, frames in self._shots(x):
            values[shown] += sign * self._interference(frames)
        return values * self._scale()

    def measure(self, x: Any) -> Projected:
        """Project vectors, and say how uncertain each value is and whether a pixel saturated."""
        x = as_ternary(x, self.n_inputs)
        values = np.zeros((len(x), self.n_outputs), np.float32)
        variance, saturated = np.zeros_like(values), np.zeros(values.shape, np.bool_)
        for sign, shown, frames in self._shots(x):
            values[shown] += sign * self._interference(frames)
            used = np.stack([frames[:, 0], self._served(frames)], axis=1)
            variance[shown] += self.noise.variance(used).sum(axis=1)
            saturated[shown] |= (used >= self.opu.camera.saturation_dn).any(axis=1)
        noise = np.sqrt(variance) * self._scale() / 2.0
        # The anchor's own term cancels between the positive and the negative half of a vector.
        variance[(x > 0).any(axis=1) != (x < 0).any(axis=1)] += self.anchor_variance
        values *= self._scale()
        error = np.hypot(np.sqrt(variance) * self._scale() / 2.0, values * self._scale_error())
        error[:, ~self.valid] = np.inf
        return Projected(values, error, noise, saturated)

    def _scale(self) -> NDArray[np.float32]:
        """Interference in DN to the projection's unit, for each row; 0 where the anchor is dark."""
        length = np.where(self.valid, self.anchor_dn * self.unit_dn, np.inf)
        return (1.0 / np.sqrt(length)).astype(np.float32)

    def _scale_error(self) -> NDArray[np.float32]:
        """Relative standard error of each row's scale, which is known as well as the length of its anchor."""
        anchor = np.where(self.valid, self.anchor_dn, np.float32(np.inf))
        squared = self.anchor_variance / (2.0 * anchor) ** 2
        if not self.complementary:
            # The leaked field has any phase against a row's anchor (rms cosine 1/sqrt(2)). The scale that it
            # changes in all rows at once is counted at its bound, 2 eps.
            squared += self.leakage * self.unit_dn / (2.0 * anchor) + 4.0 * self.leakage
        return np.sqrt(squared)

    def _shots(self, x: NDArray[np.int8]) -> Iterator[tuple[int, NDArray[np.bool_], NDArray[Any]]]:
        """Sign, vectors concerned and their frames, of the positive and then the negative halves that are not empty."""
        for sign, half in zip((1, -1), ternary_pair(x), strict=True):
            shown = np.asarray(half.any(axis=1))
            if shown.any():
                yield sign, shown, self._frames(half[shown])

    def _frames(self, half: NDArray[np.bool_]) -> NDArray[Any]:
        """Frames of binary vectors: (batch, 1 + n_anchors, n_out), the pattern alone first."""
        alone = np.zeros((len(half), self.opu.n_in), np.bool_)
        alone[:, : self.n_inputs] = half
        # With a superset the other frame shows a - x, with disjoint anchors x + b: both are an exclusive or.
        patterns = np.concatenate([alone[:, None], alone[:, None] ^ self.anchors], axis=1)
        return self.opu.measure(patterns.reshape(-1, self.opu.n_in)).reshape(*patterns.shape[:2], -1)

    def _served(self, frames: NDArray[Any]) -> NDArray[Any]:
        """Of the frames with an anchor, each row's own: (batch, n_out)."""
        if len(self.anchors) == 1:
            return frames[:, 1]
        return np.take_along_axis(frames, 1 + self.choice[None, None, :], axis=1)[:, 0]

    def _interference(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        alone, other = frames[:, 0], self._served(frames)
        if self.complementary:
            return superset_anchor(alone, other, self.anchor_dn)
        return disjoint_anchor(other, alone, self.anchor_dn)


def measure_projection(
    opu: OPU,
    method: str = "anchor",
    n_inputs: int | None = None,
    *,
    anchors: int = 1,
    repeats: int = 16,
    dark_share: float = DARK_SHARE,
    unit_dn: float | None = None,
) -> LinearProjection:
    """Calibrate a linear projection through the device; it uses frames only.

    Parameters
    ----------
    opu : OPU
        The device, its exposure set (see `OPU.autoexpose`).
    method : {"anchor"}
        How fields are told from intensities (`calibration.holography`).
    n_inputs : int, optional
        Length of the vectors; the device's inputs beyond it are the anchors' mirrors. None: all inputs carry
        data, and the anchor is all of them ON, so the second frame of a vector shows its complement.
    anchors : int
        Number of anchors; a row is served by the one that is brightest there. More than one needs `n_inputs`.
    repeats : int
        Frames averaged for each fixed pattern (all OFF, each anchor).
    dark_share : float
        Rows whose anchor is dimmer than this share of the mean are dropped: left in, their error is 1 or more.
        In fully developed speckle that is ``1 - exp(-dark_share)`` of the rows, to the power of `anchors`.
    unit_dn : float, optional
        DN above dark that unit intensity gives, which sets the scale of the result. By default `OPU.unit_dn`: laser
        power, throughput and the camera's gain, as a power meter and data sheets tell them; all else is from frames.

    Returns
    -------
    LinearProjection

    Raises
    ------
    ValueError
        If a parameter is out of range, or the frames are so dark or so saturated that nothing can be calibrated.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if not isinstance(opu, OPU):
        raise ValueError(f"opu must be an OPU, got {type(opu).__name__}")
    n_inputs = opu.n_in if n_inputs is None else integer(n_inputs, "n_inputs", 1, opu.n_in)
    anchors = integer(anchors, "anchors", 1, max(opu.n_in - n_inputs, 1))
    repeats = integer(repeats, "repeats", 2)
    if not 0 < number(dark_share) < 1:
        raise ValueError(f"dark_share must be between 0 and 1, got {dark_share!r}")
    if unit_dn is not None and not 0 < number(unit_dn) < np.inf:
        raise ValueError(f"unit_dn must be positive, got {unit_dn!r}")

    patterns = anchor_patterns(opu.n_in, n_inputs, anchors)
    background = measure_background(opu, patterns, repeats)
    choice = background.intensity.argmax(axis=0)
    rows = np.arange(opu.n_out)
    anchor_dn = background.intensity[choice, rows]
    mean = float(background.intensity.mean())
    valid = (anchor_dn > dark_share * mean) & ~background.saturated[choice, rows]
    if mean <= 0 or valid.mean() < 0.5:
        raise ValueError(
            f"exposure_s {opu.exposure_s:g} leaves {valid.mean():.0%} of the pixels with a usable anchor "
            f"({mean:.2g} DN above dark, {background.saturated.mean():.0%} saturated): call opu.autoexpose()"
        )
    return LinearProjection(
        opu=opu,
        n_inputs=n_inputs,
        anchors=patterns,
        choice=choice,
        valid=valid,
        anchor_dn=anchor_dn,
        anchor_variance=background.variance[choice, rows],
        leakage=abs(opu.dmd.leakage) ** 2,
        unit_dn=opu.unit_dn if unit_dn is None else float(unit_dn),
        noise=background.noise,
    )


def anchor_patterns(n_in: int, n_inputs: int, anchors: int) -> NDArray[np.bool_]:
    """Anchor patterns, (anchors, n_in): all ON if there are no spare inputs, else the spare ones dealt out in turn."""
    if n_inputs == n_in:
        return np.ones((1, n_in), np.bool_)
    index = np.arange(n_in)
    return (index >= n_inputs) & ((index - n_inputs) % anchors == np.arange(anchors)[:, None])
