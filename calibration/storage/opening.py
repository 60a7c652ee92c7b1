"""Open data of a bench by the kind of its file: HDF5, MATLAB, NumPy, stacks of TIFF, folders of images.

Sizes are bounded before memory is taken, and nothing is unpickled.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calibration.storage.arrays import rows_of_numbers
from calibration.storage.journal import is_journal
from calibration.storage.recording import FORMAT, Recording
from opu_sim import install_line
from photonics.arrays import Array, HostArray
from photonics.matrix_files import MAX_COMPRESSION, READERS, array_names, check_memory, free_bytes, read_array

__all__ = ["COLUMNS", "open_recording"]

COLUMNS = ("exposure_s", "reference_phase", "laser_on", "frame_number", "shown", "unit_dn_per_s")
"""Arrays beside patterns and frames that a file may hold, by the names of `Recording.from_arrays`."""
CONTAINERS = (".npz", ".h5", ".hdf5", ".mat")
STACKS, IMAGES = (".tif", ".tiff"), (".png", ".tif", ".tiff", ".bmp", ".pgm")
EXTRA = "bench"
"""Extra of this package that reads images."""

Arrays = dict[str, HostArray]


def open_recording(
    path: str | Path,
    patterns: Array | str | Path | None = None,
    *,
    names: Mapping[str, str] | None = None,
    device: Mapping[str, Any] | None = None,
    **columns: Array,
) -> Recording:
    """Open frames of a bench, and bring them into the form that calibration uses.

    Parameters
    ----------
    path : str or Path
        A recording of this package; or an ``.npz``, HDF5 or MATLAB file (also version 7.3) with arrays of the names of
        `Recording.from_arrays`; or frames alone: ``.npy``, a stack of TIFF, a folder of images, one for each frame,
        whose names end in their numbers.
    patterns : array_like, str or Path, optional
        Patterns, or a file or folder that holds them: of any of these kinds, or a file that ``opu calibrate
        --questions`` wrote, whose exposures, phases and device are then used.
    names : mapping of str to str, optional
        Names in the file of arrays that it calls otherwise, such as ``{"frames": "Y"}``.
    device, **columns
        As for `Recording.from_arrays`; they take precedence over the content of files.

    Returns
    -------
    Recording

    Raises
    ------
    ValueError
        If a file cannot be read, holds no patterns or no frames, or they do not belong together.
    """
    path, names = Path(path).expanduser(), dict(names or {})
    if unknown := set(columns) - set(COLUMNS) - {"uniform"}:
        raise ValueError(f"{sorted(unknown)[0]} is not an array of a recording, which are {', '.join(COLUMNS)}")
    if patterns is None and is_recording(path):
        return Recording(path)
    found = read_arrays(path, names, "frames")
    asked: Arrays = {}
    if isinstance(patterns, (str, Path)):
        source = Path(patterns).expanduser()
        asked, device = read_questions(source, names, device)
    elif patterns is not None:
        asked = {"patterns": np.asarray(patterns)}
    device = read_device(found, device)
    merged = {**asked, **found} | ({"patterns": asked["patterns"]} if "patterns" in asked else {})
    for name in ("patterns", "frames"):
        if name not in merged:
            raise ValueError(f"{name} must be in {path}, got {', '.join(merged) or 'no array'}: give {name}, or names=")
    if "frame_number" in asked and "frame_number" in found:
        merged = pick_numbers(merged, asked, found["frame_number"])
    shown, frames = orient(merged.pop("patterns"), merged.pop("frames"), path)
    given: dict[str, Any] = {**merged, **columns}
    if given.get("unit_dn_per_s") is not None:
        given["unit_dn_per_s"] = np.ravel(given["unit_dn_per_s"])[:1]
    try:
        record = Recording.from_arrays(shown, frames, device=device, **given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    record.path = path
    return record


def is_recording(path: Path) -> bool:
    """Whether a file is a recording of this package."""
    import h5py

    if not path.is_file():
        return False
    if is_journal(path):
        return True
    try:
        with h5py.File(path, "r") as file:
            form = file.attrs.get("format")
            return (form.decode() if isinstance(form, bytes) else form) == FORMAT
    except (OSError, UnicodeDecodeError):
        return False


def read_questions(
    path: Path, names: Mapping[str, str], device: Mapping[str, Any] | None
) -> tuple[Arrays, Mapping[str, Any] | None]:
    """Read patterns, with exposures, phases and device if they are a recording without frames."""
    if not is_recording(path):
        found = read_arrays(path, names, "patterns")
        return found, read_device(found, device)
    record = Recording(path)
    try:
        found: Arrays = {"patterns": record.patterns}
        found |= {name: record.columns[name] for name in COLUMNS if name in record.columns}
        if record.unit_dn_per_s is not None:
            found["unit_dn_per_s"] = np.asarray(record.unit_dn_per_s)
        return found, record.device if device is None else device
    finally:
        record.close()


def read_device(found: Arrays, device: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Take the description out of the arrays of a file; that of the caller takes precedence."""
    text = found.pop("device", None)
    if text is None or device is not None:
        return device
    try:
        return dict(json.loads(text.astype(np.uint8).tobytes()))
    except (ValueError, RecursionError):
        raise ValueError("device must be the bytes of a JSON object in a file of questions") from None


