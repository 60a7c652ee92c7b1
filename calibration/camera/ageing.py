"""What a projection knows of the movement of its medium, and the error that this makes."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from calibration.camera.decay import STILL, Change, Speed
from calibration.device import Device
from photonics.arrays import BoolArray, FloatArray

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

    opu: Device
    valid: BoolArray
    """Rows that can be used, shape (n_out,); the others always return 0."""
    speed: Speed = STILL
    """How fast the medium moves, as far as repeated frames of the calibration or `refresh` show it."""
    frame: int = 0
    """Number of the device's frame at which the calibration saw the medium; 0 if it did not."""

    @property
    def correlation(self) -> float:
        """Correlation of the medium's field now with that of the calibration, by its `speed`, or 1."""
        return self._correlation_since(self.frame)

    @property
    def value_correlation(self) -> float:
        """Correlation of the values now with those of the calibration, without noise, by `correlation`."""
        return self.correlation

    def moving(self, change: Change) -> Self:
        """The projection with the speed of the medium that a change of its light shows, if it shows a movement."""
        if not np.isfinite(change.correlation_frames):
            return self
        return replace(self, speed=Speed(1.0 / change.correlation_frames, 0.0))

    def _correlation_since(self, frame: int) -> float:
        """Correlation of the field now with that of a frame."""
        age = max(self.opu.clock.frames - frame, 0)
        return float(np.exp(-self.speed.rate * age)) if self.speed.moving else 1.0

    def _stale_variance(self) -> FloatArray:
        """Squared distance of the map of now from that of the calibration, over the power of its values: (n_out,)."""
        return np.full(len(self.valid), 2.0 * (1.0 - self.correlation), np.float32)
