"""Mean and variance of the whole chain, from laser to digital numbers, without random draws.

The mean photons mu on a pixel fluctuate from frame to frame with the light, and the camera adds its noise and rounds
(`photonics.parts.rounding`)::

    E[y]    = camera.mean(E[mu], Var[mu])
    Var[y]  = camera.variance(E[mu], Var[mu])
    Var[mu] = Var_phi[mu] + E_phi[mu^2] (drift^2 + RIN / 2t) + sum_axes E_phi[(d mu / d pointing)^2]

E_phi is the mean over the phase of the reference, which is normal with variance s^2 about the set phase. The photons
are linear in ``exp(i phi)``, ``f = a + Re(z exp(i phi))``, so their values at three phases give a and z for any optics,
and

    E_phi[f] = a + L c,    Var_phi[f] = c^2 (1 - L^2)^2 / 2 + s'^2 (1 - L^4) / 2,    L = exp(-s^2 / 2),

with c the cosine part of z at the set phase and s' its sine part. The terms of phase and power are exact (apart from
the lower limit of the power at 0, which matters if its rms is near 1/3). Pointing is to first order; its second order
changes the mean by up to a relative ``4 (shift / beam radius)^2``, 2e-6 for the default laser. Slow drifts enter with
their stationary variance, as in a run much longer than their correlation times. A vibration of the phase counts as
normal with its variance s^2: its own factor on the fringes is ``J0(sqrt(2) s)``, smaller by ``s^4 / 16``. The medium,
the surface of the mirrors and the place of the pattern on the sensor are those of the next frame. The moments do not
include clipping by the well and by the converter: they hold if less than about 1 % of the draws saturate.
"""

import math
from collections.abc import Callable

import numpy as np

from photonics.arrays import Array, HostArray
from photonics.chain import Chain
from photonics.parts.reference import as_phases
from photonics.parts.sensor import Window
from photonics.patterns.encoding import as_patterns

__all__ = ["mean", "noiseless_photons", "variance"]

Photons = Callable[..., Array]
"""Mean photons, (batch, n_out), for a step of the reference's phase and a factor on the light of each input."""


def mean(chain: Chain, patterns: Array, exposure_s: float | None = None, reference_phase: Array | None = None) -> Array:
    """Mean DN of each pixel before clipping: (batch, n_in) patterns -> (batch, n_out)."""
    return chain.camera.mean(*fluctuating_light(chain, patterns, exposure_s, reference_phase))


def variance(
    chain: Chain, patterns: Array, exposure_s: float | None = None, reference_phase: Array | None = None
) -> Array:
    """Temporal variance of each pixel before clipping, DN^2: (batch, n_in) patterns -> (batch, n_out)."""
    return chain.camera.variance(*fluctuating_light(chain, patterns, exposure_s, reference_phase))


def fluctuating_light(
    chain: Chain, patterns: Array, exposure_s: float | None, reference_phase: Array | None
) -> tuple[Array, float, Window | None, Array]:
    """Mean photons, exposure, window and variance of the mean photons: arguments of the camera's moments."""
    exposure_s = chain.exposure_s if exposure_s is None else chain.check_exposure(exposure_s)
    photons, phase_variance = noiseless_photons(chain, patterns, exposure_s, reference_phase)
    average, spread = average_over_phase(photons, phase_variance)
    spread = spread + (average**2 + spread) * chain.laser.power_variance(exposure_s)
    for gradient in chain.laser.pointing_gradient(chain.cells):
        if gradient.any():
            slope, rest = average_over_phase(central_difference(photons, gradient), phase_variance)
            spread = spread + slope**2 + rest
    return average, exposure_s, chain.window, spread


def noiseless_photons(
    chain: Chain, patterns: Array, exposure_s: float, reference_phase: Array | None = None
) -> tuple[Photons, float]:
    """Return the mean photons under a steady laser and reference, and the variance of the reference's phase.

    Returns
    -------
    photons : callable
        ``photons(step, scale)``: (batch, n_out), with the reference's phase `step` radians from the set one and the
        field on each input times `scale`, (n_in,), if given. The medium is that of the next frame.
    phase_variance : float
        Radians squared; 0 with the reference's shutter closed.
    """
    patterns = as_patterns(patterns, chain.n_in, backend=chain.backend)
    batch = patterns.shape[0]
    ticks = np.full(batch, chain.clock.frames, np.int64)
    phases = None if reference_phase is None else as_phases(reference_phase, batch)
    light = chain.light(ticks, exposure_s, steady=True)

    def photons(step: float, scale: HostArray | None = None) -> Array:
        scaled = light if scale is None else light * chain.backend.asarray(scale, "float32")
        reference = None if phases is None else chain.reference_light(phases + step, ticks, exposure_s, steady=True)
        return chain.mean_photons(patterns, ticks, exposure_s, scaled, reference)

    return photons, 0.0 if phases is None else chain.imaging.reference.phase_variance


def average_over_phase(values: Callable[[float], Array], phase_variance: float) -> tuple[Array, Array]:
    """Mean and variance of ``values(step) = a + Re(z exp(i step))`` over a normal step of zero mean."""
    first = values(0.0)
    if not phase_variance:
        return first, first * 0.0
    opposite = values(math.pi)
    a, cosine = (first + opposite) / 2.0, (first - opposite) / 2.0
    sine = values(math.pi / 2.0) - a
    loss = -math.expm1(-phase_variance)  # 1 - L^2, without cancellation for a small variance
    spread = (cosine * loss) ** 2 / 2.0 + sine**2 * (loss * (2.0 - loss) / 2.0)
    return a + cosine * math.exp(-phase_variance / 2.0), spread


def central_difference(photons: Photons, gradient: HostArray) -> Callable[[float], Array]:
    """Change of the photons for an rms shift of the beam, as a function of the step of the reference's phase."""
    return lambda step: (photons(step, 1.0 + gradient) - photons(step, 1.0 - gradient)) / 2.0
