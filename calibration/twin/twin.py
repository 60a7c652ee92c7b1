"""The twin of a bench: fitted parameters with their errors, and the simulated device that has them."""

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration.recovery.estimate import TransmissionEstimate
from calibration.reports.findings import format_number, replace_nonfinite
from calibration.storage.files import write_new
from calibration.twin.light import LEAKAGE, RADIUS, RATE
from calibration.twin.matrix import beam_beside_rows, medium_of, relative_levels
from calibration.twin.parameter import Parameter
from calibration.twin.pixels import CURVE, PixelMaps
from calibration.twin.speckle import GRAIN, MODES, STRAIGHT
from photonics import OPU
from photonics.arrays import ComplexArray
from photonics.description import PartTables, toml_text
from photonics.medium import Ballistic, Drifting, GaussianMedium, MatrixMedium, ScatteringMedium
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser

__all__ = ["Twin"]

COLUMNS = ["parameter", "value", "standard error", "unit", "how it was found, or why it cannot be told"]
ANY_PHASE = (
    "phases of the matrix's rows are not known: frames without the reference are those of the bench, frames with it "
    "are not; record more patterns with the reference than there are inputs, at four phases"
)
BENDS = (-0.499, 0.5)
"""Smallest and largest nonlinearity that a `Camera` takes."""
MAX_LASER_RMS = 0.1
"""Largest rms of the laser's drift that a `Laser` takes."""


