"""Anchor projections: exact laws of the formulas, and the error and its prediction through real devices."""

import dataclasses

import numpy as np
import pytest

from calibration import measure_projection
from calibration.camera.noise import dark_level
from calibration.metrics import anchor_truth, row_correlation, row_errors
from photonics import OPU, Camera, GaussianMedium, Laser, MatrixMedium, presets


def half_on(batch, n, seed=0):
    return np.random.default_rng(seed).random((batch, n)) < 0.5


def ternary(batch, n, seed=0):
    return np.random.default_rng(seed).choice([-1, 0, 1], (batch, n))


def well(opu, depth_e):
    """The device with another full well, exposed alike, and no noise but shot noise and a 16-bit quantiser."""
    camera = Camera(bit_depth=16, full_well_e=depth_e, read_noise_e=0.0, dark_current_e_per_s=0.0, prnu=0.0, dsnu_e=0.0)
    changed = opu.replace(camera=camera, laser=dataclasses.replace(opu.laser, drift_rms=0.0, rin_db_per_hz=None))
    changed = changed.replace(imaging=dataclasses.replace(opu.imaging, throughput=2e-7 * depth_e / 1e4))
    return changed


def test_lab_bench_error_is_under_4_percent():
    """n_in 256, n_out 1000, half ON. Caught mutation: dividing by |T b|^2 in place of its root gives 0.5."""
    opu = presets.lab_bench(256, 1000, seed=0)
    projection = measure_projection(opu)
    x = half_on(256, 256)
    truth = anchor_truth(projection, opu.effective_matrix(), x)
    values = projection(x)
    assert values.shape == (256, 1000)
    assert values.dtype == np.float32
    error = row_errors(values, truth)
    assert np.median(error) < 0.04
    assert np.median(row_correlation(values, truth)[projection.valid]) > 0.998


def test_lab_bench_error_against_the_bare_medium():
    """The medium's matrix alone, without the beam's profile over the mirrors, is met to 4 % as well."""
    opu = presets.lab_bench(256, 1000, seed=1)
    opu.autoexpose()
    projection = measure_projection(opu)
    x = half_on(256, 256)
    truth = anchor_truth(projection, opu.medium.block(slice(None), slice(None)), x)
    assert np.median(row_errors(projection(x), truth)) < 0.04


@pytest.mark.parametrize("vectors", [half_on, ternary])
def test_ideal_error_is_under_a_thousandth(vectors):
    """Scale and sign are not fitted. Caught mutation: unit from the frames' mean (error 5e-3)."""
    opu = presets.ideal(256, 1000, seed=0)
    projection = measure_projection(opu)
    x = vectors(100, 256)
    truth = anchor_truth(projection, opu.effective_matrix(), x)
    assert np.median(row_errors(projection(x), truth)) < 1e-3


def test_error_falls_with_the_root_of_the_light():
    """Noise to zero, error to zero: over two decades of photons the error falls as 1/sqrt within 15 %."""
    x = half_on(128, 256)
    errors = []
    for depth in (1e4, 1e5, 1e6):
        opu = well(presets.lab_bench(256, 1000, seed=2), depth)
        projection = measure_projection(opu)
        truth = anchor_truth(projection, opu.effective_matrix(), x)
        errors.append(np.median(row_errors(projection(x), truth)))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.abs(ratios / np.sqrt(10.0) - 1.0).max() < 0.15


@pytest.mark.parametrize(
    ("preset", "n_inputs"), [("lab_bench", None), ("lighton_aurora", None), ("ideal", None), ("lab_bench", 128)]
)
@pytest.mark.parametrize("vectors", [half_on, ternary])
def test_stated_uncertainty_covers_the_truth(preset, n_inputs, vectors):
    """Deviation over standard error has an rms of 1 within 20 % where no pixel saturated, with either kind of anchor.

    Caught mutation: leaving the frames' shot noise out of the model gives 2 and more.
    """
    opu = presets.get(preset)(256, 1000, seed=3)
    projection = measure_projection(opu, n_inputs=n_inputs)
    x = vectors(128, projection.n_inputs)
    found = projection.measure(x)
    truth = anchor_truth(projection, opu.effective_matrix(), x)
    good = ~found.saturated & projection.valid
    pull = np.sqrt(np.mean(((found.values - truth)[good] / found.standard_error[good]) ** 2))
    assert 0.8 < pull < 1.2


