"""Vectors as weighted sums of binary patterns."""

import numpy as np
import pytest

from calibration.projections.signed_patterns import split


def mixed(batch=40, n=12, seed=0):
    """Binary, ternary and grey vectors in turn, and an empty one."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (batch, n))
    x[::3], x[1::3] = rng.integers(0, 2, x[::3].shape), rng.integers(-1, 2, x[1::3].shape)
    x[-1] = 0.0
    return x


@pytest.mark.parametrize(("bits", "size"), [(1, 7), (3, 1), (8, 1000), (16, 7)])
def test_the_terms_add_up_to_the_vector(bits, size):
    """Weighted patterns sum to the vector within half a level, and exactly for ternary ones; weights add to `balance`.

    Catches: a weight of the wrong digit; terms of another vector.
    """
    x = mixed()
    terms = split(x, 12, bits)
    total, weights = np.zeros_like(x), np.zeros((len(x), 1))
    for part in terms.parts(size):
        halves = terms.halves(part)
        assert halves.any(axis=1).all()
        terms.add(total, part, halves.astype(float))
        terms.add(weights, part, np.ones((len(halves), 1)))
    assert np.abs(total - x).max() <= 0.5 / (2**bits - 1) + 1e-6
    ternary = np.isin(x, (-1, 0, 1)).all(axis=1)
    np.testing.assert_array_equal(total[ternary], x[ternary])
    np.testing.assert_allclose(terms.balance, weights[:, 0], atol=1e-6)
    np.testing.assert_allclose(terms.rounding, ((total - x) ** 2).sum(axis=1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_terms_are_added_as_the_array_api_adds_them(kind):
    """To the bit, also infinite ones. Catches: a weight of another vector; a term that a vector does not have."""
    rng, terms = np.random.default_rng(1), split(mixed(), 12, 8)
    values = rng.normal(size=(terms.terms, 5, 2)).astype(np.float32).view(np.complex64)[..., 0]
    values = values.astype(kind) if kind is np.complex64 else np.ascontiguousarray(values.real)
    values[0] = np.inf if kind is np.float32 else 1e9  # an infinite complex number times 1 is NaN in numpy
    sums, expected = np.zeros((2, terms.batch, 5), kind)
    for part in terms.parts(7):
        terms.add(sums, part, values[part])
        transposed = np.asfortranarray(expected)  # not row after row: added by the array API
        terms.add(transposed, part, values[part])
        expected[:] = transposed
    assert np.abs(sums).max() > 1e6
    np.testing.assert_array_equal(sums, expected)


def test_ternary_vectors_are_not_cut_into_bits():
    """A ternary vector among grey ones takes two patterns, a binary one takes one, whatever their type."""
    x = mixed()
    owners = np.bincount(split(x, 12, 8).owner, minlength=len(x))
    assert (owners[:-1:3] == 1).all()
    assert (owners[1::3] <= 2).all()
    assert (owners[2:-1:3] > 8).all()
    for kind in (bool, np.int8, np.uint8, np.float32):
        assert len(split(np.abs(x[:-1:3]).astype(kind), 12, 8).plane) == len(x[:-1:3])


def test_positive_patterns_come_first():
    """The noise of a frame follows its number, so the order matters. Catches: signs in another order."""
    sign = split(mixed(), 12, 8).sign
    assert (np.diff(sign.astype(int)) <= 0).all()


def test_flags_reach_their_vectors():
    terms = split(mixed(), 12, 4)
    flags = np.zeros((40, 2), bool)
    part = slice(0, len(terms.plane))
    marked = np.zeros((len(terms.plane), 2), bool)
    marked[-1, 1] = True
    terms.flag(flags, part, marked)
    assert flags.sum() == 1
    assert flags[terms.owner[-1], 1]


@pytest.mark.parametrize("x", [np.full((1, 2), -128, np.int8), [[0.5, 1.0000001]], [["a", "b"]], [[1j, 0]], [[0.5]]])
def test_values_out_of_range_are_refused(x):
    """Catches: ``abs`` of the lowest integer, which is negative."""
    with pytest.raises(ValueError, match="x must"):
        split(x, 2, 8)
