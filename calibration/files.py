"""Files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path

__all__ = ["replace_file", "unused", "write_new"]


def write_new(path: str | Path, content: str | bytes) -> Path:
    """Write a file that must not exist yet.

    Raises
    ------
    ValueError
        If `path` exists or its folder cannot be written.
    """
    path = Path(path).expanduser()
    if path.exists():
        raise ValueError(f"path must be new, got {path}, which exists: reports are never overwritten")
    return replace_file(path, content)


def replace_file(path: str | Path, content: str | bytes) -> Path:
    """Write a file through a temporary name beside it, so that the old or the new one is there at any moment.

    Raises
    ------
    ValueError
        If the folder cannot be written.
    """
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"path must be in a folder that can be written, got {path} ({error.strerror})") from None
    return path


def unused(path: Path) -> Path:
    """`path`, or if it exists the first of ``stem-2``, ``stem-3`` ... that does not."""
    number, free = 2, path
    while free.exists():
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free
