"""Anchor projections: their error and its prediction through real devices."""

import numpy as np
import pytest

from calibration import measure_projection
from calibration.metrics import anchor_truth, row_correlation, row_errors
from photonics import OPU, Camera, Drifting, GaussianMedium, Imaging, Laser, MatrixMedium, presets
from tests.calibration.benches import (
    half_on,
    ternary,
)


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


def test_dark_anchors_are_dropped():
    """Rows whose anchor is under 5 % of the mean are 4.9 % of all. Catches: a limit relative to the maximum."""
    opu = presets.lab_bench(128, 4000, seed=0)
    projection = measure_projection(opu)
    share = 1.0 - np.exp(-0.05)
    assert abs((~projection.valid).mean() - share) < 4.0 * np.sqrt(share / 4000)


def test_saturated_pixels_are_flagged():
    """Values whose frames reach the last code are marked. Catches: no value, or all, marked."""
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
    """A real positive matrix is recovered in its own unit. Catches: a wrong sign or scale."""
    matrix = np.repeat(np.eye(8), 4, axis=0) * 0.3 + 0.3
    opu = presets.ideal(8, 32).replace(medium=MatrixMedium(matrix))
    opu.autoexpose()
    x = ternary(20, 8)
    projection = measure_projection(opu)
    assert projection.valid.all()
    np.testing.assert_allclose(projection(x), x @ matrix.T, atol=2e-3)


@pytest.mark.parametrize("power", [1e-9, 90.0])
def test_too_dark_or_too_bright_a_device_is_refused(power):
    """Without light, or with every pixel saturated in the short exposure too. Catches: a projection of noise."""
    medium = GaussianMedium(32, 200)
    opu = OPU(medium=medium, laser=Laser(power_w=power), imaging=Imaging(throughput=2e-8), exposure_s=4.4e-5)
    with pytest.raises(ValueError, match=r"set the exposure|shorten the exposure"):
        measure_projection(opu)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"camera.bit_depth": 2}, r"DN above dark of 3 \(2 bits\), .*: set the exposure .* more bits or anchors"),
        (
            {"laser.power_w": 1e-6},
            r"0.00 DN above .* 0% saturated, in 0.000987 s of at most 0.000987 s: no longer .* light",
        ),
    ],
)
def test_a_device_that_has_its_exposure_is_told_what_is_missing(changes, says):
    """Bits, light and anchors, in one line. Catches: "call opu.autoexpose()" right after it was called."""
    opu = presets.lab_bench(40, 300).replace(**changes)
    opu.autoexpose()
    with pytest.raises(
        ValueError,
        match=rf"^anchors must be bright enough on half of the pixels, got .* of 300 with 1 anchor, at .*{says}",
    ):
        measure_projection(opu, n_inputs=20)


def test_no_row_has_a_common_error_in_all_vectors():
    """``M e_i + M e_j - M (e_i + e_j)`` is 0 except for noise and rounding, though some anchors saturate.

    Catches: rows whose anchor is saturated, which have the same wrong value for every pattern.
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


def test_refresh_follows_an_anchor_that_has_moved():
    """After 0.3 correlation times the error of an offset is gone; gauge and rows are those of before.

    Catches: an anchor of the calibration that stays in the values (error of all rows alike, 0.9 of the signal).
    """
    medium = Drifting(GaussianMedium(20, 400, seed=1), correlation_frames=1e4)
    opu = presets.lab_bench(20, 400, seed=1).replace(medium=medium)
    opu.autoexpose()
    projection = measure_projection(opu, n_inputs=10)
    opu.clock.advance(3000)
    refreshed = projection.refresh()
    assert 0.8 < refreshed.scale < 1.25
    assert refreshed.correlation_frames == pytest.approx(1e4, rel=0.3)
    assert refreshed.correlation == pytest.approx(np.exp(-0.6), abs=0.15)
    x, found = np.eye(10), []
    for one in (projection, refreshed.projection):
        truth = anchor_truth(one, opu.effective_matrix(tick=opu.clock.frames), x)
        found.append(np.sqrt(np.mean((one(x) - truth)[:, one.valid] ** 2) / np.mean(truth[:, one.valid] ** 2)))
    assert found[1] < 0.35 < 1.0 < found[0]
