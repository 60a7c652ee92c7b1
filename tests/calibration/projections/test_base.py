"""Laws that every method to measure a projection obeys: each runs on all of `METHODS`."""

import dataclasses
import functools

import numpy as np
import pytest

import calibration.projections.base
from calibration import measure_projection
from calibration.device import Device
from tests.calibration.benches import (
    METHODS,
    bench,
    calibrate,
    errors,
    grey,
    half_on,
    ternary,
    truth_of,
    well,
)


@functools.cache
def calibrated(name):
    """A projection for tests that do not depend on its frames."""
    return calibrate(bench("lab_bench", name), name)


every_method = pytest.mark.parametrize("name", METHODS)


@every_method
@pytest.mark.parametrize(("vectors", "most"), [(half_on, 1e-3), (grey, 4e-3)])
def test_without_noise_it_is_the_true_map(name, vectors, most):
    """On `ideal` the error is under 1e-3 of each row's rms, with the stated gauge fixed; scale and sign are not fitted.

    Grey vectors of 8 bits have a rounding error of 1/255/sqrt(12), 2e-3 of their rms. Catches: a conjugated reference,
    a phase step of the other sign (in `stepped_interference`), the pixel's width left in the fringes, weights of the
    planes in reverse order.
    """
    projection = calibrate(bench("ideal", name, seed=1), name)
    x = vectors(60, projection.n_inputs)
    values = projection(x)
    assert values.dtype == projection.dtype
    assert values.shape == (60, projection.n_outputs)
    assert np.median(errors(projection, x, values)) < most


@every_method
def test_additive_with_leaking_mirrors(name):
    """P(x1) + P(x2) = P(x1 + x2) on disjoint supports, noise-free, with OFF mirrors that leak 1 % at any phase.

    Catches: the response of all mirrors OFF not subtracted.
    """
    opu = bench("ideal", name, seed=2)
    opu = opu.replace(dmd=dataclasses.replace(opu.dmd, contrast=100.0, leakage_phase_rad=0.9))
    projection = calibrate(opu, name)
    x, part = half_on(40, projection.n_inputs), half_on(40, projection.n_inputs, seed=1)
    whole, first, second = (projection.measure(v) for v in (x, x & part, x & ~part))
    good = ~(whole.saturated | first.saturated | second.saturated) & projection.valid
    residual = np.abs(first.values + second.values - whole.values)[good]
    assert residual.max() < 2e-3 * np.abs(whole.values).max()


@every_method
@pytest.mark.parametrize("vectors", [half_on, ternary, grey])
def test_stated_uncertainty_covers_the_truth(name, vectors):
    """On `lab_bench` 68 % of errors are within 1 standard error and 95 % within 2: 65 to 80 and 93 or more.

    Real and imaginary parts count one by one. Off-axis outputs of a grain share their noise: 60 x 500 values hold about
    600 independent ones of each part, of standard error 0.02. Disjoint anchors state a bound for the leak, so that the
    ceiling is not for them. Catches: shot noise left out; a variance of the complex number in place of its part's;
    weights of bit planes not squared.
    """
    projection = calibrate(bench("lab_bench", name, seed=3), name)
    x = vectors(60, projection.n_inputs)
    found = projection.measure(x)
    good = ~found.saturated & projection.valid
    assert good.mean() > 0.85
    deviation = (found.values - truth_of(projection, x, found.values))[good]
    parts = [deviation.real] if projection.dtype is np.float32 else [deviation.real, deviation.imag]
    pull = np.abs(np.concatenate(parts)) / np.tile(found.standard_error[good], len(parts))
    within = np.mean(pull < 1), np.mean(pull < 2)
    assert within[0] > 0.65
    assert within[1] > 0.93
    if name != "anchor, disjoint":
        assert within[0] < 0.8
    assert (found.noise[good] <= found.standard_error[good]).all()


@every_method
def test_a_short_calibration_is_part_of_the_error(name):
    """With averages of two frames, calibration noise is part of the stated error of binary vectors.

    It cancels in ternary vectors, which are differences. Catches: the calibration's noise left out, or kept there.
    """
    projection = calibrate(bench("lab_bench", name, seed=5), name, repeats=2)
    one = np.eye(60, projection.n_inputs)  # dim vectors, in which an error of scale does not show
    for x, shared in ((one, True), (one - np.roll(one, 1, axis=1), False)):
        found = projection.measure(x)
        good = ~found.saturated & projection.valid
        deviation = (found.values - truth_of(projection, x, found.values))[good]
        parts = 1 if projection.dtype is np.float32 else 2
        pull = np.sqrt(np.mean(np.abs(deviation / found.standard_error[good]) ** 2) / parts)
        assert 0.8 < pull < 1.15
        extra = np.median((found.standard_error**2 - found.noise**2)[good] / found.noise[good] ** 2)
        assert (extra > 0.15) == shared


@every_method
def test_error_falls_with_the_root_of_the_light(name):
    """Over two decades of photons the error falls as 1/sqrt within 10 %; a quantiser of 8 bits then limits it.

    Mirrors do not leak with disjoint anchors, as leakage causes an error of their scale. Catches: fringes with leaked
    light left in the reference's intensity (off-axis), a bias of the anchors' places.
    """

    def error(depth, bits=16):
        opu = well(bench("lab_bench", name, seed=2), depth)
        dmd = dataclasses.replace(opu.dmd, contrast=None) if name == "anchor, disjoint" else opu.dmd
        opu = opu.replace(camera=dataclasses.replace(opu.camera, bit_depth=bits), dmd=dmd, exposure_s=opu.exposure_s)
        projection = calibrate(opu, name)
        return np.median(errors(projection, half_on(100, projection.n_inputs)))

    found = np.array([error(depth) for depth in (1e4, 1e5, 1e6)])
    np.testing.assert_allclose(found[:-1] / found[1:], np.sqrt(10.0), rtol=0.1)
    assert error(1e6, bits=8) > 2.0 * found[-1]


