"""Probes: exact inverses, nearly the least possible noise, and known conditioning."""

import numpy as np
import pytest

from calibration.recovery.designs.probes import CyclicS, RegularHadamard, choose_design

DESIGNS = [*map(RegularHadamard, (1, 2, 4, 64, 128)), *map(CyclicS, (3, 103))]


def matrix(probes):
    return probes.patterns(np.arange(probes.order), probes.order).astype(np.float64)


@pytest.mark.parametrize("probes", DESIGNS, ids=str)
def test_solve_inverts_the_patterns(probes):
    """X^-1 (X t) = t, real and complex. Catches: a sign of the odd factor, a transposed circulant, s left out."""
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(probes.order, 5)) + 1j * rng.normal(size=(probes.order, 5))
    fields = matrix(probes) @ columns
    np.testing.assert_allclose(probes.solve(fields), columns, atol=1e-11)
    np.testing.assert_allclose(probes.solve(fields.real), columns.real, atol=1e-11)
    np.testing.assert_allclose(matrix(probes).T @ probes.solve_transposed(columns), columns, atol=1e-11)
    single = probes.solve(fields.astype(np.complex64))
    assert single.dtype == np.complex64
    assert np.abs(single - columns).max() < 1e-5 * np.abs(columns).max() * np.sqrt(probes.order)


@pytest.mark.parametrize("probes", [CyclicS(1019), RegularHadamard(1024)], ids=str)
def test_rounding_errors_of_inputs_do_not_add_up(probes):
    """Half-ON patterns have, in single precision, a rounding error under 3e-6 of their field.

    Catches: a sum of all fields in single precision, whose error all inputs share (9e-6 and 3e-4, with 10 000 inputs
    2 %, above what a report of an ideal camera allows).
    """
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(probes.order, 4)) + 1j * rng.normal(size=(probes.order, 4))
    fields = (matrix(probes) @ columns).astype(np.complex64)
    wrong, shown = (
        probes.solve(fields) - probes.solve(fields.astype(np.complex128)),
        rng.random((100, probes.order)) < 0.5,
    )
    assert np.linalg.norm(shown @ wrong) < 3e-6 * np.linalg.norm(shown @ columns)


@pytest.mark.parametrize("probes", DESIGNS, ids=str)
def test_gain_and_condition_are_those_of_the_matrix(probes):
    """Catches: leaving the mean's part out of the variance, or out of the singular values."""
    x = matrix(probes)
    gain = (np.linalg.inv(x) ** 2).sum(axis=1)
    np.testing.assert_allclose(probes.gain(probes.order), gain, rtol=1e-9)
    assert len(probes.gain(2)) == min(2, probes.order)
    np.testing.assert_allclose(probes.condition_number, np.linalg.cond(x), rtol=1e-6)


def test_noise_is_that_of_an_s_matrix():
    """Variance within 3 % of 4 n / (n + 1)^2, which no 0/1 matrix of that many rows beats.

    Catches: Sylvester's matrix, whose all-ON column adds 25 %.
    """
    for n in (64, 103, 128, 256, 500, 784, 1000):
        probes = choose_design(n)
        best = 4.0 * probes.order / (probes.order + 1.0) ** 2
        assert probes.gain(n).mean() < 1.03 * best


def test_no_probe_is_bright():
    """Each has about half of the inputs ON, so that all are well exposed together. Catches: Sylvester's matrix."""
    for n in (256, 512, 103, 84):
        share = choose_design(n).patterns(np.arange(choose_design(n).order), n).mean(axis=1)
        assert np.abs(share - 0.5).max() < 0.05


def test_design_takes_few_probes():
    """At least n; at most 23 % more from n = 60 on, 10 % from 128, 5 % from 500.

    Catches: padding to a power of two (100 %).
    """
    for n in range(1, 1500):
        order = choose_design(n).order
        assert order >= n
        if n >= 60:
            assert order <= (1.05 if n >= 500 else 1.1 if n >= 128 else 1.23) * n


def test_patterns_do_not_depend_on_the_split():
    """Catches: rows counted from the start of a part."""
    for probes in (RegularHadamard(128), CyclicS(103)):
        whole = probes.patterns(np.arange(probes.order), 90)
        parts = [probes.patterns(np.arange(i, min(i + 7, probes.order)), 90) for i in range(0, probes.order, 7)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_bad_orders():
    """Catches: an order without such a matrix."""
    for make, order in ((RegularHadamard, 12), (RegularHadamard, 0), (CyclicS, 13), (CyclicS, 15), (CyclicS, 8)):
        with pytest.raises(ValueError, match="order must be a p"):
            make(order)
