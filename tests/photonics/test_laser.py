"""The laser: photon budget, illumination of the mirrors, and the two fluctuations of its power."""

import numpy as np
import pytest
from scipy import integrate

from photonics import DMD, Laser
from photonics.laser import Cells

PERIOD_S = 1e-3
STEADY = {"drift_rms": 0.0, "rin_db_per_hz": None}


def powers(laser, ticks, seed=0, exposure_s=4e-4, period_s=PERIOD_S):
    return laser.relative_power(np.asarray(ticks, np.int64), exposure_s, period_s, seed)


def test_photons_per_joule():
    """2.68e18 at 532 nm, proportional to the wavelength and the power. Catches: h/2pi for h, lambda upside down."""
    assert Laser(wavelength_m=532e-9).photons_per_joule == pytest.approx(2.68e18, rel=2e-3)
    assert Laser(wavelength_m=1064e-9).photons_per_joule == pytest.approx(2 * Laser().photons_per_joule)
    assert Laser(power_w=0.25).photon_rate == pytest.approx(0.25 * 2.68e18, rel=2e-3)


@pytest.mark.parametrize("radius_m", [2e-3, 7e-3, 50e-3])
def test_power_on_the_chip(radius_m):
    """``erf(sqrt2 a/w) erf(sqrt2 b/w)``, by integration. Catches: w taken for sigma, whole for half widths."""
    chip, laser = DMD().chip(), Laser(beam_radius_m=radius_m)
    a, b = 1024 * 13.68e-6 / 2, 768 * 13.68e-6 / 2

    def density(y, x):
        return 2 / (np.pi * radius_m**2) * np.exp(-2 * (x**2 + y**2) / radius_m**2)

    share, _ = integrate.dblquad(density, -a, a, -b, b)
    assert laser.power_share(chip)[0] == pytest.approx(share, rel=1e-6)


def test_shares_add_up():
    """Cells that tile the chip carry the power of the chip; the whole plane carries 1. Catches: gaps between cells."""
    laser, dmd = Laser(), DMD(macropixel=64)
    cells = laser.power_share(dmd.cells(16 * 12))
    assert cells.sum() == pytest.approx(laser.power_share(dmd.chip())[0], rel=1e-12)
    plane = Cells(*(np.array([edge]) for edge in (-1.0, 1.0, -1.0, 1.0)))
    assert laser.power_share(plane)[0] == pytest.approx(1.0)
    # The beam is centred and symmetric: so is the illumination.
    grid = cells.reshape(12, 16)
    np.testing.assert_allclose(grid, grid[::-1, ::-1], rtol=1e-9)
    assert np.unravel_index(grid.argmax(), grid.shape) in {(5, 7), (5, 8), (6, 7), (6, 8)}


def test_flat_beam_has_the_peak_of_the_gaussian():
    """A laser without a radius lights every cell as the default beam lights its centre. Catches: a mean for a peak."""
    cells = DMD(macropixel=2).cells(4)
    flat, gaussian = (Laser(beam_radius_m=w).power_share(cells) for w in (None, 7e-3))
    np.testing.assert_allclose(flat, gaussian, rtol=1e-4)
    assert np.ptp(Laser(beam_radius_m=None).power_share(DMD().cells(12288))) < 1e-9 * flat.mean()


def test_field_squared_is_the_photon_rate():
    """``|E|^2`` of a cell is photon rate times share, in each frame. Catches: an amplitude in watts, a lost root."""
    laser, cells = Laser(**STEADY), DMD().cells(300)
    field = laser.field(cells, np.arange(5), exposure_s=1e-4, frame_period_s=PERIOD_S, seed=0)
    assert field.shape == (5, 300)
    assert field.dtype == np.float32
    rate = laser.photon_rate * laser.power_share(cells)
    np.testing.assert_allclose(field**2, np.broadcast_to(rate, (5, 300)), rtol=1e-6)


