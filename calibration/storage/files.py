"""Files that appear whole or not at all, and that replace an older file only where the caller asks for it."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

__all__ = [
    "WrongFile",
    "exists",
    "new_file",
    "publish",
    "publish_unused",
    "replace_file",
    "write_new",
    "write_unused",
]

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Error numbers of file systems without hard links."""


class WrongFile(ValueError):
    """A file does not fit the measurement: it is of another one, is damaged, or is in use."""


def write_new(path: str | Path, content: str | bytes) -> Path:
    """Write a file that must not exist yet.

    Raises
    ------
    ValueError
        If `path` exists before or when the file is done, or its folder cannot be written.
    """
    with new_file(path) as temporary:
        temporary.write_bytes(encoded(content))
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
    with beside(path, "path") as temporary:
        temporary.write_bytes(encoded(content))
        return publish_unused(temporary, path)


def replace_file(path: str | Path, content: str | bytes) -> Path:
    """Write a file; at any moment either the old or the new file exists, whole.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    path = Path(path).expanduser()
    with beside(path, "path") as temporary:
        temporary.write_bytes(encoded(content))
        temporary.replace(path)
    return path


@contextmanager
def new_file(path: str | Path, name: str = "path") -> Iterator[Path]:
    """Name of a temporary file to fill; it becomes `path` when the block ends without an error.

    Raises
    ------
    ValueError
        If `path` exists before or when the file is done, or its folder cannot be written. The message calls the path
        `name`.
    """
    path = Path(path).expanduser()
    if os.path.lexists(path):
        raise exists(path, name)
    with beside(path, name) as temporary:
        yield temporary
        try:
            publish(temporary, path)
        except FileExistsError:
            raise exists(path, name) from None


def publish(temporary: Path, path: Path) -> None:
    """Rename a finished file; raise a ``FileExistsError`` if there is a file of the new name."""
    try:
        os.link(temporary, path)  # unlike a renaming, it fails if the file exists
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))  # reserves the name
        temporary.replace(path)
    else:
        temporary.unlink()


def publish_unused(temporary: Path, path: Path) -> Path:
    """Rename a finished file to `path` or the first of ``stem-2``, ``stem-3`` ... that is free; return the new path."""
    for number in count(1):
        free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            publish(temporary, free)
        except FileExistsError:
            continue
        return free
    raise AssertionError("count never ends")


def exists(path: Path, name: str) -> ValueError:
    """The error for a file that exists already."""
    return ValueError(f"{name} must be new, got {path}, which exists: files are never overwritten")


@contextmanager
def beside(path: Path, name: str) -> Iterator[Path]:
    """A temporary file in the folder of `path`, which is made if needed; deleted at the end unless it was renamed."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(made)
        os.close(handle)
        temporary.chmod(0o644)
        yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{name} must be in a folder that can be written, got {path} ({reason})") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def encoded(content: str | bytes) -> bytes:
    """Text as UTF-8."""
    return content.encode() if isinstance(content, str) else content
