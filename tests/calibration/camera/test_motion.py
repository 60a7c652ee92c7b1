"""The speed of a medium from the frames of a projection: the right one, and none on a still device."""

import numpy as np
import pytest

from calibration.camera.decay import STILL, Speed
from calibration.camera.motion import MAX_ROWS, MIN_READINGS, Motion, contrast
from calibration.camera.own_motion import speed_of_call

INPUTS, ROWS, SKIP = 10, 250, 6


def normal(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def watch(tau, fields=1, seed=0, steps=45, terms=60, noise=0.3, one_hot=False):
    """A motion that has seen steps of a map which drifts as a product of `fields` fields, with a common response."""
    rng = np.random.default_rng(seed)
    motion, speeds = Motion(fields), []
    medium, anchor = normal(rng, INPUTS, ROWS), normal(rng, ROWS)
    kept = np.exp(-SKIP / tau)  # the drift within a few frames does not matter
    for step in range(steps):
        if one_hot or step < 20:  # the patterns change as a network learns
            halves = np.eye(INPUTS, dtype=bool)[rng.integers(INPUTS, size=terms)]
        else:
            halves = rng.random((terms, INPUTS)) < 0.25
        responses = []
        for start in range(0, terms, SKIP):
            if kept < 1.0:
                medium = kept * medium + np.sqrt(1.0 - kept**2) * normal(rng, INPUTS, ROWS)
                anchor = anchor if fields == 1 else kept * anchor + np.sqrt(1.0 - kept**2) * normal(rng, ROWS)
            responses.append(np.real(np.conj(anchor) * (halves[start : start + SKIP] @ medium)) + np.abs(anchor) ** 2)
        seen = np.concatenate(responses) * (1.0 + 0.01 * np.sin(step / 5.0))  # light that changes
        motion.add(terms * (step + 1), halves, (seen + noise * rng.standard_normal(seen.shape)).astype(np.float32))
        speeds.append(motion.speed)
    return motion, speeds


@pytest.mark.parametrize("fields", [1, 2])
@pytest.mark.parametrize("tau", [1e3, 1e4, 1e6])
def test_the_correlation_time_is_right_over_three_decades(tau, fields):
    """Mean of 3 runs within 10 %, two standard errors, with 10 % of noise power and light that changes by 1 %.

    Catches: the decay of an intensity taken as that of the field; noise or the laser's power taken as a movement.
    """
    speeds = [watch(tau, fields, seed)[0].speed for seed in range(3)]
    assert all(speed.moving for speed in speeds)
    assert np.mean([1.0 / speed.rate for speed in speeds]) == pytest.approx(tau, rel=0.1)


@pytest.mark.parametrize("one_hot", [False, True])
def test_no_alarm_in_20_still_runs(one_hot):
    """Although patterns, light and noise change. Catches: the mean over the inputs left in the maps (40 errors)."""
    for seed in range(20):
        _, speeds = watch(1e30, seed % 2 + 1, seed, one_hot=one_hot, noise=0.2 + 0.05 * seed)
        assert not any(speed.moving for speed in speeds)


def test_correlation_with_the_calibration_follows_the_decay():
    """After 2640 frames of 4000 the overlap of a map with the first is exp(-0.66), within 0.06 (4 standard errors).

    Catches: an overlap that noise makes smaller; a restart that keeps the old map.
    """
    motion, _ = watch(4000.0)
    assert motion.correlation == pytest.approx(np.exp(-44 * 60 / 4000.0), abs=0.06)
    motion.restart()
    assert motion.correlation == 1.0


@pytest.mark.parametrize("cut", [0, 30])
def test_a_step_is_seen_in_one_reading_and_noise_alone_is_a_loss(cut):
    """A medium that is another one from one frame to the next: the correlation falls at once, and nothing moves after.

    Catches: a step taken for a fast medium; a step within a reading; a loss that passes for a step.
    """
    rng, motion = np.random.default_rng(0), Motion(1)
    before, after = normal(rng, INPUTS, ROWS).real, normal(rng, INPUTS, ROWS).real
    for step in range(60):
        halves = rng.random((60, INPUTS)) < 0.25
        now = np.arange(60)[:, None] + 60 * step < 20 * 60 + cut
        signal = halves @ before * now + halves @ after * ~now if step < 40 else 0.0
        motion.add(60 * (step + 1), halves, (signal + rng.standard_normal((60, ROWS))).astype(np.float32))
        if step == 21:
            assert motion.correlation < 0.5
        if step in (19, 38):
            assert motion.strange == 0 and not motion.speed.moving and not motion.lost
        if step == 38:
            assert motion.correlation < 0.1
    assert motion.lost


def test_a_saved_motion_goes_on_as_the_first():
    """Catches: an incomplete reading that is lost."""
    rng = np.random.default_rng(0)
    parts = [(rng.random((17, INPUTS)) < 0.3, rng.standard_normal((17, MAX_ROWS + 3))) for _ in range(40)]
    whole, second = Motion(2), Motion(2)
    for step, part in enumerate(parts):
        if step == 25:
            second.load(whole.state())
        for motion in (whole, second) if step >= 25 else (whole,):
            motion.add(17 * step, *part)
    assert second.speed == whole.speed
    assert second.correlation == whole.correlation


def test_contrasts_that_are_kept_are_those_of_the_readings():
    """To the bit, also after an input has become rare. Catches: contrasts over inputs that are not known any more."""
    rng, motion = np.random.default_rng(4), Motion(2)
    for step in range(20):
        halves = rng.random((60, INPUTS)) < 0.3
        halves[:, 3] &= not 5 < step < 15  # rare in one reading, after which it is not known any more
        motion.add(60 * step, halves, rng.standard_normal((60, ROWS)).astype(np.float32))
        maps = motion.state()["ring"][1]
        known = np.isfinite(np.stack(maps)[:, :, 0]).all(axis=0)
        np.testing.assert_array_equal(motion._contrasts(maps, known), contrast(np.stack(maps), known))
    assert len(maps) > MIN_READINGS
    assert not known[3]


def test_chance_does_not_slow_a_fast_medium():
    """Readings of 7 inputs, 16 outputs that keep half of their field: the mean rate of 60 runs is log 2 a reading.

    Within 0.05 and four standard errors (0.03 each). Overlaps of readings that are far apart are chance, 0.1 rms.
    Catches: those above 0.15 taken for signal, which give half of that rate (the floor `CHANCE`).
    """
    rates = []
    for seed in range(60):
        rng, motion = np.random.default_rng(seed), Motion(1)
        medium = rng.standard_normal((7, 16))
        for reading in range(20):
            halves = np.eye(7, dtype=bool)[rng.permutation(np.arange(63) % 7)]
            motion.add(63 * (reading + 1), halves, (halves @ medium).astype(np.float32))
            medium = 0.5 * medium + np.sqrt(0.75) * rng.standard_normal((7, 16))
        rates.append(63 * motion.speed.rate)
    error = np.std(rates, ddof=1) / np.sqrt(60)
    assert error < 0.04
    assert abs(np.mean(rates) - np.log(2.0)) < 0.05 + 4.0 * error


@pytest.mark.parametrize("speed", [Speed(1e-3, 5e-5), STILL])
def test_readings_of_which_none_is_like_another_keep_the_speed_of_the_calibration(speed):
    """60 readings, 20,000 frames apart, of a medium that is another one in each, as seen by blocks that rest.

    Catches: a fit to no overlaps, which states a still medium with a tiny error: blocks then learn from a lost matrix,
    and it is calibrated again and again (77 times in 600 steps of a transformer at 1e3 frames).
    """
    rng, motion = np.random.default_rng(0), Motion(2, speed)
    for reading in range(60):
        halves = np.eye(INPUTS, dtype=bool)[rng.permutation(np.arange(60) % INPUTS)]
        motion.add(20_000 * (reading + 1), halves, rng.standard_normal((60, ROWS)).astype(np.float32))
        assert motion.speed == speed
    assert motion.correlation == (1.0 if speed is STILL else 0.0)


def call(tau, fields, one_hot, seed):
    """Patterns and responses of a call of 400 frames, with noise, light that grows by 4 %, and a beam that turns."""
    rng, kept = np.random.default_rng(seed), np.exp(-1.0 / tau)
    x = rng.random((400, INPUTS)) < 0.5
    x = np.eye(INPUTS, dtype=bool)[rng.integers(INPUTS, size=400)] if one_hot else x
    medium, anchor, values = normal(rng, INPUTS, ROWS), normal(rng, ROWS), []
    for frame, pattern in enumerate(x):
        medium = kept * medium + np.sqrt(1.0 - kept**2) * normal(rng, INPUTS, ROWS)
        anchor = anchor if fields == 1 else kept * anchor + np.sqrt(1.0 - kept**2) * normal(rng, ROWS)
        value = (1.0 + 1e-4 * frame) * np.conj(anchor) * (pattern @ medium)
        values.append(np.real(value) if fields == 2 else np.exp(1e-3j * frame) * value)
    return x, np.array(values) + 0.2 * np.std(values) * rng.standard_normal((400, ROWS))


def test_the_frames_of_one_call_tell_its_speed():
    """Mean of 3 calls within 10 % (1.5 standard errors) at 2e3 and 2e4 frames; nothing is seen on a still medium.

    Real and complex, also with one input at a time. Catches: noise, or what all rows share, taken for a movement; an
    average over the frames of a part that shortens the lag; a call of few patterns that is judged.
    """
    for fields, one_hot in ((1, False), (1, True), (2, False)):
        for tau in (2e3, 2e4, np.inf):
            calls = [call(tau, fields, one_hot, seed) for seed in range(3)]
            speeds = [speed_of_call(*one, fields, 1) for one in calls]
            if np.isinf(tau):
                assert all(speed == STILL for speed in speeds)
            else:
                assert np.mean([speed.rate for speed in speeds]) * tau == pytest.approx(1.0, abs=0.1)
        x, values = calls[0]
        assert speed_of_call(x[:79], values[:79], fields, 1) == STILL
