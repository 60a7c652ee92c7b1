"""The speckle: its statistics and grain size."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincc

from calibration.camera.noise import NoiseModel
from calibration.device import Device
from calibration.fields.readings import binned_imaging, frame_shape
from calibration.reports.chapters.bad_pixels import BadPixels, bad_pixel_lines
from calibration.reports.chapters.common import Chapter, independent_pixels, signal_of, student_factor
from calibration.reports.findings import Curve, Line, format_number
from photonics.analysis.speckle import exponential_distance
from photonics.arrays import BoolArray, HostArray
from photonics.parts.pupil import correlation

__all__ = ["dim_ratio", "grain", "speckle_chapter"]

MAX_LAG = 2.0
"""Largest lag in the sum of the autocovariance, in grain widths; theory supplies the larger lags."""
MIN_SHARE = 0.25
"""Smallest share of the grain's area in those lags."""
MAX_SATURATED = 2e-3
"""Share of saturated readings that is allowed above that of fully developed speckle."""
MAX_LAW = 1e-2
"""Largest share of saturated readings, by the law, at which the exposure suits."""
DIM = 0.1
"""Share of the mean of a frame under which a reading is dim."""


def speckle_chapter(opu: Device, patterns: BoolArray, frames: HostArray, noise: NoiseModel, bad: BadPixels) -> Chapter:
    """Speckle statistics of half-ON patterns against fully developed speckle, without hot and stuck pixels.

    Each frame is divided by its own mean, because patterns differ in the number of ON inputs. Two patterns share half
    of their ON inputs, so their fields have the correlation 1/2, their means 1/4, and their contrasts 1/16 (the second
    Laguerre polynomial of the intensity). A sensor with few grains has less contrast, because a frame's own mean
    follows its bright grains: K independent exponential intensities have the squared contrast ``(K - 1) / (K + 1)``.
    """
    count, modes, good = len(frames), opu.imaging.polarisations, ~bad.bright
    shown, frames = frames[0], bad.replace_in(frames)
    signal = signal_of(frames, noise)
    means = signal[:, good].mean(axis=1, keepdims=True)
    mean = float(means.mean())
    if not means.min() > 0:
        raise ZeroDivisionError("no light above dark")
    expected_contrast = binned_imaging(opu).contrast(modes, opu.laser.wavelength_m)
    grains = max(independent_pixels(opu, np.ones(opu.n_out, bool)), 1.0)
    mean_error, contrast_error = (
        math.sqrt((1.0 + rho * (count - 1)) / (count * grains)) for rho in (1.0 / 4.0, 1.0 / 16.0)
    )
    shares = (signal[:, good].var(axis=1) - noise.variance(frames[:, good]).mean(axis=1)) / means[:, 0] ** 2
    contrast = math.sqrt(max(float(shares.mean()), 0.0))
    contrast_of_frame = expected_contrast * math.sqrt((grains - 1.0) / (grains + 1.0))
    unit = float(np.mean(means[:, 0] / (patterns.mean(axis=1) * opu.unit_dn)))
    lines = [
        Line("speckle", "contrast", "√(var I - noise) / mean I", "", contrast, contrast_error, contrast_of_frame, 0.03,
             "under the law: several speckle patterns or a background add up, or frames saturate; above: few channels"),
        *saturation_lines(opu, frames, means, noise, expected_contrast, grains),
        Line("speckle", "mean intensity", "mean I over its value by photometry", "", unit, mean_error, 1.0, 0.1,
             "laser power, alignment or throughput changed"),
        *bad_pixel_lines(opu, bad),
    ]  # fmt: skip
    if expected_contrast > 0.97:  # the law does not hold for pixels that average several grains
        distance = float(np.mean([exponential_distance(np.maximum(s, 0.0)) for s in signal[:, good]]))
        share = math.sqrt(grains / opu.n_out)  # pixels of a grain are not independent
        lines.insert(1, Line(
            "speckle", "distance to exp(-I)", "mean over frames of D √K (Kolmogorov-Smirnov), K independent pixels", "",
            distance * share, math.nan, None, 1.63 + math.sqrt(grains) / mean,
            "see the histogram: a background or a clipped tail",
        ))  # fmt: skip
    found, histogram = grain(opu, signal, noise.variance(frames)), histogram_of(signal, means)
    curves = {"intensity_histogram": histogram, "frame": shown.tolist(), "frame_shape": list(frame_shape(opu))}
    return Chapter(lines + found.lines, curves | found.curves)


