"""Published files: where they are found, and that they are the published ones."""

import hashlib
import os
import re
from pathlib import Path

__all__ = ["read_published"]


def read_published(folder: str, name: str, url: str, sha256: str) -> bytes:
    """Content of a published file, if it is the one that was published.

    It is looked for in ``$OPU_DATA/folder`` and nowhere else if OPU_DATA is set; otherwise it is downloaded once, into
    ``opu-sim/folder`` of the user's cache (pooch). The bytes that were hashed are the bytes returned: the file
    is read once, so that it cannot change between the check and the use.

    Parameters
    ----------
    folder, name : str
        Where it lies below OPU_DATA or the cache.
    url : str
        Where it is published.
    sha256 : str
        Its digest, 64 hexadecimal digits.

    Raises
    ------
    ValueError
        If the digest is not one, or the file is missing, cannot be fetched or read, or has another digest.
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
    """Path of a file in ``$OPU_DATA/folder``, else in the cache, downloaded if it is not there."""
    root = os.environ.get("OPU_DATA")
    if root:
        path = Path(root) / folder / name
        if not path.is_file():
            raise ValueError(f"OPU_DATA must hold {folder}/{name}, which is not in {root}")
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
