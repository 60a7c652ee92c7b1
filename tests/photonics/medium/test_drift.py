"""Drift: the correlation law in the coefficients (exactly) and in fields, bit identity, and the cached media."""

import pickle
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from photonics import Drifting, GaussianMedium, Lossy, MatrixMedium
from photonics.draws import MAX_TICK
from photonics.medium import drift, gaussian

ALL = slice(None)
SLAB = GaussianMedium(200, 200, seed=21)
every_law = pytest.mark.parametrize("law", drift.LAWS)


def rho(name, lag, tau):
    """The two laws, written once more."""
    return np.exp(-np.abs(lag) / tau) if name == "exponential" else np.exp(-((lag / tau) ** 2))


def inner_products(medium, ticks, differences=False):
    """``c(t) . c(t')`` over all pairs of frames; with `differences`, half the squared distance of the first two."""
    names, weights = medium.coefficients(ticks)
    distinct, column = np.unique(names, return_inverse=True)
    dense = np.zeros((len(ticks), len(distinct)))
    np.add.at(dense, (np.arange(len(ticks))[:, None], column.reshape(names.shape)), weights)
    return np.sum((dense[0] - dense[1]) ** 2) / 2 if differences else dense @ dense.T


def awkward_ticks(tau):
    """Dense frames at the start, around the roots of the bridge, and far off, and some everywhere: all lags."""
    starts = [0, 2 * tau, 8 * tau - 100, 16 * tau - 100, 2.0**30, 2.0**40]
    dense = np.concatenate([max(int(start), 0) + np.arange(250) for start in starts])
    wide = np.random.default_rng(0).integers(0, int(30 * tau) + 40, 1000)
    return np.unique(np.concatenate([dense, wide]))


@every_law
@pytest.mark.parametrize("tau", [1e-3, 0.8, 7.3, 50, 300, 4097.7])
def test_coefficients_follow_the_law(law, tau):
    """Within 0.0005 (exponential) and 0.001 (Gaussian) over all pairs of frames, squares summing to 1; exact.

    Catches: a bridge whose variance is that of a Wiener process, roots too close, knots too wide, a window of the
    wrong width, a reflection that is not orthogonal.
    """
    medium, ticks = Drifting(SLAB, tau, law), awkward_ticks(tau)
    found = inner_products(medium, ticks)
    expected = medium.correlation(ticks[:, None] - ticks)
    assert np.abs(found - expected).max() < {"exponential": 0.0005, "gaussian": 0.001}[law]
    assert np.abs(np.diagonal(found) - 1).max() < 1e-12


def decorrelation(law, lag, tau):
    """The law's ``1 - rho`` without cancellation."""
    return -np.expm1(-lag / tau) if law == "exponential" else -np.expm1(-((lag / tau) ** 2))


@every_law
@pytest.mark.parametrize("tau", [50, 1000, 1e5, 3.3e6, 1e9, 1e13])
def test_decorrelation_is_right_at_every_lag(law, tau):
    """``1 - rho`` within 1 % of the law from one frame to 10 tau, all over time; exact.

    Catches: interpolation between knots, with which an exponential drift hardly moves below the distance of the knots
    (0.3 % of the law at lag 1 of tau = 1e5), a middle of the wrong variance.
    """
    medium, rng = Drifting(SLAB, tau, law), np.random.default_rng(0)
    lags = 10 ** np.arange(np.log10(10 * tau)).astype(np.int64)
    for lag in lags[decorrelation(law, lags, tau) > 1e-18]:  # smaller changes are rounding errors of the weights
        ticks = np.concatenate([np.arange(30), rng.integers(0, min(40 * tau, 1e14), 100)])
        found = [inner_products(medium, np.array([tick, tick + lag]), differences=True) for tick in ticks]
        assert np.abs(np.array(found) / decorrelation(law, lag, tau) - 1).max() < 0.01