@pytest.mark.parametrize("anchors", [1, 3])
def test_separate_anchor_mirrors(anchors):
    """Inputs beyond n_inputs serve as anchors; the more anchors, the fewer dark rows."""
    opu = presets.ideal(96, 1000, seed=0)
    projection = measure_projection(opu, n_inputs=64, anchors=anchors)
    x = ternary(64, 64)
    truth = anchor_truth(projection, opu.effective_matrix(), x)
    assert np.median(row_errors(projection(x), truth)) < 1e-3
    dark = (1.0 - np.exp(-0.05)) ** anchors
    assert abs((~projection.valid).mean() - dark) < 4.0 * np.sqrt(dark / 1000) + 1e-3
    assert projection.frames_per_vector == 1 + anchors


def test_leaking_mirrors_do_not_break_linearity():
    """With 1:100 contrast the map is still linear: P(x1) + P(x2) = P(x1 + x2) on disjoint supports, noise-free.

    Caught mutation: using I(a) in place of I(a) - I(0) leaves an offset of order eps^2 |T a|^2.
    """
    opu = presets.ideal(64, 500, seed=0)
    opu = opu.replace(dmd=dataclasses.replace(opu.dmd, contrast=100.0, leakage_phase_rad=0.9))
    x, part = half_on(50, 64), half_on(50, 64, seed=1)
    for n_inputs in (None, 48):
        projection = measure_projection(opu, n_inputs=n_inputs)
        z = x[:, : projection.n_inputs]
        p = part[:, : projection.n_inputs]
        whole, first, second = (projection.measure(v) for v in (z, z & p, z & ~p))
        good = ~(whole.saturated | first.saturated | second.saturated) & projection.valid
        residual = np.abs(first.values + second.values - whole.values)[good].max()
        assert residual < 2e-3 * np.abs(whole.values).max()


def test_dark_anchors_are_dropped_and_said():
    """Rows whose anchor is under 5 % of the mean return 0, carry an infinite error, and are 4.9 % of all."""
    opu = presets.lab_bench(128, 4000, seed=0)
    projection = measure_projection(opu)
    share = 1.0 - np.exp(-0.05)
    assert abs((~projection.valid).mean() - share) < 4.0 * np.sqrt(share / 4000)
    found = projection.measure(half_on(8, 128))
    assert not found.values[:, ~projection.valid].any()
    assert np.isinf(found.standard_error[:, ~projection.valid]).all()
    assert np.isfinite(found.standard_error[:, projection.valid]).all()


def test_saturated_pixels_are_flagged():
    """Where a frame hit the last code the value is marked; elsewhere the error stays as predicted."""
    opu = presets.lab_bench(128, 1000, seed=0)
    opu.autoexpose(0.9)
    found = measure_projection(opu).measure(half_on(64, 128))
    assert 0.0 < found.saturated.mean() < 0.05


def test_a_full_well_saturates_under_the_last_code():
    """The well ends at 122 DN of 255: autoexposure, brackets and flags follow it. Caught mutation: the last code."""
    opu = presets.lab_bench(128, 1000, seed=0)
    opu = opu.replace(camera=Camera(gain_dn_per_e=0.012))
    opu.autoexpose(0.9)
    level = np.percentile(opu.measure(half_on(32, 128)), 99)
    assert 0.8 * 122 < level < 122
    found = measure_projection(opu).measure(half_on(64, 128))
    assert 0.0 < found.saturated.mean() < 0.05


def test_sign_and_scale_of_a_users_matrix():
    """A real positive matrix gives back x itself, in the matrix's own unit: the sign and the scale are known."""
    matrix = np.repeat(np.eye(8), 4, axis=0) * 0.3 + 0.3
    opu = presets.ideal(8, 32).replace(medium=MatrixMedium(matrix))
    opu.autoexpose()
    x = ternary(20, 8)
    projection = measure_projection(opu)
    assert projection.valid.all()
    np.testing.assert_allclose(projection(x), x @ matrix.T, atol=2e-3)


