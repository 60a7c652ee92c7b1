"""Files that are written atomically, and replace an older file only on request."""

import errno
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from itertools import count
from pathlib import Path

__all__ = [
    "WrongFile",
    "exists_error",
    "new_file",
    "publish",
    "publish_unused",
    "reason_of",
    "replace_file",
    "replacement",
    "write_new",
    "write_unused",
]

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Error numbers of file systems without hard links."""

NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Error numbers of file systems that cannot write a folder through."""


class WrongFile(ValueError):
    """A file does not fit the measurement: it belongs to another one, is damaged, or is in use."""


def write_new(path: str | Path, content: str | bytes) -> Path:
    """Write a file that must not exist yet.

    Raises
    ------
    ValueError
        If `path` exists at the start or at the end, or its folder cannot be written.
    """
    with new_file(path) as temporary:
        temporary.write_bytes(encode(content))
    return Path(path).expanduser()


def write_unused(path: str | Path, content: str | bytes) -> Path:
    """Write a file as `path`, or as the first of ``stem-2``, ``stem-3`` ... that does not exist.

    Returns
    -------
    Path
        The path that was written.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    path = Path(path).expanduser()
    with temporary_file(path, "path") as temporary:
        temporary.write_bytes(encode(content))
        return publish_unused(temporary, path)


def replace_file(path: str | Path, content: str | bytes) -> Path:
    """Write a file; at any moment either the complete old or the complete new file exists.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    with replacement(path) as temporary:
        temporary.write_bytes(encode(content))
    return Path(path).expanduser()


@contextmanager
def replacement(path: str | Path, name: str = "path") -> Iterator[Path]:
    """Name of a temporary file to fill; it replaces `path` when the block ends without an error, and is then on disk.

    Raises
    ------
    ValueError
        If the folder cannot be written. The message calls the path `name`.
    """
    path = Path(path).expanduser()
    with temporary_file(path, name) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def new_file(path: str | Path, name: str = "path") -> Iterator[Path]:
    """Yield the name of a temporary file to fill; it becomes `path` when the block ends without an error.

    Raises
    ------
    ValueError
        If `path` exists at the start or at the end of the block, or its folder cannot be written. The message calls the
        path `name`.
    """
    path = Path(path).expanduser()
    if os.path.lexists(path):
        raise exists_error(path, name)
    with temporary_file(path, name) as temporary:
        yield temporary
        try:
            publish(temporary, path)
        except FileExistsError:
            raise exists_error(path, name) from None


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file, which is then on disk; raise a ``FileExistsError`` if the new name exists."""
    sync(temporary)
    try:
        os.link(temporary, path)  # unlike a rename, this fails if the file exists
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # reserves the name
        temporary.replace(path)
    else:
        temporary.unlink()
    sync(path.parent)


def publish_unused(temporary: Path, path: Path) -> Path:
    """Rename a finished file to `path` or the first free name of ``stem-2``, ``stem-3`` ...; return the new path."""
    for number in count(1):
        free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            publish(temporary, free)
        except FileExistsError:
            continue
        return free
    raise AssertionError("count never ends")


def exists_error(path: Path, name: str) -> ValueError:
    """Return the error for a file that already exists."""
    return ValueError(f"{name} must be new, got {path}, which exists: files are never overwritten")


@contextmanager
def temporary_file(path: Path, name: str) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path` (made if needed); delete it at the end unless renamed.

    Temporary files for this path that a killed process has left are deleted first.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f"{mark(path)}{os.getpid()}.")
        temporary = Path(made)
        os.close(handle)
        temporary.chmod(0o644)
        yield temporary
    except OSError as error:
        raise ValueError(
            f"{name} must be in a writable folder, got {path} ({reason_of(error)}): nothing was replaced, "
            "correct this and run or resume again"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def mark(path: Path) -> str:
    """Beginning of the names of temporary files for `path` that this machine makes; the process's number follows."""
    return f".{path.name}.{platform.node()}."


def remove_leftovers(path: Path) -> None:
    """Delete temporary files for `path` whose process on this machine has ended."""
    if os.name != "posix":  # elsewhere, a look at a process may end it
        return
    start = mark(path)
    for left in path.parent.glob(f"{escape(start)}*"):
        number = left.name.removeprefix(start).partition(".")[0]
        if number.isdecimal() and not is_running(int(number)):
            left.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)


def reason_of(error: OSError) -> str:
    """Reason of an error in one line; HDF5 puts it in the middle of several."""
    found = re.search("error message = '([^']*)'", str(error))
    return found[1] if found else " ".join((error.strerror or str(error)).split())


def encode(content: str | bytes) -> bytes:
    """Encode text as UTF-8; return bytes unchanged."""
    return content.encode() if isinstance(content, str) else content
