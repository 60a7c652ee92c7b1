"""The generator: Philox4x32-10 itself, its uniforms and normals, and the independence of its draws."""

import math

import array_api_strict as strict
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from photonics import draws, random
from photonics.kernels import laws
from photonics.random import PatternSet, Stream

# Salmon et al., Random123, kat_vectors: counter, key, result of philox4x32 with ten rounds.
KNOWN_ANSWERS = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}
ANSWERS = pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS.values(), ids=KNOWN_ANSWERS)
SPACES = {"numpy": (np, None), "strict": (strict, None), "strict-device1": (strict, strict.Device("device1"))}


@pytest.fixture(params=SPACES.values(), ids=SPACES)
def arrays(request):
    """An array namespace, and a function that makes its arrays from numpy's, on one of its devices."""
    xp, device = request.param
    keywords = {} if device is None else {"device": device}
    return xp, lambda values: xp.asarray(np.asarray(values), **keywords)


def to_numpy(array):
    if isinstance(array, np.ndarray):
        return array
    return np.asarray(strict.asarray(array, device=strict.Device("CPU_DEVICE")))


@numba.njit
def encrypt(c0, c1, c2, c3, k0, k1):
    return laws.philox(c0, c1, c2, c3, k0, k1)


@numba.njit
def pairs(word0, word1, out):
    for i in range(word0.size):
        out[i] = laws.normal_pair(word0[i], word1[i])


def kernel_normals(word0, word1):
    """Both normals of each pair of words, by the kernel: (n, 2)."""
    out = np.empty((word0.size, 2), np.float32)
    pairs(word0.astype(np.uint32), word1.astype(np.uint32), out)
    return out


def spec_words(seed, stream, index, tick=0):
    """Words of the reference functions as an (n, 4) array of uint32, to compare with the kernel."""
    index, tick = np.broadcast_arrays(np.asarray(index, np.int64), np.asarray(tick, np.int64))
    return np.stack(random.words(seed, stream, index, tick), axis=1).astype(np.uint32)


@ANSWERS
def test_known_answers_of_the_specification(arrays, counter, key, answer):
    """Random123's vectors, on any array library. Catches: nine rounds, swapped multipliers, wrong Weyl constants."""
    _, make = arrays
    result = random.philox(tuple(make(np.asarray([word], np.uint64)) for word in counter), key)
    assert tuple(int(word[0]) for word in result) == answer


@ANSWERS
def test_known_answers_of_the_kernel(counter, key, answer):
    """Random123's vectors, compiled. Catches: arithmetic widened to 64 bits, key schedule applied before round one."""
    assert encrypt(*map(np.uint32, counter), *map(np.uint32, key)) == answer


@pytest.mark.parametrize("name", ["zeros", "pi"])
def test_counter_is_index_tick_stream_and_key_is_seed(name):
    """The counter is as documented. Catches: halves of the tick or of the seed swapped."""
    (index, low, high, stream), (key_low, key_high), answer = KNOWN_ANSWERS[name]
    seed, tick = key_low | key_high << 32, low | high << 32
    assert tuple(draws.words(seed, stream, [index], [tick])[0]) == answer
    assert tuple(spec_words(seed, stream, [index], [tick])[0]) == answer


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**64 - 1),
    st.sampled_from(Stream),
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1)), min_size=1, max_size=20),
)
def test_kernel_words_equal_the_specification(seed, stream, places):
    """Bit for bit, for any seed and place. Catches: a tick or a seed cut to 32 bits."""
    index, tick = np.array(places, np.int64).T
    np.testing.assert_array_equal(draws.words(seed, stream, index, tick), spec_words(seed, stream, index, tick))


def test_every_array_library_gives_the_same_draws(arrays):
    """Words and uniforms bit for bit, normals to rounding. Catches: a numpy-only call in the specification."""
    _, make = arrays
    index, tick = np.arange(2000), np.arange(2000) * 2**31
    expected = random.words(7, Stream.SENSOR, index, tick)
    words = random.words(7, Stream.SENSOR, make(index), make(tick))
    for word, reference in zip(words, expected, strict=True):
        np.testing.assert_array_equal(to_numpy(word), reference)
    np.testing.assert_array_equal(to_numpy(random.uniform(words[0])), random.uniform(expected[0]))
    normals, reference = random.normal_pair(*words[:2]), random.normal_pair(*expected[:2])
    np.testing.assert_allclose(np.stack([to_numpy(n) for n in normals]), np.stack(reference), atol=2e-6)
    mean = np.linspace(0.0, 100.0, 2000).astype(np.float32)
    counts = random.poisson(make(mean), normals[0], words[2])
    np.testing.assert_array_equal(to_numpy(counts), random.poisson(mean, reference[0], expected[2]))


def test_uniform_is_open_and_uniform():
    """Ends of the interval excluded, Kolmogorov-Smirnov under the 99 % bound 1.63. Catches: a missing half cell."""
    ends = random.uniform(np.asarray([0, 2**32 - 1], np.uint64))
    assert 0.0 < ends[0] == 1.0 - ends[1] < 2.0**-32
    values = random.uniform(draws.words(1, Stream.PROBES, np.arange(2**20))[:, 0])
    assert stats.kstest(values, "uniform").statistic * 2**10 < 1.63


