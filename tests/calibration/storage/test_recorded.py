"""A recording replays what was measured, bit for bit, and nothing else."""

import h5py
import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, write_recording
from calibration.device import Device
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


@pytest.fixture
def path(tmp_path):
    with Recorder(bench(), tmp_path / "bench.h5") as recorder:
        session(recorder)
    return tmp_path / "bench.h5"


def test_replay_is_the_session_bit_for_bit(tmp_path):
    """Live, recorded and replayed: same frames, clock, exposure and unit.

    Catches: a dark frame kept as a pattern of zeros, the exposure of the device in place of that of the call, a clock
    that forgets the waiting.
    """
    live = session(bench())
    with Recorder(bench(), tmp_path / "r.h5") as recorder:
        recorded = session(recorder)
    device = RecordedDevice(tmp_path / "r.h5")
    replayed = session(device)
    for other in (recorded, replayed):
        assert other[1:] == live[1:]
        for a, b in zip(live[0], other[0], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_both_are_devices_and_have_no_medium(path):
    """All parts come from the description. Catches: a default part."""
    device, opu = RecordedDevice(path), bench()
    assert isinstance(device, Device)
    assert not hasattr(device, "medium")
    for name in ("laser", "dmd", "imaging", "camera", "n_in", "n_out", "frame_period_s", "unit_dn"):
        assert getattr(device, name) == getattr(opu, name)
    assert device.to_dict() == opu.to_dict()


def test_frames_may_be_asked_for_in_other_batches(path):
    """Catches: one call, one record."""
    device = RecordedDevice(path)
    expected = bench().measure(half(5))
    np.testing.assert_array_equal(np.concatenate([device.measure(half(5)[i : i + 1]) for i in range(5)]), expected)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda d: d.measure(half(5, 9)), "at frame 0: inputs that differ"),
        (lambda d: d.measure(half(5)[[0, 1, 3, 2, 4]]), "at frame 2: inputs that differ"),
        (lambda d: d.measure(half(5), 1e-4), "at frame 0: exposure_s is 0.00044 in the file, 0.0001 was asked for"),
        (lambda d: d.measure(half(5), reference_phase=0.0), "at frame 0: reference_phase is nan"),
        (lambda d: d.dark(1), "at frame 0: laser_on is True"),
        (lambda d: (d.measure(half(5)), d.dark(1)), "at frame 5: laser_on"),
        (lambda d: d.measure(np.concatenate([half(5), half(30)])), "has 19 frames, frame 34 was asked for"),
        (lambda d: d.uniform(100.0, 1e-3, 2, 16), "2 more frames of uniform light on 16 pixels were not recorded"),
        (lambda d: d.measure(half(5)[:, 1:]), r"patterns must have shape \(batch, 37\)"),
    ],
)
def test_another_request_is_refused(path, ask, message):
    """One line that says where. Catches: any of the comparisons left out."""
    with pytest.raises(ValueError, match=message) as stop:
        ask(RecordedDevice(path))
    assert "\n" not in str(stop.value)