@every_method
def test_any_batch_split_gives_the_same_bits(name, monkeypatch):
    """Vectors one by one, all at once, or in chunks give the same frames and values.

    Catches: sums whose order depends on the batch; a chunk that drops its last pattern.
    """
    x = np.abs(grey(7, calibrated(name).n_inputs))
    whole = calibrate(bench("lab_bench", name), name).measure(x)
    projection = calibrate(bench("lab_bench", name), name)
    np.testing.assert_array_equal(np.concatenate([projection(v[None]) for v in x]), whole.values)
    projection = calibrate(bench("lab_bench", name), name)
    monkeypatch.setattr(calibration.projections.base, "CHUNK", 3 * projection.frames_per_vector * projection.n_outputs)
    parts = projection.measure(x)
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@every_method
def test_frames_are_counted(name):
    """The clock advances by the predicted frames; zero vectors and halves take none. Catches: planes shown twice."""
    opu = bench("lab_bench", name)
    projection = calibrate(opu, name)
    x = np.zeros((5, projection.n_inputs))
    x[0, 3], x[1, 4], x[2, 5:7], x[3, :2] = 1.0, -1.0, (1.0, -1.0), (0.25, -0.7)
    start = opu.clock.frames
    values = projection(x)
    levels = [int(v * 255 + 0.5).bit_count() for v in (0.25, 0.7)]
    assert projection.frames_of(x) == (1 + 1 + 2 + sum(levels)) * projection.frames_per_vector
    assert opu.clock.frames - start == projection.frames_of(x)
    assert not values[4].any()
    assert values[3].any()


@pytest.mark.parametrize(
    "x", [np.zeros(3), np.zeros((2, 3)), np.nan, 2, -1.5, np.inf, "text", 1j], ids=lambda x: f"{type(x).__name__} {x}"
)
def test_bad_vectors_are_refused_in_a_line(x):
    projection = calibrated("4 steps")
    x = x if isinstance(x, np.ndarray) else np.full((2, projection.n_inputs), x)
    start = projection.opu.clock.frames
    for ask in (projection, projection.measure):
        with pytest.raises(ValueError, match="x must") as caught:
            ask(x)
        assert "\n" not in str(caught.value)
    assert projection.opu.clock.frames == start


@every_method
def test_effective_matrix_is_the_maps_own(name):
    """Without noise it maps vectors as the projection does. Catches: its transpose."""
    projection = calibrate(bench("ideal", name, seed=1, n_in=96), name)
    matrix = projection.effective_matrix(repeats=2)
    assert matrix.shape == (projection.n_outputs, projection.n_inputs)
    assert matrix.dtype == projection.dtype
    x = half_on(30, projection.n_inputs)
    values = projection(x)
    rms = np.sqrt(np.mean(np.abs(values) ** 2))
    assert np.sqrt(np.mean(np.abs(x @ matrix.T - values) ** 2)) < 0.01 * rms


class Thin:
    """A device that is not an OPU, with no more than the protocol."""

    def __init__(self, opu):
        self._hidden, self.clock, self.exposure_s = opu, opu.clock, opu.exposure_s

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(Device, name):
            raise AttributeError(name)
        return getattr(self._hidden, name)

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        return self._hidden.measure(patterns, exposure_s, reference_phase=reference_phase)

    def dark(self, count, exposure_s=None):
        return self._hidden.dark(count, exposure_s)


@every_method
def test_a_device_need_not_be_an_opu(name):
    """A proxy that has only the protocol gives the same bits. Catches: access to more than `Device`."""
    first = calibrate(bench("lab_bench", name), name)
    second = calibrate(Thin(bench("lab_bench", name)), name)
    x = ternary(5, first.n_inputs)
    for one, other in zip(first.measure(x), second.measure(x), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="opu must be"):
        measure_projection("bench")


@every_method
def test_gauge_repr_and_frame_count_are_described(name):
    """The gauge is a sentence, the repr is short, and frames per vector follow the formula."""
    projection = calibrate(bench("lab_bench", name), name)
    assert projection.gauge.endswith(".")
    assert "phase" in projection.gauge
    assert len(repr(projection)) < 120
    assert "\n" not in repr(projection)
    frames = {"anchor": 2, "3": 3, "4": 4, "off-axis": 1, "multilateration": 7, "reference": 1}
    assert projection.frames_per_vector == frames[name.split(",")[0].split(" ")[0]]


@every_method
def test_rows_that_are_not_valid_return_nothing(name):
    """They are 0 with an infinite error; the error of the others is finite. Catches: noise in dropped rows."""
    projection = calibrate(bench("lab_bench", name), name, dark_share=0.25)
    found = projection.measure(half_on(4, projection.n_inputs))
    assert not found.values[:, ~projection.valid].any()
    assert np.isinf(found.standard_error[:, ~projection.valid]).all()
    assert np.isfinite(found.standard_error[:, projection.valid]).all()
