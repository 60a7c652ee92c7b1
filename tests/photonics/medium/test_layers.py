"""Scattering layers: the facts of PHYSICS.md, a dense reference, other array libraries, and speckle statistics."""

import os
import subprocess
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from photonics import GaussianMedium, ScatteringLayers
from photonics.analysis.speckle import contrast, exponential_distance, marchenko_pastur_edges, optical_kernel
from photonics.backend import to_host
from photonics.medium.screens import grid_shape
from photonics.random import Stream, words
from tests.laws import check_circular_normal, check_independent

ALL = slice(None)
ROOT = Path(__file__).parents[3]
DEVICE = array_api_strict.Device("device1")


def matrix(medium):
    """T scaled to ``E|t|^2 = 1``, double precision."""
    return medium.block(ALL, ALL).astype(np.complex128) * np.sqrt(medium.shape[1])


def dense(medium):
    """T from its definition: dense Fourier matrices in double precision and the words of the generator."""
    rows, columns = medium.grid
    fourier = np.kron(*(np.fft.fft(np.eye(n), norm="ortho") for n in (rows, columns)))
    modes = np.arange(medium.n_modes)
    result = np.eye(medium.n_modes, medium.n_in) * np.sqrt(medium.n_modes / medium.n_in)
    for layer in range(medium.layers + 1):
        four = np.array(words(medium.seed, Stream.SCREEN, modes // 4, np.array(layer)))
        screen = np.exp(2j * np.pi * four[modes % 4, modes] / 2**32)
        result = screen[:, None] * result
        result = fourier @ result if layer < medium.layers else result
    return result[: medium.n_out]


@pytest.mark.parametrize(
    ("n_in", "n_out", "oversample"),
    [(48, 48, 1), (50, 7, 1), (7, 50, 1), (30, 41, 4), (41, 30, 2.5), (1, 1, 1), (37, 750, 1)],
)
def test_matrix_is_the_product_of_its_layers(n_in, n_out, oversample):
    """Entry for entry, T and its adjoint, within 2e-6 of the largest.

    Catches: rows skipped that hold light or are read, words out of order, a seed cut to 32 bits, a lost screen, another
    scale, an inverse transform for the forward one.
    """
    for layers in (1, 2, 3, 4) if n_out < 100 else (3,):  # the reference takes n_modes^3
        medium = ScatteringLayers(n_in, n_out, 2**40 + 5, layers, oversample)
        expected = dense(medium)
        assert np.abs(medium.block(ALL, ALL) - expected).max() < 2e-6 * np.abs(expected).max()
        adjoint = medium.adjoint(np.eye(medium.n_out))
        assert np.abs(adjoint - expected.conj()).max() < 2e-6 * np.abs(expected).max()


def test_grid():
    """5-smooth, at least n, under 2 % more once n is large, near-square. Catches: padding to a power of two."""
    for n in [*range(1, 2000), 1_000_003, 2_000_003, 10**7 + 19, 2**34]:
        rows, columns = grid_shape(n)
        rest = rows * columns
        assert n <= rest <= (1.02 * n if n > 10**6 else 1.25 * n + 1)
        assert rows <= columns <= 5 * rows
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest == 1


@pytest.mark.parametrize("n", [1, 48, 1000])
def test_unitary_without_oversampling(n):
    """``T^H T x = x``: energy is conserved, within 2e-6. Catches: a transform with a factor, a screen that absorbs."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4, n)) + 1j * rng.normal(size=(4, n))).astype(np.complex64)
    for layers in (1, 2, 3, 5):
        medium = ScatteringLayers(n, n, 3, layers)
        assert medium.n_modes == n
        assert np.abs(medium.adjoint(medium.propagate(x)) - x).max() < 2e-6 * np.abs(x).max()
        assert np.abs(medium.propagate(medium.adjoint(x)) - x).max() < 2e-6 * np.abs(x).max()


@pytest.mark.parametrize("layers", [1, 3])
def test_mean_power_of_the_entries(layers):
    """``E|t|^2 = 1/n_in``; over all outputs of the grid it is exact, column by column. Catches: scale by n_modes."""
    for n_in, n_out, oversample in [(100, 1000, 1), (1000, 100, 1), (60, 60, 8)]:
        power = np.abs(matrix(ScatteringLayers(n_in, n_out, 4, layers, oversample))) ** 2
        assert abs(power.mean() - 1) < 4 / np.sqrt(power.size)
        if n_out == 1000:
            np.testing.assert_allclose(power.mean(axis=0), 1, rtol=2e-6)


def test_one_layer_is_no_speckle():
    """One mirror ON gives contrast 0; neighbours correlate as the Fourier transform of the lit rows.

    All mirrors ON at random phases, 4 times oversampled: the intensity of outputs one grid row apart correlates by
    ``|sinc|^2``, mean of 400 frames within 4 SE; three layers leave nothing. Catches: a screen after the transform
    that mixes, inputs spread over the grid.
    """
    one = ScatteringLayers(256, 1024, 1, layers=1, oversample=1)
    intensity = np.abs(one.propagate(np.eye(1, 256))) ** 2
    assert contrast(intensity) < 1e-6
    assert contrast(np.abs(ScatteringLayers(256, 1024, 1).propagate(np.eye(1, 256))) ** 2) > 0.8
    lit = np.arange(256) // 32  # grid of 32 x 32: eight rows
    expected = abs(np.exp(-2j * np.pi * lit / 32).mean()) ** 2
    assert expected > 0.7
    light = np.exp(2j * np.pi * np.random.default_rng(0).random((400, 256)))
    for layers, value in [(1, expected), (3, 0.0)]:
        power = np.abs(ScatteringLayers(256, 1024, 1, layers).propagate(light)) ** 2
        power = power.astype(np.float64).reshape(400, 32, 32)
        frames = ((power[:, 1:] - 1) * (power[:, :-1] - 1)).mean(axis=(1, 2))
        assert abs(frames.mean() - value) < 4 * frames.std() / 20


def shifted(power, grid, shift):
    """Correlation of the intensity with that of the entry whose output moved by `shift` and whose input moved back."""
    tensor = power.reshape(*grid, *grid)
    moved = np.roll(tensor, (*shift, *(-s for s in shift)), axis=(0, 1, 2, 3))
    return np.corrcoef(tensor.ravel(), moved.ravel())[0, 1]


def test_two_layers_have_a_memory_effect():
    """Shifted entries have the same intensity with two layers, up to rounding, and nothing in common with three.

    The correlation over n^2 entries has a standard error of 1/n. Catches: a closing screen applied before the last
    transform, a screen drawn twice.
    """
    two, three = (ScatteringLayers(400, 400, 5, layers) for layers in (2, 3))
    power, other = np.abs(matrix(two)) ** 2, np.abs(matrix(three)) ** 2
    assert exponential_distance(power[:, 0]) < 1.63  # single columns do not show it
    for shift in [(0, 1), (1, 0), (3, 5), (-2, 7)]:
        assert shifted(power, two.grid, shift) > 1 - 1e-6
        assert abs(shifted(other, three.grid, shift)) < 4 / 400


def matched_tilt(t, grid, shift):
    """``mean_i |sum_j t_ij conj(t_kj) exp(2 pi i s.j)|^2 / n_in``, with k at a distance s from i in the grid."""
    (rows, columns), place = grid, np.arange(t.shape[1])
    moved = np.roll(t.reshape(rows, columns, -1), (-shift[0], -shift[1]), axis=(0, 1)).reshape(t.shape)
    turns = shift[0] * (place // columns) / rows + shift[1] * (place % columns) / columns
    return np.mean(np.abs((t * moved.conj()) @ np.exp(2j * np.pi * turns)) ** 2) / t.shape[1]


@pytest.mark.parametrize(("layers", "expected"), [(3, 2.0), (4, 1.0)])
def test_rows_match_under_a_tilt(layers, expected):
    """Twice the mean square of independent entries with three layers, the same with four; 4 SE of 80 shifts.

    The size does not matter: 256 or 576 modes. A Gaussian matrix has 1, and so has another tilt. Catches: a claim that
    three layers are as good as independent entries; a layer that is left out.
    """
    shifts = [(a, b) for a in range(5) for b in range(-4, 5) if (a, b) > (0, 0)][:40]
    for n in (256, 576):
        media = [ScatteringLayers(n, n, seed, layers) for seed in (1, 2)]
        found = np.array([matched_tilt(matrix(medium), medium.grid, s) for medium in media for s in shifts])
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(found.size)
    gaussian = matrix(GaussianMedium(576, 576, seed=1))
    found = np.array([matched_tilt(gaussian, (24, 24), s) for s in shifts])
    assert abs(found.mean() - 1) < 4 * found.std() / np.sqrt(found.size)


@pytest.fixture(scope="module")
def entries():
    """T scaled to ``E|t|^2 = 1``, in a grid of 64 x 32 of which the inputs are a quarter: (2000, 500)."""
    return matrix(ScatteringLayers(500, 2000, seed=6))


def test_entries_are_circular_normal(entries):
    """Catches: two screens of equal phases."""
    check_circular_normal(entries)


def test_entries_are_independent(entries):
    """Neighbours in a row of the grid or across rows (50 modes apart) share nothing, in field or in power, to 4 SE.

    Catches: no closing screen, without which fields a grid row apart correlate by 1/sqrt(n_modes), 20 SE here.
    """
    check_independent(entries, [(1, 0), (2, 0), (0, 1), (0, 2), (1, 1), (50, 0), (0, 50), (50, 50), (100, 0)])


def test_few_inputs_leave_outputs_independent():
    """20 inputs in one row of a wide grid: neighbouring outputs share nothing, 4 SE. Catches: no closing screen."""
    t = matrix(ScatteringLayers(20, 40_000, seed=1))
    for step in (1, 2, 200):
        assert abs((t[step:] * t[:-step].conj()).mean()) < 4 / np.sqrt(t.size)


@pytest.mark.parametrize(("n_on", "oversample"), [(1, 1), (7, 1), (256, 1), (1, 4), (256, 4)])
def test_speckle_is_fully_developed(n_on, oversample):
    """Exponential intensities (KS under 1.63), contrast 1 and kurtosis 2 to 4 SE, any number ON. Catches: one layer."""
    n_out = 40_000
    medium = ScatteringLayers(256, n_out, 9, 3, oversample)
    intensity = np.abs(medium.propagate((np.arange(256) < n_on)[None])[0].astype(np.complex128)) ** 2
    assert exponential_distance(intensity) < 1.63
    assert abs(contrast(intensity) - 1) < 4 / np.sqrt(n_out)
    assert abs((intensity**2).mean() / intensity.mean() ** 2 - 2) < 4 * np.sqrt(4 / n_out)
    assert abs(intensity.mean() / (n_on / 256) - 1) < 4 / np.sqrt(n_out)


@pytest.mark.parametrize("oversample", [1, 4])
def test_optical_kernel(oversample):
    """``mean I(x) I(y) = v^2 (|x|^2 |y|^2 + |x.y|^2)`` for all pairs, within 4.5 SE; so is corr = cos^2.

    Catches: inputs that share a phase or a mode.
    """
    n_in, n_out = 30, 60_000
    x = np.repeat(np.tri(5, dtype=bool), 6, axis=1)  # 6 to 30 ON, all overlaps
    medium = ScatteringLayers(n_in, n_out, 10, 3, oversample)
    power = np.abs(medium.propagate(x)).astype(np.float64) ** 2
    products = power[:, None] * power[None]
    error = products.std(axis=-1) / np.sqrt(n_out)
    assert np.abs((products.mean(axis=-1) - optical_kernel(x, x, 1 / n_in)) / error).max() < 4.5
    cosine2 = optical_kernel(x, x, 1.0) / np.outer(x.sum(axis=1), x.sum(axis=1)) - 1
    assert np.abs(np.corrcoef(power) - cosine2).max() < 4 * 1.5 / np.sqrt(n_out)


SPECTRA = [(256, 1024, 1), (256, 1024, 2), (256, 1024, 4), (256, 1024, 8), (1024, 256, 2), (400, 400, 2)]


@pytest.mark.parametrize(("n_out", "n_in", "oversample"), SPECTRA)
def test_fourth_moment_of_the_spectrum(n_out, n_in, oversample):
    """``sum s^4 / M = 1 + M/N - M/n_modes``, mean of two media within 1 %; ``sum s^2 / M = 1``.

    Exact where all modes are lit: every s is 1. Catches: rows that are not transformed, another scale.
    """
    media = [ScatteringLayers(n_in, n_out, seed, 3, oversample) for seed in range(2)]
    with threadpool_limits(1):
        s = np.array([np.linalg.svd(m.block(ALL, ALL).astype(np.complex128), compute_uv=False) for m in media])
    expected = 1 + n_out / n_in - n_out / media[0].n_modes
    assert (s**2).sum(axis=1).mean() / n_out == pytest.approx(1, rel=0.01)
    assert (s**4).sum(axis=1).mean() / n_out == pytest.approx(expected, rel=0.01)
    if oversample == 1:
        assert np.abs(s - 1).max() < 1e-5


@pytest.mark.parametrize("oversample", [4, 16])
def test_edges_of_the_spectrum_approach_marchenko_pastur(oversample):
    """Edges are those of a truncated unitary matrix, within 2 % of the upper; they approach Marchenko and Pastur's.

    With a = M/n and b = N/n: ``sqrt(n/N) |sqrt(a (1-b)) +- sqrt(b (1-a))|`` (Collins 2005); n to infinity gives
    ``|1 +- sqrt(M/N)|``. Catches: a grid that does not grow.
    """
    n_out, n_in = 256, 1024
    medium = ScatteringLayers(n_in, n_out, 1, 3, oversample)
    with threadpool_limits(1):
        s = np.linalg.svd(medium.block(ALL, ALL).astype(np.complex128), compute_uv=False)
    a, b = n_out / medium.n_modes, n_in / medium.n_modes
    edges = np.abs(np.sqrt(a * (1 - b)) + np.array([-1, 1]) * np.sqrt(b * (1 - a))) / np.sqrt(b)
    limits = marchenko_pastur_edges(n_out, n_in)
    assert np.abs(np.array([s.min(), s.max()]) - edges).max() < 0.02 * edges.max()
    assert np.abs(edges / limits - 1).max() < 0.4 / oversample


@pytest.mark.parametrize("medium", [ScatteringLayers(48, 37, 2**40), ScatteringLayers(30, 41, 1, 2, 4)], ids=repr)
def test_other_libraries_agree(medium):
    """The same answer from array_api_strict, on the array's device, to 1e-6. Catches: numpy on a foreign array."""
    rng = np.random.default_rng(0)
    for way, n in [("propagate", medium.n_in), ("adjoint", medium.n_out)]:
        x = (rng.normal(size=(5, n)) + 1j * rng.normal(size=(5, n))).astype(np.complex64)
        result = getattr(medium, way)(array_api_strict.asarray(x, device=DEVICE))
        assert result.device == DEVICE
        assert result.dtype == array_api_strict.complex64
        expected = getattr(medium, way)(x)
        assert np.abs(to_host(result) - expected).max() < 1e-6 * np.abs(expected).max()
        assert getattr(medium, way)(array_api_strict.asarray(x[:0], device=DEVICE)).shape[0] == 0


@pytest.mark.parametrize(("n_in", "n_out"), [(20_000, 30_011), (70_001, 100)])
def test_large_grids_are_bit_identical(n_in, n_out, set_threads):
    """A frame at a time: any batch split, place and number of threads. Catches: a shared workspace."""
    medium = ScatteringLayers(n_in, n_out, 3)
    rng = np.random.default_rng(0)
    for way, n in [("propagate", n_in), ("adjoint", n_out)]:
        x = rng.normal(size=(5, n)) + 1j * rng.normal(size=(5, n))
        whole = getattr(medium, way)(x)
        set_threads(2)
        np.testing.assert_array_equal(getattr(medium, way)(x[::-1])[::-1], whole)
        np.testing.assert_array_equal(getattr(medium, way)(x[3:4]), whole[3:4])
        set_threads(1)
        np.testing.assert_array_equal(getattr(medium, way)(x), whole)


def test_no_matrix_is_stored():
    """A medium of 2e12 entries holds its parameters alone. Catches: phases or a plan kept inside."""
    medium = ScatteringLayers(1_000_000, 2_000_000)
    medium.propagate(np.ones((1, 1_000_000), np.float32))
    assert medium.grid == (1250, 1600)
    assert all(np.size(value) <= 2 for value in vars(medium).values())


MEMORY = """
from pathlib import Path
import numpy as np
from photonics import ScatteringLayers

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e3

def both_ways(n_in):
    medium = ScatteringLayers(n_in, 2 * n_in)
    medium.adjoint(medium.propagate(np.ones((1, n_in), np.complex64)))

both_ways(1000)
before = peak()
both_ways(1_000_000)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_of_two_trillion_entries():
    """1e6 x 2e6 through three layers and back: under 5 x 8 bytes for each mode, above imports and compiled code.

    Catches: a stored screen, a copy of the grid for each layer. What the compiler's library takes differs between
    machines, by up to 100 MB.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert run.returncode == 0, run.stderr
    assert 16 < float(run.stdout) < 80


def test_fresh_is_independent_with_equal_magnitudes():
    """Same shape and statistics, uncorrelated entries (4 SE). Catches: a parameter that `fresh` drops."""
    medium = ScatteringLayers(64, 50, 1, 2, 2.5)
    other = medium.fresh(2)
    assert other.to_dict() == medium.to_dict() | {"seed": 2}
    a, b = matrix(medium), matrix(other)
    assert abs(np.vdot(a, b)) < 4 * np.sqrt(a.size)
    assert abs(np.vdot(a, matrix(GaussianMedium(64, 50, 1)))) < 4 * np.sqrt(a.size)
