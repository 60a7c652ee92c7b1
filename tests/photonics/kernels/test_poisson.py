"""The Poisson draw: its law by integration, not by sampling, for the specification and for the kernel."""

import numba
import numpy as np
import pytest
from scipy import stats

from photonics import draws, random
from photonics.kernels import cpu, laws
from photonics.random import POISSON_SWITCH, Stream

CELLS = 1_000_001


@numba.njit
def counts(mean, normal, word, out):
    for i in range(out.size):
        out[i] = laws.poisson_large(mean, normal[i]) if mean >= laws.SWITCH else laws.poisson_small(mean, word[i])


def by_kernel(mean, normal, word):
    out = np.empty(normal.size, np.float32)
    counts(np.float32(mean), normal, word.astype(np.uint32), out)
    return out


def by_specification(mean, normal, word):
    return random.poisson(np.full(normal.shape, mean, np.float32), normal, word.astype(np.uint64))


IMPLEMENTATIONS = pytest.mark.parametrize("poisson", [by_specification, by_kernel])


def law(poisson, mean):
    """Probabilities of the counts 0, 1, 2, ... of a draw, integrated over its normal or its word."""
    if mean < POISSON_SWITCH:
        word = (np.arange(CELLS) + 0.5) * (2.0**32 / CELLS)
        drawn = poisson(mean, np.zeros(CELLS, np.float32), word.astype(np.uint64))
        return np.bincount(drawn.astype(np.int64)) / CELLS
    # The count grows with the normal: bisect for the normal at which it reaches each k.
    k = np.arange(1, round(mean + 10 * mean**0.5 + 10))
    low, high = np.full(k.size, -8.0), np.full(k.size, 8.0)
    for _ in range(45):
        middle = (low + high) / 2
        reached = poisson(mean, middle.astype(np.float32), np.zeros(k.size, np.uint64)) >= k
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.diff(stats.norm.cdf(low), prepend=0.0, append=1.0)


def total_variation(p, mean):
    exact = stats.poisson.pmf(np.arange(p.size), mean)
    return 0.5 * (np.abs(p - exact).sum() + (1 - exact.sum()))


@IMPLEMENTATIONS
@pytest.mark.parametrize(("mean", "stated"), [(10.0, 5.5e-4), (50.0, 4.5e-5), (100.0, 1.6e-5)])
def test_total_variation_error_is_as_stated(poisson, mean, stated):
    """5.5e-4 at 10, 4.5e-5 at 50, 1.6e-5 at 100. Catches: no kurtosis term (3.5e-3), a plain normal (1.8e-2)."""
    assert total_variation(law(poisson, mean), mean) == pytest.approx(stated, rel=0.03)


@IMPLEMENTATIONS
def test_total_variation_error_over_the_whole_well(poisson):
    """At most 5.5e-4 from the switch to 10 000 electrons. Catches: the switch moved to 8, counts kept in float16."""
    means = np.geomspace(POISSON_SWITCH, 10_000, 13)
    assert max(total_variation(law(poisson, float(mean)), float(np.float32(mean))) for mean in means) < 5.6e-4


@IMPLEMENTATIONS
@pytest.mark.parametrize("mean", [0.0, 0.7, 9.999])
def test_inversion_is_exact(poisson, mean):
    """Under the switch the distribution function is right to one cell of words. Catches: too few terms, ``u >= F``."""
    p = law(poisson, mean)
    exact = stats.poisson.cdf(np.arange(p.size), mean)
    assert np.abs(np.cumsum(p) - exact).max() <= 1.5 / CELLS
    assert 1 - exact[-1] <= 1.5 / CELLS


@IMPLEMENTATIONS
@pytest.mark.parametrize("mean", [0.5, 9.9, 10.0, 3000.0])
def test_first_three_cumulants_equal_the_mean(poisson, mean):
    """All cumulants are the mean, the third to 0.2 counts (2 % at 10). Catches: Gaussian shot noise (third is 0)."""
    p = law(poisson, mean)
    k = np.arange(p.size)
    first = (p * k).sum()
    second, third = ((p * (k - first) ** n).sum() for n in (2, 3))
    assert first == pytest.approx(mean, rel=1e-5)
    assert second == pytest.approx(mean, rel=1e-4)
    assert third == pytest.approx(mean, abs=0.2 + 1e-4 * mean)


