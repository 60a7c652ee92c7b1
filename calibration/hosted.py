"""A device on a GPU, for calibration on the host."""

from calibration.device import Wrapper
from photonics.arrays import Array, HostArray
from photonics.backend import HOST, Backend, to_host
from photonics.opu import OPU
from photonics.patterns.encoding import as_patterns

__all__ = ["Hosted"]


class Hosted(Wrapper):
    """A device on a GPU whose patterns and frames are numpy arrays, as calibration, projections and feedback use them.

    The light is computed on the GPU; only patterns and frames are copied. This is worthwhile for large devices.

    Parameters
    ----------
    opu : OPU
        The device, its exposure set (`OPU.autoexpose`). A device on the host works as well, without any copies.

    Examples
    --------
    >>> from calibration import Hosted, measure_projection
    >>> from photonics import presets
    >>> opu = presets.lab_bench(64, 100, seed=1)  # .to("cuda") where there is a GPU
    >>> exposure = opu.autoexpose()
    >>> measure_projection(Hosted(opu))([[0, 1] * 32]).shape
    (1, 100)
    """

    def __init__(self, opu: OPU) -> None:
        super().__init__(opu)
        self._backend = opu.backend

    @property
    def backend(self) -> Backend:
        """The host."""
        return HOST

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> HostArray:
        """Frames of patterns: (batch, n_in) -> (batch, n_out)."""
        shown = self._backend.asarray(as_patterns(patterns, self.n_in))
        return to_host(self.device.measure(shown, exposure_s, reference_phase=reference_phase))

    def dark(self, count: int, exposure_s: float | None = None) -> HostArray:
        """Frames with the laser's shutter closed: (count, n_out)."""
        return to_host(self.device.dark(count, exposure_s))
