"""The speckle: contrast, grain, number of modes and ballistic share, from half-ON patterns."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at
from calibration.twin.parameter import CannotTell, Parameter, estimate_if_seen, jackknife, pixel_blocks
from calibration.twin.sensor import Sensor
from photonics.arrays import FloatArray, IntArray
from photonics.parts.pupil import correlation

__all__ = ["GRAIN", "MODES", "STRAIGHT", "UNITS", "Speckle", "half_on_covariance", "read_speckle", "speckle_parameters"]

CONTRAST, STRAIGHT = "speckle contrast", "medium.ratio"
GRAIN, MODES = "imaging.numerical_aperture", "imaging.polarisations"
UNITS = {CONTRAST: "", STRAIGHT: "", GRAIN: "", MODES: ""}
MAX_LAG = 3
"""Largest lag at which the shape of the autocovariance is used, pixels."""
MIN_NEIGHBOUR = 4.0
"""Standard errors of the correlation with the next pixel above which there is a pupil."""
MIN_ROWS = 8
"""Smallest number of rows and columns for the shape of a grain."""
MAX_FRAMES = 600
"""Largest number of frames that are used."""


class Speckle(NamedTuple):
    """Speckle of half-ON patterns over its mean."""

    contrast2: Estimate
    """Square of the contrast, without the noise of the camera."""
    area: float
    """Integral of the autocovariance over the lags, pixels."""
    aperture: Estimate
    """Numerical aperture; 0 if neighbouring pixels are independent, NaN if the layout of the pixels is not known."""
    straight: Estimate
    """Unscattered over scattered light."""


def read_speckle(seen: Evidence, sensor: Sensor) -> Speckle:
    """Statistics of the speckle of patterns and their complements."""
    pairs = seen.pairs()
    index = pairs[:: -(-len(pairs) // MAX_FRAMES)]
    signal = seen.of(index) - dark_at(seen, sensor, seen.main_s)
    live = sensor.live
    relative = np.where(live, signal / signal[:, live].mean(axis=1, keepdims=True) - 1.0, 0.0)
    noise = float((sensor.variance(signal[:, live]) / signal[:, live].mean(axis=1, keepdims=True) ** 2).mean())
    shape = layout(seen)
    lagged = Lagged(relative, live, shape if min(shape) >= MIN_ROWS else (1, seen.n_out), noise)
    value, error = jackknife(lagged.contrast2, lagged.blocks)
    aperture = Estimate(float("nan"), float("nan"))
    area, straight = float(value[0]), straight_of(seen, sensor, pairs)
    if min(shape) >= MIN_ROWS:
        aperture = aperture_of(seen, lagged)
        if aperture.value > 0.0 and straight.value > MIN_NEIGHBOUR * straight.error:  # neighbours share an input
            image = 2.0 * straight.value / (1.0 + straight.value) * (seen.patterns[index][:, image_of(seen)] - 0.5)
            lagged = Lagged(np.where(live, relative - image, 0.0), live, shape, noise)
            aperture = aperture_of(seen, lagged)
        area = lagged.area(lagged.covariance(np.arange(shape[0])))
    bends = error[0] * np.sqrt(2.0)  # neighbouring rows of a grain lie in different blocks
    contrast2 = Estimate(float(value[0]), float(bends if aperture.value > 0.0 else error[0]))
    return Speckle(contrast2, area, aperture, straight)


def layout(seen: Evidence) -> tuple[int, int]:
    """Rows and columns of a frame by the data sheet of the imaging; a single row if it does not say."""
    imaging = seen.parts.imaging
    try:
        return imaging.frame(seen.n_out * imaging.samples_per_pixel**2)
    except ValueError:
        return 1, seen.n_out


class Lagged:
    """Products of pixels at small distances, summed over the columns and frames, row by row."""

    def __init__(self, relative: FloatArray, live: NDArray[np.bool_], shape: tuple[int, int], noise: float) -> None:
        rows, columns = shape
        field, known = relative.reshape(-1, rows, columns), live.reshape(shape).astype(np.float64)
        reach = min(MAX_LAG, rows - 1)
        self.lags = [(y, x) for y in range(reach + 1) for x in range(-MAX_LAG, MAX_LAG + 1)]
        if rows < MIN_ROWS:
            self.lags = [(0, 0)]
        self.sums, self.counts = np.zeros((len(self.lags), rows)), np.zeros((len(self.lags), rows))
        for k, (y, x) in enumerate(self.lags):
            here, there = slice(0, rows - y), slice(y, rows)
            left, right = slice(max(0, -x), columns - max(0, x)), slice(max(0, x), columns - max(0, -x))
            self.sums[k, here] = np.einsum("brc,brc->r", field[:, here, left], field[:, there, right]) / len(field)
            self.counts[k, here] = (known[here, left] * known[there, right]).sum(axis=1)
        self.noise, self.pixels = noise, int(live.sum())
        self.zero = self.lags.index((0, 0))
        self.rows, self.columns = rows, columns
        if rows == 1:  # pixels take the place of rows
            self.sums, self.counts = (relative**2).mean(axis=0)[None, :], live[None, :].astype(np.float64)
        self.blocks = pixel_blocks(np.arange(self.sums.shape[1]))

    def covariance(self, rows: IntArray) -> NDArray[np.float64]:
        """Autocovariance at all lags without the camera's noise, over some rows: (lags,)."""
        found = self.sums[:, rows].sum(axis=1) / np.maximum(self.counts[:, rows].sum(axis=1), 1.0)
        found[self.zero] -= self.noise
        # The mean over the pixels was subtracted, which takes the mean of the autocovariance away.
        return found + self.area(found) / self.pixels

    def area(self, found: NDArray[np.float64]) -> float:
        """Integral of the autocovariance over all lags, pixels: those of rows below stand for those above, too."""
        twice = np.array([1.0 + (y > 0) for y, _ in self.lags])
        return float((twice * np.maximum(found, 0.0)).sum())

    def contrast2(self, rows: IntArray) -> NDArray[np.float64]:
        """Square of the contrast."""
        return self.covariance(rows)[[self.zero]]

    def shape(self, rows: IntArray) -> NDArray[np.float64]:
        """Correlation with the next pixels, mean of both directions."""
        found = self.covariance(rows)
        near = [self.lags.index(lag) for lag in ((0, 1), (0, -1), (1, 0))]
        return np.array([(found[near[0]] + found[near[1]] + 2.0 * found[near[2]]) / 4.0 / found[self.zero]])


