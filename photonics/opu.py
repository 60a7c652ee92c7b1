"""The device: laser, mirrors, medium, imaging and camera, in that order, and the clock they share."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics import medium as media
from photonics.camera import Camera
from photonics.component import integer, number
from photonics.dmd import DMD
from photonics.encoding import as_patterns, half_on
from photonics.imaging import Imaging
from photonics.laser import Laser
from photonics.medium import ScatteringMedium
from photonics.random import check_seed

__all__ = ["OPU", "Clock"]

PARTS = {"laser": Laser, "dmd": DMD, "imaging": Imaging, "camera": Camera}
NUMBERS = ("seed", "exposure_s", "electrical_power_w")
NAMES = (*PARTS, "medium", *NUMBERS)
CHUNK = 2**25
"""Pixels computed at a time, so that memory stays bounded (about 21 bytes each)."""
SHORTEST_EXPOSURE_S = 1e-6


class Clock:
    """Counts the frames that the device has taken."""

    def __init__(self, frames: int = 0) -> None:
        self.frames = frames

    def advance(self, count: int) -> NDArray[np.int64]:
        """Frame numbers of the next `count` frames, shape (count,)."""
        ticks = np.arange(self.frames, self.frames + count, dtype=np.int64)
        self.frames += count
        return ticks


class OPU:
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
        Exposure of the camera, seconds, at most the frame period.
    electrical_power_w : float
        Power that the whole device draws from the wall, watts.

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
    ) -> None:
        if not isinstance(medium, ScatteringMedium):
            raise ValueError(f"medium must be a ScatteringMedium, got {type(medium).__name__}")
        given = {"laser": laser, "dmd": dmd, "imaging": imaging, "camera": camera}
        for name, part in given.items():
            if part is not None and not isinstance(part, PARTS[name]):
                raise ValueError(f"{name} must be a {PARTS[name].__name__}, got {type(part).__name__}")
        self._medium = medium
        self._laser = laser or Laser()
        self._dmd = dmd or DMD()
        self._imaging = imaging or Imaging()
        self._camera = camera or Camera()
        self.seed = check_seed(seed)
        self.cells = self.dmd.cells(self.n_in)
        self.clock = Clock()
        self.exposure_s = exposure_s
        if not 0 <= number(electrical_power_w) < np.inf:
            raise ValueError(f"electrical_power_w must be 0 or more, got {electrical_power_w!r}")
        self.electrical_power_w = float(electrical_power_w)

    def __repr__(self) -> str:
        return f"OPU(n_in={self.n_in}, n_out={self.n_out}, seed={self.seed}, exposure_s={self.exposure_s:.3g})"

    # Parts are read-only: a device with another part is another device, made by `replace`.
    @property
    def laser(self) -> Laser:
        """The laser."""
        return self._laser

    @property
    def dmd(self) -> DMD:
        """The mirrors."""
        return self._dmd

    @property
    def medium(self) -> ScatteringMedium:
        """The scattering medium."""
        return self._medium

    @property
    def imaging(self) -> Imaging:
        """The path from medium to sensor."""
        return self._imaging

    @property
    def camera(self) -> Camera:
        """The camera."""
        return self._camera

    @property
    def n_in(self) -> int:
        """Number of logical inputs."""
        return self.medium.shape[1]

    @property
    def n_out(self) -> int:
        """Number of pixels."""
        return self.medium.shape[0]

    @property
    def frame_period_s(self) -> float:
        """Seconds from one frame to the next: the slower of mirrors and camera leads."""
        return 1.0 / min(self.dmd.frame_rate_hz, self.camera.frame_rate_hz)

    @property
    def exposure_s(self) -> float:
        """Exposure of the camera, seconds."""
        return self._exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self._exposure_s = self._check_exposure(value)

    def _check_exposure(self, value: Any) -> float:
        longest = self.frame_period_s
        if not SHORTEST_EXPOSURE_S <= number(value) <= longest:
            raise ValueError(f"exposure_s must be {SHORTEST_EXPOSURE_S:g} to {longest:g} (a frame), got {value!r}")
        return float(value)

    def measure(self, patterns: Any, exposure_s: float | None = None) -> NDArray[Any]:
        """Show patterns one after the other and take a frame of each.

        Parameters
        ----------
        patterns : array_like of bool or 0/1, shape (batch, n_in)
            Which inputs are ON.
        exposure_s : float, optional
            Exposure of these frames only; the device's own if not given.

        Returns
        -------
        ndarray of uint8 or uint16, shape (batch, n_out)
            Digital numbers. The same seed and frame numbers give the same bits in any batch split.

        Raises
        ------
        ValueError
            If the shape is wrong, a pattern is not binary, or the exposure is out of range.
        """
        patterns = as_patterns(patterns, self.n_in)
        exposure_s = self.exposure_s if exposure_s is None else self._check_exposure(exposure_s)
        frames = np.empty((len(patterns), self.n_out), self.camera.dtype)
        chunk = max(CHUNK // self.n_out, 1)
        for start in range(0, len(patterns), chunk):
            part = slice(start, start + chunk)
            frames[part] = self._expose(patterns[part], exposure_s)
        return frames

    def _expose(self, patterns: NDArray[np.bool_], exposure_s: float) -> NDArray[Any]:
        ticks = self.clock.advance(len(patterns))
        light = self.laser.field(
            self.cells, ticks, exposure_s=exposure_s, frame_period_s=self.frame_period_s, seed=self.seed
        )
        field = self.dmd.modulate(patterns, light)
        speckle = self.medium.propagate(field)
        photons = self.imaging.intensity(speckle)
        photons *= exposure_s
        return self.camera.expose(photons, exposure_s, ticks, seed=self.seed)

    def dark(self, count: int, exposure_s: float | None = None) -> NDArray[Any]:
        """Frames with the laser's shutter closed: (count, n_out) digital numbers."""
        exposure_s = self.exposure_s if exposure_s is None else self._check_exposure(exposure_s)
        ticks = self.clock.advance(integer(count, "count", 0))
        return self.camera.expose(np.zeros((len(ticks), self.n_out), np.float32), exposure_s, ticks, seed=self.seed)

    def autoexpose(self, target: float = 0.5, patterns: Any = None) -> float:
        """Set the exposure so that the 99th percentile of the frames sits at `target` of the camera's range.

        In fully developed speckle the mean is then ``target / 4.6`` of the range, and at 0.5 about one pixel in
        10 000 saturates. As at a bench, frames are taken until the level is right; they count on the clock.

        Parameters
        ----------
        target : float
            Wanted level, share of the range from offset to the last code, 0.01 to 0.9.
        patterns : array_like, shape (batch, n_in), optional
            Patterns that are typical of the work; 8 random ones, half ON, if not given.

        Returns
        -------
        float
            The exposure, seconds; the frame period if there is not light enough for more.

        Raises
        ------
        ValueError
            If the target is out of range, even the shortest exposure is too long, or no exposure gives the target
            (a camera of one bit has no such level).
        """
        if not 0.01 <= number(target) <= 0.9:
            raise ValueError(f"target must be 0.01 to 0.9, got {target!r}")
        patterns = half_on(8, self.n_in, self.seed) if patterns is None else as_patterns(patterns, self.n_in)
        if not len(patterns):
            raise ValueError("patterns must hold at least one pattern, got none")
        span = self.camera.saturation_dn - self.camera.offset
        exposure = self.exposure_s
        for _ in range(30):
            level = (np.percentile(self.measure(patterns, exposure), 99) - self.camera.offset) / span
            # A saturated frame does not say by how much, a dark one hardly: move by a fixed factor.
            factor = 0.125 if level > 0.95 else target / max(level, target / 8.0)
            wanted = min(max(exposure * factor, SHORTEST_EXPOSURE_S), self.frame_period_s)
            if exposure * factor < 0.98 * SHORTEST_EXPOSURE_S and exposure == SHORTEST_EXPOSURE_S:
                raise ValueError(
                    f"target {target} needs an exposure under {SHORTEST_EXPOSURE_S:g} s: lower laser.power_w "
                    f"(now {self.laser.power_w:g} W)"
                )
            done = abs(wanted / exposure - 1.0) < 0.02
            exposure = float(wanted)
            if done:
                self.exposure_s = exposure
                return exposure
        raise ValueError(f"target {target} is not reached by any exposure of a camera of {self.camera.bit_depth} bits")

    @property
    def unit_dn(self) -> float:
        """DN above dark that unit intensity gives at the set exposure: what a power meter and data sheets tell.

        ``K QE throughput (photons / s on the mean input) t``. With ``E|t_ij|^2 = 1/n_in`` it is the expected mean
        with all inputs ON. It says nothing about the medium.
        """
        rate = self.laser.photon_rate * float(self.laser.power_share(self.cells).mean())
        return self.camera.gain * self.camera.quantum_efficiency * self.imaging.throughput * rate * self.exposure_s

    def effective_matrix(self) -> NDArray[np.complex64]:
        """Ground truth: field per unit of mirror, (n_out, n_in), in the unit in which ``E|t_ij|^2 = 1/n_in``.

        The medium's matrix times illumination and mirror levels (ON minus OFF) of each input. For metrics and
        tests; a bench cannot know it, and `calibration` does not look.
        """
        off, on = self.dmd.levels(self.n_in)
        weight = np.sqrt(self.laser.power_share(self.cells)) * (on - off)
        weight = weight / np.sqrt(np.mean(np.abs(weight) ** 2))
        return self.medium.block(slice(None), slice(None)) * weight.astype(np.complex64)

    def replace(self, **changes: Any) -> "OPU":
        """Return a new device with some parts or numbers changed, its clock at zero."""
        check_names(changes)
        return OPU(**({name: getattr(self, name) for name in NAMES} | changes))

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
        check_names(description)
        for name in (*PARTS, "medium"):
            if not isinstance(description.get(name, {}), Mapping):
                raise ValueError(f"{name} must be a table of parameters, got {description[name]!r}")
        parts = {}
        for name, part in PARTS.items():  # TOML has no null
            table = description.get(name, {})
            parts[name] = part(**{key: None if value == "none" else value for key, value in table.items()})
        numbers = {name: description[name] for name in NUMBERS if name in description}
        return cls(medium=media.from_dict(description.get("medium", {})), **parts, **numbers)

    @classmethod
    def from_toml(cls, path: str | Path) -> "OPU":
        """Read a device from a TOML file with the tables ``[laser] [dmd] [medium] [imaging] [camera]``.

        A matrix's ``path`` is relative to the TOML file.

        Raises
        ------
        ValueError
            If the file cannot be read, is not TOML, or does not describe a device.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"path must be a readable TOML file, got {path} ({error})") from None
        try:
            description = tomllib.loads(text)
            medium = description.get("medium", {})
            if isinstance(medium, dict) and isinstance(medium.get("path"), str):
                medium["path"] = str(Path(path).parent / medium["path"])
            return cls.from_dict(description)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def check_names(given: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` if a name is not one of the device's parts or numbers."""
    for name in given:
        if name not in NAMES:
            raise ValueError(f"{name} is not a part of the device; parts are {', '.join(NAMES)}")
