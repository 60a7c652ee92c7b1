"""Only one process at a time can claim a folder."""

import os
import threading

import pytest

from calibration.storage.files import WrongFile
from calibration.storage.folders import claim_folder, new_folder


def test_new_folders_of_many_writers_differ(tmp_path):
    """Eight at once. Catches: a check for existence before the folder is created."""
    gate, found = threading.Barrier(8), []

    def make():
        gate.wait()
        found.append(new_folder(tmp_path / "runs" / "now"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.name for path in found} == {"now", *(f"now-{number}" for number in range(2, 9))}


def test_a_claimed_folder_is_refused_until_it_is_free(tmp_path):
    """The lock is that of an open folder, so a second claim stands for a second process."""
    folder = tmp_path / "a" / "b"
    with claim_folder(folder):
        with pytest.raises(WrongFile, match=r"out must not be in use, got .*b, which another process"):
            claim_folder(folder, "out").__enter__()
        (folder / "kept").touch()
    with pytest.raises(RuntimeError), claim_folder(folder):
        raise RuntimeError
    assert os.listdir(folder) == ["kept"]


def test_new_folders_are_removed_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError), claim_folder(tmp_path / "a" / "b"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    for make in (lambda: claim_folder(tmp_path / "file").__enter__(), lambda: new_folder(tmp_path / "file" / "x")):
        with pytest.raises(ValueError, match="folder"):
            make()
