"""Projections by phase stepping: a few frames of each pattern, the reference arm's piezo a step further in each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.arm import ReferencedProjection, check_arm, measure_arm
from calibration.device import Device
from calibration.holography import step_phases, stepped_interference
from calibration.linear import Response

__all__ = ["SteppingProjection", "measure_stepping"]

FEWEST = 3
"""Frames that fix the three unknowns of a fringe: its mean, its cosine and its sine."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SteppingProjection(ReferencedProjection):
    """A complex linear map by P frames at phases ``2 pi k / P`` of the reference beam.

    A change of the phase within the P frames of a pattern mixes a share of ``conj(y)`` and of the intensity into y:
    white jitter of 0.1 and 0.4 rad rms makes an error of 0.03 one of 0.08 and 0.30 (measured, four steps).
    With four steps or more a pixel that saturates in a frame is recovered from the others, as long as three are left.
    """

    phases_rad: NDArray[np.float64]
    """Phases of the steps, (P,)."""
    offset_dn: NDArray[np.complex64]
    """Response of all mirrors OFF, DN: (n_out,)."""

    @property
    def gauge(self) -> str:  # noqa: D102 (inherited)
        return (
            "The phase of each row is taken from the reference beam's on that pixel, which is unknown; a drift of that "
            "beam turns all rows of a vector together. Conjugation (by the piezo's direction) and scale are fixed."
        )

    @property
    def frames_per_vector(self) -> int:
        """Frames for one binary vector: one for each phase step. A ternary one takes twice as many."""
        return len(self.phases_rad)

    def _scale(self) -> NDArray[np.float32]:
        # A pixel that a tilted beam's fringes cross has less of them, by what the optics' data sheets say.
        return super()._scale() / np.float32(self.opu.imaging.visibility(self.opu.laser.wavelength_m))

    def _frames(self, half: NDArray[np.bool_]) -> NDArray[Any]:
        steps = len(self.phases_rad)
        patterns = np.repeat(self._shown(half), steps, axis=0)
        frames = self.opu.measure(patterns, reference_phase=np.tile(self.phases_rad, len(half)))
        return frames.reshape(len(half), steps, -1)

    def _respond(self, frames: NDArray[Any], uncertain: bool) -> Response:
        values = stepped_interference(frames, self.phases_rad)
        full = frames >= self.opu.camera.saturation_dn
        lost = np.argwhere(full.any(axis=1))
        batch, row = lost[:, 0], lost[:, 1]
        kept = ~full[batch, :, row]  # (n_lost, P)
        enough = kept.sum(axis=1) >= FEWEST
        batch, row, kept = batch[enough], row[enough], kept[enough]
        weights = fringe_weights(self.phases_rad, kept)
        values[batch, row] = (weights * frames[batch, :, row]).sum(axis=1)
        values -= self.offset_dn
        if not uncertain:
            return Response(values, None, None)
        noise = self.noise.variance(frames)
        variance = noise.mean(axis=1) / np.float32(2 * len(self.phases_rad))
        variance[batch, row] = (np.abs(weights) ** 2 * noise[batch, :, row]).sum(axis=1) / 2.0
        saturated = np.asarray(full.any(axis=1))
        saturated[batch, row] = False
        return Response(values, variance, saturated)


def fringe_weights(phases_rad: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.complex64]:
    """Weights of the frames that are kept in the least-squares estimate of ``conj(R) y``: (n, P) -> (n, P).

    ``I_k = A + 2 Re(conj(R) y exp(-i phi_k))``, three unknowns; with all frames the weights are ``exp(i phi_k) / P``.
    """
    design = np.stack([np.ones_like(phases_rad), 2.0 * np.cos(phases_rad), 2.0 * np.sin(phases_rad)], axis=1)
    used = kept[:, :, None] * design  # (n, P, 3)
    normal = np.swapaxes(used, 1, 2) @ design
    solved = np.linalg.solve(normal, np.swapaxes(used, 1, 2))
    return (solved[:, 1] + 1j * solved[:, 2]).astype(np.complex64)


def measure_stepping(
    opu: Device, n_inputs: int, steps: int, bits: int, repeats: int, dark_share: float, unit_dn: float
) -> SteppingProjection:
    """Calibrate a projection by phase stepping; see `calibration.measure_projection`."""
    phases = step_phases(steps)
    arm = measure_arm(opu, phases, repeats)
    valid = check_arm(opu, arm, dark_share)
    return SteppingProjection(
        opu=opu,
        n_inputs=n_inputs,
        bits=bits,
        valid=valid,
        unit_dn=unit_dn,
        noise=arm.noise,
        reference_dn=arm.reference_dn,
        reference_variance=arm.reference_variance,
        shared_variance=arm.frame_variance.mean(axis=0) / np.float32(2 * steps),
        phases_rad=phases,
        offset_dn=stepped_interference(arm.frames_dn[None], phases)[0],
    )
