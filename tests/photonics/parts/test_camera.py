"""The camera against the linear model of EMVA 1288: its moments, and the order of its steps."""

import numpy as np
import pytest
from scipy import stats

from photonics import Camera, GaussianMedium

# Gains at which the total noise is over a DN, so that rounding adds 1/12 and no bias.
CAMERAS = [
    Camera(bit_depth=8, gain_dn_per_e=0.5, offset_dn=20.0, prnu=0.05, dsnu_e=8.0, seed=3),
    Camera(bit_depth=10, gain_dn_per_e=0.3, quantum_efficiency=0.9, dark_current_e_per_s=400.0, offset_dn=10.0),
    Camera(bit_depth=12, read_noise_e=6.0, prnu=0.2, dsnu_e=2.0, warming_k=8.0, seed=2**40),
]
EXPOSURE_S = 0.01
BLANK = {"read_noise_e": 0.0, "dark_current_e_per_s": 0.0, "prnu": 0.0, "dsnu_e": 0.0}
"""A camera with none of this has shot noise and rounding alone."""


def cameras(**keywords):
    return pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: f"{c.bit_depth}bit", **keywords)


def frames_of(camera, photons, count, first=0):
    """Expose `count` frames of the given mean photons, each (pixels,): (count, pixels) float64."""
    light = np.broadcast_to(np.asarray(photons, np.float32), (count, np.size(photons)))
    return camera.expose(light, EXPOSURE_S, first + np.arange(count)).astype(np.float64)


def ramp(camera, pixels):
    """Mean photons from dark to 60 % of the range: (pixels,)."""
    most = 0.6 * (camera.top - camera.offset) / (camera.gain * camera.quantum_efficiency)
    return np.linspace(0, most, pixels)


@cameras()
def test_moments_of_every_pixel(camera):
    """Mean and variance of each pixel within 5 SE, and no excess spread of either.

    Catches: PRNU or QE after the Poisson draw (variance), uniform noise before the rounding, dark shot noise left out.
    """
    n, photons = 4000, ramp(camera, 512)
    frames = frames_of(camera, photons, n)
    mean, variance = (m(photons[None], EXPOSURE_S)[0] for m in (camera.mean, camera.variance))
    z_mean = (frames.mean(axis=0) - mean) / np.sqrt(variance / n)
    kurtosis = camera.gain**4 * camera.quantum_efficiency * photons / variance**2  # fourth cumulant of the shot noise
    z_variance = (frames.var(axis=0, ddof=1) / variance - 1) / np.sqrt((2 + kurtosis) / n)
    for z in (z_mean, z_variance):
        assert np.abs(z).max() < 5
        assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / z.size)


@cameras()
def test_variance_is_linear_in_the_mean(camera):
    """The photon transfer line ``s^2 = K^2 s_d^2 + 1/12 + K (mu - mu_dark)``. Catches: a gain squared or forgotten."""
    photons = ramp(camera, 512)[None]
    dark = np.zeros_like(photons)
    signal = camera.mean(photons, EXPOSURE_S) - camera.mean(dark, EXPOSURE_S)
    sigma_d2 = camera.read_noise_e**2 + camera.dark_current_e_per_s * 2 ** (camera.warming_k / 8) * EXPOSURE_S
    expected = camera.gain**2 * sigma_d2 + 1 / 12 + camera.gain * signal
    np.testing.assert_allclose(camera.variance(photons, EXPOSURE_S), expected, rtol=1e-6)
    # The slope over pixels is QE and K, the spread of slopes is PRNU.
    slope = signal[0, 1:] / photons[0, 1:] / (camera.gain * camera.quantum_efficiency)
    assert abs(slope.mean() - 1) < 4 * camera.prnu / np.sqrt(slope.size)
    assert abs(slope.std() / camera.prnu - 1) < 4 / np.sqrt(2 * slope.size)


