"""The camera: from photons to digital numbers, after the linear model of EMVA 1288."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photonics import draws
from photonics.backend import Backend, backend_of
from photonics.component import Field, component, number
from photonics.parts.sensor import Sensor, expose
from photonics.random import Stream

__all__ = ["Camera"]

QUANTISATION = 1.0 / 12.0
"""Variance of rounding to whole DN, DN^2."""
DOUBLING_K = 8.0
"""Warming that doubles the dark current, kelvin."""


@component
class Camera:
    """Linear camera of EMVA 1288 release 4.0.

    Mean photons times quantum efficiency and PRNU give mean electrons; signal and dark current are drawn together
    (Poisson); Gaussian read noise and the fixed DSNU are added; the well clips; gain, offset, rounding and the
    range of the converter follow: ``y = clip(rint(K min(e, full_well) + offset), 0, 2**bit_depth - 1)``.

    The moments before clipping are exact (`mean`, `variance`). Counts are drawn to a total-variation error
    of 5.5e-4 up to a mean of 1e4 electrons (`photonics.random.poisson`).
    Defaults are those of a generic CMOS at 532 nm.
    """

    bit_depth: int = Field(default=8, ge=1, le=16)
    """Bits per pixel; frames are uint8 up to 8 bits, uint16 above."""

    quantum_efficiency: float = Field(default=0.6, gt=0, le=1)
    """Mean electrons per photon (generic CMOS at 532 nm)."""

    full_well_e: float = Field(default=10_000.0, gt=0)
    """Electrons at which a pixel saturates (generic CMOS, 5.5 um pixel)."""

    gain_dn_per_e: float | None = Field(default=None, gt=0)
    """Overall system gain K, DN per electron; None maps the full well onto the last code (see `gain`)."""

    offset_dn: float | None = Field(default=None, ge=0)
    """Level of a dark pixel, DN; None takes 1/128 of the range, 2 DN at 8 bits (see `offset`)."""

    read_noise_e: float = Field(default=2.5, ge=0)
    """Temporal read noise, electrons rms (generic CMOS)."""

    dark_current_e_per_s: float = Field(default=15.0, ge=0)
    """Mean dark current at the reference temperature, electrons per second (generic CMOS)."""

    warming_k: float = Field(default=0.0, ge=-60, le=60)
    """Sensor temperature above that of `dark_current_e_per_s`, kelvin; the current doubles every 8 K."""

    prnu: float = Field(default=0.01, ge=0, le=0.2)
    """Photo-response non-uniformity, relative standard deviation over pixels (1 %)."""

    dsnu_e: float = Field(default=1.0, ge=0)
    """Dark-signal non-uniformity, electrons standard deviation over pixels (1 to 2 e-)."""

    dead_pixels: float = Field(default=0.0, ge=0, le=1)
    """Share of pixels that do not respond to light (0; what counts as a defect pixel EMVA 1288 leaves to the user, and
    a good sensor has 1e-5 of them or fewer: an estimate). They show dark current, DSNU and read noise only."""

    frame_rate_hz: float = Field(default=1000.0, gt=0, le=1e6)
    """Highest frame rate, Hz (a CMOS of this kind on a region of interest); the slower of camera and mirrors leads."""

    seed: int = Field(default=0, ge=0, lt=2**64)
    """Which sensor it is: draws PRNU, DSNU and the dead pixels, and the noise where no other seed is given."""

    def __post_init__(self) -> None:
        if self.offset >= self.top:
            raise ValueError(f"offset_dn must be under the last code {self.top}, got {self.offset_dn}")

    @property
    def top(self) -> int:
        """Largest digital number, ``2**bit_depth - 1``."""
        return 2**self.bit_depth - 1

    @property
    def offset(self) -> float:
        """Offset in force, DN: `offset_dn`, or 1/128 of the range."""
        return 2.0**self.bit_depth / 128.0 if self.offset_dn is None else self.offset_dn

    @property
    def gain(self) -> float:
        """Gain in force, DN per electron: `gain_dn_per_e`, or that which puts the full well on the last code."""
        if self.gain_dn_per_e is not None:
            return self.gain_dn_per_e
        return (self.top - self.offset) / self.full_well_e

    @property
    def saturation_dn(self) -> int:
        """Digital number of a saturated pixel: of a full well, or the last code if that comes first."""
        return int(min(self.top, round(self.gain * self.full_well_e + self.offset)))

    @property
    def dtype(self) -> Any:
        """Type of the frames: uint8 up to 8 bits, uint16 above."""
        return np.uint8 if self.bit_depth <= 8 else np.uint16

    def dark_electrons(self, exposure_s: float) -> float:
        """Mean dark electrons in an exposure, ``mu_I t``."""
        return self.dark_current_e_per_s * 2.0 ** (self.warming_k / DOUBLING_K) * exposure_s

    def mean(self, photons: Any, exposure_s: float) -> Any:
        """Mean DN of each pixel before clipping, ``offset + K (QE PRNU mu_p + mu_I t + DSNU)``: (batch, n_pixels)."""
        photons, exposure_s = check_photons(photons), check_seconds(exposure_s)
        signal, dsnu = self._signal(photons)
        return (signal + self.dark_electrons(exposure_s) + dsnu) * self.gain + self.offset

    def variance(self, photons: Any, exposure_s: float) -> Any:
        """Temporal variance before clipping, DN^2: ``K^2 (QE PRNU mu_p + mu_I t + sigma_d0^2) + 1/12``."""
        photons, exposure_s = check_photons(photons), check_seconds(exposure_s)
        signal, _ = self._signal(photons)
        return (signal + self.dark_electrons(exposure_s) + self.read_noise_e**2) * self.gain**2 + QUANTISATION

    def signal(self, photons: Any) -> Any:
        """Mean DN that light adds to a pixel, ``K QE PRNU mu_p``: (batch, n_pixels), linear in the photons."""
        return self._signal(check_photons(photons))[0] * self.gain

    def _signal(self, photons: Any) -> tuple[Any, Any]:
        """Mean electrons by light, ``QE PRNU mu_p``, and DSNU, float64 where the photons are."""
        backend = backend_of(photons)
        prnu, dsnu = (backend.asarray(part.astype(np.float64)) for part in nonuniformity(self, photons.shape[1]))
        return backend.xp.astype(photons, backend.xp.float64) * prnu * self.quantum_efficiency, dsnu

    def expose(self, photons: Any, exposure_s: float, ticks: Any, seed: int | None = None) -> NDArray[Any]:
        """Frames for the given mean photons.

        Parameters
        ----------
        photons : array_like of real, shape (batch, n_pixels)
            Mean photons on each pixel during the exposure; on a device, its frames stay there.
        exposure_s : float
            Exposure, seconds; it sets the dark electrons.
        ticks : array_like of int, shape (batch,)
            Frame numbers, 0 or more; the same number gives the same noise.
        seed : int, optional
            Seed of the noise; the camera's own if not given. PRNU and DSNU always follow the camera's.

        Returns
        -------
        ndarray of uint8 or uint16, shape (batch, n_pixels)
            Digital numbers.

        Raises
        ------
        ValueError
            If a shape is wrong, a mean is negative or not finite, or the exposure is not positive.
        """
        photons, exposure_s = check_photons(photons), check_seconds(exposure_s)
        ticks = check_ticks(ticks, photons.shape[0])
        backend = backend_of(photons)
        response, dsnu = response_on(self, photons.shape[1], backend)
        numbers = [self.dark_electrons(exposure_s), self.read_noise_e, self.full_well_e]
        sensor = Sensor(response, dsnu, *np.asarray([*numbers, self.gain, self.offset, self.top], np.float32))
        seed = self.seed if seed is None else seed
        return expose(backend, photons, ticks, seed, sensor, np.dtype(self.dtype).name)


def check_photons(photons: Any) -> Any:
    """Mean photons as float32, (batch, n_pixels), of their own library, or say what is wrong with them."""
    backend = backend_of(photons)
    if not backend.on_host:  # its values are not looked at: that would wait for the device
        if photons.ndim != 2 or not backend.xp.isdtype(photons.dtype, "real floating"):
            raise ValueError(f"photons must be real, (batch, n_pixels), got {photons.shape}, dtype {photons.dtype}")
        return backend.xp.astype(photons, backend.xp.float32, copy=False)
    array = np.asarray(photons)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"photons must be real, of shape (batch, n_pixels), got shape {array.shape}, dtype {array.dtype}"
        )
    array = np.ascontiguousarray(array, np.float32)
    if array.size and not (array.min() >= 0 and np.isfinite(array.max())):
        raise ValueError("photons must be finite and not negative, got NaN, infinity or a negative mean")
    return array


def check_seconds(exposure_s: Any) -> float:
    """An exposure as a positive float, or say what is wrong with it."""
    if not 0 < number(exposure_s) < np.inf:
        raise ValueError(f"exposure_s must be positive, got {exposure_s!r}")
    return float(exposure_s)


def check_ticks(ticks: Any, count: int) -> NDArray[np.int64]:
    """Frame numbers as int64, (count,), or say what is wrong with them."""
    array = np.ascontiguousarray(ticks)
    whole = array.shape == (count,) and array.dtype.kind in "iu"
    if not whole or (count and not 0 <= int(array.min()) <= int(array.max()) < 2**63):
        raise ValueError(f"ticks must be {count} integers from 0 to 2**63 - 1, got {np.asarray(ticks)!r:.60}")
    return array.astype(np.int64, copy=False)


@lru_cache(maxsize=8)
def nonuniformity(camera: Camera, pixels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Relative response (PRNU, at least 0; 0 if dead) and dark offset (DSNU, electrons) of each pixel; read-only."""
    index = np.arange(pixels)
    prnu = np.maximum(1.0 + camera.prnu * draws.normals(camera.seed, Stream.PRNU, index), 0.0)
    if camera.dead_pixels:
        prnu = prnu * (draws.uniforms(camera.seed, Stream.DEAD_PIXEL, index) >= camera.dead_pixels)
    dsnu = camera.dsnu_e * draws.normals(camera.seed, Stream.DSNU, index)
    prnu, dsnu = prnu.astype(np.float32), dsnu.astype(np.float32)
    prnu.flags.writeable = dsnu.flags.writeable = False
    return prnu, dsnu


@lru_cache(maxsize=8)
def response_on(camera: Camera, pixels: int, backend: Backend) -> tuple[Any, Any]:
    """Mean electrons per photon and DSNU of each pixel, float32 (pixels,) on a backend."""
    prnu, dsnu = nonuniformity(camera, pixels)
    response = (camera.quantum_efficiency * prnu).astype(np.float32)
    return backend.asarray(response), backend.asarray(dsnu)
