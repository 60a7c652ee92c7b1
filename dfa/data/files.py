"""Published files: where they are stored, and the check that they are unchanged."""

import hashlib
import os
import re
from pathlib import Path

__all__ = ["read_published"]


def read_published(folder: str, name: str, url: str, sha256: str) -> bytes:
    """Read a published file, and check that it is unchanged.

    If OPU_DATA is set, the file must be in ``$OPU_DATA/folder``. Otherwise it is downloaded once, into
    ``opu-sim/folder`` of the user's cache (by pooch). The file is read once, so that it cannot change between the check
    and its use.

    Parameters
    ----------
    folder, name : str
        Location below OPU_DATA or the cache.
    url : str
        Address of the published file.
    sha256 : str
        Digest, 64 hexadecimal digits.

    Raises
    ------
    ValueError
        If `sha256` is not a digest, or the file is missing, cannot be downloaded or read, or has another digest.
    """
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"sha256 of {name} must be 64 lower-case hexadecimal digits, got {sha256!r}")
    path = locate(folder, name, url, sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"{path} must have SHA-256 {sha256}, got {digest}: the file is corrupt")
    return content


def locate(folder: str, name: str, url: str, sha256: str) -> Path:
    """Path of a file in ``$OPU_DATA/folder``, or in the cache, where it is downloaded if it is missing."""
    root = os.environ.get("OPU_DATA")
    if root:
        path = Path(root) / folder / name
        if not path.is_file():
            raise ValueError(f"OPU_DATA must be a folder with {folder}/{name}, got {root} without it")
        return path
    import pooch

    cache = Path(pooch.os_cache("opu-sim")) / folder
    try:
        return Path(pooch.retrieve(url, sha256, name, cache))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong hash is a ValueError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{name} could not be downloaded ({reason}); set OPU_DATA to a folder with {folder}/{name}"
        ) from None
