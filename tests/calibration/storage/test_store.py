"""Frames on disk: read as written, whatever the blocks; continued by the same measurement only."""

import os
import stat

import h5py
import numpy as np
import pytest

from calibration.storage.frames import Part, create_store, new_hdf5, open_store

HEADER = {"method": "m", "device": {"seed": 3, "camera": {"bit_depth": 8}}, "start_frame": 17}
FRAMES = np.random.default_rng(0).integers(0, 4096, (37, 103)).astype(np.uint16)


def filled(path, block, upto=37):
    store = create_store(path, HEADER, 37, 103, np.uint16, block)
    for start in range(0, upto, 5):
        store.append(FRAMES[start : min(start + 5, upto)])
    return store


@pytest.mark.parametrize("block", [1, 16, 102, 103, 5000])
def test_frames_are_read_as_written(tmp_path, block):
    """Any rows, any frames, any blocks. Catches: the padding of the last block read as pixels."""
    with filled(tmp_path / "run.part", block) as store:
        assert store.done == 37
        np.testing.assert_array_equal(store.rows(slice(0, 103)), FRAMES)
        np.testing.assert_array_equal(store.rows(slice(20, 71), 5), FRAMES[5:, 20:71])
        np.testing.assert_array_equal(store.frames(3, 9), FRAMES[3:9])
        np.testing.assert_array_equal(np.concatenate([store.rows(r) for r in store.blocks()], axis=1), FRAMES)
        part = Part(store, 7)
        assert part.count == 30
        np.testing.assert_array_equal(part.rows(slice(90, 103)), FRAMES[7:, 90:])
        np.testing.assert_array_equal(part.frames(0, 2), FRAMES[7:9])


def test_it_is_an_hdf5_file_that_says_what_it_is(tmp_path):
    """Others can open it while it is not in use, see its state, and read the frames."""
    filled(tmp_path / "run.part", 16, upto=10).close()
    with h5py.File(tmp_path / "run.part") as file:
        assert file["done"][0] == 10
        assert "under way" in file.attrs["state"]
        np.testing.assert_array_equal(file["frames"][1, :10], FRAMES[:10, 16:32])


def test_it_goes_on_where_it_stopped(tmp_path):
    filled(tmp_path / "run.part", 16, upto=10).close()
    with open_store(tmp_path / "run.part", HEADER | {"start_frame": 99}) as store:
        assert store.done == 10
        assert store.header["start_frame"] == 17
        store.append(FRAMES[10:])
        np.testing.assert_array_equal(store.rows(slice(0, 103)), FRAMES)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "other"}, "whose method is 'm', not 'other'"),
        ({"device": {"seed": 3, "camera": {"bit_depth": 10}}}, "whose device.camera.bit_depth is 8, not 10"),
        ({"device": {"camera": {"bit_depth": 8}}}, "whose device.seed is 3, not 'absent'"),
        ({"steps": 4}, "whose steps is 'absent', not 4"),
    ],
)
def test_another_measurement_is_refused(tmp_path, changed, message):
    """Catches: comparing the names that the file has, only."""
    filled(tmp_path / "run.part", 16).close()
    with pytest.raises(ValueError, match=message):
        open_store(tmp_path / "run.part", HEADER | changed)
    with open_store(tmp_path / "run.part", HEADER) as store:  # a refusal leaves no lock behind
        assert store.done == 37


def test_two_processes_cannot_write_at_once(tmp_path):
    """The second is told; the lock is that of the open file, so a second opening stands for a second process."""
    with filled(tmp_path / "run.part", 16, upto=10), pytest.raises(ValueError, match="another process is writing"):
        open_store(tmp_path / "run.part", HEADER)


def test_what_is_no_store_is_refused(tmp_path):
    (tmp_path / "text").write_text("no")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    for name in ("text", "other.h5"):
        with pytest.raises(ValueError, match="which is not one"):
            open_store(tmp_path / name, HEADER)


def test_bad_frames_are_refused(tmp_path):
    with filled(tmp_path / "run.part", 16, upto=35) as store:
        for bad in (FRAMES[:1, :50], FRAMES[:1].astype(np.uint8), FRAMES[:3]):
            with pytest.raises(ValueError, match="frames must be uint16 of shape"):
                store.append(bad)
        assert store.done == 35


def test_files_appear_whole_and_never_replace(tmp_path):
    """Nothing under the name, nor beside it, after a failure; a file that appears meanwhile is kept."""
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
    with pytest.raises(ValueError, match="folder that can be written"), new_hdf5(path / "below.h5"):
        pass
