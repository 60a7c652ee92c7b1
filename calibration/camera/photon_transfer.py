"""Photon transfer of a camera: gain, quantum efficiency and noise from frames of known, uniform light (EMVA 1288)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from calibration.device import Device
from photonics import Camera
from photonics.arrays import BoolArray, HostArray
from photonics.parts.camera import QUANTISATION

__all__ = ["Estimate", "PhotonTransfer", "UniformLight", "UniformSource", "photon_transfer", "uniform_light"]

MIN_DARK_NOISE_DN = 0.5
"""Smallest dark noise that quantisation does not hide, DN; EMVA 1288 requires at least this."""


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
        light = np.full((count, pixels), photons, np.float32)
        ticks = np.arange(self.ticks, self.ticks + count)
        self.ticks += count
        return self.camera.expose(light, exposure_s, ticks)


def uniform_light(source: Camera | Device | UniformSource) -> UniformSource:
    """Put a camera, or that of a device, in front of simulated uniform light; return a `UniformSource` unchanged."""
    if isinstance(source, UniformSource):
        return source
    return UniformLight(source if isinstance(source, Camera) else source.camera)


@dataclass(frozen=True)
class Estimate:
    """A measured value with its standard error; both are NaN if quantisation hides the value."""

    value: float
    error: float


HIDDEN = Estimate(float("nan"), float("nan"))
"""A value hidden by quantisation."""


@dataclass(frozen=True, eq=False)
class PhotonTransfer:
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
        Number of pixels that are read.
    levels : int
        Light levels from 1 % to 120 % of saturation, two frames each.
    exposure_s : float
        Exposure of the light levels, seconds.

    Notes
    -----
    Gain is the slope of variance against mean, ``s^2 = K^2 sigma_d^2 + 1/12 + K mu`` [1]_. Quantum efficiency is the
    slope of mean against photons, divided by K. Dark noise is measured in dark frames. If it is below half a code,
    quantisation hides it, and read noise and DSNU are NaN.

    References
    ----------
    .. [1] EMVA Standard 1288, release 4.0 Linear, 2021: photon transfer and spatial non-uniformity.
    """
    run = FrameSource(uniform_light(source), pixels)
    camera = run.camera
    full = saturation_e(camera) / camera.quantum_efficiency
    photons = np.concatenate([np.linspace(0.01, 0.9, levels - 3), [1.0, 1.1, 1.2]]) * full
    dark, dark_variance = run.pair(0.0, exposure_s)
    pairs = np.array([run.pair(p, exposure_s) for p in photons])
    signal, variance = pairs[:, 0] - dark, pairs[:, 1]
    saturation = signal.max()
    below = signal < 0.7 * saturation
    fitted = below & (variance > MIN_DARK_NOISE_DN**2 + QUANTISATION)
    gain = fit_gain(signal[fitted], variance[fitted], pixels)
    slope = float(np.sum(signal[below]) / np.sum(photons[below]))
    efficiency = Estimate(slope / gain.value, slope / gain.value * gain.error / gain.value)

    prnu, dsnu = run.nonuniformity(0.5 * full, exposure_s, gain.value)
    current = run.dark_current(gain)
    hidden = np.sqrt(max(dark_variance - QUANTISATION, 0.0)) < MIN_DARK_NOISE_DN
    return PhotonTransfer(
        photons=photons,
        signal_dn=signal,
        variance_dn2=variance,
        fitted=fitted,
        gain=gain,
        quantum_efficiency=efficiency,
        read_noise_e=HIDDEN if hidden else read_noise(dark_variance, gain, current.value * exposure_s, pixels),
        dark_current_e_per_s=current,
        linearity_error=linearity(photons, signal, variance, pixels),
        saturation_e=Estimate(float(saturation / gain.value), float(saturation * gain.error / gain.value**2)),
        prnu=prnu,
        dsnu_e=HIDDEN if hidden else dsnu,
        frames=run.ticks,
    )


def read_noise(dark_variance: float, gain: Estimate, dark_e: float, pixels: int) -> Estimate:
    """Read noise, electrons rms: dark frame noise after subtraction of quantisation and dark current noise."""
    sigma_dn = np.sqrt(dark_variance - QUANTISATION)
    electrons = np.sqrt(max(sigma_dn**2 / gain.value**2 - dark_e, 0.0))
    share = np.hypot(dark_variance / sigma_dn**2 / np.sqrt(2.0 * pixels), gain.error / gain.value)
    return Estimate(float(electrons), float(electrons * share))


