"""Files that appear whole or not at all, and never replace an older one."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_new"]


def write_new(path: str | Path, content: str | bytes) -> Path:
    """Write a file that must not exist yet, through a temporary name beside it.

    Raises
    ------
    ValueError
        If `path` exists or its folder cannot be written.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    if path.exists():
        raise ValueError(f"path must be new, got {path}, which exists: reports are never overwritten")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.link(temporary, path)  # unlike a rename, a link refuses to replace a file that came in between
        finally:
            os.unlink(temporary)
    except OSError as error:
        raise ValueError(f"path must be in a folder that can be written, got {path} ({error.strerror})") from None
    return path
