"""A recovered transmission matrix with its errors, gauge and provenance, in memory or in a file."""

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.arrays import columns, mean
from calibration.recovery.base import Gauge
from calibration.recovery.tracking import Rows, check_update, follow, read_facts
from calibration.storage.hdf5 import dataset, get_attributes, lay_out, new_hdf5, set_attributes
from photonics.arrays import Array, BoolArray, FloatArray, HostArray, RealArray
from photonics.backend import backend_of, to_host

__all__ = ["TransmissionEstimate", "load_estimate", "write_estimate"]

FORMAT = "opu-sim transmission matrix 1"
UPDATED = "each row is multiplied by a phase of its own, since the last frames had no reference"


@dataclass(frozen=True, eq=False)
class TransmissionEstimate:
    """A transmission matrix recovered from frames, in the unit of T: ``E|t_ij|^2 = 1/n_in``, illumination included."""

    matrix: Array
    """(n_out, n_inputs), complex64; 0 in rows that are not `valid`. It is where the device computes, and all other
    arrays are on the host. If the estimate is in a file, a view of the file, read on use."""
    standard_error: FloatArray
    """Predicted rms error ``sqrt(E|t - t_estimate|^2)`` of an entry, (n_out,) or (n_out, n_inputs); inf where not
    `valid`. On a medium that moves, t is the matrix of the last frame."""
    valid: BoolArray
    """Rows that could be measured, (n_out,); in the others the reference or the anchors are dark, or pixels
    saturated."""
    method: str
    """Name of the method."""
    gauge: Gauge
    """What the measurement leaves undetermined."""
    frames: int
    """Frames of the measurement, dark frames included."""
    condition_number: float
    """Condition number of the matrix of probes; NaN if the method does not invert one."""
    provenance: Mapping[str, Any]
    """Device (all parameters and seeds), options of the method, exposure, frame numbers, date and version."""
    drift: Mapping[str, float | HostArray] = field(default_factory=dict)
    """Findings about the whole run, by the names of `calibration.recovery.base.Findings`."""
    diagnostics: Mapping[str, HostArray] = field(default_factory=dict)
    """Diagnostics of each row, (n_out,), by the names of `calibration.recovery.base.RowDiagnostics`; and "saturated",
    the share of saturated readings."""

    @property
    def dark_rows(self) -> NDArray[np.intp]:
        """Numbers of the rows that are not `valid`."""
        return np.flatnonzero(~self.valid)

    @property
    def relative_error(self) -> NDArray[np.float64]:
        """Predicted error of each row over the true row's length, (n_out,); inf where not `valid`.

        On a medium that moves the true row is that of the last frame; against that of the first frame the error is the
        same, and against the mean over the measurement it is 0.5 to 0.8 of it.

        Noise makes a row longer, so its squared error is subtracted from its squared length. The result is infinite
        where nothing is left: noise hides the row.
        """
        error = np.asarray(self.standard_error, np.float64)
        squared = np.mean(error**2, axis=1) if error.ndim == 2 else error**2
        power = mean(backend_of(self.matrix).xp.abs(self.matrix) ** 2, axis=1, dtype="float64")
        length = to_host(power) - squared
        known = self.valid & (length > 0)
        return np.where(known, np.sqrt(squared / np.where(known, length, 1.0)), np.inf)

    def __repr__(self) -> str:
        n_out, n_inputs = self.matrix.shape
        error = self.relative_error[self.valid]
        expected = f"error {np.median(error):.2g}" if error.size else "no valid row"
        return (
            f"TransmissionEstimate({n_out} x {n_inputs}, {self.method}, {self.frames} frames, {self.valid.mean():.1%} "
            f"valid, {expected})"
        )

    def update(self, patterns: Array, frames: Array, *, exposure_s: float | None = None) -> "TransmissionEstimate":
        """Return the matrix of a medium that has moved since, by frames of random patterns without a reference.

        A few frames are enough for a part of what became stale; the frames show how much that was (``drift["stale"]``),
        and the stated error contains it (`calibration.recovery.tracking`). Rows keep their gauge, but their common
        origin of the phase is lost.

        Parameters
        ----------
        patterns : array_like of bool or 0/1, shape (n_frames, n_inputs)
            Random patterns; all other inputs are OFF.
        frames : array_like, shape (n_frames, n_out)
            Their frames, DN, in the order in which they were taken, of the same array library as the matrix.
        exposure_s : float, optional
            Exposure of the frames, seconds; that of the recovery if not given.

        Returns
        -------
        TransmissionEstimate
            In memory. Its diagnostics are those of these frames.

        Raises
        ------
        ValueError
            If a shape or value is wrong, a pixel sees several fields, or the medium has moved too far to be followed.

        Examples
        --------
        >>> import numpy as np
        >>> from calibration import recover_transmission_matrix
        >>> from photonics import presets
        >>> opu = presets.lab_bench(32, 100)
        >>> estimate = recover_transmission_matrix(opu)
        >>> patterns = np.random.default_rng(0).random((64, 32)) < 0.5
        >>> later = estimate.update(patterns, opu.measure(patterns))
        >>> bool(later.drift["stale"] < 0.01)
        True
        """
        facts = read_facts(self.provenance)
        shown, readings, seconds = check_update(patterns, frames, exposure_s, self.matrix.shape, facts)
        valid = self.valid
        if not valid.any():
            raise ValueError("estimate must have valid rows to be updated, got none")
        own, common = (self.diagnostics.get(name) for name in ("entry_error", "common_error"))
        squared = np.asarray(self.standard_error, np.float64)[valid] ** 2
        squared = squared.mean(axis=1) if squared.ndim == 2 else squared
        backend = backend_of(self.matrix)
        xp, known_rows = backend.xp, np.flatnonzero(valid)
        matrix = xp.astype(xp.take(self.matrix, backend.asarray(known_rows), axis=0), xp.complex128)
        power = to_host(xp.mean(xp.abs(matrix) ** 2, axis=1))
        rest = np.maximum(squared - facts.scale_error**2 * power, 1e-3 * squared)
        # A misfit enlarges the stated error; frames would move a row too far if they were weighed by it, too.
        rest = rest if own is None else np.asarray(own, np.float64)[valid] ** 2
        shared = rest if common is None else np.asarray(common, np.float64)[valid] ** 2
        rows = Rows(matrix, backend.asarray(rest), backend.asarray(shared))
        found = follow(rows, shown, columns(readings, backend.asarray(valid)), seconds, facts)
        errors = {"entry_error": found.rows.rest, "common_error": found.rows.shared}
        diagnostics = {name: xp.sqrt(value) for name, value in errors.items()} | {"misfit": found.misfit}
        known = {name: spread_rows(to_host(values), valid, np.nan) for name, values in diagnostics.items()}
        saturated = to_host(mean(readings >= facts.saturation_dn, axis=0))
        gauge = self.gauge._replace(phase_fixed=False)
        if gauge.conjugation_fixed:
            gauge = gauge._replace(sentence=UPDATED)
        return replace(
            self,
            matrix=spread_matrix(found.rows.matrix, known_rows, len(valid)),
            standard_error=spread_rows(to_host(found.error), valid, np.inf),
            gauge=gauge,
            frames=self.frames + len(shown),
            drift={"stale": found.stale},
            diagnostics=known | {"saturated": saturated.astype(np.float32)},
        )

    def save(self, path: str | Path) -> Path:
        """Write an HDF5 file that `load` can read.

        Raises
        ------
        ValueError
            If the file exists (results are never overwritten) or its folder cannot be written.
        """
        with new_hdf5(path, "path") as file:
            matrix = lay_out(file, "matrix", self.matrix.shape, np.complex64)
            step = max(2**22 // max(self.matrix.shape[1], 1), 1)
            for start in range(0, len(self.matrix), step):
                matrix[start : start + step] = to_host(self.matrix[start : start + step])
            write_estimate(file, self)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "TransmissionEstimate":
        """Read a file written by `save`; the matrix is checked, but stays in the file and is read on use.

        Raises
        ------
        ValueError
            If the file cannot be read, is damaged or is not a transmission matrix of this package.
        """
        return load_estimate(path)


def spread_rows(values: RealArray, valid: BoolArray, other: float) -> FloatArray:
    """Values of the valid rows among all rows, float32; `other` in the rest."""
    every = np.full(len(valid), other, np.float32)
    every[valid] = values
    return every


def spread_matrix(rows: Array, numbers: NDArray[np.intp], count: int) -> Array:
    """Matrix of `count` rows, complex64, of which those with these numbers are given and the others are 0."""
    backend = backend_of(rows)
    xp, source = backend.xp, np.full(count, len(numbers))
    source[numbers] = np.arange(len(numbers))
    rows = xp.astype(rows, xp.complex64)
    return xp.take(xp.concat([rows, xp.zeros_like(rows[:1, :])]), backend.asarray(source), axis=0)


def write_estimate(file: h5py.File, estimate: TransmissionEstimate) -> None:
    """Write the checksums of all arrays, and an estimate without its matrix, which is already in the file."""
    about = {
        "format": FORMAT,
        "method": estimate.method,
        "gauge": json.dumps(estimate.gauge._asdict()),
        "frames": estimate.frames,
        "condition_number": estimate.condition_number,
        "provenance": json.dumps(estimate.provenance, allow_nan=False),
    }
    set_attributes(file.attrs, about)
    set_attributes(dataset(file, "matrix").attrs, {"unit": "field per unit of mirror, E|t|^2 = 1/n_in"})
    arrays = {"standard_error": estimate.standard_error, "valid": estimate.valid}
    arrays |= {f"drift/{name}": np.asarray(value) for name, value in estimate.drift.items()}
    arrays |= {f"diagnostics/{name}": np.asarray(value) for name, value in estimate.diagnostics.items()}
    for name, values in arrays.items():
        file[name] = values
    for name in ("matrix", *arrays):
        dataset(file, name).attrs["crc32"] = checksum(dataset(file, name))


def load_estimate(path: str | Path) -> TransmissionEstimate:
    """Read and check an estimate; see `TransmissionEstimate.load`."""
    try:
        estimate = read_estimate(Path(path))
        check_estimate(estimate)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else " ".join(str(error).split())
        raise ValueError(f"path must be a transmission matrix of this package, got {path} ({reason})") from None
    return estimate


def read_estimate(path: Path) -> TransmissionEstimate:
    """Read the file of an estimate and compare the checksums of its arrays."""
    with h5py.File(path, "r") as file:
        attributes = get_attributes(file.attrs)
        if attributes.get("format") != FORMAT:
            raise ValueError(f"its format is {attributes.get('format')!r}, not {FORMAT!r}")
        matrix = dataset(file, "matrix")
        place, shape = matrix.id.get_offset(), matrix.shape
        if matrix.dtype != np.complex64 or matrix.ndim != 2 or place is None:
            raise ValueError(f"matrix must be complex64, 2-D and contiguous, got {matrix.dtype} of {shape}")
        names: list[str] = []
        file.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)
        arrays = {name: dataset(file, name)[()] for name in names if name != "matrix"}
        sums = {name: dataset(file, name).attrs.get("crc32") for name in names}
    arrays["matrix"] = np.memmap(path, np.complex64, "r", place, shape)
    for name, expected in sums.items():
        if expected is not None and int(str(expected)) != checksum(arrays[name]):  # older files have fewer checksums
            raise ValueError(f"{name} is damaged: its checksum differs")
    drift, diagnostics = (
        {name.removeprefix(group): values for name, values in arrays.items() if name.startswith(group)}
        for group in ("drift/", "diagnostics/")
    )
    return TransmissionEstimate(
        matrix=arrays["matrix"],
        standard_error=arrays["standard_error"],
        valid=arrays["valid"],
        method=attributes["method"],
        gauge=Gauge(**json.loads(attributes["gauge"])),
        frames=int(attributes["frames"]),
        condition_number=float(attributes["condition_number"]),
        provenance=dict(json.loads(attributes["provenance"])),
        drift=drift,
        diagnostics=diagnostics,
    )


