"""Mean and variance of the whole chain, from laser to digital numbers, without drawing anything.

A frame's mean photons mu on a pixel fluctuate with the light, and the camera adds the rest (law of total variance)::

    E[y]    = camera.mean(E[mu])
    Var[y]  = camera.variance(E[mu]) + (K QE PRNU)^2 Var[mu]
    Var[mu] = Var_phi[mu] + E_phi[mu^2] (drift^2 + RIN / 2t) + sum_axes E_phi[(d mu / d pointing)^2]

E_phi is over the phase of the reference, a normal law of variance s^2 about the set phase. What the light does is
linear in ``exp(i phi)``, ``f = a + Re(z exp(i phi))``, so three phases give a and z whatever the optics between, and

    E_phi[f] = a + L c,    Var_phi[f] = c^2 (1 - L^2)^2 / 2 + s'^2 (1 - L^4) / 2,    L = exp(-s^2 / 2),

c the cosine part of z at the set phase and s' its sine part. This and the power are exact (but for the power's floor at
0, which matters where its rms nears 1/3). Pointing is to first order; the second changes the mean by up to a relative
``4 (shift / beam radius)^2``, 2e-6 for the default laser. Slow drifts count with their stationary variance, as over a
run much longer than their time constants. The medium and the surface of the mirrors are those of the next frame.
Clipping, by the well and by the converter, is not in the moments: they hold where less than about 1 % of the draws
saturate.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from photonics.parts.reference import as_phases
from photonics.patterns.encoding import as_patterns

if TYPE_CHECKING:
    from photonics.opu import OPU

__all__ = ["mean", "variance"]

Photons = Callable[..., Any]
"""Mean photons, (batch, n_out), with the reference's phase a step away and the light on each input scaled."""


def mean(opu: "OPU", patterns: Any, exposure_s: float | None = None, reference_phase: Any = None) -> Any:
    """Mean DN of each pixel before clipping: (batch, n_in) patterns -> (batch, n_out)."""
    exposure_s = opu.exposure_s if exposure_s is None else opu._check_exposure(exposure_s)
    photons, phase_variance = still(opu, patterns, exposure_s, reference_phase)
    return opu.camera.mean(over_phase(photons, phase_variance)[0], exposure_s)


def variance(opu: "OPU", patterns: Any, exposure_s: float | None = None, reference_phase: Any = None) -> Any:
    """Temporal variance of each pixel before clipping, DN^2: (batch, n_in) patterns -> (batch, n_out)."""
    exposure_s = opu.exposure_s if exposure_s is None else opu._check_exposure(exposure_s)
    photons, phase_variance = still(opu, patterns, exposure_s, reference_phase)
    average, spread = over_phase(photons, phase_variance)
    spread = spread + (average**2 + spread) * opu.laser.power_variance(exposure_s)
    for gradient in opu.laser.pointing_gradient(opu.cells):
        if gradient.any():
            slope, rest = over_phase(central(photons, gradient), phase_variance)
            spread = spread + slope**2 + rest
    return opu.camera.variance(average, exposure_s) + opu.camera.signal(opu.backend.xp.sqrt(spread)) ** 2


def still(opu: "OPU", patterns: Any, exposure_s: float, reference_phase: Any = None) -> tuple[Photons, float]:
    """Photons while nothing fluctuates, as a function; and the variance of the reference's phase."""
    quiet = copy.copy(opu)  # shares the medium, modes and all
    quiet._laser = replace(opu.laser, rin_db_per_hz=None, drift_rms=0.0, pointing_rad=0.0)
    reference = replace(opu.imaging.reference, phase_jitter_rad=0.0, phase_drift_rad=0.0)
    quiet._imaging = replace(opu.imaging, reference=reference)
    patterns = as_patterns(patterns, opu.n_in, backend=opu.backend)
    batch = patterns.shape[0]
    ticks = np.full(batch, opu.clock.frames, np.int64)
    phases = None if reference_phase is None else as_phases(reference_phase, batch)
    field = quiet.light(ticks, exposure_s)

    def photons(step: float, scale: Any = None) -> Any:
        lit = field if scale is None else field * opu.backend.asarray(scale, "float32")
        return quiet.mean_photons(patterns, ticks, exposure_s, lit, None if phases is None else phases + step)

    return photons, 0.0 if phases is None else opu.imaging.reference.phase_variance


def over_phase(values: Callable[[float], Any], phase_variance: float) -> tuple[Any, Any]:
    """Mean and variance over a normal phase of `values`, a function ``a + Re(z exp(i step))`` of the phase's step."""
    first = values(0.0)
    if not phase_variance:
        return first, first * 0.0
    opposite = values(math.pi)
    a, cosine = (first + opposite) / 2.0, (first - opposite) / 2.0
    sine = values(math.pi / 2.0) - a
    lost = -math.expm1(-phase_variance)  # 1 - L^2, without the cancellation that a small phase would bring
    spread = (cosine * lost) ** 2 / 2.0 + sine**2 * (lost * (2.0 - lost) / 2.0)
    return a + cosine * math.exp(-phase_variance / 2.0), spread


def central(photons: Photons, gradient: Any) -> Callable[[float], Any]:
    """Change of the photons by an rms shift of the beam, as a function of the step of the reference's phase."""
    return lambda step: (photons(step, 1.0 + gradient) - photons(step, 1.0 - gradient)) / 2.0
