"""Mean and variance of the whole chain, from laser to digital numbers, without drawing anything.

A frame's mean photons mu on a pixel fluctuate with the light, and the camera adds the rest (law of total variance)::

    E[y]   = camera.mean(E[mu])
    Var[y] = camera.variance(E[mu]) + (K QE PRNU)^2 Var[mu]
    Var[mu] = E[mu]^2 (drift^2 + RIN / 2t) + sum_axes (d mu / d pointing)^2 + Var[phase of the reference]

The terms of the light are taken as independent and, but for the reference's phase, to first order: the second order
of the default laser is under 1e-4 of the mean. Slow drifts count with their stationary variance, as over a run much
longer than their time constants. The medium and the surface of the mirrors are those of the next frame. Clipping, by
the well and by the converter, is not in the moments: they hold where less than about 1 % of the draws saturate.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from photonics.encoding import as_patterns
from photonics.reference import as_phases

if TYPE_CHECKING:
    from photonics.opu import OPU

__all__ = ["light", "mean", "variance"]


def mean(opu: "OPU", patterns: Any, exposure_s: float | None = None, reference_phase: Any = None) -> Any:
    """Mean DN of each pixel before clipping: (batch, n_in) patterns -> (batch, n_out)."""
    exposure_s = opu.exposure_s if exposure_s is None else exposure_s
    return opu.camera.mean(light(opu, patterns, exposure_s, reference_phase)[0], exposure_s)


def variance(opu: "OPU", patterns: Any, exposure_s: float | None = None, reference_phase: Any = None) -> Any:
    """Temporal variance of each pixel before clipping, DN^2: (batch, n_in) patterns -> (batch, n_out)."""
    exposure_s = opu.exposure_s if exposure_s is None else exposure_s
    photons, spread = light(opu, patterns, exposure_s, reference_phase)
    return opu.camera.variance(photons, exposure_s) + opu.camera.signal(opu.backend.xp.sqrt(spread)) ** 2


def light(opu: "OPU", patterns: Any, exposure_s: float, reference_phase: Any = None) -> tuple[Any, Any]:
    """Mean and variance of the mean photons on each pixel, over what the laser and the reference's phase do.

    Returns
    -------
    tuple of arrays, shape (batch, n_out)
        Photons, and photons squared.
    """
    xp, still = opu.backend.xp, quiet(opu)
    patterns = as_patterns(patterns, opu.n_in, backend=opu.backend)
    batch = patterns.shape[0]
    ticks = np.full(batch, opu.clock.frames, np.int64)
    phases = None if reference_phase is None else as_phases(reference_phase, batch)
    field = still.light(ticks, exposure_s)

    def photons(scale: Any = None, step: float = 0.0) -> Any:
        lit = field if scale is None else field * opu.backend.asarray(scale, "float32")
        return still.photons(patterns, ticks, exposure_s, lit, None if phases is None else phases + step)

    average, spread = photons(), None
    reference = opu.imaging.reference
    if phases is not None and reference.phase_variance:
        # I(phi) = a + Re(z exp(i phi)): three phases give a and z, whatever the optics between.
        opposite = photons(step=math.pi)
        a, cosine = (average + opposite) / 2.0, (average - opposite) / 2.0
        sine = photons(step=math.pi / 2.0) - a
        left = math.exp(-reference.phase_variance / 2.0)
        squares = ((cosine**2 + sine**2) + (cosine**2 - sine**2) * left**4) / 2.0
        spread = squares - (left * cosine) ** 2
        average = a + left * cosine
    common = average**2 * opu.laser.power_variance(exposure_s)
    spread = common if spread is None else spread + common
    for gradient in opu.laser.pointing_gradient(opu.cells):
        if gradient.any():
            spread = spread + ((photons(1.0 + gradient) - photons(1.0 - gradient)) / 2.0) ** 2
    return average, xp.where(spread > 0.0, spread, xp.zeros_like(spread))


def quiet(opu: "OPU") -> "OPU":
    """Return the device with a laser and a reference that do not fluctuate."""
    laser = replace(opu.laser, rin_db_per_hz=None, drift_rms=0.0, pointing_rad=0.0)
    reference = replace(opu.imaging.reference, phase_jitter_rad=0.0, phase_drift_rad=0.0)
    return opu.replace(laser=laser, imaging=replace(opu.imaging, reference=reference))
