"""The pupil: grains of the right shape and size, pixels that average over them, energy that stays."""

import math

import numpy as np
import pytest
from scipy import integrate, special

from photonics import Imaging
from photonics.backend import HOST
from photonics.parts import pupil as optics

GRAIN_M = 11e-6
"""lambda / 2NA of the pupils below, on the default wavelength."""
NA = 532e-9 / (2 * GRAIN_M)
SHAPES = ["circular", "square"]
AREA = {"circular": 4 / np.pi, "square": 1.0}


def white(seed, batch, n):
    """Fields of independent samples, mean intensity 1: (batch, n) complex64."""
    parts = np.random.default_rng(seed).normal(size=(batch, 2 * n), scale=0.5**0.5).astype(np.float32)
    return parts.view(np.complex64)


def imaging(grain_px, samples=1, **changes):
    """Imaging whose pupil makes grains that many pixels wide."""
    return Imaging(throughput=1.0, numerical_aperture=NA, pixel_m=GRAIN_M / grain_px, samples=samples, **changes)


def jinc2(r):
    """Square of ``2 J1(u) / u`` at r grains, ``u = pi r``."""
    u = np.pi * np.maximum(r, 1e-9)
    return (2 * special.j1(u) / u) ** 2


@pytest.mark.parametrize("shape", SHAPES)
def test_grain_of_speckle(shape):
    """(check) Covariance of the intensity is jinc^2 (sinc^2 sinc^2), its integral the grain's area, both within 4.5 SE.

    Catches: lambda/NA for lambda/2NA, J1(u)/u without the 2, a mask on the intensity, x and y cut-offs swapped.
    """
    grain, rows, columns, reach = 3.0, 96, 144, 9
    optic = imaging(grain, pupil=shape, sensor=(rows, columns))
    rate = optic.intensity(white(1, 240, rows * columns), n_in=1).reshape(-1, rows, columns)
    spectrum = np.abs(np.fft.fft2(rate - 1.0)) ** 2  # the mean is known: 1
    covariance = np.fft.ifft2(spectrum).real[:, : reach + 1, : reach + 1] / (rows * columns)
    y, x = np.mgrid[: reach + 1, : reach + 1] / grain
    exact = jinc2(np.hypot(x, y)) if shape == "circular" else (np.sinc(x) * np.sinc(y)) ** 2
    error = covariance.std(axis=0, ddof=1) / math.sqrt(len(rate))
    assert np.abs((covariance.mean(axis=0) - exact) / error).max() < 4.5

    # Within `reach` lies nearly all of the area; how much is known. Lags of both signs: weight 2 off the axes.
    weight = np.where(np.arange(reach + 1) == 0, 1, 2)
    weight = weight[:, None] * weight[None, :] * (np.hypot(x, y) <= reach / grain)
    sums = (covariance * weight).sum(axis=(1, 2))
    inside = (exact * weight).sum() / (AREA[shape] * grain**2)
    u = np.pi * reach / grain
    assert inside == pytest.approx(
        1 - special.j0(u) ** 2 - special.j1(u) ** 2 if shape == "circular" else 0.93, abs=0.02
    )
    area = sums * optic.pixel_m**2 / inside
    deviation = area.mean() - optic.grain_area_m2()
    assert abs(deviation) < 4.5 * area.std(ddof=1) / math.sqrt(len(rate))
    assert optic.grain_area_m2() == pytest.approx(AREA[shape] * GRAIN_M**2)


@pytest.mark.parametrize("shape", SHAPES)
def test_area_of_the_pupil(shape):
    """All lags of a large grid add up to the grain, to grain / side. Catches: a circle a part of a cell too wide."""
    n, grain = 1024, 2.7
    power = optics.transfer(shape, (n, n), (n / 2 / grain,) * 2, HOST).astype(float) ** 2
    assert power.mean() == pytest.approx(1.0, rel=1e-6)
    area = np.mean(power**2)  # by Parseval: sum of |mu|^2
    assert area == pytest.approx(AREA[shape] * grain**2, rel=grain / n)
    assert 1 / power.max() == pytest.approx(1 / (AREA[shape] * grain**2), rel=1e-3)  # share of the frequencies


def test_correlation_is_that_of_the_filter():
    """On an oblong grid, with the window of the docstring, 2e-3. Catches: rows and columns of the cut-off swapped."""
    rows, columns, grain = 512, 256, 4.0
    for shape in SHAPES:
        filter_ = optics.transfer(shape, (rows, columns), (rows / 2 / grain, columns / 2 / grain), HOST)
        mu = np.fft.ifft2(filter_.astype(float) ** 2).real[:20, :20]
        y, x = np.mgrid[:20, :20] * (GRAIN_M / grain)
        window = np.sinc(np.arange(20) / rows)[:, None] * np.sinc(np.arange(20) / columns)
        exact = optics.correlation(shape, NA, 532e-9, x, y)
        assert np.abs(mu - exact * window).max() < 2e-3


