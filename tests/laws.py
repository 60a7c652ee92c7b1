"""The laws that every scattering medium obeys. A new medium needs one line in `MAKERS`.

Pytest collects this file (``python_files`` in pyproject.toml). The shapes are awkward: odd, smaller and larger than the
blocks of the products (4 frames, 256 inputs, 256 outputs).
"""

import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from photonics import (
    Ballistic,
    Dispersive,
    Disturbed,
    Drifting,
    GaussianMedium,
    Lossy,
    MatrixMedium,
    Modes,
    ScatteringLayers,
)
from photonics import medium as media
from photonics.backend import backend_of, to_host

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
    "drifting-48x37": lambda: Drifting(GaussianMedium(48, 37, seed=3), 20),
    "drifting-301x1203": lambda: Drifting(GaussianMedium(301, 1203, seed=3), 3000.5),
    "drifting-matrix-48x37": lambda: Drifting(MatrixMedium(given_matrix(48, 37)), 100, law="gaussian"),
    "drifting-streamed-48x37": lambda: Drifting(GaussianMedium(48, 37, seed=3, storage="streamed"), 1500),
    "drifting-layers-48x37": lambda: Drifting(ScatteringLayers(48, 37, seed=3), 60, law="gaussian"),
    "drifting-warming-48x37": lambda: Drifting(GaussianMedium(48, 37, seed=3), 40, warm_up=5.0, warm_up_frames=20.0),
    "drifting-disturbed-48x37": lambda: Disturbed(Drifting(GaussianMedium(48, 37, seed=3), 900), 12, 0.6, seed=2),
    "lossy-48x37": lambda: Lossy(GaussianMedium(48, 37, seed=3), 0.3),
    "ballistic-48x37": lambda: Ballistic(GaussianMedium(48, 37, seed=3), 0.5),
    "ballistic-drifting-37x101": lambda: Ballistic(Drifting(GaussianMedium(37, 101, seed=3), 9), 2),
    "polarised-48x37": lambda: Modes.polarised(GaussianMedium(48, 37, seed=3)),
    "modes-matrix-48x37": lambda: Modes(Drifting(MatrixMedium(given_matrix(48, 37)), 9), [3, 2, 1], seed=5),
    "layers-48x37": lambda: ScatteringLayers(48, 37, seed=3),
    "layers-1x1": lambda: ScatteringLayers(1, 1, seed=1),
    "layers-53x301": lambda: ScatteringLayers(53, 301, seed=2**63, layers=2, oversample=3.3),
    "layers-1203x301": lambda: ScatteringLayers(1203, 301, seed=5),
    "dispersive-48x37": lambda: Dispersive(GaussianMedium(48, 37, seed=3), 1e-12),
}
MEDIA = {name: make() for name, make in MAKERS.items()}
DESCRIBED = [name for name in MAKERS if "matrix" not in name]
SEEDED = [name for name in DESCRIBED if not isinstance(MEDIA[name], media.Effect)]
COMPOSED = [name for name in DESCRIBED if isinstance(MEDIA[name], media.Effect)]
MOVING = [medium for name, medium in MEDIA.items() if "drifting" in name or name.startswith("modes")]
KINDS = ["bool", "int8", "float32", "float64", "complex64", "complex128"]
WAYS = ("propagate", "adjoint")
BASE = ["gaussian-48x37", "drifting-48x37", "ballistic-48x37", "polarised-48x37", "layers-48x37"]
"""Media that check their input each in its own place: enough for bad input and for every type of number."""

every_medium = pytest.mark.parametrize("medium", MEDIA.values(), ids=MEDIA)
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
base_media = pytest.mark.parametrize("medium", [MEDIA[name] for name in BASE], ids=BASE)


def fields(width, batch, kind="complex64", seed=0):
    """Random fields of a kind: (batch, width)."""
    rng = np.random.default_rng(seed)
    real = rng.normal(size=(batch, width))
    if kind in ("bool", "int8"):
        return (real > 0).astype(kind)
    return (real + 1j * rng.normal(size=real.shape) if kind.startswith("complex") else real).astype(kind)


