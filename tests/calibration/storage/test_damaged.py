"""Files that were damaged: one line that names the file, never a traceback of HDF5 or a result that is no number."""

import shutil

import h5py
import numpy as np
import pytest

from calibration import RecordedDevice, Recorder, TransmissionEstimate, recover_transmission_matrix
from photonics import presets


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A recording, an estimate and the part of a recovery."""
    folder = tmp_path_factory.mktemp("sound")
    opu = presets.lab_bench(16, 40, seed=1)
    with Recorder(opu, folder / "recording.h5") as recorder:
        recorder.uniform(100.0, 1e-3, 2, 16)
        estimate = recover_transmission_matrix(recorder, exposure="auto")
    estimate.save(folder / "estimate.h5")
    return folder


def replace(name, change):
    def damage(file):
        values = change(file[name][()])
        del file[name]
        file[name] = values

    return damage


def spoil(name, place, value, summed=True):
    """A value that is another; in a file without checksums if they are not `summed`."""

    def damage(file):
        file[name][place] = value
        if not summed:
            del file[name].attrs["crc32"]

    return damage


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


ESTIMATE = [
    (lambda f: f.pop("matrix"), "matrix"),
    (lambda f: f.pop("valid"), "valid"),
    (lambda f: f.attrs.pop("gauge"), "gauge"),
    (attribute("format", "opu-sim transmission matrix 9"), "matrix 9"),
    (attribute("provenance", "{"), "Expecting property name"),
    (attribute("gauge", '{"colour": 1}'), "colour"),
    (attribute("frames", "many"), "many"),
    (replace("matrix", lambda m: m.astype(np.complex128)), "matrix must be complex64"),
    (replace("valid", lambda v: v[:-1]), "valid must be bool"),
    (replace("valid", lambda v: v.astype(float)), "valid must be bool"),
    (replace("standard_error", lambda e: e[:3]), "standard_error must be real"),
    (spoil("matrix", (7, 3), np.nan, summed=False), "row 7 is marked valid but contains NaN"),
    (spoil("standard_error", 5, np.nan, summed=False), "row 5 is marked valid"),
    (spoil("matrix", (7, 3), 0.25), "matrix is damaged: its checksum differs"),
    (spoil("standard_error", 5, 0.25), "standard_error is damaged"),
]
RECORDING = [
    (attribute("version", 7), "format must be 'opu-recording' version 1, got 'opu-recording' version 7"),
    (lambda f: f.pop("exposure_s"), "data set exposure_s must be there"),
    (lambda f: f.attrs.pop("device"), "attribute device must be text"),
    (attribute("exposure_s", np.nan), "attribute exposure_s must be positive"),
    (attribute("unit_dn_per_s", -1.0), "attribute unit_dn_per_s must be positive"),
    (spoil("exposure_s", 4, np.nan), "exposure_s must be a number that makes sense, got nan in frame 4"),
    (spoil("reference_phase", 2, np.inf), "reference_phase must be a number that makes sense"),
    (spoil("uniform/photons", 1, -2.0), "uniform/photons must be a number that makes sense, got -2 in frame 1"),
    (replace("frames", lambda x: x.astype(float)), "data set frames must hold"),
]


def damaged(sound, tmp_path, name, damage):
    path = tmp_path / name
    shutil.copy(sound / name, path)
    with h5py.File(path, "r+") as file:
        damage(file)
    return path


@pytest.mark.parametrize(("damage", "message"), ESTIMATE)
def test_estimates(sound, tmp_path, damage, message):
    path = damaged(sound, tmp_path, "estimate.h5", damage)
    with pytest.raises(ValueError, match=message) as stop:
        TransmissionEstimate.load(path)
    assert str(path) in str(stop.value)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(("damage", "message"), RECORDING)
def test_recordings(sound, tmp_path, damage, message):
    path = damaged(sound, tmp_path, "recording.h5", damage)
    with pytest.raises(ValueError, match=message) as stop:
        RecordedDevice(path)
    assert str(path) in str(stop.value)
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_files_that_were_cut_off(sound, tmp_path, share):
    """Of any length. Catches: a memory map past the end of the file."""
    for name, read in (("estimate.h5", TransmissionEstimate.load), ("recording.h5", RecordedDevice)):
        content = (sound / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=name) as stop:
            read(path)
        assert "\n" not in str(stop.value)


@pytest.mark.parametrize("keep", [0, 100, 3000, -1])
def test_a_recovery_under_way_that_was_cut_off(tmp_path, monkeypatch, keep):
    from calibration.recovery import transmission

    def stop(*_):
        raise KeyboardInterrupt

    opu, part = presets.lab_bench(16, 40, seed=1), tmp_path / "t.h5.part"
    with monkeypatch.context() as patch:
        patch.setattr(transmission, "check_frames", stop)
        with pytest.raises(KeyboardInterrupt):
            recover_transmission_matrix(opu, out=tmp_path / "t.h5")
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"out must name a measurement to resume, got .*t.h5.part, which is"):
        recover_transmission_matrix(opu, out=tmp_path / "t.h5", resume=True)
