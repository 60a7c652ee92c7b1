"""The anchor formulas, exactly, with a background field added to every frame."""

import numpy as np
import pytest

from calibration.fields.holography import (
    anchor_interference,
    disjoint_anchor,
    step_phases,
    stepped_interference,
    superset_anchor,
)


@pytest.fixture
def bench():
    """Frames without noise: fields of random patterns behind a random medium, with a fixed background."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(50, 24)) + 1j * rng.normal(size=(50, 24))
    background = rng.normal(size=50) + 1j * rng.normal(size=50)

    def frame(x):
        return (np.abs(x @ matrix.T + background) ** 2 + 7.0).astype(np.float64)

    return matrix, background, frame


def test_disjoint_anchor_is_exact(bench):
    """Caught mutation: dropping I(0) leaves |c|^2."""
    matrix, _, frame = bench
    rng = np.random.default_rng(1)
    x = np.zeros((30, 24))
    x[:, :16] = rng.random((30, 16)) < 0.5
    b = np.zeros(24)
    b[16:] = 1.0
    found = disjoint_anchor(frame(x + b), frame(x), frame(b) - frame(np.zeros(24)))
    truth = np.real(np.conj(matrix @ b) * (x @ matrix.T))
    np.testing.assert_allclose(found, truth, atol=1e-5 * np.abs(truth).max())


def test_superset_anchor_is_exact(bench):
    """The anchor is T a + 2 c. Caught mutation: dropping I(0), or taking the background once."""
    matrix, background, frame = bench
    a = np.ones(24)
    x = np.random.default_rng(2).random((30, 24)) < 0.5
    found = superset_anchor(frame(x), frame(a - x), frame(a) - frame(np.zeros(24)))
    truth = np.real(np.conj(matrix @ a + 2 * background) * (x @ matrix.T))
    np.testing.assert_allclose(found, truth, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_one_pass_over_frames_has_the_bits_of_the_formulas(kind):
    """Signs of zeros included. Catches: the formula of the other anchor; frames whose difference wraps around."""
    rng = np.random.default_rng(3)
    frames, anchor = rng.integers(0, 200, (20, 2, 33)).astype(kind), rng.integers(0, 9, 33).astype(np.float32)
    alone, other = frames[:, 0, :], frames[:, 1, :]
    for contained, formula in (
        (True, superset_anchor(alone, other, anchor)),
        (False, disjoint_anchor(other, alone, anchor)),
    ):
        found = anchor_interference(frames, anchor, contained)
        assert (formula == 0).any()
        np.testing.assert_array_equal(found.view(np.uint32), formula.view(np.uint32))


@pytest.mark.parametrize("steps", [3, 4, 5, 8])
def test_phase_steps_give_the_interference_exactly(bench, steps):
    """``conj(R) y``, whatever y, R and the dark level are. Catches: ``exp(-i phi)``, which gives its conjugate."""
    matrix, background, _ = bench
    x = np.random.default_rng(3).random((30, 24)) < 0.5
    y = x @ matrix.T
    beam = 3.0 * np.exp(1j * np.arange(50)) + background
    phases = step_phases(steps)
    frames = np.abs(y[:, None] + beam * np.exp(1j * phases)[:, None]) ** 2 + 7.0
    np.testing.assert_allclose(stepped_interference(frames, phases), np.conj(beam) * y, atol=1e-4 * np.abs(y).max())
