"""Frames that do not belong to their patterns are named, sound ones are not, and what cannot be judged is not."""

import numpy as np
import pytest

from benchmarks.sequence import plant, record
from benchmarks.twin_devices import Bench, hidden
from calibration import check_sequence, record_bench
from calibration.fields.sequence import MAX_OFFSET, Search, read
from photonics import presets
from photonics.medium import Drifting, GaussianMedium

N_IN, N_OUT, FRAMES = 32, 120, 400


def bench(tau=1e4, seed=0):
    """A bench whose medium has a correlation time in frames."""
    opu = presets.lab_bench(N_IN, N_OUT, seed=seed)
    opu = opu.replace(medium=Drifting(GaussianMedium(N_IN, N_OUT, seed=seed), tau, seed=seed))
    opu.autoexpose()
    return opu


def half(count, seed=0):
    """Random patterns, half of the mirrors ON."""
    return np.argsort(np.random.default_rng(seed).random((count, N_IN)), axis=1) < N_IN // 2


@pytest.mark.parametrize("kind", ["lost", "repeated", "shifted", "late"])
def test_a_fault_is_found_at_its_frame(kind):
    """Frame, kind, number and pattern of every frame, and a high confidence. Catches: a place that is off by one."""
    patterns = half(FRAMES + 8)
    planted = plant({150: kind}, FRAMES, np.random.default_rng(1))
    check = check_sequence(patterns, record(bench(), patterns, planted, np.random.default_rng(2)))
    (fault,) = check.faults
    assert (fault.kind, fault.frame, fault.count) == (kind, 150, planted.faults[0].count)
    assert fault.confidence > 0.95
    np.testing.assert_array_equal(check.shown, planted.shown)
    assert not check.sound


def test_a_late_start_of_the_camera_is_found():
    """All frames are two patterns late. Catches: a search that needs frames at their place."""
    patterns = half(200)
    check = check_sequence(patterns, bench().measure(patterns)[2:])
    assert [(fault.kind, fault.frame, fault.count) for fault in check.faults] == [("lost", 0, 2)]


def test_a_sound_recording_has_no_fault():
    """Eight devices. Catches: false alarms from noise that is taken for evidence."""
    for seed in range(8):
        patterns = half(200, seed)
        check = check_sequence(patterns, bench(seed=seed).measure(patterns))
        assert check.sound, str(check)
        assert check.identified > 0.9


def test_grains_of_several_pixels_are_not_counted_as_evidence():
    """Every pixel four times. Catches: log-likelihoods that add up pixels of one grain."""
    patterns = half(200)
    frames = bench().measure(patterns)[:, :30]
    check = check_sequence(patterns, np.repeat(frames, 4, axis=1))
    again = check_sequence(patterns, frames)
    assert check.identified == pytest.approx(again.identified, abs=0.03)


def test_a_reference_arm_is_known():
    """Fixed patterns, phase steps: only the phase tells which frame is which. Catches: a phase that is not used."""
    patterns = np.repeat(half(60), 4, axis=0)
    phase = np.tile(np.arange(4) * np.pi / 2.0, 60)
    opu = presets.lab_bench(N_IN, N_OUT, seed=3)
    opu.exposure_s /= 4.0
    frames = opu.measure(patterns, reference_phase=phase)
    assert check_sequence(patterns, frames, reference_phase=phase).sound
    check = check_sequence(patterns, np.delete(frames, 101, axis=0), reference_phase=phase)
    assert [(fault.kind, fault.frame) for fault in check.faults] == [("lost", 101)]


def test_a_frame_after_one_of_the_same_pattern_is_not_late():
    """All mirrors ON, twice. Catches: light of the frame before, which predicts the same pattern, as light of another.

    On two sound devices of 158 and 112 independent pixels that was a late frame with a confidence of 1.
    """
    ones = np.ones((1, N_IN), bool)
    patterns = np.concatenate([np.concatenate([ones, half(20, seed), ones]) for seed in range(8)])
    shown, values = read(patterns, bench(tau=1e3).measure(patterns), None)
    _, _, two = Search(shown, values).evaluate(np.arange(len(patterns)))
    again = np.flatnonzero((patterns[1:] == patterns[:-1]).all(axis=1)) + 1
    assert len(again) == 7 and (two[again, MAX_OFFSET - 1 : MAX_OFFSET + 1] == 0.0).all() and two.any()


def test_the_questions_of_a_twin_are_in_order(tmp_path):
    """Steps of a reference that drifts while one pattern stays, single inputs after frames of no mirrors.

    Catches: a drift of the phase taken for a lost frame; a warning of frames that are sound (warnings are errors here).
    """
    record_bench(Bench(hidden(3, n_in=32, pixels=144)), tmp_path / "bench.h5", seed=3)


@pytest.mark.parametrize(
    ("patterns", "tau", "reason"),
    [
        (np.eye(N_IN, dtype=bool), 1e9, "too little in common"),
        (half(200), 3.0, "moves too fast"),
        (half(10), 1e9, "16 frames"),
    ],
)
def test_what_cannot_be_judged_is_not(patterns, tau, reason):
    """One-hot patterns, a fast medium, few frames. Catches: "sound" for a recording that says nothing."""
    check = check_sequence(patterns, bench(tau).measure(patterns))
    assert not check.judged
    assert not check.sound
    assert reason in str(check)
    assert (check.shown == -1).all()


def test_frames_of_other_patterns_are_not_judged():
    """Catches: faults that are invented for frames of another measurement."""
    check = check_sequence(half(200, 5), bench().measure(half(200, 6)))
    assert not check.judged
    assert "other patterns" in check.reason


def test_bad_arguments_are_refused():
    """Catches: a traceback from inside numpy."""
    with pytest.raises(ValueError, match="frames must be numbers"):
        check_sequence(half(20), np.zeros(20))
    with pytest.raises(ValueError, match="frames must be finite"):
        check_sequence(half(20), np.full((20, 30), np.nan))
