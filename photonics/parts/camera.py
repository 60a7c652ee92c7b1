"""The camera: from photons to digital numbers, after the linear model of EMVA 1288."""

from functools import lru_cache

import numpy as np

from photonics import draws
from photonics.arrays import Array, FloatArray, IntArray, shape_text
from photonics.backend import Backend, backend_of
from photonics.component import Field, Seed, component, number
from photonics.parts.rounding import code_moments
from photonics.parts.sensor import Sensor, Window, expose
from photonics.random import Stream, check_seed

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

    The moments before clipping (`mean`, `variance`) are those of the rounded codes, to 0.01 DN and 0.01 DN^2 where read
    noise is half an electron or more; see `photonics.parts.rounding`. Drawn counts have a total-variation error of at
    most 5.5e-4 up to a mean of 1e4 electrons (`photonics.random.poisson`). Defaults are those of a generic CMOS at
    532 nm.

    Flaws and noise of a pixel follow its place on the chip. Methods take the pixels that are read out as a `window`;
    without one they are pixels 0 to n_pixels - 1, the whole chip.
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
    """Share of pixels that do not respond to light (0; a good sensor has 1e-5 or fewer, an estimate: EMVA 1288 leaves
    the definition of a defect pixel to the user). They show dark current, DSNU and read noise only."""

    frame_rate_hz: float = Field(default=1000.0, gt=0, le=1e6)
    """Highest frame rate, Hz (such a CMOS with a region of interest); the slower of camera and mirrors counts."""

    seed: Seed = 0
    """Identity of the sensor: seed of PRNU, DSNU and dead pixels, and with the seed of the run that of the noise."""

    def __post_init__(self) -> None:
        if self.offset >= self.top:
            raise ValueError(f"offset_dn must be under the last code {self.top}, got {self.offset_dn}")

    @property
    def top(self) -> int:
        """Largest digital number, ``2**bit_depth - 1``."""
        return 2**self.bit_depth - 1

    @property
    def offset(self) -> float:
        """Offset in use, DN: `offset_dn`, or 1/128 of the range."""
        return 2.0**self.bit_depth / 128.0 if self.offset_dn is None else self.offset_dn

    @property
    def gain(self) -> float:
        """Gain in use, DN per electron: `gain_dn_per_e`, or the gain that maps the full well onto the last code."""
        if self.gain_dn_per_e is not None:
            return self.gain_dn_per_e
        return (self.top - self.offset) / self.full_well_e

    @property
    def saturation_dn(self) -> int:
        """Digital number of a saturated pixel: that of a full well or the last code, whichever is lower."""
        return int(min(self.top, round(self.gain * self.full_well_e + self.offset)))

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Type of the frames: uint8 up to 8 bits, uint16 above."""
        return np.uint8 if self.bit_depth <= 8 else np.uint16

    def dark_electrons(self, exposure_s: float) -> float:
        """Mean dark electrons in an exposure, ``mu_I t``."""
        return self.dark_current_e_per_s * 2.0 ** (self.warming_k / DOUBLING_K) * exposure_s

    def mean(
        self, photons: Array, exposure_s: float, window: Window | None = None, photon_variance: Array = None
    ) -> Array:
        """Mean code of each pixel before clipping, DN: (batch, n_pixels).

        It is ``offset + K (QE PRNU mu_p + mu_I t + DSNU)`` where the noise is over 0.4 DN. Where it is less, rounding
        shifts it by up to half a DN.

        Parameters
        ----------
        photons, exposure_s, window
            As for `expose`.
        photon_variance : array_like of real, shape (batch, n_pixels), optional
            Variance of the mean photons from frame to frame (of a laser), taken as normal; 0 if not given.
        """
        return self._moments(photons, exposure_s, window, photon_variance)[0]

    def variance(
        self, photons: Array, exposure_s: float, window: Window | None = None, photon_variance: Array = None
    ) -> Array:
        """Temporal variance of the codes of each pixel before clipping, DN^2: (batch, n_pixels).

        It is ``K^2 (QE PRNU mu_p + mu_I t + sigma_d0^2 + (QE PRNU)^2 photon_variance) + 1/12`` where the noise is over
        0.4 DN. Where it is less, rounding makes it less or more. The arguments are those of `mean`.
        """
        return self._moments(photons, exposure_s, window, photon_variance)[1]

    def _moments(
        self, photons: Array, exposure_s: float, window: Window | None, photon_variance: Array
    ) -> tuple[Array, Array]:
        photons, exposure_s = check_photons(photons), check_seconds(exposure_s)
        backend = backend_of(photons)
        signal, dsnu = self._signal(photons, window)
        normal_e = 0.0 * signal + self.read_noise_e**2
        if photon_variance is not None:
            normal_e = normal_e + self._signal(backend.xp.sqrt(check_photons(photon_variance)), window)[0] ** 2
        electrons, level = signal + self.dark_electrons(exposure_s), dsnu[None, :] * self.gain + self.offset
        return code_moments(electrons, normal_e * self.gain**2, level, self.gain, backend)

    def signal(self, photons: Array, window: Window | None = None) -> Array:
        """Mean DN due to light, ``K QE PRNU mu_p``: (batch, n_pixels), linear in the photons."""
        return self._signal(check_photons(photons), window)[0] * self.gain

    def _signal(self, photons: Array, window: Window | None) -> tuple[Array, Array]:
        """Mean electrons due to light, ``QE PRNU mu_p``, and DSNU, in float64 and the library of the photons."""
        backend = backend_of(photons)
        flaws = nonuniformity(self, photons.shape[1], window)
        prnu, dsnu = (backend.asarray(part.astype(np.float64)) for part in flaws)
        return backend.xp.astype(photons, backend.xp.float64) * prnu * self.quantum_efficiency, dsnu

    def expose(
        self,
        photons: Array,
        exposure_s: float,
        ticks: Array,
        seed: int | None = None,
        window: Window | None = None,
    ) -> Array:
        """Frames for the given mean photons.

        Parameters
        ----------
        photons : array_like of real, shape (batch, n_pixels)
            Mean photons on each pixel during the exposure. Frames stay on the device of the photons.
        exposure_s : float
            Exposure, seconds; it sets the dark electrons.
        ticks : array_like of int, shape (batch,)
            Frame numbers, 0 or more; the same number gives the same noise.
        seed : int, optional
            Seed of the run; `seed` of the camera if not given. The noise follows both, so that two cameras of a run do
            not share it; PRNU and DSNU follow the camera alone.
        window : Window, optional
            The pixels on the chip; flaws and noise of a pixel follow its place there. Pixels 0 to n_pixels - 1 if not
            given.

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
        arrays = response_on(self, photons.shape[1], window, backend)
        numbers = [self.dark_electrons(exposure_s), self.read_noise_e, self.full_well_e]
        sensor = Sensor(*arrays, *np.asarray([*numbers, self.gain, self.offset, self.top], np.float32))
        noise = noise_seed(self.seed if seed is None else seed, self.seed)
        return expose(backend, photons, ticks, noise, sensor, np.dtype(self.dtype).name)


