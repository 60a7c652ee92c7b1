"""The camera: from photons to digital numbers, after the linear model of EMVA 1288."""

from dataclasses import fields

import numpy as np

from photonics import draws, kernels
from photonics.arrays import Array, IntArray, shape_text
from photonics.backend import HOST, backend_of
from photonics.component import component, number, shorten
from photonics.parts.chip.flaws import details_on, first_places, nonuniformity, response_on
from photonics.parts.chip.maps import read_map
from photonics.parts.chip.parameters import MAPS, CameraParameters
from photonics.parts.chip.readout import bin_pixels, expose_detailed
from photonics.parts.rounding import code_moments
from photonics.parts.sensor import Sensor, Window, expose
from photonics.random import Stream, check_seed

__all__ = ["QUANTISATION", "Camera"]

QUANTISATION = 1.0 / 12.0
"""Variance of rounding to whole DN, DN^2."""


@component
class Camera(CameraParameters):
    """Linear camera of EMVA 1288 release 4.0.

    Mean photons times quantum efficiency and PRNU give mean electrons; signal and dark current are drawn together
    (Poisson); Gaussian read noise and the fixed DSNU are added; the well clips; gain, offset, rounding and the
    range of the converter follow: ``y = clip(rint(K min(e, full_well) + offset), 0, 2**bit_depth - 1)``.

    The moments before clipping (`mean`, `variance`) are those of the rounded codes, to 0.01 DN and 0.01 DN^2 where read
    noise is half an electron or more; see `photonics.parts.rounding`. Drawn counts have a total-variation error of at
    most 5.5e-4 up to a mean of 1e4 electrons (`photonics.random.poisson`). Defaults are those of a generic CMOS at
    532 nm.

    Cameras also have what that model leaves out, all of it off by default: maps of the chip's pixels, hot pixels, noise
    of rows and columns, non-linearity and binning. With g the gain map, o the offset map, r and c the noise of the
    pixel's row and column, and a the non-linearity, ``y = rint(K g (e + a e^2 / full_well) + offset + o)`` for ``e =
    min(electrons + r + c, full_well)``. With any of them, `mean` and `variance` take shot noise as normal and the
    curve to second order.

    Flaws and noise of a pixel follow its place on the chip. Methods take the pixels that are read out as a `window`;
    without one they are pixels 0 to n_pixels - 1, the whole chip.
    """

    def __repr__(self) -> str:
        return f"Camera({', '.join(f'{field.name}={shorten(getattr(self, field.name))}' for field in fields(self))})"

    def check_window(self, window: Window, chip: tuple[int, int]) -> None:
        """Raise a ``ValueError`` if maps are not of a chip of so many rows and columns, or binning does not divide."""
        for name in MAPS:
            text = getattr(self, name)
            if text is not None and read_map(text).shape != chip:
                raise ValueError(
                    f"{name} must have the chip's {chip[0]} x {chip[1]} pixels, got {read_map(text).shape}"
                )
        if self.binning > 1:
            details_on(self, window.rows * window.columns, window, 1e-3, HOST)

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
        if self.is_detailed:
            return self._detailed_moments(photons, exposure_s, window, photon_variance)
        signal, dsnu = self._signal(photons, window)
        normal_e = 0.0 * signal + self.read_noise_e**2
        if photon_variance is not None:
            normal_e = normal_e + self._signal(backend.xp.sqrt(check_photons(photon_variance)), window)[0] ** 2
        electrons, level = signal + self.dark_electrons(exposure_s), dsnu[None, :] * self.gain + self.offset
        return code_moments(electrons, normal_e * self.gain**2, level, self.gain, backend)

    def _detailed_moments(
        self, photons: Array, exposure_s: float, window: Window | None, photon_variance: Array
    ) -> tuple[Array, Array]:
        """Moments with all details: shot noise taken as normal, the curve to second order."""
        backend = backend_of(photons)
        d, dsnu = details_on(self, photons.shape[1], window, exposure_s, backend)
        shape = len(d.rows), len(d.columns)

        def binned(light: Array) -> Array:
            return bin_pixels(self._signal(light, window)[0], shape, d.binning, backend.xp)

        electrons = binned(photons) + d.dark_e[None, :]
        spread = electrons + (self.read_noise_e**2 + self.row_noise_e**2 + self.column_noise_e**2)
        if photon_variance is not None:
            spread = spread + binned(backend.xp.sqrt(check_photons(photon_variance))) ** 2
        level, bend = electrons + dsnu[None, :], self.nonlinearity / self.full_well_e
        middle = (level + bend * (level**2 + spread)) * d.gain[None, :] + d.offset_dn[None, :]
        normal = spread * ((1.0 + 2.0 * bend * level) * d.gain[None, :]) ** 2
        return code_moments(0.0 * normal, normal, middle, 1e-9, backend)

    def signal(self, photons: Array, window: Window | None = None) -> Array:
        """Mean DN due to light, ``K QE PRNU mu_p``, of pixels of the chip: (batch, n_pixels), linear in the photons."""
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
            Digital numbers; n_pixels / binning^2 of them.

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
        if self.is_detailed:
            details, offset_e = details_on(self, photons.shape[1], window, exposure_s, backend)
            sensor = sensor._replace(places=first_places(self, photons.shape[1], window, backend), offset_e=offset_e)
            return expose_detailed(backend, photons, ticks, noise, sensor, details, np.dtype(self.dtype).name)
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
    if not kernels.cpu.finite_and_not_negative(array.reshape(-1)):
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
