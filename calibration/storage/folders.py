"""Folders and files that one process at a time writes to."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from calibration.storage.files import WrongFile

__all__ = ["claim_folder", "lock", "new_folder"]


@contextmanager
def claim_folder(folder: str | Path, name: str = "folder") -> Iterator[Path]:
    """Make a folder unless it exists, and keep other processes out of it until the block ends.

    If the block raises an error, folders that were made are removed again, unless they hold anything.

    Raises
    ------
    WrongFile
        If another process has claimed the folder.
    ValueError
        If the folder cannot be written. Messages call the folder `name`.
    """
    folder = Path(folder).expanduser()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)
        handle = os.open(folder, os.O_RDONLY) if os.name == "posix" else None
    except OSError as error:
        raise ValueError(f"{name} must be a folder that can be written, got {folder} ({error.strerror})") from None
    try:
        if handle is not None:
            lock(handle, folder, name)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # rmdir refuses a folder that is not empty
                for path in made:
                    path.rmdir()
            raise
    finally:
        if handle is not None:
            os.close(handle)


def new_folder(path: Path, name: str = "folder") -> Path:
    """Make a folder of that name, or of the first of ``name-2``, ``name-3`` ... that does not exist.

    Raises
    ------
    ValueError
        If it cannot be made.
    """
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            free.parent.mkdir(parents=True, exist_ok=True)
            free.mkdir()
        except FileExistsError:
            if not free.parent.is_dir():
                raise ValueError(f"{name} must be in a folder, got {path}, below a file") from None
        except OSError as error:
            raise ValueError(f"{name} must be a folder that can be written, got {free} ({error.strerror})") from None
        else:
            return free
    raise AssertionError("count never ends")


def lock(handle: int, path: Path, name: str) -> None:
    """Let no other process lock an open file or folder while this one does; the lock goes with the process.

    A file system without locks, and Windows, give none.

    Raises
    ------
    WrongFile
        If another process has the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be replaced
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WrongFile(f"{name} must not be in use, got {path}, which another process is writing") from None
    except OSError:
        return