def aperture_of(seen: Evidence, lagged: Lagged) -> Estimate:
    """Numerical aperture from the correlation of neighbouring pixels; 0 if they are independent."""
    (found,), (error,) = jackknife(lagged.shape, lagged.blocks)
    if found < MIN_NEIGHBOUR * error or found < 0.02:
        return Estimate(0.0, 0.0)
    apertures = np.geomspace(1e-3, 1.0, 600)
    curve = np.array([neighbour(seen, aperture) for aperture in apertures])
    falls = np.flatnonzero(np.diff(curve) < 0.0)
    last = falls[0] + np.argmin(curve[falls[0] :] > 0.02 * curve[0]) if len(falls) else len(curve) - 1
    value = float(np.interp(-found, -curve[: last + 1], apertures[: last + 1]))
    ends = np.interp(-np.array([found + error, found - error]), -curve[: last + 1], apertures[: last + 1])
    return Estimate(value, float(abs(ends[1] - ends[0])) / 2.0)


def pixel_covariance(seen: Evidence, aperture: float, lag: int) -> float:
    """Covariance of the intensity of two pixels of `samples` x `samples` points, `lag` pixels apart along one axis."""
    imaging = seen.parts.imaging
    step = imaging.pixel_m / imaging.samples
    point = np.arange(imaging.samples) * step
    along = point[:, None] - point[None, :]
    x = (along + lag * imaging.pixel_m).reshape(-1)[:, None]
    mu = correlation(imaging.pupil, aperture, seen.parts.laser.wavelength_m, x, along.reshape(-1)[None, :])
    return float(np.mean(mu**2))


def neighbour(seen: Evidence, aperture: float) -> float:
    """Correlation of the intensity of two neighbouring pixels."""
    return pixel_covariance(seen, aperture, 1) / pixel_covariance(seen, aperture, 0)


def image_of(seen: Evidence) -> IntArray:
    """Input that is imaged onto each pixel: (n_out,)."""
    return (2 * np.arange(seen.n_out) + 1) * seen.n_in // (2 * seen.n_out)