def test_empty_vectors_take_no_frames():
    """A zero vector, or the empty half of a ternary one, is not shown: its projection is exactly 0."""
    opu = presets.lab_bench(32, 100, seed=0)
    projection = measure_projection(opu)
    start = opu.clock.frames
    x = np.zeros((10, 32), int)
    assert not projection(x).any()
    assert opu.clock.frames == start
    x[0, 3], x[1, 4] = 1, -1
    projection(x)
    assert opu.clock.frames == start + 2 * projection.frames_per_vector


def test_batch_split_does_not_matter():
    x = ternary(40, 64)
    whole = measure_projection(presets.lab_bench(64, 200, seed=5))(np.abs(x))
    projection = measure_projection(presets.lab_bench(64, 200, seed=5))
    np.testing.assert_array_equal(np.concatenate([projection(np.abs(v)[None]) for v in x]), whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"n_inputs": 0}, "n_inputs must be an integer, 1 to"),
        ({"n_inputs": 33}, "n_inputs must be an integer, 1 to"),
        ({"anchors": 2}, "anchors must be an integer, 1 to"),
        ({"n_inputs": 30, "anchors": 3}, "anchors must be an integer, 1 to"),
        ({"repeats": 1}, "repeats must be greater than or equal to 2, got 1"),
        ({"n_inputs": 2.5}, "n_inputs must be an integer"),
        ({"n_inputs": "2"}, "n_inputs must be an integer"),
        ({"dark_share": 1.0}, "dark_share must be"),
        ({"unit_dn": 0.0}, "unit_dn must be"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_projection(presets.lab_bench(32, 50), **arguments)


@pytest.mark.parametrize("x", [np.zeros(32), np.zeros((2, 31)), np.full((2, 32), np.nan), np.full((2, 32), 2)])
def test_bad_vectors(x):
    projection = measure_projection(presets.lab_bench(32, 50))
    with pytest.raises(ValueError, match="x must"):
        projection(x)


@pytest.mark.parametrize("power", [1e-9, 90.0])
def test_too_dark_or_too_bright_a_device_is_refused(power):
    """Without light, or with every pixel saturated even in the short exposure, there is nothing to calibrate."""
    medium = GaussianMedium(32, 200)
    opu = OPU(medium=medium, laser=Laser(power_w=power), exposure_s=4.4e-5)
    with pytest.raises(ValueError, match="autoexpose"):
        measure_projection(opu)


def test_no_row_has_an_error_that_every_vector_shares():
    """Sparse vectors under anchors some of which saturate: what half of a sum's parts do not share is no offset.

    ``M e_i + M e_j - M (e_i + e_j)`` is 0 but for noise and rounding. Catches: rows whose anchor is saturated, which
    give the same false value whatever is shown, once for each part of a ternary vector.
    """
    opu = presets.lab_bench(80, 4000, seed=0)
    opu.autoexpose()
    opu.exposure_s *= 2.0
    projection = measure_projection(opu, n_inputs=40)
    i, j = np.arange(0, 40, 2), np.arange(1, 40, 2)
    unit = np.eye(40, dtype=np.int8)
    offset = np.mean(projection(unit[i]) + projection(unit[j]) - projection(unit[i] + unit[j]), axis=0)
    assert 0.8 < projection.valid.mean() < 0.97
    size = np.sqrt(np.mean(projection(unit[i]) ** 2))
    assert np.abs(offset).max() < 0.5 * size


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.0, 6.0])
def test_noise_that_the_converter_cuts_off_is_known(sigma):
    """Dark readings of level 2 DN, rounded, none under 0: level to half a code, variance to 5 %.

    The standard error of either estimate is under 1 %. Caught mutation: the variance of what is left (-60 % at 6 DN).
    """
    dark = np.maximum(np.rint(np.random.default_rng(0).normal(2.0, sigma, (16, 4000))), 0.0)
    level, variance = dark_level(dark)
    expected = np.rint(np.random.default_rng(1).normal(2.0, sigma, 200_000)).var()
    assert abs(level - 2.0) < 0.1
    np.testing.assert_allclose(variance, expected, rtol=0.05, atol=1e-3)


def test_strong_read_noise_is_not_taken_for_drift():
    """200 electrons rms are 5 DN, over the offset of 2. Catches: a floor without what was cut off."""
    opu = presets.lab_bench(20, 295, seed=0).replace(**{"camera.read_noise_e": 200.0})
    opu.autoexpose()
    opu.exposure_s *= 0.05
    assert measure_projection(opu, n_inputs=10).valid.mean() > 0.5
