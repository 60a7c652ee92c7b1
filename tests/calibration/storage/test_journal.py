"""The file of a running measurement: read back, truncated anywhere, damaged anywhere, killed at any moment."""

import os
import signal
import time

import numpy as np
import pytest

from calibration.storage.files import WrongFile
from calibration.storage.journal import Journal, create_journal, encode_head, is_journal

HEADER = {"method": "m", "start_frame": 17}
FRAMES = np.random.default_rng(0).integers(0, 4096, (37, 103)).astype(np.uint16)
EMPTY = {"frames": FRAMES[:0]}


def filled(path, count=37, step=5):
    """A journal of the first frames, each record with `step` of them and their numbers."""
    journal = create_journal(path, HEADER, EMPTY)
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        journal.append({"frames": FRAMES[part], "number": np.arange(37)[part]})
    return journal


@pytest.mark.parametrize("step", [1, 5, 37])
def test_frames_are_read_as_written(tmp_path, step):
    """Any frames and any pixels, by the writer and by a reader. Catches: a record that is read from its neighbour."""
    with filled(tmp_path / "run.part", step=step) as writer, Journal(tmp_path / "run.part") as reader:
        for journal in (writer, reader):
            frames = journal.arrays["frames"]
            assert (frames.shape, frames.ndim, frames.dtype, len(frames)) == ((37, 103), 2, np.uint16, 37)
            for part in (slice(None), slice(3, 9), slice(36, 99), slice(5, 5), slice(-2, None)):
                np.testing.assert_array_equal(frames[part], FRAMES[part])
                np.testing.assert_array_equal(frames[part, 20:71], FRAMES[part, 20:71])
            np.testing.assert_array_equal(journal.arrays["number"][:], np.arange(37))
            assert journal.header == HEADER


def test_types_and_shapes_are_kept(tmp_path):
    """Empty entries, booleans, complex numbers and NaN. Catches: bytes that are read with another type."""
    given = {
        "a": np.array([True, False]),
        "b": np.array([[1 + 2j, np.nan]] * 2, np.complex64),
        "c": np.zeros((2, 0), np.uint8),
        "d": np.array([np.nan, -0.0]),
    }
    create_journal(tmp_path / "j", {}, {name: values[:0] for name, values in given.items()}).close()
    with Journal(tmp_path / "j", writable=True) as journal:
        assert all(len(stored) == 0 for stored in journal.arrays.values())
        journal.append(given)
        for name, values in given.items():
            assert journal.arrays[name].dtype == values.dtype
            np.testing.assert_array_equal(journal.arrays[name][:], values)


def test_a_reopened_journal_appends(tmp_path):
    """Catches: a writer that begins anew, or leaves a gap."""
    filled(tmp_path / "run.part", 10).close()
    with Journal(tmp_path / "run.part", writable=True) as journal:
        assert len(journal.arrays["frames"]) == 10
        journal.append({"frames": FRAMES[10:]})
        np.testing.assert_array_equal(journal.arrays["frames"][:], FRAMES)


def test_a_file_that_is_cut_off_anywhere_keeps_its_whole_records(tmp_path):
    """A process killed while writing leaves such a file; the next record follows the last whole one.

    Catches: half a record that is read, a record behind half a record.
    """
    ends = []
    with create_journal(tmp_path / "whole", HEADER, {"x": np.zeros(0)}) as journal:
        for value in range(3):
            ends.append((tmp_path / "whole").stat().st_size)
            journal.append({"x": np.array([value, value + 0.5])})
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    for cut in range(ends[0], len(content)):
        path.write_bytes(content[:cut])
        whole = sum(cut >= end for end in [*ends[1:], len(content)])
        with Journal(path) as journal:
            np.testing.assert_array_equal(journal.arrays["x"][:], np.arange(2 * whole) / 2.0)
        with Journal(path, writable=True) as journal:
            journal.append({"x": np.array([9.0])})
        with Journal(path) as journal:
            np.testing.assert_array_equal(journal.arrays["x"][:], [*np.arange(2 * whole) / 2.0, 9.0])
    for cut in range(0, ends[0] - 70, 7):
        path.write_bytes(content[:cut])
        with pytest.raises(WrongFile, match=r"out must be an unfinished measurement, got .*cut, which is"):
            Journal(path, True, "out")


def test_flipped_bits_are_refused(tmp_path):
    """A bit of every byte of the file, in turn. Catches: a length without a checksum, which hides what follows."""
    filled(tmp_path / "run.part", 3, 1).close()
    content = (tmp_path / "run.part").read_bytes()
    for place in range(len(content)):
        (tmp_path / "run.part").write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        )
        with pytest.raises(WrongFile, match=r"is damaged at byte|is not a measurement of this version"):
            Journal(tmp_path / "run.part", writable=bool(place % 2))
    assert (tmp_path / "run.part").stat().st_size == len(content)


