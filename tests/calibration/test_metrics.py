"""Gauge fixing: undetermined quantities do not count as errors, all others count in full."""

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
    row_correlation,
    row_errors,
)
from calibration.recovery.base import Gauge

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
def test_errors_outside_the_gauge_count(spoiled, gauge):
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


def test_row_error_and_output_error_differ_at_low_rank():
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


def test_a_value_that_is_not_finite_is_an_infinite_error():
    """22 of 40 rows NaN: the median is infinite. Catches: a median over the rows that are not NaN, 1e-16 here."""
    spoiled = TRUTH.copy()
    spoiled[:22, 3] = np.nan
    for gauge in (None, Gauge("", phase_fixed=True, scale_fixed=False)):
        errors = matrix_row_errors(spoiled, TRUTH, gauge)
        assert np.isinf(errors[:22]).all()
        np.testing.assert_allclose(errors[22:], 0.0, atol=1e-12)
        assert matrix_error(spoiled, TRUTH, gauge) == np.inf
    assert output_error(spoiled, TRUTH, np.eye(30)) == np.inf
    assert np.isinf(row_errors(spoiled.T, TRUTH.T)[:22]).all()
    assert (row_correlation(spoiled.T, TRUTH.T)[:22] == 0.0).all()


def test_only_rows_without_truth_are_left_out():
    dark = TRUTH * (np.arange(40) != 5)[:, None]
    assert np.flatnonzero(np.isnan(matrix_row_errors(TRUTH, dark))).tolist() == [5]
    assert matrix_error(dark, dark) < 1e-12
    assert np.flatnonzero(np.isnan(row_errors(TRUTH.T, dark.T))).tolist() == [5]


def test_imaginary_parts_count():
    """Half of an error of 0.2 is in the imaginary part. Catches: a cast to real numbers."""
    assert row_errors(TRUTH + 0.2j * TRUTH, TRUTH) == pytest.approx(np.full(30, 0.2))
    np.testing.assert_allclose(row_correlation(TRUTH * np.exp(0.5j), TRUTH), np.cos(0.5))
    x = 1j * np.eye(30)
    assert output_error(1.1 * TRUTH, TRUTH, x, Gauge("", phase_fixed=True)) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matrix_error(TRUTH, 0 * TRUTH), "truth must have a nonzero row, got 40 rows of zeros"),
        (lambda: output_error(TRUTH, 0 * TRUTH, np.eye(30)), "truth must give nonzero outputs"),
        (lambda: output_error(TRUTH, TRUTH, np.ones((2, 5))), r"x must have shape \(batch, 30\), got \(2, 5\)"),
        (lambda: matrix_error(TRUTH, np.nan * TRUTH), "truth must be finite, got 1200 entries"),
        (lambda: row_errors(TRUTH[:1], TRUTH), "estimate must have the truth's shape"),
        (lambda: row_correlation(TRUTH[:1], TRUTH), "estimate must have the truth's shape"),
    ],
    ids=["no truth", "no outputs", "vectors", "truth not finite", "errors of one vector", "correlation of one vector"],
)
def test_invalid_comparisons_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_shapes_must_agree():
    for function in (fix_phase, fix_conjugation, fix_scale):
        with pytest.raises(ValueError, match="estimate must have the truth's shape"):
            function(TRUTH[:3], TRUTH)


def test_the_estimate_comes_first_everywhere():
    """Catches: a function of this module that takes the truth first."""
    for name in metrics.__all__:
        taken = list(inspect.signature(getattr(metrics, name)).parameters)
        assert taken[:2] == (["projection", "matrix"] if name.endswith("_truth") else ["estimate", "truth"]), name