def histogram_of(signal: NDArray[np.float64], means: NDArray[np.float64]) -> Curve:
    """Histogram of the signal over the mean of its frame, in bins of whole codes: others would show a comb."""
    mean = float(means.mean())
    edges = np.arange(-0.5, 8.0 * mean, max(1, round(mean / 5.0))) / mean
    density = np.histogram(signal / means, edges)[0] / signal.size / (edges[1] - edges[0])
    return {"edges": edges.tolist(), "density": density.tolist(), "mean_dn": mean}


def saturation_lines(
    opu: Device, frames: HostArray, means: NDArray[np.float64], noise: NoiseModel, contrast: float, grains: float
) -> list[Line]:
    """Share of saturated readings, at most that of fully developed speckle (up to 1 %), 3 standard errors and 0.2 %."""
    clipped = float((frames >= opu.camera.saturation_dn).mean())
    shape = 1.0 / contrast**2  # intensity averaged over grains follows nearly a gamma law
    law = float(gammaincc(shape, shape * (opu.camera.saturation_dn - noise.dark_dn) / means).mean())
    error = math.sqrt(law / (len(frames) * grains))
    advice, formula = "shorten the exposure (opu.exposure_s)", f"readings at the last code; law {format_number(law, 2)}"
    found = Line("speckle", "saturated share", formula, "", clipped, error,
                 None, min(law, MAX_LAW) + 3.0 * error + MAX_SATURATED, advice)  # fmt: skip
    if clipped <= 0.2:
        return [found]
    reason = f"the camera is saturated: {clipped:.0%} of the pixels"
    return [found, Line("speckle", "range", "share of pixels at the last code", "", clipped, math.nan, None, 1e-3,
                        advice, reason)]  # fmt: skip


def dim_ratio(opu: Device, frames: HostArray, noise: NoiseModel, bad: BadPixels) -> float:
    """Share of dim readings (under `DIM` of the mean) over that in fully developed speckle, without bad pixels.

    1 if the readings are too few codes above dark to tell.
    """
    signal = signal_of(frames, noise)[:, ~(bad.bright | bad.dead)]
    if not signal.size or DIM * signal.mean() < 1.0:
        return 1.0
    shape = 1.0 / binned_imaging(opu).contrast(wavelength_m=opu.laser.wavelength_m) ** 2
    share = float((signal < DIM * signal.mean(axis=1, keepdims=True)).mean())
    return share / max(float(gammainc(shape, shape * DIM)), 1.0 / signal.size)


def grain_pixels(opu: Device) -> float:
    """Area of a grain from the data sheet, in pixels."""
    imaging = binned_imaging(opu)
    return imaging.grain_area_m2(opu.laser.wavelength_m) / imaging.pixel_m**2