def test_pixel_as_large_as_a_grain():
    """(check) Contrast 0.656 behind a square pupil: formula, limit of many samples, and speckle within 4 SE.

    ``C = int_-1^1 (1 - |t|) sinc^2 t dt`` for a pixel of side lambda/2NA. Catches: a mean of fields instead of
    intensities, a sum without 1/samples^2, samples that are neighbours in a row only.
    """
    exact, _ = integrate.quad(lambda t: 2 * (1 - t) * np.sinc(t) ** 2, 0, 1)
    assert exact == pytest.approx(0.656, abs=5e-4)
    assert optics.pixel_contrast("square", NA, 532e-9, GRAIN_M, 400) == pytest.approx(exact, rel=1e-4)
    for samples, error in [(2, 0.072), (3, 0.030), (4, 0.017), (8, 0.005)]:  # the errors that the docstring states
        contrast = optics.pixel_contrast("square", NA, 532e-9, GRAIN_M, samples)
        assert contrast / exact - 1 == pytest.approx(error, abs=1.5e-3)

    side, samples, frames = 24, 6, 60
    optic = imaging(1.0, samples, pupil="square", sensor=(side, side))
    rate = optic.intensity(white(2, frames, (side * samples) ** 2), n_in=1)
    assert rate.shape == (frames, side**2)
    variance = ((rate - 1.0) ** 2).mean(axis=1)
    error = variance.std(ddof=1) / math.sqrt(frames)
    assert abs(variance.mean() - optic.contrast() ** 2) < 4 * error
    assert optic.contrast() == pytest.approx(0.656, rel=0.008)


@pytest.mark.parametrize(("shape", "grain_px", "samples", "modes"), [("circular", 1.5, 3, 1), ("circular", 0.8, 2, 2)])
def test_contrast_is_that_of_speckle(shape, grain_px, samples, modes):
    """`Imaging.contrast` for a circle, variance within 4 SE. Catches: modes that interfere, pairs weighed wrong."""
    side, frames = 32, 80
    optic = imaging(grain_px, samples, pupil=shape)
    field = white(3, frames, modes * (side * samples) ** 2) / np.float32(math.sqrt(modes))
    variance = ((optic.intensity(field, n_in=1, modes=modes) - 1.0) ** 2).mean(axis=1)
    assert abs(variance.mean() - optic.contrast(modes) ** 2) < 4 * variance.std(ddof=1) / math.sqrt(frames)


@pytest.mark.parametrize(
    ("shape", "grain_px"), [("circular", 0.6), ("square", 2.0), ("square", 17.0), ("circular", 1e4)]
)
def test_energy_is_conserved(shape, grain_px):
    """A point of light keeps its power, wherever it is, to float32: the filter is white on average, at any aperture.

    Catches: a filter that is not normalised, or by its sum; rates that are sums over pixels instead of means.
    """
    n, samples = (12, 20), 2
    points = np.eye(240 * samples**2, dtype=np.complex64)[:: 240 * samples**2 // 7]
    rate = imaging(grain_px, samples, pupil=shape, sensor=n).intensity(points, n_in=1)
    np.testing.assert_allclose(rate.sum(axis=1) * samples**2, 1.0, rtol=3e-6)


def test_mean_of_speckle_is_unchanged():
    """Ensemble mean with and without a pupil, within 4 SE. Catches: the light that the pupil stops taken off twice."""
    field = white(4, 2000, 400)
    rate = imaging(4.0, 1).intensity(field, n_in=1).mean(axis=1)
    assert abs(rate.mean() - 1.0) < 4 * rate.std(ddof=1) / math.sqrt(len(rate))


@pytest.mark.parametrize("shape", SHAPES)
def test_tiny_pupil_is_one_grain(shape):
    """All pixels equal; from frame to frame contrast 1 within 4 SE. Catches: a pupil that closes at frequency 0."""
    rate = imaging(1e4, 2, pupil=shape).intensity(white(5, 4000, 400), n_in=1)
    assert np.ptp(rate, axis=1).max() < 1e-5 * rate.max()
    frames = rate[:, 0]
    assert abs(frames.var() / frames.mean() ** 2 - 1) < 4 * math.sqrt(8 / len(frames))


def test_grain_of_a_sample_is_no_filter():
    """The widest square pupil lets all through but a part of the Nyquist lines. Catches: a cut-off off by a factor."""
    filter_ = optics.transfer("square", (40, 41), (20.0, 20.5), HOST)
    inside = np.delete(filter_, 20, axis=0)
    assert np.ptp(inside) < 1e-6
    assert inside[0, 0] == pytest.approx(1.0, abs=0.01)