@every_law
@pytest.mark.parametrize("storage", ["stored", "streamed"])
def test_fields_decorrelate_right_at_short_lags(law, storage):
    """``1 - rho`` of 64 fields on 2000 pixels within 2 %, through both kinds of storage.

    Random fields of 150 inputs have 150 / (150 + 64) as many independent values as numbers, 90 000, and the ratio of
    two powers a standard error of sqrt(2 / 90 000) = 0.47 %. Catches: as above, for what is propagated; weights rounded
    to float32, which loses a Gaussian drift's change of 1e-5.
    """
    tau = 1e5
    medium = Drifting(GaussianMedium(150, 2000, seed=23, storage=storage), tau, law, seed=5)
    x = np.random.default_rng(1).normal(size=(64, 150))
    for start, lag in [(0, 1), (3, 2), (777_777, 1), (777_777, 10), (777_777, 1000)]:
        a, b = (medium.propagate(x, np.full(64, t)).astype(np.complex128) for t in (start, start + lag))
        found = np.sum(np.abs(a - b) ** 2) / (np.sum(np.abs(a) ** 2) + np.sum(np.abs(b) ** 2))
        assert abs(found / decorrelation(law, lag, tau) - 1) < 0.02


def test_steps_of_the_drift_are_independent():
    """Changes over 16 neighbouring frames are uncorrelated, in the entries and in the fields, to 4.5 SE.

    Catches: one set of turns for two parts, or for rows and columns of neighbouring parts.
    """
    medium = Drifting(GaussianMedium(150, 400, seed=23), 1e5, seed=5)
    ticks = 777_000 + np.arange(17)
    steps = np.diff([medium.block(ALL, ALL, t).astype(np.complex128).ravel() for t in ticks], axis=0)
    fields = np.diff(medium.propagate(np.ones((17, 150)), ticks).astype(np.complex128), axis=0)
    for values in (steps, fields):
        values = values / np.linalg.norm(values, axis=1, keepdims=True)
        shared = np.abs(values @ values.conj().T) - np.eye(16)
        assert shared.max() < 4.5 / np.sqrt(values.shape[1])


def test_fine_parts_keep_magnitudes():
    """A zero entry of a user's matrix stays zero at every lag. Catches: rows or columns that move."""
    matrix = np.ones((4, 5), complex)
    matrix[2, 3] = 0.0
    medium = Drifting(MatrixMedium(matrix), 1e5)
    assert all(medium.block(ALL, ALL, t)[2, 3] == 0 for t in (1, 77, 1001, 10**7 + 1))


@every_law
def test_correlation_is_the_law(law):
    """Catches: 1/e at another lag, a Gaussian with a half in the exponent."""
    lags = np.array([-3.0, 0.0, 1.0, 5.0, 12.5])
    np.testing.assert_allclose(Drifting(SLAB, 5.0, law).correlation(lags), rho(law, lags, 5.0), rtol=1e-14)


@every_law
@pytest.mark.parametrize("start", [0, 777])
def test_fields_and_intensities_decorrelate(law, start):
    """Field by rho, intensity by rho^2, ``E|t|^2`` constant, seen through a slab: all within 4 standard errors.

    The coefficients are exact to 0.002; deviations are from the finite number of pixels, 200 x 40 fields: about sqrt(1
    - rho^2) / sqrt(8000) for the field (under 0.01) and twice that for the intensity. The mean intensity, whose ratio
    to frame 0's is free of most of the chance, stays within 4 x 1/sqrt(8000), and over the entries within 1 %. Catches:
    a conjugate, coefficients that sum to 1 instead of their squares, the intensity's law for the field's.
    """
    tau, frames = 300.0, 40
    medium = Drifting(SLAB, tau, law, seed=3)
    x = np.random.default_rng(1).normal(size=(frames, 200))
    lags = np.array([1, 30, 75, 150, 300, 450, 900])
    first = medium.propagate(x, np.full(frames, start)).astype(np.complex128)
    for lag in lags:
        later = medium.propagate(x, np.full(frames, start + lag)).astype(np.complex128)
        expected, n = rho(law, lag, tau), first.size
        field = np.vdot(first, later) / np.linalg.norm(first) / np.linalg.norm(later)
        assert abs(field - expected) < 0.002 + 4 * np.sqrt((1 - expected**2) / n)
        a, b = np.abs(first) ** 2, np.abs(later) ** 2
        norm = np.sqrt(np.mean(np.abs(x) ** 2, axis=1, keepdims=True))
        intensity = np.corrcoef((a / norm**2).ravel(), (b / norm**2).ravel())[0, 1]
        assert abs(intensity - expected**2) < 0.004 + 4 * 2 * np.sqrt((1 - expected**2) / n)
        assert abs(b.mean() / a.mean() - 1) < 4 * np.sqrt(2 * (1 - expected**2) / n)