@pytest.mark.parametrize("exposure_s", [1e-5, 1e-3])
@pytest.mark.parametrize("rin", [-140.0, -110.0])
def test_intensity_noise_of_a_frame(rin, exposure_s):
    """Variance ``10^(RIN/10) / (2 t)``, white, within 4 SE. Catches: RIN/t, 20 dB for 10 dB, noise of the bandwidth."""
    n = 2**16
    laser = Laser(rin_db_per_hz=rin, drift_rms=0.0)
    noise = powers(laser, np.arange(n), exposure_s=exposure_s) - 1
    variance = 10 ** (rin / 10) / (2 * exposure_s)
    assert laser.power_variance(exposure_s) == pytest.approx(variance)
    assert abs(noise.var() / variance - 1) < 4 * np.sqrt(2 / n)
    assert abs(noise.mean()) < 4 * np.sqrt(variance / n)
    assert abs((noise[1:] * noise[:-1]).mean() / variance) < 4 / np.sqrt(n)


def test_power_noise_is_common_to_all_pixels():
    """The field over frames and cells is an outer product: the covariance has rank one. Catches: RIN per pixel."""
    laser = Laser(rin_db_per_hz=-60.0, drift_rms=0.05)
    cells = DMD().cells(200)
    field = laser.field(cells, np.arange(64), exposure_s=1e-4, frame_period_s=PERIOD_S, seed=1).astype(np.float64)
    singular = np.linalg.svd(field - field.mean(axis=0), compute_uv=False)
    assert singular[0] > 0.03 * np.linalg.norm(field)
    assert singular[1] < 1e-5 * singular[0]


@pytest.mark.parametrize("lag", [1, 100, 1000])
def test_drift_correlation(lag):
    """``drift_rms^2 exp(-lag T / tau)`` over 4000 seeds, to 4 SE. Catches: tau in frames, rms for variance."""
    seeds, tau = 4000, 0.5
    laser = Laser(rin_db_per_hz=None, drift_rms=0.02, drift_time_s=tau)
    drift = np.array([powers(laser, [17, 17 + lag], seed) for seed in range(seeds)]) - 1
    expected = np.exp(-lag * PERIOD_S / tau)
    assert abs((drift[:, 0] * drift[:, 1]).mean() / 0.02**2 - expected) < 4 * np.sqrt((1 + expected**2) / seeds)
    assert np.abs((drift**2).mean(axis=0) / 0.02**2 - 1).max() < 4 * np.sqrt(2 / seeds)
    assert laser.power_variance(1e-4) == pytest.approx(0.02**2)


def test_drift_and_intensity_noise_add():
    """Independent: variances add, within 4 SE over seeds. Catches: one draw for both."""
    seeds = 4000
    laser = Laser(rin_db_per_hz=-72.0, drift_rms=0.02)
    power = np.array([powers(laser, [3], seed, exposure_s=1e-4)[0] for seed in range(seeds)])
    assert abs(power.var() / laser.power_variance(1e-4) - 1) < 4 * np.sqrt(2 / seeds)


def test_a_frame_has_the_power_of_its_number():
    """Any order, any split, the same values; another seed, others. Catches: a drift that is a running sum."""
    ticks = np.array([500, 3, 2**40, 3])
    whole = powers(Laser(), ticks)
    np.testing.assert_array_equal(whole, [powers(Laser(), [t])[0] for t in ticks])
    assert whole[1] == whole[3]
    assert np.all(powers(Laser(), ticks, seed=1) != whole)


def test_a_steady_laser_is_steady():
    np.testing.assert_array_equal(powers(Laser(**STEADY), np.arange(10)), 1.0)
    assert Laser(**STEADY).power_variance(1e-4) == 0.0


def test_power_is_never_negative():
    """Even where the noise exceeds the power. Catches: the root of a negative power (NaN in the field)."""
    laser = Laser(rin_db_per_hz=-60.0, drift_rms=0.1)
    power = powers(laser, np.arange(1000), exposure_s=1e-8)
    assert power.min() == 0.0
    assert power.max() > 2.0
