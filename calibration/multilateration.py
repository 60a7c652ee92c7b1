"""Projections by multilateration: fields from their distances to a few anchors in the complex plane, no reference.

Rows do not know of each other. In a row, the anchors are points ``q_i = (T b_i)`` of the complex plane, known up to a
turn and a reflection from the intensities of them and of their pairs; the field y of a vector is then found from its
distances to them. All of it as real vectors of two components, so that ``Re(conj(q) y)`` is the dot product ``q . y``.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.anchor import anchor_patterns, frames_with_anchors
from calibration.device import Device
from calibration.linear import LinearProjection, Response, sheet_error, swing_dn
from calibration.placement import Places, anchor_sets, place, solve
from calibration.statics import Background, measure_background

__all__ = ["MultilaterationProjection", "measure_multilateration"]

ROWS = 2**13
"""Rows whose anchors are placed at a time."""
PIXELS = 2**27
"""Pixels of calibration frames held at a time."""
FEWEST = 3
MOST_RANK = 0.3
"""Largest median ratio of the third to the second eigenvalue that a single field per pixel can have."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MultilaterationProjection(LinearProjection):
    """A complex linear map by S + 1 frames: a pattern alone, and with each of S anchors on mirrors of their own.

    ``I(x + b_i) - I(x) - [I(b_i) - I(0)] = 2 q_i . (T x)``, S equations for two unknowns in each row, exact with
    leaking mirrors too. They are weighted by the noise that frames of half-ON vectors have, that of ``I(x)`` being
    common to all. A frame that saturates is left out where three others are left.

    References
    ----------
    S. Gupta et al., "Don't take it lightly: phasing optical random projections with unknown operators",
    arXiv:1907.01703 (2019); "Fast optical system identification by numerical interferometry", arXiv:1911.01006.
    """

    anchors: NDArray[np.bool_]
    """Anchor patterns on mirrors beyond the vectors', (S, n_in)."""
    anchor_dn: NDArray[np.float32]
    """``I(b_i) - I(0)``, DN: (S, n_out)."""
    positions: NDArray[np.float32]
    """The anchors in the complex plane of each row, sqrt(DN), up to a turn and a reflection: (n_out, S, 2)."""
    rank_ratio: NDArray[np.float32]
    """Third over second eigenvalue of the anchors' Gram matrix in each row, (n_out,): 0 without noise where a pixel
    sees a single field, 1 where the plane cannot be told from noise or from a second field."""
    flatness: NDArray[np.float32]
    """Second over first eigenvalue, (n_out,): 0 for anchors on a line, which leave the conjugate open; 1 at best."""
    solution: NDArray[np.float32]
    """Weights of the anchors' equations in the two parts of a field, (2, S, n_out)."""
    expected: tuple[NDArray[np.float32], float]
    """Variances that the weights follow: of the frames with an anchor, (n_out, S), and of those alone, DN^2."""
    shared_variance: NDArray[np.float32]
    """Variance by ``I(b_i) - I(0)``, of each part, DN: (n_out,)."""
    scale_error: NDArray[np.float32]
    """Relative standard error of a row by that of its anchors' positions, (n_out,)."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "The phase of each row is undetermined, and so is, row by row, whether it is T's or its complex conjugate: "
            "no real input tells. The scale is fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: the pattern, and one for each anchor. A ternary one takes twice as many."""
        return 1 + len(self.anchors)

    @property
    def dtype(self) -> type[np.complex64]:  # noqa: D102 (inherited)
        return np.complex64

    def _frames(self, half: NDArray[np.bool_]) -> NDArray[Any]:
        return frames_with_anchors(self.opu, self._shown(half), self.anchors)

    def _respond(self, frames: NDArray[Any], uncertain: bool) -> Response:
        count = len(self.anchors)
        values = np.zeros((frames.shape[0], frames.shape[2]), np.complex64)
        alone = frames[:, 0].astype(np.float32)
        for i in range(count):
            equation = frames[:, 1 + i] - alone - self.anchor_dn[i]
            values.real += self.solution[0, i] * equation
            values.imag += self.solution[1, i] * equation
        full = frames >= self.opu.camera.saturation_dn
        lost = np.argwhere(full.any(axis=1) & self.valid)
        batch, row = lost[:, 0], lost[:, 1]
        kept = ~full[batch, :, row]
        enough = kept[:, 1:].sum(axis=1) >= FEWEST
        batch, row, kept = batch[enough], row[enough], kept[enough]
        weights = solve(
            self.positions[row], kept[:, 1:] / self.expected[0][row], kept[:, 0] / np.float64(self.expected[1])
        )
        equations = frames[batch, 1:, row] - alone[batch, row, None] - self.anchor_dn.T[row]
        parts = (weights * equations[:, None]).sum(axis=2)
        values[batch, row] = parts[:, 0] + 1j * parts[:, 1]
        if not uncertain:
            return Response(values, None, None)
        variance = self._variance(frames)
        variance[batch, row] = self._variance_of(weights, self.noise.variance(frames[batch, :, row]))
        saturated = np.asarray(full.any(axis=1))
        saturated[batch, row] = False
        return Response(values, variance, saturated)

    def _variance(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        alone = (self.solution.sum(axis=1) ** 2).sum(axis=0)
        variance = alone * self.noise.variance(frames[:, 0])
        for i, weight in enumerate((self.solution**2).sum(axis=0)):
            variance += weight * self.noise.variance(frames[:, 1 + i])
        return variance / np.float32(2.0)

    @staticmethod
    def _variance_of(weights: NDArray[np.float64], noise: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean variance of the two parts: weights (n, 2, S), variances of the S + 1 frames (n, S + 1) -> (n,)."""
        alone = (weights.sum(axis=2) ** 2).sum(axis=1) * noise[:, 0]
        return (alone + ((weights**2).sum(axis=1) * noise[:, 1:]).sum(axis=1)) / 2.0

    def _scale(self) -> NDArray[np.float32]:
        return np.where(self.valid, 1.0 / np.sqrt(swing_dn(self.opu, self.unit_dn)), 0.0).astype(np.float32)

    def _shared_variance(self) -> NDArray[np.float32]:
        return self.shared_variance

    def _scale_error(self) -> NDArray[np.float32]:
        return np.hypot(self.scale_error, np.float32(sheet_error(self.opu)))


def measure_multilateration(
    opu: Device, n_inputs: int, anchors: int, bits: int, repeats: int, dark_share: float, unit_dn: float
) -> MultilaterationProjection:
    """Calibrate a projection by multilateration; see `calibration.measure_projection`."""
    singles = anchor_patterns(opu.n_in, n_inputs, anchors)
    members = anchor_sets(anchors)
    background = measure_many(opu, (members @ singles).astype(np.bool_), repeats)
    leak_dn = abs(opu.dmd.leakage) ** 2 * unit_dn
    blocks = [slice(start, start + ROWS) for start in range(0, opu.n_out, ROWS)]
    found = [
        place(background.intensity[:, rows].T, background.variance[:, rows].T, members, leak_dn) for rows in blocks
    ]
    places = Places(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    mean = float(background.intensity[:anchors].mean())
    # With S anchors of independent phases both eigenvalues are near S/2 times their mean intensity.
    valid = (places.spread > dark_share * anchors / 2.0 * mean) & ~background.saturated.any(axis=0)
    if mean <= 0 or valid.mean() < 0.5:
        raise ValueError(
            f"exposure_s {opu.exposure_s:g} leaves {valid.mean():.0%} of the pixels with usable anchors ({mean:.2g} DN "
            f"above dark, {background.saturated.any(axis=0).mean():.0%} saturated): another exposure, other anchors"
        )
    ratio = float(np.median(places.rank_ratio[valid]))
    if ratio > MOST_RANK:
        raise ValueError(
            f"anchors must lie in a plane, got a rank ratio of {ratio:.2g} (at most {MOST_RANK}): pixels see several "
            f"fields (polarisations, wavelengths, grains), or the light is too dim for the noise"
        )
    noise = background.noise
    half = unit_dn * n_inputs / (2.0 * opu.n_in)  # mean intensity of half-ON vectors
    floor, slope = noise.floor_dn2, noise.slope_dn
    with_anchor = floor + slope * (half + (places.positions**2).sum(axis=2))
    alone = floor + slope * half
    solution = solve(places.positions, 1.0 / with_anchor, np.full(opu.n_out, 1.0 / alone))  # (n_out, 2, S)
    shared = (solution**2).sum(axis=1) * background.variance[:anchors].T
    scale = 2.0 * np.einsum("rki,rij,rkj->r", solution, places.covariance, solution)
    return MultilaterationProjection(
        opu=opu,
        n_inputs=n_inputs,
        bits=bits,
        valid=valid,
        unit_dn=unit_dn,
        noise=noise,
        anchors=singles,
        anchor_dn=background.intensity[:anchors],
        positions=places.positions.astype(np.float32),
        rank_ratio=places.rank_ratio.astype(np.float32),
        flatness=places.flatness.astype(np.float32),
        solution=np.ascontiguousarray(solution.transpose(1, 2, 0), np.float32),
        expected=(with_anchor.astype(np.float32), float(alone)),
        shared_variance=(shared.sum(axis=1) / 2.0).astype(np.float32),
        scale_error=np.sqrt(np.maximum(scale, 0.0)).astype(np.float32),
    )


def measure_many(opu: Device, patterns: NDArray[np.bool_], repeats: int) -> Background:
    """`measure_background` of many patterns, some at a time."""
    size = max(PIXELS // (repeats * opu.n_out), 1)
    parts = [measure_background(opu, patterns[i : i + size], repeats) for i in range(0, len(patterns), size)]
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in Background._fields[:3]]
    return Background(*joined, noise=parts[0].noise)
