"""The interference term of speckle and reference behind a pupil: its correlation from pixel to pixel, for any tilt.

The term of a pixel is ``z = conj(R) y``. The speckle y of a pupil has a spectrum around frequency 0, so that z has the
same one around minus the carrier, ``(sin a_x, sin a_y) pixel / lambda`` cycles per pixel (Leith and Upatnieks, J. Opt.
Soc. Am. 52, 1123 (1962)). The phase of the correlation of neighbouring pixels, ``<conj(z_p) z_p+1>``, tells where it
is. White noise of the camera does not change it (the pulse-pair estimator: Miller and Rochwarger, IEEE Trans. Inf.
Theory 18, 588 (1972)).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from photonics.parts.imaging import Imaging
from photonics.parts.pupil import correlation

__all__ = ["NEIGHBOURS", "Optics", "fringe_contrast"]

NEIGHBOURS = np.array([[1, 0], [0, 1]])
"""The next pixel of the row and of the column, (x, y)."""
REACH = 12
"""Largest distance, pixels, at which pixels count as correlated in the error of a phase."""
STEPS = 40
"""Largest number of Newton steps from phases to a carrier."""


class Optics(NamedTuple):
    """What the interference term depends on, besides the carrier."""

    imaging: Imaging
    """Data sheet: pixels, samples and shape of the pupil."""
    wavelength_m: float
    """Metres."""
    aperture: float
    """Numerical aperture."""
    fields: int
    """Number of equal fields of the speckle, one of which interferes with the beam."""

    def covariance(self, carrier: NDArray[np.float64], lags: NDArray[np.int64]) -> NDArray[np.complex128]:
        """Mean of ``conj(z_p) z_p+lag`` over the product of both intensities, for lags (..., 2): (...).

        A pixel averages ``samples x samples`` points; two points at the distance d have ``mu(d) exp(-2 pi i carrier
        d)``, where mu is the correlation of the field.
        """
        samples = max(self.imaging.samples, 2)
        step = np.arange(1 - samples, samples)
        weight = (samples - np.abs(step)) / samples**2
        x = lags[..., 0, None, None] + step / samples
        y = lags[..., 1, None, None] + (step / samples)[:, None]
        scale = self.imaging.pixel_m
        mu = correlation(self.imaging.pupil, self.aperture, self.wavelength_m, scale * x, scale * y)
        fringes = np.exp(-2j * np.pi * (carrier[0] * x + carrier[1] * y))
        return (weight * weight[:, None] * mu * fringes).sum(axis=(-2, -1)) / self.fields

    def contrast2(self, carrier: NDArray[np.float64]) -> float:
        """Mean of ``|z|^2`` over the product of both intensities."""
        return float(self.covariance(carrier, np.zeros(2, np.int64)).real)

    def turns(self, carrier: NDArray[np.float64]) -> NDArray[np.float64]:
        """Phase of the correlation with the `NEIGHBOURS`, over minus 2 pi: (2,)."""
        return np.angle(self.covariance(carrier, NEIGHBOURS)) / (-2.0 * np.pi)

    def slope(self, carrier: NDArray[np.float64]) -> NDArray[np.float64]:
        """Derivative of `turns`: (2, 2)."""
        step = 1e-4 * np.eye(2)
        return np.stack([wrap(self.turns(carrier + d) - self.turns(carrier - d)) / 2e-4 for d in step], axis=1)

    def carrier(self, turns: NDArray[np.float64], start: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Carrier of some phases, cycles per pixel, by Newton steps from one near it; None if there is none."""
        found = start.copy()
        for _ in range(STEPS):
            left = wrap(turns - self.turns(found))
            if np.abs(left).max() < 1e-9:
                return found
            step = np.linalg.lstsq(self.slope(found), left, rcond=None)[0]
            found = found + np.clip(step, -0.1, 0.1)
        return None

    def turns_covariance(self, carrier: NDArray[np.float64], noise: float, pixels: int) -> NDArray[np.float64]:
        """Covariance of measured `turns`, (2, 2), by the finite number of grains and by white noise.

        The term is a circular Gaussian field, so that moments of four of its values are those of pairs. `noise` is the
        variance of the camera's noise over that of the term, `pixels` the number of pixels.
        """
        axis = np.arange(-REACH, REACH + 1)
        lags = np.stack(np.meshgrid(axis, axis), axis=-1)

        def at(places: NDArray[np.int64]) -> NDArray[np.complex128]:
            found = self.covariance(carrier, places) / self.contrast2(carrier)
            return found + noise * (places == 0).all(axis=-1)

        mean = at(NEIGHBOURS)
        found = np.zeros((2, 2))
        for i, a in enumerate(NEIGHBOURS):
            for j, b in enumerate(NEIGHBOURS):
                apart = (at(lags) * at(lags + b - a).conj()).sum() / (mean[i] * mean[j].conj())
                twin = (at(lags + b) * at(a - lags)).sum() / (mean[i] * mean[j])
                found[i, j] = 0.5 * (apart - twin).real / pixels / (2.0 * np.pi) ** 2
        return found

    def contrast_spread(self, carrier: NDArray[np.float64], pixels: int) -> float:
        """Relative standard error of a measured `contrast2` by the finite number of grains.

        It is a ratio of the light ``|z|^2`` of the term, in which a pixel weighs the spectrum, to that of all fields on
        the same grains; both, and what they have in common, are correlated over a grain.
        """
        samples = max(self.imaging.samples, 2)
        axis = np.arange(-REACH * samples, (REACH + 1) * samples) / samples
        term = np.stack(np.meshgrid(*[np.arange(-REACH, REACH + 1)] * 2), axis=-1)
        own = float((np.abs(self.covariance(carrier, term)) ** 2).sum()) / self.contrast2(carrier) ** 2
        step, scale = np.arange(samples) / samples, self.imaging.pixel_m
        x, y = axis[:, None] - step, (axis[:, None] - step)[:, None, :, None]
        mu = correlation(self.imaging.pupil, self.aperture, self.wavelength_m, scale * x[:, None, :], scale * y)
        wave = np.exp(2j * np.pi * (carrier[0] * step + carrier[1] * step[:, None]))
        shared = np.abs((mu * wave).mean(axis=(-2, -1))) ** 2
        light = float((mu**2).mean(axis=(-2, -1)).sum()) / samples**2 / self.fields
        common = float(shared.sum()) / samples**2 / self.contrast2(carrier) / self.fields**2
        return math.sqrt(max(own + light - 2.0 * common, 0.0) / pixels)


def wrap(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return phases, in turns, within half a turn."""
    return turns - np.round(turns)


def fringe_contrast(imaging: Imaging, wavelength_m: float, fields: int = 1) -> float:
    """Rms interference term of a pixel over the root of the product of both intensities, for a beam without stains."""
    carrier = np.array(imaging.reference.carrier(wavelength_m, imaging.pixel_m))
    if imaging.numerical_aperture is None:
        return float(np.prod(np.sinc(carrier))) / fields**0.5
    return math.sqrt(max(Optics(imaging, wavelength_m, imaging.numerical_aperture, fields).contrast2(carrier), 0.0))
