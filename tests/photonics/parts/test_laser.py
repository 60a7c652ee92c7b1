"""The laser: photon budget, illumination of the mirrors, fluctuations of power and pointing, coherence."""

import math
from dataclasses import replace

import array_api_strict as strict
import numpy as np
import pytest
from scipy import integrate, special

from photonics import DMD, Laser, presets
from photonics.backend import backend_of, to_host
from photonics.parts.laser import Cells, mode_weights

PERIOD_S = 1e-3
STEADY = {"drift_rms": 0.0, "rin_db_per_hz": None, "pointing_rad": 0.0}


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
    plane = Cells(np.array([-1.0, 1.0]), np.array([1.0, -1.0]), 1)
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


@pytest.mark.parametrize(("rin", "exposure_s"), [(-140.0, 1e-3), (-110.0, 1e-5)])
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
    laser = Laser(rin_db_per_hz=-60.0, drift_rms=0.05, pointing_rad=0.0)
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


def test_a_laser_warms_up():
    """``1 + w exp(-t / tau)`` from frame 0: 5 % of it is left after 600 s; frames show it, moments do not.

    Catches: a time in frames, a transient that begins with each call or changes the expected moments.
    """
    laser = Laser(warm_up=-0.3, **STEADY)
    np.testing.assert_allclose(powers(laser, [0, 200_000, 600_000]), 1 - 0.3 * np.exp([0.0, -1.0, -3.0]), rtol=1e-12)
    opu = presets.ideal(20, 400).replace(laser=replace(laser, beam_radius_m=None, warm_up_time_s=0.02, power_w=100.0))
    on = np.ones((60, 20), bool)
    signal = np.concatenate([opu.measure(on[:25]), opu.measure(on[25:])]).mean(axis=1) - opu.camera.offset
    expected = (opu.mean(on[:1]) - opu.camera.offset).mean() * (1 - 0.3 * np.exp(-np.arange(60) / 20))
    np.testing.assert_allclose(signal, expected, rtol=1e-3)


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


SHAKY = Laser(**STEADY | {"pointing_rad": 50e-6}, beam_radius_m=1e-3, pointing_lever_m=2.0)


def light(laser, cells, ticks, seed=0, **options):
    return laser.field(
        cells, np.asarray(ticks, np.int64), exposure_s=1e-4, frame_period_s=PERIOD_S, seed=seed, **options
    )


def test_the_beam_is_centred_on_the_pointing():
    """The centroid of each frame is the pointing. Catches: a shift of the wrong sign, x for y, amplitude for power."""
    cells, ticks = DMD(macropixel=16).cells(64 * 48), np.arange(50)
    power = light(SHAKY, cells, ticks, seed=3).astype(np.float64) ** 2
    centroid = (power @ cells.centres.T / power.sum(axis=1, keepdims=True)).T
    np.testing.assert_allclose(centroid, SHAKY.pointing(ticks, 3), atol=1e-9)
    np.testing.assert_allclose(power.sum(axis=1), SHAKY.photon_rate, rtol=1e-5)


def test_pointing_is_white_and_has_its_rms():
    """Lever times angle on either axis, independent of each other and of the last frame, to 4 SE.

    Catches: rms of both axes together, one draw for both, an angle without its lever.
    """
    n = 2**14
    ticks = np.arange(n)
    shift = Laser(pointing_rad=5e-6, pointing_lever_m=3.0).pointing(ticks, 1) / 15e-6
    assert np.abs((shift**2).mean(axis=1) - 1).max() < 4 * np.sqrt(2 / n)
    assert np.abs((shift[:, 1:] * shift[:, :-1]).mean(axis=1)).max() < 4 / np.sqrt(n)
    assert abs((shift[0] * shift[1]).mean()) < 4 / np.sqrt(n)
    assert np.abs(shift.mean(axis=1)).max() < 4 / np.sqrt(n)


