"""A device that computes elsewhere, as seen from the host, where calibration does its arithmetic."""

from typing import Any

from calibration.device import Wrapper
from photonics.backend import to_host
from photonics.patterns.encoding import as_patterns

__all__ = ["Hosted"]


class Hosted(Wrapper):
    """A device on a GPU for whatever works with patterns and frames of the host: calibration, projections, feedback.

    Patterns go to the device and frames come back, which are all that travels: the light is computed where the device
    is. So it pays for large devices, and never goes unsaid.

    Parameters
    ----------
    opu : OPU
        The device, exposed (`OPU.autoexpose`). On the host it is only passed on to.

    Examples
    --------
    >>> from calibration import Hosted, measure_projection
    >>> from photonics import presets
    >>> opu = presets.lab_bench(64, 100, seed=1)  # .to("cuda") where there is a GPU
    >>> exposure = opu.autoexpose()
    >>> measure_projection(Hosted(opu))([[0, 1] * 32]).shape
    (1, 100)
    """

    def __init__(self, opu: Any) -> None:
        super().__init__(opu)
        self._backend = opu.backend

    def measure(self, patterns: Any, exposure_s: float | None = None, *, reference_phase: Any = None) -> Any:
        """Frames of patterns, both numpy's: (batch, n_in) -> (batch, n_out)."""
        shown = self._backend.asarray(as_patterns(patterns, self.n_in))
        return to_host(self.device.measure(shown, exposure_s, reference_phase=reference_phase))

    def dark(self, count: int, exposure_s: float | None = None) -> Any:
        """Frames with the laser's shutter closed, numpy: (count, n_out)."""
        return to_host(self.device.dark(count, exposure_s))