def test_two_processes_cannot_write_at_once(tmp_path):
    """The lock is that of the open file, so a second opening stands for a second process. Readers are free."""
    with filled(tmp_path / "run.part", 10) as journal:
        with pytest.raises(WrongFile, match="which another process is using"):
            Journal(tmp_path / "run.part", writable=True)
        Journal(tmp_path / "run.part").close()
        journal.append({"frames": FRAMES[10:]})
    with pytest.raises(ValueError, match="never overwritten"):
        create_journal(tmp_path / "run.part", HEADER, EMPTY)
    with Journal(tmp_path / "run.part", writable=True) as journal:  # a refusal leaves no lock behind
        assert len(journal.arrays["frames"]) == 37


def test_bad_entries_and_failed_writes_leave_nothing(tmp_path, monkeypatch):
    """A full disk in the middle of a record, then more frames. Catches: half a record between two whole ones."""
    with filled(tmp_path / "run.part", 35) as journal:
        for bad in (FRAMES[:1, :50], FRAMES[:1].astype(np.uint8)):
            with pytest.raises(ValueError, match=r"frames must be uint16 of shape \(count, 103\), got"):
                journal.append({"frames": bad})

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                journal.append({"frames": FRAMES[:2]})
        assert len(journal.arrays["frames"]) == 35
        journal.append({"frames": FRAMES[35:]})
    with Journal(tmp_path / "run.part") as journal:
        np.testing.assert_array_equal(journal.arrays["frames"][:], FRAMES)


def test_a_deleted_file_is_said(tmp_path):
    """Catches: frames that go to a file without a name, and are lost."""
    with filled(tmp_path / "run.part", 35) as journal:
        (tmp_path / "run.part").unlink()
        with pytest.raises(OSError, match=r"run\.part cannot be written \(it was deleted\)"):
            journal.append({"frames": FRAMES[35:]})


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("no")
    for name, message in (("text", "not a measurement of this version"), ("none", "No such file")):
        assert not is_journal(tmp_path / name)
        with pytest.raises(WrongFile, match=message) as stop:
            Journal(tmp_path / name)
        assert "\n" not in str(stop.value)


def write_until_killed(path, out):
    """Append the next number again and again, and report each call that returned."""
    if path.exists():
        journal = Journal(path, writable=True)
    else:
        journal = create_journal(path, {}, {"x": np.zeros((0, 50_000), np.int64)})
    done = len(journal.arrays["x"])
    while True:
        journal.append({"x": np.full((3, 50_000), done // 3, np.int64)})
        done += 3
        os.write(out, b"%d\n" % done)


def test_twenty_kills_lose_nothing_that_was_written(tmp_path):
    """Killed (-9) 20 times at random moments, mostly within a write: all calls that returned are there, once.

    Catches: a record that is lost with the process, half a record, a record that is written twice.
    """
    path, draw = tmp_path / "run.part", np.random.default_rng(3)
    for _ in range(20):
        from_child, to_parent = os.pipe()
        child = os.fork()
        if not child:
            try:
                write_until_killed(path, to_parent)
            finally:
                os._exit(1)
        os.close(to_parent)
        with os.fdopen(from_child) as reports:
            reported = int(reports.readline())
            time.sleep(0.01 * draw.random())
            os.kill(child, signal.SIGKILL)
            reported = max([reported, *map(int, reports.read().split())])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with Journal(path) as journal:
            found = journal.arrays["x"][:]
        assert reported <= len(found) <= reported + 3
        np.testing.assert_array_equal(found[:, 0], np.repeat(np.arange(len(found) // 3), 3))
        assert (found == found[:, :1]).all()


@pytest.mark.parametrize(
    "line",
    ["[1, 2]", '{"frames": ["<f8", [1, 1]]}', '{"frames": ["|O", [1, 1]]}', '{"frames": ["|u1", [9, 1]]}', "[" * 9000],
)
def test_a_record_of_another_type_is_one_line(tmp_path, line):
    """Its checksum is right. Catches: an error of another kind, bytes that are read as another type."""
    path, data = tmp_path / "a.part", b"12345678"
    with create_journal(path, {"a": 1}, {"frames": np.zeros((0, 1), np.uint8)}):
        pass
    head = encode_head([line.encode(), data], len(data))
    path.write_bytes(path.read_bytes() + head + line.encode() + data)
    with pytest.raises(WrongFile, match=r"a.part, which has a record of another type at byte \d+"):
        Journal(path)
