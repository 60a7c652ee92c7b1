"""Errors of the budget of a focus where few foci are independent."""

import numpy as np
import pytest

from calibration.reports.chapters.common import independent_pixels
from calibration.reports.chapters.focusing import chosen, standard_error
from tests.calibration.matrix_benches import tilted


@pytest.mark.parametrize("grains", [3, 5, 20])
def test_three_standard_errors_hold_for_few_grains(grains):
    """64 foci on a few grains: the mean is out of three errors in 0.27 % of 20 000 draws, within 4 standard errors.

    Catches: 64 foci counted as independent (20 to 60 %), a scatter of few values taken as known (1 to 9 %).
    """
    draw = np.random.default_rng(grains).normal(size=(20_000, grains))
    foci = np.repeat(draw, 60 // grains, axis=1)
    error = np.array([standard_error(values, grains) for values in foci])
    missed = (np.abs(foci.mean(axis=1)) > 3.0 * error).mean()
    assert abs(missed - 0.0027) < 4.0 * np.sqrt(0.0027 / len(draw))


def test_foci_of_an_off_axis_sensor_are_few():
    """64 targets in two columns of 32 x 32 pixels, with 8 frequencies in the pupil, are 6. Catches: 64."""
    opu = tilted("ideal", 16, side=32, band=0.05)
    targets = np.arange(8, 1024, 16)
    assert independent_pixels(opu, chosen(1024, targets)) == pytest.approx(5.8, rel=0.05)
    assert np.isnan(standard_error(np.ones(64), 1.5))
