"""A recording that is killed keeps its frames: they can be read, and the measurement goes on to the same bits."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, recover_transmission_matrix
from calibration.recovery import transmission
from calibration.storage.journal import Journal, read_journal
from photonics import presets

SCRIPT = """
    import os, signal, sys
    from calibration import Recorder
    from tests.calibration.storage.test_killed_recording import bench, session
    class Killed(Recorder):
        calls = 0
        def measure(self, *args, **kwargs):
            frames = super().measure(*args, **kwargs)
            Killed.calls += 1
            if Killed.calls == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            return frames
    session(Killed(bench(), sys.argv[1], resume=True))
"""


def bench():
    opu = presets.lab_bench(20, 60, seed=2)
    opu.autoexpose()
    return opu


def session(opu):
    """Frames of everything that a device offers, with what is decided by frames decided by frames."""
    frames = [opu.uniform(300.0, 1e-3, 2, 16), opu.dark(2)]
    half = np.random.default_rng(0).random((7, 20)) < 0.5
    for start in range(7):
        frames.append(opu.measure(half[start:], reference_phase=np.full(7 - start, 0.5 * start)))
        opu.exposure_s = 1e-4 + 1e-6 * float(frames[-1].mean())
        opu.clock.advance(3)
    return [*frames, opu.uniform(200.0, 1e-3, 2, 16), opu.dark(1)]


def kill(path, calls):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), str(calls)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_recording_is_read_and_goes_on_to_the_same_bits(tmp_path):
    """Killed (-9) in its third call, resumed and killed in its sixth, and resumed again.

    Catches: frames in a buffer, a clock or an exposure of the second part, uniform light drawn from its beginning.
    """
    with Recorder(bench(), tmp_path / "whole.h5") as opu:
        expected = session(opu)
    path, part = tmp_path / "r.h5", tmp_path / "r.h5.part"
    for calls, frames in ((3, 2 + 7 + 6 + 5), (6, 2 + 7 + 6 + 5 + 4 + 3 + 2)):
        kill(path, calls)
        assert os.listdir(tmp_path).count("r.h5.part") == 1
        device = RecordedDevice(part)
        assert repr(device) == f"RecordedDevice({str(part)!r}, frame 0 of {frames})"
        np.testing.assert_array_equal(device.uniform(300.0, 1e-3, 2, 16), expected[0])
        np.testing.assert_array_equal(device.dark(2), expected[1])
    with Recorder(bench(), path, resume=True) as opu:
        found = session(opu)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (RecordedDevice(tmp_path / name) for name in ("r.h5", "whole.h5"))
    for name, values in other._recording.columns.items():
        np.testing.assert_array_equal(one._recording.columns[name], values)
    assert sorted(os.listdir(tmp_path)) == ["r.h5", "whole.h5"]


def test_a_recovery_goes_on_through_a_recording(tmp_path, monkeypatch):
    """Through the recorder and through the replay: stopped in the middle, resumed, the bits of the unbroken one.

    Catches: a replay that counts the frames it gave instead of looking at the clock.
    """
    whole = recover_transmission_matrix(bench(), exposure="auto")
    append = transmission.FrameStore.append

    def broken(store, frames):
        append(store, frames)
        if store.done > 20:
            raise KeyboardInterrupt

    def stopped(device, name):
        with monkeypatch.context() as patch:
            patch.setattr(transmission, "CHUNK_FRAMES", 9)
            patch.setattr(transmission.FrameStore, "append", broken)
            with pytest.raises(KeyboardInterrupt):
                recover_transmission_matrix(device, exposure="auto", out=tmp_path / name)

    def resumed(device, name):
        return recover_transmission_matrix(device, exposure="auto", out=tmp_path / name, resume=True)

    with pytest.raises(KeyboardInterrupt), Recorder(bench(), tmp_path / "r.h5") as opu:
        stopped(opu, "a.h5")
        raise KeyboardInterrupt
    with Recorder(bench(), tmp_path / "r.h5", resume=True) as opu:
        live = resumed(opu, "a.h5")
    stopped(RecordedDevice(tmp_path / "r.h5"), "b.h5")
    for found in (live, resumed(RecordedDevice(tmp_path / "r.h5"), "b.h5")):
        np.testing.assert_array_equal(found.matrix, whole.matrix)
        assert found.provenance["exposure_s"] == whole.provenance["exposure_s"]


def test_a_refused_measurement_leaves_its_frames(tmp_path):
    """A saturated camera ends the recovery; what was recorded shows it. Catches: a part that is thrown away."""
    opu = bench()
    opu.exposure_s *= 2.0
    with pytest.raises(ValueError, match="saturates"), Recorder(opu, tmp_path / "r.h5") as recorder:
        recover_transmission_matrix(recorder)
    assert os.listdir(tmp_path) == ["r.h5.part"]
    with pytest.raises(ValueError, match=r"r.h5.part: go on with resume=True, or remove the file"):
        Recorder(opu, tmp_path / "r.h5")
    with pytest.raises(ValueError, match="saturates"):
        recover_transmission_matrix(RecordedDevice(tmp_path / "r.h5.part"))
    with pytest.raises(ValueError, match=r"whose device.exposure_s is") as stop:
        Recorder(bench(), tmp_path / "r.h5", resume=True)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("cut", [1, 13, 200])
def test_a_record_that_was_cut_off_is_left_out(tmp_path, cut):
    """Killed while it writes: the records before are whole, and the next one follows them. Catches: half a frame."""
    path, values = tmp_path / "j.part", np.arange(300, dtype=np.uint16).reshape(3, 100)
    journal = Journal(path, {"n_in": 3})
    journal.append({"frames": values, "x": np.zeros(3)})
    journal.append({"frames": values + 1})
    journal.close()
    os.truncate(path, path.stat().st_size - cut)
    journal = Journal(path, {})
    journal.append({"frames": values + 2})
    journal.close()
    about, found = read_journal(path)
    assert about == {"n_in": 3}
    np.testing.assert_array_equal([record["frames"] for record in found], [values, values + 2])


def test_one_process_records(tmp_path):
    with Recorder(bench(), tmp_path / "r.h5") as opu:
        opu.dark(1)
        with pytest.raises(ValueError, match="another process is writing"):
            Recorder(bench(), tmp_path / "r.h5", resume=True)
