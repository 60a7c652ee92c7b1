"""Photon transfer of a camera: gain, quantum efficiency and noise from frames of known, uniform light (EMVA 1288)."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calibration.camera.dark_current import dark_current
from calibration.camera.datasheet import decibel, saturation_e, sensitivity_threshold
from calibration.camera.estimate import HIDDEN, Estimate, share_of
from calibration.camera.pixels import Defects, find_defects, is_bright_in_dark, nonuniformity
from calibration.device import Device
from photonics import Camera
from photonics.arrays import BoolArray, HostArray, Shapes
from photonics.parts.camera import QUANTISATION

__all__ = ["PhotonTransfer", "UniformLight", "UniformSource", "photon_transfer", "uniform_light"]

MIN_DARK_NOISE_DN = 0.5
"""Smallest dark noise that quantisation does not hide, DN; EMVA 1288 requires at least this."""
STACK = 32
"""Frames in each of the two stacks from which the pixels are compared."""


@runtime_checkable
class UniformSource(Protocol):
    """A camera in front of uniform light of known strength."""

    @property
    def camera(self) -> Camera:
        """The camera's data sheet."""
        ...

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> HostArray:
        """Frames at a number of photons per pixel and exposure: (count, pixels)."""
        ...


class UniformLight:
    """A simulated camera in front of uniform light. Its frames are numbered from 0."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.ticks = camera, 0

    def uniform(self, photons: float, exposure_s: float, count: int, pixels: int) -> HostArray:
        """Frames at a number of photons per pixel and exposure: (count, pixels)."""
        each = self.camera.binning**2
        light = np.full((count, each * pixels), photons / each, np.float32)
        ticks = np.arange(self.ticks, self.ticks + count)
        self.ticks += count
        return self.camera.expose(light, exposure_s, ticks)


def uniform_light(source: Camera | Device | UniformSource) -> UniformSource:
    """Put a camera, or that of a device, in front of simulated uniform light; return a `UniformSource` unchanged."""
    if isinstance(source, UniformSource):
        return source
    return UniformLight(source if isinstance(source, Camera) else source.camera)


@dataclass(frozen=True, eq=False, repr=False)
class PhotonTransfer(Shapes):
    """Photon transfer curve and the camera's figures from it; curve arrays have one entry for each light level."""

    photons: NDArray[np.float64]
    """Mean photons per pixel."""
    signal_dn: NDArray[np.float64]
    """Mean above dark, DN."""
    variance_dn2: NDArray[np.float64]
    """Temporal variance, DN^2."""
    fitted: BoolArray
    """Whether a level is used in the fits: below 70 % of saturation, with noise of half a code or more."""
    gain: Estimate
    """Overall system gain K, DN per electron."""
    quantum_efficiency: Estimate
    """Electrons per photon."""
    read_noise_e: Estimate
    """Temporal dark noise, excluding the shot noise of the dark current, electrons rms."""
    dark_current_e_per_s: Estimate
    """Dark current, electrons per second."""
    linearity_error: Estimate
    """Mean absolute deviation from the straight line, relative, over 5 to 95 % of the level of the highest variance."""
    saturation_e: Estimate
    """Mean electrons in a saturated pixel."""
    prnu: Estimate
    """Photo response non-uniformity, relative."""
    dsnu_e: Estimate
    """Dark signal non-uniformity, electrons rms."""
    dark_variance_dn2: float
    """Temporal variance of dark frames, with that of rounding, DN^2."""
    threshold_photons: Estimate
    """Absolute sensitivity threshold: photons at which the signal equals the noise."""
    dynamic_range_db: Estimate
    """Photons of saturation over those of the threshold, dB."""
    deviation: NDArray[np.float64]
    """Relative deviation from the straight line; NaN outside 5 to 95 % of the level of the highest variance."""
    dead: Estimate
    """Share of dead pixels, which are left out of all other figures, as hot ones are (`calibration.camera.pixels`)."""
    hot: Estimate
    """Share of hot pixels, which are bright in the dark at `exposure_s` or on average over the long exposures."""
    dark_s: float
    """Mean of the long exposures in the dark, seconds."""
    exposure_s: float
    """Exposure of the light levels, seconds."""
    frames: int
    """Number of frames taken."""


