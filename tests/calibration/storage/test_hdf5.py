"""HDF5 files appear whole, and are read back."""

import os
import shutil
import stat

import h5py
import numpy as np
import pytest

from calibration.storage.hdf5 import dataset, lay_out, new_hdf5
from calibration.storage.recording import write_hdf5


def test_files_appear_whole_and_never_replace(tmp_path):
    """No file is left after a failure; a file that appears meanwhile is kept. Catches: h5py.File(path, "w")."""
    path = tmp_path / "deep" / "result.h5"
    with pytest.raises(RuntimeError), new_hdf5(path) as file:
        file["x"] = 1
        raise RuntimeError
    assert os.listdir(path.parent) == []
    with pytest.raises(ValueError, match="never overwritten"), new_hdf5(path) as file:
        path.write_text("somebody else's")
    assert path.read_text() == "somebody else's"
    assert os.listdir(path.parent) == ["result.h5"]
    with pytest.raises(ValueError, match="never overwritten"), new_hdf5(path):
        pass
    with new_hdf5(tmp_path / "new.h5") as file:
        file["x"] = 1
    assert stat.S_IMODE((tmp_path / "new.h5").stat().st_mode) == 0o644
    with pytest.raises(ValueError, match="writable folder"), new_hdf5(path / "below.h5"):
        pass


def test_a_data_set_in_one_piece(tmp_path):
    """It can be mapped into memory. Catches: chunks."""
    values = np.arange(12, dtype=np.complex64).reshape(4, 3)
    with new_hdf5(tmp_path / "x.h5") as file:
        lay_out(file, "matrix", (4, 3), np.complex64)[:] = values
        file.create_group("group")
        with pytest.raises(ValueError, match="group must be a data set"):
            dataset(file, "group")
    with h5py.File(tmp_path / "x.h5") as file:
        place = dataset(file, "matrix").id.get_offset()
    np.testing.assert_array_equal(np.memmap(tmp_path / "x.h5", np.complex64, "r", place, (4, 3)), values)


def test_a_disk_without_room_is_refused_before_hdf5_fills_it(tmp_path, monkeypatch):
    """HDF5 crashes on a disk that gets full. Catches: a segmentation fault, a file that is cut off."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    no_room = pytest.raises(ValueError, match=r"big\.h5 \(No space left on device\): nothing was replaced")
    with no_room, new_hdf5(tmp_path / "big.h5") as file:
        lay_out(file, "matrix", (500, 500), np.complex64)
    arrays = {"frames": np.zeros((1000, 1000), np.uint8)}
    with pytest.raises(ValueError, match=r"r\.h5 \(No space left on device\)"):
        write_hdf5(tmp_path / "r.h5", {}, arrays)
    assert not list(tmp_path.iterdir())