@every_law
def test_entries_decorrelate_within_half_a_percent(law):
    """Over 640 000 entries the field's correlation is rho within 0.005 (4 s.e.), and the power within 1 %.

    Catches: media of neighbouring knots that are not independent (one seed for two names).
    """
    tau = 80.0
    medium = Drifting(GaussianMedium(800, 800, seed=22), tau, law, seed=4)
    first = medium.block(ALL, ALL, 5).astype(np.complex128)
    for lag in (10, 40, 80, 160, 1000):
        later = medium.block(ALL, ALL, 5 + lag)
        field = np.vdot(first, later) / np.linalg.norm(first) / np.linalg.norm(later)
        assert abs(field - rho(law, lag, tau)) < 0.005
        assert abs(np.linalg.norm(later) ** 2 / 800 - 1) < 0.01


def test_magnitudes_of_a_given_matrix_stay():
    """A user's matrix keeps the energy of each entry, on average over frames far apart (4 s.e.).

    Catches: fresh media of another scale.
    """
    matrix = np.linspace(0.1, 3, 12).reshape(3, 4) * np.exp(1j * np.arange(12).reshape(3, 4))
    medium = Drifting(MatrixMedium(matrix), 0.5, "gaussian", seed=1)
    power = np.mean([np.abs(medium.block(ALL, ALL, 7 * t)) ** 2 for t in range(1, 401)], axis=0)
    assert np.abs(power / np.abs(matrix) ** 2 - 1).max() < 4 / np.sqrt(400)


@every_law
@pytest.mark.parametrize("storage", ["stored", "streamed"])
def test_frame_0_is_the_medium_itself(law, storage):
    """Bit for bit, and the frame after it is not. Catches: roots that are all fresh, no reflection."""
    slab = GaussianMedium(30, 41, seed=5, storage=storage)
    for tau in (0.1, 3, 100, 5000.5):
        medium, x = Drifting(slab, tau, law), np.random.default_rng(0).normal(size=(5, 30))
        np.testing.assert_array_equal(medium.block(ALL, ALL), slab.block(ALL, ALL))
        np.testing.assert_array_equal(medium.propagate(x), slab.propagate(x))
        assert np.all(medium.propagate(x, np.ones(5, int)) != slab.propagate(x))


@every_law
def test_with_and_without_matrices_it_is_the_same(law):
    """Two matrices at knots, or all the parts: equal to rounding, whichever way. Catches: knots without the norm."""
    tau = {"exponential": 3000, "gaussian": 200}[law]
    stored = Drifting(GaussianMedium(30, 41, seed=5), tau, law)
    streamed = Drifting(GaussianMedium(30, 41, seed=5, storage="streamed"), tau, law)
    ticks = np.array([0, 1, 7, 160, 161, 9000, 9001, 4])
    for way, width in (("propagate", 30), ("adjoint", 41)):
        x = np.random.default_rng(0).normal(size=(8, width))
        a, b = (getattr(medium, way)(x, ticks) for medium in (stored, streamed))
        assert np.abs(a - b).max() < 2e-6 * np.abs(b).max()
    assert all(isinstance(kept, drift.Mixture) for name, kept in stored._kept.items() if name != drift.FINE)
    assert not any(isinstance(kept, drift.Mixture) for kept in streamed._kept.values())


@pytest.mark.parametrize("limit", [0, 2**28])
def test_automatic_storage_does_not_follow_the_memory(monkeypatch, limit):
    """The same bits with free memory for the matrix and without, also through an effect inside, and in a share.

    Catches: matrices summed at knots on a machine with memory, products of all parts on another; storage chosen by the
    size of a share.
    """
    monkeypatch.setattr(gaussian, "MAX_BYTES", limit)
    x, ticks, size = np.random.default_rng(0).normal(size=(6, 20)), 5_000 + np.arange(6), 8 * 20 * 30
    for wrap in (lambda slab: slab, lambda slab: Lossy(slab, 0.5)):
        results = []
        for free in (4 * size, 4 * size - 1):
            monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
            slab = GaussianMedium(20, 30, seed=5, storage="auto")
            medium = Drifting(wrap(slab), 1500)
            results.append(medium.propagate(x, ticks))
            np.testing.assert_array_equal(medium.rows(7, 12).propagate(x, ticks), results[-1][:, 7:12])
            assert slab.streamed == (free < 4 * size)
            assert medium.to_dict()["medium"].get("storage", "auto") == "auto"
        np.testing.assert_array_equal(*results)


