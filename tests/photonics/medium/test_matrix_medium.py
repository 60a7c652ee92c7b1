"""A transmission matrix of the user: read from four kinds of file, or refused in one line."""

import hashlib
import tracemalloc
import warnings
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest
import scipy.io
from scipy import sparse

from photonics import Camera, MatrixMedium, draws, matrix_files
from photonics import medium as media
from photonics.parts.reference import as_phases
from photonics.patterns import BitPlanes
from photonics.patterns.encoding import as_patterns
from photonics.random import Stream

ALL = slice(None)
MATRIX = (np.arange(12).reshape(3, 4) - 5.5 + 1j * np.arange(12).reshape(3, 4) ** 2).astype(np.complex64)


def save(path, matrix, name="T"):
    """Write a matrix in the format of the suffix, as a user would."""
    if path.suffix == ".npy":
        np.save(path, matrix)
    elif path.suffix == ".npz":
        np.savez(path, **{name: matrix})
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {name: matrix}, do_compression=True)
    else:
        with h5py.File(path, "w") as file:
            file[name] = matrix
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


every_suffix = pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5", ".mat", ".NPY"])


def save_matlab_73(path, matrix):
    """Write what ``save -v7.3`` writes: HDF5 behind a header of 512 bytes, dimensions in reverse, complex records."""
    with h5py.File(path, "w", userblock_size=512) as file:
        record = np.empty(matrix.T.shape, [("real", "<f8"), ("imag", "<f8")])
        record["real"], record["imag"] = matrix.T.real, matrix.T.imag
        file.create_dataset("T", data=record, chunks=record.shape, compression="gzip").attrs["MATLAB_class"] = b"double"
        file["#refs#/a"] = np.zeros((2, 2))
    content = bytearray(path.read_bytes())
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 2026 HDF5 schema 1.00 ."
    content[:128] = header.ljust(124) + b"\x00\x02IM"
    path.write_bytes(content)
    return path


def test_matlab_files_are_read(tmp_path):
    """Level 5, plain and compressed, and 7.3. Catches: dimensions in reverse, real parts alone."""
    scipy.io.savemat(tmp_path / "plain.mat", {"T": MATRIX})
    save(tmp_path / "small.mat", MATRIX)
    save_matlab_73(tmp_path / "new.mat", MATRIX)
    for name in ("plain", "small", "new"):
        medium = MatrixMedium.load(tmp_path / f"{name}.mat")
        np.testing.assert_array_equal(medium.block(ALL, ALL), MATRIX)
        np.testing.assert_array_equal(media.from_dict(medium.to_dict()).block(ALL, ALL), MATRIX)
    scipy.io.savemat(tmp_path / "many.mat", {"T": MATRIX, "S": sparse.eye(3), "text": "abc"})
    np.testing.assert_array_equal(MatrixMedium.load(tmp_path / "many.mat", key="T").block(ALL, ALL), MATRIX)
    for key, says in [("S", "S must be a full numeric matrix, got a sparse one"), ("text", "got a char one")]:
        with pytest.raises(ValueError, match=rf"many\.mat: .*{says}$"):
            MatrixMedium.load(tmp_path / "many.mat", key=key)


@pytest.mark.parametrize("names", [("real", "imag"), ("r", "i"), ("Re", "Im")])
def test_records_are_complex_numbers(tmp_path, names):
    """From memory and from every format that has records. Catches: a record refused, or its real part alone."""
    record = np.empty(MATRIX.shape, [(name, "<f4") for name in names])
    record[names[0]], record[names[1]] = MATRIX.real, MATRIX.imag
    media_ = [MatrixMedium(record), *(MatrixMedium.load(save(tmp_path / f"t{s}", record)) for s in (".npy", ".h5"))]
    for medium in media_:
        np.testing.assert_array_equal(medium.block(ALL, ALL), MATRIX)
    with pytest.raises(ValueError, match=r"^MatrixMedium: matrix must be real or complex, got dtype"):
        MatrixMedium(np.zeros((2, 2), [("x", "f4"), ("y", "f4")]))


def test_scale_on_request(tmp_path):
    """``E|t_ij|^2 = 1/n_in`` from any scale, kept in the description; unchanged by default.

    Catches: a sum over rows for the mean over entries, a square that overflows, a description without it.
    """
    for scale in (1e-200, 1e-30, 1.0, 1e30, 1e200):
        medium = MatrixMedium(MATRIX.astype(complex) * scale, normalise=True)
        block = medium.block(ALL, ALL)
        assert np.mean(np.abs(block) ** 2) == pytest.approx(1 / 4, rel=1e-6)
        np.testing.assert_allclose(block / block[2, 3], MATRIX / MATRIX[2, 3], rtol=1e-6)
    medium = MatrixMedium.load(save(tmp_path / "t.npy", MATRIX), normalise=True)
    again = media.from_dict(medium.to_dict())
    assert again.normalise
    np.testing.assert_array_equal(again.block(ALL, ALL), medium.block(ALL, ALL))
    with pytest.raises(ValueError, match=r"matrix must not be zero everywhere"):
        MatrixMedium(np.zeros((2, 2)), normalise=True)


