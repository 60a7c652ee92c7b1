"""A recording replays what was measured, bit for bit, and nothing else."""

import copy
import pickle

import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, characterize, write_recording
from calibration.device import Device, Wrapper
from calibration.storage.files import WrongFile
from photonics import presets

N_IN, N_OUT = 37, 60


def half(batch, seed=0):
    return np.random.default_rng(seed).random((batch, N_IN)) < 0.5


def session(opu):
    """A bench session that uses everything a device offers."""
    frames = [opu.measure(half(5)), opu.measure(half(3, 1), 2e-4), opu.dark(2), opu.dark(2, 1e-4)]
    opu.exposure_s = 3e-4
    frames += [
        opu.measure(half(4, 2), reference_phase=[0.0, 1.5, -3.0, 4.0]),
        opu.measure(half(2), reference_phase=1.0),
    ]
    opu.clock.advance(100)
    frames += [opu.measure(half(0)), opu.measure(half(1, 3))]
    return frames, opu.clock.frames, opu.exposure_s, opu.unit_dn


def bench():
    return presets.lab_bench(N_IN, N_OUT, seed=4)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A recording of the session; no test changes it."""
    path = tmp_path_factory.mktemp("recorded") / "bench.h5"
    with Recorder(bench(), path) as recorder:
        session(recorder)
    return path


def test_replay_is_the_session_bit_for_bit(path):
    """Live and replayed: same frames, clock, exposure and unit.

    Catches: a dark frame kept as a pattern of zeros, the exposure of the device in place of that of the call, a clock
    that forgets the waiting.
    """
    live, replayed = session(bench()), session(RecordedDevice(path))
    assert replayed[1:] == live[1:]
    for a, b in zip(live[0], replayed[0], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda device: pickle.loads(pickle.dumps(device))])
def test_copy_continues_at_its_place(path, duplicate):
    """With an exposure and a clock of its own. Catches: "h5py objects cannot be pickled", a shared clock."""
    device = RecordedDevice(path)
    device.measure(half(5))
    device.exposure_s = 2e-4
    again = duplicate(device)
    np.testing.assert_array_equal(again.measure(half(3, 1)), device.measure(half(3, 1)))
    assert again.clock is not device.clock and again.clock.frames == device.clock.frames == 8


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_recorder_refuses_copies(tmp_path, duplicate):
    """Catches: two recorders that write to one file, "cannot pickle '_io.FileIO' object"."""
    with Recorder(bench(), tmp_path / "bench.h5") as recorder, pytest.raises(TypeError, match=r"must not be copied"):
        duplicate(recorder)


def test_both_are_devices_and_have_no_medium(path):
    """All parts come from the description. Catches: a default part."""
    device, opu = RecordedDevice(path), bench()
    assert isinstance(device, Device)
    assert not hasattr(device, "medium")
    for name in ("laser", "dmd", "imaging", "camera", "n_in", "n_out", "frame_period_s", "unit_dn"):
        assert getattr(device, name) == getattr(opu, name)
    assert device.to_dict() == opu.to_dict()


def test_frames_may_be_requested_in_other_batches(path):
    """Catches: one call, one record."""
    device = RecordedDevice(path)
    expected = bench().measure(half(5))
    np.testing.assert_array_equal(np.concatenate([device.measure(half(5)[i : i + 1]) for i in range(5)]), expected)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda d: d.measure(half(5, 9)), "at frame 0: inputs that differ"),
        (lambda d: d.measure(half(5)[[0, 1, 3, 2, 4]]), "at frame 2: inputs that differ"),
        (lambda d: d.measure(half(5), 1e-4), "at frame 0: exposure_s is 0.00044 in the file, but 0.0001 was requested"),
        (lambda d: d.measure(half(5), reference_phase=0.0), "at frame 0: reference_phase is nan"),
        (lambda d: d.dark(1), "at frame 0: laser_on is True"),
        (lambda d: (d.measure(half(5)), d.dark(1)), "at frame 5: laser_on"),
        (lambda d: d.measure(np.concatenate([half(5), half(30)])), "has 19 frames, but frame 34 was requested"),
        (lambda d: d.uniform(100.0, 1e-3, 2, 16), "2 more frames of uniform light on 16 pixels were not recorded"),
        (lambda d: d.measure(half(5)[:, 1:]), r"patterns must have shape \(batch, 37\)"),
    ],
)
def test_another_request_is_refused(path, ask, message):
    """One line that says where. Catches: any of the comparisons left out."""
    with pytest.raises(ValueError, match=message) as stop:
        ask(RecordedDevice(path))
    assert isinstance(stop.value, WrongFile) or "patterns must have" in message
    assert "\n" not in str(stop.value)


def test_a_refused_request_does_not_advance_the_clock(path):
    """Catches: a counter that advances before the check."""
    device = RecordedDevice(path)
    with pytest.raises(ValueError, match="differ"):
        device.measure(half(5, 9))
    assert device.clock.frames == 0
    np.testing.assert_array_equal(device.measure(half(5)), bench().measure(half(5)))


def test_uniform_light_is_recorded(tmp_path):
    """Catches: frames of the photon transfer that are simulated again from the data sheet."""
    with Recorder(bench(), tmp_path / "r.h5") as recorder:
        frames = [recorder.uniform(500.0, 1e-3, 2, 64), recorder.uniform(0.0, 1e-2, 3, 64)]
    device = RecordedDevice(tmp_path / "r.h5")
    np.testing.assert_array_equal(device.uniform(500.0, 1e-3, 2, 64), frames[0])
    with pytest.raises(ValueError, match="uniform frame, exposure_s is"):
        device.uniform(0.0, 1e-3, 3, 64)
    np.testing.assert_array_equal(device.uniform(0.0, 1e-2, 3, 64), frames[1])


def test_a_lost_frame_of_a_recording_is_named(tmp_path):
    """By its number in the file, by the device and in the report; frames of several exposures and dark ones.

    Catches: frame numbers without the dark frames, exposures that are taken for patterns.
    """
    opu = presets.lab_bench(32, 100, seed=5)
    opu.autoexpose()
    patterns = np.random.default_rng(1).random((301, 32)) < 0.5
    with Recorder(opu, tmp_path / "sound.h5") as recorder:
        recorder.dark(8)
        recorder.measure(patterns[:150])
        recorder.dark(2)
        recorder.measure(patterns[150:], opu.exposure_s / 2.0)
    with RecordedDevice(tmp_path / "sound.h5") as sound:
        assert sound.check_sequence().sound
        record = sound._recording
        frames, columns = record.rows("frames", 0, 311), record.columns
        shown = np.unpackbits(record.rows("patterns", 0, 311), axis=1, count=32)[:-1]
        kept = {name: columns[name][:-1] for name in ("exposure_s", "laser_on")}
    lost = np.delete(frames, 200, axis=0)
    write_recording(tmp_path / "lost.h5", opu.to_dict(), shown, lost, **kept)
    with RecordedDevice(tmp_path / "lost.h5") as device:
        check = device.check_sequence()
        assert device.order is check
    assert [(fault.kind, fault.frame) for fault in check.faults] == [("lost", 200)]
    np.testing.assert_array_equal(check.shown[:3], [-1, -1, -1])
    with RecordedDevice(tmp_path / "lost.h5") as device:
        with pytest.warns(UserWarning, match=r"lost.h5: frames do not belong .* a frame lost before frame 200 \(conf"):
            device.dark(8)
        device.measure(patterns[:150])  # told once


class Losing(Wrapper):
    """A bench that loses its frame 100: from there on each pattern has the frame of the next one."""

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        frames = self.device.measure(patterns, exposure_s, reference_phase=reference_phase)
        return np.concatenate([frames[:100], frames[101:], frames[-1:]])[: len(frames)]

    def dark(self, count, exposure_s=None):
        return self.device.dark(count, exposure_s)


def test_a_recorder_names_frames_that_the_bench_lost(tmp_path):
    """When it closes; what cannot be judged is said in one line, and a simulated device is not checked.

    Catches: a session whose lost frame nobody sees until its matrix is wrong, a warning for a few frames.
    """
    opu, rng = presets.lab_bench(32, 100, seed=5), np.random.default_rng(1)
    opu.autoexpose()
    for count, found in ((300, "lost before frame 104"), (12, "not judged: 16 frames")):
        recorder = Recorder(Losing(opu), tmp_path / f"{count}.h5")
        assert str(recorder.order) == "not judged: the recording is not finished"
        recorder.dark(4)
        recorder.measure(rng.random((count, 32)) < 0.5)
        if count == 300:
            with pytest.warns(UserWarning, match=r"300.h5: frames do not belong .* a frame lost before frame 104"):
                recorder.close()
        else:
            recorder.close()
        assert found in str(recorder.order)
    with Recorder(opu, tmp_path / "own.h5") as recorder:
        recorder.measure(rng.random((300, 32)) < 0.5)
    assert "a simulated device" in str(recorder.order)


def test_frames_without_light_are_named(tmp_path):
    """Frames in the beam and without it. Catches: a black frame that passes without a word."""
    opu = presets.lab_bench(32, 100, seed=5)
    opu.autoexpose()
    patterns = np.random.default_rng(1).random((20, 32)) < 0.5
    taken = [opu.dark(8), opu.measure(patterns), opu.measure(patterns, reference_phase=0.0)]
    shown = np.concatenate([np.zeros((8, 32), bool), patterns, patterns])
    about = {"reference_phase": np.repeat([np.nan, 0.0], [28, 20]), "laser_on": np.arange(48) >= 8}
    for black in ([], [12], [30, 31]):
        frames = np.concatenate(taken)
        frames[black] = frames[0]
        path = tmp_path / f"{len(black)}.h5"
        write_recording(path, opu.to_dict(), shown, frames, opu.exposure_s, **about)
        with RecordedDevice(path) as device:
            check = device.check_sequence()
        found = [(fault.frame, fault.count) for fault in check.faults if fault.kind == "black"]
        assert found == [(frame, len(black)) for frame in black[:1]]
        assert ("without light from frame" in str(check)) == bool(black)


@pytest.mark.parametrize("seed", [4, 5])
def test_a_sound_recording_has_no_fault(tmp_path, seed):
    """All mirrors OFF and ON in turn, in the calibration of an anchor.

    Catches: the frame of no light that is said to show the bright pattern before it.
    """
    bench = presets.lab_bench(64, 100, seed=seed)
    bench.autoexpose()
    with Recorder(bench, tmp_path / "sound.h5") as recorder:
        characterize(recorder, seed=1)
    with RecordedDevice(tmp_path / "sound.h5") as device:
        assert device.check_sequence().faults == ()