def straight_of(seen: Evidence, sensor: Sensor, pairs: IntArray) -> Estimate:
    """Unscattered over scattered light: a pixel is brighter if the input that is imaged onto it is ON."""
    frames = np.concatenate([pairs, pairs + 1])
    signal = seen.of(frames) - dark_at(seen, sensor, seen.main_s)
    on = seen.patterns[frames][:, image_of(seen)]
    lit, unlit = (signal * on).sum(axis=0), (signal * ~on).sum(axis=0)
    times = on.sum(axis=0)

    def ratio(pixels: IntArray) -> NDArray[np.float64]:
        bright = lit[pixels].sum() / times[pixels].sum()
        dim = unlit[pixels].sum() / (len(frames) - times[pixels]).sum()
        return np.array([(bright / dim - 1.0) / 2.0])

    (value,), (error,) = jackknife(ratio, pixel_blocks(sensor.pixels))
    return Estimate(float(value), float(error))


def speckle_parameters(seen: Evidence, speckle: Speckle) -> list[Parameter]:
    """Contrast, modes, aperture and ballistic share."""
    found = [Parameter(CONTRAST, "", root(speckle.contrast2), "spread of half-ON patterns over their mean")]
    how = "a pixel is brighter if the input imaged onto it is ON"
    aperture = speckle.aperture
    found.append(Parameter.find(STRAIGHT, "", how, ballistic, speckle))
    straight = found[-1].estimate.value if found[-1].known else 0.0
    share = pixel_covariance(seen, aperture.value, 0) if aperture.value > 0.0 else 1.0
    found.append(Parameter.find(GRAIN, "", "correlation of neighbouring pixels", resolved, seen, aperture))
    how = "contrast of the speckle against that of one field"
    found.append(Parameter.find(MODES, "", how, modes, speckle, share, straight))
    return found


def half_on_covariance(rho: NDArray[np.float64] | float, straight: float, fields: int) -> NDArray[np.float64]:
    """Covariance over the pixels of two frames of a half-ON pattern, over the square of their mean.

    Parameters
    ----------
    rho : float or array
        Correlation of the scattered field between the two frames; 1 gives the square of the contrast.
    straight : float
        Unscattered over scattered light r. Half of the pixels have it, since the input imaged onto them is ON.
    fields : int
        Number of equal fields that do not interfere.
    """
    kept = np.asarray(rho)
    speckle = (kept**2 + 2.0 * straight * kept) / fields
    return (speckle + straight**2) / (1.0 + straight) ** 2


def ballistic(speckle: Speckle) -> Estimate:
    """Unscattered over scattered light."""
    if speckle.aperture.value > 0.0:
        raise CannotTell("behind a pupil the image of the inputs is not known")
    return estimate_if_seen(speckle.straight.value, speckle.straight.error, "unscattered light")


def resolved(seen: Evidence, aperture: Estimate) -> Estimate:
    """Numerical aperture, if the frames show grains."""
    if not np.isfinite(aperture.value):
        raise CannotTell("the layout of the pixels is not known")
    if aperture.value == 0.0:
        least = seen.parts.laser.wavelength_m / (2.0 * seen.parts.imaging.pixel_m)
        raise CannotTell(f"neighbouring pixels are independent: it is at least {least:.2g}", least=least)
    return aperture


def root(square: Estimate) -> Estimate:
    """Square root of a positive estimate."""
    value = max(square.value, 0.0) ** 0.5
    return Estimate(value, square.error / (2.0 * max(value, 1e-9)))


def modes(speckle: Speckle, share: float, straight: float) -> Estimate:
    """Number of equal fields that do not interfere, 1 or 2, from the contrast.

    `share` is the part of its square that integration over a pixel leaves.
    """
    expected = {number: share * float(half_on_covariance(1.0, straight, number)) for number in (1, 2)}
    number = min(expected, key=lambda n: abs(np.log(max(speckle.contrast2.value, 1e-3) / expected[n])))
    apart = abs(np.log(max(speckle.contrast2.value, 1e-3) / expected[number]))
    if apart > 0.2 and apart > 4.0 * speckle.contrast2.error / speckle.contrast2.value:
        contrast = speckle.contrast2.value**0.5
        raise CannotTell(f"the contrast of {contrast:.3g} is that of neither one nor two fields")
    return Estimate(float(number), 0.0)