def noise_seed(run: int, camera: int) -> int:
    """Seed of the noise of a camera in a run, another one for each pair; of equal seeds it is that seed itself."""
    run = check_seed(run)
    return run if run == camera else draws.further_seed(run, Stream.NOISE_SEED, camera)


def check_photons(photons: Array) -> Array:
    """Return mean photons as float32, (batch, n_pixels), of their own library, or raise a ``ValueError``."""
    backend = backend_of(photons)
    if not backend.on_host:  # no check of values, which would wait for the device
        if photons.ndim != 2 or not backend.xp.isdtype(photons.dtype, "real floating"):
            raise ValueError(f"photons must be real, (batch, n_pixels), got {photons.shape}, dtype {photons.dtype}")
        return backend.xp.astype(photons, backend.xp.float32, copy=False)
    array = np.asarray(photons)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"photons must be real, of shape (batch, n_pixels), got {shape_text(photons, array)}, dtype {array.dtype}"
        )
    array = np.ascontiguousarray(array, np.float32)
    if array.size and not (array.min() >= 0 and np.isfinite(array.max())):
        raise ValueError("photons must be finite and not negative, got NaN, infinity or a negative mean")
    return array


def check_seconds(exposure_s: object) -> float:
    """Return an exposure as a positive float, or raise a ``ValueError``."""
    if not 0 < number(exposure_s) < np.inf:
        raise ValueError(f"exposure_s must be positive, got {exposure_s!r}")
    return number(exposure_s)


def check_ticks(ticks: Array, count: int) -> IntArray:
    """Return frame numbers as int64, (count,), or raise a ``ValueError``."""
    array = np.ascontiguousarray(ticks)
    whole = array.shape == (count,) and array.dtype.kind in "iu"
    if not whole or (count and not 0 <= int(array.min()) <= int(array.max()) < 2**63):
        raise ValueError(f"ticks must be {count} integers from 0 to 2**63 - 1, got {np.asarray(ticks)!r:.60}")
    return array.astype(np.int64, copy=False)


def places(pixels: int, window: Window | None) -> IntArray:
    """Numbers of the pixels on the chip, (pixels,), or raise a ``ValueError`` if the window has another size."""
    numbers = np.arange(pixels) if window is None else window.places()
    if numbers.size != pixels:
        raise ValueError(f"photons must have {numbers.size} pixels, as the window has, got {pixels}")
    return numbers


@lru_cache(maxsize=8)
def nonuniformity(camera: Camera, pixels: int, window: Window | None) -> tuple[FloatArray, FloatArray]:
    """Relative response (PRNU, 0 for dead pixels) and dark offset (DSNU, electrons) of each pixel; read-only."""
    index = places(pixels, window)
    prnu = np.maximum(1.0 + camera.prnu * draws.normals(camera.seed, Stream.PRNU, index), 0.0)
    if camera.dead_pixels:
        prnu = prnu * (draws.uniforms(camera.seed, Stream.DEAD_PIXEL, index) >= camera.dead_pixels)
    dsnu = camera.dsnu_e * draws.normals(camera.seed, Stream.DSNU, index)
    prnu, dsnu = prnu.astype(np.float32), dsnu.astype(np.float32)
    prnu.flags.writeable = dsnu.flags.writeable = False
    return prnu, dsnu


@lru_cache(maxsize=8)
def response_on(camera: Camera, pixels: int, window: Window | None, backend: Backend) -> tuple[Array, Array, Array]:
    """Place (uint32), mean electrons per photon and DSNU (float32) of each pixel, (pixels,) on a backend."""
    prnu, dsnu = nonuniformity(camera, pixels, window)
    response = (camera.quantum_efficiency * prnu).astype(np.float32)
    return backend.asarray(places(pixels, window).astype(np.uint32)), backend.asarray(response), backend.asarray(dsnu)