def checksum(values: HostArray | h5py.Dataset) -> int:
    """CRC-32 of an array or data set, some rows at a time."""
    if values.ndim == 0:
        return zlib.crc32(np.asarray(values[()]).tobytes())
    total, step = 0, max(2**16 // max(math.prod(values.shape[1:]), 1), 1)
    for start in range(0, len(values), step):
        total = zlib.crc32(np.ascontiguousarray(values[start : start + step]).data, total)
    return total


def check_estimate(estimate: TransmissionEstimate) -> None:
    """Raise a ``ValueError`` if the parts do not agree, or a row marked valid contains NaN or infinity."""
    rows, columns = estimate.matrix.shape
    valid, error = estimate.valid, estimate.standard_error
    if valid.shape != (rows,) or valid.dtype != bool:
        raise ValueError(f"valid must be bool of shape {(rows,)}, got {valid.dtype} of {valid.shape}")
    if error.shape not in ((rows,), (rows, columns)) or error.dtype.kind != "f":
        raise ValueError(
            f"standard_error must be real, with a number for each row or entry, got {error.dtype} of {error.shape}"
        )
    step = max(2**22 // max(columns, 1), 1)
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        good = np.isfinite(estimate.matrix[part]).all(axis=1) & np.isfinite(
            error[part].reshape(len(valid[part]), -1)
        ).all(axis=1)
        wrong = valid[part] & ~good
        if wrong.any():
            raise ValueError(f"row {start + int(np.argmax(wrong))} is marked valid but contains NaN or infinity")