def products(medium):
    """Both products of a medium, each with the width of the fields that go in."""
    n_out, n_in = medium.shape
    return (medium.propagate, n_in), (medium.adjoint, n_out)


def close(a, b, tolerance=1e-5):
    """Largest difference over largest value."""
    return np.abs(a - b).max() <= tolerance * np.abs(b).max()


def check_circular_normal(entries):
    """Entries of unit power: no preferred phase, ``E|t|^4 / E|t|^2^2 = 2``, both parts normal, to 4 SE."""
    n, power = entries.size, np.abs(entries) ** 2
    assert abs((entries**2).mean()) < 4 * np.sqrt(2 / n)
    assert abs(entries.mean()) < 4 / np.sqrt(n)
    assert abs((power**2).mean() / power.mean() ** 2 - 2) < 4 * np.sqrt(4 / n)  # SE of the ratio, exponential law
    for part in (entries.real, entries.imag):
        assert stats.kstest(part.ravel(), "norm", (0, np.sqrt(0.5))).statistic * np.sqrt(n) < 1.63


def check_independent(entries, steps):
    """Entries of unit power that are so many rows and columns apart share nothing, in field or in power, to 4 SE."""
    for rows, columns in steps:
        a = entries[rows:, columns:]
        b = entries[: a.shape[0], : a.shape[1]]
        for product in (a * b.conj(), a * b, (np.abs(a) ** 2 - 1) * (np.abs(b) ** 2 - 1)):
            assert abs(product.mean()) < 4 / np.sqrt(a.size)


def check_products(medium, kinds):
    """``T @ x`` and ``T^H @ y`` for each row, complex64, for fields of each kind."""
    matrix = medium.block(ALL, ALL).astype(np.complex128)
    for kind in kinds:
        for (apply, n), factor in zip(products(medium), (matrix.T, matrix.conj()), strict=True):
            x = fields(n, 3, kind)
            result = apply(x)
            assert result.dtype == np.complex64
            assert close(result, x @ factor)


@every_medium
def test_output_is_a_complex64_product(medium):
    """Of real fields and complex ones. Catches: T for its conjugate, an imaginary part that is dropped."""
    check_products(medium, ["bool", "complex64"])


@base_media
def test_every_type_of_number_is_a_field(medium):
    """Catches: a type that is read as another, or refused."""
    check_products(medium, KINDS)


@every_medium
def test_adjoint(medium):
    """``<y, T x> = <T^H y, x>``. Catches: a transpose without conjugate."""
    x, y = fields(medium.shape[1], 5), fields(medium.shape[0], 5, seed=1)
    forward, backward = np.vdot(y, medium.propagate(x)), np.vdot(medium.adjoint(y), x)
    assert abs(forward - backward) <= 1e-5 * np.linalg.norm(y) * np.linalg.norm(medium.propagate(x))


@every_medium
def test_linear(medium):
    """``A(ax + by) = aA(x) + bA(y)``, and a complex field is its two real ones. Catches: a part that is dropped."""
    for apply, n in products(medium):
        x, y, a, b = fields(n, 4), fields(n, 4, seed=1), 0.7 - 1.1j, 2j
        assert close(apply(a * x + b * y), a * apply(x) + b * apply(y))
        assert close(apply(x), apply(x.real) + 1j * apply(x.imag))
        assert not np.any(apply(0 * x))


@every_medium
def test_batch_split_is_bit_identical(medium):
    """A frame depends neither on the other frames nor on its place among them.

    Catches: products whose shape follows the batch; a BLAS kernel that sums rows 0-5 and 6-11 in another order.
    """
    for (apply, n), kinds in zip(products(medium), (["bool", "complex64"], ["complex64"]), strict=True):
        for kind in kinds:
            x = fields(n, 70, kind)
            whole = apply(x)
            for edges in ([0, 1, 2, 70], [0, 32, 63, 64, 70]):
                parts = [apply(x[a:b]) for a, b in pairwise(edges)]
                np.testing.assert_array_equal(np.concatenate(parts), whole)
            order = np.random.default_rng(0).permutation(70)
            np.testing.assert_array_equal(apply(x[order]), whole[order])