def saturation_e(camera: Camera) -> float:
    """Electrons at which the well or the converter saturates, by the data sheet."""
    return (camera.saturation_dn - camera.offset) / camera.gain


def fit_gain(signal: NDArray[np.float64], variance: NDArray[np.float64], pixels: int) -> Estimate:
    """Fit the slope of variance against mean; NaN if fewer than three levels have noise of half a code or more."""
    if len(signal) < 3:
        return Estimate(np.nan, np.nan)
    weights = 1.0 / (variance * np.sqrt(2.0 / pixels))
    line, covariance = np.polyfit(signal, variance, 1, w=weights, cov="unscaled")
    return Estimate(float(line[0]), float(np.sqrt(covariance[0, 0])))


class FrameSource:
    """Takes frames of uniform light and counts them."""

    def __init__(self, source: UniformSource, pixels: int) -> None:
        self.source, self.camera, self.pixels, self.ticks = source, source.camera, pixels, 0

    def frames(self, photons: float, exposure_s: float, count: int) -> NDArray[np.float64]:
        """Take frames at a number of photons per pixel: (count, pixels), DN."""
        self.ticks += count
        return np.asarray(self.source.uniform(photons, exposure_s, count, self.pixels)).astype(np.float64)

    def pair(self, photons: float, exposure_s: float) -> tuple[float, float]:
        """Take two frames: their mean, and the temporal variance from their difference (EMVA 1288)."""
        a, b = self.frames(photons, exposure_s, 2)
        return float((a.mean() + b.mean()) / 2.0), float(np.var(a - b) / 2.0)

    def nonuniformity(
        self, photons: float, exposure_s: float, gain: float, count: int = 32
    ) -> tuple[Estimate, Estimate]:
        """Measure PRNU (relative) and DSNU (electrons) from averages over frames, temporal noise subtracted."""
        stacks = [self.frames(level, exposure_s, count) for level in (photons, 0.0)]
        spatial = [s.mean(axis=0).var(ddof=1) - s.var(axis=0, ddof=1).mean() / count for s in stacks]
        means = [s.mean() for s in stacks]
        dsnu = np.sqrt(max(spatial[1], 0.0)) / gain
        prnu = np.sqrt(max(spatial[0] - spatial[1], 0.0)) / (means[0] - means[1])
        errors = [s.mean(axis=0).var(ddof=1) / np.sqrt(2.0 * self.pixels) for s in stacks]
        return (
            Estimate(float(prnu), errors[0] / max(prnu, 1e-9) / (means[0] - means[1]) ** 2),
            Estimate(float(dsnu), errors[1] / max(dsnu, 1e-9) / gain**2),
        )

    def dark_current(self, gain: Estimate) -> Estimate:
        """Fit the dark current to the mean of dark frames against exposure, up to 20 s or half of saturation."""
        longest_s = min(20.0, 0.5 * saturation_e(self.camera) / max(self.camera.dark_electrons(1.0), 1e-9))
        times = np.linspace(0.5, 1.0, 6) * longest_s
        frames = [self.frames(0.0, t, 2) for t in times]
        means = np.array([f.mean() for f in frames])
        errors = np.array([np.sqrt((f[0] - f[1]).var() / 4.0 + QUANTISATION) / np.sqrt(self.pixels) for f in frames])
        line, covariance = np.polyfit(times, means, 1, w=1.0 / errors, cov="unscaled")
        value, error = line[0] / gain.value, np.sqrt(covariance[0, 0]) / gain.value
        return Estimate(float(value), float(np.hypot(error, value * gain.error / gain.value)))


def linearity(
    photons: NDArray[np.float64],
    signal: NDArray[np.float64],
    variance: NDArray[np.float64],
    pixels: int,
) -> Estimate:
    """Mean relative deviation from the line fitted with weights 1/signal, over 5 to 95 % (EMVA 1288).

    Saturation is the level of the highest variance, as in the standard; above it the noise is clipped.
    """
    saturation = signal[np.argmax(variance)]
    inside = (signal > 0.05 * saturation) & (signal < 0.95 * saturation)
    x, y = photons[inside], signal[inside]
    line = np.polyval(np.polyfit(x, y, 1, w=1.0 / y), x)
    noise = np.sqrt(variance[inside] / (2.0 * pixels)) / y
    return Estimate(float(np.mean(np.abs(y - line) / line)), float(noise.mean()))
