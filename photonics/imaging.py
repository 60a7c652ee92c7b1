"""The path from the medium to the sensor."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics.component import Field, component

__all__ = ["Imaging"]


@component
class Imaging:
    """Optics between the medium and the camera: one speckle grain per pixel, fully polarised."""

    throughput: float = Field(default=2e-7, gt=0, le=1)
    """Photon rate on the mean pixel over that on the mean lit input, all inputs ON. It stands for all losses:
    the medium scatters light over a hemisphere and a pixel takes a share near 1e-7 of it. An order of magnitude,
    chosen so that the default laser fills a pixel's well in 2 ms, all inputs ON; a bench sets its exposure to suit."""

    def intensity(self, speckle: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Photons per second on each pixel, ``throughput |E|^2``: (batch, n_out) -> (batch, n_out)."""
        parts: NDArray[Any] = np.ascontiguousarray(speckle).view(np.float32)
        power = np.square(parts).reshape(*speckle.shape, 2)
        rate = power[..., 0]
        rate += power[..., 1]
        rate *= self.throughput
        return rate
