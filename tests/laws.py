"""The laws that every scattering medium obeys; a new medium joins `MEDIA` and is done.

Pytest collects this file (``python_files`` in pyproject.toml). Shapes are chosen to be awkward: odd, smaller and
larger than the blocks in which the products are taken (16 frames, 256 real outputs).
"""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photonics import GaussianMedium, MatrixMedium
from photonics import medium as media

ALL = slice(None)


def given_matrix(n_in, n_out):
    """A matrix with structure: strong and weak rows, so that a mixed-up index shows."""
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(n_out, n_in)) + 1j * rng.normal(size=(n_out, n_in))
    return matrix * np.linspace(0.1, 3, n_out)[:, None] / np.sqrt(2 * n_in)


MAKERS = {
    "gaussian-48x37": lambda: GaussianMedium(48, 37, seed=3),
    "gaussian-1x1": lambda: GaussianMedium(1, 1, seed=1),
    "gaussian-301x1203": lambda: GaussianMedium(301, 1203, seed=2**63),
    "streamed-48x37": lambda: GaussianMedium(48, 37, seed=3, storage="streamed"),
    "streamed-301x1203": lambda: GaussianMedium(301, 1203, seed=2**63, storage="streamed"),
    "streamed-1100x70": lambda: GaussianMedium(1100, 70, seed=5, storage="streamed"),
    "3bit-48x37": lambda: GaussianMedium(48, 37, seed=3, entries="3bit"),
    "3bit-streamed-301x1203": lambda: GaussianMedium(301, 1203, seed=4, storage="streamed", entries="3bit"),
    "matrix-48x37": lambda: MatrixMedium(given_matrix(48, 37)),
    "matrix-200x1100": lambda: MatrixMedium(given_matrix(200, 1100)),
}
MEDIA = {name: make() for name, make in MAKERS.items()}
DESCRIBED = [name for name in MAKERS if not name.startswith("matrix")]
KINDS = ["bool", "int8", "float32", "float64", "complex64", "complex128"]

every_medium = pytest.mark.parametrize("medium", MEDIA.values(), ids=MEDIA)
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
every_kind = pytest.mark.parametrize("kind", KINDS)
both_ways = pytest.mark.parametrize("way", ["propagate", "adjoint"])


