"""Maps of a chip's pixels, kept as text in a camera's description so that it is complete without further files."""

import base64
import binascii
import io
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from photonics.arrays import FloatArray, HostArray, shape_text
from photonics.matrix_files import READERS, free_bytes, read_array

__all__ = ["encode_map", "read_map"]

PREFIX = "npy-zlib-base64:"
"""First characters of the text of a map."""
IMAGES = (".tif", ".tiff", ".png")
MAX_PIXELS = 2**28
"""Largest number of pixels of a chip."""


def encode_map(value: object, name: str, low: float, high: float) -> str | None:
    """Return the text of a map, or None.

    Parameters
    ----------
    value : array_like of real, shape (rows, columns); or str or Path; or None
        The map, a file (``.npy``, ``.npz``, HDF5, MATLAB, TIFF or PNG) with one array, or the text of a map.
    name : str
        Name in messages.
    low, high : float
        Range of the entries.

    Raises
    ------
    ValueError
        If the file cannot be read, or it is not a map with entries in the range.
    """
    if value is None or (isinstance(value, str) and value.startswith(PREFIX)):
        text = value
    else:
        array = read_file(Path(value), name) if isinstance(value, (str, Path)) else np.asarray(value)
        if array.ndim != 2 or not array.size or array.size > MAX_PIXELS or array.dtype.kind not in "biuf":
            found = f"{shape_text(value, array)}, dtype {array.dtype}" if array.ndim else repr(value)[:200]
            raise ValueError(
                f"{name} must be a map of real numbers, (rows, columns) of the chip, or its file, got {found}"
            )
        stream = io.BytesIO()
        npy.write_array(stream, np.ascontiguousarray(array, np.float32), (1, 0), allow_pickle=False)
        text = PREFIX + base64.b64encode(zlib.compress(stream.getvalue(), 6)).decode()
    if text is None:
        return None
    try:
        found = read_map(text)
    except (ValueError, zlib.error, binascii.Error, EOFError):
        raise ValueError(f"{name} must be a map, its file, or the text of a map, got text that is damaged") from None
    good = (found >= low) & (found <= high)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise ValueError(
            f"{name} must have entries from {low:g} to {high:g}, got {found[row, column]:g} in row {row}, "
            f"column {column}"
        )
    return text


@lru_cache(maxsize=16)
def read_map(text: str) -> FloatArray:
    """Map of a text, (rows, columns), read-only; a ``ValueError`` if it is damaged."""
    packed = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    unpacked = zlib.decompressobj()
    content = unpacked.decompress(packed, 4 * MAX_PIXELS + 1024)
    if unpacked.unconsumed_tail or not unpacked.eof:
        raise ValueError("the map is too large or truncated")
    array = np.asarray(npy.read_array(io.BytesIO(content), allow_pickle=False), np.float32)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"a map must have rows and columns, got shape {array.shape}")
    array.flags.writeable = False
    return array


def read_file(path: Path, name: str) -> HostArray:
    """Array of a file."""
    path, suffix = path.expanduser(), path.suffix.lower()
    try:
        if suffix not in IMAGES and suffix not in READERS:
            raise ValueError(f"the name must end in {', '.join([*READERS, *IMAGES])}")
        if path.stat().st_size > free_bytes():
            raise ValueError("it is larger than the free memory")
        if suffix not in IMAGES:
            return read_array(path.read_bytes(), path, None)
        with Image.open(path) as image:
            return np.asarray(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(f"{name} must be a readable map, got {str(path)[:200]} ({reason})") from None
