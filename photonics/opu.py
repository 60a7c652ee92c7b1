"""The device: laser, mirrors, medium, imaging and camera, in that order, and the clock they share."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import photonics.analysis.cost as cost
import photonics.analysis.moments as moments
from photonics.analysis.exposure import SHORTEST_EXPOSURE_S, autoexpose
from photonics.backend import named
from photonics.chain import Chain
from photonics.component import integer, number
from photonics.description import NAMES, NUMBERS, PARTS, arguments, check_names, read_toml, with_dotted
from photonics.medium import ScatteringMedium
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.parts.reference import as_phases
from photonics.patterns.encoding import as_patterns

__all__ = ["OPU", "Clock"]

CHUNK = 2**25
"""Pixels computed at a time, so that memory stays bounded (about 21 bytes each)."""


class Clock:
    """Counts the frames that the device has taken."""

    def __init__(self, frames: int = 0) -> None:
        self.frames = frames

    def advance(self, count: int) -> NDArray[np.int64]:
        """Frame numbers of the next `count` frames, shape (count,)."""
        ticks = np.arange(self.frames, self.frames + count, dtype=np.int64)
        self.frames += count
        return ticks


class OPU(Chain):
    """Optical processing unit: shows binary patterns to a scattering medium and photographs what comes out.

    Parameters
    ----------
    medium : ScatteringMedium
        Holds the transmission matrix, shape (n_out, n_in); ``E|t_ij|^2 = 1/n_in``.
    laser, dmd, imaging, camera
        The other parts; their defaults are those of the classes.
    seed : int
        The run: shot, read and intensity noise, drift. What the device *is* follows the seeds of the parts.
    exposure_s : float
        Exposure of the camera, seconds, at most `longest_exposure_s`.
    electrical_power_w : float
        Power that the whole device draws from the wall, watts.
    power_source : str
        Where that figure comes from.

    Raises
    ------
    ValueError
        If the medium does not fit on the mirrors, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from photonics import presets
    >>> opu = presets.lab_bench(64, 100, seed=1)
    >>> opu.measure(np.ones((3, 64), bool)).shape
    (3, 100)
    >>> opu.clock.frames
    3
    """

    def __init__(
        self,
        *,
        medium: ScatteringMedium,
        laser: Laser | None = None,
        dmd: DMD | None = None,
        imaging: Imaging | None = None,
        camera: Camera | None = None,
        seed: int = 0,
        exposure_s: float = 4.4e-4,
        electrical_power_w: float = 40.0,
        power_source: str = "not said",
    ) -> None:
        given = {"laser": laser, "dmd": dmd, "imaging": imaging, "camera": camera}
        parts = {name: PARTS[name]() if part is None else part for name, part in given.items()}
        super().__init__(medium=medium, seed=seed, **parts)
        self.clock = Clock()
        self.exposure_s = exposure_s
        if not 0 <= number(electrical_power_w) < np.inf:
            raise ValueError(f"electrical_power_w must be 0 or more, got {electrical_power_w!r}")
        self.electrical_power_w = float(electrical_power_w)
        self.power_source = str(power_source)

    def __repr__(self) -> str:
        return f"OPU(n_in={self.n_in}, n_out={self.n_out}, seed={self.seed}, exposure_s={self.exposure_s:.3g})"

    @property
    def exposure_s(self) -> float:
        """Exposure of the camera, seconds."""
        return self._exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self._exposure_s = self._check_exposure(value)

    def _check_exposure(self, value: Any) -> float:
        longest = self.longest_exposure_s
        if not SHORTEST_EXPOSURE_S <= number(value) <= longest:
            raise ValueError(
                f"exposure_s must be {SHORTEST_EXPOSURE_S:g} to {longest:g} (a frame at {1.0 / self.frame_period_s:g} "
                f"Hz less {self.dmd.settle_s:g} s in which the mirrors settle), got {value!r}"
            )
        return float(value)

    def measure(self, patterns: Any, exposure_s: float | None = None, *, reference_phase: Any = None) -> Any:
        """Show patterns one after the other and take a frame of each.

        Parameters
        ----------
        patterns : array_like of bool or 0/1, shape (batch, n_in)
            Which inputs are ON. A device that computes elsewhere (`to`) takes bool arrays from there, and no others.
        exposure_s : float, optional
            Exposure of these frames only; the device's own if not given.
        reference_phase : float or array_like, shape (batch,), optional
            Opens the shutter of the reference arm, its piezo at this phase (one for all or one each), radians.

        Returns
        -------
        array of uint8 or uint16, shape (batch, n_out)
            Digital numbers. The same seed and frame numbers give the same bits in any batch split.

        Raises
        ------
        ValueError
            If the shape is wrong, a pattern is not binary, or the exposure or a phase is out of range.
        """
        patterns = as_patterns(patterns, self.n_in, backend=self.backend)
        exposure_s = self.exposure_s if exposure_s is None else self._check_exposure(exposure_s)
        batch = patterns.shape[0]
        phases = None if reference_phase is None else as_phases(reference_phase, batch)
        chunk = max(CHUNK // max(self._lit.shape[0], self.n_in), 1)
        parts = []
        for start in range(0, max(batch, 1), chunk):
            part = slice(start, min(start + chunk, batch))
            ticks = self.clock.advance(part.stop - start)
            light = self.light(ticks, exposure_s)
            phase = None if phases is None else phases[part]
            photons = self.mean_photons(patterns[part, :], ticks, exposure_s, light, phase)
            parts.append(self.camera.expose(photons, exposure_s, ticks, seed=self.seed))
        return parts[0] if len(parts) == 1 else self.backend.xp.concat(parts)

    def dark(self, count: int, exposure_s: float | None = None) -> Any:
        """Frames with the laser's shutter closed: (count, n_out) digital numbers."""
        exposure_s = self.exposure_s if exposure_s is None else self._check_exposure(exposure_s)
        ticks = self.clock.advance(integer(count, "count", 0))
        photons = self.backend.zeros((len(ticks), self.n_out), "float32")
        return self.camera.expose(photons, exposure_s, ticks, seed=self.seed)

    def mean(self, patterns: Any, exposure_s: float | None = None, *, reference_phase: Any = None) -> Any:
        """Mean DN of each pixel before clipping, over everything that is random: (batch, n_out).

        The medium and the mirrors' surface are as in the next frame; the clock does not move. See
        `photonics.analysis.moments`.
        """
        return moments.mean(self, patterns, exposure_s, reference_phase)

    def variance(self, patterns: Any, exposure_s: float | None = None, *, reference_phase: Any = None) -> Any:
        """Temporal variance of each pixel before clipping, DN^2: (batch, n_out). See `photonics.analysis.moments`."""
        return moments.variance(self, patterns, exposure_s, reference_phase)

    def timing(self, frames: int | None = None) -> cost.Timing:
        """Seconds that `frames` frames (by default those on the clock) take on the real bench, and what limits them."""
        return cost.timing(self, self.clock.frames if frames is None else frames)

    def energy(self, frames: int | None = None) -> cost.Energy:
        """Joules that `frames` frames (by default those on the clock) cost on the real bench."""
        return cost.energy(self, self.clock.frames if frames is None else frames)

    def to(self, device: str) -> "OPU":
        """Compute on "cpu" or "cuda" (or "cuda:1") from now on; frames come back as arrays of there. Returns itself.

        Raises
        ------
        ValueError
            If there is no such device, or cupy is not installed.
        """
        self.backend = named(device)
        return self

    def autoexpose(self, target: float = 0.5, patterns: Any = None) -> float:
        """Set the exposure so that the 99th percentile of the frames sits at `target` of the camera's range.

        See `photonics.analysis.exposure.autoexpose`; the frames that it takes count on the clock.

        Returns
        -------
        float
            The exposure, seconds; `longest_exposure_s` if there is not light enough for less.
        """
        return autoexpose(self, target, patterns)

    @property
    def unit_dn(self) -> float:
        """DN above dark that unit intensity gives at the set exposure: what a power meter and data sheets tell.

        ``K QE throughput (photons / s on the mean input) t``. With ``E|t_ij|^2 = 1/n_in`` it is the expected mean
        with all inputs ON. It says nothing about the medium.
        """
        rate = self._unit_rate * self.dmd.efficiency(self.laser.wavelength_m)
        return self.camera.gain * self.camera.quantum_efficiency * self.imaging.throughput * rate * self.exposure_s

    def replace(self, **changes: Any) -> "OPU":
        """Return a new device with some parts or numbers changed, its clock at zero.

        Parameters
        ----------
        **changes
            A part or a number by its name; a parameter of a part by its dotted name, as in
            ``opu.replace(**{"camera.bit_depth": 4, "imaging.reference.noise": 0.1, "medium.seed": 7})``.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of range.
        """
        changes = with_dotted(self, changes)
        check_names(changes)
        if "electrical_power_w" in changes:
            changes = {"power_source": "not said"} | changes
        other = OPU(**({name: getattr(self, name) for name in NAMES} | changes))
        other.backend = self.backend
        if other.medium is self.medium and other._shares == self._shares and other._lit.shape == self._lit.shape:
            other._lit = self._lit  # its further modes need not be drawn again
        return other

    def to_dict(self) -> dict[str, Any]:
        """Every parameter of the device, in plain types that JSON can hold; the clock is not one."""
        parts = {name: asdict(getattr(self, name)) for name in PARTS}
        return {name: getattr(self, name) for name in NUMBERS} | parts | {"medium": self.medium.to_dict()}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "OPU":
        """Make the device that `to_dict` described; what is left out takes its default, "none" stands for None.

        Raises
        ------
        ValueError
            If the medium is missing, a name is unknown, or a value is out of range.
        """
        return cls(**arguments(description))

    @classmethod
    def from_toml(cls, path: str | Path) -> "OPU":
        """Read a device from a TOML file with the tables ``[laser] [dmd] [medium] [imaging] [camera]``.

        A matrix's ``path`` is relative to the TOML file.

        Raises
        ------
        ValueError
            If the file cannot be read, is not TOML, or does not describe a device.
        """
        return read_toml(path, cls.from_dict)