def grain(opu: Device, signal: NDArray[np.float64], variance: HostArray) -> Chapter:
    """Area of a grain from the autocovariance of frames, ``C1^2 sum_lags rho(lag)`` pixels.

    rho is the autocovariance normalised to lag 0, without the camera's noise. Averaging over a pixel preserves the sum
    of the covariance over all lags, and lowers its value at lag 0 to ``C1^2``, the squared contrast of one speckle
    pattern on such pixels (`Imaging.contrast`): the product is the grain's area. The sum includes lags within 2 grain
    widths, or half of the sensor. Because each frame is divided by its own mean, its autocovariance sums to 0 over all
    lags: each lag is too low by the variance of that mean, ``grain / pixels`` of the whole sum T. The partial sum
    therefore has the share c of T that theory predicts for its lags, minus the number of lags over the number of
    pixels. If c is below `MIN_SHARE`, the sensor holds too few grains.
    """
    shape, expected = frame_shape(opu), grain_pixels(opu)
    if min(shape) < 4:
        return Chapter([], {})
    reach = [min(max(math.ceil(MAX_LAG * math.sqrt(expected)), 1), size // 4) for size in shape]
    lags, pixels = autocovariance(signal.reshape(-1, *shape), reach), math.prod(shape)
    noise_share = (variance.reshape(signal.shape) / signal.mean(axis=1, keepdims=True) ** 2).mean(axis=1)
    lags[:, reach[0], reach[1]] -= noise_share
    share = window_share(opu, reach) - math.prod(2 * far + 1 for far in reach) / pixels
    total = lags.sum(axis=(1, 2)) / share
    zero = lags[:, reach[0], reach[1]] + total / pixels
    area = float(total.mean() / zero.mean())
    # Patterns share half of their inputs, so the intensities of their speckle have the correlation 1/4, and so do the
    # sums.
    spread = float((total - area * zero).std(ddof=1) / zero.mean())
    grains = max(independent_pixels(opu, np.ones(opu.n_out, bool)), 2.0)
    error = spread * math.sqrt((1.0 + 0.25 * (len(total) - 1)) / len(total)) * student_factor(grains)
    scale = binned_imaging(opu).contrast(1, opu.laser.wavelength_m) ** 2 if share >= MIN_SHARE else math.nan
    name, advice = "grain area", "check aperture and focus of the imaging optics"
    if binned_imaging(opu).numerical_aperture is None:  # then pixels are independent by assumption
        name, advice = "correlation area", "neighbouring pixels share light: a pupil, or a medium with few channels"
    line = Line("speckle", name, "C₁² Σ_lags autocovariance / variance", "pixels", scale * area, scale * error,
                expected, 0.15 * expected, advice)  # fmt: skip
    lags += total[:, None, None] / pixels
    mean = lags.mean(axis=0) / zero.mean()
    across = {"lag_x": list(range(-reach[1], reach[1] + 1)), "x": mean[reach[0]].tolist()}
    down = {"lag_y": list(range(-reach[0], reach[0] + 1)), "y": mean[:, reach[1]].tolist()}
    return Chapter([line], {"autocovariance": across | down})


def autocovariance(pictures: NDArray[np.float64], reach: list[int]) -> NDArray[np.float64]:
    """Autocovariance of each picture over its mean squared, lags -reach to reach in the last two axes."""
    rows, columns = pictures.shape[1:]
    deviation = pictures / pictures.mean(axis=(1, 2), keepdims=True) - 1.0
    padded = [2 * rows, 2 * columns]
    lags = np.fft.irfft2(np.abs(np.fft.rfft2(deviation, padded)) ** 2, padded)
    lags = np.roll(lags, reach, axis=(1, 2))[:, : 2 * reach[0] + 1, : 2 * reach[1] + 1]
    down, across = (size - np.abs(np.arange(-far, far + 1)) for size, far in zip((rows, columns), reach, strict=True))
    return lags / (down[:, None] * across[None, :])


def window_share(opu: Device, reach: list[int]) -> float:
    """Share of the grain's area within lags of `reach` pixels, from the pupil's correlation at the field samples."""
    imaging, wavelength = binned_imaging(opu), opu.laser.wavelength_m
    if imaging.numerical_aperture is None:
        return 1.0
    k = imaging.samples
    weights = np.convolve(np.ones(k), np.ones(k))  # pairs of samples, one in each of two pixels
    steps = [np.arange(-far * k - k + 1, far * k + k) for far in reach]
    pitch = imaging.pixel_m / k
    x, y = steps[1] * pitch, steps[0] * pitch
    square = correlation(imaging.pupil, imaging.numerical_aperture, wavelength, x[None, :], y[:, None]) ** 2
    # In the sum over all lags of whole pixels, the weight of a distance in samples is the number of sample pairs with
    # it.
    combs = [np.kron(np.ones(2 * far + 1), np.eye(1, k)[0])[: 2 * far * k + 1] for far in reach]
    spread = [np.convolve(comb, weights) for comb in combs]
    return float(spread[0] @ square @ spread[1]) / k**4 / grain_pixels(opu)
