"""Files appear whole, under an unused name, also with concurrent writers."""

import errno
import os
import stat
import threading

import pytest

from calibration.storage import files
from calibration.storage.files import new_file, publish_unused, replace_file, write_new, write_unused

WRITERS = 8


def at_once(work):
    """Run `work(number)` in several threads that start together; what each returned or raised."""
    gate, found = threading.Barrier(WRITERS), [None] * WRITERS

    def run(number):
        gate.wait()
        try:
            found[number] = work(number)
        except ValueError as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def someone_else(path):
    """An `os.link` that simulates another process creating the file between the check and the rename."""
    link = os.link

    def late(source, target):
        path.write_text("somebody else's")
        link(source, target)

    return late


def no_links(*_):
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_writers_wins(tmp_path, monkeypatch, links):
    """Its file stays whole and the others get an error. Catches: a check for existence followed by a rename."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    found = at_once(lambda number: write_new(tmp_path / "report.json", f"{number}" * 10_000))
    won = [number for number, one in enumerate(found) if not isinstance(one, ValueError)]
    assert len(won) == 1
    assert (tmp_path / "report.json").read_text() == f"{won[0]}" * 10_000
    assert all("never overwritten" in str(one) for one in found if isinstance(one, ValueError))
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    """Catches: `os.replace` at the end. The numbered name goes on to the next number instead."""
    path = tmp_path / "report.json"
    monkeypatch.setattr(os, "link", someone_else(path))
    with pytest.raises(ValueError, match="never overwritten"):
        write_new(path, "mine")
    path.unlink()
    assert write_unused(path, "mine").name == "report-2.json"
    assert path.read_text() == "somebody else's"


@pytest.mark.parametrize("links", [True, False])
def test_writers_of_numbered_files_get_different_names(tmp_path, monkeypatch, links):
    """Eight at once make report, report-2 ... report-8. Catches: a free name that is free for two."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    found = at_once(lambda number: write_unused(tmp_path / "report.json", f"{number}"))
    assert len(set(found)) == WRITERS
    assert sorted(path.read_text() for path in found) == [f"{number}" for number in range(WRITERS)]
    names = {"report.json", *(f"report-{number}.json" for number in range(2, WRITERS + 1))}
    assert set(os.listdir(tmp_path)) == names


def test_a_failure_leaves_nothing_and_replaces_nothing(tmp_path):
    """Catches: a temporary file left behind, an old file gone before the new one is there."""
    with pytest.raises(RuntimeError), new_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    assert replace_file(tmp_path / "a", "one") == replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_text() == "two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    for write in (write_new, write_unused, replace_file):
        with pytest.raises(ValueError, match="writable folder") as stop:
            write(tmp_path / "a" / "below", "x")
        assert "\n" not in str(stop.value)


def test_a_dangling_link_is_not_overwritten(tmp_path):
    """Catches: `Path.exists`, which is False for such a link."""
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="never overwritten"):
        write_new(tmp_path / "a", "x")
    (tmp_path / "done").write_text("x")
    assert publish_unused(tmp_path / "done", tmp_path / "a") == tmp_path / "a-2"
    assert files.os.path.islink(tmp_path / "a")


WRITERS_OF_FILES = (write_new, write_unused, replace_file)


@pytest.mark.parametrize("write", WRITERS_OF_FILES)
def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch, write):
    """The file is synchronised, then renamed, then the folder is. Catches: an empty checkpoint after a power cut."""
    done, fsync, path = [], os.fsync, tmp_path / "a"
    if write is replace_file:
        path.write_text("old")

    def noted(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        done.append(("folder" if is_folder else "file", path.exists() and path.read_text()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    write(path, "new")
    assert done == [("file", write is replace_file and "old"), ("folder", "new")]


@pytest.mark.parametrize("write", WRITERS_OF_FILES)
def test_a_full_disk_is_one_line_and_replaces_nothing(tmp_path, monkeypatch, write):
    """Catches: a traceback, an old file gone, a temporary file left behind."""

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "old").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        ValueError, match=r"old|new .*\(No space left on device\): nothing was replaced, .*resume"
    ) as stop:
        write(tmp_path / ("old" if write is replace_file else "new"), "x")
    assert str(tmp_path) in str(stop.value) and "\n" not in str(stop.value)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "old")]


def test_temporary_files_of_a_killed_process_go(tmp_path):
    """Those of a process that runs, and other files, stay. Catches: a full disk that every kill makes fuller."""
    child = os.fork()
    if not child:
        with new_file(tmp_path / "a[1]") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    assert len(os.listdir(tmp_path)) == 1
    with new_file(tmp_path / "a[1]") as first:
        write_unused(tmp_path / "a[1]", "x")
        assert set(os.listdir(tmp_path)) == {first.name, "a[1]"}
        (tmp_path / "a[1]").unlink()
    assert os.listdir(tmp_path) == ["a[1]"]
