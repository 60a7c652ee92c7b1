"""Gauge fixing: what a method cannot know counts for nothing, everything else counts in full."""

import inspect

import numpy as np
import pytest

from calibration import metrics
from calibration.metrics import (
    fix_conjugation,
    fix_gauge,
    fix_phase,
    fix_scale,
    matrix_error,
    matrix_row_errors,
    output_error,
)
from calibration.recovery import Gauge

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(40, 30)) + 1j * RNG.normal(size=(40, 30))
TURNS = np.exp(2j * np.pi * RNG.random(40))[:, None]
FLIPPED = (RNG.random(40) < 0.5)[:, None]


def conjugated(matrix):
    return np.where(FLIPPED, np.conj(matrix), matrix)


def test_each_gauge_is_fixed_exactly():
    """Catches: a phase taken from the sum of entries in place of the overlap; conjugation chosen before the phase."""
    np.testing.assert_allclose(fix_phase(TRUTH * TURNS, TRUTH), TRUTH, atol=1e-12)
    np.testing.assert_allclose(np.abs(fix_conjugation(conjugated(TRUTH), TRUTH) - TRUTH), 0.0, atol=1e-12)
    np.testing.assert_allclose(fix_scale(3.0 * TRUTH, TRUTH), TRUTH, atol=1e-12)
    everything = Gauge("", phase_fixed=False, conjugation_fixed=False, scale_fixed=False)
    np.testing.assert_allclose(fix_gauge(0.2 * conjugated(TRUTH) * TURNS, TRUTH, everything), TRUTH, atol=1e-12)


@pytest.mark.parametrize(
    ("spoiled", "gauge"),
    [
        (1.1 * TRUTH, Gauge("")),
        (conjugated(TRUTH), Gauge("")),
        (TRUTH * TURNS, Gauge("", phase_fixed=True)),
    ],
    ids=["scale", "conjugation", "phases of the rows"],
)
def test_what_the_gauge_does_not_name_counts(spoiled, gauge):
    """A scale of 1.1 is an error of 0.1. Catches: fixing everything whatever the gauge says."""
    errors = matrix_row_errors(spoiled, TRUTH, gauge)
    assert errors.max() > 0.09
    if gauge == Gauge("") and np.allclose(spoiled, 1.1 * TRUTH):
        np.testing.assert_allclose(errors, 0.1, atol=1e-12)


def test_a_common_phase_is_no_error_in_any_gauge():
    assert matrix_error(TRUTH * np.exp(0.7j), TRUTH, Gauge("", phase_fixed=True)) < 1e-12


def test_fixing_finds_the_nearest():
    """The fixed phase is a minimum: turning a row by 0.1 either way is worse. Catches: the conjugate overlap."""
    noisy = TRUTH * TURNS + 0.3 * (RNG.normal(size=TRUTH.shape) + 1j * RNG.normal(size=TRUTH.shape))
    fixed = fix_phase(noisy, TRUTH)
    best = np.linalg.norm(fixed - TRUTH, axis=1)
    for turn in (0.1, -0.1):
        assert (np.linalg.norm(fixed * np.exp(1j * turn) - TRUTH, axis=1) > best).all()


def test_errors_of_known_size():
    """Relative noise of 0.1 is an error of 0.1; a single dead row moves the worst, not the median."""
    noise = RNG.normal(size=TRUTH.shape) + 1j * RNG.normal(size=TRUTH.shape)
    assert abs(matrix_error(TRUTH + 0.1 * noise, TRUTH) - 0.1) < 4 * 0.1 / np.sqrt(60)
    dead = TRUTH.copy()
    dead[3] = 0.0
    assert matrix_error(dead, TRUTH) < 1e-12
    assert matrix_row_errors(dead, TRUTH)[3] == pytest.approx(1.0)


def test_a_row_error_misleads_at_low_rank():
    """All rows nearly alike: each row is met to 10 %, the output for the vectors they do not see is not.

    Catches: an output error that is only the row error again.
    """
    row = RNG.normal(size=(1, 30)) + 0j
    row -= row.mean()
    truth = np.ones((40, 1)) * row
    estimate = truth + 0.1 * np.sqrt(np.mean(np.abs(row) ** 2)) * np.ones((40, 30))
    x = np.ones((5, 30)) + 1e-3 * RNG.normal(size=(5, 30))
    assert matrix_error(estimate, truth) == pytest.approx(0.1, rel=0.01)
    assert output_error(estimate, truth, x) > 10.0


def test_shapes_must_agree():
    for function in (fix_phase, fix_conjugation, fix_scale):
        with pytest.raises(ValueError, match="estimate must have the truth's shape"):
            function(TRUTH[:3], TRUTH)


def test_the_estimate_comes_first_everywhere():
    """Catches: a function of this module that takes the truth first."""
    for name in metrics.__all__:
        taken = list(inspect.signature(getattr(metrics, name)).parameters)
        assert taken[:2] == (["projection", "matrix"] if name == "anchor_truth" else ["estimate", "truth"]), name
