"""Products with matrices in tiles: one order of summation for any storage; and the three-bit entries."""

import platform
import tracemalloc
from types import SimpleNamespace

import llvmlite.binding as llvm
import numpy as np
import psutil
import pytest
from numba.core import config

from photonics import Drifting, GaussianMedium, MatrixMedium, Modes, kernels, random
from photonics.backend import to_host
from photonics.medium import streaming
from photonics.random import Stream

ALL = slice(None)
FUSED = platform.machine() in ("arm64", "aarch64") or llvm.get_host_cpu_features().get("fma", False)
EDGES = [(255, 257), (256, 128), (513, 255), (127, 512), (129, 513)]
SMALL = [(1, 1), (64, 65)]

both_entries = pytest.mark.parametrize("entries", ["gaussian", "3bit"])


def fields(batch, width, kind="float32", seed=0):
    """Random fields, a third of them zero: (batch, width)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(batch, width)) * (rng.random((batch, width)) < 2 / 3)
    if kind == "bool":
        return x > 0
    return (x + 1j * x[::-1, ::-1] if kind == "complex64" else x).astype(kind)


def matrix(n_in, n_out):
    rng = np.random.default_rng(n_in)
    return (rng.normal(size=(n_out, n_in)) + 1j * rng.normal(size=(n_out, n_in))).astype(np.complex64)


def pair(n_in, n_out, entries, seed=7):
    """The same medium, stored and streamed."""
    return [GaussianMedium(n_in, n_out, seed, storage, entries) for storage in ("stored", "streamed")]


def chain(x, columns):
    """``s = fma(x_k, t_k, s)`` over ascending k, in float32: (frames, k), (k, parts) -> (frames, parts).

    A product of two float32 is exact in float64; the sum rounded there and again to float32 differs from one rounding
    in 2**-29 of the cases, none of which is in the data of these tests.
    """
    sums = np.zeros((len(x), columns.shape[1]), np.float32)
    for weight, column in zip(x.T, columns, strict=True):
        term = np.multiply.outer(weight, column, dtype=np.float64 if FUSED else np.float32)
        sums = (sums + term).astype(np.float32)
    return sums


def summed(x, columns):
    """Chains over slices of 128 inputs, added in ascending order in float32, and every 64 of these in float64."""
    total = np.zeros((len(x), columns.shape[1]))
    for start in range(0, len(columns), 64 * 128):
        sums = np.zeros(total.shape, np.float32)
        for k in range(start, min(start + 64 * 128, len(columns)), 128):
            sums += chain(x[:, k : k + 128], columns[k : k + 128])
        total += sums
    return total.astype(np.float32)


def summed_by_fours(x, columns):
    """The same for frames of 0 and 1: ``(t0 + t1) + (t2 + t3)``, in chains of 16 of these."""
    rows = np.pad(columns, ((0, -len(columns) % 64), (0, 0)))
    on = np.pad(x, ((0, 0), (0, len(rows) - len(columns)))).astype(np.float32)
    total = np.zeros((len(x), columns.shape[1]))
    for start in range(0, len(rows), 64 * 128):
        sums = np.zeros(total.shape, np.float32)
        for first in range(start, min(start + 64 * 128, len(rows)), 64):
            terms = (on[:, first : first + 64, None] * rows[first : first + 64]).reshape(len(x), 16, 4, -1)
            fours = (terms[:, :, 0] + terms[:, :, 1]) + (terms[:, :, 2] + terms[:, :, 3])
            sums += np.cumsum(fours, axis=1, dtype=np.float32)[:, -1]
        total += sums
    return total.astype(np.float32)


@pytest.mark.parametrize("batch", [1, 3, 4, 7])
@pytest.mark.parametrize(("n_in", "n_out"), [(300, 130), (6, 257), (8500, 3)])
def test_a_value_is_a_sum_of_chains(batch, n_in, n_out):
    """Over slices of the inputs in ascending order, bit for bit, for few frames and many, of 0 and 1 and of any values.

    Catches: slices that follow the lit inputs or the batch, a reduction that the compiler reorders, a rounded product,
    a table of other sums.
    """
    t, x = matrix(n_in, n_out), fields(batch, n_in)
    columns, medium = np.ascontiguousarray(t.T).view(np.float32), MatrixMedium(t)
    np.testing.assert_array_equal(medium.propagate(x).view(np.float32), summed(x, columns))
    np.testing.assert_array_equal(medium.propagate(x > 0).view(np.float32), summed_by_fours(x > 0, columns))


@pytest.mark.parametrize("storage", ["stored", "streamed"])
def test_a_frame_does_not_depend_on_its_neighbours(storage, set_threads):
    """Patterns between fields of any values, in any batch and order, on any number of threads, bit for bit.

    Catches: a way to sum that is chosen by the batch, frames that return at another's place, padding that is summed.
    """
    medium, x = GaussianMedium(700, 300, 1, storage), fields(200, 700)
    x[::3] = fields(67, 700, "bool", seed=1)
    x[6] = 0.0
    whole, rng = medium.propagate(x), np.random.default_rng(2)
    np.testing.assert_array_equal(whole[::3], medium.propagate(x[::3] == 1))
    for batch, threads in zip((1, 2, 3, 31, 32, 200), (1, 2, 2, 1, 2, 2), strict=True):
        set_threads(threads)
        some = rng.permutation(200)[:batch]
        np.testing.assert_array_equal(medium.propagate(x[some]), whole[some])
    other = GaussianMedium(700, 300, 1, {"stored": "streamed", "streamed": "stored"}[storage])
    np.testing.assert_array_equal(other.propagate(x), whole)


def test_a_stored_matrix_is_held_once(monkeypatch):
    """A matrix of 8.4 MB, drawn and multiplied in under 13 MB; a thread more has a block more to draw in.

    Catches: a second copy in another order.
    """
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 1)
    medium, x = GaussianMedium(1024, 1024), fields(64, 1024)
    GaussianMedium(64, 64).propagate(x[:, :64])
    tracemalloc.start()
    medium.propagate(x)
    medium.propagate(x > 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 13e6


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(("n_in", "n_out"), [(130, 300), (257, 7), (3, 4300)])
def test_a_value_of_the_adjoint_is_a_sum_of_chains(batch, n_in, n_out):
    """Over the parts of each column, real and imaginary by turns. Catches: the two summed apart."""
    t, y = matrix(n_in, n_out), fields(batch, n_out, "complex64")
    parts = np.ascontiguousarray(t.view(np.float32).reshape(n_out, n_in, 2).transpose(0, 2, 1)).reshape(-1, n_in)
    real, imag = summed(y.view(np.float32), parts), summed((-1j * y).astype(np.complex64).view(np.float32), parts)
    result = MatrixMedium(t).adjoint(y)
    np.testing.assert_array_equal(result.real, real)
    np.testing.assert_array_equal(result.imag, imag)


def equal_terms(n):
    """Media with rows (or, for the adjoint, columns) of n equal entries: a product in each, with its exact value."""
    value = np.float32(n**-0.5)
    wide, tall = MatrixMedium(np.full((4, n), value)), MatrixMedium(np.full((n, 4), value))
    twice = Modes(wide, (1.0, 1.0))
    moving = Drifting(wide, 1e6)
    exact = n * float(value)
    return [
        (wide.propagate, exact),
        (tall.adjoint, exact),
        (lambda x: twice.propagate(x)[:, :4], exact * 0.5**0.5),
        (moving.propagate, exact),
    ]


@pytest.mark.parametrize("n", [1000, 4096, 100_000, 1_000_000])
@pytest.mark.parametrize("batch", [1, 5])
def test_sums_do_not_drift(n, batch, strict):
    """Equal terms are right to 1e-5, forward, backward, in modes and in a medium that moves, on any library.

    Catches: one chain in float32, which is 0.1 % off at 200 000 terms and 1 % at 800 000.
    """
    for apply, exact in equal_terms(n):
        x = np.ones((batch, n), np.float32)
        for result in (apply(x), to_host(apply(strict.asarray(x)))):
            assert np.abs(result / exact - 1).max() < 1e-5


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_zeros_leave_no_trace(batch):
    """The entries of inputs that are zero do not matter, bit for bit. Catches: slices that follow the lit inputs."""
    t, on = matrix(700, 90), np.random.default_rng(2).random(700) < 0.3
    x, other = fields(batch, 700) * on, np.where(on, t, 7 * t[::-1] + 1)
    np.testing.assert_array_equal(MatrixMedium(t).propagate(x), MatrixMedium(other).propagate(x))


@pytest.mark.parametrize("storage", ["stored", "streamed"])
@both_entries
def test_a_single_frame_visits_only_what_is_on(monkeypatch, storage, entries):
    """No other column is read or drawn. Catches: a product of the whole matrix with zeros."""
    medium, x = GaussianMedium(300, 70, 1, storage, entries), fields(1, 300, "bool")
    before, visited = medium.propagate(x), []
    if storage == "stored":
        medium._panels.array[:, np.flatnonzero(~x[0])] = np.nan
    else:
        add = kernels.entries.add_columns
        spy = lambda three, x, where, *rest: (visited.extend(where), add(three, x, where, *rest))  # noqa: E731
        monkeypatch.setattr(kernels.entries, "add_columns", spy)
        monkeypatch.setitem(vars(medium), "_draw", None)
    np.testing.assert_array_equal(medium.propagate(x), before)
    assert storage == "stored" or visited == list(np.flatnonzero(x))


@both_entries
@pytest.mark.parametrize(("n_in", "n_out"), EDGES + SMALL)
def test_streamed_equals_stored(n_in, n_out, entries):
    """Bit for bit: both products of every kind of field in any batch, and blocks.

    Catches: a tile that begins inside a draw, the rest of an old tile left at an edge, another order of summation.
    """
    stored, streamed = pair(n_in, n_out, entries)
    for kind in ("bool", "float32", "complex64"):
        for way, width in (("propagate", n_in), ("adjoint", n_out)):
            x = fields(33, width, kind)
            whole = getattr(stored, way)(x)
            for batch in (1, 2, 3, 4, 5, 33):
                np.testing.assert_array_equal(getattr(streamed, way)(x[:batch]), whole[:batch])
                np.testing.assert_array_equal(getattr(stored, way)(x[-batch:]), whole[-batch:])
    for rows, cols in [(ALL, ALL), (slice(1, None, 3), slice(None, None, -1)), (slice(-1, None), slice(n_in // 2, -1))]:
        np.testing.assert_array_equal(streamed.block(rows, cols), stored.block(rows, cols))


@both_entries
def test_tiles_on_a_device_add_up(monkeypatch, strict, entries):
    """Many tiles give what one gives, to 5e-6 of the largest. Catches: a tile that overlaps or is left out."""
    stored, streamed = pair(300, 500, entries)
    monkeypatch.setattr(streaming, "INPUTS", 67)
    monkeypatch.setattr(streaming, "OUTPUTS", 128)
    for way, width in (("propagate", 300), ("adjoint", 500)):
        for kind in ("bool", "complex64"):
            x = fields(3, width, kind)
            result, expected = to_host(getattr(streamed, way)(strict.asarray(x))), getattr(stored, way)(x)
            assert np.abs(result - expected).max() < 5e-6 * np.abs(expected).max()


def test_streaming_stores_no_matrix():
    """A matrix of 134 MB passes in under 8 MB, with every input ON. Catches: a tile for each thread's whole share."""
    medium, x = GaussianMedium(4096, 4096, storage="streamed", entries="3bit"), np.ones((8, 4096), bool)
    medium.propagate(x[:, :4096])
    tracemalloc.start()
    medium.propagate(x)
    medium.adjoint(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


@pytest.mark.parametrize("storage", ["stored", "streamed"])
@pytest.mark.parametrize("batch", [1, 8])
def test_accuracy(storage, batch):
    """Largest error over the rms value within ``1.5 eps sqrt(n_in)``, the random walk of n roundings (0.8 measured).

    Catches: sums in half precision, a product that loses small terms.
    """
    medium = GaussianMedium(4096, 600, 3, storage)
    t, x = medium.block(ALL, ALL).astype(np.complex128), fields(batch, 4096)
    exact = x @ t.T
    scale = np.finfo(np.float32).eps * np.sqrt(4096) * np.sqrt(np.mean(np.abs(exact) ** 2))
    assert np.abs(medium.propagate(x) - exact).max() < 1.5 * scale


@pytest.fixture(scope="module")
def levels():
    """Parts of three-bit entries, in units of their scale over 7: (n_in, 2 n_out) = (600, 1024)."""
    medium = GaussianMedium(600, 512, seed=2**63 + 1, entries="3bit")
    parts = np.ascontiguousarray(medium.block(ALL, ALL).T).view(np.float32)
    scale = np.float32(1200**-0.5 / 7)
    found = np.round(parts / scale)
    np.testing.assert_array_equal(parts, found.astype(np.float32) * scale)
    return found


def test_three_bit_levels(levels):
    """Four levels, at their frequencies within 4 SE. Catches: a size from one bit, the sign from a size's bit."""
    values, counts = np.unique(levels, return_counts=True)
    np.testing.assert_array_equal(values, [-13, -3, 3, 13])
    p = np.array([1, 3, 3, 1]) / 8
    assert (np.abs(counts / levels.size - p) < 4 * np.sqrt(p * (1 - p) / levels.size)).all()


def test_three_bit_moments(levels):
    """First to fifth moments are the normal law's, the sixth 10.26, within 4 SE. Catches: 12 for 13, 6 for 7."""
    exact = {1: 0.0, 2: 1.0, 3: 0.0, 4: 7201 / 2401, 5: 0.0, 6: 1207249 / 117649}
    for power, expected in exact.items():
        draws = (levels / 7) ** power
        assert abs(draws.mean() - expected) < 4 * draws.std() / np.sqrt(draws.size)
    assert abs(exact[4] / 3 - 1) < 3e-4


def test_three_bit_entries_are_independent(levels):
    """No correlation, in value or size, with any near part of the column or the next, 4.5 SE over 200 pairs.

    Catches: a bit used twice, a word for two columns.
    """
    for values in (levels / 7, np.abs(levels) == 13):
        values = (values - values.mean()) / values.std()
        for lag in [*range(1, 68), 128, 256]:
            assert abs((values[:, lag:] * values[:, :-lag]).mean()) * np.sqrt(values.size) < 4.5
        for lag in (1, 2, 64):
            assert abs((values[lag:] * values[:-lag]).mean()) * np.sqrt(values.size) < 4.5


@pytest.mark.parametrize("seed", [0, 2**40 + 3])
def test_three_bit_follows_the_specification(seed):
    """Bit for bit: part ``16 place + i`` of a group of 64 rows is place `place` of word i of its four calls.

    Catches: the kernel's own order, a call shared by two groups.
    """
    n_in, n_out, groups = 21, 150, 3
    calls = random.words(seed, Stream.THREE_BIT, np.arange(n_in)[:, None], np.arange(4 * groups)[None, :])
    words = np.stack(calls, axis=-1).reshape(n_in, groups, 1, 16)
    parts = random.three_bit(words).reshape(n_in, groups * 128) * np.float32((2 * n_in) ** -0.5 / 7)
    for medium in pair(n_in, n_out, "3bit", seed):
        np.testing.assert_array_equal(medium.block(ALL, ALL).T, parts.view(np.complex64)[:, :n_out])


def test_gaussian_and_three_bit_differ():
    """Other words for the two laws, so they share nothing. Catches: one stream for both."""
    ours, other = (GaussianMedium(100, 100, 5, entries=e).block(ALL, ALL).ravel() for e in ("gaussian", "3bit"))
    assert abs(np.vdot(ours, other)) < 4 * np.linalg.norm(ours) * np.linalg.norm(other) / np.sqrt(ours.size)


def test_auto_chooses_by_the_free_memory(monkeypatch):
    """A matrix over a quarter of it is streamed; the choice is made once, and does not show in the result.

    Catches: a comparison the wrong way round, the total memory for what is free, a choice that changes on the way.
    """
    size, x, results = 8 * 60 * 50, fields(3, 60, "complex64"), []
    for free, streamed in [(4 * size, False), (4 * size - 1, True), (2**50, False), (0, True)]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free, total=2**60))
        medium = GaussianMedium(60, 50, 3, storage="auto")
        assert medium.streamed == streamed
        results.append(medium.propagate(x))
        assert ("_drawn" in vars(medium)) == (not streamed)
        monkeypatch.setattr(psutil, "virtual_memory", None)
        assert medium.streamed == streamed
        assert medium.to_dict()["storage"] == "auto"
    assert all(np.array_equal(result, results[0]) for result in results)
