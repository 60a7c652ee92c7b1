"""Ternary pairs and bit planes: what the linear maps of the patterns add up to."""

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photonics.patterns import BitPlanes, TernaryPair
from photonics.patterns.encoding import as_ternary

MAKERS = [np.asarray, strict.asarray]
ternary_vectors = st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4), min_size=1, max_size=5)


@given(ternary_vectors)
def test_a_ternary_vector_is_the_difference_of_its_pair(vectors):
    """``plus - minus = x``, never both ON. Catches: a sign swapped, zeros lit in both."""
    pair = TernaryPair().encode(vectors)
    assert pair.dtype == np.bool_ and pair.shape == (len(vectors), 2, 4)
    np.testing.assert_array_equal(TernaryPair().decode(pair), vectors)
    assert not np.any(pair[:, 0] & pair[:, 1])
    np.testing.assert_array_equal(as_ternary(np.asarray(vectors, float), 4), vectors)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 3, 16])
def test_bit_planes_round_to_half_a_level(bits, signed, make):
    """Worst rounding error ``1 / (2 (2^bits - 1))``, reached, ends exact. Catches: floor; levels ``j / 2^bits``."""
    values = np.linspace(-1.0 if signed else 0.0, 1.0, 2**17 + 1)[None, :]
    encoding = BitPlanes(bits=bits, signed=signed)
    planes = encoding.encode(make(values))
    assert planes.shape == (1, bits, values.size)
    error = np.abs(np.asarray(encoding.decode(planes)) - values)
    assert error.max() <= encoding.max_error * (1 + 1e-9)
    assert error.max() > 0.7 * encoding.max_error
    assert np.all(error[np.isin(values, (-1, 0, 1))] < 1e-15)


def test_one_bit_is_a_threshold_and_two_are_thirds():
    """Most significant plane first. Catches: the planes in the other order, which decode would not notice."""
    np.testing.assert_array_equal(BitPlanes(bits=1).encode([[0.49, 0.51]]), [[[False, True]]])
    np.testing.assert_array_equal(BitPlanes(bits=2).encode([[1 / 3, 2 / 3]]), [[[False, True], [True, False]]])
    np.testing.assert_array_equal(BitPlanes(bits=2, signed=True).encode([[-1 / 3, 2 / 3]]), [[[0, 1], [-1, 0]]])


def shown(planes, matrix):
    """Linear projection of each plane, from two binary frames as a device measures it."""
    pair = TernaryPair().encode(planes.reshape(-1, planes.shape[-1]).astype(np.int8))
    return TernaryPair().decode(pair @ matrix.T).reshape(*planes.shape[:2], -1)


@settings(max_examples=20, deadline=None)
@given(bits=st.integers(1, 16), signed=st.booleans(), seed=st.integers(0, 99))
def test_projected_planes_add_up_to_the_projection(bits, signed, seed):
    """A complex linear map of the planes, decoded, is the map of the values to `max_error` times its row sums.

    Catches: a weight wrong, complex projections made real, the sign of negative values lost.
    """
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(3, 11)) + 1j * rng.normal(size=(3, 11))
    values = rng.uniform(-1 if signed else 0, 1, size=(4, 11))
    encoding = BitPlanes(bits=bits, signed=signed)
    found = encoding.decode(shown(encoding.encode(values), matrix))
    limit = encoding.max_error * np.abs(matrix).sum(1)
    assert np.all(np.abs(found - values @ matrix.T) <= limit * (1 + 1e-9))


@pytest.mark.parametrize("bits", [1, 2, 5, 12])
def test_noise_of_decoded_planes(bits):
    """Unit noise in each plane leaves ``(2^bits + 1) / (3 (2^bits - 1))``. Catches: weights that do not sum to 1."""
    weights = BitPlanes(bits=bits).decode(np.eye(bits)[None])[0]
    assert abs(weights.sum() - 1) < 1e-12
    assert abs((weights**2).sum() - (2**bits + 1) / (3 * (2**bits - 1))) < 1e-12


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_decoding_keeps_the_precision_of_the_device(dtype):
    """float32 and complex64 projections stay so. Catches: every projection made float64, twice the memory."""
    assert BitPlanes(bits=3).decode(np.ones((2, 3, 4), dtype)).dtype == dtype
    assert TernaryPair().decode(np.ones((2, 2, 4), dtype)).dtype == dtype


BAD_CALLS = [
    (lambda: BitPlanes(bits=0), "^BitPlanes: bits must be greater than or equal to 1, got 0"),
    (lambda: BitPlanes(bits=17), "^BitPlanes: bits must be less than or equal to 16, got 17"),
    (lambda: BitPlanes(bits=2.5), r"^BitPlanes: bits must be a valid integer, got 2\.5"),
    (lambda: BitPlanes(bits=2).encode([[-0.5]]), r"^values must be from 0 to 1"),
    (lambda: BitPlanes(bits=2, signed=True).encode([[-1.5]]), r"^values must be from -1 to 1"),
    (lambda: BitPlanes(bits=2).encode([[[0.5]]]), r"^values must have 2 dimensions"),
    (lambda: BitPlanes(bits=2).decode([[0.5]]), r"^shown must have shape \(batch, 2, n_out\), got \(1, 1\)"),
    (lambda: BitPlanes(bits=16).decode(np.ones((1, 17, 2))), r"^shown must have shape .*got \(1, 17, 2\)"),
    (lambda: BitPlanes(bits=1).decode([[[np.inf]]]), r"^shown must be finite"),
    (lambda: TernaryPair().encode([[0.5]]), r"^values must be ternary"),
    (lambda: TernaryPair().decode(np.ones((1, 3, 2))), r"^shown must have shape \(batch, 2, n_out\), got \(1, 3, 2\)"),
]


def test_bad_arguments_are_named():
    """One line with the argument, what is allowed, what came. Catches: a range check removed."""
    for call, says in BAD_CALLS:
        with pytest.raises(ValueError, match=says):
            call()