@IMPLEMENTATIONS
@pytest.mark.parametrize("mean", [0.3, 5.0, 9.5, 40.0])
def test_draws_from_the_generator_follow_the_law(poisson, mean):
    """Chi-square of 2^18 seeded draws, p over 1e-4. Catches: the word of the normal used for the inversion's cells."""
    words = draws.words(21, Stream.SENSOR, np.arange(2**18)).astype(np.uint64)
    normal, _ = random.normal_pair(words[:, 0], words[:, 1])
    drawn = np.bincount(poisson(mean, normal, words[:, 2]).astype(np.int64), minlength=100)
    expected = stats.poisson.pmf(np.arange(drawn.size), mean) * 2**18
    common = expected > 10
    observed = np.append(drawn[common], drawn[~common].sum())
    expected = np.append(expected[common], 2**18 - expected[common].sum())
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_kernel_equals_the_specification():
    """The same counts except for rounding: under 1e-4 of them differ, by one. Catches: one of the two changed alone."""
    words = draws.words(22, Stream.SENSOR, np.arange(20_000)).astype(np.uint64)
    normal, _ = random.normal_pair(words[:, 0], words[:, 1])
    means = np.concatenate([np.linspace(0, 12, 49), np.geomspace(13, 1e5, 40)])
    differences = np.array(
        [by_kernel(m, normal, words[:, 2]) - by_specification(m, normal, words[:, 2]) for m in means]
    )
    assert np.abs(differences).max() <= 1
    assert (differences != 0).mean() < 1e-4


def test_dim_pixels_of_a_frame_are_those_of_the_law(rng):
    """Every count of the camera's loop equals `poisson_small`, at random words and beside the distribution's steps.

    Catches: float32 trusted beside a step, counts beyond its last term, terms of tiny means.
    """
    mean = np.repeat(np.array([0, 1e-38, 1e-12, 0.008, 0.3, 1, 3, 6, 9.5, 9.999], np.float32), 2**14)
    steps = stats.poisson.cdf(rng.integers(0, 30, mean.size), mean.astype(np.float64)) * 2.0**32
    near = np.where(rng.random(mean.size) < 0.5, steps + rng.integers(-3000, 3000, mean.size), 0)
    drawn = rng.integers(0, 2**32, mean.size)
    word = np.where(near > 0, np.clip(near, 0, 2**32 - 1).astype(np.int64), drawn).astype(np.uint32)
    exact, counts = np.empty_like(mean), np.full_like(mean, -1)
    for part in (slice(k, k + 2**14) for k in range(0, mean.size, 2**14)):
        exact[part] = by_kernel(mean[part.start], np.zeros(2**14, np.float32), word[part])
    buffers = np.empty(mean.size, np.int32), np.empty_like(mean), np.empty_like(word), np.empty_like(mean)
    cpu.redraw_dim(mean, word, counts, *buffers)
    np.testing.assert_array_equal(counts, exact)


@pytest.mark.parametrize("pixels", [0, 1, 15, 16, 17, 37, 4096])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_dim_pixels_are_found_in_order(rng, pixels, share):
    """Exactly those under the switch, ascending. Catches: pixels after the last whole vector, the bound included."""
    means = np.where(rng.random(pixels) < share, rng.uniform(0, 9.99, pixels), 10.0).astype(np.float32)
    where = np.full(pixels, -1, np.int32)
    dim = cpu.find_dim(means, where)
    np.testing.assert_array_equal(where[:dim], np.flatnonzero(means < POISSON_SWITCH))


@IMPLEMENTATIONS
def test_counts_are_never_negative(poisson):
    """The lowest normal at the switch gives 0 or more. Catches: the clip at zero removed."""
    extremes = np.linspace(-6.8, -4.0, 1000).astype(np.float32)
    assert poisson(10.0, extremes, np.zeros(1000, np.uint64)).min() >= 0