def test_compiled_uniforms_equal_the_specification():
    """Bit for bit, for every index and tick. Catches: another word, another cell."""
    index, tick = np.arange(1000)[None, :], np.asarray([[0], [2**40 + 3]])
    expected = random.uniform(random.words(2**63 + 5, Stream.PROBES, index, tick)[0])
    found = draws.uniforms(2**63 + 5, Stream.PROBES, index, tick)
    np.testing.assert_array_equal(found, expected.ravel())


def test_kernel_normals_equal_the_specification():
    """To 2e-6, whole circle and whole tail, but for radii so small (1 in 5000) that float32 cannot hold ``1 - u``.

    There the error is at most ``4e-8 / radius``. Catches: a wrong quadrant, a coefficient of the sine off by 1e-5.
    """
    words = draws.words(11, Stream.SENSOR, np.arange(2**20))
    word0, word1 = words[:, 0].copy(), words[:, 1].copy()
    octants = np.arange(0, 2**32, 2**29, dtype=np.uint64)
    edges = np.concatenate([octants, octants + 1, octants + 2**29 - 1])
    word0[: edges.size], word1[: edges.size] = 12345, edges
    word0[100:164] = 2 ** np.arange(64) % 2**32
    word0[164:200] = 2**32 - 1 - np.arange(36)
    expected = np.stack(random.normal_pair(word0.astype(np.uint64), word1.astype(np.uint64)), axis=1)
    error = np.abs(kernel_normals(word0, word1) - expected).max(axis=1)
    radius = np.hypot(*expected.T.astype(np.float64))
    assert np.all(error < np.where(radius > 0.02, 2e-6, 4e-8 / np.maximum(radius, 1e-4)))


@pytest.mark.parametrize("normals", [lambda a, b: np.stack(random.normal_pair(a, b), axis=1), kernel_normals])
def test_tail_reaches_33_bits(normals):
    """The smallest word gives ``sqrt(2 ln 2^33) = 6.76``, the largest 0. Catches: a radius from 16 or 24 bits."""
    ends = normals(np.array([0, 2**32 - 1], np.uint64), np.array([0, 0], np.uint64))
    assert ends[0, 0] == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-6)
    assert 0 <= ends[1, 0] < 1e-3


def test_normals_are_normal():
    """KS, four moments and tail counts of 2^22 pairs, within 4 SE. Catches: a scale, a sine where a cosine belongs."""
    n = 2**22
    words = draws.words(5, Stream.SENSOR, np.arange(n))
    both = kernel_normals(words[:, 0], words[:, 1]).astype(np.float64)
    for z in both.T:
        assert stats.kstest(z[: 2**20], "norm").statistic * 2**10 < 1.63
        moments = np.array([(z**k).mean() for k in (1, 2, 3, 4)])
        errors = np.sqrt(np.array([1, 2, 15, 96]) / n)  # variances of z, z^2, z^3, z^4
        assert np.abs((moments - [0, 1, 0, 3]) / errors).max() < 4
        for level in (3.0, 4.0):
            expected = n * 2 * stats.norm.sf(level)
            assert abs((np.abs(z) > level).sum() - expected) < 4 * math.sqrt(expected)
    # Independent: no correlation of the values, nor of their squares (Box-Muller shares a radius).
    a, b = both.T
    assert abs((a * b).mean()) < 4 / math.sqrt(n)
    assert abs(((a**2 - 1) * (b**2 - 1)).mean()) < 4 * 2 / math.sqrt(n)


BASE = {"seed": 3, "stream": Stream.SENSOR, "tick": 9, "shift": 0}
NEIGHBOURS = [
    {"seed": 4},
    {"seed": 3 + 2**32},
    {"stream": Stream.RIN},
    {"tick": 10},
    {"tick": 9 + 2**32},
    {"shift": 1},
]


@pytest.mark.parametrize("change", NEIGHBOURS, ids=str)
def test_neighbouring_draws_are_independent(change):
    """Another seed, stream, tick or index: no correlation beyond 4 SE. Catches: any of them left out of the counter."""

    def normals(seed, stream, tick, shift):
        return draws.normals(seed, stream, np.arange(shift, shift + 2**18), tick).astype(np.float64)

    a, b = normals(**BASE), normals(**(BASE | change))
    for x, y in ((a, b), (a**2 - 1, b**2 - 1)):
        assert abs(np.corrcoef(x, y)[0, 1]) < 4 / 2**9


def test_streams_are_all_different():
    """One number for each quantity (an IntEnum would silently alias two). Catches: a number used twice."""
    assert len({int(member) for member in Stream.__members__.values()}) == len(Stream.__members__)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, np.zeros(2)])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match=r"^seed must be an integer from 0 to 2\*\*64 - 1, got"):
        random.check_seed(seed)


@pytest.mark.parametrize("seed", [0, np.uint64(2**64 - 1)])
def test_good_seed(seed):
    assert random.check_seed(seed) == int(seed)


def test_pattern_sets_do_not_overlap():
    """Each set of patterns has 1 000 000 ticks or more, disjoint and within the range of ticks; names are distinct.

    Catches: two sets that draw the same patterns.
    """
    assert len(PatternSet.__members__) == len(set(PatternSet))  # an alias would share the draws of its namesake
    firsts = [*sorted(PatternSet), draws.MAX_TICK]
    assert firsts[0] >= 0
    assert min(np.diff(firsts)) >= 1_000_000
    first_words = {tuple(draws.words(3, Stream.PROBES, 0, first)[0]) for first in PatternSet}
    assert len(first_words) == len(PatternSet)