def photon_transfer(
    source: Camera | Device | UniformSource, pixels: int = 16_384, levels: int = 24, exposure_s: float = 1e-3
) -> PhotonTransfer:
    """Measure a camera in front of a uniform source of known photon number, by EMVA 1288.

    Parameters
    ----------
    source : Camera, Device or UniformSource
        A camera, or a device with one, which is simulated in front of uniform light; or a source with the method
        ``uniform(photons, exposure_s, count, pixels)``, such as a bench or a recording. The data sheet is used only to
        choose the range of light levels.
    pixels : int
        Number of pixels that are read; at most those of a chip whose maps are known.
    levels : int
        Light levels from 1 % to 120 % of saturation, two frames each.
    exposure_s : float
        Exposure of the light levels, seconds.

    Notes
    -----
    Gain is the slope of variance against mean, ``s^2 = K^2 sigma_d^2 + 1/12 + K mu`` [1]_. Quantum efficiency is the
    slope of mean against photons, divided by K. Dark noise is measured in dark frames. If it is below half a code,
    quantisation hides it, and read noise and DSNU are NaN. Dead and hot pixels are left out.

    References
    ----------
    .. [1] EMVA Standard 1288, release 4.0 Linear, 2021: photon transfer and spatial non-uniformity.
    """
    source = uniform_light(source)
    camera = source.camera
    pixels = min(pixels, camera.mapped_pixels or pixels)
    full = saturation_e(camera) / camera.quantum_efficiency
    photons = np.concatenate([np.linspace(0.01, 0.9, levels - 3), [1.0, 1.1, 1.2]]) * full
    shots = take_shots(source, photons, 0.5 * full, exposure_s, pixels)
    defects = all_defects(shots, camera.saturation_dn - camera.offset)
    return analyse(shots.without(~defects.good), photons, exposure_s, defects)


class Shots(NamedTuple):
    """Frames of a photon transfer, DN: pairs (2, n_pixels) and stacks (`STACK`, n_pixels)."""

    dark: NDArray[np.float64]
    """A pair in the dark."""
    pairs: list[NDArray[np.float64]]
    """A pair at each level of light."""
    light: NDArray[np.float64]
    """A stack at half of saturation."""
    unlit: NDArray[np.float64]
    """A stack in the dark."""
    series: list[tuple[float, NDArray[np.float64]]]
    """Pairs in the dark, with their exposures in seconds."""
    taken: int
    """Number of frames."""

    def without(self, bad: BoolArray) -> "Shots":
        """These frames without some pixels; unchanged if no pixel, or every pixel, is bad."""
        if bad.all() or not bad.any():
            return self
        pairs, series = [pair[:, ~bad] for pair in self.pairs], [(time, pair[:, ~bad]) for time, pair in self.series]
        return Shots(self.dark[:, ~bad], pairs, self.light[:, ~bad], self.unlit[:, ~bad], series, self.taken)


def take_shots(
    source: UniformSource, photons: NDArray[np.float64], half: float, exposure_s: float, pixels: int
) -> Shots:
    """Take the frames of a photon transfer; exposures in the dark go up to 20 s or half of saturation."""
    count = 0

    def take(level: float, seconds: float, number: int = 2) -> NDArray[np.float64]:
        nonlocal count
        count += number
        return np.asarray(source.uniform(level, seconds, number, pixels)).astype(np.float64)

    dark, *pairs = (take(level, exposure_s) for level in (0.0, *photons))
    light, unlit = (take(level, exposure_s, STACK) for level in (half, 0.0))
    camera = source.camera
    longest_s = min(20.0, 0.5 * saturation_e(camera) / max(camera.dark_electrons(1.0), 1e-9))
    series = [(float(time), take(0.0, time)) for time in np.linspace(0.5, 1.0, 6) * longest_s]
    return Shots(dark, pairs, light, unlit, series, count)


def all_defects(shots: Shots, range_dn: float) -> Defects:
    """Dead and hot pixels; the current of hot ones shows in the long exposures."""
    found = find_defects(shots.light, shots.unlit, range_dn)
    hot = found.hot | is_bright_in_dark(np.concatenate([pair for _, pair in shots.series]), range_dn)
    return Defects(found.dead & ~hot, hot)


