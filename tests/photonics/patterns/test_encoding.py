"""Checks of patterns and vectors."""

import numpy as np
import pytest

from photonics import patterns
from photonics.patterns import Encoding, LeeHologram, Superpixel, TernaryPair
from photonics.patterns.encoding import as_patterns, as_ternary

NUMERIC = ["bool", "int8", "uint16", "int64", "float32", "float64"]


@pytest.mark.parametrize("dtype", NUMERIC)
def test_binary_patterns_of_any_type(dtype):
    """0/1 of any numeric type become the same bool. Catches: a type that is reinterpreted, or refused."""
    values = np.array([[0, 1, 1], [1, 0, 1]])
    patterns = as_patterns(values.astype(dtype), 3)
    assert patterns.dtype == np.bool_
    np.testing.assert_array_equal(patterns, values == 1)


BAD_SHAPES = [np.zeros(3), np.zeros((2, 4)), np.zeros((1, 2, 3)), 1.0, None, []]
BAD_TYPES = [np.zeros((1, 3), complex), np.array([["0", "1", "0"]]), np.array([[None, 0, 1]]), [["a", "b", "c"]]]
BAD_VALUES = [[[0, 2, 0]], [[0.5, 0, 0]], [[0, np.nan, 0]], [[0, np.inf, 1]], [[-2, 0, 0]]]


@pytest.mark.parametrize(("check", "word"), [(as_patterns, "binary"), (as_ternary, "ternary")])
def test_bad_input_is_named(check, word):
    """One line with the argument's name, what is allowed, and what came. Catches: a check removed, NaN let through."""
    for bad, says in [(BAD_SHAPES, "have shape"), (BAD_TYPES, "be bool"), (BAD_VALUES, f"be {word}")]:
        for values in bad:
            with pytest.raises(ValueError, match=rf"^error must {says}.*, got ") as error:
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


def test_every_encoding_has_one_signature():
    """Patterns for a batch, by value and frame number. Catches: an encoding that is not exported."""
    kinds = [getattr(patterns, name) for name in patterns.__all__ if name != "Encoding"]
    assert len(kinds) == 7 and all(issubclass(kind, Encoding) for kind in kinds)
    values = {TernaryPair: np.eye(3), LeeHologram: np.zeros((3, 2, 2)), Superpixel: np.zeros((3, 2, 2))}
    for kind in kinds:
        shown = kind().encode(values.get(kind, np.full((3, 5), 0.25)), tick=7)
        assert shown.dtype == np.bool_ and len(shown) == 3
        assert len(kind().decode(shown)) == 3