@pytest.mark.parametrize("scale", [1e-300, 1e-60, 1e-40, 1e-25, 1e15, 1e39, 1e300])
def test_a_scale_beyond_single_precision_is_refused(scale):
    """One line that says what to do. Catches: a tiny matrix that becomes zeros, intensities of 0 or infinity."""
    with pytest.raises(ValueError, match=r"^MatrixMedium: matrix must have a largest modulus .* normalise=True, got"):
        MatrixMedium(MATRIX.astype(complex) * scale)


def test_a_field_that_vanishes_is_refused():
    """As above for fields; zeros are a field. Catches: float64 values that all become zeros."""
    medium = MatrixMedium(MATRIX)
    assert not medium.propagate(np.zeros((1, 4))).any()
    with pytest.raises(ValueError, match=r"^field must not vanish in single precision, got at most 1e-60$"):
        medium.propagate(np.full((1, 4), 1e-60))


def test_sparse_matrices_are_named():
    """Catches: "got ()", which is what numpy makes of a sparse matrix."""
    says = r"got {}, which numpy does not read \(use \.toarray\(\) on a sparse matrix\)"
    for kind in (sparse.csr_matrix, sparse.coo_array):
        given, match = kind(np.eye(4)), says.format(kind.__name__)
        calls = [
            lambda given=given: MatrixMedium(given),
            lambda given=given: MatrixMedium(MATRIX).propagate(given),
            lambda given=given: as_patterns(given, 4),
            lambda given=given: BitPlanes().encode(given),
            lambda given=given: as_phases(given, 4),
            lambda given=given: Camera().expose(given, 1e-3, np.arange(4)),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=match):
                call()


def test_hdf5_of_other_files_is_refused(tmp_path):
    """External storage and virtual datasets read another file, whose content is in no digest. Catches: both read."""
    secret = tmp_path / "secret.bin"
    np.ones((3, 4)).tofile(secret)
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("T", (3, 4), "f8", external=[(str(secret), 0, 96)])
    save(tmp_path / "other.h5", np.ones((3, 4)))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((3, 4), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "T", (3, 4))
        file.create_virtual_dataset("T", layout)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["T"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "T")
    for name, says in [("external", "another file"), ("virtual", "another file"), ("link", "key must be one of")]:
        with pytest.raises(ValueError, match=rf"{name}\.h5: .*{says}"):
            MatrixMedium.load(tmp_path / f"{name}.h5", key="T")


