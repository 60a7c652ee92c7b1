"""Folders and files that only one process may write to at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from calibration.storage.files import WrongFile

__all__ = ["claim_folder", "lock", "new_folder"]


@contextmanager
def claim_folder(folder: str | Path, name: str = "folder") -> Iterator[Path]:
    """Create a folder if needed, and lock it against other processes until the block ends.

    If the block raises an error, new folders are removed again if they are empty.

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
        raise ValueError(f"{name} must be a writable folder, got {folder} ({error.strerror})") from None
    try:
        if handle is not None:
            lock(handle, folder, name)
        try:
            yield folder
        except BaseException:
            with suppress(OSError):  # rmdir fails if the folder is not empty
                for path in made:
                    path.rmdir()
            raise
    finally:
        if handle is not None:
            os.close(handle)


def new_folder(path: Path, name: str = "folder") -> Path:
    """Create a folder `path`, or the first of ``path-2``, ``path-3`` ... that does not exist.

    Raises
    ------
    ValueError
        If it cannot be created.
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
            raise ValueError(f"{name} must be a writable folder, got {free} ({error.strerror})") from None
        else:
            return free
    raise AssertionError("count never ends")


def lock(handle: int, path: Path, name: str) -> None:
    """Lock an open file or folder against other processes; the lock ends with the process.

    There is no lock on Windows or on file systems without locks.

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
        raise WrongFile(f"{name} must not be in use, got {path}, which another process is using") from None
    except OSError:
        return
