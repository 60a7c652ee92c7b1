"""From numbers to mirrors: checks of patterns and vectors, threshold, and the two frames of a ternary vector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from photonics.patterns.encoding import as_patterns, as_ternary, ternary_pair, threshold

NUMERIC = ["bool", "int8", "uint16", "int64", "float32", "float64"]
ternary_vectors = st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4), min_size=1, max_size=5)


@pytest.mark.parametrize("dtype", NUMERIC)
def test_binary_patterns_of_any_type(dtype):
    """0/1 of any numeric type become the same bool. Catches: a type that is reinterpreted, or refused."""
    values = np.array([[0, 1, 1], [1, 0, 1]])
    patterns = as_patterns(values.astype(dtype), 3)
    assert patterns.dtype == np.bool_
    np.testing.assert_array_equal(patterns, values == 1)


@given(ternary_vectors)
def test_a_ternary_vector_is_the_difference_of_its_pair(vectors):
    """``plus - minus = x``, never both ON: projections subtract. Catches: a sign swapped, zeros lit in both."""
    plus, minus = ternary_pair(vectors)
    assert plus.dtype == minus.dtype == np.bool_
    np.testing.assert_array_equal(plus.astype(int) - minus, vectors)
    assert not np.any(plus & minus)
    np.testing.assert_array_equal(as_ternary(np.asarray(vectors, float), 4), vectors)


@pytest.mark.parametrize("dtype", NUMERIC)
def test_threshold(dtype):
    """ON strictly above the level. Catches: ``>=``."""
    values = np.array([[0, 1, 2, 3]]).astype(dtype)
    np.testing.assert_array_equal(threshold(values, level=1), values > 1)
    assert threshold(values).dtype == np.bool_


BAD_SHAPES = [np.zeros(3), np.zeros((2, 4)), np.zeros((1, 2, 3)), 1.0, None, []]
BAD_TYPES = [np.zeros((1, 3), complex), np.array([["0", "1", "0"]]), np.array([[None, 0, 1]]), [["a", "b", "c"]]]
BAD_VALUES = [[[0, 2, 0]], [[0.5, 0, 0]], [[0, np.nan, 0]], [[0, np.inf, 1]], [[-2, 0, 0]]]


@pytest.mark.parametrize(("check", "word"), [(as_patterns, "binary"), (as_ternary, "ternary")])
@pytest.mark.parametrize(
    ("values", "says"),
    [(v, "have shape") for v in BAD_SHAPES] + [(v, "be bool") for v in BAD_TYPES] + [(v, None) for v in BAD_VALUES],
)
def test_bad_input_is_named(check, word, values, says):
    """One line with the argument's name, what is allowed, and what came. Catches: a check removed, NaN let through."""
    with pytest.raises(ValueError, match=rf"^error must {says or 'be ' + word}.*, got ") as error:
        check(values, 3, "error")
    assert "\n" not in str(error.value)


def test_the_place_of_a_bad_value_is_named():
    with pytest.raises(ValueError, match=r"got 7 at \(1, 2\)"):
        as_patterns([[0, 1, 0], [1, 0, 7]], 3)
    with pytest.raises(ValueError, match=r"got nan at \(0, 0\)"):
        as_ternary([[np.nan, 1.0]], 2)


def test_minus_one_is_ternary_and_not_binary():
    assert as_ternary([[-1, 0, 1]], 3)[0, 0] == -1
    with pytest.raises(ValueError, match="binary"):
        as_patterns([[-1, 0, 1]], 3)


@pytest.mark.parametrize("values", [[[np.nan]], [[np.inf]], [["a"]], [[1j]]])
def test_threshold_wants_finite_real_numbers(values):
    with pytest.raises(ValueError, match=r"^values must be finite real numbers"):
        threshold(values)
