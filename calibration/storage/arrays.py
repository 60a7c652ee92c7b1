"""Arrays of a bench as a lab has them, converted to those of a recording."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.fields.sequence import check_sequence
from photonics.arrays import Array, BoolArray, HostArray, IntArray, real_numbers, shape_text

__all__ = ["FORMAT", "VERSION", "MemoryFile", "about_device", "arrange", "warn_of_shifted"]

FORMAT, VERSION = "opu-recording", 2
MAX_CODE = 2**16 - 1
"""Largest digital number of a frame."""
BITS = (8, 10, 12, 14, 16)
"""Bit depths of cameras, of which the smallest that holds all codes is taken if none is described."""
MIN_READINGS = 256
"""Smallest number of readings whose codes show that lower bits are not used."""
MAX_RADIANS, DEGREES = 45.0, 0.5
"""Phases of which one is larger than the first number, and all are multiples of the second, are in degrees."""
MAX_BITS = 2**22
"""Largest number of mirrors times frames of which numbers without gaps are checked."""
NOMINAL_S = 1e-3
"""Exposure of frames whose exposure is not given, seconds."""


@dataclass(frozen=True, eq=False)
class MemoryFile:
    """Content of a recording in memory, with the names of a `calibration.storage.journal.Journal`."""

    header: Mapping[str, Any]
    arrays: Mapping[str, HostArray]

    def close(self) -> None:
        """Do nothing: there is no file."""


def about_device(device: str, n_in: int, exposure_s: float) -> dict[str, Any]:
    """Attributes that every recording has; `device` is JSON."""
    return {"format": FORMAT, "version": VERSION, "device": device, "n_in": n_in, "exposure_s": exposure_s}


def arrange(
    patterns: Array,
    frames: Array,
    exposure_s: Array,
    device: Mapping[str, Any] | None,
    reference_phase: Array,
    laser_on: Array,
    frame_number: Array,
    shown: Array,
    uniform: Mapping[str, Array] | None,
    unit_dn_per_s: float | None,
) -> MemoryFile:
    """Check and convert what `calibration.Recording.from_arrays` takes."""
    if device is not None and not isinstance(device, Mapping):
        raise ValueError(f"device must be a table of the parts' parameters, got {device!r}")
    codes, shape = as_codes(frames)
    warn_of_shifted(codes)
    masks, count = as_masks(patterns), len(codes)
    if not count and uniform is None:
        raise ValueError("frames must have at least one frame if there is no uniform light, got none")
    numbers = entries(frame_number, "frame_number", count, np.arange(count), whole=True)
    rows = rows_shown(shown, frame_number is not None, numbers, len(masks))
    lasers = entries(laser_on, "laser_on", count, np.ones(count))
    if not np.isin(lasers, (0, 1)).all():
        raise ValueError(f"laser_on must be bool or 0/1, got {lasers[~np.isin(lasers, (0, 1))][0]:g}")
    lit = lasers.astype(bool) & (rows >= 0)
    seen = np.zeros((count, masks.shape[1]), bool)
    seen[lit] = masks[rows[lit]]
    columns = {
        "exposure_s": entries(exposure_s, "exposure_s", count, np.full(count, NOMINAL_S)),
        "reference_phase": entries(reference_phase, "reference_phase", count, np.full(count, np.nan)),
        "laser_on": lit,
        "frame_number": numbers,
    }
    warn_of_degrees(columns["reference_phase"])
    order = np.argsort(numbers, kind="stable")
    if shown is None and lit.all() and np.isnan(columns["reference_phase"]).all():
        warn_of_gaps(masks, codes[order], rows[order], columns["exposure_s"])
    arrays = {name: values[order] for name, values in columns.items()}
    arrays |= {"frames": codes[order], "patterns": np.packbits(seen[order], axis=1)}
    if uniform is not None:
        arrays |= uniform_arrays(uniform)
    first_s = float(arrays["exposure_s"][0]) if count else NOMINAL_S
    about = about_device(json.dumps(describe(device, codes, np.asarray(frames).dtype, shape)), masks.shape[1], first_s)
    about["not_shown"] = json.dumps(np.setdiff1d(np.arange(len(masks)), rows).tolist())
    if unit_dn_per_s is not None:
        about["unit_dn_per_s"] = float(entries(unit_dn_per_s, "unit_dn_per_s", 1, np.ones(1))[0])
    return MemoryFile(about, arrays)


def uniform_arrays(uniform: Mapping[str, Array]) -> dict[str, HostArray]:
    """Frames of uniform light, with their photons and exposures."""
    missing = [name for name in ("frames", "photons", "exposure_s") if name not in uniform]
    if missing:
        raise ValueError(f"uniform must have frames, photons and exposure_s, got no {missing[0]}")
    codes = as_codes(uniform["frames"], "uniform frames")[0]
    found = {n: entries(uniform[n], f"uniform {n}", len(codes), np.ones(1)) for n in ("photons", "exposure_s")}
    return {"uniform/frames": codes} | {f"uniform/{name}": values for name, values in found.items()}


def as_masks(patterns: Array) -> BoolArray:
    """Patterns of bool, 0/1 or 0/255, (count, n_in) or (count, rows, columns), as bool of shape (count, n_in)."""
    array = np.asarray(patterns)
    if array.ndim not in (2, 3) or 0 in array.shape[1:] or array.dtype.kind not in "biuf":
        raise ValueError(
            f"patterns must be bool, 0/1 or 0/255 of shape (count, n_in) or (count, rows, columns), got "
            f"{shape_text(patterns, array)}, dtype {array.dtype}"
        )
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    if flat.dtype == bool:
        return flat
    on = flat != 0
    top = flat[on][:1]
    wrong = on & ((flat != top) if top.size and top[0] in (1, 255) else on)
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        raise ValueError(
            f"patterns must be bool, 0/1 or 0/255, got {flat[row, column]} in input {column} of pattern {row}"
        )
    return on


def warn_of_shifted(frames: HostArray) -> None:
    """Warn if codes differ and all are multiples of a power of 2, as those of a camera that fills the upper bits."""
    step = int(np.bitwise_or.reduce(frames, axis=None)) if frames.size >= MIN_READINGS else 1
    step &= -step
    if step > 1 and frames.min() < frames.max():
        warnings.warn(
            f"frames have codes that are multiples of {step}: the camera fills the upper bits; divide them by {step}, "
            "and set camera.bit_depth",
            stacklevel=5,
        )


def warn_of_degrees(phase: HostArray) -> None:
    """Warn if phases of the reference are large whole numbers, as those in degrees."""
    known = phase[np.isfinite(phase)]
    if known.size and np.abs(known).max() >= MAX_RADIANS and not np.any(known % DEGREES):
        warnings.warn(
            f"reference_phase must be in radians, got {known.min():g} to {known.max():g} in steps of {DEGREES:g} and "
            "more, which seem to be degrees: use numpy.deg2rad",
            stacklevel=4,
        )


def warn_of_gaps(masks: BoolArray, codes: HostArray, rows: IntArray, exposure_s: HostArray) -> None:
    """Warn if the numbers of too few frames have no gap, but frames are missing between them."""
    whole = len(rows) < len(masks) and bool(np.all(np.diff(rows) == 1)) and len(np.unique(exposure_s)) == 1
    if not whole or masks.size > MAX_BITS:
        return
    found = check_sequence(masks[rows[0] :], codes)
    if found.faults:
        warnings.warn(
            f"frame_number must have a gap where a frame is missing, got {rows[0]} to {rows[-1]} without one, but the "
            f"frames do not belong to these patterns: {found}; give the numbers of the camera, or shown",
            stacklevel=4,
        )


def as_codes(frames: Array, name: str = "frames") -> tuple[HostArray, tuple[int, int] | None]:
    """Frames of whole numbers as uint8 or uint16, (count, n_out), and their rows and columns if they have them."""
    array = np.asarray(frames)
    if array.ndim not in (2, 3) or array.dtype.kind not in "iuf" or 0 in array.shape[1:]:
        raise ValueError(
            f"{name} must be whole numbers of shape (count, n_out) or (count, rows, columns), got "
            f"{shape_text(frames, array)}, dtype {array.dtype}"
        )
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    shape = (array.shape[1], array.shape[2]) if array.ndim == 3 else None
    if flat.dtype in (np.uint8, np.uint16):
        return flat, shape
    for number, frame in enumerate(flat):
        good = (frame >= 0) & (frame <= MAX_CODE) & (frame == np.rint(frame))
        if not good.all():
            pixel = int(np.argmin(good))
            raise ValueError(
                f"{name} must be the camera's codes, whole numbers from 0 to {MAX_CODE}, got {frame[pixel]} in pixel "
                f"{pixel} of frame {number}: give raw frames, without averaging or subtraction"
            )
    return flat.astype(np.uint8 if not flat.size or flat.max() < 256 else np.uint16), shape


def entries(values: Array, name: str, count: int, default: HostArray, whole: bool = False) -> HostArray:
    """Return a number for each frame: float64, or int64 if they must be whole."""
    array = default if values is None else np.asarray(values)
    real_numbers(array, name)
    if array.shape == (count, 1) or array.shape == (1, count):
        array = array.reshape(count)  # MATLAB has no vectors
    if array.shape not in ((), (count,)):
        raise ValueError(f"{name} must have {count} entries, one for each frame, got shape {array.shape}")
    if whole and not (array == np.rint(array)).all():
        raise ValueError(f"{name} must be whole numbers, got {array[array != np.rint(array)][0]:g}")
    return np.broadcast_to(array, (count,)).astype(np.int64 if whole else np.float64)


def rows_shown(shown: Array, numbered: bool, numbers: IntArray, patterns: int) -> IntArray:
    """Return the row of `patterns` that each frame shows; -1 for dark frames.

    Without `shown`, frames and patterns are in the same order if there are as many; otherwise the numbers of the frames
    are those of the patterns, counted from 0 or 1.
    """
    count = len(numbers)
    if shown is not None:
        rows = entries(shown, "shown", count, numbers, whole=True)
        if count and not -1 <= rows.min() <= rows.max() < patterns:
            raise ValueError(
                f"shown must be rows of patterns, 0 to {patterns - 1}, or -1 for a dark frame, got "
                f"{rows[(rows < -1) | (rows >= patterns)][0]}"
            )
        return rows
    if count == patterns:
        return np.arange(count)
    if not count:
        return np.zeros(0, np.int64)
    rows = rows_of_numbers(numbers, patterns) if numbered and count <= patterns else None
    if rows is None:
        raise ValueError(
            f"shown must give the row of patterns that each frame shows, because there are {patterns} patterns and "
            f"{count} frames" + (f", numbered from {numbers.min()} to {numbers.max()}" if numbered else ""),
        )
    return rows


def rows_of_numbers(numbers: IntArray, count: int) -> IntArray | None:
    """Return the rows of frames whose numbers count `count` patterns from 0 or from 1; None if they do not tell."""
    first, last = int(numbers.min()), int(numbers.max())
    return numbers - (last == count) if (first == 0) ^ (last == count) and last - first < count else None


def describe(
    device: Mapping[str, Any] | None, codes: HostArray, dtype: np.dtype[Any], shape: tuple[int, int] | None
) -> dict[str, Any]:
    """Tables of the parts, with the frames' rows and columns, and bits that hold all codes if none is described."""
    tables: dict[str, Any] = dict(device or {})
    if device is None:
        top = int(codes.max(initial=0))
        bits = 8 if dtype == np.uint8 else next(bits for bits in BITS if top < 2**bits)
        if dtype != np.uint8:
            warnings.warn(
                f"camera.bit_depth is taken as {bits} from the largest code {top}: give device={{'camera': "
                "{'bit_depth': ...}}, or saturation may be missed",
                stacklevel=4,
            )
        tables["camera"] = {"bit_depth": bits}
    imaging = tables.get("imaging", {})
    if shape is None or not isinstance(imaging, Mapping):  # refused later
        return tables
    region = imaging.get("region")
    known = imaging.get("sensor") if region in (None, "none") else (region[1], region[3])
    if known in (None, "none"):
        tables["imaging"] = {**imaging, "sensor": list(shape)}
    elif tuple(known) != shape:
        raise ValueError(f"frames must have the {known[0]} x {known[1]} pixels of device.imaging, got {shape}")
    return tables