def pick_numbers(merged: Arrays, asked: Arrays, numbers: HostArray) -> Arrays:
    """Columns of the frames that there are, by their numbers, from those of all patterns."""
    count = len(asked["patterns"])
    rows = rows_of_numbers(numbers, count)
    if rows is None:
        raise ValueError(
            f"frames must be numbered from 0 to {count - 1} or from 1 to {count}, got {numbers.min()} to "
            f"{numbers.max()}: give the row of patterns that each shows (shown), or the missing files"
        )
    kept = {name: values[rows] for name, values in asked.items() if name != "patterns" and values.shape == (count,)}
    return {**merged, **kept, "shown": rows}


def read_arrays(path: Path, names: Mapping[str, str], alone: str) -> Arrays:
    """Arrays of a file or folder by their names; `alone` names the array of one that holds a single one."""
    try:
        if path.is_dir():
            return read_folder(path, alone)
        size, suffix = path.stat().st_size, path.suffix.lower()
        if size > free_bytes():
            raise ValueError(f"it has {size / 1e9:.3g} GB, which is more than the free memory")
        if suffix in STACKS:
            return {alone: read_stack(path)}
        if suffix not in READERS:
            raise ValueError(f"the name must end in {', '.join([*READERS, *STACKS])}, or be a folder of images")
        content = path.read_bytes()
        if suffix not in CONTAINERS:
            return {alone: read_array(content, path, None)}
        known = array_names(content, path)
        wanted = {name: names.get(name, name) for name in ("patterns", "frames", "device", *COLUMNS)}
        found = {name: read_array(content, path, key) for name, key in wanted.items() if key in known or name in names}
        if not found and len(known) == 1:
            found = {alone: read_array(content, path, known[0])}
        if not found:
            raise ValueError(f"it holds {', '.join(known) or 'no array'}, none of {', '.join(wanted)}: give names=")
        return {name: values if name in ("patterns", "frames") else column(values) for name, values in found.items()}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"path must be readable data of a bench, got {path} ({reason})") from None


def column(values: HostArray) -> HostArray:
    """Return a vector or a number of MATLAB, which has two axes, without axes of length 1."""
    return values.squeeze() if values.ndim == 2 and 1 in values.shape else values


def read_stack(path: Path) -> HostArray:
    """Frames of a TIFF file, (count, rows, columns)."""
    try:
        import tifffile
    except ImportError:
        raise ValueError(f"TIFF needs tifffile: {install_line(EXTRA)}") from None
    try:
        with tifffile.TiffFile(path) as file:
            if not file.series:
                raise ValueError("it has no image")
            series = file.series[0]
            check_image(series.shape[-2:] if series.ndim < 4 else series.shape, str(path))
            needed = math.prod(series.shape) * series.dtype.itemsize
            if needed > MAX_COMPRESSION * path.stat().st_size:
                raise ValueError(f"it declares {needed} bytes in a file of {path.stat().st_size}")
            check_memory(needed)
            frames = np.asarray(series.asarray())
    except (tifffile.TiffFileError, KeyError, TypeError, IndexError, MemoryError) as error:
        raise ValueError(f"no readable TIFF: {error}") from None
    return frames[None] if frames.ndim == 2 else frames


def read_folder(path: Path, alone: str) -> Arrays:
    """Images of a folder with their numbers; in the order of their names if a name has no number."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"the folder must hold images ({', '.join(IMAGES)}), got none")
    try:
        from imageio import v3 as imageio
    except ImportError:
        raise ValueError(f"images need imageio: {install_line(EXTRA)}") from None
    digits = [re.findall(r"\d+", file.stem) for file in files]
    numbers = [int(found[-1]) for found in digits] if all(digits) else []
    if numbers:
        order = sorted(range(len(files)), key=numbers.__getitem__)
        files, numbers = [files[i] for i in order], sorted(numbers)
        twice = [files[i].name for i in range(1, len(files)) if numbers[i] == numbers[i - 1]]
        if twice:
            raise ValueError(f"names must end in different numbers, got two files of number {twice[0]}")
    first = imageio.improps(files[0], plugin="pillow")
    check_image(first.shape, files[0].name)
    check_memory(len(files) * math.prod(first.shape) * first.dtype.itemsize)
    frames = np.empty((len(files), *first.shape), first.dtype)
    for place, file in enumerate(files):
        found = imageio.improps(file, plugin="pillow")
        if (found.shape, found.dtype) != (first.shape, first.dtype):
            raise ValueError(f"{file.name} must be {first.dtype} of {first.shape}, as the first, got {found.shape}")
        frames[place] = imageio.imread(file, plugin="pillow")
    return {alone: frames} | ({"frame_number": np.asarray(numbers)} if numbers and alone == "frames" else {})


def check_image(shape: tuple[int, ...], name: str) -> None:
    """Raise a ``ValueError`` if an image is not grey."""
    if len(shape) != 2:
        raise ValueError(f"{name} must be a grey image, (rows, columns), got shape {shape}")


def orient(patterns: HostArray, frames: HostArray, path: Path) -> tuple[HostArray, HostArray]:
    """Put the axis that counts frames first; MATLAB has it last in stacks of images."""
    if path.suffix.lower() != ".mat" or patterns.ndim < 2 or frames.ndim < 2:
        return patterns, frames
    pairs = [(i, j) for i in (0, -1) for j in (0, -1) if patterns.shape[i] == frames.shape[j]]
    if len(pairs) > 1:
        raise ValueError(
            f"{path}: patterns of shape {patterns.shape} and frames of {frames.shape} fit along several axes: save "
            "them with the axis of the frames first as .npz or HDF5"
        )
    i, j = pairs[0] if pairs else (0, 0)
    return np.moveaxis(patterns, i, 0), np.moveaxis(frames, j, 0)
