"""The device: laser, mirrors, medium, imaging and camera, and their common clock."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import photonics.analysis.cost as cost
import photonics.analysis.moments as moments
from photonics import draws
from photonics.analysis.exposure import autoexpose
from photonics.arrays import Array
from photonics.backend import find_backend
from photonics.chain import Chain
from photonics.component import integer, number
from photonics.description import (
    NAMES,
    NUMBERS,
    PARTS,
    arguments,
    change_parameters,
    check_names,
    device_schema,
    read_toml,
    write_toml,
)
from photonics.medium import ScatteringMedium
from photonics.medium.description import Description
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.random import Stream

__all__ = ["OPU"]


class OPU(Chain):
    """Optical processing unit: sends binary patterns through a scattering medium and takes frames of the speckle.

    Parameters
    ----------
    medium : ScatteringMedium
        Transmission matrix of shape (n_out, n_in) with ``E|t_ij|^2 = 1/n_in``.
    laser, dmd, imaging, camera
        The other parts, by default with the defaults of their classes.
    seed : int
        Seed of the run: shot, read and intensity noise, drift. The seeds of the parts determine the device itself. A
        copy of the device repeats its noise; `spawn` gives the same device other noise.
    exposure_s : float, optional
        Exposure of the camera, seconds, at most `longest_exposure_s`. If not given, 0.44 ms, or the longest if that is
        less.
    electrical_power_w : float
        Power that the whole device draws from the wall, watts.
    power_source : str
        Source of `electrical_power_w`.

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
        exposure_s: float | None = None,
        electrical_power_w: float = 40.0,
        power_source: str = "not stated",
    ) -> None:
        given = {"laser": laser, "dmd": dmd, "imaging": imaging, "camera": camera}
        parts = {name: PARTS[name]() if part is None else part for name, part in given.items()}
        super().__init__(medium=medium, seed=seed, exposure_s=exposure_s, **parts)
        if not 0 <= number(electrical_power_w) < np.inf:
            raise ValueError(f"electrical_power_w must be 0 or more, got {electrical_power_w!r}")
        self.electrical_power_w = float(electrical_power_w)
        self.power_source = str(power_source)

    def __repr__(self) -> str:
        place = "" if self.backend.on_host else f", on {self.backend.device}"
        camera = f"{self.camera.bit_depth}-bit camera, {1.0 / self.frame_period_s:g} frames/s"
        return (
            f"OPU(n_in={self.n_in}, n_out={self.n_out}, seed={self.seed}, exposure_s={self.exposure_s:.3g}; "
            f"{type(self.medium).__name__}, {camera}, {self.clock.frames} taken{place})"
        )

    def mean(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array | None = None) -> Array:
        """Mean DN of each pixel before clipping, over all noise: (batch, n_out).

        The medium and the surface of the mirrors are those of the next frame; the clock does not advance. See
        `photonics.analysis.moments`.
        """
        return moments.mean(self, patterns, exposure_s, reference_phase)

    def variance(
        self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array | None = None
    ) -> Array:
        """Temporal variance of each pixel before clipping, DN^2: (batch, n_out). See `photonics.analysis.moments`."""
        return moments.variance(self, patterns, exposure_s, reference_phase)

    def timing(self, frames: int | None = None) -> cost.Timing:
        """Seconds that `frames` frames (by default those on the clock) take on the real bench, and what limits them."""
        return cost.timing(self, self.clock.frames if frames is None else frames)

    def energy(self, frames: int | None = None) -> cost.Energy:
        """Joules that `frames` frames (by default those on the clock) cost on the real bench."""
        frames = self.clock.frames if frames is None else frames
        return cost.energy(self, frames, self.electrical_power_w, self.power_source)

    def to(self, device: str) -> "OPU":
        """Compute on "cpu", "cuda" or "cuda:1" from now on, and return frames as arrays on that device. Returns itself.

        "cuda" is the first GPU. Any other must be the current one of the thread, here and in each call that computes:
        select it by ``cupy.cuda.Device(1).use()`` or ``torch.cuda.set_device(1)``.

        Raises
        ------
        ValueError
            If there is no such device, it is a GPU other than the current one, or cupy is not installed.
        """
        backend = find_backend(device)
        backend.check_selected()
        self.backend = backend
        return self

    def autoexpose(self, target: float = 0.5, patterns: Array | None = None, *, reference_phase: Array = None) -> float:
        """Set the exposure so that the 99th percentile of the frames is at `target` of the camera's range.

        See `photonics.analysis.exposure.autoexpose`; its frames advance the clock.

        Returns
        -------
        float
            The exposure, seconds; `longest_exposure_s` if there is too little light.
        """
        return autoexpose(self, target, patterns, reference_phase=reference_phase)

    def replace(self, **changes: Any) -> "OPU":
        """Return a new device with some parts or numbers changed, its clock at zero.

        Parameters
        ----------
        **changes
            A part or a number by its name; a parameter of a part by its dotted name, as in
            ``opu.replace(**{"camera.bit_depth": 4, "imaging.reference.noise": 0.1, "medium.seed": 7})``. A table for
            the medium is that of an effect, which is put around the device's own medium, for instance
            ``opu.replace(medium={"type": "Drifting", "correlation_frames": 1e5})``; dotted names beside it change the
            medium inside.

        Raises
        ------
        ValueError
            If a name is unknown or a value out of range.
        """
        changes = change_parameters(self, changes)
        check_names(changes)
        if "electrical_power_w" in changes:
            changes = {"power_source": "not stated"} | changes
        given: dict[str, Any] = {name: getattr(self, name) for name in NAMES} | {"exposure_s": None} | changes
        other = OPU(**given)
        if "exposure_s" not in changes:
            if self.exposure_s > other.longest_exposure_s:
                raise ValueError(
                    f"exposure_s must be changed too: that of the device, {self.exposure_s:g} s, is longer than frames "
                    f"at {1.0 / other.frame_period_s:g} Hz allow, at most {other.longest_exposure_s:g} s"
                )
            other.exposure_s = self.exposure_s
        other.backend = self.backend
        seen = [(id(one.medium), one._shares, one._field, one._seen) for one in (self, other)]
        if seen[0] == seen[1]:
            other._lit = self._lit  # keeps the modes that were drawn
        return other

    def spawn(self, index: int) -> "OPU":
        """Return the same device in a run of its own: its parts, exposure and clock, and noise that no other run has.

        A copy of a device (`copy.deepcopy`, pickle, a forked process) repeats the noise of the original frame by frame.
        Give each process or thread ``opu.spawn(i)`` with another `index` instead.

        Parameters
        ----------
        index : int
            Number of the run, 0 to 2**64 - 1; each has its own `seed`, other than that of this device.
        """
        seed = draws.further_seed(self.seed, Stream.SPAWN, integer(index, "index", 0, 2**64 - 1))
        other = self.replace(seed=seed)
        other.clock.frames = self.clock.frames
        return other

    def part(self, rank: int, world: int) -> "OPU":
        """Return the same device, of whose sensor only a share of the pixels is computed.

        The parts of a world are bands of rows of the frame, as even as rows allow; their frames, joined in the order of
        the ranks, are those of this device at the same frame numbers, bit for bit. A frame of one row is cut along the
        row. A part is a device with the region of interest ``imaging.region``, so its description, its flaws and its
        noise are those of that place on the chip. Exposure and clock are copied.

        Memory and time of a part are about 1/`world` of the whole where the rows of the medium can be computed alone:
        `GaussianMedium`, stored or streamed, and the effects around it. A part of `ScatteringLayers`, and of any device
        with a pupil (``numerical_aperture``) or a creeping pattern, takes the transforms of the whole field, and
        so its time and memory. The matrix of a `MatrixMedium` stays in memory as a whole.

        Parameters
        ----------
        rank : int
            Number of the part, 0 to ``world - 1``.
        world : int
            Number of parts, at most the rows of a frame (the columns of a frame of one row).

        Raises
        ------
        ValueError
            If there are more parts than rows, or a number is out of range.

        Examples
        --------
        >>> import numpy as np
        >>> from photonics import presets
        >>> opu = presets.lab_bench(64, 100, seed=1)
        >>> parts = [opu.part(rank, 3).measure(np.ones((2, 64), bool)) for rank in range(3)]
        >>> np.array_equal(np.concatenate(parts, axis=1), opu.measure(np.ones((2, 64), bool)))
        True
        """
        world = integer(world, "world", 1)
        rank, lines = integer(rank, "rank", 0, world - 1), self.lines
        if world > lines:
            raise ValueError(
                f"world must be at most {lines}, the rows of a frame of {self.frame_shape[0]} x {self.frame_shape[1]} "
                f"pixels (imaging.sensor sets its shape), got {world}"
            )
        return self.crop(lines * rank // world, lines * (rank + 1) // world)

    @property
    def lines(self) -> int:
        """Lines into which `crop` can cut a frame: its rows, or the columns of a frame of one row."""
        rows, columns = self.frame_shape
        return columns if rows == 1 else rows

    def crop(self, first: int, stop: int) -> "OPU":
        """Return the same device, which computes only the `lines` of its frame from `first` to before `stop`."""
        first = integer(first, "first", 0, self.lines - 1)
        side, stop = self.camera.binning, integer(stop, "stop", first + 1, self.lines)
        row, rows, column, columns = self.imaging.region or (0, self.chip_shape[0], 0, self.chip_shape[1])
        if self.frame_shape[0] == 1:
            region = row, rows, column + side * first, side * (stop - first)
        else:
            region = row + side * first, side * (stop - first), column, columns
        other = self.replace(**{"imaging.region": region})
        other.clock.frames = self.clock.frames
        return other

    def to_dict(self) -> dict[str, Any]:
        """All parameters of the device in JSON types, without the state of the clock."""
        parts = {name: asdict(getattr(self, name)) for name in PARTS}
        return {name: getattr(self, name) for name in NUMBERS} | parts | {"medium": self.medium.to_dict()}

    @classmethod
    def from_dict(cls, description: Description) -> "OPU":
        """Build a device from a description; missing entries take their defaults, "none" stands for None.

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

    def to_toml(self, path: str | Path) -> None:
        """Write the device to a new TOML file that `from_toml` can read; a comment explains each parameter.

        Raises
        ------
        ValueError
            If the file exists or cannot be written, or the medium is a matrix that is not in a file.
        """
        write_toml(path, self.to_dict())

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """JSON Schema of the descriptions that `from_dict` and `from_toml` accept."""
        return device_schema()