def fields(width, batch, kind="complex64", seed=0):
    """Random fields of a kind: (batch, width)."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(batch, width))
    if kind in ("bool", "int8"):
        return (real > 0).astype(kind)
    return (real + 1j * rng.normal(size=real.shape) if kind.startswith("complex") else real).astype(kind)


def width(medium, way):
    """Width of the fields that go in."""
    return medium.shape[1] if way == "propagate" else medium.shape[0]


def close(a, b, tolerance=1e-5):
    """Largest difference over largest value."""
    return np.abs(a - b).max() <= tolerance * np.abs(b).max()


@every_medium
@both_ways
@every_kind
def test_output_is_a_complex64_product(medium, way, kind):
    """``T @ x`` or ``T^H @ y`` for each row, (batch, other side), any kind of input. Catches: T for its conjugate."""
    matrix = medium.block(ALL, ALL).astype(np.complex128)
    x = fields(width(medium, way), 3, kind)
    result = getattr(medium, way)(x)
    assert result.dtype == np.complex64
    assert close(result, x @ matrix.T if way == "propagate" else x @ matrix.conj())


@every_medium
def test_adjoint(medium):
    """``<y, T x> = <T^H y, x>``. Catches: a transpose without conjugate."""
    x, y = fields(medium.shape[1], 5), fields(medium.shape[0], 5, seed=1)
    forward, backward = np.vdot(y, medium.propagate(x)), np.vdot(medium.adjoint(y), x)
    assert abs(forward - backward) <= 1e-5 * np.linalg.norm(y) * np.linalg.norm(medium.propagate(x))


@every_medium
@both_ways
@pytest.mark.parametrize("kind", ["float32", "complex64"])
def test_linear(medium, way, kind):
    """``A(ax + by) = aA(x) + bA(y)``, and a complex field is its two real ones. Catches: a part that is dropped."""
    apply, n = getattr(medium, way), width(medium, way)
    x, y = fields(n, 4, kind), fields(n, 4, kind, seed=1)
    a, b = (0.7, -2.0) if kind == "float32" else (0.7 - 1.1j, 2j)
    assert close(apply(a * x + b * y), a * apply(x) + b * apply(y))
    assert close(apply(x), apply(x.real) + 1j * apply(x.imag))
    assert not np.any(apply(0 * x))


@every_medium
@both_ways
@pytest.mark.parametrize("kind", ["bool", "float32", "complex64"])
def test_batch_split_is_bit_identical(medium, way, kind):
    """A frame does not know its neighbours, nor its place among them.

    Catches: products whose shape follows the batch; a BLAS kernel that sums rows 0-5 and 6-11 in another order.
    """
    apply, x = getattr(medium, way), fields(width(medium, way), 150, kind)
    whole = apply(x)
    for edges in ([0, 1, 2, 150], [0, 64, 127, 128, 150], [0, 149, 150]):
        parts = [apply(x[a:b]) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    order = np.random.default_rng(0).permutation(150)
    np.testing.assert_array_equal(apply(x[order]), whole[order])


@every_medium
@both_ways
def test_threads_are_bit_identical(medium, way, set_threads):
    """One thread or two. Catches: blocks that follow the number of threads."""
    results = []
    for count in (1, 2):
        set_threads(count)
        results.append(getattr(medium, way)(fields(width(medium, way), 20)))
    np.testing.assert_array_equal(*results)


@every_medium
def test_block_is_the_response_to_unit_vectors(medium):
    """Bit for bit: a unit vector picks a column. Catches: rows and columns swapped, a block in another precision."""
    block = medium.block(ALL, ALL)
    assert block.dtype == np.complex64
    assert block.shape == medium.shape
    np.testing.assert_array_equal(medium.propagate(np.eye(medium.shape[1], dtype=bool)).T, block)
    np.testing.assert_array_equal(medium.adjoint(np.eye(medium.shape[0], dtype=bool)), block.conj())


@every_medium
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_block_is_that_slice_of_the_whole(medium, data):
    """Any slices, steps and negative ends included. Catches: a block computed on its own counters."""
    rows, columns = (data.draw(st.slices(size), name) for size, name in zip(medium.shape, "rc", strict=True))
    np.testing.assert_array_equal(medium.block(rows, columns), medium.block(ALL, ALL)[rows, columns])


@every_medium
def test_block_is_a_copy(medium):
    """Writing to it does not change the medium. Catches: a view of the stored matrix."""
    before = medium.block(ALL, ALL)
    medium.block(ALL, ALL)[:] = 0
    np.testing.assert_array_equal(medium.block(ALL, ALL), before)


@every_maker
def test_same_parameters_same_medium(make, set_threads):
    """Bit for bit, on one thread or two. Catches: an entry that depends on who filled it."""
    blocks = []
    for count in (1, 2):
        set_threads(count)
        blocks.append(make().block(ALL, ALL))
    np.testing.assert_array_equal(*blocks)


@pytest.mark.parametrize("name", DESCRIBED)
def test_description_makes_the_same_medium(name):
    """``from_dict(to_dict())`` has the same entries. Catches: a parameter left out of the description."""
    medium = MEDIA[name]
    again = media.from_dict(medium.to_dict())
    assert again.to_dict() == medium.to_dict()
    np.testing.assert_array_equal(again.block(ALL, ALL), medium.block(ALL, ALL))


@pytest.mark.parametrize("name", DESCRIBED)
@pytest.mark.parametrize("change", [1, 2**32])
def test_another_seed_is_another_medium(name, change):
    """Uncorrelated (5 standard errors), whichever half of the seed differs. Catches: half of a seed ignored."""
    medium = MEDIA[name]
    description = medium.to_dict()
    other = media.from_dict(description | {"seed": description["seed"] ^ change})
    a, b = medium.block(ALL, ALL), other.block(ALL, ALL)
    assert abs(np.vdot(a, b)) <= 5.0 * np.linalg.norm(a) * np.linalg.norm(b) / np.sqrt(a.size)
    assert not np.array_equal(a, b)


@every_medium
def test_pickled_medium_is_the_same(medium):
    """Sweeps send devices to other processes. Catches: a lock or a pool kept inside."""
    again = pickle.loads(pickle.dumps(medium))
    np.testing.assert_array_equal(again.block(ALL, ALL), medium.block(ALL, ALL))


@every_medium
@both_ways
def test_inputs_are_left_alone(medium, way):
    x = fields(width(medium, way), 3)
    before = x.copy()
    getattr(medium, way)(x)
    np.testing.assert_array_equal(x, before)


@every_medium
@both_ways
def test_memory_layout_does_not_matter(medium, way):
    """Bit for bit on transposed and strided fields. Catches: a view of the buffer in the wrong order."""
    x = fields(2 * width(medium, way), 6)[::2, ::2]
    np.testing.assert_array_equal(getattr(medium, way)(x), getattr(medium, way)(np.ascontiguousarray(x)))
    np.testing.assert_array_equal(getattr(medium, way)(np.asfortranarray(x)), getattr(medium, way)(x))


@every_medium
@both_ways
def test_empty_batch(medium, way):
    n_out, n_in = medium.shape
    assert getattr(medium, way)(np.zeros((0, width(medium, way)))).shape == (0, n_out if way == "propagate" else n_in)


@every_medium
@both_ways
def test_bad_fields_are_refused(medium, way):
    """Wrong rank, width, kind or a value that is not finite: one line names the argument. Catches: a lost check."""
    apply, n = getattr(medium, way), width(medium, way)
    shapes = [np.ones(n), np.ones((2, n + 1)), np.ones((1, 1, n)), np.ones(()), np.ones((n + 1, n)).T]
    kinds = [np.full((1, n), "x"), np.full((1, n), None), np.zeros((1, n), "datetime64[s]")]
    values = [np.full((1, n), v) for v in (np.nan, np.inf, -np.inf, 1j * np.nan)]
    for bad, says in [(shapes, "have shape"), (kinds, "be bool, real or complex"), (values, "be finite")]:
        for field in bad:
            with pytest.raises(ValueError, match=rf"^field must {says}.*, got") as error:
                apply(field)
            assert "\n" not in str(error.value)
