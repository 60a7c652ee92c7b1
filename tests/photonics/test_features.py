"""Random features: scikit-learn's own checks, and the optical kernel as their limit."""

import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from calibration import measure_projection
from photonics import OPU, Ballistic, GaussianMedium, Imaging, Lossy, MatrixMedium, Modes, OPUFeatures, presets
from photonics.analysis.speckle import optical_kernel
from photonics.parts.camera import Camera

ROOT = Path(__file__).parents[2]


def same(x):
    """An encoder for binary samples."""
    return x > 0


def pairs(n):
    return np.triu_indices(n)


def deviations(features, kernel):
    """Standard errors between inner products and a kernel, for each pair, the error from the spread over pixels."""
    i, j = pairs(len(features))
    terms = features[i].astype(np.float64) * features[j]  # (pairs, n_components)
    count = terms.shape[1]
    return (terms.sum(axis=1) - kernel[i, j]) / (terms.std(axis=1) * math.sqrt(count))


@pytest.mark.parametrize(
    "features",
    [
        OPUFeatures(n_components=16),
        OPUFeatures(n_components=16, device="ideal", encoder="sign"),
        OPUFeatures(n_components=16, device=presets.lab_bench(80, 40)),
        OPUFeatures(n_components=16, kind="linear", projection=measure_projection),
    ],
    ids=["default", "sign", "device", "linear"],
)
def test_scikit_learns_checks(features):
    """All pass, apart from those that compare two noisy readings. Catches: a parameter changed by fitting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks warn of what they try
        results = check_estimator(features, on_skip=None, on_fail=None)
    assert len(results) > 30
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] not in ("passed", "skipped")] == []
    skipped = [str(r["exception"]) for r in results if r["status"] == "skipped"]
    assert all("non deterministic" in reason or "SCIPY_ARRAY_API" in reason for reason in skipped)


@pytest.mark.parametrize("device", ["ideal", "ideal, larger"])
def test_nonlinear_features_tend_to_the_optical_kernel(rng, device):
    """Every pair of patterns within 4.5 standard errors, which are 2 % here. Spare inputs change nothing.

    Catches: dark frames left in, a missing 1 / sqrt(n_components), a variance of 1 / device inputs.
    """
    x = rng.random((14, 60)) < np.linspace(0.15, 1.0, 14)[:, None]
    made = "ideal" if device == "ideal" else presets.ideal(100, 9000, seed=1)
    features = OPUFeatures(8192, device=made, encoder=same, random_state=1).fit_transform(x.astype(float))
    kernel = optical_kernel(x, x, 1 / 60)
    z = deviations(features, kernel)
    assert np.abs(z).max() < 4.5
    assert np.abs(features @ features.T - kernel)[kernel > 0].max() < 0.15 * kernel.max()


ALL = slice(None)
GREY = {
    "polarisations": (200, {"imaging": Imaging(throughput=4e-6, polarisations=2)}, 0.5),
    "modes": (100, {"medium": Modes(GaussianMedium(80, 9000, seed=1), (3.0, 1.0, 1.0))}, 0.44),
    "grains": (400, {"imaging": Imaging(throughput=4e-6, numerical_aperture=0.03, sensor=(90, 100))}, 0.7948),
    "loss": (100, {"medium": Lossy(Lossy(GaussianMedium(80, 9000, seed=1), 0.5), 0.8)}, 1.0),
    "own matrix": (100, {"medium": MatrixMedium(0.5 * GaussianMedium(80, 9000, seed=1).block(ALL, ALL))}, 1.0),
}


@pytest.mark.parametrize("kind", ["nonlinear", "linear"])
@pytest.mark.parametrize("name", GREY)
def test_features_tend_to_the_kernel_of_their_speckle(name, kind, half_on):
    """Every pair within 4.5 standard errors of the kernel with the device's contrast, and 5 % on average.

    Linear features of equal fields to 5 %. A warning tells the kernel where it is not the optical one; losses change
    nothing. Before, two polarisations gave 0.75 of the stated kernel, and half of the light, or
    a matrix of half of the amplitude, 0.25 or 0.066 of it.

    Catches: a promise that the device does not keep.
    """
    outputs, parts, square = GREY[name]
    device = presets.ideal(80, 90 * outputs, seed=1).replace(**parts)
    features, x = (
        OPUFeatures(8192, device=device, encoder=same, kind=kind, projection=measure_projection),
        half_on(10, 40),
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = features.fit_transform(x.astype(float))
    assert [f"{square:.2g} (x.y)^2" in str(one.message) for one in told] == [True] * (square < 1)
    assert features.contrast_**2 == pytest.approx(square, abs=0.01)
    if kind == "nonlinear" and name != "grains":  # pixels of grains are not independent
        assert np.abs(deviations(found, optical_kernel(x, x, 1 / 40, features.contrast_))).max() < 4.5
    expected = (
        optical_kernel(x, x, 1 / 40, features.contrast_)
        if kind == "nonlinear"
        else square * (x @ x.T.astype(float)) / 40
    )
    i, j = pairs(10)
    ratio = ((found @ found.T)[i, j] / expected[i, j]).mean()
    assert abs(ratio - 1.0) < 0.05 or (kind == "linear" and name in ("modes", "grains") and 0.8 < ratio < 1.0)


def test_unscattered_light_is_told(half_on):
    """It has no kernel in closed form. Catches: a device that is said to have the optical kernel."""
    device = presets.ideal(40, 90, seed=1)
    device = device.replace(medium=Ballistic(device.medium, 0.5))
    with pytest.warns(UserWarning, match="does not scatter all of the light"):
        assert np.isnan(OPUFeatures(90, device=device, encoder=same).fit(half_on(9, 40).astype(float)).contrast_)


def test_linear_features_tend_to_the_inner_product(half_on):
    """As above, the projection measured through the device.

    Catches: the scale of a projection's entries, an anchor that shows the data's own mirrors.
    """
    x = half_on(10, 40)
    features = OPUFeatures(8192, device="ideal", encoder=same, kind="linear", projection=measure_projection)
    z = deviations(features.fit_transform(x.astype(float)), x.astype(float) @ x.T / 40)
    assert np.abs(z).max() < 4.5


def test_ridge_on_features_is_kernel_ridge():
    """Digits: accuracy of ridge regression on 4096 features within 1.5 points of ridge with the exact kernel.

    Both far above linear ridge on the same patterns. Catches: linear features, features of another pattern.
    """
    x, y = load_digits(return_X_y=True)
    x, y, x_test, y_test = x[:1200], np.eye(10)[y[:1200]], x[1200:], y[1200:]

    def accuracy(model, a, b):
        return float((model.fit(a, y).predict(b).argmax(axis=1) == y_test).mean())

    features = OPUFeatures(4096, device="lab_bench", random_state=0)
    optical = accuracy(make_pipeline(features, Ridge(1e-3)), x, x_test)
    on, on_test = x > features.threshold_, x_test > features.threshold_
    exact = accuracy(
        KernelRidge(kernel="precomputed", alpha=1e-3),
        optical_kernel(on, on, 1 / 64),
        optical_kernel(on_test, on, 1 / 64),
    )
    linear = accuracy(Ridge(1e-3), on.astype(float), on_test.astype(float))
    assert abs(optical - exact) < 0.015
    assert optical > linear + 0.03


def test_noise_is_a_function_of_the_seed(rng):
    """A new fit gives the same frames, a second transform does not, and another seed is another device.

    Catches: a clock that starts over with every transform, a seed that is not passed on.
    """
    x = rng.normal(size=(20, 12))
    features = OPUFeatures(64)
    first, again = features.fit_transform(x), features.transform(x)
    assert np.array_equal(first, clone(features).fit_transform(x))
    assert not np.array_equal(first, again)
    assert np.corrcoef(first.ravel(), again.ravel())[0, 1] > 0.98
    assert (
        abs(np.corrcoef(first.ravel(), clone(features).set_params(random_state=1).fit_transform(x).ravel())[0, 1]) < 0.5
    )
    states = [OPUFeatures(8, random_state=np.random.RandomState(7)).fit_transform(x) for _ in range(2)]
    assert np.array_equal(*states)


def test_median_encoder(rng):
    """Half of each column is ON, binary columns are kept, and thresholds are those of the fitted samples.

    Catches: medians of the samples that are transformed, a column of mostly ones that is lost.
    """
    x = np.concatenate([rng.normal(size=(100, 5)), rng.random((100, 5)) < np.array([0.1, 0.4, 0.5, 0.6, 0.95])], axis=1)
    features = OPUFeatures(4).fit(x)
    on = features._encode(x)
    assert on[:, :5].sum(axis=0).tolist() == [50] * 5
    assert np.array_equal(on[:, 5:], x[:, 5:] > 0)
    assert np.array_equal(features._encode(x[:3] + 100.0), np.ones((3, 10), bool))


def test_a_given_device_does_not_change(rng):
    """The exposure of its copy is set on the samples. Catches: a clock that moves."""
    opu = presets.lab_bench(12, 32)
    before, exposure = opu.clock.frames, opu.exposure_s
    features = OPUFeatures(32, device=opu).fit(rng.normal(size=(20, 12)))
    assert (opu.clock.frames, opu.exposure_s) == (before, exposure)
    assert features.opu_ is not opu
    assert np.array_equal(
        features.opu_.medium.block(slice(0, 3), slice(0, 12)), opu.medium.block(slice(0, 3), slice(0, 12))
    )


@pytest.mark.parametrize("encoder", ["median", "sign"])
def test_sparse_samples_and_images_have_the_features_of_dense_rows(rng, encoder):
    """Bit for bit, with negative values, columns of ones, repeated entries. Catches: zeros that are not stored."""
    X = rng.integers(-2, 3, (40, 12)) * (rng.random((40, 12)) < [0.1, 0.3, 0.5, 0.7, 0.9, 1.0] * 2)
    X[:, 3], X[:, 4] = 1, -np.abs(X[:, 4])
    entries = sparse.coo_array(X)
    twice = (np.tile(entries.data / 2, 2), (np.tile(entries.row, 2), np.tile(entries.col, 2)))
    wanted = OPUFeatures(30, encoder=encoder).fit(X).transform(X)
    for other in (sparse.csr_array(X), sparse.csc_matrix(X), sparse.coo_array(twice, X.shape), X.reshape(40, 3, 4)):
        np.testing.assert_array_equal(OPUFeatures(30, encoder=encoder).fit(other).transform(other), wanted)


def test_images_of_another_shape_are_refused(rng):
    """With as many values. Catches: rows and columns swapped without a word."""
    features = OPUFeatures(8).fit(rng.normal(size=(9, 3, 4)))
    assert features.sample_shape_ == (3, 4) and features.n_features_in_ == 12
    with pytest.raises(ValueError, match=r"^X must have samples of shape \(3, 4\) as in fit, got \(4, 3\)$"):
        features.transform(rng.normal(size=(9, 4, 3)))


def test_samples_that_encode_to_all_off():
    """All inputs OFF give a dark frame, 0 within 5 standard errors. Catches: an exposure that cannot be set."""
    features = OPUFeatures(500, encoder="sign", random_state=1)
    dark = features.fit_transform(np.zeros((4, 6)))
    camera = Camera()
    unit = features.opu_.unit_dn * math.sqrt(500)
    spread = camera.gain * math.hypot(camera.read_noise_e, 1.0) / unit
    assert np.abs(dark.mean()) < 5 * spread / math.sqrt(2000) * math.sqrt(1 + 4 / 16)


def test_feature_names():
    features = OPUFeatures(3).fit(np.eye(4))
    assert features.get_feature_names_out().tolist() == ["opufeatures0", "opufeatures1", "opufeatures2"]
    assert features.transform(np.eye(4)).dtype == np.float32


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components must be"),
        ({"device": "bench"}, "preset must be one of"),
        ({"device": 3}, "device must be the name of a preset, a TOML file or an OPU, got 3"),
        ({"device": presets.ideal(4, 99)}, "device must have 6 inputs and 8 pixels or more, got 4 and 99"),
        ({"device": presets.ideal(6, 7)}, "device must have 6 inputs and 8 pixels or more, got 6 and 7"),
        ({"encoder": "mean"}, "encoder must be one of"),
        ({"encoder": np.sum}, r"encoder must return patterns of shape \(9, n_in\), got \(\)"),
        ({"encoder": np.abs}, "encoder's patterns must be binary"),
        ({"kind": "cubic"}, "kind must be one of"),
        ({"kind": "linear"}, "projection must be a callable .* such as calibration.measure_projection"),
    ],
)
def test_bad_parameters(rng, parameters, message):
    with pytest.raises(ValueError, match=message):
        OPUFeatures(**{"n_components": 8} | parameters).fit(rng.normal(size=(9, 6)))


def test_photonics_does_not_wait_for_scikit_learn():
    """Catches: an eager import, which takes longer than the rest of the package."""
    code = "import photonics, sys; a = 'sklearn' in sys.modules; photonics.OPUFeatures; sys.exit(a)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr or "import photonics imports sklearn"
    with pytest.raises(AttributeError, match="No photonics attribute Features"):
        _ = __import__("photonics").Features


def test_the_device_may_be_a_file(tmp_path, rng):
    """A TOML file is used unchanged. Catches: a file name that is looked up among the presets."""
    path = tmp_path / "bench.toml"
    path.write_text('[medium]\ntype = "GaussianMedium"\nn_in = 12\nn_out = 20\nseed = 5\n')
    features = OPUFeatures(16, device=str(path)).fit(rng.normal(size=(9, 12)))
    assert isinstance(features.opu_, OPU)
    assert features.opu_.medium.seed == 5
