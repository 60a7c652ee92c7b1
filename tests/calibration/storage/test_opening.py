"""Data of a bench in the files that labs have."""

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image

from calibration import RecordedDevice, Recording, open_recording

COUNT, N_IN, ROWS, COLUMNS = 7, 9, 4, 5
RNG = np.random.default_rng(0)
MASKS = RNG.random((COUNT, N_IN)) < 0.5
FRAMES = RNG.integers(0, 4000, (COUNT, ROWS, COLUMNS)).astype(np.uint16)
EXPOSURE = np.linspace(1e-3, 2e-3, COUNT)
DEVICE = {"camera": {"bit_depth": 12}}


def check(record, kept=slice(None), exposure=None):
    """The recording is that of the arrays."""
    np.testing.assert_array_equal(record.patterns, MASKS[kept])
    np.testing.assert_array_equal(record.frames, FRAMES[kept].reshape(-1, ROWS * COLUMNS))
    assert record.device["imaging"]["sensor"] == [ROWS, COLUMNS]
    if exposure is not None:
        np.testing.assert_array_equal(record.columns["exposure_s"], exposure[kept])


def test_one_file_holds_all(tmp_path):
    """npz, HDF5, MATLAB 5 and 7.3, with other names and MATLAB's axes, in which a number has two.

    Catches: transposed or renamed arrays, one exposure for all frames that is refused.
    """
    arrays = {"patterns": MASKS.astype(np.uint8) * 255, "frames": FRAMES, "exposure_s": EXPOSURE}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values
    matlab = arrays | {"frames": np.moveaxis(FRAMES, 0, 2), "Y": 0}
    scipy.io.savemat(tmp_path / "a.mat", matlab)
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:  # 7.3: HDF5 with the axes in reverse
        for name, values in matlab.items():
            file[name] = np.transpose(values)
    for name in ("a.npz", "a.h5", "a.mat", "b.mat"):
        check(open_recording(tmp_path / name, device=DEVICE), exposure=EXPOSURE)
    scipy.io.savemat(tmp_path / "one.mat", matlab | {"exposure_s": 2e-3})
    check(open_recording(tmp_path / "one.mat", device=DEVICE), exposure=np.full(COUNT, 2e-3))
    with h5py.File(tmp_path / "named.h5", "w") as file:
        file["run/X"], file["run/Y"] = MASKS, FRAMES
    found = open_recording(tmp_path / "named.h5", names={"patterns": "run/X", "frames": "run/Y"}, device=DEVICE)
    check(found)
    with pytest.raises(ValueError, match=r"it holds run/X, run/Y, none of patterns, frames"):
        open_recording(tmp_path / "named.h5")


def test_frames_alone(tmp_path):
    """npy, a stack of TIFF, folders of PNG with gaps; patterns from an array or a file, also one of questions.

    Catches: frames in the order of their names as text, an exposure of another frame.
    """
    np.save(tmp_path / "frames.npy", FRAMES)
    tifffile.imwrite(tmp_path / "frames.tif", FRAMES)
    np.save(tmp_path / "masks.npy", MASKS)
    for name in ("frames.npy", "frames.tif"):
        check(open_recording(tmp_path / name, MASKS, device=DEVICE))
        check(open_recording(tmp_path / name, tmp_path / "masks.npy", device=DEVICE, exposure_s=EXPOSURE))
    questions = Recording.from_arrays(MASKS, FRAMES * 0, EXPOSURE, device=DEVICE).save(tmp_path / "questions.h5")
    kept = np.array([0, 1, 3, 4, 5, 6])
    for start in (0, 1):
        folder = tmp_path / f"png{start}"
        folder.mkdir()
        for place in kept:
            Image.fromarray(FRAMES[place]).save(folder / f"run2_{place + 1 + 6 * start}.png")
        (folder / "notes.txt").write_text("shutter stuck at 3")
    record = open_recording(tmp_path / "png0", questions)  # frame 2 is missing
    check(record, kept, EXPOSURE)
    assert record.not_shown == (2,) and record.path == tmp_path / "png0"
    assert RecordedDevice(record).camera.bit_depth == 12
    with pytest.raises(ValueError, match=r"frames must be numbered from 0 to 6 or from 1 to 7, got 7 to 13"):
        open_recording(tmp_path / "png1", questions)


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path):
    """Pickles, colours, sizes that lie, other kinds, no file. Catches: code that is executed, a traceback."""
    np.savez(tmp_path / "pickle.npz", patterns=MASKS, frames=np.array([{}], object))
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "colour.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    for side in (4, 5):
        Image.fromarray(np.zeros((side, 5), np.uint8)).save(tmp_path / "mixed" / f"{side}.png")
    tifffile.imwrite(tmp_path / "lie.tif", np.zeros((2, 2), np.uint8))
    with tifffile.TiffFile(tmp_path / "lie.tif", mode="r+b") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[tag].overwrite(60000)
    (tmp_path / "cut.tif").write_bytes((tmp_path / "lie.tif").read_bytes()[:20])
    (tmp_path / "a.txt").write_text("1 2 3")
    np.save(tmp_path / "only.npy", FRAMES)
    for name, message in {
        "pickle.npz": "pickle.npz .*(allow_pickle|Object|object)",
        "empty": "the folder must hold images",
        "mixed": r"5\.png must be uint8 of \(4, 5\)",
        "lie.tif": "lie.tif .*(declares|GB of memory)",
        "cut.tif": "cut.tif",
        "a.txt": "the name must end in",
        "none.h5": "No such file",
        "only.npy": "patterns must be in .*only.npy",
    }.items():
        with pytest.raises(ValueError, match=message) as stop:
            open_recording(tmp_path / name)
        assert "\n" not in str(stop.value)
    (tmp_path / "mixed" / "4.png").unlink()
    (tmp_path / "mixed" / "5.png").unlink()
    (tmp_path / "colour.png").rename(tmp_path / "mixed" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png must be a grey image, \(rows, columns\), got shape \(4, 5, 3\)"):
        open_recording(tmp_path / "mixed")
