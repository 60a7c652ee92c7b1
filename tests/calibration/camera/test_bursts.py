"""Gain and noise from bursts of one pattern: what is not shot noise, and bins that rounding hides."""

import numpy as np
import pytest

from calibration.camera.bursts import LAGS, Burst, fit_line


def bursts(seed, gain, floor, drift=0.0, pointing=0.0, told=0.0):
    """Twelve bursts of 2000 pixels of exponential light, half of them with a sixth of it; chi-square noise of 47."""
    rng, made = np.random.default_rng(seed), []
    for level in (30.0, 5.0) * 6:
        signal = 1.5 + rng.exponential(level, 2000)
        lag, mean = np.array(LAGS)[:, None], signal.mean()
        true = floor + gain * signal + drift * lag * mean * (mean + signal) + pointing * signal * mean
        noise = 1.0 + (2.0 / 47.0) ** 0.5 * rng.standard_normal(2000)
        made.append(
            Burst(
                signal.astype(np.float32),
                (true * noise).astype(np.float32),
                np.ones(2000, bool),
                float(signal.mean()),
                told,
            )
        )
    return made


@pytest.mark.parametrize(
    ("what", "bias"),
    [
        ({"gain": 0.02, "floor": 0.13}, 0.02),
        ({"gain": 0.2, "floor": 1.5, "drift": 1e-4}, 0.003),
        ({"gain": 0.2, "floor": 1.5, "pointing": 1e-4, "told": 1e-4}, 0.003),
    ],
    ids=["bins near the limit", "integrated speckle that moves", "pointing"],
)
def test_gain_and_floor(what, bias):
    """Means of 20 fits, 4 standard errors.

    Catches: bins that are used where their variance came out high, speckle of several fields that decorrelates as that
    of one, pointing that counts as shot noise.
    """
    found = np.array([fit_line(bursts(seed, **what), np.arange(2000), "drift" in what) for seed in range(20)])
    wanted = np.array([what["gain"], what["floor"]])
    error = found.std(axis=0, ddof=1) / 20**0.5
    assert (np.abs(found.mean(axis=0) - wanted) < 4.0 * error).all(), (found.mean(axis=0) / wanted - 1.0, error)
    assert error[0] < bias * what["gain"]