def test_large_cells_under_a_moving_beam():
    """Power on a cell of the size of the beam, by integration. Catches: the profile of a point, times its shift."""
    cells = Cells(np.array([-0.5e-3, 1.5e-3]), np.array([1e-3, -0.3e-3]), 1)
    dx, dy = SHAKY.pointing(np.array([4]), 0)[:, 0]

    def density(y, x):
        return 2 / (np.pi * 1e-6) * np.exp(-2 * ((x - dx) ** 2 + (y - dy) ** 2) / 1e-6)

    share, _ = integrate.dblquad(density, -0.5e-3, 1.5e-3, -0.3e-3, 1e-3)
    assert light(SHAKY, cells, [4])[0, 0] ** 2 == pytest.approx(SHAKY.photon_rate * share, rel=1e-6)
    assert abs(share / SHAKY.power_share(cells)[0] - 1) > 1e-3


def test_small_cells_follow_the_formula_of_a_point():
    """``exp((2 x dx - dx^2 + 2 y dy - dy^2) / w^2)`` times the profile. Catches: w of the intensity, a lost square."""
    cells, ticks = DMD(macropixel=1).cells(2000), np.arange(20)
    (x, y), (dx, dy) = cells.centres, SHAKY.pointing(ticks, 0)[..., None]
    profile = np.sqrt(SHAKY.photon_rate * SHAKY.power_share(cells))
    expected = profile * np.exp((2 * x * dx - dx**2 + 2 * y * dy - dy**2) / 1e-6)
    np.testing.assert_allclose(light(SHAKY, cells, ticks), expected, rtol=2e-5)


def test_pointing_gradient_gives_the_covariance():
    """Covariance of ln(amplitude) over frames is the gradients' product, each entry to 4.5 SE (plus the second order).

    Catches: rms for variance, the gradient of the power, axes swapped, one axis left out.
    """
    laser, cells, n = Laser(**STEADY | {"pointing_rad": 5e-6}), DMD(macropixel=64).cells(192), 4000
    gradient = laser.pointing_gradient(cells)
    assert gradient.shape == (2, 192)
    deviation = np.log(light(laser, cells, np.arange(n)).astype(np.float64))
    deviation -= deviation.mean(axis=0)
    linear = (laser.pointing(np.arange(n), 0) / laser.pointing_shift_m).T @ gradient
    assert np.abs(deviation - linear + linear.mean(axis=0)).max() < 0.05 * linear.std()
    covariance = gradient.T @ gradient
    power = np.diag(covariance)
    error = np.sqrt((np.outer(power, power) + covariance**2) / n)
    assert np.abs((deviation.T @ deviation / n - covariance) / error).max() < 4.5
    assert not Laser(pointing_rad=0.0).pointing_gradient(cells).any()
    assert not Laser(beam_radius_m=None).pointing_gradient(cells).any()


def test_a_uniform_beam_has_no_pointing():
    """Where the beam is the same everywhere its place does not matter. Catches: a shift of a beam without radius."""
    field = light(Laser(**STEADY | {"pointing_rad": 1e-3}, beam_radius_m=None), DMD().cells(10), range(5))
    np.testing.assert_array_equal(field, field[:1].repeat(5, axis=0))
    assert Laser(beam_radius_m=None).pointing_shift_m == 0


def test_frames_have_the_light_of_their_numbers():
    """Any order and split, the same bits; other frames and seeds, others. Catches: light that depends on neighbours."""
    laser, cells, ticks = Laser(), DMD().cells(300), np.array([500, 3, 2**40, 3])
    whole = light(laser, cells, ticks, seed=5)
    for i, tick in enumerate(ticks):
        np.testing.assert_array_equal(whole[i : i + 1], light(laser, cells, [tick], seed=5))
    assert np.all(whole[0] != whole[1])
    assert np.mean(whole != light(laser, cells, ticks, seed=6)) > 0.99
    assert light(laser, cells, []).shape == (0, 300)