@every_medium
def test_threads_are_bit_identical(medium, set_threads):
    """One thread or two. Catches: blocks that follow the number of threads."""
    for apply, n in products(medium):
        results = []
        for count in (1, 2):
            set_threads(count)
            results.append(apply(fields(n, 20)))
        np.testing.assert_array_equal(*results)


@every_medium
def test_block_is_the_response_to_unit_vectors(medium):
    """Bit for bit: a unit vector picks a column. Catches: rows and columns swapped, a block in another precision."""
    block = medium.block(ALL, ALL)
    assert block.dtype == np.complex64
    assert block.shape == medium.shape
    np.testing.assert_array_equal(medium.propagate(np.eye(medium.shape[1], dtype=bool)).T, block)
    adjoint = medium.adjoint(np.eye(medium.shape[0], dtype=bool))
    if isinstance(getattr(medium, "medium", medium), ScatteringLayers):  # the inverse transforms add in another order
        assert close(adjoint, block.conj(), 2e-6)
    else:
        np.testing.assert_array_equal(adjoint, block.conj())


@every_medium
def test_block_at_a_tick(medium):
    """In any frame the block is the matrix of that frame, bit for bit, and `adjoint` is its adjoint.

    Catches: a tick that one of the three ignores or that an effect does not pass on.
    """
    n_out, n_in = medium.shape
    for tick in (1, 40, 40_000) if medium in MOVING else (40_000,):
        block = medium.block(ALL, ALL, tick)
        forward = medium.propagate(np.eye(n_in, dtype=bool), np.full(n_in, tick))
        np.testing.assert_array_equal(forward.T, block)
        assert close(medium.adjoint(np.eye(n_out), np.full(n_out, tick)), block.conj())
        np.testing.assert_array_equal(medium.block(slice(1, None, 2), slice(None, None, -1), tick), block[1::2, ::-1])


@every_medium
def test_frames_in_any_order_are_bit_identical(medium):
    """Frame numbers that go back and forth, in one batch or alone. Catches: a sum ordered by the batch."""
    count = 40 if medium in MOVING else 10
    ticks = np.random.default_rng(0).integers(0, 60, count)
    order = np.argsort(ticks)
    for apply, n in products(medium):
        x = fields(n, count)
        whole = apply(x, ticks)
        np.testing.assert_array_equal(
            np.concatenate([apply(x[[i]], ticks[[i]]) for i in range(0, count, 3)]), whole[::3]
        )
        np.testing.assert_array_equal(apply(x[order], ticks[order]), whole[order])


@every_medium
@settings(max_examples=15, deadline=None)
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
    """Bit for bit, on one thread or two. Catches: an entry that depends on the thread."""
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


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_is_another_medium(name):
    """Uncorrelated (5 standard errors), whichever half of the seed differs. Catches: half of a seed ignored."""
    medium = MEDIA[name]
    description, a = medium.to_dict(), medium.block(ALL, ALL)
    for change in (1, 2**32):
        b = media.from_dict(description | {"seed": description["seed"] ^ change}).block(ALL, ALL)
        assert abs(np.vdot(a, b)) <= 5.0 * np.linalg.norm(a) * np.linalg.norm(b) / np.sqrt(a.size)
        assert not np.array_equal(a, b)


@pytest.mark.parametrize("name", COMPOSED)
def test_another_seed_inside_is_another_medium(name):
    """With another seed of the innermost medium, all modes at all times are uncorrelated, except unscattered light.

    Catches: further modes, or parts of a drift, that depend only on the effect's seed.
    """
    description, ratio = MEDIA[name].to_dict(), 0.0
    inner = other = json.loads(json.dumps(description))
    while "medium" in inner:
        ratio, inner = max(ratio, inner.get("ratio", 0.0)), inner["medium"]
    inner["seed"] ^= 1
    changed, shape = media.from_dict(other), MEDIA[name].shape
    straight = media.Ballistic(MatrixMedium(np.zeros(shape)), ratio).block(ALL, ALL) if ratio else 0.0
    for tick in (0, 20, 4000):
        a, b = (medium.block(ALL, ALL, tick) - straight for medium in (MEDIA[name], changed))
        assert abs(np.vdot(a, b)) <= 5.0 * np.linalg.norm(a) * np.linalg.norm(b) / np.sqrt(a.size)
        assert not np.array_equal(a, b)


