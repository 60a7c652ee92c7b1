"""A killed recording keeps its frames: they can be read, and the resumed measurement gives the same bits."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import h5py
import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, recover_transmission_matrix, write_recording
from calibration.recovery import frames as recovery_frames
from calibration.storage import recorder as recorder_module
from calibration.storage.journal import HEAD, MAGIC, Journal
from photonics import presets

SCRIPT = """
    import os, signal, sys
    from calibration import Recorder
    from tests.calibration.storage.test_recorder import bench, session
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
    """Frames from every method of a device; later requests depend on earlier frames."""
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
    append = Journal.append

    def broken(journal, arrays):
        append(journal, arrays)
        if "patterns" not in arrays and len(journal.arrays["frames"]) > 20:  # the recovery's, not the recorder's
            raise KeyboardInterrupt

    def stopped(device, name):
        with monkeypatch.context() as patch:
            patch.setattr(recovery_frames, "CHUNK_FRAMES", 9)
            patch.setattr(Journal, "append", broken)
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
        recover_transmission_matrix(recorder, exposure="keep")
    assert os.listdir(tmp_path) == ["r.h5.part"]
    with pytest.raises(ValueError, match=r"r.h5.part: use resume=True, or remove the file"):
        Recorder(opu, tmp_path / "r.h5")
    with pytest.raises(ValueError, match="saturates"):
        recover_transmission_matrix(RecordedDevice(tmp_path / "r.h5.part"), exposure="keep")
    with pytest.raises(ValueError, match=r"whose device.exposure_s is") as stop:
        Recorder(bench(), tmp_path / "r.h5", resume=True)
    assert "\n" not in str(stop.value)


def test_threads_record_the_frames_that_they_get(tmp_path):
    """Frames from number 16 on by four threads, each with its own pattern.

    Catches: frames beside the number or the pattern of another thread.
    """
    opu = bench()
    patterns = np.eye(4, opu.n_in, dtype=bool)
    with Recorder(opu, tmp_path / "r.h5") as recorder, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: recorder.measure(patterns[i % 4 : i % 4 + 1]), range(40)))
    with h5py.File(tmp_path / "r.h5") as file:
        assert file["frame_number"][:].tolist() == list(range(16, 56))
        shown = np.unpackbits(file["patterns"][:], axis=1, count=opu.n_in).astype(bool)
        frames = file["frames"][:]
    np.testing.assert_array_equal(frames, bench().measure(shown))


def test_a_recorder_closes_after_the_frames_of_other_threads(tmp_path):
    """The device is in the middle of a request when another thread closes. Catches: frames that the file lacks."""
    opu = bench()
    take, begun, go_on = opu.measure, Event(), Event()

    def slowly(*arguments, **more):
        begun.set()
        go_on.wait(10.0)
        return take(*arguments, **more)

    opu.measure = slowly
    recorder = Recorder(opu, tmp_path / "r.h5", progress=True)
    with ThreadPoolExecutor(2) as pool:
        frames = pool.submit(recorder.measure, np.ones((3, 20), bool))
        begun.wait(10.0)
        closed = pool.submit(recorder.close)
        time.sleep(0.05)
        go_on.set()
        assert len(frames.result()) == 3
        assert len(RecordedDevice(closed.result())._recording) == 3
    with pytest.raises(ValueError, match="which is closed"):
        recorder.measure(np.ones((1, 20), bool))


def test_a_part_that_is_cut_after_its_description_starts_again(tmp_path):
    """Catches: a file without frames that must be removed by hand."""
    recorder = Recorder(bench(), tmp_path / "r.h5")
    whole, head = (tmp_path / "r.h5.part").read_bytes(), len(MAGIC)
    recorder.close()
    end = head + HEAD.size + HEAD.unpack_from(whole, head)[0]
    for cut in (end, end + 7):
        path = tmp_path / f"{cut}.h5"
        path.with_name(f"{cut}.h5.part").write_bytes(whole[:cut])
        with Recorder(bench(), path, resume=True) as opu:
            opu.measure(np.ones((2, 20), bool))
        assert len(RecordedDevice(path)._recording) == 2


def full(*_):
    raise OSError(28, "No space left on device")


def test_a_full_disk_ends_a_recording(tmp_path, monkeypatch):
    """The third of five calls meets a full disk, and the caller goes on. The part resumes to the unbroken file.

    Catches: later frames after a gap, a `close` that succeeds without them.
    """
    ones = np.ones((4, 20), bool)
    with Recorder(bench(), tmp_path / "whole.h5") as opu:
        expected = [opu.measure(ones) for _ in range(5)]
    recorder = Recorder(bench(), tmp_path / "r.h5")
    for call in range(5):
        with monkeypatch.context() as patch:
            if call == 2:
                patch.setattr(os, "fsync", full)
            if call < 2:
                recorder.measure(ones)
                continue
            with pytest.raises(OSError, match=r"r\.h5\.part .*make room and resume") as stop:
                recorder.measure(ones)
        assert "\n" not in str(stop.value)
    with pytest.raises(OSError, match="lacks frames"):
        recorder.close()
    assert sorted(os.listdir(tmp_path)) == ["r.h5.part", "whole.h5"]
    with Recorder(bench(), tmp_path / "r.h5", resume=True) as opu:
        found = [opu.measure(ones) for _ in range(5)]
    np.testing.assert_array_equal(found, expected)
    assert len(RecordedDevice(tmp_path / "r.h5")._recording) == 20