def analyse(shots: Shots, photons: NDArray[np.float64], exposure_s: float, defects: Defects) -> PhotonTransfer:
    """Figures of a camera from frames without defect pixels."""
    kept, pixels = shots.light.shape[1], defects.good.size
    (dark, dark_variance), *moments = (pair_moments(pair) for pair in (shots.dark, *shots.pairs))
    signal, variance = np.array(moments).T - np.array([[dark], [0.0]])
    saturation = signal.max()
    below = signal < 0.7 * saturation
    fitted = below & (variance > MIN_DARK_NOISE_DN**2 + QUANTISATION)
    gain = fit_gain(signal[fitted], variance[fitted], kept)
    slope = float(np.sum(signal[below]) / np.sum(photons[below])) if below.any() else np.nan
    efficiency = Estimate(slope / gain.value, slope / gain.value * gain.error / gain.value)
    saturated = Estimate(float(saturation / gain.value), float(saturation * gain.error / gain.value**2))
    prnu, dsnu = nonuniformity(shots.light, shots.unlit, gain.value)
    current = dark_current(shots.series, gain)
    hidden = np.sqrt(max(dark_variance - QUANTISATION, 0.0)) < MIN_DARK_NOISE_DN
    threshold = threshold_of(dark_variance, gain, efficiency, kept)
    deviation = linearity(photons, signal, variance)
    return PhotonTransfer(
        photons=photons,
        signal_dn=signal,
        variance_dn2=variance,
        fitted=fitted,
        gain=gain,
        quantum_efficiency=efficiency,
        read_noise_e=HIDDEN if hidden else read_noise(dark_variance, gain, current.value * exposure_s, kept),
        dark_current_e_per_s=current,
        linearity_error=linearity_error(deviation, signal, variance, kept),
        saturation_e=saturated,
        prnu=prnu,
        dsnu_e=HIDDEN if hidden else dsnu,
        dark_variance_dn2=dark_variance,
        threshold_photons=threshold,
        dynamic_range_db=range_of(saturated, efficiency, threshold),
        deviation=deviation,
        dead=share_of(int(defects.dead.sum()), pixels),
        hot=share_of(int(defects.hot.sum()), pixels),
        dark_s=float(np.mean([time for time, _ in shots.series])),
        exposure_s=exposure_s,
        frames=shots.taken,
    )


def pair_moments(pair: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of two frames, and the temporal variance from their difference (EMVA 1288)."""
    return float(pair.mean()), float(np.var(pair[0] - pair[1]) / 2.0)


def read_noise(dark_variance: float, gain: Estimate, dark_e: float, pixels: int) -> Estimate:
    """Read noise, electrons rms: dark frame noise after subtraction of quantisation and dark current noise."""
    sigma_dn = np.sqrt(dark_variance - QUANTISATION)
    electrons = np.sqrt(max(sigma_dn**2 / gain.value**2 - (dark_e if np.isfinite(dark_e) else 0.0), 0.0))
    share = np.hypot(dark_variance / sigma_dn**2 / np.sqrt(2.0 * pixels), gain.error / gain.value)
    return Estimate(float(electrons), float(electrons * share))


def threshold_of(dark_variance: float, gain: Estimate, efficiency: Estimate, pixels: int) -> Estimate:
    """Absolute sensitivity threshold, photons.

    Its K cancels in ``eta K``, which is known much better; the error is that of the dark noise and of ``K / 2 eta K``.
    """
    value = sensitivity_threshold(dark_variance, gain.value, efficiency.value)
    half = 0.5 / efficiency.value
    noise = (value - half) / math.sqrt(2.0 * pixels) / 2.0
    return Estimate(value, math.hypot(noise, half * gain.error / gain.value))


def range_of(saturation: Estimate, efficiency: Estimate, threshold: Estimate) -> Estimate:
    """Dynamic range, dB; in the photons of saturation, too, K cancels."""
    value = decibel(saturation.value / efficiency.value / threshold.value)
    return Estimate(value, 20.0 / math.log(10.0) * threshold.error / threshold.value)


def fit_gain(signal: NDArray[np.float64], variance: NDArray[np.float64], pixels: int) -> Estimate:
    """Fit the slope of variance against mean; NaN if fewer than three levels have noise of half a code or more."""
    if len(signal) < 3:
        return Estimate(np.nan, np.nan)
    weights = 1.0 / (variance * np.sqrt(2.0 / pixels))
    line, covariance = np.polyfit(signal, variance, 1, w=weights, cov="unscaled")
    return Estimate(float(line[0]), float(np.sqrt(covariance[0, 0])))


def linearity(
    photons: NDArray[np.float64], signal: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Relative deviation from the line fitted with weights 1/signal, over 5 to 95 % of saturation (EMVA 1288).

    NaN everywhere if fewer than three levels are in this range, as for one bit or a camera without light.

    Saturation is the level of the highest variance, as in the standard; above it the noise is clipped.
    """
    saturation = signal[np.argmax(variance)]
    inside = (signal > 0.05 * saturation) & (signal < 0.95 * saturation)
    deviation = np.full(len(photons), np.nan)
    if inside.sum() < 3:
        return deviation
    x, y = photons[inside], signal[inside]
    line = np.polyval(np.polyfit(x, y, 1, w=1.0 / y), x)
    deviation[inside] = (y - line) / line
    return deviation


def linearity_error(
    deviation: NDArray[np.float64], signal: NDArray[np.float64], variance: NDArray[np.float64], pixels: int
) -> Estimate:
    """Mean of the deviations from the line, without their signs."""
    inside = np.isfinite(deviation)
    if not inside.any():
        return Estimate(np.nan, np.nan)
    noise = np.sqrt(variance[inside] / (2.0 * pixels)) / signal[inside]
    return Estimate(float(np.mean(np.abs(deviation[inside]))), float(noise.mean()))
