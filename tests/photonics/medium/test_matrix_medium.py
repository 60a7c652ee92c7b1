"""A transmission matrix that the user brings: read from three kinds of file, or refused in one line."""

import hashlib
import warnings

import h5py
import numpy as np
import pytest

from photonics import MatrixMedium
from photonics import medium as media

ALL = slice(None)
MATRIX = (np.arange(12).reshape(3, 4) - 5.5 + 1j * np.arange(12).reshape(3, 4) ** 2).astype(np.complex64)


def save(path, matrix, name="T"):
    """Write a matrix in the format of the suffix, as a user would."""
    if path.suffix == ".npy":
        np.save(path, matrix)
    elif path.suffix == ".npz":
        np.savez(path, **{name: matrix})
    else:
        with h5py.File(path, "w") as file:
            file[name] = matrix
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


every_suffix = pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5", ".NPY"])


@every_suffix
def test_a_saved_matrix_is_read_back(tmp_path, suffix):
    """Every format, every numeric type, entries as they are. Catches: a matrix that is rescaled or transposed."""
    for dtype in ("complex64", "complex128", "float32", "int16", "bool"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            matrix = MATRIX.astype(dtype)
        written = save(tmp_path / (dtype + suffix.lower()), matrix).rename(tmp_path / (dtype + suffix))
        medium = MatrixMedium.load(written)
        assert medium.shape == (3, 4)
        np.testing.assert_array_equal(medium.block(ALL, ALL), matrix.astype(np.complex64))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_description_names_the_file_and_its_digest(tmp_path, suffix):
    """A description gives the same medium back, and refuses a file that has changed. Catches: a digest not kept."""
    path = save(tmp_path / ("t" + suffix.lower()), MATRIX)
    medium = MatrixMedium.load(path)
    description = medium.to_dict()
    assert description["sha256"] == digest(path)
    np.testing.assert_array_equal(media.from_dict(description).block(ALL, ALL), MATRIX)
    save(path, 2 * MATRIX)
    with pytest.raises(ValueError, match=r"must have SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}$"):
        media.from_dict(description)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_one_array_of_many(tmp_path, suffix):
    """The key picks it and goes into the description; without one, or with a wrong one, the names are listed."""
    path = tmp_path / ("t" + suffix)
    if suffix == ".npz":
        np.savez(path, first=MATRIX, second=2 * MATRIX)
    else:
        with h5py.File(path, "w") as file:
            file["first"], file["second"] = MATRIX, 2 * MATRIX
    medium = MatrixMedium.load(path, key="second")
    np.testing.assert_array_equal(medium.block(ALL, ALL), 2 * MATRIX)
    np.testing.assert_array_equal(media.from_dict(medium.to_dict()).block(ALL, ALL), 2 * MATRIX)
    for key in (None, "third"):
        with pytest.raises(ValueError, match=r"key must be one of \['first', 'second'\]"):
            MatrixMedium.load(path, key=key)


class Trap:
    """Leaves a mark if it is ever unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_is_unpickled(tmp_path, suffix):
    """Object arrays are refused unread. Catches: ``allow_pickle=True``."""
    path = save(tmp_path / ("t" + suffix), np.array([[Trap()]], dtype=object))
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        MatrixMedium.load(path)
    assert not Trap.sprung


def refusal(path, **keywords):
    """The type and the text of the exception that loading raises; the file that numpy leaves open is closed here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            MatrixMedium.load(path, **keywords)
        except Exception as error:
            return type(error), str(error)
    return None, ""


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_truncated_files_are_refused(tmp_path, suffix):
    """Cut anywhere: a ValueError in one line. Catches: a format whose own exception gets through."""
    whole = save(tmp_path / ("w" + suffix), np.ones((40, 50), np.complex64)).read_bytes()
    path = tmp_path / ("t" + suffix)
    for share in (0.0, 0.1, 0.5, 0.98):
        path.write_bytes(whole[: int(share * len(whole))])
        kind, text = refusal(path)
        assert kind is ValueError
        assert "\n" not in text


@pytest.mark.parametrize("name", ["text.npy", "text.npz", "text.h5", "array.npz", "zip.npy"])
def test_other_content_is_refused(tmp_path, name):
    """Content that does not match the suffix: a ValueError. Catches: an exception of the reader that gets through."""
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("not a matrix")
    else:
        save(tmp_path / ("x.npy" if name == "array.npz" else "x.npz"), MATRIX).rename(path)
    assert refusal(path)[0] is ValueError


def test_flipped_bits_are_found(tmp_path):
    """One wrong byte in the data changes the digest. Catches: a digest of the name, a comparison left out."""
    path = save(tmp_path / "t.npy", MATRIX)
    good, content = digest(path), bytearray(path.read_bytes())
    assert MatrixMedium.load(path, sha256=good).shape == (3, 4)
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"must have SHA-256 {good}, got {digest(path)}"):
        MatrixMedium.load(path, sha256=good)


def test_path_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^MatrixMedium: path must be a readable file, got .*missing\.npy"):
        MatrixMedium.load(tmp_path / "missing.npy")
    (tmp_path / "t.mat").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"t.mat: the name must end in .npy, .npz, .h5 or .hdf5"):
        MatrixMedium.load(tmp_path / "t.mat")


BAD = {
    "have shape": [np.ones(3), np.ones((2, 2, 2)), 1.0, np.ones((0, 3)), np.ones((3, 0))],
    "be real or complex": [[["a"]], [[None]], np.zeros((2, 2), "datetime64[s]")],
    "be finite": [[[np.nan]], [[1.0, np.inf]], [[1j * np.nan]], [[complex(0, -np.inf)]]],
}


@pytest.mark.parametrize("says", BAD)
def test_bad_matrices_are_named(says):
    """Catches: NaN, text or a vector let through."""
    for matrix in BAD[says]:
        with pytest.raises(ValueError, match=rf"^MatrixMedium: matrix must {says}"):
            MatrixMedium(matrix)


def test_bad_matrix_in_a_file(tmp_path):
    bad = MATRIX.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"t.h5: matrix must be finite"):
        MatrixMedium.load(save(tmp_path / "t.h5", bad))


def test_the_array_is_copied():
    """The medium does not follow later changes of the user's array. Catches: a view."""
    matrix = MATRIX.copy()
    medium = MatrixMedium(matrix)
    matrix[:] = 0
    np.testing.assert_array_equal(medium.block(ALL, ALL), MATRIX)


def test_a_matrix_from_memory_is_described_but_not_made_again():
    """The description identifies the matrix, and building a device from it is refused. Catches: a silent default."""
    description = MatrixMedium(MATRIX).to_dict()
    assert description["shape"] == list(MATRIX.shape)
    assert description["sha256"] != MatrixMedium(2 * MATRIX).to_dict()["sha256"]
    with pytest.raises(ValueError, match=r"save it and use MatrixMedium.load"):
        media.from_dict(description)
