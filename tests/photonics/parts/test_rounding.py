"""Mean and variance of rounded codes, against sums over electrons and codes, and against frames."""

import numpy as np
import pytest
from scipy import stats

from photonics import Camera, presets
from photonics.backend import HOST, to_host
from photonics.parts.rounding import code_moments

LEVELS = np.array([0.25, 0.4, 1.77, 2.0, 2.3, 2.49, 2.6])
MEANS = np.array([0.0, 0.0066, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0])


def summed(mean_e, normal, level, gain):
    """Moments by summing over all electrons and all codes."""
    n = np.arange(max(int(mean_e - 9 * np.sqrt(mean_e)) - 5, 0), int(mean_e + 9 * np.sqrt(mean_e)) + 40)
    x = level + gain * n
    codes = np.arange(np.floor(x[0]) - 9, np.ceil(x[-1]) + 9)
    edges = np.append(codes - 0.5, codes[-1] + 0.5)
    share = np.diff(stats.norm.cdf((edges[:, None] - x) / np.sqrt(normal)), axis=0) @ stats.poisson.pmf(n, mean_e)
    mean = share @ codes
    return mean, share @ (codes - mean) ** 2


@pytest.mark.parametrize(
    ("gain", "read_e", "tolerance"),
    [(0.0253, 2.5, 1e-6), (0.1, 1.0, 1e-6), (1.0, 0.5, 1e-6), (0.0015, 2.5, 5e-3), (1e-4, 2.5, 1e-2), (3.0, 0.1, 1e-6)],
)
def test_moments_of_codes_are_sums_over_codes(gain, read_e, tolerance, backend):
    """In DN and DN^2, from no light to a noise of many DN; the same on another library.

    Catches: the 1/12 where a code never changes, a bias of another sign, a covariance of x and its rounding left out.
    """
    mean_e, level = (grid.ravel() for grid in np.meshgrid(MEANS, LEVELS))
    normal = np.full(mean_e.shape, (gain * read_e) ** 2)
    sent = [backend.asarray(array[None]) for array in (mean_e, normal, level)]
    expected = np.transpose([summed(*each, gain) for each in zip(mean_e, normal, level, strict=True)])
    for found, exact in zip(code_moments(*sent, gain, backend), expected, strict=True):
        assert np.abs(to_host(found)[0] - exact).max() < tolerance


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 12])
def test_moments_of_frames_where_the_noise_is_less_than_a_code(bits):
    """8000 frames of 600 pixels, from dark to two codes: means and variances within 4.5 standard errors.

    Pixels whose code changes in fewer than 20 frames are counted together. Catches: Sheppard's 1/12 under 0.4 DN of
    noise, a mean that is linear in the light there (0.27 DN off), a fluctuation of the light left out.
    """
    camera, count = Camera(bit_depth=bits, dsnu_e=3.0, offset_dn=0.3 if bits < 4 else None, seed=4), 8000
    photons = np.linspace(0.0, 2.0 / (camera.gain * 0.6), 600, dtype=np.float32)
    power = 1.0 + 0.02 * np.random.default_rng(0).normal(size=(count, 600)).astype(np.float32)
    frames = camera.expose(photons * power, 1e-3, np.arange(count)).astype(float)
    mean, variance = (
        of(photons[None], 1e-3, None, (0.02 * photons[None]) ** 2)[0] for of in (camera.mean, camera.variance)
    )
    level = camera.offset + camera.signal(photons[None])[0]
    spread = 6 * camera.gain * np.hypot(np.sqrt(photons + 9), 0.02 * photons)
    inside = (level - spread > -0.4) & (level + spread < camera.top + 0.4)
    rare = count * variance < 20
    changes = (frames != np.rint(mean))[:, inside & rare].sum()
    expected = count * variance[inside & rare].sum()
    assert abs(changes - expected) < 4.5 * np.sqrt(expected) + 1
    frames, mean, variance = (array[..., inside & ~rare] for array in (frames, mean, variance))
    assert mean.size > 8
    off = frames - mean
    assert np.abs(off.mean(axis=0) / np.sqrt(variance / count)).max() < 4.5
    error = np.sqrt(((off**2 - variance) ** 2).mean(axis=0) / count)
    assert np.abs(((off**2).mean(axis=0) - variance) / error).max() < 4.5


def test_dark_frames_of_the_bench_do_not_vary():
    """Their noise is 0.06 DN at a level of 2 DN: every code is 2. Catches: a stated variance of 0.087 DN^2."""
    opu = presets.lab_bench(16, 400, seed=1)
    off = np.zeros((1, 16), bool)
    tight = opu.replace(**{"dmd.contrast": None})
    assert np.ptp(opu.dark(200)) == 0
    assert tight.variance(off).max() < 1e-9
    np.testing.assert_allclose(tight.mean(off), opu.dark(1), atol=1e-9)


@pytest.mark.parametrize("mean_e", [0.0, 0.5, 40.0])
def test_electrons_that_are_whole_codes_are_not_rounded(mean_e, backend):
    """At a gain of 1 without read noise the variance is that of the count. Catches: 1/12 more."""
    sent = backend.asarray(np.array([[mean_e]]))
    for found, exact in zip(
        code_moments(sent, 0.0 * sent, 0.0 * sent + 2.0, 1.0, backend), (2.0 + mean_e, mean_e), strict=True
    ):
        assert float(to_host(found)[0, 0]) == pytest.approx(exact, abs=1e-4)


def test_rounding_of_bright_pixels_is_sheppards():
    """From 1 DN of noise on, the moments are the linear ones plus 1/12, to 1e-7. Catches: a bias that stays."""
    mean_e = np.linspace(1700.0, 9000.0, 500)[None]
    mean, variance = code_moments(mean_e, np.full(mean_e.shape, 0.004), np.array([2.3]), 0.0253, HOST)
    np.testing.assert_allclose(mean, 2.3 + 0.0253 * mean_e, rtol=1e-7)
    np.testing.assert_allclose(variance, 0.0253**2 * mean_e + 0.004 + 1 / 12, rtol=1e-7)
