"""A recovered transmission matrix with its errors, gauge and provenance, in memory or in a file."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from calibration.recovery.base import Gauge
from calibration.storage.frames import dataset, lay_out, new_hdf5
from photonics.arrays import BoolArray, ComplexArray, FloatArray, HostArray

__all__ = ["TransmissionEstimate", "load_estimate", "write_estimate"]

FORMAT = "opu-sim transmission matrix 1"
ARRAYS = ("matrix", "standard_error", "valid")


@dataclass(frozen=True, eq=False)
class TransmissionEstimate:
    """A transmission matrix recovered from frames, in the unit of T: ``E|t_ij|^2 = 1/n_in``, illumination included."""

    matrix: ComplexArray
    """(n_out, n_inputs); 0 in rows that are not `valid`. Of an estimate in a file: a view of the file, read on use."""
    standard_error: FloatArray
    """Predicted rms error ``sqrt(E|t - t_estimate|^2)`` of an entry, (n_out,) or (n_out, n_inputs); inf where not
    `valid`."""
    valid: BoolArray
    """Rows that could be measured, (n_out,); in the others the reference or the anchors are dark, or they saturated."""
    method: str
    """Name of the method."""
    gauge: Gauge
    """What the measurement leaves undetermined."""
    frames: int
    """Frames of the measurement, dark frames included."""
    condition_number: float
    """Of the matrix of probes; NaN if the method does not invert one."""
    provenance: Mapping[str, Any]
    """Device (every parameter and seed), options of the method, exposure, frame numbers, date and version."""
    drift: Mapping[str, float | HostArray] = field(default_factory=dict)
    """Findings of the method about the whole run, by the names of `calibration.recovery.base.Findings`."""
    diagnostics: Mapping[str, HostArray] = field(default_factory=dict)
    """Diagnostics of each row, (n_out,), by the names of `calibration.recovery.base.RowDiagnostics`; and "saturated",
    the share of saturated readings."""

    @property
    def dark_rows(self) -> NDArray[np.intp]:
        """Numbers of the rows that are not `valid`."""
        return np.flatnonzero(~self.valid)

    @property
    def relative_error(self) -> NDArray[np.float64]:
        """Predicted error of each row over the row's length, (n_out,); inf where not `valid`."""
        error = np.asarray(self.standard_error, np.float64)
        squared = error**2 if error.ndim == 2 else error[:, None] ** 2
        length = np.mean(np.abs(self.matrix) ** 2, axis=1)
        total = np.where(self.valid, squared.mean(axis=1), np.inf)
        return np.sqrt(total / np.where(self.valid & (length > 0), length, 1.0))

    def __repr__(self) -> str:
        n_out, n_inputs = self.matrix.shape
        error = self.relative_error[self.valid]
        expected = f"error {np.median(error):.2g}" if error.size else "no valid row"
        return (
            f"TransmissionEstimate({n_out} x {n_inputs}, {self.method}, {self.frames} frames, {self.valid.mean():.1%} "
            f"valid, {expected})"
        )

    def save(self, path: str | Path) -> Path:
        """Write an HDF5 file that `load` reads.

        Raises
        ------
        ValueError
            If the file exists (results are never overwritten) or its folder cannot be written.
        """
        with new_hdf5(path, "path") as file:
            lay_out(file, "matrix", self.matrix.shape, np.complex64)
            step = max(2**22 // max(self.matrix.shape[1], 1), 1)
            for start in range(0, len(self.matrix), step):
                dataset(file, "matrix")[start : start + step] = self.matrix[start : start + step]
            write_estimate(file, self)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "TransmissionEstimate":
        """Read a file that `save` wrote; the matrix is checked, but stays in the file and is read on use.

        Raises
        ------
        ValueError
            If the file cannot be read, is damaged or is not a transmission matrix of this package.
        """
        return load_estimate(path)


def write_estimate(file: h5py.File, estimate: TransmissionEstimate) -> None:
    """Write everything but the matrix, which the file has already."""
    file.attrs["format"] = FORMAT
    file.attrs["method"] = estimate.method
    file.attrs["gauge"] = json.dumps(estimate.gauge._asdict())
    file.attrs["frames"] = estimate.frames
    file.attrs["condition_number"] = estimate.condition_number
    file.attrs["provenance"] = json.dumps(estimate.provenance, allow_nan=False)
    dataset(file, "matrix").attrs["unit"] = "field per unit of mirror, E|t|^2 = 1/n_in"
    file["standard_error"], file["valid"] = estimate.standard_error, estimate.valid
    for name in ("matrix", "standard_error"):
        dataset(file, name).attrs["crc32"] = checksum(dataset(file, name))
    for group, values in (("drift", estimate.drift), ("diagnostics", estimate.diagnostics)):
        entries = file.create_group(group)
        for name, value in values.items():
            entries[name] = np.asarray(value)


def load_estimate(path: str | Path) -> TransmissionEstimate:
    """Read and check an estimate; see `TransmissionEstimate.load`."""
    try:
        estimate = read_estimate(Path(path))
        check_estimate(estimate)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"path must be a transmission matrix of this package, got {path} ({reason})") from None
    return estimate


def read_estimate(path: Path) -> TransmissionEstimate:
    """Read an estimate from a file, without `check_estimate`."""
    with h5py.File(path, "r") as file:
        if file.attrs.get("format") != FORMAT:
            raise ValueError(f"its format is {file.attrs.get('format')!r}, not {FORMAT!r}")
        matrix = dataset(file, "matrix")
        offset, shape = matrix.id.get_offset(), matrix.shape
        if matrix.dtype != np.complex64 or matrix.ndim != 2 or offset is None:
            raise ValueError(f"matrix must be complex64 on 2 axes in one piece, got {matrix.dtype} of {shape}")
        attrs = {name: str(value) for name, value in file.attrs.items()}
        standard_error, valid = dataset(file, "standard_error")[()], dataset(file, "valid")[()]
        sums = {name: dataset(file, name).attrs.get("crc32") for name in ("matrix", "standard_error")}
        names: list[str] = []
        file.visit(names.append)
        drift, diagnostics = (
            {name.removeprefix(group): dataset(file, name)[()] for name in names if name.startswith(group)}
            for group in ("drift/", "diagnostics/")
        )
    stored = np.memmap(path, np.complex64, "r", offset, shape)
    for name, values in (("matrix", stored), ("standard_error", standard_error)):
        if sums[name] is not None and int(str(sums[name])) != checksum(values):  # files of earlier versions have none
            raise ValueError(f"{name} is damaged: its checksum differs")
    return TransmissionEstimate(
        matrix=stored,
        standard_error=standard_error,
        valid=valid,
        method=attrs["method"],
        gauge=Gauge(**json.loads(attrs["gauge"])),
        frames=int(attrs["frames"]),
        condition_number=float(attrs["condition_number"]),
        provenance=dict(json.loads(attrs["provenance"])),
        drift=drift,
        diagnostics=diagnostics,
    )


def checksum(values: HostArray | h5py.Dataset) -> int:
    """CRC-32 of an array or data set, some rows at a time."""
    total, step = 0, max(2**16 // max(values[:1].size, 1), 1)
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
        raise ValueError(f"standard_error must be real, a number for each row or entry, got {error.shape}")
    step = max(2**22 // max(columns, 1), 1)
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        good = np.isfinite(estimate.matrix[part]).all(axis=1) & np.isfinite(
            error[part].reshape(len(valid[part]), -1)
        ).all(axis=1)
        wrong = valid[part] & ~good
        if wrong.any():
            raise ValueError(f"row {start + int(np.argmax(wrong))} is marked valid but contains NaN or infinity")