def declare(path):
    """Write small files that declare a matrix of 6.4 GB (40 000 x 20 000 float64)."""
    shape = (40_000, 20_000)
    with h5py.File(path / "empty.h5", "w") as file:
        file.create_dataset("T", shape, "f8", chunks=(1000, 1000))
    with h5py.File(path / "one_chunk.h5", "w") as file:
        file.create_dataset("T", shape, "f8", chunks=(10, 10))[0, 0] = 1.0
    with h5py.File(path / "unwritten.h5", "w") as file:
        file.create_dataset("T", shape, "f8")
    with h5py.File(path / "wide_chunk.h5", "w") as file:
        file.create_dataset("T", (2, 2), "f8", maxshape=(None, None), chunks=(20_000, 10_000), compression="gzip")
    header = np.lib.format.header_data_from_array_1_0(np.zeros((1, 1)))
    with (path / "header.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
    with zipfile.ZipFile(path / "header.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(path / "header.npy", "T.npy")
    scipy.io.savemat(path / "dimensions.mat", {"T": np.ones((3, 4))})
    content = (path / "dimensions.mat").read_bytes()
    dimensions = np.array([3, 4], "<i4").tobytes()
    assert content.count(dimensions) == 1
    (path / "dimensions.mat").write_bytes(content.replace(dimensions, np.array(shape, "<i4").tobytes()))
    return sorted(file for file in path.iterdir() if file.is_file())


def test_sizes_are_bounded_before_memory_is_taken(tmp_path, monkeypatch):
    """A small file that declares a huge array is refused, and no such array is allocated.

    Catches: an array allocated with the size in the header.
    """
    files = declare(tmp_path)
    assert len(files) == 7
    for path in files:
        tracemalloc.start()
        kind, text = refusal(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert kind is ValueError and "bytes, but only" in text, (path.name, text)
        assert peak < 1e7, path.name
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    for suffix in (".npy", ".npz", ".h5", ".mat"):
        with pytest.raises(ValueError, match=r"free"):
            MatrixMedium.load(save(tmp_path / f"large{suffix}", np.ones((40, 50))))


def test_compressible_matrices_are_read(tmp_path):
    """Zeros compress a thousandfold, which is no reason to refuse them. Catches: a bound that is too tight."""
    matrix = np.zeros((1000, 1000))
    matrix[3, 4] = 1.0
    np.savez_compressed(tmp_path / "t.npz", matrix)
    scipy.io.savemat(tmp_path / "t.mat", {"T": matrix}, do_compression=True)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("T", data=matrix, compression="gzip", compression_opts=9, chunks=True)
    for suffix in (".npz", ".mat", ".h5"):
        np.testing.assert_array_equal(MatrixMedium.load(tmp_path / f"t{suffix}").block(ALL, ALL), matrix)


def test_only_regular_files_are_read(tmp_path):
    """A device or a folder under the name of a matrix is refused at once. Catches: a read that never ends."""
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    (tmp_path / "folder.npy").mkdir()
    for name in ("zero.npy", "folder.npy"):
        with pytest.raises(ValueError, match=r"path must be a readable file, got .* \(not a regular file\)"):
            MatrixMedium.load(tmp_path / name)


def test_every_format_is_tested():
    """Catches: a format without the tests of this module."""
    assert set(matrix_files.READERS) == {".npy", ".npz", ".h5", ".hdf5", ".mat"}


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


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat"])
def test_truncated_files_are_refused(tmp_path, suffix):
    """Cut anywhere: a ValueError in one line. Catches: a format whose own exception gets through."""
    whole = save(tmp_path / ("w" + suffix), np.ones((40, 50), np.complex64)).read_bytes()
    path = tmp_path / ("t" + suffix)
    for share in (0.0, 0.1, 0.5, 0.98):
        path.write_bytes(whole[: int(share * len(whole))])
        kind, text = refusal(path)
        assert kind is ValueError
        assert "\n" not in text


@pytest.mark.parametrize("name", ["text.npy", "text.npz", "text.h5", "text.mat", "array.npz", "zip.npy"])
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
    (tmp_path / "t.txt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"t.txt: the name must end in .npy, .npz, .h5, .hdf5 or .mat"):
        MatrixMedium.load(tmp_path / "t.txt")


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


def test_memory_holds_one_more_copy_at_most(tmp_path):
    """In matrices, with what is kept. Catches: a file kept beside two copies of its matrix; a digest of a copy."""
    matrix = np.full((1000, 2000), 0.01 + 0.02j, np.complex64)
    medium = MatrixMedium(matrix)
    path, peaks = save(tmp_path / "t.npy", matrix), []
    for work in (medium.to_dict, lambda: medium.transmission, lambda: MatrixMedium.load(path)):
        tracemalloc.start()
        work()
        peaks.append(tracemalloc.get_traced_memory()[1] / matrix.nbytes)
        tracemalloc.stop()
    assert peaks[0] < 0.8 and peaks[1] < 0.8 and peaks[2] < 2.5, peaks
    assert medium.to_dict()["sha256"] == hashlib.sha256(matrix.T.tobytes()).hexdigest()


def test_a_matrix_from_memory_is_described_but_not_made_again():
    """The description identifies the matrix, and building a device from it is refused. Catches: a silent default."""
    description = MatrixMedium(MATRIX).to_dict()
    assert description["shape"] == list(MATRIX.shape)
    assert description["sha256"] != MatrixMedium(2 * MATRIX).to_dict()["sha256"]
    with pytest.raises(ValueError, match=r"save it and use MatrixMedium.load"):
        media.from_dict(description)


def test_a_fresh_matrix_needs_two_matrices_of_memory():
    """The peak is under 2 matrices (7 before), and the entries are those of one draw of all phases.

    Catches: phases that are drawn at once, places in another order.
    """
    n_in, n_out = 1500, 900
    medium = MatrixMedium(np.ones((n_out, n_in)) / np.sqrt(n_in))
    medium.fresh(1)  # compiles
    tracemalloc.start()
    fresh = medium.fresh(4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 8 * n_in * n_out
    phase = 2 * np.pi * draws.uniforms(4, Stream.MATRIX_PHASE, np.arange(n_in * n_out)).reshape(n_out, n_in)
    expected = (medium.block(slice(None), slice(None)) * np.exp(1j * phase)).astype(np.complex64)
    np.testing.assert_array_equal(fresh.block(slice(None), slice(None)), expected)