@dataclass(frozen=True, eq=False)
class Twin:
    """A simulated device fitted to the frames of a bench (`calibration.fit_device`)."""

    sheet: PartTables
    """Data sheets of the parts, from which the twin takes what the frames do not tell."""
    parameters: tuple[Parameter, ...]
    """Fitted parameters, and those that the frames do not tell."""
    n_in: int
    """Number of inputs."""
    n_out: int
    """Number of pixels."""
    exposure_s: float
    """Exposure of the half-ON patterns, seconds."""
    provenance: Mapping[str, Any]
    """Date, version, recording and number of frames."""
    maps: PixelMaps
    """Offset, gain and bad pixels of the bench."""
    matrix: TransmissionEstimate | None = None
    """Transmission matrix of the bench, if it was fitted; with the response of the pixels."""

    def __getitem__(self, name: str) -> Parameter:
        """Parameter of a name."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(f"name must be one of {', '.join(p.name for p in self.parameters)}, got {name!r}")

    def value(self, name: str, sheet: float) -> float:
        """Fitted value of a parameter; that of the data sheet, within what the frames allow, if it is unknown."""
        parameter = self[name]
        return parameter.estimate.value if parameter.known else float(np.clip(sheet, parameter.least, parameter.most))

    @property
    def field_frames(self) -> float:
        """Correlation time of the medium's field, frames; the least that the frames allow if they do not tell it."""
        time = self["medium.correlation_frames"]
        return time.estimate.value if time.known else max(time.least, 0.0) or np.inf

    def device(self, seed: int = 0, *, same: bool = False) -> OPU:
        """Build the simulated device.

        Parameters
        ----------
        seed : int
            By default the device has the statistics of the bench, not its medium and pixels: another seed draws other
            ones.
        same : bool
            Whether the pixels are those of the bench (`maps`), and the medium in frame 0 is `matrix` if it was fitted.
            The sensor is then the region that was recorded. What frames do not tell, rows of the matrix that could not
            be measured among it, is drawn all the same. A matrix whose ``gauge.phase_fixed`` is false, as that of
            frames without the reference, has rows of any phase: frames with the reference are then not those of the
            bench.

        Raises
        ------
        ValueError
            If fitted values and data sheet do not make a device; the message names the parameter.

        Warns
        -----
        UserWarning
            If the rows of the matrix have any phase.
        """
        if same and self.has_any_phase:
            warnings.warn(ANY_PHASE, stacklevel=2)
        return self.build(seed, same=same)

    @property
    def has_any_phase(self) -> bool:
        """Whether a matrix was fitted whose rows have any phase, as without the reference."""
        return self.matrix is not None and not self.matrix.gauge.phase_fixed

    def build(self, seed: int, *, same: bool) -> OPU:
        """Return the device of `device`, without its warning."""
        laser, dmd = self.laser(), self.dmd(seed)
        camera, imaging = self.camera(seed), self.imaging()
        share = float(laser.power_share(dmd.cells(self.n_in)).mean()) * self.n_in
        photons = share * laser.photon_rate * dmd.efficiency(laser.wavelength_m) * camera.quantum_efficiency
        rate = self[RATE]
        if rate.known:
            imaging = replace(imaging, throughput=rate.estimate.value / photons)
        if same:
            camera, imaging = self.maps.camera(camera), replace(imaging, sensor=self.maps.shape, region=None)
        medium = self.medium(imaging, seed)
        if same and self.matrix is not None:
            medium = self.drifting(MatrixMedium(self.entries(self.matrix, seed)), seed)
            camera = replace(camera, prnu=0.0)  # the rows have it
            beam = beam_beside_rows(imaging, laser.wavelength_m)
            imaging = replace(imaging, numerical_aperture=None, polarisations=1, reference=beam)
        return OPU(
            medium=medium,
            laser=laser,
            dmd=dmd,
            imaging=imaging,
            camera=camera,
            seed=seed,
            exposure_s=self.exposure_s,
        )

    def laser(self) -> Laser:
        """The laser."""
        sheet = self.sheet.laser
        rms, time = self.drift("laser.drift_rms", "drift_time_s", sheet.drift_rms, sheet.drift_time_s, MAX_LASER_RMS)
        noise = self.value("laser.rin_db_per_hz", -np.inf if sheet.rin_db_per_hz is None else sheet.rin_db_per_hz)
        radius = self.value(RADIUS, np.inf if sheet.beam_radius_m is None else sheet.beam_radius_m)
        return replace(
            sheet,
            rin_db_per_hz=noise if np.isfinite(noise) else None,
            drift_rms=rms,
            drift_time_s=time,
            beam_radius_m=radius if np.isfinite(radius) else None,
        )

    def drift(self, name: str, time_name: str, rms: float, time_s: float, most: float) -> tuple[float, float]:
        """Rms and time of a drift; what is missing follows from ``rms^2 / time`` if that is known."""
        rate, time = self[f"{name}^2/{time_name}"], self[f"{name.rpartition('.')[0]}.{time_name}"]
        rms, time_s = min(self.value(name, rms), most), self.value(time.name, time_s)
        if not rate.known or (self[name].known and time.known):
            return rms, time_s
        if self[name].known:
            return rms, rms**2 / rate.estimate.value
        time_s = min(time_s, most**2 / rate.estimate.value)
        return min((rate.estimate.value * time_s) ** 0.5, most), time_s  # the root may round up

    def dmd(self, seed: int) -> DMD:
        """The mirrors; stuck ones, of the data sheet, are part of the leakage that frames tell."""
        leak, sheet = self[LEAKAGE], replace(self.sheet.dmd, seed=seed)
        if not leak.known:
            return sheet
        amplitude = max(leak.estimate.value**0.5 - sheet.stuck_fraction / 2.0, 1e-6)
        return replace(sheet, contrast=amplitude**-2)

    def camera(self, seed: int) -> Camera:
        """The camera."""
        sheet, part = self.sheet.camera, "camera."
        given = {
            "offset_dn": sheet.offset,
            "gain_dn_per_e": sheet.gain,
            "read_noise_e": sheet.read_noise_e,
            "dark_current_e_per_s": sheet.dark_electrons(1.0),
            "dsnu_e": sheet.dsnu_e,
            "prnu": sheet.prnu,
            "dead_pixels": sheet.dead_pixels,
            "hot_pixels": sheet.hot_pixels,
            "hot_current_e_per_s": sheet.hot_current_e_per_s,
            "row_noise_e": sheet.row_noise_e,
            "column_noise_e": sheet.column_noise_e,
        }
        values = {name: self.value(part + name, value) for name, value in given.items()}
        full = self.value(part + "full_well_e", sheet.full_well_e)
        values["nonlinearity"] = float(
            np.clip(self.value(CURVE, sheet.nonlinearity / sheet.full_well_e) * full, *BENDS)
        )
        return replace(sheet, seed=seed, full_well_e=full, warming_k=0.0, **values)

    def imaging(self) -> Imaging:
        """The optics, with the throughput of the data sheet."""
        sheet, part = self.sheet.imaging, "imaging.reference."
        beam = sheet.reference
        rms, time = self.drift(
            part + "phase_drift_rad", "phase_drift_time_s", beam.phase_drift_rad, beam.phase_drift_time_s, 100.0
        )
        beam = replace(
            beam,
            intensity=self.value(part + "intensity", beam.intensity),
            angle_x_rad=self.value(part + "angle_x_rad", beam.angle_x_rad),
            angle_y_rad=self.value(part + "angle_y_rad", beam.angle_y_rad),
            phase_jitter_rad=self.value(part + "phase_jitter_rad", beam.phase_jitter_rad),
            phase_drift_rad=rms,
            phase_drift_time_s=time,
        )
        aperture = self[GRAIN]
        number = int(self.value(MODES, sheet.polarisations))
        na = aperture.estimate.value if aperture.known else None if aperture.least > 0.0 else sheet.numerical_aperture
        region = None if sheet.sensor is None else sheet.region
        return replace(
            sheet, reference=beam, numerical_aperture=na, region=region, polarisations=2 if number == 2 else 1
        )

    def medium(self, imaging: Imaging, seed: int) -> ScatteringMedium:
        """The medium: a Gaussian matrix that drifts, with unscattered light if there is some."""
        pixels = self.n_out if imaging.region is None or imaging.sensor is None else int(np.prod(imaging.sensor))
        outputs = pixels * imaging.samples_per_pixel**2
        medium = self.drifting(GaussianMedium(self.n_in, outputs, seed=seed, storage="auto"), seed)
        if self[STRAIGHT].known:
            medium = Ballistic(medium, self[STRAIGHT].estimate.value)
        return medium

    def entries(self, matrix: TransmissionEstimate, seed: int) -> ComplexArray:
        """Entries of the medium that gives the fields of a recovered matrix: (n_out, n_in)."""
        return medium_of(matrix, relative_levels(self.laser(), self.dmd(seed), self.n_in), self.maps, seed)

    def drifting(self, medium: ScatteringMedium, seed: int) -> ScatteringMedium:
        """Return a medium that drifts as that of the bench, if frames tell how fast."""
        time = self["medium.correlation_frames"]
        return Drifting(medium, time.estimate.value, seed=seed) if time.known else medium

    def source(self, parameter: Parameter) -> str:
        """Where the twin takes an unknown parameter from, in words."""
        rates = [p.name for p in self.parameters if p.known and p.name.startswith(f"{parameter.name}^2/")]
        return (
            f"it follows from {rates[0]} and the time"
            if rates
            else "the twin takes it from the data sheet, within what the frames allow"
        )

    def rows(self) -> list[list[str]]:
        """Table with one row for each parameter: name, value, standard error, unit, how it was found."""
        return [
            [
                p.name,
                format_number(p.estimate.value, 4) if p.known else "unknown",
                format_number(p.estimate.error, 2),
                p.unit,
                p.how if p.known else f"cannot be told from frames, {self.source(p)}: {p.how}",
            ]
            for p in self.parameters
        ]

    def __str__(self) -> str:
        from calibration.reports.page import Table  # Matplotlib is imported only if a table is made

        return str(Table(COLUMNS, self.rows()))

    def __repr__(self) -> str:
        known = sum(p.known for p in self.parameters)
        return f"Twin({known} of {len(self.parameters)} parameters known, {self.n_in} inputs, {self.n_out} pixels)"

    def to_dict(self) -> dict[str, Any]:
        """Parameters, provenance and the device of seed 0, in plain types; unknown values are None."""
        lines = [asdict(p) | {"known": p.known} for p in self.parameters]
        return replace_nonfinite(
            {"provenance": dict(self.provenance), "parameters": lines, "device": self.device().to_dict()}
        )

    def to_json(self, path: str | Path) -> Path:
        """Write the table and the device as JSON; raises a ``ValueError`` if the file exists."""
        return write_new(path, json.dumps(self.to_dict(), indent=1, allow_nan=False))

    def to_html(self, path: str | Path) -> Path:
        """Write the table as one HTML page in the style of the reports; raises a ``ValueError`` if the file exists."""
        return write_new(path, self.html())

    def html(self) -> str:
        """The page written by `to_html`."""
        from calibration.reports.page import Section, Table, render  # Jinja2 is imported only if a page is made

        about = self.provenance
        text = (
            f"{about['frames']} frames of {about['recording']}, {self.n_in} inputs, {self.n_out} pixels; "
            f"{about['date']}, opu-sim {about['version']}. Standard errors are those of one standard deviation."
        )
        return render("Twin of a bench", [Section("Parameters", text, tables=[Table(COLUMNS, self.rows())])])

    def to_toml(self, path: str | Path, seed: int = 0, *, same: bool = False) -> Path:
        """Write the device as a TOML file that `photonics.OPU.from_toml` reads; comments state the errors.

        Parameters
        ----------
        path : str or Path
            The new file. The maps of the pixels are in it; a matrix is in a new ``.npy`` file beside it, with its
            digest in the TOML file; both can be moved together.
        seed, same
            As for `device`.

        Raises
        ------
        ValueError
            If a file exists, or cannot be written.
        """
        path = Path(path).expanduser()
        if path.exists():
            raise ValueError(f"path must be new, got {path}, which exists: files are never overwritten")
        device = self.device(seed, same=same)
        if not same or self.matrix is None:
            return write_new(path, self.toml(device.to_dict()))
        stream = io.BytesIO()
        np.save(stream, self.entries(self.matrix, seed), allow_pickle=False)
        beside = write_new(path.with_name(f"{path.stem}.matrix.npy"), stream.getvalue())
        medium = self.drifting(MatrixMedium.load(beside.absolute()), seed)
        described = device.replace(medium=medium).to_dict()
        described["medium"].get("medium", described["medium"])["path"] = beside.name
        return write_new(path, self.toml(described, same))

    def toml(self, device: dict[str, Any], same: bool = False) -> str:
        """Text of a described device, with the errors of its parameters in comments."""
        found = [
            f"# {row[0]} = {row[1]} +- {row[2]} {row[3]}".rstrip()
            for row, p in zip(self.rows(), self.parameters, strict=True)
            if p.known
        ]
        unknown = [f"{p.name}: {self.source(p)}" for p in self.parameters if not p.known]
        if same and self.has_any_phase:
            unknown.append("phases of the matrix's rows: frames with the reference are not those of the bench")
        table = ["# Fitted to frames, with standard errors:", *found, "# Frames do not tell:"]
        text = toml_text(device, folder=Path())  # a matrix is beside the file
        return "\n".join([*table, *(f"# {name}" for name in unknown), "", text])