def test_a_refused_request_moves_nothing(path):
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
        ({"frames": np.zeros((6, N_OUT))}, "frames must be uint8 or uint16"),
        ({"patterns": half(5)}, "patterns must have 6 entries"),
        ({"exposure_s": np.ones(3)}, "exposure_s must have 6 entries"),
        ({"patterns": np.full((6, N_IN), 0.5)}, "patterns must be binary"),
        ({"exposure_s": np.nan}, "lab.h5: attribute exposure_s must be positive, got"),
        ({"exposure_s": -1.0}, "lab.h5: attribute exposure_s must be positive, got"),
        ({"exposure_s": np.r_[np.ones(5), np.nan]}, "lab.h5: exposure_s must be a number that makes sense, got nan"),
        ({"reference_phase": np.inf}, "lab.h5: reference_phase must be a number that makes sense, got inf"),
        ({"frame_number": np.arange(6)[::-1]}, "lab.h5: frame_number must rise"),
        ({"unit_dn_per_s": np.nan}, "lab.h5: attribute unit_dn_per_s must be positive"),
        ({"device": {"lazer": {}}}, "lab.h5: device: lazer is not a part of the device; parts are laser, dmd, imaging"),
        ({"device": {"laser": 3}}, "lab.h5: device: laser must be a table of parameters, got 3"),
        ({"device": "bench"}, "device must be a table of the parts' parameters, got 'bench'"),
        ({"frames": np.full((6, N_OUT), 256, np.uint16)}, "lab.h5: frames must hold codes up to 255, those of 8 bits"),
        ({"frames": np.zeros((0, N_OUT), np.uint8), "patterns": half(0)}, "frames must hold one at least"),
        ({"uniform": {"frames": np.full((1, 4), 999, np.uint16), "photons": [1.0], "exposure_s": [1.0]}}, "got 999"),
    ],
)
def test_bad_arrays(tmp_path, arguments, message):
    """One line, and no file that `RecordedDevice` refuses or misreads. Catches: writing what comes, unchecked."""
    given = {"patterns": half(6), "frames": np.zeros((6, N_OUT), np.uint8), "exposure_s": 1e-4, "device": {}}
    with pytest.raises(ValueError, match=message) as stop:
        write_recording(tmp_path / "lab.h5", **(given | arguments))
    assert "\n" not in str(stop.value)
    assert not list(tmp_path.iterdir())


def test_a_file_of_somebody_else_is_checked(tmp_path):
    """Names of no part, and 16-bit codes under the sheet of an 8-bit camera. Catches: replaying them."""
    frames = np.arange(6 * N_OUT, dtype=np.uint16).reshape(6, N_OUT)
    path = write_recording(tmp_path / "lab.h5", {"camera": {"bit_depth": 16}}, half(6), frames, 2e-4)
    with h5py.File(path, "r+") as file:
        file.attrs["device"] = "{}"
    with RecordedDevice(path) as device, pytest.raises(ValueError, match="frames must hold codes up to 255"):
        device.measure(half(6))
    with h5py.File(path, "r+") as file:
        file.attrs["device"] = '{"lazer": {"power_w": 1.0}}'
    with pytest.raises(ValueError, match="lazer is not a part of the device"):
        RecordedDevice(path)


def test_the_file_appears_whole_or_not_at_all(tmp_path):
    """A temporary name until it is closed; an exception drops it; an older file stays. Catches: h5py.File(path)."""
    path = tmp_path / "r.h5"
    recorder = Recorder(bench(), path)
    recorder.measure(half(2))
    assert not path.exists()
    assert recorder.close() == path
    with pytest.raises(ValueError, match="never overwritten"):
        Recorder(bench(), path)
    with pytest.raises(RuntimeError), Recorder(bench(), tmp_path / "other.h5") as recorder:
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["r.h5"]


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def set_device(text):
    return lambda f: f.attrs.__setitem__("device", text)


def replace(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__setitem__("version", 2), "format must be 'opu-recording' version 1"),
        (lambda f: f.attrs.pop("format"), "format must be"),
        (lambda f: f.attrs.pop("n_in"), "n_in"),
        (set_device("{"), "Expecting property name"),
        (set_device("[1]"), "must be a JSON object"),
        (set_device('{"camera": {"bit_depth": 99}}'), "bit_depth must be"),
        (set_device('{"camera": {"colour": "red"}}'), "colour is not a parameter"),
        (set_device('{"camera": 3}'), "device"),
        (lambda f: f.pop("patterns"), "data set patterns must be there"),
        (lambda f: f.pop("frames"), "frames must be there"),
        (replace("laser_on", np.ones(3, bool)), "one entry for each frame"),
        (replace("frames", np.zeros((19, 4))), "data set frames must hold"),
        (replace("frame_number", np.zeros(19, np.int64)), "frame_number must rise"),
        (replace("patterns", np.zeros((19, 9), np.uint8)), "patterns must have 5 bytes"),
    ],
)
def test_bad_files_are_refused_in_one_line(path, change, message):
    edit(path, change)
    with pytest.raises(ValueError, match=message) as stop:
        RecordedDevice(path)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("content", [None, b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_file_at_all(tmp_path, content):
    path = tmp_path / "x.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="path must be a readable recording"):
        RecordedDevice(path)
