"""The camera's noise from dark frames that are clipped at 0."""

import numpy as np
import pytest

from calibration import measure_projection
from calibration.camera.noise import dark_level
from photonics import presets


@pytest.mark.parametrize("sigma", [0.1, 2.0, 6.0])
def test_noise_that_the_converter_cuts_off_is_known(sigma):
    """Dark readings of level 2 DN, rounded, none under 0: level to half a code, variance to 5 %.

    The standard error of either estimate is under 1 %. Caught mutation: the variance of what is left (-60 % at 6 DN).
    """
    dark = np.maximum(np.rint(np.random.default_rng(0).normal(2.0, sigma, (16, 4000))), 0.0)
    level, variance = dark_level(dark, 255)
    expected = np.rint(np.random.default_rng(1).normal(2.0, sigma, 200_000)).var()
    assert abs(level - 2.0) < 0.1
    np.testing.assert_allclose(variance, expected, rtol=0.05, atol=1e-3)


def test_strong_read_noise_is_not_taken_for_drift():
    """200 electrons rms are 5 DN, over the offset of 2. Catches: a floor that ignores clipping."""
    opu = presets.lab_bench(20, 295, seed=0).replace(**{"camera.read_noise_e": 200.0})
    opu.autoexpose()
    opu.exposure_s *= 0.05
    assert measure_projection(opu, n_inputs=10).valid.mean() > 0.5