@every_law
@pytest.mark.parametrize("storage", ["stored", "streamed"])
def test_earlier_calls_do_not_matter(law, storage):
    """A frame has the same bits as in a new medium; few media are kept, and none is pickled.

    Catches: a cache under the wrong name, one without bound.
    """
    make = lambda: Drifting(GaussianMedium(20, 30, seed=5, storage=storage), 1500, law)  # noqa: E731
    used, x = make(), np.random.default_rng(0).normal(size=(200, 20))
    ticks = np.random.default_rng(1).integers(0, 30_000, 200)
    whole = used.propagate(x, ticks)
    assert 0 < len(used._kept) <= (drift.MAX_KNOTS if storage == "stored" else drift.MAX_PARTS)
    for i in range(0, 200, 40):
        np.testing.assert_array_equal(make().propagate(x[[i]], ticks[[i]]), whole[[i]])
    copy = pickle.loads(pickle.dumps(used))
    assert not copy._kept
    np.testing.assert_array_equal(copy.propagate(x[:9], ticks[:9]), whole[:9])


def test_seeds_give_different_drifts():
    """Another seed drifts from the same matrix to another one, and a fresh medium shares nothing (5 s.e.).

    Catches: a seed that is not used, `fresh` that keeps the medium or the drift.
    """
    first, other = (Drifting(SLAB, 10, seed=seed) for seed in (0, 2**40))
    np.testing.assert_array_equal(first.block(ALL, ALL), other.block(ALL, ALL))
    for a, b, tick in [(first, other, 100), (first, first.fresh(1), 0), (first, first.fresh(1), 100)]:
        overlap = np.vdot(a.block(ALL, ALL, tick), b.block(ALL, ALL, tick)) / 200
        assert abs(overlap) < 5 / 200


def test_a_drift_of_a_drift_multiplies():
    """Both laws at once, independently: correlations multiply, within 5 s.e. Catches: ticks that are not passed on."""
    medium = Drifting(Drifting(SLAB, 40), 60, "gaussian")
    a, b = medium.block(ALL, ALL, 500).astype(np.complex128), medium.block(ALL, ALL, 520)
    expected = np.exp(-0.5) * np.exp(-1 / 9)
    found = np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert abs(found - expected) < 0.004 + 5 * np.sqrt(1 - expected**2) / 200
    through = medium.propagate(np.eye(200, dtype=bool), np.full(200, 520))
    np.testing.assert_array_equal(through.T, b)


def test_bad_ticks_are_named():
    """Catches: frame numbers that are cut to integers, or of another number than the frames."""
    for ticks in ([0], [0, 1, 2], [[0, 1]], [0.0, 1.0], [-1, 0], [0, MAX_TICK], "ab"):
        with pytest.raises(ValueError, match=r"^ticks must be .*, got"):
            Drifting(SLAB, 10).propagate(np.ones((2, 200)), ticks)


def test_the_error_for_little_memory_says_what_was_given(monkeypatch):
    """Catches: "got 'stored'" for a medium with storage "auto", and advice to take "auto"."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    medium = Drifting(GaussianMedium(512, 512, storage="auto"), correlation_frames=1e4)
    with pytest.raises(ValueError, match=r"^storage must be 'streamed' for a matrix of .* free, got 'auto'$"):
        medium.propagate(np.ones((1, 512), np.complex64))
    with pytest.raises(ValueError, match=r"^storage must be 'streamed' or 'auto' for .* free, got 'stored'$"):
        GaussianMedium(512, 512).propagate(np.ones((1, 512), np.complex64))


@every_law
def test_a_medium_that_warms_up(law):
    """The correlation of two frames is the law's over the age between them, within 1 % of ``1 - rho``; exact.

    The age is the integral of ``1 + a exp(-t / w)``. Catches: a rate that grows, frames for ages, steps of a frame.
    """
    tau, a, w = 1e4, 9.0, 2e3
    medium = Drifting(SLAB, tau, law, warm_up=a, warm_up_frames=w)
    for tick in (0, 1, 500, 2000, 10_000, 10**6):
        for lag in (1, 10, 1000, 20_000):
            both = np.array([tick, tick + lag])
            age = lag + a * w * (np.exp(-tick / w) - np.exp(-(tick + lag) / w))
            found = inner_products(medium, both, differences=True)
            tolerance = 0.02 if law == "gaussian" else 0.01  # its change grows as the square of the age
            assert abs(found / decorrelation(law, age, tau) - 1) < tolerance
    with pytest.raises(ValueError, match=r"^ticks must be below 2\*\*48 / 128"):
        medium.propagate(np.ones((1, 200)), np.array([2**47]))
