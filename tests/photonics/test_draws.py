"""The drift process: a function of the frame number with the exact law of an Ornstein-Uhlenbeck process."""

import numpy as np
import pytest
from scipy import stats

from photonics import draws
from photonics.random import Stream

SEEDS = 4000
# Neighbours in time that the bisection reaches by very different paths, and one in the far future.
TICKS = np.array([0, 1, 2, 3, 4, 100, 2**20 - 1, 2**20, 2**20 + 1, 2**47 - 1, 2**47, 2**48 - 1])


def process(ticks, step, seed=0, stream=Stream.LASER_DRIFT):
    return draws.ornstein_uhlenbeck(seed, stream, np.asarray(ticks, np.int64), step)


@pytest.fixture(scope="module", params=[1e-9, 0.01, 0.7])
def ensemble(request):
    """The step, and the process at `TICKS` for many seeds: (seeds, ticks)."""
    step = request.param
    return step, np.stack([process(TICKS, step, seed) for seed in range(SEEDS)])


def test_correlation_is_exponential(ensemble):
    """Every pair of times: ``exp(-step |i - j|)`` within 4.5 SE. Catches: ``a`` for ``a^2`` in the conditional mean."""
    step, x = ensemble
    exact = np.exp(-step * np.abs(TICKS[:, None] - TICKS[None, :]).astype(float))
    error = np.sqrt((1 + exact**2) / SEEDS)  # of the mean of x_i x_j
    assert np.abs((x.T @ x / SEEDS - exact) / error).max() < 4.5


def test_increments_have_the_exact_variance(ensemble):
    """``E (x_i - x_j)^2 = 2 (1 - exp(-step |i - j|))``, however small, to 4.5 SE. Catches: a variance in float32."""
    step, x = ensemble
    gaps = np.diff(TICKS).astype(float)
    ratio = (np.diff(x, axis=1) ** 2).mean(axis=0) / (-2 * np.expm1(-step * gaps))
    assert np.abs(ratio - 1).max() < 4.5 * np.sqrt(2 / SEEDS)


def test_law_is_stationary(ensemble):
    """Standard normal at every time (KS under 1.95, 99.9 %). Catches: a process that starts at 0, a wrong end point."""
    _, x = ensemble
    assert max(stats.kstest(column, "norm").statistic for column in x.T) * np.sqrt(SEEDS) < 1.95


def test_any_order_gives_the_same_values(rng):
    """A value depends on its frame number alone. Catches: state carried from one frame to the next."""
    ticks = np.arange(500)
    whole = process(ticks, 0.05)
    order = rng.permutation(500)
    np.testing.assert_array_equal(process(ticks[order], 0.05), whole[order])
    np.testing.assert_array_equal([process([t], 0.05)[0] for t in range(0, 500, 50)], whole[::50])


def test_path_follows_the_recursion():
    """``x_{n+1} - a x_n`` is white with variance ``1 - a^2``, within 4 SE over 2^17 frames. Catches: a noisy path."""
    step, n = 0.3, 2**17
    x = process(np.arange(n), step)
    a = np.exp(-step)
    white = (x[1:] - a * x[:-1]) / np.sqrt(1 - a**2)
    assert abs(white.var() - 1) < 4 * np.sqrt(2 / n)
    for lag in (1, 2, 3):
        assert abs((white[lag:] * white[:-lag]).mean()) < 4 / np.sqrt(n)


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2**32}, {"stream": Stream.RIN}], ids=str)
def test_seeds_and_streams_are_independent(other):
    """No correlation of the innovations beyond 4 SE. Catches: a seed or a stream left out of the counter."""
    n = 2**15
    x, y = process(np.arange(n), 5.0), process(np.arange(n), 5.0, **other)
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / np.sqrt(n)


@pytest.mark.parametrize("ticks", [[-1], [0, 2**48]])
def test_frame_number_out_of_range(ticks):
    with pytest.raises(ValueError, match=r"^ticks must be from 0 to 2\*\*48 - 1, got"):
        process(ticks, 0.1)


@pytest.mark.parametrize("index", [[-1], [0, 2**32]])
@pytest.mark.parametrize("draw", [draws.words, draws.uniforms, draws.normals])
def test_index_out_of_range(draw, index):
    """The counter has 32 bits for the index. Catches: draws that repeat after 2**32 entries."""
    with pytest.raises(ValueError, match=r"index must be from 0 to 2\*\*32 - 1"):
        draw(0, Stream.FEEDBACK, index)
