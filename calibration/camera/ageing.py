"""What a projection knows of the movement of its medium, and the error that this makes."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from calibration.arrays import located
from calibration.camera.decay import STILL, Change, Speed
from calibration.device import Device, backend_of_device
from photonics.arrays import Array, BoolArray, FloatArray
from photonics.backend import HOST, Backend, backend_of
from photonics.patterns.encoding import as_rows

__all__ = ["Ageing", "Seen"]


class Seen(NamedTuple):
    """Light that a calibration has seen."""

    light_dn: FloatArray
    """Above dark, (n_out,)."""
    variance: FloatArray
    """DN^2, (n_out,)."""
    frame: int

    def part(self, rows: slice) -> Self:
        """Some rows."""
        return self._replace(light_dn=self.light_dn[rows], variance=self.variance[rows])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Ageing:
    """A map through a medium that may move away from its calibration."""

    host_fields: ClassVar[tuple[str, ...]] = ()
    """Fields whose arrays stay on the host."""

    opu: Device
    valid: BoolArray
    """Rows that can be used, shape (n_out,); the others always return 0."""
    speed: Speed = STILL
    """How fast the medium moves, as far as repeated frames of the calibration or `refresh` show it."""
    frame: int = 0
    """Number of the device's frame at which the calibration saw the medium; 0 if it did not."""

    @property
    def backend(self) -> Backend:
        """Library and place of the map's arrays."""
        return backend_of(self.valid)

    @property
    def on_device(self) -> Self:
        """The same map with its arrays where the device computes; itself if they are there. They are copied once."""
        backend = backend_of_device(self.opu)
        if self.backend == backend:
            return self
        if self._placed.get("backend") != backend:
            moved = {one.name: located(getattr(self, one.name), backend) for one in fields(self)}
            kept = {name: getattr(self, name) for name in self.host_fields}
            self._placed.update(backend=backend, map=replace(self, **(moved | kept)))
        return self._placed["map"]

    def place(self, x: Array, n_inputs: int) -> Array:
        """Vectors of shape (batch, n_inputs) where the map is; those of the host are copied."""
        return x if backend_of(x) == self.backend else self.backend.asarray(as_rows(x, n_inputs, "x"))

    def bring(self, found: Array, x: Array) -> Array:
        """Results, an array or a record of arrays, where the vectors x are."""
        return found if backend_of(x) == self.backend else located(found, HOST)

    @cached_property
    def _placed(self) -> dict[str, Any]:
        """What `on_device` returned last."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy, which places its arrays again."""
        return {name: value for name, value in self.__dict__.items() if name != "_placed"}

    @property
    def correlation(self) -> float:
        """Correlation of the medium's field now with that of the calibration, by its `speed`.

        1 if no movement is seen, NaN (unknown) if the calibration did not see the medium.
        """
        return self._correlation_since(self.frame) if self.frame else float("nan")

    @property
    def value_correlation(self) -> float:
        """Correlation of the values now with those of the calibration, without noise; 1 if it is unknown."""
        return self.correlation if self.frame else 1.0

    def moving(self, change: Change) -> Self:
        """The projection with the speed of the medium that a change of its light shows, if it shows a movement."""
        if not np.isfinite(change.correlation_frames):
            return self
        return replace(self, speed=Speed(1.0 / change.correlation_frames, 0.0))

    def _correlation_since(self, frame: int) -> float:
        """Correlation of the field now with that of a frame."""
        age = max(self.opu.clock.frames - frame, 0)
        return float(np.exp(-self.speed.rate * age)) if self.speed.moving else 1.0

    def _stale_variance(self) -> Array:
        """Squared distance of the map of now from that of the calibration, over the power of its values: (n_out,)."""
        return self.backend.zeros(self.valid.shape, "float32") + 2.0 * (1.0 - self.correlation)
