"""Statistics of speckle and of transmission matrices, each against its theoretical law."""

import numpy as np
import pytest
from scipy import integrate
from threadpoolctl import threadpool_limits

from photonics import GaussianMedium
from photonics.analysis.speckle import (
    contrast,
    exponential_distance,
    marchenko_pastur_density,
    marchenko_pastur_edges,
    optical_kernel,
)

SHAPES = [(256, 1024), (1024, 256), (512, 512)]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def spectra(request):
    """The shape, and the singular values of four media: (4, min(shape))."""
    n_out, n_in = request.param
    matrices = [GaussianMedium(n_in, n_out, seed=seed).block(slice(None), slice(None)) for seed in range(4)]
    with threadpool_limits(1):  # two BLAS threads on cores that are busy elsewhere wait for each other, minutes long
        return request.param, np.linalg.svd(np.array(matrices), compute_uv=False)


def test_marchenko_pastur_edges(spectra):
    """Extreme singular values at ``|1 +- sqrt(M/N)|`` within 2 %. Catches: ``E|t|^2 = 1/n_out``, correlated entries."""
    (n_out, n_in), s = spectra
    low, high = marchenko_pastur_edges(n_out, n_in)
    root = np.sqrt(n_out / n_in)
    assert (low, high) == (abs(1 - root), 1 + root)
    assert np.abs(s.max(axis=1) / (1 + root) - 1).max() < 0.02
    assert np.abs(s.min(axis=1) - abs(1 - root)).max() < 0.02 * (1 + root)


def test_marchenko_pastur_moments(spectra):
    """``sum s^2 / M = 1`` and ``sum s^4 / M = 1 + M/N``, mean of four within 1 %. Catches: rows that repeat."""
    (n_out, n_in), s = spectra
    assert (s**2).sum(axis=1).mean() / n_out == pytest.approx(1, rel=0.01)
    assert (s**4).sum(axis=1).mean() / n_out == pytest.approx(1 + n_out / n_in, rel=0.01)


def test_marchenko_pastur_density(spectra):
    """The density integrates to 1, and its distribution function is that of the media (max distance 0.01)."""
    (n_out, n_in), s = spectra
    low, high = marchenko_pastur_edges(n_out, n_in)
    x = np.linspace(low, high, 20001)
    distribution = integrate.cumulative_trapezoid(marchenko_pastur_density(x, n_out, n_in), x, initial=0)
    assert distribution[-1] == pytest.approx(1, abs=1e-3)
    values = np.sort(s.ravel())
    distance = np.abs(np.interp(values, x, distribution) - (np.arange(values.size) + 0.5) / values.size)
    assert distance.max() < 0.01
    np.testing.assert_array_equal(marchenko_pastur_density([high + 0.1, 3 * high], n_out, n_in), 0)


def test_contrast(rng):
    """Deviation over mean: 0 for a constant, 1 for the exponential law, 1/sqrt3 for the uniform one; any scale."""
    n = 2**16
    assert contrast(np.full(10, 3.0)) == 0
    assert contrast(7 * rng.exponential(size=n)) == pytest.approx(1, abs=4 / np.sqrt(n))
    assert contrast(rng.uniform(size=n)) == pytest.approx(3**-0.5, abs=4 / np.sqrt(n))
    assert isinstance(contrast([1, 2, 3]), float)


def test_exponential_distance(rng):
    """Under 1.63 for the exponential law at any scale, far over it for neighbours of that law."""
    n = 2**14
    assert exponential_distance(300 * rng.exponential(size=n)) < 1.63
    for other in (rng.gamma(1.2, size=n), rng.normal(size=n) ** 2, rng.uniform(size=n), rng.exponential(size=n) + 0.1):
        assert exponential_distance(other) > 1.63


def test_optical_kernel_is_hermitian_in_its_fields(rng):
    """``v^2 (|x|^2 |y|^2 + |<x, y>|^2)``: symmetric, 2 |x|^4 on the diagonal, blind to a common phase."""
    x = rng.normal(size=(3, 9)) + 1j * rng.normal(size=(3, 9))
    y = rng.normal(size=(4, 9)) + 1j * rng.normal(size=(4, 9))
    phase = np.exp(2j * np.pi * rng.random(9))
    kernel = optical_kernel(x, y, 0.5)
    np.testing.assert_allclose(kernel.T, optical_kernel(y, x, 0.5))
    np.testing.assert_allclose(kernel, optical_kernel(phase * x, phase * y, 0.5))
    np.testing.assert_allclose(np.diag(optical_kernel(x, x, 0.5)), 0.5 * (np.abs(x) ** 2).sum(axis=1) ** 2)
    assert not np.allclose(kernel, optical_kernel(x.conj(), y, 0.5))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.float32, np.complex64])
def test_optical_kernel_of_patterns(dtype):
    """200 inputs ON, 150 of them shared, for any type. Catches: a boolean product, counts that wrap at 8 bits."""
    x, y = np.arange(300)[None] < 200, np.arange(300)[None] >= 50
    expected = 0.25 * (200 * 250 + 150**2)
    assert optical_kernel(x.astype(dtype), y.astype(dtype), 0.5).item() == pytest.approx(expected)


def test_fields_are_no_intensities():
    """Complex arrays are refused in one line. Catches: numbers of the real part alone, with a warning of numpy."""
    field = np.ones((2, 3)) * (1 + 2j)
    for find in (contrast, exponential_distance, lambda s: marchenko_pastur_density(s, 4, 3)):
        with pytest.raises(ValueError, match=r"must be real numbers, got shape \(2, 3\), dtype complex128: take the"):
            find(field)
