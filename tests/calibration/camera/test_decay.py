"""The speed of a medium from the repeated frames of a calibration."""

import numpy as np
import pytest

from calibration import measure_projection
from calibration.camera.decay import STILL, speed_of_repeats
from photonics import GaussianMedium, presets
from photonics.medium import Drifting


def seen(tau, seed, method="anchor", pixels=300):
    """Speed by the calibration of a bench whose medium drifts."""
    medium = Drifting(GaussianMedium(20, pixels, seed=seed), correlation_frames=tau)
    opu = presets.lab_bench(20, pixels, seed=seed).replace(medium=medium)
    opu.autoexpose()
    return measure_projection(opu, method, n_inputs=10).speed


@pytest.mark.parametrize("method", ["anchor", "reference-pairs"])
def test_a_calibration_sees_how_fast_the_medium_moves(method):
    """Mean of 10 runs within 20 %, three standard errors; all of them moving, and none of 20 still ones.

    Catches: the decay of an intensity taken as that of the field; a spacing of the frames that is left out; the number
    of grains taken as doubt whether the device moves.
    """
    for tau in (1e3, 3e4):
        speeds = [seen(tau, seed, method) for seed in range(10)]
        assert all(speed.moving for speed in speeds)
        assert np.mean([speed.rate for speed in speeds]) == pytest.approx(1.0 / tau, rel=0.2)
    assert not any(seen(1e12, seed, method).moving for seed in range(20))


def test_light_that_changes_is_no_movement():
    """The laser's power falls by a tenth over the frames. Catches: frames that are not divided by their mean."""
    rng = np.random.default_rng(0)
    frames = 30.0 * rng.exponential(size=300) * np.linspace(1.0, 0.9, 16)[:, None]
    frames = frames + rng.standard_normal(frames.shape)
    assert not speed_of_repeats(frames, 2, np.ones(300, bool)).moving
    assert speed_of_repeats(frames[:4], 2, np.ones(300, bool)) == STILL


@pytest.mark.parametrize("method", ["anchor", "reference-pairs", "phase-stepping"])
def test_a_still_device_without_noise_is_still(method):
    """Infinite correlation times of `ideal` in four refreshes. Catches: sums whose rounding is taken for movement."""
    projection = measure_projection(presets.ideal(20, 100, seed=7 + (method == "phase-stepping")), method, n_inputs=10)
    assert [projection.refresh(count).correlation_frames for count in (1, 1, 2, 4)] == [np.inf] * 4
