"""A device on a GPU as if it were on the host; not needed any more."""

import warnings

from calibration.device import Wrapper, show
from photonics.arrays import Array, HostArray
from photonics.backend import HOST, Backend, to_host
from photonics.opu import OPU
from photonics.patterns.encoding import as_patterns

__all__ = ["Hosted"]


class Hosted(Wrapper):
    """A device on a GPU whose patterns and frames are numpy arrays.

    .. deprecated:: 1.1
        Give the device itself to calibration and feedback: they compute where it does.

    Parameters
    ----------
    opu : OPU
        The device.
    """

    def __init__(self, opu: OPU) -> None:
        warnings.warn(
            "calibration.Hosted is deprecated: give the device itself, calibration and feedback compute where it does",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(opu)

    @property
    def backend(self) -> Backend:
        """The host."""
        return HOST

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> HostArray:
        """Frames of patterns: (batch, n_in) -> (batch, n_out)."""
        shown = as_patterns(patterns, self.n_in)
        return to_host(show(self.device, shown, exposure_s, reference_phase=reference_phase))

    def dark(self, count: int, exposure_s: float | None = None) -> HostArray:
        """Frames with the laser's shutter closed: (count, n_out)."""
        return to_host(self.device.dark(count, exposure_s))
