"""Vibration: a line in the spectrum of the beam's place and of the reference's phase, by the time of a frame."""

import math
from dataclasses import replace

import numpy as np
import pytest

from photonics import Laser, Reference, presets
from photonics.parts.vibration import vibration

PERIOD_S = 1e-3


def test_it_is_one_line_of_rms_1():
    """All power at the frequency, rms 1, right after 1e9 frames, at the alias above half the rate; exact to rounding.

    Catches: amplitude for rms, frames for seconds, a phase that loses its digits, one start for every seed.
    """
    ticks = np.arange(1000)
    for first in (0, 10**9):
        sine = vibration(first + ticks, 37.0, PERIOD_S, 3, 0)
        power = np.abs(np.fft.rfft(sine)) ** 2
        assert power.argmax() == 37
        assert power[37] / power.sum() == pytest.approx(1.0, abs=1e-6)
        assert sine.std() == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(vibration(first + ticks, 1037.0, PERIOD_S, 3, 0), sine, atol=1e-5)
    np.testing.assert_array_equal(
        vibration(ticks[::-7], 37.0, PERIOD_S, 3, 0), vibration(ticks, 37.0, PERIOD_S, 3, 0)[::-7]
    )
    starts = [vibration(np.zeros(1, np.int64), 37.0, PERIOD_S, seed, index)[0] for seed in (3, 4) for index in (0, 1)]
    assert len(np.unique(starts)) == 4
    with pytest.raises(ValueError, match=r"^frame_period_s must be above 0 for a vibration, got 0"):
        vibration(ticks, 37.0, 0.0, 3, 0)


def test_beam_and_reference_vibrate_with_their_rms():
    """Besides pointing, drift and jitter, which stay what they are bit for bit; moments count the variance.

    Catches: a lever that is forgotten, both axes alike, a vibration that a steady laser keeps.
    """
    ticks, quiet = np.arange(1000), Laser(pointing_lever_m=3.0)
    shaken = replace(quiet, vibration_rad=2e-5, vibration_hz=60.0)
    x, y = (shaken.pointing(ticks, 1, PERIOD_S) - quiet.pointing(ticks, 1, PERIOD_S)) / 6e-5
    np.testing.assert_allclose([x, y], [vibration(ticks, 60.0, PERIOD_S, 1, axis) for axis in (0, 1)], atol=1e-12)
    assert shaken.pointing_shift_m == pytest.approx(3.0 * math.hypot(5e-6, 2e-5))
    assert shaken.steady() == replace(quiet.steady(), vibration_hz=60.0)
    still = Reference(phase_jitter_rad=0.1, phase_drift_rad=0.2)
    arm = replace(still, phase_vibration_rad=0.3, phase_vibration_hz=60.0)
    both = [beam.phases(0.5, ticks, frame_period_s=PERIOD_S, seed=1) for beam in (arm, still)]
    assert (both[0] - both[1]).std() == pytest.approx(0.3, rel=1e-6)
    assert arm.phase_variance == pytest.approx(still.phase_variance + 0.09)
    assert arm.steady() == replace(still.steady(), phase_vibration_hz=60.0)


def test_moments_of_a_vibrating_arm():
    """Mean and variance of 500 frames of a phase that swings by 0.3 rad rms, over 100 pixels.

    The mean over pixels of ``(mean - expected) / SE`` squared is 1 within 5 standard errors (sqrt(2 / 100)) for frames
    that are independent; a sine covers its phases more evenly, so it is less. Catches: a vibration that moments ignore.
    """
    arm = Reference(phase_vibration_rad=0.3, phase_vibration_hz=123.4)
    opu = presets.lab_bench(32, 100).replace(**{"imaging.reference": arm, "laser.drift_rms": 0.0})
    opu.autoexpose(reference_phase=0.0)
    pattern = np.ones((1, 32), bool)
    mean, variance = (f(pattern, reference_phase=0.4)[0] for f in (opu.mean, opu.variance))
    frames = opu.measure(np.repeat(pattern, 500, axis=0), reference_phase=0.4).astype(float)
    score = (frames.mean(axis=0) - mean) ** 2 / (variance / 500)
    assert np.mean(score) < 1 + 5 * math.sqrt(2 / 100)
    assert np.median(frames.var(axis=0) / variance) == pytest.approx(1.0, abs=0.05)