def test_close_counts_the_frames_of_the_file(tmp_path, monkeypatch):
    """Catches: a finished file with fewer frames than the part, which is removed."""
    recorder = Recorder(bench(), tmp_path / "r.h5")
    recorder.measure(np.ones((4, 20), bool))
    written = recorder_module.write_hdf5

    def short(path, attributes, arrays, check=None):
        written(path, attributes, {name: values[:3] for name, values in arrays.items()}, check)

    monkeypatch.setattr(recorder_module, "write_hdf5", short)
    with pytest.raises(ValueError, match="must have 4 frames, got 3"):
        recorder.close()
    assert os.listdir(tmp_path) == ["r.h5.part"]


def test_one_process_records(tmp_path):
    with Recorder(bench(), tmp_path / "r.h5") as opu:
        opu.dark(1)
        with pytest.raises(ValueError, match="which another process is using"):
            Recorder(bench(), tmp_path / "r.h5", resume=True)


N_IN, N_OUT = 37, 60


def half(batch, seed=0):
    return np.random.default_rng(seed).random((batch, N_IN)) < 0.5


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    """A temporary name until it is closed; an exception drops it; an older file stays. Catches: h5py.File(path)."""
    path = tmp_path / "r.h5"
    recorder = Recorder(presets.lab_bench(N_IN, N_OUT), path)
    recorder.measure(half(2))
    assert not path.exists()
    assert recorder.close() == path
    with pytest.raises(ValueError, match="never overwritten"):
        Recorder(presets.lab_bench(N_IN, N_OUT), path)
    with pytest.raises(RuntimeError), Recorder(presets.lab_bench(N_IN, N_OUT), tmp_path / "other.h5") as recorder:
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["r.h5"]


def test_arrays_of_a_real_bench(tmp_path):
    """A lab's arrays and a table of parts make a device. Catches: a layout that only the recorder writes."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (6, N_OUT), dtype=np.uint8)
    on = np.array([True] * 5 + [False])
    patterns = half(6) & on[:, None]
    path = write_recording(
        tmp_path / "lab.h5", {"camera": {"bit_depth": 8}}, patterns, frames, 2e-4, laser_on=on, unit_dn_per_s=1e5
    )
    device = RecordedDevice(path)
    np.testing.assert_array_equal(device.measure(patterns[:5]), frames[:5])
    np.testing.assert_array_equal(device.dark(1), frames[5:])
    assert device.unit_dn == pytest.approx(20.0)
    with pytest.raises(ValueError, match="never overwritten"):
        write_recording(path, {}, patterns, frames, 2e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": np.full((6, N_OUT), 0.5)}, "frames must be the camera's codes.*got 0.5 in pixel 0 of frame 0"),
        ({"patterns": half(5)}, "shown must give the row of patterns.* 5 patterns and 6 frames"),
        ({"exposure_s": np.ones(3)}, "exposure_s must have 6 entries"),
        ({"patterns": np.full((6, N_IN), 0.5)}, "patterns must be bool, 0/1 or 0/255, got 0.5"),
        ({"exposure_s": np.nan}, "attribute exposure_s must be positive, got"),
        ({"exposure_s": -1.0}, "attribute exposure_s must be positive, got"),
        ({"exposure_s": np.r_[np.ones(5), np.nan]}, "exposure_s must be finite and 1e-09 or more, got nan"),
        ({"reference_phase": np.inf}, "reference_phase must be finite, got inf"),
        ({"frame_number": np.zeros(6, int)}, "frame_number must increase"),
        ({"unit_dn_per_s": np.nan}, "attribute unit_dn_per_s must be positive"),
        ({"device": {"lazer": {}}}, "arrays: device: lazer is not a part of the device; parts are laser, dmd, imaging"),
        ({"device": {"laser": 3}}, "arrays: device: laser must be a table of parameters, got 3"),
        ({"device": "bench"}, "device must be a table of the parts' parameters, got 'bench'"),
        (
            {"frames": np.full((6, N_OUT), 256, np.uint16)},
            "frames must have codes up to 255, from the 8 bits of device.camera",
        ),
        ({"frames": np.zeros((0, N_OUT), np.uint8), "patterns": half(0)}, "frames must have at least one frame"),
        ({"uniform": {"frames": np.full((1, 4), 999, np.uint16), "photons": [1.0], "exposure_s": [1.0]}}, "got 999"),
    ],
)
def test_bad_arrays(tmp_path, arguments, message):
    """One line, and no file that `RecordedDevice` refuses or misreads. Catches: writing unchecked arrays."""
    given = {"patterns": half(6), "frames": np.zeros((6, N_OUT), np.uint8), "exposure_s": 1e-4, "device": {}}
    with pytest.raises(ValueError, match=message) as stop:
        write_recording(tmp_path / "lab.h5", **(given | arguments))
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.iterdir())
