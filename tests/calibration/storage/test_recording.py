"""Files of recordings: damaged, truncated, from other software, from the previous version."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, write_recording
from photonics import presets
from tests.calibration.damage import attribute, replace, spoil

N_IN, N_OUT = 16, 40
OLD = Path(__file__).with_name("data") / "recording_v1.h5"
"""Written by the version before `calibration.storage.journal`."""


def session(opu):
    """Frames of everything that a device offers: 18 of them, and 2 of uniform light."""
    return [
        opu.uniform(100.0, 1e-3, 2, 16),
        opu.dark(2),
        opu.measure(np.eye(N_IN, dtype=bool), reference_phase=0.5),
    ]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A recording; tests work on copies."""
    path = tmp_path_factory.mktemp("sound") / "recording.h5"
    with Recorder(presets.lab_bench(N_IN, N_OUT, seed=1), path) as opu:
        session(opu)
    return path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (attribute("version", 7), "format must be 'opu-recording' version 1 or 2, got 'opu-recording' version 7"),
        (lambda f: f.attrs.pop("format"), "format must be"),
        (lambda f: f.attrs.pop("n_in"), "n_in"),
        (lambda f: f.attrs.pop("device"), "attribute device must be text"),
        (attribute("device", "{"), "Expecting property name"),
        (attribute("device", "[1]"), "must be a JSON object"),
        (attribute("device", '{"camera": {"bit_depth": 99}}'), "bit_depth must be"),
        (attribute("device", '{"camera": {"colour": "red"}}'), "colour is not a parameter"),
        (attribute("device", '{"camera": 3}'), "device"),
        (attribute("exposure_s", np.nan), "attribute exposure_s must be positive"),
        (attribute("unit_dn_per_s", -1.0), "attribute unit_dn_per_s must be positive"),
        (lambda f: f.pop("patterns"), "data set patterns is missing"),
        (lambda f: f.pop("frames"), "data set frames is missing"),
        (spoil("exposure_s", 4, np.nan), "exposure_s must be finite and 1e-09 or more, got nan in frame 4"),
        (spoil("reference_phase", 2, np.inf), "reference_phase must be finite"),
        (spoil("uniform/photons", 1, -2.0), "uniform/photons must be finite and 0 or more, got -2 in frame 1"),
        (replace("frames", lambda x: x.astype(float)), "data set frames must have"),
        (replace("laser_on", lambda x: x[:3]), "one entry for each frame"),
        (replace("frame_number", np.zeros_like), "frame_number must increase"),
        (replace("patterns", lambda x: np.zeros((len(x), 9), np.uint8)), "patterns must have 2 bytes"),
    ],
)
def test_bad_files_are_refused_in_one_line(sound, tmp_path, damage, message):
    """The line names the file. Catches: a traceback of HDF5 or of JSON."""
    path = tmp_path / "recording.h5"
    shutil.copy(sound, path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=message) as stop:
        RecordedDevice(path)
    assert str(path) in str(stop.value)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("content", [None, b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 40, 0.01, 0.5, 0.999])
def test_files_that_are_not_recordings_are_refused(sound, tmp_path, content):
    """No file, other files, and files that are cut off at a share of their length."""
    path = tmp_path / "x.h5"
    if isinstance(content, float):
        whole = sound.read_bytes()
        content = whole[: int(content * len(whole))]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"path must be a readable recording .*x\.h5") as stop:
        RecordedDevice(path)
    assert "\n" not in str(stop.value)
    with pytest.raises(ValueError, match=r"path must be a readable recording \(HDF5\), got .* \(Is a directory\)$"):
        RecordedDevice(tmp_path)


def test_flipped_bits_are_refused(sound, tmp_path, rng):
    """A bit anywhere in the file: refused in one line, or the same frames, since not every byte is in use.

    Catches: arrays, attributes and tables of HDF5 without a checksum.
    """
    content, path = sound.read_bytes(), tmp_path / "recording.h5"
    with RecordedDevice(sound) as device:
        whole, described = session(device), device.to_dict()
    refused = 0
    for place in rng.integers(0, len(content), 300).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            with RecordedDevice(path) as device:
                found = session(device)
                assert device.to_dict() == described, place
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert all(np.array_equal(a, b) for a, b in zip(found, whole, strict=True)), place
    assert refused > 100


def test_files_of_the_version_before_are_read():
    """Also the throughput, which all inputs shared. Catches: a layout that only new files have, 32 times the light."""
    opu = presets.lab_bench(N_IN, N_OUT, seed=1)
    with RecordedDevice(OLD) as device:
        assert device.imaging == opu.imaging
        assert device.unit_dn / device.exposure_s == pytest.approx(opu.unit_dn / opu.exposure_s)
        found = session(device)
        assert device.done
    for a, b in zip(found, session_of(opu), strict=True):
        np.testing.assert_array_equal(a, b)


def session_of(opu):
    """The session on a device without a method for uniform light, so that its camera is simulated."""
    from calibration.camera.photon_transfer import uniform_light

    light = uniform_light(opu).uniform(100.0, 1e-3, 2, 16)
    return [light, opu.dark(2), opu.measure(np.eye(N_IN, dtype=bool), reference_phase=0.5)]


def test_a_file_from_other_software_is_checked(tmp_path):
    """Parts of other names, and 16-bit codes under the sheet of an 8-bit camera. Catches: replaying them."""
    frames = 2 * np.arange(6 * N_OUT, dtype=np.uint16).reshape(6, N_OUT)
    half = np.random.default_rng(0).random((6, N_IN)) < 0.5
    path = write_recording(tmp_path / "lab.h5", {"camera": {"bit_depth": 16}}, half, frames, 2e-4)
    with h5py.File(path, "r+") as file:
        file.attrs["device"] = "{}"
    with RecordedDevice(path) as device, pytest.raises(ValueError, match="frames must have codes up to 255"):
        device.measure(half)
    with h5py.File(path, "r+") as file:
        file.attrs["device"] = '{"lazer": {"power_w": 1.0}}'
    with pytest.raises(ValueError, match="lazer is not a part of the device"):
        RecordedDevice(path)


def test_data_in_another_file_or_not_stored_are_refused(sound, tmp_path):
    """Catches: frames read from any file of the machine that a recording names; memory for what a shape declares."""
    path, other = tmp_path / "r.h5", tmp_path / "other.h5"
    shutil.copy(sound, other)
    with h5py.File(sound) as file:
        frames = file["frames"][:]
    (tmp_path / "raw.bin").write_bytes(frames.tobytes())
    for kind in ("external", "link", "declared"):
        shutil.copy(sound, path)
        with h5py.File(path, "r+") as file:
            del file["frames"]
            if kind == "link":
                file["frames"] = h5py.ExternalLink(str(other), "frames")
            else:
                raw = [(str(tmp_path / "raw.bin"), 0, frames.nbytes)] if kind == "external" else None
                chunks = None if raw else frames.shape
                file.create_dataset("frames", frames.shape, frames.dtype, external=raw, chunks=chunks)
        with pytest.raises(ValueError, match=r"frames must be (in|stored in) .*r.h5"):
            RecordedDevice(path)