@pytest.mark.parametrize("gain", [0.25, 1.0])
def test_quantisation_adds_one_twelfth_once(gain):
    """Read noise 2 DN: variance 4 + 1/12 within 4 SE. Catches: dither before rounding (1/6), a floor for a rint."""
    n = 2**22
    camera = Camera(bit_depth=12, gain_dn_per_e=gain, offset_dn=100.3, **(BLANK | {"read_noise_e": 2 / gain}))
    frames = frames_of(camera, np.zeros(4096), n // 4096)
    assert abs(frames.var() - (4 + 1 / 12)) < 4 * frames.var() * np.sqrt(2 / n)
    assert abs(frames.mean() - 100.3) < 4 * np.sqrt(frames.var() / n)


def test_without_noise_only_rounding_is_left():
    """A dark frame of a blank camera is ``rint(offset)``, everywhere. Catches: a dither."""
    for offset in (3.2, 3.8):
        frames = frames_of(Camera(offset_dn=offset, **BLANK), np.zeros(100), 10)
        np.testing.assert_array_equal(frames, np.rint(offset))


@pytest.mark.parametrize("mu_e", [3.0, 25.0, 200.0])
def test_third_cumulant_is_that_of_shot_noise(mu_e):
    """``k3 / (K^3 mu_e) = 1`` within 4 SE and the 0.2 counts of the draw. Catches: Gaussian shot noise (0)."""
    n, gain = 2**22, 2.0
    camera = Camera(bit_depth=12, gain_dn_per_e=gain, quantum_efficiency=0.5, **(BLANK | {"read_noise_e": 1.0}))
    frames = frames_of(camera, np.full(4096, mu_e / 0.5), n // 4096)
    sigma2 = gain**2 * (mu_e + 1) + 1 / 12
    third = ((frames - frames.mean()) ** 3).mean() / (gain**3 * mu_e)
    error = np.sqrt(6 * sigma2**3 / n) / (gain**3 * mu_e)
    assert abs(third - 1) < 4 * error + 0.2 / mu_e * (mu_e >= 10)


def test_counts_in_speckle_follow_bose_einstein():
    """Poisson counts of exponential light: variance ``n + n^2`` within 4 SE, and the geometric law (chi-square).

    Catches: a Poisson draw with a mean averaged over pixels, speckle that is not fully developed.
    """
    n, mean = 2**20, 5.0
    field = GaussianMedium(1, n, seed=4).block(slice(None), slice(None)).T  # speckle of a single input
    camera = Camera(bit_depth=16, gain_dn_per_e=1.0, quantum_efficiency=1.0, offset_dn=0.0, **BLANK)
    counts = camera.expose(mean * np.abs(field) ** 2, EXPOSURE_S, [0])[0].astype(np.int64)
    variance = mean + mean**2
    assert abs(counts.var() - variance) < 4 * variance * np.sqrt(
        (8 + 1 / variance) / n
    )  # kurtosis of the geometric law
    k = np.arange(80)
    expected = n * (mean / (1 + mean)) ** k / (1 + mean)
    observed = np.bincount(np.minimum(counts, 80), minlength=81)
    tail = n - expected.sum()
    assert stats.chisquare(observed, np.append(expected, tail)).pvalue > 1e-4


@pytest.mark.parametrize(("limit", "q"), [("well", 0.5), ("well", 4.6), ("converter", 2.0)])
def test_clipped_fraction_of_speckle(limit, q):
    """With a range of q times the mean, ``exp(-q)`` of the pixels saturate, to 4 SE. Catches: no well, a well in DN."""
    n, mean = 2**20, 10_000.0
    intensity = np.abs(GaussianMedium(1, n, seed=5).block(slice(None), slice(None)).T) ** 2  # speckle of one input
    well, gain = (q * mean, 0.5) if limit == "well" else (1e9, 65_535 / (q * mean))
    camera = Camera(bit_depth=16, quantum_efficiency=1.0, full_well_e=well, gain_dn_per_e=gain, offset_dn=0.0, **BLANK)
    frame = camera.expose(mean * intensity, EXPOSURE_S, [0])
    clipped, expected = (frame == frame.max()).mean(), np.exp(-q)
    assert frame.max() == np.rint(gain * q * mean)
    assert abs(clipped - expected) < 4 * np.sqrt(expected / n) + 2 * expected / mean  # one code is up to two electrons


def test_the_well_fills_before_the_gain():
    """Full pixels read ``rint(K well + offset)`` exactly, for any noise and DSNU.

    Catches: well left out, gain before the well, DSNU or read noise added after it.
    """
    camera = Camera(bit_depth=10, full_well_e=1000.0, gain_dn_per_e=0.1, offset_dn=7.0, dsnu_e=20.0, read_noise_e=20.0)
    frames = frames_of(camera, np.full(300, 5000.0), 50)
    np.testing.assert_array_equal(frames, 107)


@cameras()
def test_the_converter_has_two_ends(camera):
    """Codes stay in 0 to 2^b - 1 and reach both; at offset 0 half of the dark codes are 0. Catches: wrap-around."""
    bright = frames_of(camera, np.full(100, 1e7), 3)
    np.testing.assert_array_equal(bright, camera.top)
    dark = Camera(bit_depth=camera.bit_depth, gain_dn_per_e=1.0, offset_dn=0.0, **(BLANK | {"read_noise_e": 20.0}))
    frames = frames_of(dark, np.zeros(1000), 100)
    share = stats.norm.cdf(0.5 / 20)
    assert abs((frames == 0).mean() - share) < 4 * np.sqrt(0.25 / frames.size)
    assert frames.max() < 120


def test_default_gain_puts_the_full_well_on_the_last_code():
    """``K well + offset = 2^b - 1``, offset 1/128 of the range. Catches: an 8-bit figure used at all depths."""
    for bits in (1, 8, 10, 12, 16):
        camera = Camera(bit_depth=bits)
        assert camera.gain * camera.full_well_e + camera.offset == pytest.approx(2**bits - 1)
        assert camera.offset == 2**bits / 128
    assert Camera(offset_dn=5.5, gain_dn_per_e=0.3).offset == 5.5
    assert Camera(offset_dn=5.5, gain_dn_per_e=0.3).gain == 0.3


@pytest.mark.parametrize("bits", [1, 8, 9, 16])
def test_frames_use_the_smallest_type(bits):
    """uint8 up to 8 bits, uint16 above, codes within the range. Catches: a code that wraps in the cast."""
    camera = Camera(bit_depth=bits)
    frames = camera.expose(np.full((2, 9), 1e6), EXPOSURE_S, [0, 1])
    assert frames.dtype == (np.uint8 if bits <= 8 else np.uint16)
    np.testing.assert_array_equal(frames, 2**bits - 1)


def test_dark_current_doubles_every_8_kelvin():
    """Mean dark electrons, ``mu_I t``, as read from frames to 4 SE, double with 8 K. Catches: 6 K or 10 K, a lost t."""
    n, blank = 2**20, BLANK | {"dark_current_e_per_s": 50.0}
    for warming, factor in ((-8.0, 0.5), (0.0, 1.0), (8.0, 2.0), (20.0, 2**2.5)):
        camera = Camera(bit_depth=12, gain_dn_per_e=1.0, offset_dn=0.0, warming_k=warming, **blank)
        electrons = 50.0 * factor * 0.4
        frame = camera.expose(np.zeros((1, n)), 0.4, [0])
        assert abs(frame.mean() - electrons) < 4 * np.sqrt(electrons / n)
        assert camera.dark_electrons(0.4) == pytest.approx(electrons)


def test_offset_lies_within_the_range():
    """An offset at or over the last code leaves no range. Catches: a camera whose gain is not positive."""
    with pytest.raises(ValueError, match=r"offset_dn"):
        Camera(bit_depth=8, offset_dn=300.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_photons_that_cannot_be_are_refused(value):
    """In any place, by itself. Catches: a check that NaN passes, and one that sees some of the pixels."""
    for place in (0, 100, 299):
        photons = np.ones((3, 100), np.float32)
        photons.flat[place] = value
        with pytest.raises(ValueError, match="photons must be finite and not negative"):
            Camera().expose(photons, 1e-3, np.arange(3))
    Camera().expose(np.zeros((0, 100), np.float32), 1e-3, np.arange(0))
