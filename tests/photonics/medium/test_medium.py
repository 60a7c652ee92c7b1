"""The Gaussian medium: fully developed speckle, the optical kernel, and focusing through it."""

import numpy as np
import pytest

from photonics import GaussianMedium, MatrixMedium, ScatteringLayers
from photonics.analysis.speckle import contrast, exponential_distance, optical_kernel
from photonics.medium import Ballistic, Drifting
from tests.laws import check_circular_normal, check_independent

ALL = slice(None)


@pytest.fixture(scope="module")
def entries():
    """A transmission matrix scaled to ``E|t|^2 = 1``: (2048, 512)."""
    return GaussianMedium(512, 2048, seed=6).block(ALL, ALL).astype(np.complex128) * np.sqrt(512)


def test_entries_are_circular_normal(entries):
    """Power 1, no preferred phase, kurtosis 2, both parts normal; 4 SE. Catches: equal parts, a wrong scale."""
    assert abs((np.abs(entries) ** 2).mean() - 1) < 4 / np.sqrt(entries.size)
    check_circular_normal(entries)


def test_entries_are_independent(entries):
    """Neighbours share nothing, in field or in power, to 4 SE (row pairs share a call). Catches: a word used twice."""
    check_independent(entries, [(1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (64, 0)])


def test_an_entry_is_a_function_of_seed_and_place():
    """A larger slab of the same seed holds the smaller one. Catches: counters that depend on the size."""
    small = GaussianMedium(30, 41, seed=2**63 + 5).block(ALL, ALL) * np.sqrt(np.float32(30))
    large = GaussianMedium(200, 300, seed=2**63 + 5).block(slice(0, 41), slice(0, 30)) * np.sqrt(np.float32(200))
    np.testing.assert_allclose(small, large, rtol=3e-7)
    other = GaussianMedium(30, 41, seed=5).block(ALL, ALL) * np.sqrt(np.float32(30))
    assert abs(np.vdot(small, other)) < 4 * np.sqrt(small.size)


def test_rows_that_a_medium_has_not_are_refused():
    """Of every kind, also in a share. Catches: rows of a larger slab; a share that fails in the first product."""
    slab, layers = GaussianMedium(6, 20, seed=1), ScatteringLayers(6, 20, seed=1)
    media = slab, layers, MatrixMedium(slab.block(ALL, ALL)), Ballistic(slab, 0.5), Drifting(slab, 100)
    for medium in [*media, *(GaussianMedium(6, 30).rows(5, 25), layers.rows(0, 20), media[2].rows(0, 20))]:
        for start, stop in [(0, 21), (20, 21), (-1, 3), (5, 5), (2.5, 4)]:
            with pytest.raises(ValueError, match=r"^(start|stop) must be an integer, \d+ to \d+, got "):
                medium.rows(start, stop)
        assert medium.rows(19, 20).shape == (1, 6)


@pytest.mark.parametrize("n_on", [1, 7, 256])
def test_speckle_is_fully_developed(n_on):
    """Exponential intensities (KS under 1.63), contrast 1 to 4 SE, any number ON. Catches: entries of equal power."""
    n_out = 40_000
    field = GaussianMedium(256, n_out, seed=8).propagate((np.arange(256) < n_on)[None])
    intensity = np.abs(field[0]) ** 2
    assert exponential_distance(intensity) < 1.63
    assert abs(contrast(intensity) - 1) < 4 / np.sqrt(n_out)
    assert abs(intensity.mean() / (n_on / 256) - 1) < 4 / np.sqrt(n_out)


@pytest.mark.parametrize("k", [2, 4, 9])
def test_independent_patterns_average(k):
    """Contrast ``1/sqrt(k)`` of k summed patterns, within 4 SE. Catches: fields added for intensities."""
    n_out = 2**16
    field = GaussianMedium(64, n_out, seed=9).propagate(np.eye(k, 64))
    intensity = (np.abs(field) ** 2).sum(axis=0)
    assert abs(contrast(intensity) - k**-0.5) < 4 / np.sqrt(n_out)


def kernel_deviation(medium, x, y, kernel):
    """Mean of I(x) I(y) over pixels, less the kernel, in standard errors: over all pairs, the largest."""
    a, b = (np.abs(medium.propagate(v)).astype(np.float64) ** 2 for v in (x, y))
    products = a[:, None] * b[None]
    error = products.std(axis=-1) / np.sqrt(products.shape[-1])
    return np.abs((products.mean(axis=-1) - kernel) / error).max()


@pytest.mark.parametrize("light", ["binary", "phases", "profile"])
def test_optical_kernel(rng, light):
    """``mean I(x) I(y) = v^2 (|gx|^2 |gy|^2 + |(gx).(gy)|^2)`` for all pairs, within 4.5 SE.

    A fixed phase on each input leaves the kernel of the patterns unchanged, a fixed amplitude g does not: it becomes
    the kernel of gx. Catches: a conjugate missing in T, ``E|t|^2`` wrong, entries with a common phase.
    """
    n_in, n_out = 32, 60_000
    x = np.repeat(np.tri(5, dtype=bool), 6, axis=1)[:, :n_in]  # 6 to 30 ON, all overlaps
    x = np.pad(x, ((0, 0), (0, n_in - x.shape[1])))
    phase, profile = np.exp(2j * np.pi * rng.random(n_in)), rng.uniform(0.2, 2.0, n_in)
    g = {"binary": 1.0, "phases": phase, "profile": profile}[light]
    gx = np.abs(g) * x
    norm = (gx**2).sum(axis=1)
    kernel = (np.outer(norm, norm) + (gx @ gx.T) ** 2) / n_in**2
    medium = GaussianMedium(n_in, n_out, seed=10)
    assert kernel_deviation(medium, g * x, g * x, kernel) < 4.5
    np.testing.assert_allclose(optical_kernel(g * x, g * x, 1 / n_in), kernel)
    flat = optical_kernel(x, x, 1 / n_in)
    assert (kernel_deviation(medium, g * x, g * x, flat) < 4.5) == (light != "profile")


def test_intensity_correlation_is_the_squared_cosine():
    """Over pixels, corr of I(x) and I(y) is cos^2 of the angle, within 4 SE. Catches: cos for cos^2."""
    n_out, n_in = 60_000, 100
    shared = np.array([0, 25, 50, 75, 100])
    y = np.array([[(i < s) or (100 - s > i - 100 >= 0) for i in range(200)] for s in shared])
    x = (np.arange(200) < n_in)[None]
    intensity = np.abs(GaussianMedium(200, n_out, seed=11).propagate(np.concatenate([x, y]))) ** 2
    correlation = np.corrcoef(intensity)[0, 1:]
    expected = (shared / n_in) ** 2
    assert np.abs(correlation - expected).max() < 4 * 1.5 / np.sqrt(n_out)
    assert np.all(y.sum(axis=1) == n_in)


@pytest.mark.parametrize("n_in", [64, 400])
@pytest.mark.parametrize("modulation", ["phase", "amplitude"])
def test_focusing_gain(n_in, modulation):
    """Through the conjugate mask of each pixel: ``pi/4 (N-1) + 1``, or ``1 + (N-1)/(2 pi)`` for binary amplitude.

    Over the mean intensity of all ON at unit amplitude, or of half ON; mean of 400 foci, within 4 SE. Catches: T for
    its conjugate (the phase doubles and nothing focuses), a block that is transposed.
    """
    targets = 400
    medium = GaussianMedium(n_in, targets, seed=12)
    t = medium.block(ALL, ALL)
    mask = t.conj() / np.abs(t) if modulation == "phase" else t.real > 0
    gain, background = (np.pi / 4 * (n_in - 1) + 1, 1.0) if modulation == "phase" else (1 + (n_in - 1) / 2 / np.pi, 0.5)
    intensity = np.abs(medium.propagate(mask)) ** 2  # (mask, pixel)
    focus = np.diagonal(intensity) / background
    assert abs(focus.mean() - gain) < 4 * focus.std() / np.sqrt(targets)
    assert (intensity.argmax(axis=1) == np.arange(targets)).mean() > 0.9
