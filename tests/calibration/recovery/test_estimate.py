"""Files of recovered matrices: read back whole, refused in one line if they are damaged, and readable for years."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration import TransmissionEstimate, recover_transmission_matrix
from calibration.recovery import transmission
from calibration.recovery.base import Gauge
from photonics import presets
from tests.calibration.damage import attribute, replace, spoil

OLD = Path(__file__).parents[1] / "storage" / "data" / "estimate_v1.h5"
"""Written by the version before arrays other than the matrix and its error had checksums."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The file of an estimate."""
    path = tmp_path_factory.mktemp("sound") / "estimate.h5"
    recover_transmission_matrix(presets.lab_bench(16, 40, seed=1), exposure="auto").save(path)
    return path


def test_the_relative_error_of_a_row_in_noise_exceeds_1():
    """An error of 6.6 times the entries: that ratio within 10 % (4 standard errors), infinite without a signal.

    Catches: the error over the length of the estimate, noise included, which is never above 1.
    """
    draw = np.random.default_rng(0).normal(size=(3, 2, 1, 100_000)).astype(np.float32)
    truth, noise, _ = (part + 1j * other for part, other in draw / np.sqrt(np.float32(2.0)))
    matrix = np.concatenate([truth + 6.6 * noise, 6.0 * noise])
    one = np.ones(2, np.bool_)
    estimate = TransmissionEstimate(matrix, np.full(2, 6.6, np.float32), one, "phase-stepping", Gauge(""), 1, 1.0, {})
    assert estimate.relative_error[0] == pytest.approx(6.6, rel=0.1)
    assert estimate.relative_error[1] == np.inf


DAMAGES = [
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
    (spoil("valid", 5, False), "valid is damaged"),
    (spoil("diagnostics/saturated", 5, 0.25), "diagnostics/saturated is damaged"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_files_are_refused_in_one_line(sound, tmp_path, damage, message):
    """The line names the file. Catches: a traceback of HDF5, a result that is not finite."""
    path = tmp_path / "estimate.h5"
    shutil.copy(sound, path)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ValueError, match=message) as stop:
        TransmissionEstimate.load(path)
    assert str(path) in str(stop.value)
    assert "\n" not in str(stop.value)


def same(one, other):
    """Whether two estimates are equal, bit for bit."""
    arrays = all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
        for name in ("matrix", "standard_error", "valid")
    )
    tables = all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
        for a, b in ((one.drift, other.drift), (one.diagnostics, other.diagnostics))
    )
    plain = all(getattr(one, name) == getattr(other, name) for name in ("method", "gauge", "frames", "provenance"))
    return arrays and tables and plain


def test_flipped_bits_are_refused(sound, tmp_path, rng):
    """A bit anywhere in the file: refused in one line, unless no array and no attribute is another for it.

    Catches: arrays, attributes and tables of HDF5 without a checksum.
    """
    content, path, whole = sound.read_bytes(), tmp_path / "estimate.h5", TransmissionEstimate.load(sound)
    refused = 0
    for place in rng.integers(0, len(content), 300).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            found = TransmissionEstimate.load(path)
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert same(found, whole), place
    assert refused > 100


def test_files_of_the_version_before_are_read():
    """Catches: a checksum that is asked for and not there, a layout that only new files have."""
    estimate = TransmissionEstimate.load(OLD)
    fresh = presets.lab_bench(8, 20, seed=1)
    again = recover_transmission_matrix(fresh, exposure="auto")
    camera = estimate.provenance["device"]["camera"]
    assert camera == {name: value for name, value in fresh.to_dict()["camera"].items() if name in camera}
    assert np.abs(estimate.matrix - again.matrix).max() < 1e-4
    assert estimate.frames == again.frames - 4  # without the closing frames


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_files_that_are_cut_off(sound, tmp_path, share):
    """Catches: a memory map past the end of the file."""
    content, path = sound.read_bytes(), tmp_path / "estimate.h5"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"estimate\.h5") as stop:
        TransmissionEstimate.load(path)
    assert "\n" not in str(stop.value)
    with pytest.raises(ValueError, match=r"path must be a transmission matrix .* \(Is a directory\)$"):
        TransmissionEstimate.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 100, 3000, 5000, -1])
def test_a_recovery_under_way_that_is_cut_off(tmp_path, monkeypatch, keep):
    """Cut off before its first record it is refused; cut off anywhere else it goes on to the same bits."""

    def stop(*_):
        raise KeyboardInterrupt

    opu, part = presets.lab_bench(16, 40, seed=1), tmp_path / "t.h5.part"
    opu.exposure_s = 2e-4
    whole = recover_transmission_matrix(opu.replace(exposure_s=2e-4))
    with monkeypatch.context() as patch:
        patch.setattr(transmission, "check_frames", stop)
        with pytest.raises(KeyboardInterrupt):
            recover_transmission_matrix(opu, out=tmp_path / "t.h5")
    part.write_bytes(part.read_bytes()[:keep])
    if 0 <= keep <= 100:
        with pytest.raises(ValueError, match=r"out must be an unfinished measurement, got .*t.h5.part, which is"):
            recover_transmission_matrix(opu, out=tmp_path / "t.h5", resume=True)
    else:
        again = recover_transmission_matrix(opu, out=tmp_path / "t.h5", resume=True)
        np.testing.assert_array_equal(again.matrix, whole.matrix)