@every_medium
def test_pickled_medium_is_the_same(medium):
    """Sweeps send devices to other processes. Catches: a lock or a pool kept inside."""
    again = pickle.loads(pickle.dumps(medium))
    np.testing.assert_array_equal(again.block(ALL, ALL), medium.block(ALL, ALL))


@every_medium
def test_every_device_answers_the_same(medium, device):
    """To 1e-5 of the largest value, as complex64 on the device; the field is unchanged, a split is close.

    Catches: a part left on the host, double precision, a product of the transpose for the adjoint on a device.
    """
    for apply, n in products(medium):
        for kind, ticks in [("bool", None), ("complex64", None), ("float32", np.array([7, 0, 3, 40_000, 7]))]:
            x = fields(n, 5, kind)
            there = device.asarray(x.copy())
            result = apply(there, ticks)
            assert backend_of(result) == device
            assert result.dtype == device.xp.complex64
            assert close(to_host(result), apply(x, ticks))
            np.testing.assert_array_equal(to_host(there), x)
        parts = [to_host(apply(there[a:b, :], ticks[a:b])) for a, b in [(0, 0), (0, 1), (1, 5)]]
        assert close(np.concatenate(parts), to_host(result))


@base_media
def test_every_device_refuses_a_wrong_width(medium, device):
    """One line names the field and both widths. Catches: a check on the host only."""
    for apply, n in products(medium):
        for bad in (np.ones((2, n + 1), np.float32), np.ones(n, np.float32), np.ones((1, 1, n), np.float32)):
            with pytest.raises(ValueError, match=rf"^field must have shape \(batch, {n}\), got \(.*\)$"):
                apply(device.asarray(bad))


@every_medium
def test_memory_layout_does_not_matter(medium):
    """Bit for bit on transposed and strided fields, which are unchanged. Catches: a view in the wrong order."""
    for apply, n in products(medium):
        x = fields(2 * n, 6)[::2, ::2]
        before, result = x.copy(), apply(x)
        np.testing.assert_array_equal(result, apply(np.ascontiguousarray(x)))
        np.testing.assert_array_equal(apply(np.asfortranarray(x)), result)
        np.testing.assert_array_equal(x, before)


@every_medium
def test_empty_batch(medium):
    """Catches: a reduction over no frames."""
    for (apply, n), n_to in zip(products(medium), medium.shape, strict=True):
        assert apply(np.zeros((0, n))).shape == (0, n_to)


@base_media
def test_bad_fields_are_refused(medium):
    """Wrong rank, width, kind or a value that is not finite: one line names the argument. Catches: a lost check."""
    for apply, n in products(medium):
        shapes = [np.ones(n), np.ones((2, n + 1)), np.ones((1, 1, n)), np.ones(()), np.ones((n + 1, n)).T]
        kinds = [np.full((1, n), "x"), np.full((1, n), None), np.zeros((1, n), "datetime64[s]")]
        values = [np.full((1, n), v) for v in (np.nan, np.inf, -np.inf, 1j * np.nan)]
        for bad, says in [(shapes, "have shape"), (kinds, "be bool, real or complex"), (values, "be finite")]:
            for field in bad:
                with pytest.raises(ValueError, match=rf"^field must {says}.*, got") as error:
                    apply(field)
                assert "\n" not in str(error.value)


@every_medium
def test_torch_fields_of_the_host(medium, rng):
    """Fields as torch tensors give those of numpy, to 1e-5 of the rms. Catches: words that torch cannot shift."""
    torch = pytest.importorskip("torch")
    for apply, n in products(medium):
        field = rng.normal(size=(2, n)) + 1j * rng.normal(size=(2, n))
        expected, found = apply(field), apply(torch.asarray(field))
        assert isinstance(found, torch.Tensor)
        assert np.abs(found.numpy() - expected).max() <= 1e-5 * np.sqrt(np.mean(np.abs(expected) ** 2))
