"""Creep of the speckle on the sensor and of the pupil: correlations over time, and whole pixels."""

import math

import numpy as np
import pytest

from photonics import GaussianMedium, Imaging, presets

SIDE, FRAMES, PERIOD_S = 192, 3, 1e-3
WAVELENGTH_M = 532e-9
GRAINS = FRAMES * SIDE**2 / 4
"""Number of square grains of two pixels."""


def seen(optic, ticks):
    """Intensity of the same 3 fields at given frames: (len(ticks), 3, rows, columns)."""
    field = np.random.default_rng(0).normal(size=(FRAMES, 2 * SIDE**2)).astype(np.float32).view(np.complex64)
    every = [
        optic.intensity(field, n_in=1, ticks=np.full(FRAMES, tick), frame_period_s=PERIOD_S, wavelength_m=WAVELENGTH_M)
        for tick in ticks
    ]
    return np.reshape(every, (len(ticks), FRAMES, SIDE, SIDE))


def correlations(rate):
    """Correlation of the intensity with that of the first."""
    centred = rate - rate.mean(axis=(1, 2, 3), keepdims=True)
    return [float(np.corrcoef(centred[0].ravel(), c.ravel())[0, 1]) for c in centred]


def test_a_pattern_that_creeps():
    """``sinc(s)^2`` for a shift of s pixels without a pupil, to 4 s.e. of 110 000 grains; whole pixels are exact.

    Behind a square pupil ``sinc(2 NA s / lambda)^2``, 4 s.e. of 28 000 grains of two pixels. Catches: another sign, a
    shift in samples for pixels, interpolation that loses contrast, the neighbour's column.
    """
    optic = Imaging(sensor=(SIDE, SIDE), creep_m_per_s=5.5e-6)  # a pixel a second
    shifts = np.array([0.0, 0.1, 0.3, 0.5, 1.0, 1.5])
    rate = seen(optic, np.rint(1000 * shifts).astype(int))
    np.testing.assert_allclose(correlations(rate), np.sinc(shifts) ** 2, atol=4 / math.sqrt(rate[0].size))
    np.testing.assert_allclose(rate[4], np.roll(rate[0], 1, axis=2), rtol=1e-3, atol=1e-5 * rate.max())
    np.testing.assert_allclose(rate.std(axis=(1, 2, 3)) / rate.mean(axis=(1, 2, 3)), 1, atol=0.02)
    na = 0.25 * WAVELENGTH_M / 5.5e-6  # grains of two pixels
    narrow = Imaging(numerical_aperture=na, pupil="square", samples=1, sensor=(SIDE, SIDE), creep_m_per_s=-5.5e-6)
    found = correlations(seen(narrow, [0, 500, 1000]))
    np.testing.assert_allclose(found, np.sinc([0.0, 0.25, 0.5]) ** 2, atol=4 / math.sqrt(GRAINS))


@pytest.mark.parametrize("shape", ["circular", "square"])
def test_a_pupil_that_creeps(shape):
    """The square of the share of its area that stays, to 4 s.e. of the grains; the mean stays.

    The edge of the pupil is a cell wide, which adds about 1 % on this grid. Catches: radii
    for diameters, the field's law for the intensity's, a pupil that leaves the light.
    """
    optic = Imaging(
        numerical_aperture=0.25 * WAVELENGTH_M / 5.5e-6,
        pupil=shape,
        samples=1,
        sensor=(SIDE, SIDE),
        pupil_creep_per_s=1.0,
    )
    u = np.array([0.0, 0.2, 0.5, 1.0, 2.0])
    rate = seen(optic, np.rint(1000 * u).astype(int))
    kept = 1 - u / 2 if shape == "square" else 2 / np.pi * (np.arccos(u / 2) - u / 2 * np.sqrt(1 - u**2 / 4))
    np.testing.assert_allclose(correlations(rate), kept**2, atol=4 / math.sqrt(GRAINS * math.pi / 4))
    np.testing.assert_allclose(rate.mean(axis=(1, 2, 3)) / rate[0].mean(), 1, atol=0.03)


def test_it_needs_the_time_and_truth_stays_away():
    """One line each. Catches: a pattern that silently stays, a matrix of another frame."""
    optic, field = Imaging(creep_m_per_s=1e-6), np.ones((2, 4), np.complex64)
    for ticks, period in ((None, 1e-3), (np.arange(2), None), (np.arange(3), 1e-3), (np.arange(2), 0.0)):
        with pytest.raises(
            ValueError, match=r"^ticks \(2,\) and frame_period_s must be given for a pattern that creeps$"
        ):
            optic.intensity(field, n_in=1, ticks=ticks, frame_period_s=period)
    with pytest.raises(ValueError, match=r"^creep_m_per_s must move the pattern by less than half a row, 1 samples"):
        optic.intensity(field, n_in=1, ticks=np.array([0, 10**5]), frame_period_s=1e-3)
    narrow = Imaging(numerical_aperture=0.02, samples=1, sensor=(2, 2), pupil_creep_per_s=-1.0)
    with pytest.raises(ValueError, match=r"^pupil_creep_per_s must move the pupil by at most 2.\d+ radii"):
        narrow.intensity(field, n_in=1, ticks=np.array([0, 3000]), frame_period_s=1e-3)
    opu = presets.lab_bench(16, 64).replace(medium=GaussianMedium(16, 64), imaging=optic)
    with pytest.raises(ValueError, match=r"^effective_matrix must have a pattern that stays"):
        opu.effective_matrix()