def test_other_array_libraries():
    """The field is made on the device it is asked for, as numpy makes it. Catches: numpy called on its arrays."""
    device = strict.Device("device1")
    backend = backend_of(strict.asarray(0.0, device=device))
    for laser in (Laser(), Laser(**STEADY)):
        field = light(laser, DMD().cells(300), range(4), backend=backend)
        assert field.device == device
        assert field.dtype == strict.float32
        np.testing.assert_array_equal(to_host(field), light(laser, DMD().cells(300), range(4)))


@pytest.mark.parametrize("times", [1e-6, 1.0, 30.0])
def test_coherence(times):
    """contrast^2 = ``1 / (1 + 2 pi tau linewidth)`` = sum of the squared weights, within 1 %.

    Catches: half widths for full ones, tau for 2 pi tau, weights that are not renormalised.
    """
    laser = Laser(linewidth_hz=2e6)
    tau = times / (2 * np.pi * 2e6)
    assert laser.coherence_contrast(tau) ** 2 == pytest.approx(1 / (1 + times))
    weights = laser.spectral_weights(tau)
    assert (weights**2).sum() == pytest.approx(1 / (1 + times), rel=0.0025)
    assert weights.sum() == pytest.approx(1)
    assert np.all(np.diff(weights) <= 0)
    assert weights.min() > 0


@pytest.mark.parametrize("times", [0.3, 30.0])
def test_weights_are_eigenvalues_of_the_spectral_correlation(times):
    """Of ``sqrt(S S') / (1 - 2i pi tau (nu - nu'))`` over the line, by quadrature. Catches: another line or path."""
    n = 400
    quantiles = (np.arange(n) + 0.5) / n
    frequency = np.tan(np.pi * (quantiles - 0.5)) / 2  # equal shares of a Lorentzian of FWHM 1
    tau = times / (2 * np.pi)
    matrix = 1 / n / (1 - 2j * np.pi * tau * (frequency[:, None] - frequency))
    weights = mode_weights(times, 20)
    np.testing.assert_allclose(weights[:4], np.linalg.eigvalsh(matrix)[::-1][:4], atol=3e-4)


@pytest.mark.parametrize("times", [0.01, 1.0, 5.3, 100.0])
def test_weights_are_zeros_of_a_bessel_function(times):
    """``J_(times-1)(2 sqrt(times / w)) = 0``, each zero once: they alternate with those of J_times.

    Catches: a McMahon series of another order, a zero left out where it takes over from the matrix.
    """
    weights = mode_weights(times, 2000)
    zeros = 2 * np.sqrt(times / weights)
    slope = special.jvp(times - 1, zeros)
    assert np.abs(special.jv(times - 1, zeros) / slope / zeros).max() < 1e-7
    assert np.all(slope[1:] * slope[:-1] < 0)
    assert weights.sum() == pytest.approx(1 - 4 * times / (np.pi**2 * (2000 + times / 2 - 0.25)), abs=3e-6)


def test_number_of_modes():
    """One for a narrow line; what is kept holds ``1 - tolerance``, one less does not. Catches: a fixed number."""
    assert Laser().spectral_weights(1e-12).shape == Laser(linewidth_hz=0.0).spectral_weights(1.0).shape == (1,)
    for tolerance in (1e-3, 0.01, 0.1):
        kept = len(Laser(linewidth_hz=1e9).spectral_weights(1e-9, tolerance))
        held = mode_weights(2 * math.pi, kept).cumsum()
        assert held[-2] < 1 - tolerance <= held[-1]


@pytest.mark.parametrize("path_time_s", [-1e-12, float("nan"), "long", 1e-3])
def test_bad_path_time(path_time_s):
    with pytest.raises(ValueError, match=rf"^path_time_s must be .*, got {path_time_s!r}$"):
        Laser().spectral_weights(path_time_s)


@pytest.mark.parametrize("tolerance", [0.0, 0.9, None])
def test_bad_tolerance(tolerance):
    with pytest.raises(ValueError, match=rf"^tolerance must be 1e-4 to 0.5, got {tolerance}$"):
        Laser().spectral_weights(1e-9, tolerance)
