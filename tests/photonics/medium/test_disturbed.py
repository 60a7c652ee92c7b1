"""A medium that somebody touches: the step, its size, and what stays."""

import numpy as np
import pytest

from photonics import Ballistic, Disturbed, GaussianMedium

SLAB = GaussianMedium(64, 400, seed=21)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_the_step_keeps_its_correlation(correlation):
    """Before the frame bit for bit the medium; from it on the stated correlation and the same power, to 4 s.e.

    The fields of 64 inputs on 400 pixels have 25 600 independent values. Catches: a step one frame late, a^2 for a, an
    amplitude that adds to 1, a fresh medium in every frame.
    """
    medium = Disturbed(SLAB, 1000, correlation, seed=4)
    x = np.random.default_rng(1).normal(size=(64, 64))
    ticks = np.array([999, 1000, 5000, 0])
    before, after, later, first = (medium.propagate(x, np.full(64, t)) for t in ticks)
    for early in (before, first):
        np.testing.assert_array_equal(early, SLAB.propagate(x))
    np.testing.assert_array_equal(after, later)
    kept = np.vdot(before, after).real / np.linalg.norm(before) / np.linalg.norm(after)
    assert abs(kept - correlation) < 4 / np.sqrt(before.size)
    assert abs(np.linalg.norm(after) / np.linalg.norm(before) - 1) < 4 / np.sqrt(before.size)
    mixed = medium.propagate(x[:4], ticks)
    np.testing.assert_array_equal(mixed, np.stack([y[i] for i, y in enumerate((before, after, later, first))]))


def test_steps_nest_and_differ():
    """Two steps multiply; other seeds are other steps; ballistic light goes outside. Catches: one T_1 for all."""
    one, two = (Disturbed(SLAB, 10, 0.5, seed=seed) for seed in (0, 1))
    twice = Disturbed(one, 20, 0.5)
    x, late = np.eye(64, dtype=bool), np.full(64, 30)
    a, b, c = (medium.propagate(x, late).ravel() for medium in (one, two, twice))
    plain = SLAB.propagate(x).ravel()
    for y, z, expected in ((a, b, 0.25), (plain, c, 0.25), (a, c, 0.5)):
        kept = np.vdot(y, z).real / np.linalg.norm(y) / np.linalg.norm(z)
        assert abs(kept - expected) < 4 / np.sqrt(y.size)
    with pytest.raises(ValueError, match=r"put Disturbed inside Ballistic"):
        Disturbed(Ballistic(SLAB, 0.3), 10, 0.5)
    with pytest.raises(ValueError, match=r"^Disturbed: correlation must be .*, got 1.2"):
        Disturbed(SLAB, 10, 1.2)
